"""Prometheus' configuration, Grafana's provisioning and its dashboards."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msemon.export.families import FAMILIES
from support.compose import DEPLOY, dashboards, read_yaml, services
from support.tools import PROMTOOL, needs

PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
VARIABLES = {"$__rate_interval": "1m", "$model": ".+", "$window": "5m"}


def panels() -> Iterator[dict[str, Any]]:
    for dashboard in dashboards():
        yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_promtool_accepts_the_configuration() -> None:
    command = [needs(PROMTOOL), "check", "config", str(PROMETHEUS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_the_daemon_where_compose_runs_it() -> None:
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in read_yaml(PROMETHEUS)["scrape_configs"]}
    assert jobs["msemon"] == ["msemon:10673"]
    assert services()["msemon"]["ports"] == ["127.0.0.1:10673:10673"]


def test_grafana_finds_its_data_source_and_dashboards() -> None:
    source = read_yaml(PROVISIONING / "datasources" / "prometheus.yml")["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == read_yaml(PROMETHEUS)["global"]["scrape_interval"]
    path = read_yaml(PROVISIONING / "dashboards" / "msemon.yml")["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{path}:ro" in services()["grafana"]["volumes"]
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (home.parent, (DEPLOY / "grafana" / "dashboards" / home.name).is_file()) == (Path(path), True)


def test_every_dashboard_has_a_name_that_links_can_rely_on() -> None:
    uids = [dashboard["uid"] for dashboard in dashboards()]
    assert uids
    assert all(uids)
    assert len(set(uids)) == len(uids)
    assert not any(dashboard.get("id") for dashboard in dashboards())


def test_every_panel_has_a_description_and_takes_its_data_source_from_the_variable() -> None:
    for dashboard in dashboards():
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels():
        assert panel["description"], panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), panel["title"]


def test_every_metric_shown_is_exported() -> None:
    known = {family.name for family in FAMILIES}
    known |= {family.name + end for family in FAMILIES if family.kind == "histogram" for end in ("_bucket", "_sum")}
    queries = [
        variable["definition"]
        for dashboard in dashboards()
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    shown = {name for text in (*expressions(), *queries) for name in re.findall(r"\bmsemon_\w+", text)}
    assert shown
    assert shown <= known


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": filled(each)} for i, each in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    command = [needs(PROMTOOL), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def filled(expression: str) -> str:
    """The expression with Grafana's variables replaced."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression
