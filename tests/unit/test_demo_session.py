"""The demo's settings and ports."""

from __future__ import annotations

import socket

import pytest

from msemon.demo import baselines, session
from msemon.demo.__main__ import main
from msemon.demo.broker import BrokerUnavailable, EmbeddedBroker, accepts, free_port
from msemon.settings import Settings
from msemon.settings.model import BaselineSettings, KafkaSettings, WebSettings, WindowSettings


def test_where_events_come_from_and_where_numbers_go_is_the_demos() -> None:
    theirs = Settings(
        kafka=KafkaSettings(bootstrap_servers="prod:9092", topics=["real"]), web=WebSettings(address="0.0.0.0:80")
    )
    ours = session.demo_settings(theirs, "127.0.0.1:1234", 4711)
    assert ours.kafka.bootstrap_servers == "127.0.0.1:1234"
    assert ours.kafka.topics == ["predictions", "labels"]
    assert str(ours.kafka.start) == str(KafkaSettings.model_validate({"start": "earliest"}).start)
    assert ours.web.address == "127.0.0.1:4711"
    assert ours.state.store == "none"


def test_windows_and_segments_are_the_users_where_set() -> None:
    theirs = Settings(windows=WindowSettings.model_validate({"lengths": ["30s"], "panes": 10}), segments=[["device"]])
    ours = session.demo_settings(theirs, "127.0.0.1:1234", 0)
    assert [float(length) for length in ours.windows.lengths] == [30.0]
    assert ours.segments == [["device"]]


def test_without_the_users_segments_country_and_country_with_device_are_shown() -> None:
    assert session.demo_settings(Settings(), "127.0.0.1:1234", 0).segments == [["country"], ["country", "device"]]


def test_baselines_are_the_fleets_unless_the_user_says_how() -> None:
    assert session.demo_settings(Settings(), "127.0.0.1:1234", 0).baseline.file == str(baselines.FILE)
    theirs = Settings(baseline=BaselineSettings(learn_pairs=777))
    assert session.demo_settings(theirs, "127.0.0.1:1234", 0).baseline == theirs.baseline


def test_the_next_port_is_taken_where_the_preferred_one_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        other = free_port([taken])
        assert other != taken
        assert free_port([other]) == other


def test_accepts_tells_whether_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert accepts(port)
    assert not accepts(port)


def test_a_broker_that_was_not_started_has_no_log() -> None:
    broker = EmbeddedBroker()
    assert not broker.alive()
    assert broker.pid is None
    with pytest.raises(BrokerUnavailable):
        _ = broker.log_path


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--speed", value) for value in ("0", "-1", "nan", "inf", "fast")),
        *(("--drift-ratio", value) for value in ("0", "nan", "strong")),
        ("--drift-after", "-1"),
        ("--drift-for", "241"),  # longer than from beginning to beginning
        ("--drift-every", "nan"),
        *(("--drift-in", value) for value in ("similarity", "prices", "price:country=XX", "price:city=FR", "price:FR")),
    ],
)
def test_the_fleet_refuses_what_can_not_be(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--bootstrap", "127.0.0.1:1", f"{flag}={value}"])
    assert left.value.code == 2
    assert flag.lstrip("-").split("-")[0] in capsys.readouterr().err.splitlines()[-1]
