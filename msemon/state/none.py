"""The store that keeps nothing: `state.store = "none"`."""

from __future__ import annotations

from msemon.state.base import Found, Slices, Write, missing


class NoStore:
    """A restart begins where the settings say. The daemon need not take snapshots for it."""

    name = "none"

    def open(self) -> None:
        """See `Store`."""

    def write(self, write: Write, timeout_s: float) -> None:
        """See `Store`; nothing is kept, and nothing is said to be."""

    def restore(self, partition: int) -> Slices:
        """See `Store`."""
        del partition
        yield
        return Found(missing)

    def close(self) -> None:
        """See `Store`."""
