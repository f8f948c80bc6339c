"""*Models*: all models at a glance. What has a unit of its own stands in the table; what is drawn is without one."""

from __future__ import annotations

from shapes import STATES, Column, Dashboard, annotation, lines, link, stat, table, to_model, variable

EACH = 'job="$job", model=~"$model", version=~"$version"'
WINDOW = f'{EACH}, window="$window"'
LEVEL = "job_model_version_window:msemon"
MOST = 25
"""Lines in a panel: more can't be told apart."""

# More than the tolerated ratio of the squared error, 1.1, is drift in time: √1.1 = 1.05.
WORSE = ((None, "green"), (1.0, "yellow"), (1.05, "red"))
BAD = ((None, "green"), (1, "red"))


def recorded(name: str) -> str:
    """What is recorded of models and windows, of those chosen."""
    return f"{LEVEL}_{name}{{{WINDOW}}}"


def by_version(expr: str) -> str:
    """Over the replicas, for each version of a model."""
    return f"max by (model, version) ({expr})"


STATE = (
    f"{by_version(f'msemon_drift_active{{{EACH}}}')} "
    f"or {by_version(f'msemon_baseline_pairs{{{EACH}}}')} * 0 - 1"  # no state yet, but pairs that are learnt from
)
EVIDENCE = by_version(f"msemon_drift_evidence{{{EACH}}} / msemon_drift_threshold{{{EACH}}}")
BIAS = f"{recorded('bias:ratio')} / ({recorded('rmse:sqrt_ratio')} > 0)"
DELAY = "histogram_quantile({}, sum by (model, version, le) (rate(msemon_label_delay_seconds_bucket{{{}}}[{}])))"
PAIRS = f"sum by (model, version) (rate(msemon_pairs_total{{{EACH}}}[$__rate_interval]))"
COVERAGE = 'job_model_window:msemon_coverage:ratio{job="$job", model=~"$model", window="$window"}'
AGE = 'job_model:msemon_stream_timestamp_seconds:age{job="$job", model=~"$model"}'

FIRING = 'job="$job", model=~"$model", model!=""'
OF_ALERTS = "alertname, severity, model, version, dimension, segment"
SINCE = (
    f"max by ({OF_ALERTS}) (ALERTS_FOR_STATE{{{FIRING}}}) * 1000 "
    f'and on ({OF_ALERTS}) ALERTS{{{FIRING}, alertstate="firing"}}'
)


def count(condition: str) -> str:
    """How many series fulfil it; 0 where none does."""
    return f"count({condition}) or vector(0)"


GLANCE = (
    stat(
        "Models",
        "Versions of models that have pairs in the window.",
        [(count(recorded("window_pairs:sum")), "")],
    ),
    stat(
        "Drifting",
        "Versions of models whose detector has alarmed and that have not recovered.",
        [(count(by_version(f"msemon_drift_active{{{EACH}}}") + " > 0"), "")],
        steps=BAD,
    ),
    stat(
        "Segments drifting",
        "The same of segments, each of which has a detector of its own. One alone may be hidden in its model's total.",
        [(count(f"max by (model, version, dimension, segment) (msemon_segment_drift_active{{{EACH}}}) > 0"), "")],
        steps=((None, "green"), (1, "orange")),
    ),
    stat(
        "Above the baseline",
        "Versions whose window is worse than the baseline beyond what chance explains: the lower 95 % bound of the "
        "RMSE is above the baseline's upper bound. Of many models a few always are; drift is the test that counts for "
        "that.",
        [
            (
                count(
                    f"{by_version(recorded('rmse_lower:merge'))} "
                    f"> sqrt({by_version(f'msemon_baseline_upper_mse{{{EACH}}}')})"
                ),
                "",
            )
        ],
        steps=((None, "green"), (1, "yellow")),
    ),
    stat(
        "Labels known",
        "Of the predictions made in the window, all models together, those whose label has come. As labels take "
        "their time, less than 100 % is usual; compare with the day before.",
        [(f"sum({recorded('window_labelled:sum')}) / sum({recorded('window_predictions:sum')})", "")],
        "percentunit",
    ),
    stat(
        "Alerts on models",
        "Alerts that fire for one of the models. They are listed at the bottom.",
        [(count(f'ALERTS{{{FIRING}, alertstate="firing"}}'), "")],
        steps=BAD,
    ),
)

ALL = table(
    "All models",
    "One row for each version of a model, the worst against its baseline first. RMSE, bounds and bias are in the "
    "target's unit; bounds hold the RMSE of endless pairs of the same kind in 95 of 100 windows. A click on a model "
    "opens its newest version, one on a version that one.",
    [
        ("model", "Model", {"links": to_model("job", "window", model="Model")}),
        ("version", "Version", {"links": to_model("job", "window", model="Model", version="Version")}),
    ],
    [
        Column("State", STATE, more={"mappings": STATES, "custom_cellOptions": {"type": "color-text"}}),
        Column("RMSE", by_version(recorded("rmse:sqrt_ratio"))),
        Column("95 % from", by_version(recorded("rmse_lower:merge"))),
        Column("95 % to", by_version(recorded("rmse_upper:merge"))),
        Column("Baseline", by_version(f"sqrt(job_model_version:msemon_baseline_mse:merge{{{EACH}}})")),
        Column(
            "RMSE / baseline",
            by_version(recorded("rmse_per_baseline:sqrt_ratio")),
            steps=WORSE,
            more={"decimals": 3, "custom_cellOptions": {"type": "color-text"}},
        ),
        Column("Evidence", EVIDENCE, "percentunit", more={"decimals": 0}),
        Column("Bias", by_version(recorded("bias:ratio"))),
        Column("Pairs", by_version(recorded("window_pairs:sum"))),
        Column("Labels known", by_version(recorded("coverage:ratio")), "percentunit"),
        Column("Median delay", DELAY.format(0.5, EACH, "$__range"), "s"),
    ],
    "RMSE / baseline",
)

ERRORS = (
    lines(
        "RMSE against the baseline",
        f"RMSE of the window / RMSE of the baseline, the {MOST} highest. At 1 a model is as good as when its "
        "baseline was taken; from 1.05 on (a squared error 1.1 times as large) it is more than is tolerated by "
        "default.",
        [
            (
                f"topk({MOST}, {recorded('rmse_per_baseline:sqrt_ratio')})",
                "{{model}} {{version}}",
            )
        ],
        steps=((None, "green"), (1.05, "red")),
    ),
    lines(
        "Evidence of drift",
        f"Evidence / threshold, both natural logarithms, the {MOST} highest: at 100 % it alarms. It grows pair by "
        "pair while the squared error is above what the baseline tolerates, and shrinks while it is below.",
        [(f"topk({MOST}, {EVIDENCE})", "{{model}} {{version}}")],
        "percentunit",
        steps=((None, "green"), (1.0, "red")),
    ),
)

SIDES = (
    lines(
        "Bias against RMSE",
        f"Mean error / RMSE, the {MOST} furthest from 0: how much of the error is to one side. At +100 % all "
        "predictions are too high by the same amount, at 0 errors cancel out. A jump is a unit, a currency or a "
        "missing feature.",
        [(f"{BIAS} and topk({MOST}, abs({BIAS}))", "{{model}} {{version}}")],
        "percentunit",
        limits={"min": -1, "max": 1},
    ),
    lines(
        "Labels known over time",
        f"Of the predictions made in the window, those whose label has come, the {MOST} lowest. A model's versions "
        "are taken together, so that one that takes over is no change.",
        [
            (
                f"bottomk({MOST}, {COVERAGE})",
                "{{model}}",
            )
        ],
        "percentunit",
        limits={"max": 1},
    ),
    lines(
        "Label delay, 90th percentile",
        f"From a prediction to its label, in the pairs that were made at that time, the {MOST} longest. What is "
        "later than the window is long can't be known in time.",
        [(f"topk({MOST}, {DELAY.format(0.9, EACH, '$__rate_interval')})", "{{model}} {{version}}")],
        "s",
    ),
)

FLOW = (
    lines(
        "Pairs a second",
        "Predictions that met their labels. Beside the errors it tells whether a change came with another traffic.",
        [(f"topk({MOST}, {PAIRS})", "{{model}} {{version}}")],
        "cps",
    ),
    lines(
        "Age of the newest pair",
        f"How far a model's stream time is behind the wall clock, the {MOST} oldest. It rises while nothing comes.",
        [(f"topk({MOST}, {AGE})", "{{model}}")],
        "s",
    ),
    table(
        "Firing alerts",
        "What Prometheus says of models now. A click on a model opens it.",
        [
            ("alertname", "Alert", {}),
            ("severity", "Severity", {}),
            ("model", "Model", {"links": to_model("job", "window", model="Model")}),
            ("version", "Version", {}),
            ("dimension", "Dimension", {}),
            ("segment", "Segment", {}),
        ],
        [Column("Since", SINCE, "dateTimeFromNow")],
        "Alert",
        falling=False,
    ),
)

EACH_MODEL = lines(
    "$model",
    "RMSE of the window with its 95 % bounds, in the target's unit, and the baseline.",
    [
        (recorded("rmse:sqrt_ratio"), "RMSE {{version}}"),
        (recorded("rmse_lower:merge"), "from {{version}}"),
        (recorded("rmse_upper:merge"), "to {{version}}"),
        (f"sqrt(job_model_version:msemon_baseline_mse:merge{{{EACH}}})", "baseline {{version}}"),
    ],
    short=True,
    overrides=[
        {
            "matcher": {"id": "byRegexp", "options": "/^(from|to) /"},
            "properties": [
                {"id": "custom.lineStyle", "value": {"fill": "dot", "dash": [0, 6]}},
                {"id": "color", "value": {"mode": "fixed", "fixedColor": "text"}},
            ],
        },
        {
            "matcher": {"id": "byRegexp", "options": "/^baseline /"},
            "properties": [
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 6]}},
                {"id": "color", "value": {"mode": "fixed", "fixedColor": "green"}},
            ],
        },
    ],
) | {"repeat": "model", "repeatDirection": "h", "maxPerRow": 4}

DASHBOARD = Dashboard(
    title="Models",
    description="All models at a glance: which are worse than they were, by how much, and whether their labels come.",
    variables=[
        variable("job", "msemon_pairs_total"),
        variable("model", 'msemon_pairs_total{job="$job"}', many=True),
        variable("version", 'msemon_pairs_total{job="$job", model=~"$model"}', many=True, sort=8),
        variable("window", 'msemon_window_pairs{job="$job"}'),
    ],
    rows=[
        ("At a glance", 4, [(4, panel) for panel in GLANCE], False),
        ("All of them", 10, [(24, ALL)], False),
        ("Errors against the baselines", 9, [(12, panel) for panel in ERRORS], False),
        ("Which way, and how much is known", 8, [(8, panel) for panel in SIDES], False),
        ("Traffic and alerts", 8, [(8, panel) for panel in FLOW], False),
        ("One by one: RMSE, bounds and baseline", 7, [(6, EACH_MODEL)], True),
    ],
    annotations=[
        annotation("Drift", by_version(f"msemon_drift_active{{{EACH}}}") + " > 0", "red", "{{model}} {{version}}")
    ],
    links=[
        link("Model", "One model: windows, segments, versions, outliers", "job", "window"),
        link("Pipeline", "Events, join, lag, checkpoints, cost", "job"),
    ],
)
