"""The Helm chart: what its values make of it, held against Kubernetes' own schemas and against msemon's settings."""

from __future__ import annotations

import base64
import json
import re
import tarfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from msemon.daemon import OVERDUE_S
from msemon.settings import SECTIONS, Settings, load
from support.alerting import RULES
from support.compose import DEPLOY, project, read_yaml
from support.helm import CHART, rendered, run
from support.tools import HELM, PROMTOOL, needs

KUBERNETES = ("1.27", "1.34")  # the oldest that Chart.yaml names, and one of today
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject"}  # kinds of operators: no schema of Kubernetes' own

Manifest = dict[str, Any]


@cache
def chart(*arguments: str) -> list[Manifest]:
    return rendered(needs(HELM), *arguments)


def variants() -> list[tuple[str, ...]]:
    """The defaults, every example, and what they leave out."""
    sets = [
        "--set=secrets.values.kafka\\.sasl_password=hidden",
        "--set=persistence.enabled=false",
        "--set=persistence.storageClass=fast,image.digest=sha256:" + 64 * "0",
        "--set=serviceAccount.create=false,podDisruptionBudget.enabled=false",
    ]
    return [(), *((f"--values={file}",) for file in EXAMPLES), *((each,) for each in sets)]


def only(kind: str, manifests: list[Manifest]) -> Manifest:
    (manifest,) = [each for each in manifests if each["kind"] == kind and "dashboard" not in each["metadata"]["name"]]
    return manifest


def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = only("StatefulSet", manifests)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = pod(manifests)["containers"]
    assert isinstance(found, dict)
    return found


def kinds(manifests: list[Manifest]) -> set[str]:
    return {manifest["kind"] for manifest in manifests}


def everything() -> list[Manifest]:
    return chart(f"--values={CHART / 'examples' / 'everything.yaml'}")


def settings_of(manifests: list[Manifest], directory: Path, **more: str) -> Settings:
    """The settings that the daemon in the pod has; the files that they name are looked for as they are."""
    file = directory / "msemon.toml"
    file.write_text(only("ConfigMap", manifests)["data"]["msemon.toml"], encoding="utf-8")
    variables = {each["name"]: each.get("value", "msemon-0") for each in container(manifests)["env"]}
    variables.pop("MSEMON_SECRETS_DIR", None)
    return load(config=str(file), environ=variables | more)


# What Helm and Kubernetes say.


def test_helm_finds_nothing_to_complain_about() -> None:
    done = run(needs(HELM), "lint", "--strict", str(CHART), *(f"--values={file}" for file in EXAMPLES[:1]))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", variants(), ids=lambda arguments: " ".join(arguments)[-60:] or "defaults")
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_follows_kubernetes_schema(arguments: tuple[str, ...], version: str) -> None:
    manifests = chart(*arguments)
    assert {"StatefulSet", "ConfigMap", "Service"} <= kinds(manifests)
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_found() -> None:
    manifest = json.loads(json.dumps(only("StatefulSet", chart())))
    manifest["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError, match="enableServiceLink"):
        kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("name", ["on", "true", "null"])
def test_a_name_that_looks_like_something_else_is_text(name: str) -> None:
    for release, override in ((name, "msemon"), ("prices", name)):
        manifests = rendered(needs(HELM), f"--set-string=nameOverride={override}", release=release)
        for manifest in manifests:
            kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)
        labels = only("StatefulSet", manifests)["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == release
        assert labels["app.kubernetes.io/name"] == override


def test_two_releases_in_one_namespace_share_no_name() -> None:
    helm = needs(HELM)
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in rendered(helm, f"--values={EXAMPLES[0]}", release=name)}
        for name in ("prices", "scores")
    ]
    assert names[0].isdisjoint(names[1])


# The values.


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("replicas=2", "several replicas need settings.state.store = kafka"),
        ("keda.enabled=true,settings.state.store=kafka", "keda.partitions"),
        ("keda.enabled=true,keda.partitions=4,settings.state.store=none", "keda.enabled needs settings.state.store"),
        ("secrets.existingSecret=a,secrets.values.b=c", "only one of the two"),
        ("secrets.values.kafka\\.sasl_password=12345678", "sasl_password"),  # would be written as 1.2345678e+07
        ("ports.health=10673", "ports.http and ports.health"),
        ("settings.web.address=0.0.0.0:80", "settings.web.address"),
        ("settings.kafka.group_instance_id=a", "settings.kafka.group_instance_id"),
        ("settings.kafka.sasl_password=a", "settings.kafka.sasl_password"),
        ("settings.format.schema_registry_password=a", "settings.format.schema_registry_password"),
        ("settings.kafka.client_options.ssl_password=a", "settings.kafka.client_options.ssl_password"),
        ("settings.state.path=/data", "settings.state.path: it is where the volume is"),
        ("settings.kafkas.topics=a", "kafkas"),
        ("image.tags=a", "tags"),
        ("terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
        ("persistence.accessModes={ReadWriteMany}", "accessModes"),
    ],
)
def test_values_that_can_not_work_are_refused(values: str, said: str) -> None:
    done = run(needs(HELM), "template", "msemon", str(CHART), "--set", values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_schema_knows_the_values_and_the_sections_that_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    assert set(schema["properties"]) == {*read_yaml(CHART / "values.yaml"), "global"}
    assert set(schema["properties"]["settings"]["properties"]) == {*SECTIONS, "segments"}


def test_the_chart_is_of_this_version() -> None:
    meta = read_yaml(CHART / "Chart.yaml")
    assert meta["appVersion"] == project()["version"]
    assert container(chart())["image"] == f"msemon:{project()['version']}"


# The daemon in the pod.


def test_the_pods_settings_are_valid_and_the_charts_own(tmp_path: Path) -> None:
    settings = settings_of(chart(), tmp_path)
    assert settings.kafka.group_instance_id == "msemon-0"
    assert settings.web.address == "0.0.0.0:10673"
    assert settings.web.health_address == "0.0.0.0:10674"
    assert settings.state.path == "/var/lib/msemon/state"
    assert settings.warnings == []


def test_settings_reach_the_daemon_as_they_are_given(tmp_path: Path) -> None:
    given = read_yaml(CHART / "examples" / "kafka-store.yaml")["settings"]
    settings = settings_of(chart(f"--values={CHART / 'examples' / 'kafka-store.yaml'}"), tmp_path)
    assert [list(dimension) for dimension in settings.segments] == given["segments"]
    assert (settings.state.store, settings.state.topic) == ("kafka", given["state"]["topic"])
    assert settings.join.timeout == 7 * 86_400
    assert settings.kafka.start.text == "6h"


def test_numbers_and_tables_reach_the_daemon_too(tmp_path: Path) -> None:
    manifests = json.loads(json.dumps(everything()))
    config = only("ConfigMap", manifests)["data"]
    (tmp_path / "ca.crt").write_text("")
    config["msemon.toml"] = config["msemon.toml"].replace("/etc/msemon/certificates", str(tmp_path))
    settings = settings_of(manifests, tmp_path, MSEMON_KAFKA__SASL_PASSWORD="hidden")
    assert settings.join.max_pending == 20_000_000
    assert settings.kafka.client_options == {"max.partition.fetch.bytes": 2_097_152}
    assert settings.format.fields == {"id": "request.id"}


def test_a_secret_is_a_file_that_the_settings_find(tmp_path: Path) -> None:
    manifests = chart("--set=secrets.values.kafka\\.sasl_password=hidden")
    for name, value in only("Secret", manifests)["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "msemon"}
    settings = load({f"kafka.{key}": value for key, value in sasl.items()}, secrets_dir=str(tmp_path), environ={})
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hidden"
    variables = {each["name"]: each.get("value") for each in container(manifests)["env"]}
    mounts = {each["name"]: each["mountPath"] for each in container(manifests)["volumeMounts"]}
    assert variables["MSEMON_SECRETS_DIR"] == mounts["secrets"]
    assert "hidden" not in yaml.dump([each for each in manifests if each["kind"] != "Secret"])


def test_the_clients_options_may_come_as_a_secret(tmp_path: Path) -> None:
    """As those with a password in them must."""
    given = '{"ssl_password": "hidden"}'
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"secrets": {"values": {"kafka.client_options": given}}}), encoding="utf-8")
    for name, value in only("Secret", chart(f"--values={values}"))["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    settings = load({}, secrets_dir=str(tmp_path), environ={})
    assert settings.kafka.client_options == {"ssl_password": "hidden"}


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_the_address_that_wants_no_certificate(name: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(chart())["ports"]}
    variables = {each["name"]: each.get("value", "") for each in container(chart())["env"]}
    asked = container(chart())[name]["httpGet"]
    assert asked == {"path": "/-/ready" if name == "readinessProbe" else "/-/healthy", "port": "health"}
    assert variables["MSEMON_WEB__HEALTH_ADDRESS"].endswith(f":{ports['health']}")


def test_stopping_has_the_time_that_it_may_take() -> None:
    assert pod(chart())["terminationGracePeriodSeconds"] > OVERDUE_S


def test_services_beside_it_do_not_look_like_settings() -> None:
    assert pod(chart())["enableServiceLinks"] is False


def test_other_settings_are_another_pod() -> None:
    def noted(*arguments: str) -> str:
        template = only("StatefulSet", chart(*arguments))["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert noted() != noted("--set=settings.kafka.group_id=other")
    assert noted() == noted("--set=persistence.enabled=false")


@pytest.mark.parametrize("arguments", variants(), ids=lambda arguments: " ".join(arguments)[-60:] or "defaults")
def test_the_pod_meets_the_restricted_profile(arguments: tuple[str, ...]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a root that can't be written to."""
    spec, inside = pod(chart(*arguments)), container(chart(*arguments))
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10673
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    allowed = {"configMap", "secret", "emptyDir"}
    assert all(volume.keys() - {"name"} <= allowed for volume in spec["volumes"])
    assert spec["automountServiceAccountToken"] is False


def test_state_has_a_volume_only_where_it_is_kept_on_disk() -> None:
    def claims(*arguments: str) -> list[str]:
        claimed = only("StatefulSet", chart(*arguments))["spec"].get("volumeClaimTemplates", [])
        return [each["metadata"]["name"] for each in claimed]

    mounts = {each["mountPath"]: each["name"] for each in container(chart())["volumeMounts"]}
    assert claims() == ["state"] == [mounts["/var/lib/msemon"]]
    assert claims("--set=persistence.enabled=false") == []
    assert claims("--set=settings.state.store=none") == []
    assert claims(f"--values={CHART / 'examples' / 'kafka-store.yaml'}") == []


# What is around it.


def test_the_rules_are_the_projects_own_for_this_releases_job(tmp_path: Path) -> None:
    """One source: only the job's name and the runbooks' address differ. promtool takes what the operator is given."""
    manifests = rendered(needs(HELM), f"--values={CHART / 'examples' / 'everything.yaml'}", release="prices")
    groups = only("PrometheusRule", manifests)["spec"]["groups"]
    wanted = []
    for file in sorted(RULES.glob("*.yml")):
        text = file.read_text(encoding="utf-8").replace('job="msemon"', 'job="prices"')
        base = "https://git.example.com/msemon/blob/main"
        text = text.replace("dashboard_url: d/", "dashboard_url: https://grafana.example.com/d/")
        wanted += yaml.safe_load(text.replace("runbook_url: docs/", f"runbook_url: {base}/docs/"))["groups"]
    assert groups == wanted
    urls = [rule["annotations"]["dashboard_url"] for each in groups for rule in each["rules"] if "alert" in rule]
    assert urls
    assert all(url.startswith("https://grafana.example.com/d/msemon-") for url in urls)
    monitor = only("PodMonitor", manifests)
    labels = only("StatefulSet", manifests)["spec"]["template"]["metadata"]["labels"]
    assert labels[monitor["spec"]["jobLabel"]] == "prices"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    done = run(needs(PROMTOOL), "check", "rules", str(tmp_path / "rules.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dashboard_is_a_configmap_byte_for_byte() -> None:
    maps = [each for each in everything() if each["kind"] == "ConfigMap" and "dashboard" in each["metadata"]["name"]]
    shown = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    files = {
        file.name: json.loads(file.read_text(encoding="utf-8")) for file in DEPLOY.glob("grafana/dashboards/*.json")
    }
    assert shown == files
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)


def test_a_packed_chart_holds_what_its_links_lead_to(tmp_path: Path) -> None:
    done = run(needs(HELM), "package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as packed:
        names = packed.getnames()
        assert all(member.isfile() for member in packed.getmembers())
    assert "msemon/files/rules/msemon.alerts.yml" in names
    assert any(name.startswith("msemon/files/dashboards/") for name in names)


def test_scaling_stops_at_the_number_of_partitions() -> None:
    scaled = only("ScaledObject", everything())["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (1, 6)
    assert [trigger["metadata"]["topic"] for trigger in scaled["triggers"]] == ["predictions", "labels"]
    assert all(trigger["metadata"]["lagThreshold"] == "100000" for trigger in scaled["triggers"])
    assert "replicas" not in only("StatefulSet", everything())["spec"], "KEDA's number, not the chart's"


def test_what_needs_an_operator_is_off_by_default() -> None:
    assert not kinds(chart()) & CUSTOM
    assert kinds(everything()) >= CUSTOM


def test_the_network_policy_lets_scrapes_probes_names_and_brokers_through() -> None:
    policy = only("NetworkPolicy", everything())["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {"http", "health"}
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 9094, 8081}


def test_the_selectors_select_the_pods() -> None:
    labels = only("StatefulSet", everything())["spec"]["template"]["metadata"]["labels"].items()
    for kind in ("PodMonitor", "PodDisruptionBudget"):
        assert only(kind, everything())["spec"]["selector"]["matchLabels"].items() <= labels
    assert only("NetworkPolicy", everything())["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert only("Service", everything())["spec"]["selector"].items() <= labels


def test_the_pages_tls_and_users_reach_the_daemon_and_the_scrape(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "deploy" / "kubernetes.md").read_text(encoding="utf-8")
    (shown,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "config_file" in text]
    (tmp_path / "values.yaml").write_text(shown, encoding="utf-8")
    manifests = chart(f"--values={tmp_path / 'values.yaml'}", "--set=podMonitor.enabled=true")
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)
    file = Path(tomllib.loads(only("ConfigMap", manifests)["data"]["msemon.toml"])["web"]["config_file"])
    mounts = {each["mountPath"]: each["name"] for each in container(manifests)["volumeMounts"]}
    (secret,) = [each["secret"] for each in pod(manifests)["volumes"] if each["name"] == mounts[str(file.parent)]]
    assert f"create secret generic {secret['secretName']} --from-file={file.name} " in page
    assert secret["defaultMode"] == 0o440
    (endpoint,) = only("PodMonitor", manifests)["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["scheme"]) == ("http", "https")
    assert {each["port"] for each in probes(manifests)} == {"health"}


def probes(manifests: list[Manifest]) -> list[Manifest]:
    inside = container(manifests)
    return [inside[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")]


def test_the_page_names_values_and_files_that_there_are() -> None:
    page = (DEPLOY.parent / "docs" / "deploy" / "kubernetes.md").read_text(encoding="utf-8")
    values = read_yaml(CHART / "values.yaml")
    table = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert len(table) > 5
    assert set(table) <= values.keys()
    for shown in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        assert yaml.safe_load(shown).keys() <= values.keys()
    for name in re.findall(r"deploy/[\w./-]+\w", page):
        if not name.endswith(".md"):
            assert (DEPLOY.parent / name).exists(), name
