"""F24: a stored batch with a wrong checksum or an unknown codec is passed over with a count; the daemon goes on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from support.brokers import Broker
from support.lives import Monitor
from support.record_batches import with_codec, with_wrong_checksum


def with_unknown_codec(batch: bytearray) -> bytearray:
    return with_codec(batch, 7)


DAMAGES: dict[str, Callable[[bytearray], bytearray]] = {"checksum": with_wrong_checksum, "codec": with_unknown_codec}


def stored(broker: Broker, topic: str) -> tuple[Path, list[tuple[int, bytearray]]]:
    """The topic's only segment, and where each batch lies in it."""
    (path,) = (broker.log.parent / "data" / f"{topic}-0").glob("*.log")
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        found.append((at, bytearray(data[at : at + 12 + length])))
        at += 12 + length
    return path, found


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("which", [0, 1], ids=["predictions", "labels"])
def test_f24_a_batch_that_cannot_be_read_is_passed_over_with_an_exact_count(own_kafka, tmp_path, damage, which):
    """Its records are counted as a gap, the state is marked incomplete, everything else is exact, and a restart does
    not meet it again."""
    monitor = Monitor(own_kafka.bootstrap, tmp_path)
    for number in range(3):
        monitor.send(*monitor.events(60, f"part-{number}"))
    path, batches = stored(own_kafka, monitor.topics[which])
    at, batch = batches[len(batches) // 2]
    (first,) = struct.unpack_from(">q", batch, 0)
    (count,) = struct.unpack_from(">i", batch, 57)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(DAMAGES[damage](batch))
    sides = [list(monitor.predicted), list(monitor.labelled)]
    del sides[which][first : first + count]
    with monitor.run() as running:
        monitor.await_exact(running, monitor.oracle(*sides))
        scrape = running.scrape()
        place = {"topic": monitor.topics[which], "partition": "0"}
        assert scrape.value("msemon_offset_gap_records_total", **place) == count
        assert [line["records"] for line in running.said("unreadable records passed over")] == [count]
        monitor.await_incomplete(running)
        late = monitor.events(40, "late")
        monitor.send(*late)
        sides = [sides[0] + late[0], sides[1] + late[1]]
        monitor.await_exact(running, monitor.oracle(*sides))
    with monitor.run() as running:
        monitor.await_exact(running, monitor.oracle(*sides))
        assert not running.said("unreadable records passed over")
