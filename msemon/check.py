"""`msemon check`: whether `run` would work, found out without joining the group, committing or creating anything.

It shows coordinates, counts and the names that would become metric labels, never a message.
"""

from __future__ import annotations

import errno
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TextIO

from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError

from msemon.decoding.portions import latest
from msemon.events import Batch, Key, Kind, Reason
from msemon.export.server import Address, bound
from msemon.logs import one_line
from msemon.settings import Settings
from msemon.sources.certificates import Certificates
from msemon.sources.kafka_inside import positions, topic_partitions
from msemon.sources.kafka_records import Unpacking, install
from msemon.sources.reading import CONNECT_S, groupless
from msemon.sources.record_format import Row, batch_of
from msemon.state import Unavailable, Unusable, look
from msemon.suggest import suggested
from msemon.wiring import SchemasMissing, decoded_in_time, decoder_of, shape_of

SAMPLE = 1_000
SAMPLE_BYTES = 32 * 1024 * 1024
SAMPLE_EVENTS = 500_000
SAMPLE_S = 20.0
_SHOWN = 20


@dataclass(slots=True)
class Findings:
    """What the sample of one topic holds."""

    topic: str
    partitions: int
    records: int = 0
    unread: int = 0  # offsets in the sample that the client could not read
    complete: bool = True  # the sample was read to its end in time
    kinds: Counter[Kind] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, tuple[int, int]] = field(default_factory=dict)  # (partition, offset) of the first
    keys: set[Key] = field(default_factory=set)
    ids: dict[Kind, dict[bytes, int]] = field(default_factory=lambda: {Kind.PREDICTION: {}, Kind.LABEL: {}})

    @property
    def usable(self) -> int:
        return sum(self.kinds[kind] for kind in (Kind.PREDICTION, Kind.LABEL, Kind.PAIR))

    @property
    def useless(self) -> bool:
        """Whether there is something and none of it can be used; tombstones alone are as good as nothing."""
        return self.usable == 0 and (self.kinds[Kind.REJECTED] > 0 or self.unread > 0)


def run(settings: Settings, out: TextIO | None = None, *, suggest: bool = False) -> int:
    """The command; writes its report to `out` (stdout), and where asked the settings it would `suggest`, as TOML.

    Exit code 0: `run` would work; 1: it would not.
    """
    out = out or sys.stdout
    if why := Certificates(settings).problem():
        out.write(f"{why}\n")
        return 1
    try:
        with groupless(settings) as consumer:
            found, missing, sample = _look(consumer, settings)
    except SchemasMissing as problem:
        out.write(f"{problem}\n")
        return 1
    except (KafkaError, OSError) as problem:
        out.write(f"{settings.kafka.bootstrap_servers}: unreachable: {one_line(problem)}\n")
        return 1
    lines, problems = report(found, missing, settings)
    taken, barred = addresses(settings)
    lines += taken
    problems += barred
    try:
        state = look(settings, max((findings.partitions for findings in found), default=0))
        lines += [] if state is None else [state]
    except (Unusable, Unavailable) as problem:
        problems.append(f"run would have nowhere to keep its state: {problem}")
    out.write("\n".join([*lines, *(problems or ["run would work"])]) + "\n")
    if suggest:
        out.write("\n".join(["", *suggested(sample, settings)]).rstrip() + "\n")
    return 1 if problems else 0


def _look(consumer: Any, settings: Settings) -> tuple[list[Findings], list[str], list[Batch]]:
    """What each topic that exists holds, the names of those that don't, and the sample itself."""
    dead_letters = [settings.kafka.dead_letter_topic] if settings.kafka.dead_letter_topic else []
    counts = topic_partitions(consumer, [*settings.kafka.topics, *dead_letters], CONNECT_S)
    unpacking = install(consumer)
    found, sample = [], list[Batch]()
    for topic in settings.kafka.topics:
        partitions = counts[topic]
        if partitions:
            findings = Findings(topic, partitions)
            deadline_s = time.monotonic() + SAMPLE_S / len(settings.kafka.topics)
            batches = _bounded(_sample(consumer, unpacking, findings, deadline_s), settings)
            examine(findings, batches, settings)
            found.append(findings)
            sample += batches
    return found, [topic for topic, partitions in counts.items() if not partitions], sample


def _sample(consumer: Any, unpacking: Unpacking, findings: Findings, deadline_s: float) -> list[Batch]:
    """The last records of each partition, all partitions together about `SAMPLE`; says so if the time was too short."""
    share = max(1, SAMPLE // findings.partitions)
    where = [KafkaPartition(findings.topic, number) for number in range(min(findings.partitions, SAMPLE))]
    ends = consumer.end_offsets(where, timeout_ms=int(CONNECT_S * 1000))
    starts = consumer.beginning_offsets(where, timeout_ms=int(CONNECT_S * 1000))
    wanted = {each: max(starts[each], ends[each] - share) for each in where if ends[each] > starts[each]}
    consumer.assign(list(wanted))
    for each, offset in wanted.items():
        consumer.seek(each, offset)
    records: dict[int, list[Any]] = defaultdict(list)
    while any(positions(consumer).get(each, 0) < ends[each] for each in wanted):
        if time.monotonic() > deadline_s:
            findings.complete = False
            break
        unpacking.begin()
        for each, more in consumer.poll(timeout_ms=200).items():
            records[each.partition] = _latest([*records[each.partition], *more], share, SAMPLE_BYTES // len(where))
        findings.unread += sum(skipped.records for skipped in unpacking.skipped)
    return [batch_of(findings.topic, partition, some) for partition, some in sorted(records.items())]


def _latest(rows: list[Row], most: int, most_bytes: int) -> list[Row]:
    """The last of them, at most so many and so large, but for one."""
    begin, size = len(rows), 0
    while begin > max(0, len(rows) - most):
        size += len(rows[begin - 1][3] or b"")
        if size > most_bytes and begin < len(rows):
            break
        begin -= 1
    return rows[begin:]


def _bounded(batches: list[Batch], settings: Settings) -> list[Batch]:
    """As much of each partition's as may hold its share of `SAMPLE_EVENTS`: a record may be an array of thousands."""
    decoder = decoder_of(settings)
    return [latest(batch, decoder.most_events(batch), SAMPLE_EVENTS // len(batches)) for batch in batches]


def examine(findings: Findings, batches: list[Batch], settings: Settings) -> None:
    """Decodes the sample as the daemon would and notes what it is."""
    decoder = decoder_of(settings)
    for batch, decoded in chain.from_iterable(decoded_in_time(decoder, each) for each in batches):
        findings.records += len(batch.offsets)
        findings.kinds.update(decoded.kinds)
        for row, reason in decoded.rejections:
            findings.reasons[reason] += 1
            findings.examples.setdefault(reason, (batch.partition, batch.offsets[decoded.record(row)]))
        findings.keys.update(decoded.predictions.keys, decoded.pairs.keys)
        findings.ids[Kind.PREDICTION] |= dict.fromkeys(decoded.predictions.ids, batch.partition)
        findings.ids[Kind.LABEL] |= dict.fromkeys(decoded.labels.ids, batch.partition)


def addresses(settings: Settings) -> tuple[list[str], list[str]]:
    """Whether `run` could listen where it is to serve: lines on what is taken at the moment, most likely by an msemon
    that runs beside this check, and on what could never work.
    """
    taken, barred = [], []
    for name, address in (("web.address", settings.web.address), ("web.health_address", settings.web.health_address)):
        try:
            if address is not None:
                bound(Address.parse(address)).close()
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                taken.append(f"warning: {name} {address}: in use, by an msemon that runs already or another program")
            else:
                barred.append(f"run could not listen at {name} {address}: {problem.strerror or problem}")
    return taken, barred


def report(found: list[Findings], missing: list[str], settings: Settings) -> tuple[list[str], list[str]]:
    """The lines of the report on the topics, and those that say why `run` would not work."""
    lines = [f"{settings.kafka.bootstrap_servers}: reached"]
    for findings in found:
        lines += _topic_lines(findings)
    lines += [f"{topic}: does not exist: run would wait for it" for topic in settings.kafka.topics if topic in missing]
    if settings.kafka.dead_letter_topic in missing:
        lines.append(f"{settings.kafka.dead_letter_topic}: the dead-letter topic does not exist: copies would be lost")
    lines += _series_lines(set().union(*(findings.keys for findings in found)), settings)
    lines += _apart(found)
    return lines, _problems(found)


def _topic_lines(findings: Findings) -> list[str]:
    lines = [
        f"{findings.topic}: {_count(findings.partitions, 'partition')}, {_count(findings.records, 'record')} sampled"
    ]
    if not findings.records and not findings.unread:
        lines[0] += ": empty" if findings.complete else ""
    if not findings.complete:
        lines.append("  the sample could not be read whole in time")
    if findings.unread:
        lines.append(f"  {_count(findings.unread, 'offset')} could not be read (a wrong checksum or codec)")
    if findings.records:
        lines.append("  " + ", ".join(f"{kind} {findings.kinds[kind]:,}" for kind in Kind if findings.kinds[kind]))
    for reason, count in findings.reasons.most_common():
        partition, offset = findings.examples[reason]
        lines.append(f"  rejected as {reason}: {count:,}, such as partition {partition} offset {offset}")
    return lines


def _series_lines(keys: set[Key], settings: Settings) -> list[str]:
    """Models and series that the sample would make, beside the limits (which hold for each partition number)."""
    if not keys:
        return ["no predictions in the sample: nothing to say about models and series"]
    names = shape_of(settings).segment_keys
    by_model: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for key in keys:
        by_model[key[0], key[1]].add(key)
    lines = [f"models: {len(by_model):,} of limits.models {settings.limits.models:,}"]
    total = 0
    for (model, version), own in sorted(by_model.items()):
        parts = {",".join(dimension): _values(own, names, dimension) for dimension in settings.segments}
        total += 1 + sum(parts.values())
        if len(lines) <= _SHOWN:
            lines.append(_model_line(model, version, parts, settings.limits.series))
    if len(by_model) > _SHOWN:
        lines.append(f"  and {len(by_model) - _SHOWN:,} more")
    lines.append(f"series: {total:,} of limits.total_series {settings.limits.total_series:,}")
    return lines


def _values(keys: set[Key], names: Sequence[str], dimension: list[str]) -> int:
    """Different combinations of the dimension's values."""
    places = [2 + names.index(name) for name in dimension]
    return len({tuple(key[place] for place in places) for key in keys})


def _model_line(model: str, version: str, parts: Mapping[str, int], limit: int) -> str:
    name = f"{model} version {version}" if version else model
    if not parts:
        return f"  {name}"
    counts = ", ".join(f"{dimension} {count:,}" for dimension, count in parts.items())
    return f"  {name}: {sum(parts.values()):,} segments of limits.series {limit:,} ({counts})"


def _apart(found: list[Findings]) -> list[str]:
    """A line where an id's prediction and label were seen on different partitions: they would never meet."""
    predicted: dict[bytes, int] = {}
    labelled: dict[bytes, int] = {}
    for findings in found:
        predicted |= findings.ids[Kind.PREDICTION]
        labelled |= findings.ids[Kind.LABEL]
    both = predicted.keys() & labelled.keys()
    apart = sum(predicted[ident] != labelled[ident] for ident in both)
    if not apart:
        return []
    line = (
        f"warning: of {len(both):,} ids with prediction and label in the sample, {apart:,} have them on different"
        " partitions, where they never meet: the producers must use the same key and partitioner"
    )
    return [line]


def _problems(found: list[Findings]) -> list[str]:
    problems = [f"{findings.topic}: nothing in the sample is usable" for findings in found if findings.useless]
    if len({findings.partitions for findings in found}) > 1:
        counts = ", ".join(f"{findings.topic} {findings.partitions}" for findings in found)
        problems.append(f"run would refuse to start: the topics must have equal numbers of partitions ({counts})")
    return problems


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
