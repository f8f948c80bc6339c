"""The rules for Prometheus and Alertmanager's configuration: accepted by their own tools, and each rule tried."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from msemon.export import families
from support import alerting
from support.compose import DEPLOY, ROOT, read_yaml, services
from support.tools import AMTOOL, PROMTOOL, needs

RULE_TESTS = sorted((ROOT / "tests" / "rules").glob("*.yml"))
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
ALERTS = alerting.alerts()
RECORDS = alerting.records()
RAW = re.compile(r"(?<![\w:])msemon_\w+(?![\w:])")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def kinds() -> dict[str, str]:
    """The kind of every family that is exported, by its name."""
    return {family.name: family.kind for family in families.FAMILIES}


# The rules.


def test_promtool_accepts_the_rules() -> None:
    done = run(needs(PROMTOOL), "check", "rules", str(alerting.RECORDS), str(alerting.ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(\d+) rules found", done.stdout) == [str(len(RECORDS)), str(len(ALERTS))]


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_every_rule_does_what_its_tests_say(file: Path) -> None:
    done = run(needs(PROMTOOL), "test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def tried() -> Iterator[tuple[str, bool]]:
    """Of every alert that a test asks for: its name, and whether it should fire."""
    for file in RULE_TESTS:
        for test in read_yaml(file)["tests"]:
            yield from ((each["alertname"], bool(each["exp_alerts"])) for each in test.get("alert_rule_test", ()))


def test_every_alert_is_tried_firing_and_silent() -> None:
    assert set(tried()) == {(name, fires) for name in ALERTS for fires in (True, False)}


def test_every_record_is_tried_or_part_of_what_is() -> None:
    tests = [test for file in RULE_TESTS for test in read_yaml(file)["tests"]]
    texts = [each["expr"] for test in tests for each in test.get("promql_expr_test", ())]
    texts += [rule["expr"] for rule in ALERTS.values()]
    seen: set[str] = set()
    while texts:
        new = {name for name in RECORDS if any(name in text for text in texts)} - seen
        seen |= new
        texts = [RECORDS[name]["expr"] for name in new]
    assert seen == set(RECORDS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_all_that_on_call_needs(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"Msemon([A-Z][a-z]+)+", name)
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    labels = re.findall(r"var-(\w+)=\{\{ \$labels\.(\w+) \| urlquery \}\}", rule["annotations"]["dashboard_url"])
    assert all(variable == label for variable, label in labels)
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


def test_an_alert_waits_five_minutes_or_says_why_not() -> None:
    waits = re.findall(r"^ +for: (.+)$", alerting.ALERTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(waits) == len(ALERTS)
    assert all(re.fullmatch(r"5m|\w+ # .{8,}", wait) for wait in waits), waits


@pytest.mark.parametrize("name", ALERTS)
def test_one_failed_scrape_neither_delays_nor_ends_an_alert(name: str) -> None:
    """Gauges stand in max_over_time and counters in increase or rate."""
    for match in RAW.finditer(ALERTS[name]["expr"]):
        before = ALERTS[name]["expr"][: match.start()]
        function = re.search(r"(\w+)\($", before)
        assert function is not None, match.group()
        wanted = {"max_over_time"} if kinds().get(match.group()) != "counter" else {"increase", "rate", "max_over_time"}
        assert function.group(1) in wanted, match.group()


def outside_of_max_over_time(expression: str) -> str:
    """What is left of an expression without its calls of max_over_time, which may hold others."""
    left, _, after = expression.partition("max_over_time(")
    if not after:
        return left
    depth, end = 1, 0
    while depth:
        depth += {"(": 1, ")": -1}.get(after[end], 0)
        end += 1
    return left + outside_of_max_over_time(after[end:])


def test_a_part_in_max_over_time_is_found_to_its_end() -> None:
    assert outside_of_max_over_time("a + max_over_time((b / (c))[5m:1m]) * max_over_time(d[1h]) > e") == "a +  *  > e"


@pytest.mark.parametrize("name", ALERTS)
def test_one_failed_scrape_is_not_seen_in_what_is_recorded_either(name: str) -> None:
    """What is recorded stands in max_over_time, or looks back over a range itself."""
    for record in re.findall(r"\bjob_\w+:\w+:\w+", outside_of_max_over_time(ALERTS[name]["expr"])):
        metrics = RAW.findall(RECORDS[record]["expr"])
        assert metrics, record
        assert all(f"{metric}[" in RECORDS[record]["expr"] for metric in metrics), record


def test_every_metric_in_a_rule_is_exported_or_recorded() -> None:
    used = {name for expression in alerting.expressions() for name in RAW.findall(expression)}
    assert used <= set(kinds())
    recorded = {name for each in alerting.expressions() for name in re.findall(r"\bjob_\w+:\w+:\w+", each)}
    assert recorded <= set(RECORDS)


def test_a_record_is_named_by_level_metric_and_operation() -> None:
    for name, rule in RECORDS.items():
        level, metric, operation = name.split(":")
        assert level.split("_")[0] == "job"
        assert metric.startswith("msemon_segment_") == ("segment" in level.split("_"))
        assert operation
        for labels in re.findall(r"(?:sum|max|count) by \(([^)]*)\)", rule["expr"]):
            allowed = set(labels.split(", ")) - {"topic"} if operation == "ratio_rate15m" else set(labels.split(", "))
            assert allowed <= set(level.split("_")), name


def test_the_documented_command_puts_addresses_before_every_runbook_and_dashboard(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    commands = {re.search(r"sed -i '([^']+)'", text) for text in (page, alerting.ALERTS.read_text(encoding="utf-8"))}
    scripts = {match.group(1) for match in commands if match}
    assert len(scripts) == 1
    copy = tmp_path / "alerts.yml"
    shutil.copy(alerting.ALERTS, copy)
    subprocess.run(["sed", "-i", *scripts, str(copy)], check=True, timeout=20)
    rules = [rule for group in yaml.safe_load(copy.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules}
    assert urls == {name: f"https://YOUR-ADDRESS/docs/runbooks/{name}.md" for name in ALERTS}
    shown = {rule["alert"]: rule["annotations"]["dashboard_url"] for rule in rules}
    before = {name: rule["annotations"]["dashboard_url"] for name, rule in ALERTS.items()}
    assert shown == {name: f"https://YOUR-GRAFANA/{url}" for name, url in before.items()}


def test_shortened_rules_are_rules_with_other_durations(tmp_path: Path) -> None:
    files = alerting.write_shortened(tmp_path, 60)
    done = run(needs(PROMTOOL), "check", "rules", *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr
    durations = re.compile(r"\b\d+(s|m|h|d|w)\b")
    for file in files:
        short = [durations.sub("…", each) for each in re.findall(r"(?:expr|for|keep_firing_for): .*", file.read_text())]
        source = (alerting.RULES / file.name).read_text(encoding="utf-8")
        assert short == [durations.sub("…", each) for each in re.findall(r"(?:expr|for|keep_firing_for): .*", source)]


# Who hears of it.


def test_prometheus_loads_the_rules_and_knows_alertmanager() -> None:
    settings = read_yaml(PROMETHEUS)
    (pattern,) = settings["rule_files"]
    assert {alerting.ALERTS, alerting.RECORDS} == set(PROMETHEUS.parent.glob(pattern))
    assert "./deploy/prometheus/rules:/etc/prometheus/rules:ro" in services()["prometheus"]["volumes"]
    ((target,),) = [each["targets"] for each in settings["alerting"]["alertmanagers"][0]["static_configs"]]
    assert target == "alertmanager:9093"
    assert services()["alertmanager"]["ports"] == ["127.0.0.1:9093:9093"]
    jobs = {job["job_name"] for job in settings["scrape_configs"]}
    assert set(re.findall(r'job="([^"]+)"', " ".join(alerting.expressions()))) == {"msemon"} <= jobs


def test_compose_gives_alertmanager_its_configuration() -> None:
    mounts = dict(mount.split(":")[:2] for mount in services()["alertmanager"]["volumes"])
    assert "--config.file=" + mounts["./deploy/alertmanager/alertmanager.yml"] in services()["alertmanager"]["command"]
    assert "--storage.path=" + mounts["alertmanager-data"] in services()["alertmanager"]["command"]


def test_amtool_accepts_the_configuration() -> None:
    done = run(needs(AMTOOL), "check-config", str(alerting.ALERTMANAGER_FILE))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_goes_to_the_receiver_of_its_severity(name: str) -> None:
    severity = ALERTS[name]["labels"]["severity"]
    receiver = {"critical": "page", "warning": "team", "info": "quiet"}[severity]
    command = [needs(AMTOOL), "config", "routes", "test", f"--config.file={alerting.ALERTMANAGER_FILE}"]
    labels = [f"alertname={name}", f"severity={severity}", "job=msemon", "model=price"]
    for wanted, code in ((receiver, 0), ("nobody", 1)):
        assert run(*command, f"--verify.receivers={wanted}", *labels).returncode == code


def test_a_model_is_one_message_and_nothing_is_dropped_by_accident() -> None:
    route = read_yaml(alerting.ALERTMANAGER_FILE)["route"]
    assert route["group_by"] == ["job", "model"]
    used = {route["receiver"], *(each["receiver"] for each in route["routes"])}
    receivers = read_yaml(alerting.ALERTMANAGER_FILE)["receivers"]
    assert used == {each["name"] for each in receivers}
    assert all(each.keys() == {"name"} for each in receivers), "where to send is for each team to say"


def matches(matchers: list[str], labels: Mapping[str, str]) -> bool:
    """As Alertmanager matches: all of them, expressions from end to end."""

    def one(matcher: str) -> bool:
        parts = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher)
        assert parts is not None, matcher
        name, how, value = parts.groups()
        given = labels.get(name, "")
        return bool(re.fullmatch(value, given)) if how == "=~" else given == value

    return all(one(matcher) for matcher in matchers)


def inhibited_by(source: str) -> dict[str, set[str]]:
    """The alerts that this one keeps quiet, by name, with the labels that have to be equal."""
    rules: list[dict[str, Any]] = [each for each in alerting.inhibitions()
                                   if matches(each["source_matchers"], {"alertname": source})]  # fmt: skip
    return {
        name: set(rule["equal"])
        for rule in rules
        for name in ALERTS
        if matches(rule["target_matchers"], {"alertname": name, "severity": ALERTS[name]["labels"]["severity"]})
    }


def test_a_model_that_drifts_keeps_its_own_segments_quiet_and_nothing_else() -> None:
    assert inhibited_by("MsemonModelDrift") == {"MsemonSegmentDrift": {"job", "model", "version"}}


def test_a_job_that_is_down_keeps_all_alerts_on_data_quiet_and_that_each_replica_is_down() -> None:
    quiet = {*alerting.alerts("msemon-data"), "MsemonTargetDown"}
    assert inhibited_by("MsemonDown") == {name: {"job"} for name in quiet}


def test_nothing_else_keeps_anything_quiet() -> None:
    sources = {name for name in ALERTS if inhibited_by(name)}
    assert sources == {"MsemonModelDrift", "MsemonDown"}
    assert not any(fnmatch(name, "Msemon*Down") for name in alerting.alerts("msemon-data"))
