"""The settings that shape a task's state, in the core's own units."""

from __future__ import annotations

from dataclasses import dataclass

_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """A window length cut into panes [k·pane_us, (k+1)·pane_us) from the epoch.

    The window at `now` is the pane of now and the `panes` before it.
    """

    name: str  # as configured: "5m"
    pane_us: int
    panes: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything a task's transitions depend on besides the log. Durations in microseconds."""

    windows: tuple[Window, ...]
    observed: bool  # a pair's time: the later of its two timestamps; else the prediction's
    segment_keys: tuple[str, ...]  # sorted names that any dimension uses; the tail of every `events.Key`
    dimensions: tuple[tuple[int, ...], ...]  # each: indices into segment_keys, in configured order
    timeout_us: int
    memory_us: int
    series_limit: int = 1_000
    models_limit: int = 1_000
    total_series_limit: int = 100_000
    drift: bool = True  # whether it is tested for
    tolerated_ratio: float = 1.1  # ρ
    false_alarm_us: int = 365 * 86_400_000_000  # T: mean time between false alarms of a model with its segments
    learn_pairs: int = 5_000
    learn_after_us: int = 86_400_000_000
    learn_time_us: int = 86_400_000_000
    adopt: tuple[str, ...] = ()  # models whose newest version may use a worse baseline, learnt itself

    @property
    def longest(self) -> int:
        """Index of the longest window."""
        return max(range(len(self.windows)), key=lambda i: self.windows[i].pane_us * self.windows[i].panes)

    @property
    def hour(self) -> int:
        """Index of the shortest window of an hour or more; of the longest where none is that long."""
        lengths = [window.pane_us * window.panes for window in self.windows]
        return min((i for i, length in enumerate(lengths) if length >= _HOUR_US), key=lengths.__getitem__,
                   default=self.longest)  # fmt: skip

    def dimension_name(self, dimension: int) -> str:
        """The `dimension` label: its keys joined by a comma."""
        return ",".join(self.segment_keys[i] for i in self.dimensions[dimension])
