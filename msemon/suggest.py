"""`msemon check --suggest`: the settings that a sample of the topics speaks for, with what of it says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from msemon.decoding.documents import Message
from msemon.decoding.fields import Path, parse_fields, written_path
from msemon.events import Batch, Floats
from msemon.settings import Settings
from msemon.settings.toml import literal
from msemon.wiring import SchemasMissing, decoded_in_time, decoder_of, parsed_in_time, parser_of

ENOUGH = 100
"""Pairs in a window whose bounds are of use: about ±19 % of the RMSE for Gaussian errors."""

_LENGTHS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "6h": 21_600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000}
_SPARE = 4.0  # times the longest delay seen: a sample of the newest records has few of the slow labels
_DEPTH = 4
_MOST_VALUES = 50  # of a segment key: more in a sample of a thousand is closer to an id than to a part of the world
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "requestid", "predictionid", "eventid", "uuid", "correlationid", "key"),
    "ts": ("ts", "timestamp", "time", "eventtime", "createdat", "datetime", "at"),
    "prediction": ("prediction", "predicted", "predictedvalue", "yhat", "ypred", "forecast", "score"),
    "label": ("label", "actual", "actualvalue", "target", "truth", "groundtruth", "ytrue", "observed", "y"),
    "weight": ("weight", "sampleweight"),
    "model": ("model", "modelname", "modelid"),
    "version": ("version", "modelversion"),
    "segments": ("segments", "segment", "dimensions", "tags", "attributes"),
}


Document = Mapping[str, Any]


def suggested(batches: Sequence[Batch], settings: Settings) -> list[str]:
    """Lines of TOML to put into msemon.toml, each with a comment that says why."""
    if settings.format.encoding == "protobuf":
        return ["# nothing to suggest: of Protobuf only what the settings name is read"]
    try:
        documents = [*_documents(batches, settings)]
    except SchemasMissing as problem:
        return [f"# nothing to suggest: {problem}"]
    if not documents:
        return ["# nothing to suggest: the sample has no objects"]
    fields = _fields(documents, settings.format.fields)
    paths = parse_fields(fields)
    segments, why = _segments(documents, paths, settings)
    changed = settings.model_copy(update={"format": settings.format.model_copy(update={"fields": fields})})
    pairs, delays = _seen(batches, changed)
    lines = [*why, f"segments = {literal(segments)}"] if segments else why
    lines += ["", *_windows(pairs), "", *_join(delays), ""]
    if fields:
        lines += ["# where the events have what msemon looks for", "[format]", f"fields = {literal(fields)}", ""]
    return [*lines, *_times(documents, paths)]


def _documents(batches: Sequence[Batch], settings: Settings) -> Iterator[Document]:
    """The sample's events as they are before anything is looked for in them. Raises SchemasMissing."""
    parser = parser_of(settings)
    for batch in batches:
        for item in parsed_in_time(parser, batch):
            document = item.document if isinstance(item, Message) else None
            for event in document if isinstance(document, list) else [document]:
                if isinstance(event, dict):
                    yield event


# Where things are.


def _fields(documents: Sequence[Document], configured: Mapping[str, str]) -> dict[str, str]:
    """`format.fields`: where it is configured as it is; else where nothing is found under an event's own name, the
    path most often there whose last name says the same.
    """
    found = Counter(path for document in documents for path in _paths(document, ()))
    taken = set(parse_fields(configured).values()) & found.keys()
    out = dict(configured)
    for name, own in parse_fields(configured).items():
        if name in configured or own in found:
            continue
        others = [path for path in found if _plain(path[-1]) in _OTHER_NAMES[name] and not _clashes(path, taken)]
        if others:
            best = max(others, key=lambda path: (found[path], -len(path), path))
            out[name] = written_path(best)
            taken.add(best)
    return out


def _paths(document: Document, above: Path) -> Iterator[Path]:
    for name, value in document.items():
        if value is not None and name:
            yield (*above, name)
            if isinstance(value, dict) and len(above) < _DEPTH:
                yield from _paths(value, (*above, name))


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _clashes(path: Path, taken: set[Path]) -> bool:
    """Whether it is, contains or lies within another field."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in taken)


def _at(document: Any, path: Path) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


# What follows.


def _segments(
    documents: Sequence[Document], paths: Mapping[str, Path], settings: Settings
) -> tuple[list[list[str]], list[str]]:
    """Dimensions of one key each, those with fewest values first, within the limit of series; and why."""
    predictions = [each for each in documents if _at(each, paths["prediction"]) is not None]
    found: dict[str, Counter[str]] = {}
    for document in predictions:
        segments = _at(document, paths["segments"])
        for key, value in segments.items() if isinstance(segments, dict) else ():
            if isinstance(value, str | int):  # and booleans
                found.setdefault(key, Counter())[str(value)] += 1
    why, chosen, series = [], [], 0
    for key, values in sorted(found.items(), key=lambda each: (len(each[1]), each[0])):
        share = max(values.values()) / len(predictions)
        if len(values) > min(_MOST_VALUES, len(predictions) // 2) or any(c in key for c in ",\\"):
            why.append(f"# {key}: {len(values):,} different values in {len(predictions):,} predictions: too many")
        elif series + len(values) > settings.limits.series:
            why.append(f"# {key}: {len(values):,} more series would pass limits.series {settings.limits.series:,}")
        else:
            series += len(values)
            chosen.append([key])
            why.append(f"# {key}: {len(values):,} values, the largest {share:.0%} of predictions")
    return chosen, why or ["# no segments: the predictions of the sample have none"]


def _seen(batches: Sequence[Batch], settings: Settings) -> tuple[dict[tuple[str, ...], Floats], Floats]:
    """Times of predictions (s) by model and version, and label delays (s) of ids of which both are in the sample."""
    decoder = decoder_of(settings)
    times: dict[tuple[str, ...], list[float]] = {}
    predicted: dict[bytes, float] = {}
    labelled: dict[bytes, float] = {}
    for _, decoded in chain.from_iterable(decoded_in_time(decoder, batch) for batch in batches):
        for part in (decoded.predictions, decoded.pairs):
            for key, time in zip(part.keys, (part.times / 1e6).tolist(), strict=True):
                times.setdefault(key[:2], []).append(time)
        predicted |= dict(zip(decoded.predictions.ids, (decoded.predictions.times / 1e6).tolist(), strict=True))
        labelled |= dict(zip(decoded.labels.ids, (decoded.labels.times / 1e6).tolist(), strict=True))
    both = predicted.keys() & labelled.keys()
    delays = np.array(sorted(labelled[ident] - predicted[ident] for ident in both))
    return {key: np.array(own) for key, own in times.items()}, delays


def _windows(times: Mapping[tuple[str, ...], Floats]) -> list[str]:
    rates = [(own.size - 1) / span for own in times.values() if own.size > 1 and (span := float(np.ptp(own))) > 0.0]
    if not rates:
        return ["# windows: too few predictions in the sample to tell how many come"]
    rate = float(np.median(rates))
    names = list(_LENGTHS)
    first = next((i for i, length in enumerate(_LENGTHS.values()) if rate * length >= ENOUGH), len(names) - 1)
    chosen = names[first : first + 5 : 2] if first + 2 < len(names) else names[first:]
    held = rate * _LENGTHS[chosen[0]]
    lines = [
        f"# {rate:.3g} predictions of a model a second (median of {len(rates):,}): {chosen[0]} hold about {held:,.0f},",
        f"# and {ENOUGH} pairs make bounds that are of use",
        "[windows]",
        f"lengths = {literal(chosen)}",
    ]
    if held < ENOUGH:
        lines.insert(2, "# even so long a window holds too few for bounds that are of use")
    return lines


def _join(delays: Floats) -> list[str]:
    if not delays.size:
        return [
            "# join: no id of the sample has both its prediction and its label, so how late labels come can't be told"
        ]
    longest = float(delays[-1])
    timeout = _length_of(max(longest, 0.0) * _SPARE)
    middle = float(np.median(delays))
    lines = [
        f"# of {delays.size:,} ids half the labels come within {_duration(middle)}, all within {_duration(longest)}",
        f"# (slower ones are hardly in a sample of the newest records: hence {_SPARE:g} times that)",
        "[join]",
        f"timeout = {literal(timeout)}",
    ]
    if delays[0] < 0.0:
        memory = _length_of(-float(delays[0]) * _SPARE)
        lines += [f"# some labels come {_duration(-float(delays[0]))} before", f"memory = {literal(memory)}"]
    return lines


def _times(documents: Sequence[Document], paths: Mapping[str, Path]) -> list[str]:
    have = sum(_at(document, paths["ts"]) is not None for document in documents)
    where = written_path(paths["ts"])
    if have == 0:
        return [
            f"# no event has a time of its own ({where}): its record's timestamp stands for it,",
            "# which says when it was written, not when it happened",
        ]
    if have < len(documents):
        return [f"# {len(documents) - have:,} of {len(documents):,} events have no {where}: their records' time stands"]
    return []


def _length_of(seconds: float) -> str:
    """The shortest of the usual lengths that is not shorter."""
    return next((name for name, length in _LENGTHS.items() if length >= seconds), "90d")


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
