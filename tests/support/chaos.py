"""Chaos: replicas that are killed, frozen and stopped under load, and what they must say in the end.

`run` starts Apache Kafka and the replicas, produces a log of which everything is known, breaks things until it is
produced, kills all replicas at once, and then holds the sums over the replicas against the log.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from kafka import KafkaProducer

from msemon.settings.values import Duration
from support.brokers import Broker, apache_kafka, running
from support.running import Daemon, Scrape
from support.topics import create_topics
from support.waiting import wait_until

PARTITIONS = 4
TOPICS = ("predictions", "labels")
MODELS = (("price", "1"), ("price", "2"), ("eta", ""))
COUNTRIES = ("de", "fr", "nl", "pt", "se")
PANES = 12
MEMORY_S, TIMEOUT_S = 120, 600
LATE = 30  # waves at most between a prediction and its label
SESSION_MS = 6_000
EXACT = 1e-12
IN_FLIGHT = 40_000  # events on their way to the broker at most: the client itself has no limit

SAID = {
    "state restored", "partitions assigned", "partitions gone", "stopped", "checkpoint failed, nothing is committed",
    "offsets not committed", "the last checkpoint did not end in time", "state can't be read yet",
    "where to go on is not known yet", "superfluous state stays for now",
}  # fmt: skip
"""What is counted of the replicas' logs."""

NEVER_SAID = {
    "stored state refused", "no state of a partition that was read before: rebuilding it from the log",
    "a checkpoint lies beyond the log's end", "the log no longer has what was to be read", "the log was cut back",
    "unreadable records passed over", "can't go on", "failed",
}  # fmt: skip
"""What none of these faults is a reason for."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """What to do. Durations in seconds."""

    events: int
    rate: int  # events a second
    minutes: float  # longest time to produce in
    every_s: float  # mean time between two faults
    seed: int
    windows: tuple[str, str] = ("5m", "2h")
    broker_restart: bool = True
    catch_up_s: float = 180.0
    replicas: int = 2


class Message(NamedTuple):
    topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int


class Traffic:
    """A log in waves of about a second of event time, and every pair that it amounts to.

    Predictions and labels in disorder, labels up to 30 waves late or before their prediction, some never; repeats with
    the same and with another value; weights on either side. An event's record has the event's own time, so windows end
    with the wall clock and at nothing else.
    """

    def __init__(self, rate: int, seed: int) -> None:
        # 0.93 of the predictions are answered, and there are a few strays and repeats beside these.
        self._predictions = max(1, round(rate / 1.98))
        self._random = np.random.default_rng(seed)
        self._due: dict[int, list[Message]] = {}
        self._bases: dict[int, int] = {}
        self._parts: list[tuple[Ints, ...]] = []
        self._errors: list[tuple[Floats, Floats]] = []
        self._wave = 0
        self.made: Counter[str] = Counter()

    def wave(self, base_ms: int, *, last: bool = False) -> list[Message]:
        """The messages of the next wave, whose time begins at `base_ms`; where `last`, only what earlier ones left."""
        number, self._wave = self._wave, self._wave + 1
        self._bases[number] = base_ms
        # What makes the pairs below independent of the join's memory: else the oracle would have to be a join itself.
        early = self._bases[max(0, number - LATE - 12)]
        assert base_ms - early < (MEMORY_S - 20) * 1000, "the log was produced too slowly for its own oracle"
        if not last:
            self._new(number, base_ms)
        due = self._due.pop(number, [])
        self._random.shuffle(due)
        for message in due:
            self.made[message.topic] += 1
        return due

    @property
    def left(self) -> bool:
        """Whether earlier waves have left something to send."""
        return bool(self._due)

    def _new(self, number: int, base_ms: int) -> None:
        n, random = self._predictions, self._random
        models, countries = random.integers(0, len(MODELS), n), random.integers(0, len(COUNTRIES), n)
        partitions = random.integers(0, PARTITIONS, n)
        times = base_ms + random.integers(-3_000, 1_000, n)
        sent = number + np.where(random.random(n) < 0.1, random.integers(1, 7, n), 0)
        delays = np.where(random.random(n) < 0.05, 0, 1 + np.minimum(random.geometric(0.15, n), LATE - 1))
        label_times = np.maximum(base_ms + delays * 1000 + random.integers(-2_000, 1_000, n), base_ms - 3_000)
        label_values = random.normal(100.0, 20.0, n)
        values = label_values + random.normal(0.5, 3.0, n)
        weights, label_weights = self._weights(0.3), self._weights(0.1)
        answered = random.random(n) < 0.93
        draws = random.random((n, 2))
        columns = (models, countries, partitions, times, sent, delays, label_times, values, label_values, weights,
                   label_weights, answered, draws)  # fmt: skip
        for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            self._one(f"{number}-{i}", number, row)
        errors = (values - label_values)[answered]
        weight = np.where(np.isnan(label_weights), np.where(np.isnan(weights), 1.0, weights), label_weights)[answered]
        self._errors.append((weight, errors * errors))
        self._parts.append((models[answered], countries[answered], np.maximum(times, label_times)[answered]))

    def _weights(self, share: float) -> Floats:
        """NaN for none."""
        n, random = self._predictions, self._random
        some = np.where(random.random(n) < 0.1, 0.0, np.round(random.uniform(0.1, 3.0, n), 3))
        return np.where(random.random(n) < share, some, np.nan)

    def _one(self, ident: str, number: int, row: tuple[Any, ...]) -> None:
        (model, country, partition, ts, sent, delay, label_ts, value, label_value, weight, label_weight, answered,
         (draw, other)) = row  # fmt: skip
        name, version = MODELS[model]
        key = ident.encode()

        def prediction(number: float) -> bytes:
            given = "" if math.isnan(weight) else f',"weight":{weight!r}'
            return (
                f'{{"id":"{ident}","model":"{name}","version":"{version}","prediction":{number!r},"ts":{ts}{given},'
                f'"segments":{{"country":"{COUNTRIES[country]}"}}}}'
            ).encode()

        def label(number: float) -> bytes:
            given = "" if math.isnan(label_weight) else f',"weight":{label_weight!r}'
            return f'{{"id":"{ident}","label":{number!r},"ts":{label_ts}{given}}}'.encode()

        def send(wave: int, topic: str, value: bytes, time_ms: int) -> None:
            self._due.setdefault(wave, []).append(Message(topic, partition, key, value, time_ms))

        send(sent, TOPICS[0], prediction(value), ts)
        if draw < 0.01:  # a repeat: a wave later at least, so that the first one stands first in the log
            send(sent + 1 + int(other * 10), TOPICS[0], prediction(value if draw < 0.005 else value + 7.0), ts)
        if answered:
            send(number + delay, TOPICS[1], label(label_value), label_ts)
            if draw > 0.99:
                again = label_value if draw < 0.995 else label_value - 9.0
                send(number + delay + 1 + int(other * 10), TOPICS[1], label(again), label_ts)
        elif draw > 0.95:  # a label of a prediction that nobody made
            self._due.setdefault(number + delay, []).append(
                Message(TOPICS[1], partition, key, label(1.0).replace(key, b"stray-" + key, 1), label_ts)
            )

    def expected(self, window_ms: dict[str, int], now_ms: int) -> dict[tuple[str, ...], Sums]:
        """Sums by (window or "lifetime", model, version) and (window, model, version, country), as of this moment."""
        models, countries, times = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        weights, squares = (np.concatenate(column) for column in zip(*self._errors, strict=True))
        found: dict[tuple[str, ...], Sums] = {}
        for window, length in {"lifetime": 0, **window_ms}.items():
            pane = length // PANES
            inside = times // pane >= now_ms // pane - PANES if length else np.ones(len(times), np.bool_)
            for m, model in enumerate(MODELS):
                mine = inside & (models == m)
                found[window, *model] = Sums.of(weights[mine], squares[mine])
                for c, country in enumerate(COUNTRIES if length else ()):
                    part = mine & (countries == c)
                    found[window, *model, country] = Sums.of(weights[part], squares[part])
        return found


class Sums(NamedTuple):
    """What is compared: a count that must be exact, and two sums."""

    pairs: float
    weight: float
    squared_error: float

    @classmethod
    def of(cls, weights: Floats, squares: Floats) -> Sums:
        return cls(float(len(weights)), math.fsum(weights), math.fsum(weights * squares))

    def agrees(self, other: Sums) -> bool:
        near = zip(self[1:], other[1:], strict=True)
        return self.pairs == other.pairs and all(abs(a - b) <= EXACT * abs(b) for a, b in near)

    def plus(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


class Producing(threading.Thread):
    """Produces the traffic at its rate on a thread of its own."""

    def __init__(self, bootstrap: str, plan: Plan) -> None:
        super().__init__(name="traffic", daemon=True)
        self._servers = bootstrap
        self._plan = plan
        self._acknowledged = 0
        self._sent = 0
        self.traffic = Traffic(plan.rate, plan.seed)
        self.problem: BaseException | None = None
        self.seconds = 0.0

    @property
    def sent(self) -> int:
        return self._sent

    def run(self) -> None:
        try:
            self._run()
        except BaseException as problem:  # noqa: BLE001 - told to the main thread
            self.problem = problem

    def _run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._servers, acks="all", linger_ms=50, batch_size=262_144, max_block_ms=120_000,
            retry_backoff_ms=200,
        )  # fmt: skip
        began = time.monotonic()
        until = began + 60 * self._plan.minutes
        base_ms = time.time_ns() // 1_000_000 - 1_000
        try:
            while True:
                over = self._sent >= self._plan.events or time.monotonic() > until
                # Never ahead of the wall clock: what is behind stays behind, and nothing is dated ahead.
                wait = base_ms + 1_000 - time.time_ns() // 1_000_000
                if not over and wait > 0:
                    time.sleep(wait / 1_000)  # the rate
                self._send(producer, self.traffic.wave(base_ms, last=over))
                if over and not self.traffic.left:
                    break
                # After a standstill event time catches up in long waves, but not at once: see `Traffic.wave`.
                behind = time.time_ns() // 1_000_000 - 1_000 - base_ms
                base_ms += 1_000 if over else min(max(behind, 1_000), 2_000)
            producer.flush(timeout=120)
        finally:
            producer.close(timeout=30)
        if self._acknowledged != self._sent:
            raise RuntimeError(f"{self._sent - self._acknowledged} events were never acknowledged")
        self.seconds = time.monotonic() - began

    def _send(self, producer: KafkaProducer, messages: list[Message]) -> None:
        for each in messages:
            while self._sent - self._acknowledged > IN_FLIGHT and self.problem is None:
                time.sleep(0.02)  # the broker is away, or slow
            if self.problem is not None:
                raise self.problem
            future = producer.send(
                each.topic, each.value, each.key, partition=each.partition, timestamp_ms=each.timestamp_ms
            )
            future.add_callback(self._arrived)
            future.add_errback(self._failed)
            self._sent += 1

    def _arrived(self, _: Any) -> None:  # always on the client's one thread
        self._acknowledged += 1

    def _failed(self, problem: BaseException) -> None:
        self.problem = problem


class Replica:
    """One of the replicas through all its lives."""

    def __init__(self, name: str, directory: Path, settings: dict[str, Any]) -> None:
        self.name = name
        self._directory = directory
        self._settings = settings
        self.logs: list[Path] = []
        self.now = self._begin()

    def _begin(self) -> Daemon:
        log = self._directory / f"{self.name}.{len(self.logs)}.log"
        self.logs.append(log)
        return Daemon(log, self._settings)

    def start(self) -> None:
        self.now = self._begin()

    def kill(self) -> None:
        self.now.process.kill()
        self.now.process.wait()

    @property
    def running(self) -> bool:
        return self.now.process.poll() is None

    def end(self) -> None:
        if self.running:
            self.now.signal(signal.SIGCONT)
            self.now.stop()


@dataclass
class Result:
    """What was seen."""

    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    rows: list[tuple[str, Sums, Sums]] = field(default_factory=list)  # name, found, expected
    made: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    produce_s: float = 0.0
    catch_up_s: float = 0.0

    @property
    def wrong(self) -> list[str]:
        return self.problems + [name for name, found, expected in self.rows if not found.agrees(expected)]

    def table(self) -> str:
        """For people."""
        lines = [
            f"events      {sum(self.made.values()):,} ({', '.join(f'{n:,} {t}' for t, n in self.made.items())})",
            f"produced in {self.produce_s:.0f} s, caught up {self.catch_up_s:.0f} s after the last kill of all",
            "faults      " + ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items())),
            "log lines   " + ", ".join(f"{count} × {name!r}" for name, count in self.said.most_common()),
            f"{'':34}{'pairs':>12}{'expected':>12}  {'weight rel.':>12}{'squared rel.':>13}",
        ]
        for name, found, expected in self.rows:
            off = [abs(a - b) / abs(b) if b else abs(a - b) for a, b in zip(found[1:], expected[1:], strict=True)]
            verdict = "ok" if found.agrees(expected) else "WRONG"
            lines.append(f"{name:34}{found.pairs:12.0f}{expected.pairs:12.0f}  {off[0]:12.1e}{off[1]:13.1e}  {verdict}")
        return "\n".join([*lines, *(f"PROBLEM {problem}" for problem in self.problems)])


class Chaos:
    """One run. On the main thread: the children end with the thread that started them."""

    def __init__(self, plan: Plan, directory: Path, broker: Broker) -> None:
        self._plan = plan
        self._broker = broker
        self._random = Random(plan.seed)
        self._window_ms = {name: round(Duration(name).seconds * 1000) for name in plan.windows}
        self.result = Result()
        create_topics(broker.bootstrap, dict.fromkeys(TOPICS, PARTITIONS))
        self._producing = Producing(broker.bootstrap, plan)
        self._replicas = [
            Replica(f"replica-{i}", directory, self._settings(f"replica-{i}" if i % 2 else None))
            for i in range(plan.replicas)
        ]

    def _settings(self, static: str | None) -> dict[str, Any]:
        options = {"heartbeat_interval_ms": 500, "session_timeout_ms": SESSION_MS, "metadata_max_age_ms": 5_000}
        given = {
            "kafka.bootstrap_servers": self._broker.bootstrap, "kafka.topics": list(TOPICS), "kafka.group_id": "chaos",
            "kafka.start": "earliest", "kafka.client_options": options, "state.store": "kafka", "state.interval": "2s",
            "windows.lengths": list(self._plan.windows), "windows.panes": PANES, "segments": [["country"]],
            "join.memory": f"{MEMORY_S}s", "join.timeout": f"{TIMEOUT_S}s",
        }  # fmt: skip
        return given | ({"kafka.group_instance_id": static} if static else {})

    def run(self) -> Result:
        try:
            self._break_until_produced()
            self._all_at_once()
            self._settle()
        except (TimeoutError, RuntimeError, AssertionError) as problem:
            self.result.problems.append(f"{type(problem).__name__}: {problem}")
        finally:
            for replica in self._replicas:
                replica.end()
            self._read_logs()
        self.result.made = self._producing.traffic.made
        self.result.produce_s = self._producing.seconds
        return self.result

    # Breaking things.

    def _break_until_produced(self) -> None:
        for replica in self._replicas:
            replica.now.await_ready(120.0)
        self._producing.start()
        half = min(self._plan.events / 2 / self._plan.rate, 30 * self._plan.minutes)
        restart_at = time.monotonic() + half if self._plan.broker_restart else math.inf
        faults = deque(self._shuffled())
        while self._producing.is_alive():
            self._producing.join(self._random.uniform(0.4, 1.6) * self._plan.every_s)
            if time.monotonic() > restart_at:
                restart_at = math.inf
                self.result.faults["broker restarts"] += 1
                self._broker.stop()
                self._broker.start()
            elif self._producing.is_alive():
                if not faults:
                    faults.extend(self._shuffled())
                self._break(faults.popleft(), self._chosen())
            for replica in self._replicas:
                if not replica.running:
                    self.result.problems.append(f"{replica.name} ended by itself with {replica.now.process.poll()}")
                    replica.start()
        if self._producing.problem is not None:
            raise RuntimeError(f"the producer failed: {self._producing.problem!r}")

    def _chosen(self) -> Replica:
        """Mostly one that has begun to work: on a busy machine the others would never come to it."""
        replica = self._random.choice(self._replicas)
        if self._random.random() < 0.8:
            until = time.monotonic() + 15.0
            while time.monotonic() < until and not (replica.now.said("serving") and replica.now.ready):
                self._pause(0.1)
        return replica

    def _shuffled(self) -> Iterator[str]:
        kinds = ["kill", "kill", "kill", "freeze", "zombie", "term"]
        self._random.shuffle(kinds)
        return iter(kinds)

    def _break(self, kind: str, replica: Replica) -> None:
        if kind == "kill":
            self.result.faults["kill -9"] += 1
            replica.kill()
            self._pause(self._random.choice([0.0, 0.5, 3.0, SESSION_MS / 1000 + 2.0]))
            replica.start()
        elif kind == "term":
            self.result.faults["SIGTERM"] += 1
            replica.now.signal(signal.SIGTERM)
            began = time.monotonic()
            code = replica.now.wait(60.0)
            # Two replicas, a broker and a producer on a few cores: how long it may take has its own test.
            early = code == -signal.SIGTERM and not replica.now.said("serving")  # before it could say what it does then
            if code != 0 and not early:
                self.result.problems.append(f"{replica.name} exited with {code} after SIGTERM")
            if (took := time.monotonic() - began) > 10.0:
                self.result.faults["SIGTERM over 10 s"] += 1
                print(f"{replica.name} took {took:.1f} s to end")
            replica.start()
        else:  # within the session timeout, or beyond it
            self.result.faults[f"SIGSTOP, {'short' if kind == 'freeze' else 'beyond the session timeout'}"] += 1
            replica.now.signal(signal.SIGSTOP)
            self._pause(self._random.uniform(1.0, 3.0) if kind == "freeze" else SESSION_MS / 1000 + 3.0)
            replica.now.signal(signal.SIGCONT)

    def _pause(self, seconds: float) -> None:
        """The length of a fault; it ends early where nothing is produced any more."""
        self._producing.join(seconds)

    def _all_at_once(self) -> None:
        self.result.faults["kill -9 of all at once"] += 1
        for replica in self._replicas:
            replica.kill()
        for replica in self._replicas:
            replica.start()

    # Comparing.

    def _settle(self) -> None:
        """Wait until everything is read, then compare; all sums at one pane of every window."""
        began = time.monotonic()
        wait_until(self._caught_up, self._plan.catch_up_s, "all lag to be 0 and all partitions to be owned", 0.5)
        self.result.catch_up_s = time.monotonic() - began
        # Positions run a little ahead of what is counted. What is counted twice would show as well.
        deadline = time.monotonic() + 20.0
        while True:
            rows = self._compared()
            agree = rows is not None and all(found.agrees(expected) for _, found, expected in rows)
            if agree or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if rows is None:
            raise TimeoutError("no moment without a change of panes")
        self.result.rows = rows

    def _caught_up(self) -> bool:
        if not all(replica.running and replica.now.ready for replica in self._replicas):
            return False
        scrapes = [replica.now.scrape() for replica in self._replicas]
        owned = sum(scrape.sum("msemon_partitions_assigned") for scrape in scrapes)
        lags = [scrape.all("msemon_consumer_lag") for scrape in scrapes]
        known = sum(map(len, lags)) == owned * len(TOPICS)
        return owned == PARTITIONS and known and not any(value for each in lags for value in each.values())

    def _compared(self) -> list[tuple[str, Sums, Sums]] | None:
        """Each sum over the replicas beside what the log says; None where a window moved on meanwhile."""
        before = time.time_ns() // 1_000_000
        scrapes = [replica.now.scrape() for replica in self._replicas]
        after = time.time_ns() // 1_000_000
        if any(before // (ms // PANES) != after // (ms // PANES) for ms in self._window_ms.values()):
            return None
        expected = self._producing.traffic.expected(self._window_ms, before)
        return [(" ".join(filter(None, name)), found_in(scrapes, name), wanted) for name, wanted in expected.items()]

    def _read_logs(self) -> None:
        for path in (log for replica in self._replicas for log in replica.logs):
            text = path.read_text(errors="replace")
            if "Traceback" in text or '"exception"' in text:
                self.result.problems.append(f"a traceback in {path}")
            for line in text.splitlines():
                event = line.partition('"event":')[2].partition('"')[2].partition('"')[0]
                if event in SAID or event in NEVER_SAID:
                    self.result.said[event] += 1
                if event in NEVER_SAID:
                    self.result.problems.append(f"{path.name}: {line[:500]}")


def found_in(scrapes: list[Scrape], name: tuple[str, ...]) -> Sums:
    """The sums of one series over replicas."""
    window, model, version, *country = name
    labels = {"model": model, "version": version}
    prefix = "msemon_lifetime_"
    if window != "lifetime":
        labels["window"] = window
        prefix = "msemon_segment_window_" if country else "msemon_window_"
    if country:
        labels |= {"dimension": "country", "segment": country[0]}
    total = Sums(0.0, 0.0, 0.0)
    for scrape in scrapes:
        values = [scrape.value(prefix + what, **labels) or 0.0 for what in Sums._fields]
        total = total.plus(Sums(*values))
    return total


def run(plan: Plan, directory: Path) -> Result:
    """All of it, from starting the broker on; logs stay in `directory`."""
    # A broker that restarts may come back once its old self counts as dead.
    timing = {"broker_session_timeout_ms": "4000", "broker_heartbeat_interval_ms": "500"}
    (directory / "kafka").mkdir(parents=True, exist_ok=True)
    with running(apache_kafka(directory / "kafka", **timing)) as broker:
        return Chaos(plan, directory, broker).run()
