"""Parquet: columns in, columns out. Rows that are not plainly right are judged one by one, as JSON messages are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from msemon.decoding.columns import Columns
from msemon.decoding.fields import Fields, Layout
from msemon.decoding.judge import LARGEST, Event, Judge
from msemon.decoding.text import ANYONE, Keys
from msemon.decoding.times import from_numbers, from_text
from msemon.events import Batch, Decoded, Floats, Ints, Key, Reason, Target
from msemon.logs import one_line
from msemon.replaying.streams import FEW, BadSource, by_event_time

AT_ONCE = 65_536  # rows

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_FAR = np.iinfo(np.int64).max

Bools = npt.NDArray[np.bool_]


class _NotStructError(Exception):
    """A path leads through something else, such as a map: each row is to be looked at."""


class Table:
    """A Parquet file whose columns are an event's fields, by name or by the path that `format.fields` gives.

    A path leads through structs. Segment values are members of the struct or map `segments`, or, in a file without
    such a column, columns of their own. A timestamp without a zone is taken for UTC.
    """

    partition = 0

    def __init__(
        self,
        path: Path,
        *,
        segment_keys: Sequence[str],
        fields: Mapping[str, str],
        max_future_us: int,
        label_length: int,
        vector_length: int,
        name: str | None = None,
    ) -> None:
        """Raises BadSource for a file that is no Parquet, or has no column that makes events of its rows. `name`
        stands for the path.
        """
        self.topic = name or str(path)
        self._path = path
        self._layout = Layout(fields, segment_keys)
        self._max_future_us = max_future_us
        self._keys = Keys(len(self._layout.segment_keys), label_length)
        self._judge = Judge(vector_length)
        self._read = 0
        with self._opened() as file:
            self._wanted, self._flat = self._columns(file.schema_arrow)
            self._rows = file.metadata.num_rows

    def progress(self) -> float:
        return float(self._read / max(self._rows, 1))

    def __iter__(self) -> Iterator[Decoded]:
        """A few events first; until more are asked for, the file is closed."""
        with self._opened() as file:
            few = next(file.iter_batches(FEW, columns=self._wanted), None)
        if few is not None:
            yield self._next(few)
        if self._read < self._rows:
            given = self._read
            with self._opened() as file:
                for rows in file.iter_batches(AT_ONCE, columns=self._wanted):
                    if given < rows.num_rows:
                        yield self._next(rows.slice(given))
                    given = max(0, given - rows.num_rows)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self._path, page_checksum_verification=True) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise BadSource(f"{self.topic}: {one_line(error)}") from None

    def _next(self, rows: pa.RecordBatch) -> Decoded:
        decoded = by_event_time(self._decode(rows))
        self._read += rows.num_rows
        return decoded

    def _columns(self, schema: Any) -> tuple[list[str], bool]:
        """The columns to read, and whether segment values are columns of their own."""
        paths, there = self._layout.paths, set(schema.names)
        found = {name for name, path in paths.items() if path[0] in there}
        if not {"prediction", "label"} & found:
            columns = ", ".join(schema.names)
            raise BadSource(
                f"{self.topic}: no column for prediction or label among {columns}: format.fields says which they are"
            )
        needs = ("model",) if "prediction" in found else ("id",)
        for name in (*needs, "ts"):
            if name not in found:
                raise BadSource(f"{self.topic}: no column {paths[name][0]!r} (the event's {name})")
        flat = "segments" not in found
        keys = self._layout.segment_keys if flat else ()
        wanted = sorted({paths[name][0] for name in found} | ({*keys} & there))
        for name in wanted:
            if schema.names.count(name) > 1:
                raise BadSource(f"{self.topic}: several columns are called {name!r}")
        return wanted, flat

    def _decode(self, rows: pa.RecordBatch) -> Decoded:
        wall_us = time.time_ns() // 1_000
        horizon = wall_us + self._max_future_us
        columns = Columns(self._keys)
        try:
            taken = self._plain(rows, horizon, columns)
        except UnicodeDecodeError:
            columns, taken = Columns(self._keys), np.zeros(rows.num_rows, np.bool_)
        rest = np.flatnonzero(~taken).tolist()
        exact = _to_the_microsecond(rows) if rest else rows
        for row in rest:
            columns.take(row, self._judged(exact.slice(row, 1), horizon))
        count = rows.num_rows
        batch = Batch(
            self.topic, 0, range(self._read, self._read + count), [], [], self._read + count, 0, lambda _: (None, ())
        )
        return columns.decoded(batch, np.full(count, wall_us))

    def _judged(self, row: pa.RecordBatch, horizon: int) -> Event | Reason:
        try:
            (values,) = row.to_pylist()
        except UnicodeDecodeError:
            return Reason.MALFORMED
        except (OverflowError, ValueError):  # a time that no calendar has
            return Reason.WRONG_TYPE
        return self._judge.judge(self._fields(values, row.schema), 0, horizon)

    def _fields(self, row: dict[str, Any], schema: pa.Schema) -> Fields:
        document = {name: _json(value, schema.field(name).type) for name, value in row.items()}
        if self._flat:
            segments = {key: document.get(key) for key in self._layout.segment_keys}
            document |= {self._layout.paths["segments"][0]: segments}
        return self._layout.find(document)

    # The plain rows, a column at a time.

    def _plain(self, rows: pa.RecordBatch, horizon: int, columns: Columns) -> Bools:
        """Takes the plain events; True for each row that was taken."""
        try:
            column = {name: _follow(rows, path) for name, path in self._layout.paths.items() if name != "segments"}
            segments = self._segments(rows)
        except _NotStructError:
            return np.zeros(rows.num_rows, np.bool_)
        times = _times(column["ts"], rows.num_rows)
        ids, identified = _ids(column["id"], rows.num_rows)
        predictions, unpredicted = _floats(column["prediction"], rows.num_rows)
        labels, unlabelled = _floats(column["label"], rows.num_rows)
        weights, unweighted = _floats(column["weight"], rows.num_rows)
        usable = (times > 0) & (times <= horizon) & (unweighted | ((weights >= 0) & (weights <= LARGEST)))
        joinable = usable & identified
        predicted, labelled = np.abs(predictions) <= LARGEST, np.abs(labels) <= LARGEST
        taken, every = np.zeros(rows.num_rows, np.bool_), np.arange(rows.num_rows)
        only_label = joinable & labelled & unpredicted
        if only_label.any():
            targets, named = self._targets(column["model"], column["version"], rows.num_rows)
            only_label &= named
            columns.labels.take(every, only_label, times, ids, targets, labels, weights)
            taken |= only_label
        if predicted.any():
            keys, named = self._keys_of([column["model"], column["version"], *segments], rows.num_rows)
            predicted &= usable & named
            weights = np.where(unweighted, 1.0, weights)
            only_prediction = predicted & joinable & unlabelled
            columns.predictions.take(every, only_prediction, times, ids, keys, predictions, weights)
            unidentified = np.ones(rows.num_rows, np.bool_) if column["id"] is None else _nulls(column["id"])
            pair = predicted & labelled & unidentified
            columns.pairs.take(every, pair, times, keys, predictions, labels, weights)
            taken |= only_prediction | pair
        return taken

    def _segments(self, rows: pa.RecordBatch) -> list[Any]:
        """A column for each segment key, None where there is none."""
        if self._flat:
            return [_member(rows, (key,)) for key in self._layout.segment_keys]
        within = _follow(rows, self._layout.paths["segments"])
        return [_inside(within, key) for key in self._layout.segment_keys]

    def _keys_of(self, parts: Sequence[Any], size: int) -> tuple[list[Key], Bools]:
        """The key of each row, and where there is a plain one, of columns of model, version and segment values."""
        codes, combos, plain = _combined(parts, size)
        keys: list[Any] = []
        for model, version, *values in combos:
            fine = isinstance(model, str) and model and _names(version)
            keys.append(self._keys.key(model, version, tuple(values)) if fine else None)
        named = np.array([key is not None for key in keys], np.bool_)
        return [keys[code] for code in codes.tolist()], plain & named[codes]

    def _targets(self, model: Any, version: Any, size: int) -> tuple[list[Target | None], Bools]:
        codes, combos, plain = _combined([model, version], size)
        targets: list[Target | None] = []
        for name, number in combos:
            fine = name != "" and isinstance(name, str | None) and _names(number)
            targets.append(self._keys.target(name, number) if fine else ("", ""))
        named = np.array([target != ("", "") for target in targets], np.bool_)
        shown = [None if target == ANYONE else target for target in targets]
        return [shown[code] for code in codes.tolist()], plain & named[codes]


def _names(version: Any) -> bool:
    """Whether it is one, or none."""
    return isinstance(version, str | int | None) and not isinstance(version, bool)


def _member(rows: pa.RecordBatch, path: Sequence[str]) -> Any:
    return rows.column(path[0]) if path[0] in rows.schema.names else None


def _follow(rows: pa.RecordBatch, path: Sequence[str]) -> Any:
    """The column at a path; None where there is none. Raises _NotStructError."""
    column = _member(rows, path)
    for name in path[1:]:
        column = _inside(column, name)
    return column


def _inside(column: Any, name: str) -> Any:
    if column is None or pa.types.is_null(column.type):
        return None
    if not pa.types.is_struct(column.type):
        raise _NotStructError
    return pc.struct_field(column, name) if column.type.get_field_index(name) >= 0 else None


def _nulls(column: Any) -> Bools:
    nulls: Bools = column.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _floats(column: Any, size: int) -> tuple[Floats, Bools]:
    """The numbers of a column, NaN where it has none, and where it has null."""
    if column is None or pa.types.is_null(column.type):
        return np.full(size, np.nan), np.ones(size, np.bool_)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return np.full(size, np.nan), _nulls(column)
    numbers = column.cast(pa.float64(), safe=False)
    floats: Floats = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    return floats, _nulls(column)


def _times(column: Any, size: int) -> Ints:
    """Microseconds, 0 where there is no plain time."""
    if column is None:
        return np.zeros(size, np.int64)
    kind = column.type
    if pa.types.is_timestamp(kind):
        whole: Ints = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
        factor = _MICROSECONDS.get(kind.unit)
        return whole // 1_000 if factor is None else np.clip(whole, 0, _FAR // factor) * factor
    if pa.types.is_integer(kind):
        return from_numbers(np.maximum(pc.fill_null(column.cast(pa.int64(), safe=False), 0).to_numpy(), 0))
    if pa.types.is_floating(kind):
        floats = np.nan_to_num(pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(), nan=0.0)
        return from_numbers(np.where((floats > 0.0) & (floats < 1e17), floats, 0.0))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([from_text(text) if text else 0 for text in column.to_pylist()], np.int64)
    return np.zeros(size, np.int64)


def _ids(column: Any, size: int) -> tuple[list[bytes | None], Bools]:
    """UTF-8 of texts and integers, and where there is one."""
    plain = column is not None and (_is_text(column.type) or pa.types.is_integer(column.type))
    if not plain:
        return [None] * size, np.zeros(size, np.bool_)
    texts = column if _is_text(column.type) else column.cast(pa.string())
    there: Bools = pc.fill_null(pc.greater(pc.binary_length(texts), 0), False).to_numpy(zero_copy_only=False)
    return texts.cast(pa.large_binary()).to_pylist(), there


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _combined(parts: Sequence[Any], size: int) -> tuple[Ints, list[tuple[Any, ...]], Bools]:
    """Equal rows of some columns as one number each: (number by row, values by number, where all are plain).

    Plain are texts, integers, booleans and nulls, which a column that is not there has everywhere.
    """
    codes = np.zeros(size, np.int64)
    plain = np.ones(size, np.bool_)
    values: list[tuple[Any, ...]] = [()]
    for part in parts:
        if part is None or pa.types.is_null(part.type):
            values = [(*value, None) for value in values]
            continue
        if pa.types.is_dictionary(part.type):
            part = part.cast(part.type.value_type)  # noqa: PLW2901 - the same column, spelt out
        if not (_is_text(part.type) or pa.types.is_integer(part.type) or pa.types.is_boolean(part.type)):
            return codes, [(None,) * len(parts)], np.zeros(size, np.bool_)
        encoded = part.dictionary_encode(null_encoding="encode")
        own = encoded.dictionary.to_pylist()
        codes = codes * len(own) + encoded.indices.to_numpy(zero_copy_only=False)
        distinct, codes = np.unique(codes, return_inverse=True)
        values = [(*values[code // len(own)], own[code % len(own)]) for code in distinct.tolist()]
    return codes, values, plain


def _to_the_microsecond(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Finer times cut: Python has none."""
    kinds = [_coarse(column.type) for column in rows.columns]
    columns = [
        each if each.type == kind else each.cast(kind, safe=False)
        for each, kind in zip(rows.columns, kinds, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, rows.schema.names)


def _coarse(kind: Any) -> Any:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_coarse(field.type)) for field in kind])
    return kind


def _json(value: Any, kind: Any) -> Any:
    """A value of an arrow type as a JSON message would have it."""
    if pa.types.is_map(kind) and value is not None:
        return {name: _json(each, kind.item_type) for name, each in value}
    if isinstance(value, dict):
        return {name: _json(each, kind.field(name).type) for name, each in value.items()}
    if isinstance(value, list):
        return [_json(each, kind.value_type) for each in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).isoformat()
    return float(value) if isinstance(value, Decimal) else value
