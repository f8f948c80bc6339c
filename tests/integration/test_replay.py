"""The past as the daemon showed it: a replay of its topics, and a Prometheus filled from one."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msemon.export.families import select
from msemon.export.render import render
from msemon.replaying import command
from msemon.replaying.run import run, selection_of
from msemon.settings import load
from support import past
from support.dashboards import Query, filled, queries
from support.histories import Event, records
from support.prometheus import Prometheus, prometheus
from support.running import Scrape, daemon
from support.stories import made, names, settings
from support.tools import PROMETHEUS, PROMTOOL, needs
from support.topics import produce

ROOT = Path(__file__).parents[2]
OF_MODELS = ("msemon-models", "msemon-model")
"""The dashboards whose numbers a replay has; the third is about the daemon."""

CHOSEN = {
    "job": "msemon", "instance": ".*", "model": "price", "version": "7", "window": "1h", "dimension": "country",
    "segment": ".*", "__rate_interval": "5m", "__range": "1h",
}  # fmt: skip

RULES = ROOT / "deploy/prometheus/rules/msemon.recording.yml"


def flags(given: dict[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


def test_a_replay_of_the_topics_gives_what_the_daemon_exported(kafka, tmp_path):
    """All families of models and segments, counters too, over four partitions. The events are three hours old when
    they are written and the newest stands a minute into a pane of ten, so both look at the same panes for nine.
    """
    newest = (time.time() - 3 * 3_600) // 600 * 600 + 60.0
    late = time.time() - newest
    predictions, labels = past.halves(past.pairs(6_000, 2.9 * 3_600, begin=newest - 3 * 3_600), 300.0)
    labels = [each for each in labels if each["ts"] <= newest]
    assert newest - float(labels[-1]["ts"]) < 30.0
    topics = made(kafka, names())
    for topic, events in zip(topics, (predictions, labels), strict=True):
        produce(kafka, topic, records([Event(each, round((each["ts"] + late) * 1e6)) for each in events]))
    given = settings(
        kafka, topics, kafka__start="earliest", segments=[["country"]], windows__lengths=["1h", "6h"],
        windows__panes=6, state__path=str(tmp_path / "state"), export__segment_metrics="all",
        baseline__learn_after="10m", baseline__learn_time="30m", baseline__learn_pairs=800,
    )  # fmt: skip
    with daemon(tmp_path / "daemon.log", given) as running:
        running.await_events({topics[0]: len(predictions), topics[1]: len(labels)})
        running.until(lambda: running.scrape().value("msemon_consumer_lag_sum") == 0, "the end")
        live = running.scrape()
    loaded = load(flags(given), environ={})
    done = run([f"kafka://{topic}" for topic in topics], loaded)
    replayed = Scrape(render(done.view, False, selection_of(loaded)).decode())
    chosen = select("all", "all")
    compared = 0
    for family in (*chosen.models, *chosen.segments):
        if "drift" in family.name or "baseline" in family.name:  # looked for every second there, at each step here
            continue
        for name in [family.name] if family.values is not None else [f"{family.name}_{x}" for x in ("count", "sum")]:
            theirs, ours = live.all(name), replayed.all(name)
            assert ours.keys() == theirs.keys(), name
            for labels_of, value in theirs.items():
                # The batches differ, and so does the order of sums; R² and bias are differences.
                assert ours[labels_of] == pytest.approx(value, rel=1e-9, abs=1e-9), (name, labels_of)
                compared += 1
    assert compared > 140
    # A baseline is learnt of the pairs that are complete first: how many beyond what it needs depends on the batches.
    learnt = 0
    for one, other in ((live, replayed), (replayed, live)):
        for labels_of, pairs in one.all("msemon_baseline_pairs").items():
            assert (pairs >= 800) == (other.all("msemon_baseline_pairs")[labels_of] >= 800), labels_of
        for labels_of, mse in one.all("msemon_baseline_mse").items():
            assert 0 < mse < other.all("msemon_baseline_upper_mse")[labels_of], labels_of
            learnt += 1
    assert learnt >= 2


def test_a_range_of_a_topic_is_by_the_records_own_time(kafka):
    events, _ = past.halves(past.pairs(400, 4_000.0, begin=time.time() - 5_000.0), 60.0)
    topics = made(kafka, names())
    produce(kafka, topics[0], records([Event(each, round(each["ts"] * 1e6)) for each in events]))
    begin, end = events[100]["ts"], events[300]["ts"]
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (begin, end)]
    loaded = load({"kafka.bootstrap_servers": kafka, "segments": past.SEGMENTS}, environ={})
    done = run([f"kafka://{topics[0]}?from={times[0]}&to={times[1]}"], loaded)
    whole = [int(begin), int(end)]
    assert done.tally.events == sum(whole[0] <= each["ts"] < whole[1] for each in events)
    everything = run([f"kafka://{topics[0]}"], loaded)
    assert everything.tally.events == 400


def test_a_topic_that_is_not_there(kafka, capsys):
    loaded = load({"kafka.bootstrap_servers": kafka}, environ={})
    assert command.replay(loaded, command.Options(["kafka://nothing-of-that-name"])) == 1
    assert capsys.readouterr().err == "msemon replay: nothing-of-that-name: there is no such topic\n"


def test_a_prometheus_is_filled_from_files_and_then_with_the_recording_rules(tmp_path):
    """As docs/replay.md tells: OpenMetrics every minute, blocks of it, then blocks of the rules over them."""
    binary = needs(PROMETHEUS)
    begin = (time.time() - 9 * 3_600) // 60 * 60
    end = begin + 3 * 3_600
    whole = [each | {"version": "7"} for each in past.pairs(8_000, 3 * 3_600, begin=begin)]
    predictions, labels = past.halves(whole, 120.0)
    sources = [past.written(tmp_path / "p.jsonl.gz", predictions), past.columns(tmp_path / "l.parquet", labels)]
    text, data = tmp_path / "past.om", tmp_path / "server" / "data"
    options = command.Options(sources, "openmetrics", 60_000_000, str(text), {"job": "msemon", "instance": "past"})
    learn = {"baseline__learn_after": "10m", "baseline__learn_time": "20m", "baseline__learn_pairs": "300"}
    assert command.replay(past.settings(**learn), options) == 0
    data.mkdir(parents=True)
    promtool("tsdb", "create-blocks-from", "openmetrics", str(text), str(data))
    with prometheus(binary, tmp_path / "server", {}) as server:
        for hours in (1, 2):
            at = begin + hours * 3_600
            assert server.vector('msemon_window_pairs{window="1h"}', at)
            rate = server.vector(
                "sum(increase(msemon_squared_error_total[1h])) / sum(increase(msemon_weight_total[1h]))", at
            )
            (mse,) = rate.values()
            error = np.array([each["prediction"] - each["label"] for each in whole])
            assert mse == pytest.approx((error**2).mean(), rel=0.1)
    for _ in range(5):  # promtool gives a rule only what the server has: sums, ratios, their roots, bounds of those
        with prometheus(binary, tmp_path / "server", {}) as server:
            promtool(
                "tsdb", "create-blocks-from", "rules", f"--start={round(begin)}", f"--end={round(end)}",
                f"--url=http://127.0.0.1:{server.port}", "--eval-interval=1m", f"--output-dir={data}", str(RULES),
            )  # fmt: skip
    with prometheus(binary, tmp_path / "server", {}) as server:
        at = begin + 2 * 3_600
        rule = 'job_model_version_window:msemon_rmse:sqrt_ratio{window="1h"}'
        (evaluated,) = server.vector(f"timestamp({rule})", at).values()  # a group's own second within the minute
        own = server.vector('msemon_mse{window="1h"}', evaluated)
        (recorded,) = server.vector(rule, at).values()
        assert [recorded**2] == pytest.approx(list(own.values()), rel=1e-9)
        (labels_of,) = own
        assert {("instance", "past"), ("model", "price"), ("window", "1h")} <= {*labels_of}
        silent = {query.name for query in queries() if query.dashboard in OF_MODELS and not answered(server, query, at)}
    assert silent == {"msemon-models: Firing alerts: Since"}  # of the past there are none


def answered(server: Prometheus, query: Query, at: float) -> bool:
    """Whether a dashboard's query finds something at that time, with the variables that a person would choose."""
    return bool(server.vector(filled(query.expression, CHOSEN), at))


def promtool(*arguments: str) -> None:
    done = subprocess.run([needs(PROMTOOL), *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
