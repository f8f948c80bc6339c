"""The daemon's own metrics."""

from __future__ import annotations

import io

import pytest
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from msemon.events import Kind, Reason
from msemon.export.families import OWN
from msemon.export.pipeline import Pipeline, written
from support.views import openmetrics_families


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(topics=["predictions"])


def touch_everything(pipeline: Pipeline) -> None:
    for family in OWN:
        metric = getattr(pipeline, family.short.removesuffix("_total"))
        if family.kind == "info":
            continue
        assert isinstance(metric, Counter if family.kind == "counter" else Gauge)
        child = metric.labels(*["1"] * len(family.labels)) if family.labels else metric
        child.inc() if isinstance(child, Counter) else child.set(1)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_family_of_the_table_is_an_attribute_and_is_exported_with_its_labels(
    pipeline: Pipeline, openmetrics: bool
) -> None:
    touch_everything(pipeline)
    text = written(pipeline.registry, openmetrics).decode()
    read = openmetrics_families(io.StringIO(text)) if openmetrics else text_string_to_metric_families(text)
    samples = {sample.name: set(sample.labels) for metric in read for sample in metric.samples}
    for family in OWN:
        assert samples[family.name] == set(family.labels)
    assert {name for name in samples if name.startswith("msemon_")} == {family.name for family in OWN}


def test_openmetrics_ends_once(pipeline: Pipeline) -> None:
    text = written(pipeline.registry, openmetrics=True)
    assert text.endswith(b"# EOF\n")
    assert text.count(b"# EOF") == 1


def test_what_nothing_was_heard_of_is_absent_and_never_nan(pipeline: Pipeline) -> None:
    text = written(pipeline.registry, openmetrics=False).decode()
    for name in ("consumer_lag_sum", "consumer_lag_seconds", "last_prediction_timestamp_seconds"):
        assert f"msemon_{name}" not in text
    assert "NaN" not in text
    pipeline.consumer_lag_sum.set(0)
    assert "\nmsemon_consumer_lag_sum 0.0\n" in written(pipeline.registry, openmetrics=False).decode()


def test_there_are_no_created_series(pipeline: Pipeline) -> None:
    touch_everything(pipeline)
    assert b"_created" not in written(pipeline.registry, openmetrics=False)
    assert b"_created" not in written(pipeline.registry, openmetrics=True)


def test_what_is_known_to_be_possible_stands_at_zero_from_the_start(pipeline: Pipeline) -> None:
    for kind in Kind:
        assert pipeline.registry.get_sample_value("msemon_events_total", {"topic": "predictions", "kind": kind}) == 0
    for reason in Reason:
        labels = {"topic": "predictions", "reason": reason}
        assert pipeline.registry.get_sample_value("msemon_events_rejected_total", labels) == 0
    for entry in ("waiting", "remembered"):
        assert pipeline.registry.get_sample_value("msemon_join_evicted_total", {"entry": entry}) == 0


def test_a_partition_that_leaves_takes_its_gauges_but_not_its_counters(pipeline: Pipeline) -> None:
    for partition in ("0", "1"):
        pipeline.consumer_lag.labels("predictions", partition).set(5)
        pipeline.state_incomplete.labels(partition).set(1)
        pipeline.offset_gap_records.labels("predictions", partition).inc(3)
    pipeline.forget(["predictions", "labels"], [1])
    text = written(pipeline.registry, openmetrics=False).decode()
    assert 'msemon_consumer_lag{partition="0",topic="predictions"} 5.0' in text
    assert 'msemon_consumer_lag{partition="1"' not in text
    assert 'msemon_state_incomplete{partition="1"' not in text
    assert 'msemon_offset_gap_records_total{partition="1",topic="predictions"} 3.0' in text


def test_build_info_names_the_versions() -> None:
    info = {
        sample.name: sample.labels for metric in Pipeline("librdkafka").registry.collect() for sample in metric.samples
    }["msemon_build_info"]
    assert info["kafka_client"].startswith("librdkafka")
    assert info["python"].startswith("3.")
    assert info["version"]


def test_process_and_python_metrics_come_along(pipeline: Pipeline) -> None:
    text = written(pipeline.registry, openmetrics=False)
    for name in (b"process_resident_memory_bytes ", b"python_info{", b"python_gc_collections_total{"):
        assert name in text
