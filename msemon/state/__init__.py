"""Where a task's state lives between runs: checkpoints, and the stores they are kept in."""

from __future__ import annotations

from pathlib import Path

from msemon.settings import Settings
from msemon.state.base import Rejection, Store, Unavailable, Unusable, WriteFailed
from msemon.state.checkpoint import Checkpointer, CheckpointWrite, Leftovers, new_writer
from msemon.state.none import NoStore
from msemon.state.restoring import Restoration, Restored, restore
from msemon.state.sqlite import SqliteStore

__all__ = [
    "CheckpointWrite",
    "Checkpointer",
    "Leftovers",
    "Rejection",
    "Restoration",
    "Restored",
    "Store",
    "Unavailable",
    "Unusable",
    "WriteFailed",
    "look",
    "new_writer",
    "open_store",
    "restore",
]


def open_store(settings: Settings, partitions: int) -> Store:
    """The store of these settings, ready for use. `partitions` is the number of every input topic.

    Raises Unusable where the settings or the place must be changed, Unavailable where another attempt may do.
    """
    store = _store(settings, partitions)
    store.open()
    return store


def look(settings: Settings, partitions: int) -> str | None:
    """Whether `open_store` would succeed, in words; makes and changes nothing. None where there is nothing to say.

    Raises Unusable where it would not, Unavailable where that can't be known.
    """
    if settings.state.store == "sqlite":
        return f"state.path {settings.state.path}: {SqliteStore(Path(settings.state.path)).look()}"
    if settings.state.store == "kafka" and partitions:
        from msemon.state import kafka_topic  # noqa: PLC0415 (as below)

        return f"state.topic {settings.state.topic}: {kafka_topic.look(settings, partitions)}"
    return None


def _store(settings: Settings, partitions: int) -> Store:
    if settings.state.store == "sqlite":
        return SqliteStore(Path(settings.state.path))
    if settings.state.store == "kafka":
        from msemon.state.kafka import KafkaStore  # noqa: PLC0415 (its client is loaded only where it is used)

        try:
            return KafkaStore(settings, partitions)
        except ValueError as problem:
            raise Unusable(str(problem)) from problem
    return NoStore()
