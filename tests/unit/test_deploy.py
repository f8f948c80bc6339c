"""What can be known of the Compose file and the image without a container engine."""

from __future__ import annotations

import http.server
import importlib.resources
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import jsonschema
import pytest

from msemon.baseline_file import BaselineFile
from msemon.demo import baselines
from msemon.demo.__main__ import _drift as drift_of
from msemon.demo.__main__ import _parser as fleet_options
from msemon.settings import Settings, load
from support.compose import DEPLOY, ROOT, compose, instructions, project, services, words

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.-]+)?$")
DOCKERFILE = instructions(DEPLOY / "docker" / "Dockerfile")
LAST_STAGE = DOCKERFILE[max(i for i, (name, _) in enumerate(DOCKERFILE) if name == "FROM") :]
NAMES = sorted(services())


def test_the_compose_file_follows_the_compose_specification() -> None:
    schemas = importlib.resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(schemas.joinpath("compose-spec.json").read_text(encoding="utf-8"))
    assert {"services", "volumes"} <= schema["properties"].keys()
    jsonschema.validate(compose(), schema)


@pytest.mark.parametrize("name", NAMES)
def test_every_service_says_how_its_health_is_asked(name: str) -> None:
    check = services()[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_service_waits_until_what_it_needs_is_healthy(name: str) -> None:
    for other, how in services()[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in services()[other]


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_pinned_to_one_version(name: str) -> None:
    assert PINNED.match(services()[name]["image"])


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_no_rights_it_does_not_need(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) or name == "kafka"  # its start script writes into the image's root


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_mount_is_a_volume_of_its_own_or_a_file_of_this_tree() -> None:
    mounts = [mount.split(":") for service in services().values() for mount in service.get("volumes", [])]
    named = [source for source, *_ in mounts if not source.startswith(".")]
    assert sorted(named) == sorted(compose()["volumes"])
    for source, _, mode in (mount for mount in mounts if mount[0].startswith(".")):
        assert (ROOT / source).exists(), source
        assert mode == "ro"


def daemon_settings() -> Settings:
    """The Compose file's, but for the place of the baseline file, which is the container's."""
    return load(environ=services()["msemon"]["environment"] | {"MSEMON_BASELINE__FILE": str(baselines.FILE)})


def test_the_daemon_runs_with_the_settings_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = daemon_settings()
    assert not settings.warnings
    assert settings.kafka.bootstrap_servers == load({"kafka.bootstrap-servers": "kafka:9092"}).kafka.bootstrap_servers
    assert [list(dimension) for dimension in settings.segments] == [["country"], ["device"]]


def test_state_is_kept_in_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = next(rest for name, rest in LAST_STAGE if name == "WORKDIR")
    assert not Path(daemon_settings().state.path).is_absolute()
    assert f"msemon-state:{work}" in services()["msemon"]["volumes"]


def test_the_daemon_is_given_the_fleets_baselines() -> None:
    given = services()["msemon"]["environment"]["MSEMON_BASELINE__FILE"]
    assert f"./{baselines.FILE.relative_to(ROOT)}:{given}:ro" in services()["msemon"]["volumes"]
    found = BaselineFile(str(baselines.FILE), 1.1).changed()
    assert found is not None
    dimensions = {",".join(keys) for keys in json.loads(services()["msemon"]["environment"]["MSEMON_SEGMENTS"])}
    assert dimensions < {key.dimension for key in found}


def test_every_file_that_a_service_is_told_of_is_mounted_there() -> None:
    """What stands in a command or the environment as a path of /etc is a file of this tree, or a directory of it."""
    told = 0
    for name, service in services().items():
        mounts = [mount.split(":")[:2] for mount in service.get("volumes", []) if mount.startswith(".")]
        words = [*service.get("command", []), *map(str, service.get("environment", {}).values())]
        for path in (match for word in words for match in re.findall(r"/etc/[\w./-]+", word)):
            sources = [ROOT / source / path[len(at) :].lstrip("/") for source, at in mounts if path.startswith(at)]
            assert any(source.exists() for source in sources), f"{name}: {path}"
            told += 1
    assert told >= 4


def test_the_fleet_is_called_as_it_can_be() -> None:
    service = services()["fleet"]
    assert service["entrypoint"] == ["python", "-m", "msemon.demo"]
    options = fleet_options().parse_args(service["command"])
    assert options.bootstrap == "kafka:9092"
    drift = drift_of(options)
    keeps_s = 30 * 60  # an alert after its alarm: the rule looks back 15 minutes, and keeps firing for as long
    assert drift.every_s > drift.for_s + keeps_s


def test_kafkas_listeners_are_whole() -> None:
    environment = services()["kafka"]["environment"]
    listeners = dict(part.split("://") for part in environment["KAFKA_LISTENERS"].split(","))
    protocols = dict(part.split(":") for part in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    advertised = dict(part.split("://") for part in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    controller = environment["KAFKA_CONTROLLER_LISTENER_NAMES"]
    assert listeners.keys() == protocols.keys()
    assert advertised.keys() == listeners.keys() - {controller}
    assert all(address.endswith(listeners[name]) for name, address in advertised.items())
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@kafka{listeners[controller]}"
    assert advertised["INSIDE"] == services()["msemon"]["environment"]["MSEMON_KAFKA__BOOTSTRAP_SERVERS"]
    assert advertised["INSIDE"] in services()["fleet"]["command"]


def test_the_image_is_this_version() -> None:
    labels = dict(word.split("=", 1) for name, rest in LAST_STAGE if name == "LABEL" for word in words(rest))
    assert labels["org.opencontainers.image.version"] == project()["version"]
    assert labels["org.opencontainers.image.licenses"] == project()["license"]
    assert labels["org.opencontainers.image.base.name"] == LAST_STAGE[0][1]
    assert services()["msemon"]["image"] == services()["fleet"]["image"] == f"msemon:{project()['version']}"


def test_both_stages_stand_on_one_pinned_base() -> None:
    bases = [rest.split()[0] for name, rest in DOCKERFILE if name == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert PINNED.match(bases[0])


def test_the_image_runs_the_daemon_as_a_numeric_user_that_is_not_root() -> None:
    last = dict(LAST_STAGE)
    assert last["USER"] == "10673:10673"
    assert words(last["ENTRYPOINT"]) == ["msemon"]
    assert words(last["CMD"]) == ["run"]
    assert LAST_STAGE.index(("USER", last["USER"])) > max(
        i for i, (name, _) in enumerate(LAST_STAGE) if name in {"RUN", "COPY"}
    )


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    sources = [
        source for name, rest in DOCKERFILE if name == "COPY" and "--from" not in rest for source in words(rest)[:-1]
    ]
    assert sorted(sources) == sorted(kept)
    assert all((ROOT / source).exists() for source in sources)
    assert not any(fnmatch("msemon", rule) for rule in rules[1:] if not rule.startswith("!"))


def test_the_image_takes_nothing_from_elsewhere_that_is_not_locked() -> None:
    """Each installation asks for hashes, or takes the wheel just made and looks nowhere."""
    commands = [command for name, rest in DOCKERFILE if name == "RUN" for command in rest.split("&&")]
    installs = [words(command) for command in commands if " pip " in command]
    assert len(installs) == 4
    assert all({"--require-hashes", "--no-index", "--no-build-isolation"} & set(install) for install in installs)


def health_checks() -> list[list[str]]:
    """The commands that ask for the daemon's health: the image's and the Compose file's."""
    image = next(rest for name, rest in DOCKERFILE if name == "HEALTHCHECK")
    return [words(image[image.index("CMD ") + 4 :]), services()["msemon"]["healthcheck"]["test"][1:]]


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_succeeds_only_while_the_daemon_is_healthy(status: int) -> None:
    for command in health_checks():
        assert command[:2] == ["python", "-c"]
        assert "http://127.0.0.1:10673/-/healthy" in command[2]
        with answering(status) as port:
            code = command[2].replace(":10673/", f":{port}/")
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)
        assert (done.returncode == 0) == (status == 200)


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on the port it gives that answers every GET with this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(timeout=5)
