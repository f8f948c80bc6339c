"""Avro from a schema registry (a stand-in: tests/support/registry.py) that is away at first, inside CloudEvents."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from support.formats import AVRO, in_avro
from support.registry import RegistryStandIn
from support.running import daemon
from support.stories import made, names, settings
from support.topics import Record, produce

NAMES = ("id", "model", "version", "ts", "prediction", "label", "weight", "segments")
COUNT = 200
FLOOD = 10_000


def record(**event: Any) -> Record:
    value = in_avro(dict.fromkeys(NAMES) | event)
    return Record(value, key=str(event["id"]).encode(), headers=(("ce_specversion", b"1.0"), ("ce_id", b"e")))


def plain(ident: int = 7, **event: Any) -> Record:
    value = in_avro(dict.fromkeys(NAMES) | event)
    return Record(b"\x00" + ident.to_bytes(4, "big") + value[5:], key=str(event["id"]).encode())


def test_partitions_wait_while_the_registry_is_away_and_nothing_is_lost(broker, tmp_path):
    """Reading stands still and says so; then all counts, but for the schema that the registry does not know."""
    topics = made(broker, names())
    now_ms = time.time_ns() // 1_000_000
    with RegistryStandIn({"/schemas/ids/7": {"schema": json.dumps(AVRO)}}) as registry:
        registry.status = 503
        given = settings(
            broker, topics, format__encoding="avro", format__schema_registry_url=registry.url, format__cloudevents=True
        )
        with daemon(tmp_path / "daemon.log", given) as running:
            produce(broker, topics[0], [record(id=i, model="m", prediction=5.0, ts=now_ms) for i in range(COUNT)])
            labels = [record(id=i, label=3.0, ts=now_ms) for i in range(COUNT)]
            unknown = Record(b"\x00\x00\x00\x00\x63?", key=b"0")
            produce(broker, topics[1], [unknown, *labels])
            running.until(lambda: running.scrape().value("msemon_schemas_awaited"), "that schemas are awaited")
            running.until(lambda: running.scrape().number("msemon_schema_registry_errors_total") >= 2, "its errors")
            assert running.scrape().events(topics[0]) == {}
            assert running.scrape().rejected() == {}
            assert running.healthy
            registry.status = None
            running.await_events({topics[0]: COUNT, topics[1]: COUNT + 1}, timeout_s=90)
            scrape = running.scrape()
            assert scrape.rejected() == {(topics[1], "unknown_schema"): 1}
            assert scrape.value("msemon_pairs_total", model="m", version="") == COUNT
            assert scrape.value("msemon_mse", model="m", version="", window="1h") == 4.0
            assert scrape.value("msemon_schemas_awaited") == 0
            assert running.said("the schema registry gives no schema")


def test_ids_at_random_hold_a_partition_up_for_seconds_only(broker, tmp_path):
    """Ten thousand, of a registry that takes 50 ms for an answer: one after the other, more than eight minutes.

    Honest records in their midst are counted all the same, also those of a schema that is new by then.
    """
    topics = made(broker, names())
    now_ms = time.time_ns() // 1_000_000
    drawn = random.Random(7).sample(range(1_000, 2**31), FLOOD)
    flood = [Record(b"\x00" + ident.to_bytes(4, "big") + b"?") for ident in drawn]
    with RegistryStandIn({f"/schemas/ids/{ident}": {"schema": json.dumps(AVRO)} for ident in (7, 9)}) as registry:
        registry.slow_s = 0.05
        given = settings(broker, topics, format__encoding="avro", format__schema_registry_url=registry.url)
        with daemon(tmp_path / "daemon.log", given) as running:
            produce(broker, topics[0], [plain(id=i, model="m", prediction=5.0, ts=now_ms) for i in range(COUNT)])
            honest = [plain(9, id=i, label=3.0, ts=now_ms) for i in range(COUNT)]
            produce(broker, topics[1], [*flood[: FLOOD // 2], *honest, *flood[FLOOD // 2 :]])
            running.await_events({topics[0]: COUNT, topics[1]: COUNT + FLOOD}, timeout_s=90)
            scrape = running.scrape()
            assert scrape.value("msemon_pairs_total", model="m", version="") == COUNT
            assert scrape.rejected() == {(topics[1], "unknown_schema"): FLOOD}
            assert len(registry.asked) < FLOOD / 10
            assert running.said("too many unknown schemas to ask for all")
