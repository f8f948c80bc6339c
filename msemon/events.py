"""What passes between the stages: batches of records come in, columns of events go on.

All times are int64 microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Key = tuple[str, ...]
"""(model, version, value of each segment key in the order of `Shape.segment_keys`), all clean text."""

Target = tuple[str | None, str | None]
"""(model, version) that a label answers; None stands for any."""

Headers = Sequence[tuple[str, bytes | None]]


class Reason(StrEnum):
    """Why a record, or one answer of a label, can't be used."""

    MALFORMED = "malformed"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    SHAPE_MISMATCH = "shape_mismatch"
    NEGATIVE_WEIGHT = "negative_weight"
    FUTURE = "future"
    TOO_LATE = "too_late"
    OVERSIZED = "oversized"
    UNKNOWN_SCHEMA = "unknown_schema"


class Kind(StrEnum):
    """What an event turned out to be; every record read is one, or as many as its message holds."""

    PREDICTION = "prediction"
    LABEL = "label"
    PAIR = "pair"
    TOMBSTONE = "tombstone"
    REJECTED = "rejected"


@dataclass(slots=True)
class Batch:
    """Consecutive records of one topic partition, as the source read them.

    Offsets ascend and may have holes (compaction, transactions). `origin(i)` gives key and headers of record i;
    it is called for rejected records only, so a source need not unpack them for the rest.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]  # the records' own timestamps; -1 where a record has none
    values: Sequence[bytes | None]
    next_offset: int  # where reading goes on after this batch
    size: int  # bytes of all values, for bounding buffers
    origin: Callable[[int], tuple[bytes | None, Headers]]


@dataclass(slots=True)
class Predictions:
    """n predictions of one batch, in log order."""

    rows: Ints  # index into the batch
    offsets: Ints
    times: Ints
    record_times: Ints  # at most the wall clock, so that one wild clock can't move a task
    ids: list[bytes]  # UTF-8
    keys: list[Key]
    values: Floats  # NaN where the value is a vector
    vectors: dict[int, Floats]  # position in these columns → outputs
    weights: Floats


@dataclass(slots=True)
class Labels:
    """n labels of one batch, in log order."""

    rows: Ints
    offsets: Ints
    times: Ints
    record_times: Ints
    ids: list[bytes]
    targets: list[Target | None]  # None: answers every model
    values: Floats  # NaN where the value is a vector
    vectors: dict[int, Floats]
    weights: Floats  # NaN where the label leaves the prediction's weight


@dataclass(slots=True)
class Pairs:
    """n pairs without an id: complete as they come, never joined. Time of both halves is the event's."""

    rows: Ints
    times: Ints
    record_times: Ints
    keys: list[Key]
    predictions: Floats  # NaN where vectors
    labels: Floats
    vectors: dict[int, tuple[Floats, Floats]]
    weights: Floats


@dataclass(slots=True)
class Decoded:
    """A batch after decoding. A pair with an id is one prediction and one label (same row) aimed at its model and
    version."""

    predictions: Predictions
    labels: Labels
    pairs: Pairs
    rejections: list[tuple[int, Reason]] = field(default_factory=list)  # (row, why)
    kinds: dict[Kind, int] = field(default_factory=dict)  # events by kind; a record without events is one too
    records: Ints | None = None  # row → index into the batch, where a message held several events; None: they are one

    def record(self, row: int) -> int:
        """The record of the batch that a row came from."""
        return row if self.records is None else int(self.records[row])
