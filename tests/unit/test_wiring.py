"""From the settings to a decoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from msemon import wiring
from msemon.cli import main
from msemon.settings import Settings, load
from msemon.wiring import decoder_of, encoding_missing
from support.decoding import WALL_US, batch
from support.formats import STRUCTURED, descriptor_set, in_protobuf, structured, with_headers


def set_to(**flags: str) -> Settings:
    return load({name.replace("__", "."): value for name, value in flags.items()}, environ={})


@pytest.fixture
def descriptors(tmp_path: Path) -> str:
    path = tmp_path / "events.pb"
    path.write_bytes(descriptor_set())
    return str(path)


def test_protobuf_by_topic(descriptors: str) -> None:
    given = {"format__encoding": "protobuf", "format__descriptor_set": descriptors, "kafka__topics": '["events"]'}
    made = decoder_of(set_to(**given, format__messages='{"events": "test.Event"}'))
    decoded = made.decode(batch([in_protobuf({"id": "a", "label": 1.0})]), WALL_US)
    assert decoded is not None
    assert decoded.labels.ids == [b"a"]
    with pytest.raises(ValueError, match="no message for the topics events"):
        decoder_of(set_to(**given, format__messages='{"other": "test.Event"}'))


def test_cloudevents_of_json() -> None:
    made = decoder_of(set_to(format__cloudevents="true"))
    decoded = made.decode(with_headers(batch([structured({"id": "a", "label": 1})]), [STRUCTURED]), WALL_US)
    assert decoded is not None
    assert decoded.labels.ids == [b"a"]


def test_an_extra_that_is_not_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line that tells what to install."""
    assert encoding_missing(set_to()) is None
    given = {"format__encoding": "avro", "format__schema_registry_url": "http://127.0.0.1:9"}
    assert encoding_missing(set_to(**given)) is None
    monkeypatch.setattr(wiring, "find_spec", lambda _: None)
    assert "pip install 'msemon[avro]'" in (encoding_missing(set_to(**given)) or "")
    flags = ["--format.encoding", "avro", "--format.schema-registry-url", "http://127.0.0.1:9"]
    assert main(["run", *flags]) == 2
    assert "needs fastavro: pip install 'msemon[avro]'" in capsys.readouterr().err


def test_a_descriptor_set_that_can_not_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    flags = ["--format.encoding", "protobuf", "--format.descriptor-set", str(tmp_path / "x"),
             "--format.messages", '{"predictions": "a.B", "labels": "a.B"}']  # fmt: skip
    assert main(["check", *flags]) == 2
    assert "format.descriptor_set: no descriptor set" in capsys.readouterr().err
