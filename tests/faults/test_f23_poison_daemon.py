"""F23 end to end: poison between good events stops nothing, is counted by its reason, and goes to the dead letters."""

from __future__ import annotations

from support.histories import records
from support.running import daemon
from support.stories import made, names, pairs, settings
from support.topics import Record, create_topics, produce, unique

POISON: dict[str, list[bytes]] = {
    "malformed": [
        b"",
        b" ",
        b"{",
        b"[[]]",
        b'"text"',
        b"17",
        b"null",
        b"not json",
        b'{"id": "1", "label": 1',
        b'{"id": "1", "label": 1}}',
        b'{"id": "1", "label": 01}',
        b"{'id': '1', 'label': 1}",
        b'\xef\xbb\xbf{"id": "1", "label": 1}',
        b'{"id": "\xff\xfe", "label": 1}',
        b'{"id": "1", "label": 1, "unknown": "\xc3\x28"}',
        b'{"id": "\x00", "label": 1}',
        b"\x00",
        bytes(range(256)),
    ],
    "missing_field": [
        b"{}",
        b"[]",
        b'{"id": "1"}',
        b'{"label": 1}',
        b'{"id": null, "label": 1}',
        b'{"id": "1", "label": null, "prediction": null}',
        b'{"id": "1", "prediction": 1}',
        b'{"model": "m", "prediction": 1}',
    ],
    "wrong_type": [
        b'{"id": true, "label": 1}',
        b'{"id": 1.5, "label": 1}',
        b'{"id": [], "label": 1}',
        b'{"id": "", "label": 1}',
        b'{"id": "1", "label": true}',
        b'{"id": "1", "label": "1"}',
        b'{"id": "1", "label": {}}',
        b'{"id": "1", "label": []}',
        b'{"id": "1", "label": [1, "2"]}',
        b'{"id": "1", "label": [[1]]}',
        b'{"id": "1", "label": [true]}',
        b'{"id": "1", "label": 1, "weight": "1"}',
        b'{"id": "1", "model": 7, "prediction": 1}',
        b'{"id": "1", "model": "m", "prediction": 1, "segments": []}',
        b'{"id": "1", "model": "m", "prediction": 1, "segments": {"country": {}}}',
        b'{"id": "1", "model": "m", "prediction": 1, "segments": {"country": 1.5}}',
        b'{"id": "1", "model": "m", "version": {}, "prediction": 1}',
    ],
    "not_finite": [
        b'{"id": "1", "label": NaN}',
        b'{"id": "1", "label": Infinity}',
        b'{"id": "1", "label": -Infinity}',
        b'{"id": "1", "label": 1e400}',
        b'{"id": "1", "label": 1e76}',
        b'{"id": "1", "label": -' + b"9" * 100_000 + b"}",
        b'{"id": ' + b"9" * 100_000 + b', "label": 1}',
        b'{"id": "1", "label": [1, NaN]}',
        b'{"id": "1", "label": 1, "weight": Infinity}',
        b'{"id": "1", "model": "m", "prediction": 1e400}',
    ],
    "negative_weight": [b'{"id": "1", "label": 1, "weight": -1e-9}'],
    "shape_mismatch": [
        b'{"model": "m", "prediction": [1, 2], "label": [1]}',
        b'{"model": "m", "prediction": 1, "label": [1]}',
    ],
    "oversized": [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"id": "1", "label": ' + b"[" * 100_000,
        b'{"id": "1", "label": 1, "unknown": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"id": "1", "label": [' + b"1," * 5_000 + b"1]}",
        b'{"id": "' + b"x" * 990_000 + b'", "label": 1, "unknown": "' + b"y" * 20_000 + b'"}',
    ],
}
HARMLESS = [
    b'{"id": "twice", "id": "thrice", "label": 1, "label": 2}',  # the last one counts
    b'{"id": "\\ud800", "label": 1}',
    b'{"id": "\\u0000", "label": 1}',
    b'{"id": "harmless", "label": 1, "unknown": NaN}',
    b'{"id": 12345678901234567890123, "label": 1}',
]


def test_every_poison_value_between_good_events(kafka, tmp_path):
    """The loop goes on, counts by reason are exact, every good pair counts, and reading reaches the end."""
    topics, dead = made(kafka, names()), unique("dead")
    create_topics(kafka, {dead: 1}, {"max.message.bytes": "10000000"})
    bad = [Record(value) for values in POISON.values() for value in values]
    bad += [Record(value) for value in HARMLESS] + [Record(None, key=b"a"), Record(None, key=b"b")]
    predicted, labelled = pairs(2 * len(bad))
    # One partition holds all of the poison, with good events before, between and after.
    here = [event for event in labelled if event.partition == 0]
    log = [record for i, each in enumerate(records(here)) for record in (each, *bad[2 * i : 2 * i + 2])]
    log += bad[2 * len(here) :] + records(event for event in labelled if event.partition != 0)
    given = settings(kafka, topics, kafka__dead_letter_topic=dead, segments=[["country"]])
    with daemon(tmp_path / "daemon.log", given) as running:
        produce(kafka, topics[0], records(predicted))
        produce(kafka, topics[1], log, max_request_size=10_000_000)
        running.await_events({topics[0]: len(predicted), topics[1]: len(log)})
        for openmetrics in (False, True):
            scrape = running.scrape(openmetrics)
            assert scrape.rejected() == {(topics[1], reason): len(values) for reason, values in POISON.items()}
            assert scrape.events(topics[1]) == {
                "label": len(labelled) + len(HARMLESS),
                "tombstone": 2,
                "rejected": sum(map(len, POISON.values())),
            }
            assert scrape.value("msemon_pairs_total", model="m", version="") == len(predicted)
            assert scrape.value("msemon_mse", model="m", version="", window="1h") == 4.0
        running.until(lambda: running.scrape().value("msemon_consumer_lag_sum") == 0, "no lag")
        assert running.scrape().value("msemon_consumer_lag", topic=topics[1], partition="0") == 0
        assert running.scrape().sum("msemon_offset_gap_records_total") == 0
        assert running.scrape().value("msemon_dead_letter_failures_total") == 0
        assert running.healthy
        assert running.ready
