"""Prometheus' configuration and Grafana's provisioning."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.compose import DEPLOY, read_yaml, services
from support.tools import PROMTOOL, needs

PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
PROVISIONING = DEPLOY / "grafana" / "provisioning"


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
