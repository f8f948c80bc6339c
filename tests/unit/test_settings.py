"""Settings: their places and precedence, their mistakes, their secrets."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from msemon.decoding.fields import NAMES, parse_fields
from msemon.export.families import PER_MODEL
from msemon.settings import KEYS, Duration, Settings, SettingsError, load, split_address, to_toml
from msemon.settings.names import EVENT_FIELDS, MODEL_METRICS, SEGMENT_METRICS

PASSWORD = "geheim-4711"
SASL = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "PLAIN", "kafka.sasl_username": "ada"}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No msemon.toml and no /run/secrets of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("msemon.settings.loading.DEFAULT_SECRETS", tmp_path / "no-secrets")


def mistakes(
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    secrets_dir: Path | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, config, secrets_dir, environ or {})
    assert all("\n" not in line for line in caught.value.mistakes)
    return caught.value.mistakes


def mistake(flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> str:
    lines = mistakes(flags, environ)
    assert len(lines) == 1, lines
    return lines[0]


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "given.toml"
    path.write_text(text)
    return path


class TestValues:
    def test_defaults_are_the_contracts(self) -> None:
        """Without any setting the defaults of the contract are in force, durations in seconds."""
        settings = load(environ={})
        assert settings.kafka.topics == ["predictions", "labels"]
        assert (settings.join.timeout, settings.join.memory, settings.join.max_pending) == (86400.0, 600.0, 5_000_000)
        assert [(window.name, window.seconds) for window in settings.windows.lengths] == [
            ("5m", 300.0), ("1h", 3600.0), ("24h", 86400.0),
        ]  # fmt: skip
        assert (settings.segments, settings.web.address) == ([], "0.0.0.0:10673")
        assert settings.drift.mean_time_between_false_alarms == 365 * 86400.0
        assert settings.warnings == []

    @pytest.mark.parametrize(
        ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604800), ("1h30m", 5400), ("1d1s", 86401)]
    )
    def test_durations(self, text: str, seconds: float) -> None:
        """A duration is seconds and keeps its text as its name."""
        timeout = load({"join.timeout": text}, environ={}).join.timeout
        assert timeout == seconds
        assert timeout.name == text

    @pytest.mark.parametrize("text", ["90", "500ms", "1.5h", "-5m", "5 m", "", "m", "5m1h", "5y", "٥m", "40000d"])
    def test_no_durations(self, text: str) -> None:
        """What is no whole number of seconds, minutes, hours or days is refused with an example."""
        line = mistake({"join.timeout": text})
        assert line.startswith(f"join.timeout = {json.dumps(text)}: expected a duration")
        assert line.endswith("(from --join.timeout)")

    def test_a_bare_number_is_no_duration(self, tmp_path: Path) -> None:
        """A TOML number has no unit, so it is refused."""
        (line,) = mistakes(config=file(tmp_path, "[join]\ntimeout = 90"))
        assert line.startswith("join.timeout = 90: expected a duration in quotes")

    @pytest.mark.parametrize(
        ("text", "policy", "time_us", "ago_s"),
        [
            ("latest", "latest", 0, 0),
            ("earliest", "earliest", 0, 0),
            ("6h", "ago", 0, 21600),
            ("2026-01-31T08:00:00Z", "time", 1_769_846_400_000_000, 0),
            ("2026-01-31t10:00:00.000001+02:00", "time", 1_769_846_400_000_001, 0),
        ],
    )
    def test_start(self, text: str, policy: str, time_us: int, ago_s: float) -> None:
        """`kafka.start` is latest, earliest, an RFC 3339 time or a duration back from now."""
        start = load({"kafka.start": text}, environ={}).kafka.start
        assert (start.policy, start.time_us, start.ago_s) == (policy, time_us, ago_s)

    def test_start_as_a_toml_time(self, tmp_path: Path) -> None:
        """A TOML date-time without quotes is a time too."""
        config = file(tmp_path, "[kafka]\nstart = 2026-01-31T08:00:00Z")
        assert load(config=config, environ={}).kafka.start.time_us == 1_769_846_400_000_000

    @pytest.mark.parametrize(
        "text",
        [
            "now",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "2026-02-30T08:00:00Z",
            "1969-01-01T00:00:00Z",
            "20260131T080000Z",
        ],
    )
    def test_no_start(self, text: str) -> None:
        """A time without an offset, one that does not exist and any other text are refused."""
        assert mistake({"kafka.start": text}).startswith(f'kafka.start = "{text}": expected ')

    @pytest.mark.parametrize(
        ("text", "parts"),
        [("0.0.0.0:10673", ("0.0.0.0", 10673)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
    )
    def test_addresses(self, text: str, parts: tuple[str, int]) -> None:
        """An address is host:port, an IPv6 host in brackets."""
        assert split_address(text) == parts
        assert load({"web.address": text}, environ={}).web.address == text

    @pytest.mark.parametrize("text", ["10673", "localhost", "::1:80", "a:65536", "a:-1", "http://a:80", "a b:80", ""])
    def test_no_addresses(self, text: str) -> None:
        """Anything else is no address."""
        assert "expected host:port" in mistake({"web.address": text})


class TestPlaces:
    def test_precedence(self, tmp_path: Path) -> None:
        """File < secrets directory < environment < flags."""
        config = file(tmp_path, '[kafka]\ngroup_id = "file"\n')
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        environ: dict[str, str] = {}
        flags: dict[str, str] = {}

        def group() -> str:
            return load(flags, config, secrets, environ).kafka.group_id

        assert group() == "file"
        (secrets / "msemon_kafka__group_id").write_text("secret\n")
        assert group() == "secret"
        environ["MSEMON_KAFKA__GROUP_ID"] = "environment"
        assert group() == "environment"
        flags["kafka.group-id"] = "flag"
        assert group() == "flag"

    def test_a_later_table_replaces_an_earlier_one(self, tmp_path: Path) -> None:
        """Precedence is per setting: tables are not merged, other keys of the section stay."""
        config = file(tmp_path, '[format]\nfields = {id = "a"}\n[kafka]\ngroup_id = "x"\ntopics = ["t"]')
        settings = load(
            config=config, environ={"MSEMON_FORMAT__FIELDS": '{"label": "b"}', "MSEMON_KAFKA__TOPICS": '["u"]'}
        )
        assert settings.format.fields == {"label": "b"}
        assert (settings.kafka.group_id, settings.kafka.topics) == ("x", ["u"])

    @pytest.mark.parametrize("place", ["environment", "flag"])
    def test_lists_are_json(self, place: str) -> None:
        """Lists in the environment and in flags are JSON."""
        text = '[["country"], ["country", "tier"]]'
        environ = {"MSEMON_SEGMENTS": text} if place == "environment" else {}
        flags = {"segments": text} if place == "flag" else {}
        assert load(flags, environ=environ).segments == [["country"], ["country", "tier"]]

    def test_a_section_may_be_json(self) -> None:
        """A whole section is a table, so JSON too; a key of it set by name wins."""
        environ = {"MSEMON_JOIN": '{"timeout": "2h", "memory": "1m"}', "MSEMON_JOIN__MEMORY": "3m"}
        join = load(environ=environ).join
        assert (join.timeout, join.memory) == (7200.0, 180.0)

    @pytest.mark.parametrize("text", ["a,b", "[", "5", '"predictions"', "[" * 100_000])
    def test_no_json(self, text: str) -> None:
        """A list that is no JSON, or no list, is one mistake with an example or what was expected."""
        line = mistake({"kafka.topics": text})
        assert line.startswith("kafka.topics = ")
        assert len(line) < 400

    def test_the_default_file(self, tmp_path: Path) -> None:
        """`msemon.toml` in the working directory is read where it exists."""
        (tmp_path / "msemon.toml").write_text('[kafka]\ngroup_id = "here"')
        settings = load(environ={})
        assert settings.kafka.group_id == "here"
        assert settings.origins == {"kafka.group_id": "msemon.toml"}

    def test_places_named_by_the_environment(self, tmp_path: Path) -> None:
        """MSEMON_CONFIG and MSEMON_SECRETS_DIR stand for the two flags."""
        (tmp_path / "msemon_join__timeout").write_text("3h")
        config = file(tmp_path, '[join]\nmemory = "4m"')
        join = load(environ={"MSEMON_CONFIG": str(config), "MSEMON_SECRETS_DIR": str(tmp_path)}).join
        assert (join.timeout, join.memory) == (10800.0, 240.0)

    def test_the_default_secrets_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """/run/secrets counts without being named, but only its files that begin with msemon_."""
        monkeypatch.setattr("msemon.settings.loading.DEFAULT_SECRETS", tmp_path)
        (tmp_path / "other_password").write_text("x")
        assert load(environ={}) == Settings()
        (tmp_path / "msemon_kafka__group_id").write_text("g")
        assert load(environ={}).kafka.group_id == "g"

    def test_empty_text_takes_an_optional_setting_back(self, tmp_path: Path) -> None:
        """An optional setting of the file can be unset by an empty variable."""
        config = file(tmp_path, '[kafka]\ndead_letter_topic = "dead"')
        assert load(config=config, environ={}).kafka.dead_letter_topic == "dead"
        assert load(config=config, environ={"MSEMON_KAFKA__DEAD_LETTER_TOPIC": ""}).kafka.dead_letter_topic is None

    @pytest.mark.parametrize("key", [name for name, key in KEYS.items() if key.info.get_default() is None])
    def test_every_optional_setting_may_be_empty(self, key: str) -> None:
        """Empty text is none for all that may be unset."""
        assert load({key: ""}, environ={}).model_dump() == Settings().model_dump()

    @pytest.mark.parametrize("key", KEYS)
    def test_every_setting_has_a_variable_and_a_flag(self, key: str) -> None:
        """Every setting can be given by variable and by flag: an impossible value is a mistake that names either."""
        impossible = "[0"
        if KEYS[key].kind == "TEXT" and mistake_free(key, impossible):
            return
        assert mistake({key: impossible}).endswith(f"(from --{key.replace('_', '-')})")
        variable = "MSEMON_" + key.upper().replace(".", "__")
        assert mistake(environ={variable: impossible}).endswith(f"(from {variable})")


def mistake_free(key: str, text: str) -> bool:
    """Texts without a form take any value: then it must arrive."""
    section, _, name = key.partition(".")
    try:
        value = getattr(getattr(load({key: text}, environ={}), section), name)
    except SettingsError:
        return False
    assert value == text
    return True


class TestUnknownNames:
    def test_in_the_file(self, tmp_path: Path) -> None:
        """An unknown key or section of the file is a mistake that names the nearest."""
        lines = mistakes(config=file(tmp_path, '[kafka]\ntopic = ["a"]\n[windos]\npanes = 3\n'))
        assert lines[0].startswith("kafka.topic: unknown setting; did you mean kafka.topics? (from ")
        assert lines[1].startswith("windos: unknown section; did you mean windows? (from ")

    def test_in_flags(self) -> None:
        """An unknown flag is a mistake that names the nearest."""
        assert mistake({"kafka.bootstrap": "a:1"}) == (
            "--kafka.bootstrap: unknown flag; did you mean --kafka.bootstrap-servers?"
        )

    def test_in_the_secrets_directory(self, tmp_path: Path) -> None:
        """An unknown file is a mistake where its name begins with msemon_, else it is not ours."""
        (tmp_path / "msemon_kafka__sasl_pasword").write_text(PASSWORD)
        (tmp_path / "postgres_password").write_text(PASSWORD)
        (line,) = mistakes(secrets_dir=tmp_path)
        assert line == (
            "msemon_kafka__sasl_pasword: unknown setting; did you mean msemon_kafka__sasl_password?"
            f" (from secrets directory {tmp_path})"
        )

    def test_in_the_environment(self) -> None:
        """An unknown variable is a warning that names the nearest, for it may be meant for something else."""
        settings = load(environ={"MSEMON_KAFKA_GROUP_ID": "x", "OTHER": "y"})
        assert settings.warnings == ["MSEMON_KAFKA_GROUP_ID: no such setting; did you mean MSEMON_KAFKA__GROUP_ID?"]
        assert settings.kafka.group_id == "msemon"

    def test_service_links_are_not_warned_of(self) -> None:
        """What Kubernetes sets for a Service named msemon is no setting of ours."""
        environ = {
            "MSEMON_SERVICE_HOST": "10.0.0.7",
            "MSEMON_SERVICE_PORT": "10673",
            "MSEMON_SERVICE_PORT_METRICS": "10673",
            "MSEMON_PORT": "tcp://10.0.0.7:10673",
            "MSEMON_PORT_10673_TCP": "tcp://10.0.0.7:10673",
            "MSEMON_PORT_10673_TCP_ADDR": "10.0.0.7",
            "MSEMON_EU_SERVICE_HOST": "10.0.0.8",
        }
        assert load(environ=environ).warnings == []
        assert load(environ={"MSEMON_PORT": "10673"}).warnings != []


class TestMistakes:
    def test_all_at_once(self, tmp_path: Path) -> None:
        """Every mistake of every place is reported, each with its setting, value, place and what is expected."""
        config = file(tmp_path, '[join]\ntimeout = "soon"\n[limits]\nseries = 0\n[nope]\n')
        lines = mistakes({"windows.panes": "many", "foo.bar": "1"}, {"MSEMON_KAFKA__TOPICS": "[]"}, config)
        assert sorted(lines) == sorted([
            f"nope: unknown section (from {config})",
            "--foo.bar: unknown flag",
            f'join.timeout = "soon": expected a duration such as 90s, 5m, 1h30m or 7d (from {config})',
            f"limits.series = 0: expected more than 0 (from {config})",
            'windows.panes = "many": expected a whole number (from --windows.panes)',
            "kafka.topics = []: expected a list that is not empty (from MSEMON_KAFKA__TOPICS)",
        ])  # fmt: skip

    def test_inside_a_list(self) -> None:
        """A mistake inside a list says which item."""
        assert mistake({"windows.lengths": '["5m", "x"]'}).startswith('windows.lengths[1] = "x": expected a duration')

    def test_toml_syntax(self, tmp_path: Path) -> None:
        """A file that is no TOML is one line with the place in it."""
        config = file(tmp_path, "[kafka]\ntopics = \n")
        (line,) = mistakes(config=config)
        assert line.startswith(f"{config}: expected TOML: ")
        assert "line" in line

    def test_files_that_can_not_be_read(self, tmp_path: Path) -> None:
        """A file or secrets directory that is named but missing is one line each, saying what named it."""
        lines = mistakes(config=tmp_path / "no.toml", secrets_dir=tmp_path / "no")
        assert lines == [
            f"{tmp_path}/no.toml: can't be read: No such file or directory (from --config)",
            f"{tmp_path}/no: can't be read: No such file or directory (from --secrets-dir)",
        ]
        assert mistake(environ={"MSEMON_CONFIG": str(tmp_path)}).endswith("Is a directory (from MSEMON_CONFIG)")

    def test_not_utf8(self, tmp_path: Path) -> None:
        """Bytes that are no UTF-8 are one line, in the file and in a secret."""
        config = tmp_path / "latin.toml"
        config.write_bytes(b'[kafka]\ngroup_id = "\xe4"')
        (tmp_path / "msemon_kafka__group_id").write_bytes(b"\xe4")
        first, second = mistakes(config=config, secrets_dir=tmp_path)
        assert first.endswith("expected UTF-8: byte 20 is not")
        assert second.startswith("kafka.group_id: the file msemon_kafka__group_id can't be read: not UTF-8")

    @pytest.mark.parametrize(
        ("key", "text", "expected"),
        [
            ("kafka.topics", '["a", "a"]', "expected each topic once; a is repeated"),
            ("kafka.topics", '[""]', "expected a text that is not empty"),
            ("kafka.bootstrap_servers", "broker", "expected host:port"),
            ("kafka.bootstrap_servers", "a:1,,b:2", "expected host:port"),
            ("kafka.group_id", " ", "expected a text that is not empty"),
            ("kafka.security_protocol", "SASL", "expected 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
            ("kafka.sasl_username", "ada", "expected none where kafka.security_protocol is PLAINTEXT"),
            ("kafka.dead_letter_topic", "labels", "expected a topic that is not among kafka.topics"),
            ("kafka.client_options", '{"enable_auto_commit": true}', "not enable_auto_commit"),
            ("kafka.client_options", '{"x": null}', "expected text, a number, true or false for x"),
            ("format.fields", '{"ident": "a"}', "expected the names id, model, version"),
            ("format.fields", '{"id": ""}', "expected a path such as request.id"),
            ("format.fields", '{"id": "a..b"}', "expected a path such as request.id"),
            ("format.fields", '{"id": "x", "label": "x"}', "expected a place of its own for each field"),
            ("format.fields", '{"id": "prediction.id"}', "but id lies in that of prediction"),
            ("join.timeout", "0s", "expected a duration longer than 0s"),
            ("join.max_pending", "0", "expected more than 0"),
            ("windows.lengths", "[]", "expected a list that is not empty"),
            ("windows.lengths", '["60s", "1m"]', "expected each length once; 1m is repeated"),
            ("windows.lengths", '["0s"]', "expected a duration longer than 0s"),
            ("windows.panes", "0", "expected more than 0"),
            ("windows.panes", "1001", "expected at most 1,000"),
            ("windows.panes", "7", "expected a number of panes that cuts 5m into whole microseconds"),
            ("windows.clock", "wall", "expected 'observed' or 'predicted'"),
            ("segments", "[[]]", "expected at least one key"),
            ("segments", '[["a", "a"]]', "expected each key of a dimension once"),
            ("segments", '[["a", "b"], ["b", "a"]]', "expected each dimension once"),
            ("segments", '[["a,b"]]', "expected keys without commas"),
            ("segments", '["a"]', "expected a list"),
            ("limits.label_length", "9", "expected at least 10"),
            ("limits.vector_length", "-1", "expected more than 0"),
            ("drift.tolerated_ratio", "1", "expected more than 1"),
            ("drift.tolerated_ratio", "inf", "expected a finite number"),
            ("drift.enabled", "maybe", "expected true or false"),
            ("web.health_address", "0.0.0.0:10673", "expected another address than web.address"),
            ("export.metrics", '["mse", "rsme"]', "expected names of metrics without a prefix, not rsme"),
        ],
    )
    def test_refused(self, key: str, text: str, expected: str) -> None:
        """Values that can't work are refused, naming the setting and what is expected."""
        line = mistake({key: text})
        assert line.startswith(key)
        assert expected in line

    @pytest.mark.parametrize(
        "path",
        ["a", "a.b", r"a\.b.c", r"a\\", r"a\\.b", "", ".", "a.", ".a", "a..b", "a\\", r"a\b", "ü\n.x", "label.x", "ts"],
    )
    def test_paths_are_judged_as_decoding_does(self, path: str) -> None:
        """A path of `format.fields` is a mistake exactly where the decoder could not use it."""
        try:
            parse_fields({"id": path})
        except ValueError:
            assert mistake({"format.fields": json.dumps({"id": path})}).startswith("format.fields")
        else:
            assert load({"format.fields": json.dumps({"id": path})}, environ={}).format.fields == {"id": path}

    def test_names_are_those_of_the_modules_that_use_them(self) -> None:
        """Event fields and metric names that settings accept are the ones decoding and export know."""
        assert set(EVENT_FIELDS) == set(NAMES)
        assert set(MODEL_METRICS) == {family.short for family in PER_MODEL}
        assert set(SEGMENT_METRICS) == {family.short for family in PER_MODEL if family.segments}

    def test_true_is_no_number(self, tmp_path: Path) -> None:
        """A TOML boolean is no count."""
        (line,) = mistakes(config=file(tmp_path, "[limits]\nmodels = true"))
        assert line.startswith("limits.models = true: expected a number")

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("kafka.sasl_mechanism", "GSSAPI"),
        ],
    )
    def test_not_in_this_version(self, key: str, text: str) -> None:
        """What the contract promises and this version does not do is refused, not ignored."""
        assert any("not in this version" in line and line.startswith(key) for line in mistakes({key: text}))

    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ({"encoding": "avro"}, "schema_registry_url = null: expected an address"),
            ({"schema_registry_url": "http://a"}, "schema_registry_url"),
            ({"encoding": "avro", "schema_registry_url": "ftp://a"}, "expected an address such as"),
            ({"encoding": "avro", "schema_registry_url": "http://a:x"}, "schema_registry_url"),
            ({"encoding": "avro", "schema_registry_url": "http://u:p@a"}, "expected an address without a user"),
            (
                {"encoding": "avro", "schema_registry_url": "http://a", "schema_registry_certfile": __file__},
                "expected none where format.schema_registry_url is not https",
            ),
            (
                {"encoding": "avro", "schema_registry_url": "https://a", "schema_registry_keyfile": __file__},
                "expected format.schema_registry_certfile too",
            ),
            ({"schema_registry_username": "u"}, "expected none where format.schema_registry_url is not set"),
            (
                {"encoding": "avro", "schema_registry_url": "http://a", "schema_registry_username": "u"},
                "expected user and password together",
            ),
            ({"encoding": "protobuf"}, "expected a value where format.encoding is protobuf"),
            ({"messages": '{"labels": "a.B"}'}, "expected none where format.encoding is json"),
        ],
    )
    def test_what_an_encoding_needs(self, given: dict[str, str], line: str) -> None:
        """What it does not work without is asked for, what it has no use for is refused."""
        found = mistakes({f"format.{name}": value for name, value in given.items()})
        assert any(line in each and each.startswith("format.") for each in found), found

    def test_values_can_not_break_a_line(self) -> None:
        """Line ends and control characters in a value are escaped and long values are cut."""
        line = mistake({"join.timeout": "\n\x1b[31m" + "x" * 10_000})
        assert "\x1b" not in line
        assert len(line) < 300


class TestSecrets:
    def test_never_shown(self) -> None:
        """The password is in no representation, print or mistake."""
        settings = load({**SASL, "kafka.sasl_password": PASSWORD}, environ={})
        assert settings.kafka.sasl_password is not None
        assert settings.kafka.sasl_password.get_secret_value() == PASSWORD
        assert PASSWORD not in f"{settings!r} {settings} {to_toml(settings)} {settings.model_dump_json()}"
        assert PASSWORD not in mistake({"kafka.sasl_password": PASSWORD})
        assert PASSWORD not in mistake({"kafka": f'{{"sasl_password": "{PASSWORD}"'})

    def test_wrong_type_of_a_secret_is_not_shown(self, tmp_path: Path) -> None:
        """A password of the wrong type is a mistake without its value."""
        (line,) = mistakes(SASL, config=file(tmp_path, "[kafka]\nsasl_password = 4711"))
        assert line.startswith("kafka.sasl_password: expected text")
        assert "4711" not in line

    def test_client_options_are_masked(self) -> None:
        """Client options that sound like secrets are masked, and none is shown in a mistake."""
        settings = load({"kafka.client_options": '{"ssl_password": "geheim-4711", "client_rack": "a"}'}, environ={})
        assert '{ssl_password = "**********", client_rack = "a"}' in to_toml(settings)
        assert PASSWORD not in mistake({"kafka.client_options": '{"ssl_password": ["geheim-4711"]}'})
        assert PASSWORD not in mistake({"kafka.client_options": '{"ssl_password": "geheim-4711"'})

    def test_addresses_lose_their_password(self) -> None:
        """Credentials inside an address are masked in a mistake."""
        line = mistake({"format.schema_registry_url": f"https://ada:{PASSWORD}@registry"})
        assert PASSWORD not in line

    def test_a_file_ends_with_a_newline(self, tmp_path: Path) -> None:
        """The line end at the end of a secret's file is no part of it; spaces are."""
        (tmp_path / "msemon_kafka__sasl_password").write_text(f" {PASSWORD} \n")
        password = load(SASL, secrets_dir=tmp_path, environ={}).kafka.sasl_password
        assert password is not None
        assert password.get_secret_value() == f" {PASSWORD} "

    def test_certificates(self, tmp_path: Path) -> None:
        """Certificate files must exist and need an SSL protocol."""
        pem = tmp_path / "ca.pem"
        pem.write_text("")
        flags = {"kafka.ssl_cafile": str(pem), "kafka.security_protocol": "SSL"}
        assert load(flags, environ={}).kafka.ssl_cafile == str(pem)
        assert "expected a file that exists" in mistake(flags | {"kafka.ssl_cafile": f"{pem}.no"})
        assert "expected none where kafka.security_protocol is PLAINTEXT" in mistake({"kafka.ssl_cafile": str(pem)})

    def test_sasl_needs_its_three(self) -> None:
        """A SASL protocol without mechanism, user and password is a mistake for each of them."""
        lines = mistakes({"kafka.security_protocol": "SASL_SSL"})
        assert [line.split(":")[0] for line in lines] == [
            "kafka.sasl_mechanism = null", "kafka.sasl_username = null", "kafka.sasl_password",
        ]  # fmt: skip

    def test_what_goes_unencrypted_must_be_allowed(self) -> None:
        """Passwords to a broker without TLS, and a client's secret to a token endpoint without."""
        plain = SASL | {"kafka.security_protocol": "SASL_PLAINTEXT", "kafka.sasl_password": PASSWORD}
        assert "kafka.sasl_over_plaintext = false: expected true" in mistake(plain)
        assert load(plain | {"kafka.sasl_over_plaintext": "true"}, environ={}).kafka.sasl_over_plaintext
        token = SASL | {"kafka.sasl_mechanism": "OAUTHBEARER", "kafka.sasl_password": PASSWORD}
        http = token | {"kafka.sasl_token_url": "http://example.org/token"}
        assert "expected https://, or kafka.sasl_over_plaintext" in mistake(http)
        assert load(http | {"kafka.sasl_over_plaintext": "true"}, environ={}).kafka.sasl_token_url is not None
        assert load(token | {"kafka.sasl_token_url": "https://example.org"}, environ={}).kafka.sasl_token_scope is None

    @pytest.mark.parametrize("url", ["ftp://a", "example.org/token", "https://", "https://me:x@a/", "file:///etc/passwd"])
    def test_a_token_endpoint_is_an_address_without_secrets(self, url: str) -> None:
        """Else the client would try anything urllib knows, and show what it should hide."""
        given = SASL | {"kafka.sasl_mechanism": "OAUTHBEARER", "kafka.sasl_password": PASSWORD}
        assert "expected an address that begins with https://" in mistake(given | {"kafka.sasl_token_url": url})

    def test_a_token_needs_no_user_and_other_mechanisms_no_endpoint(self) -> None:
        token = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "OAUTHBEARER"}
        assert load(token | {"kafka.sasl_password": PASSWORD}, environ={}).kafka.sasl_username is None
        named = token | {"kafka.sasl_username": "ada", "kafka.sasl_password": "x"}
        assert "the token says who we are" in mistake(named)
        password = SASL | {"kafka.sasl_password": PASSWORD}
        assert "is not OAUTHBEARER" in mistake(password | {"kafka.sasl_token_url": "https://example.org"})
        lonely = token | {"kafka.sasl_password": "x", "kafka.sasl_token_scope": "kafka"}
        assert "there is no kafka.sasl_token_url" in mistake(lonely)

    def test_a_key_needs_its_certificate(self, tmp_path: Path) -> None:
        """Alone it would be left out without a word."""
        key = tmp_path / "key.pem"
        key.write_text("")
        flags = {"kafka.security_protocol": "SSL", "kafka.ssl_keyfile": str(key)}
        assert "expected kafka.ssl_certfile too" in mistake(flags)

    @pytest.mark.parametrize("option", ["ssl_check_hostname", "ssl_context", "sasl_oauth_token_provider"])
    def test_what_keeps_a_connection_safe_has_a_setting_or_no_switch(self, option: str) -> None:
        assert "expected options that msemon does not set itself" in mistake(
            {"kafka.client_options": f'{{"{option}": false}}'}
        )


class TestPrint:
    def test_round_trip(self, tmp_path: Path) -> None:
        """What --print-config prints is a file that gives the same settings."""
        flags = {
            "segments": '[["country"], ["country", "tier \\" ü"]]',
            "kafka.client_options": '{"fetch_max_bytes": 5, "a b": "c", "check_crcs": false, "x": 1.5}',
            "kafka.start": "2026-01-31T08:00:00Z",
            "kafka.dead_letter_topic": 'de"ad\\\u007f\u0001',
            "format.fields": '{"id": "request.id", "ts": "at"}',
            "windows.lengths": '["90s", "1h30m"]',
            "join.memory": "0s",
            "drift.tolerated_ratio": "1.25",
            "drift.enabled": "false",
            "export.metrics": '["mse"]',
            "web.health_address": "[::1]:0",
        }
        settings = load(flags, environ={})
        assert load(config=file(tmp_path, to_toml(settings)), environ={}).model_dump() == settings.model_dump()

    def test_every_setting_is_printed(self) -> None:
        """Every key stands in the output, the unset ones as comments."""
        text = to_toml(Settings())
        tables = tomllib.loads(text)
        printed = {f"{section}.{key}" for section, table in tables.items() if isinstance(table, dict) for key in table}
        unset = {key for key in KEYS if key not in printed | tables.keys()}
        assert all(f"# {key.partition('.')[2]} is not set" in text for key in unset)
        assert {key for key in unset if KEYS[key].info.get_default() is not None} == set()

    def test_the_mask_is_no_password(self, tmp_path: Path) -> None:
        """A masked secret fed back is ignored with a warning, so that its true place still counts."""
        first = load({**SASL, "kafka.sasl_password": PASSWORD}, environ={})
        config = file(tmp_path, to_toml(first))
        again = load(config=config, environ={"MSEMON_KAFKA__SASL_PASSWORD": PASSWORD})
        assert again.model_dump() == first.model_dump()
        assert again.warnings == [
            f"kafka.sasl_password: the mask that --print-config prints is ignored (from {config})"
        ]
        assert any(line.startswith("kafka.sasl_password: expected a value") for line in mistakes(config=config))

    def test_a_duration_is_a_float(self) -> None:
        """Durations calculate as seconds and print as they were written."""
        assert Duration("1h30m") / 2 == 2700.0
        assert str(Duration("1h30m")) == "1h30m"
