"""*Model*: one version of a model, from its windows down to its segments, beside its other versions."""

from __future__ import annotations

from models import WORSE
from shapes import STATES, Column, Dashboard, Json, annotation, lines, link, override, stat, table, to_model, variable

MODEL = 'job="$job", model="$model"'
THIS = f'{MODEL}, version="$version"'
SEGMENTS = f'{THIS}, dimension="$dimension", segment=~"$segment"'
LEVEL = "job_model_version_window:msemon"
SEGMENT_LEVEL = "job_model_version_dimension_segment_window:msemon_segment"
BASELINE = f"job_model_version:msemon_baseline_mse:merge{{{THIS}}}"
DELAYS = f"sum by (le) (rate(msemon_label_delay_seconds_bucket{{{THIS}}}[$__rate_interval]))"
ROWS = 100
"""Segments in the table."""
MOST = 10
"""Segments in a panel."""
COLOURED = {"custom_cellOptions": {"type": "color-text"}}


def here(name: str) -> str:
    """What is recorded of this version and the window chosen."""
    return f'{LEVEL}_{name}{{{THIS}, window="$window"}}'


def state(labels: str, which: str, prefix: str = "msemon_") -> str:
    """1 in drift, 0 out of it, -1 while there is no baseline but pairs that one is learnt from."""
    active, learnt = (f"max by ({labels}) ({prefix}{name}{{{which}}})" for name in ("drift_active", "baseline_pairs"))
    return f"{active} or {learnt} * 0 - 1"


def evidence(labels: str, which: str, prefix: str = "msemon_") -> str:
    """As a part of the threshold, from the replica that has the most."""
    return f"max by ({labels}) ({prefix}drift_evidence{{{which}}} / {prefix}drift_threshold{{{which}}})"


def rate(name: str, which: str = THIS) -> str:
    """A counter's growth a second, over the replicas."""
    return f"sum by (version) (rate(msemon_{name}_total{{{which}}}[$__rate_interval]))"


def weighed(name: str) -> str:
    """A counter's sum in the time shown by the pairs' weight in it."""
    total, weight = (f"sum(increase(msemon_{each}_total{{{THIS}}}[$__range]))" for each in (name, "weight"))
    return f"{total} / {weight}"


def styled(pattern: str, colour: str, style: Json) -> Json:
    """Lines whose names match in one colour and style."""
    properties = [{"id": "custom.lineStyle", "value": style}]
    properties += [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
    return {"matcher": {"id": "byRegexp", "options": pattern}, "properties": properties}


NOW = (
    stat("RMSE", "Of the window chosen, in the target's unit.", [(here("rmse:sqrt_ratio"), "")]),
    stat(
        "RMSE / baseline",
        "1 is as good as when the baseline was taken; from 1.05 on (a squared error 1.1 times as large) it is more "
        "than is tolerated by default.",
        [(here("rmse_per_baseline:sqrt_ratio"), "")],
        steps=WORSE,
        more={"decimals": 3},
    ),
    stat(
        "Drift",
        "What the detector says: learning has no baseline yet.",
        [(state("version", THIS), "")],
        steps=((None, "blue"), (0, "green"), (1, "red")),
        more={"mappings": STATES},
    ),
    stat(
        "Bias",
        "Mean of prediction − label in the window, in the target's unit: above 0 the model predicts too much.",
        [(here("bias:ratio"), "")],
    ),
    stat("Pairs", "Pairs in the window, over all replicas.", [(here("window_pairs:sum"), "")]),
    stat(
        "Time shown",
        "RMSE of all pairs that were made in the time that the dashboard shows, whatever the windows' lengths; from "
        "counters, so by when pairs were processed.",
        [(f"sqrt({weighed('squared_error')})", "")],
    ),
)

HISTORY = (
    lines(
        "RMSE with its bounds",
        "The window chosen. The band holds the RMSE of endless pairs of the same kind in 95 of 100 windows; with "
        "several replicas it is a little wide, and absent where one of them has fewer than 7 pairs. Dashed: the "
        "baseline, and its upper bound, which drift is measured from.",
        [
            (here("rmse:sqrt_ratio"), "RMSE"),
            (here("rmse_upper:merge"), "95 % to"),
            (here("rmse_lower:merge"), "95 % from"),
            (f"sqrt({BASELINE})", "baseline"),
            (f"sqrt(max(msemon_baseline_upper_mse{{{THIS}}}))", "baseline, upper bound"),
        ],
        overrides=[
            override("RMSE", custom_lineWidth=2, color={"mode": "fixed", "fixedColor": "blue"}),
            override(
                "95 % to",
                custom_lineWidth=0,
                custom_fillBelowTo="95 % from",
                custom_fillOpacity=15,
                color={"mode": "fixed", "fixedColor": "blue"},
            ),
            override("95 % from", custom_lineWidth=0, color={"mode": "fixed", "fixedColor": "blue"}),
            styled("/^baseline/", "green", {"fill": "dash", "dash": [10, 6]}),
            override("baseline, upper bound", color={"mode": "fixed", "fixedColor": "orange"}),
        ],
    ),
    lines(
        "Evidence of drift",
        "Natural logarithm of the detector's statistic, and where it alarms.",
        [
            (f"max(msemon_drift_evidence{{{THIS}}})", "evidence"),
            (f"min(msemon_drift_threshold{{{THIS}}})", "alarms at"),
        ],
        overrides=[styled("/^alarms/", "red", {"fill": "dash", "dash": [10, 6]})],
    ),
)

WINDOWS = table(
    "Windows",
    "Every window length of this version side by side: a short one that is far from a long one tells that something "
    "has just changed. R² is the lowest of the replicas', each of its own pairs; vectors have none.",
    [("window", "Window", {})],
    [
        Column("RMSE", f"max by (window) ({LEVEL}_rmse:sqrt_ratio{{{THIS}}})"),
        Column("95 % from", f"max by (window) ({LEVEL}_rmse_lower:merge{{{THIS}}})"),
        Column("95 % to", f"max by (window) ({LEVEL}_rmse_upper:merge{{{THIS}}})"),
        Column(
            "RMSE / baseline",
            f"max by (window) ({LEVEL}_rmse_per_baseline:sqrt_ratio{{{THIS}}})",
            steps=WORSE,
            more={"decimals": 3} | COLOURED,
        ),
        Column("Bias", f"max by (window) ({LEVEL}_bias:ratio{{{THIS}}})"),
        Column("MAE", f"max by (window) ({LEVEL}_mae:ratio{{{THIS}}})"),
        Column("Largest error", f"max by (window) ({LEVEL}_max_absolute_error:max{{{THIS}}})"),
        Column("R²", f"min by (window) (msemon_r2{{{THIS}}})", more={"decimals": 3}),
        Column("Pairs", f"max by (window) ({LEVEL}_window_pairs:sum{{{THIS}}})"),
        Column("Labels known", f"max by (window) ({LEVEL}_coverage:ratio{{{THIS}}})", "percentunit"),
    ],
    "Pairs",
    falling=False,
)

LENGTHS = (
    lines(
        "RMSE by window length",
        "The same error over shorter and longer memory. Where the short windows leave the long ones and stay away, "
        "the level has changed.",
        [(f"{LEVEL}_rmse:sqrt_ratio{{{THIS}}}", "{{window}}")],
        short=True,
    ),
    lines(
        "Over- and underprediction",
        "What the errors add up to on either side of 0, by the pair, in the target's unit; bias is the sum of both. "
        "From counters: of the pairs processed at that time.",
        [
            (f"{rate('overprediction')} / {rate('weight')}", "too high"),
            (f"-({rate('underprediction')} / {rate('weight')})", "too low"),
            (f"({rate('overprediction')} - {rate('underprediction')}) / {rate('weight')}", "bias"),
        ],
        custom={"fillOpacity": 15},
        overrides=[override("bias", custom_fillOpacity=0, custom_lineWidth=2)],
        short=True,
    ),
    lines(
        "Label delay",
        "From a prediction to its label, in the pairs that were made at that time: median, 90th and 99th percentile.",
        [
            (f"histogram_quantile({share}, {DELAYS})", name)
            for share, name in ((0.5, "half"), (0.9, "90 %"), (0.99, "99 %"))
        ],
        "s",
        short=True,
    ),
)


# Segments: of one dimension, so that they add up.


def of_segments(name: str) -> str:
    """What is recorded of these segments and the window chosen."""
    return f'{SEGMENT_LEVEL}_{name}{{{SEGMENTS}, window="$window"}}'


def by_segment(expr: str) -> str:
    """Without the labels that are the same for all of them."""
    return f"max by (segment) ({expr})"


SHARE = by_segment(of_segments("squared_error_share:ratio"))
SEGMENT_BASELINE = by_segment(f"job_model_version_dimension_segment:msemon_segment_baseline_mse:merge{{{SEGMENTS}}}")
TRAFFIC = (
    f"{by_segment(of_segments('window_weight:sum'))} / on () group_left () max({LEVEL}_window_weight:sum"
    f'{{{THIS}, window="$window"}})'
)


def largest(expr: str, most: int) -> str:
    """Of the segments with the largest shares alone."""
    return f"({expr}) and on (segment) topk({most}, {SHARE})"


SEGMENT_TABLE = table(
    "Segments by their share of the squared error",
    f"The {ROWS} segments of the dimension that contribute most, in the window chosen. A share of the error above "
    "the share of the weight is a segment that is worse than the model as a whole: both large is where work pays.",
    [("segment", "Segment", {})],
    [
        Column(title, largest(expr, ROWS), unit, steps, more)
        for title, expr, unit, steps, more in (
            (
                "Share of the error",
                SHARE,
                "percentunit",
                ((None, "blue"),),
                {"min": 0, "max": 1, "custom_cellOptions": {"type": "gauge", "mode": "basic"}, "custom_minWidth": 200},
            ),
            ("Share of the weight", TRAFFIC, "percentunit", ((None, "text"),), {}),
            (
                "State",
                state("segment", SEGMENTS, "msemon_segment_"),
                "short",
                ((None, "text"),),
                {"mappings": STATES} | COLOURED,
            ),
            ("RMSE", by_segment(of_segments("rmse:sqrt_ratio")), "short", ((None, "text"),), {}),
            ("95 % from", by_segment(of_segments("rmse_lower:merge")), "short", ((None, "text"),), {}),
            ("95 % to", by_segment(of_segments("rmse_upper:merge")), "short", ((None, "text"),), {}),
            (
                "RMSE / baseline",
                f"sqrt({by_segment(of_segments('mse:ratio'))} / {SEGMENT_BASELINE})",
                "short",
                WORSE,
                {"decimals": 3} | COLOURED,
            ),
            ("Bias", by_segment(of_segments("bias:ratio")), "short", ((None, "text"),), {}),
            ("Pairs", by_segment(of_segments("window_pairs:sum")), "short", ((None, "text"),), {}),
        )
    ],
    "Share of the error",
)

SEGMENT_LINES = (
    lines(
        "Share of the squared error over time",
        f"The {MOST} largest at each moment, stacked. One that widens carries a change of the model's RMSE.",
        [(f"topk({MOST}, {SHARE})", "{{segment}}")],
        "percentunit",
        custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40},
        limits={"min": 0, "max": 1},
    ),
    lines(
        "RMSE of the segments with the largest shares",
        f"The {MOST} with the largest shares at each moment, in the target's unit.",
        [(largest(by_segment(of_segments("rmse:sqrt_ratio")), MOST), "{{segment}}")],
    ),
    lines(
        "Evidence of drift in segments",
        f"Evidence / threshold, the {MOST} highest: at 100 % it alarms. Not only of segments with a large share.",
        [(f"topk({MOST}, {evidence('segment', SEGMENTS, 'msemon_segment_')})", "{{segment}}")],
        "percentunit",
        steps=((None, "green"), (1.0, "red")),
    ),
)


# Versions: all of them, whichever is chosen above.


def of_versions(name: str) -> str:
    """What is recorded of each version and the window chosen."""
    return f'max by (version) ({LEVEL}_{name}{{{MODEL}, window="$window"}})'


VERSION_TABLE = table(
    "Versions",
    "Every version of the model in the window chosen, the one with the most pairs first. Bounds that do not overlap "
    "are a difference; versions that get different traffic differ for that reason too. A click on a version "
    "chooses it.",
    [("version", "Version", {"links": to_model("job", "model", "window", "dimension", version="Version")})],
    [
        Column("State", state("version", MODEL), more={"mappings": STATES} | COLOURED),
        Column("RMSE", of_versions("rmse:sqrt_ratio")),
        Column("95 % from", of_versions("rmse_lower:merge")),
        Column("95 % to", of_versions("rmse_upper:merge")),
        Column(
            "RMSE / baseline", of_versions("rmse_per_baseline:sqrt_ratio"), steps=WORSE, more={"decimals": 3} | COLOURED
        ),
        Column("Bias", of_versions("bias:ratio")),
        Column("Pairs", of_versions("window_pairs:sum")),
        Column("Labels known", of_versions("coverage:ratio"), "percentunit"),
        Column(
            "Last pair",
            f"max by (version) (msemon_last_pair_timestamp_seconds{{{MODEL}}}) * 1000",
            "dateTimeFromNow",
        ),
    ],
    "Pairs",
)

VERSION_LINES = (
    lines(
        "RMSE by version",
        "In the window chosen, in the target's unit.",
        [(of_versions("rmse:sqrt_ratio"), "{{version}}")],
    ),
    lines(
        "Pairs a second by version",
        "How traffic goes over from one version to the next.",
        [(rate("pairs", MODEL), "{{version}}")],
        "cps",
        custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40},
    ),
)

OUTLIERS = (
    lines(
        "Largest error beside RMSE and MAE",
        "In the window chosen, in the target's unit, on a logarithmic axis. Of Gaussian errors the largest of a "
        "thousand is about 3.3 times the RMSE.",
        [
            (here("max_absolute_error:max"), "largest"),
            (here("rmse:sqrt_ratio"), "RMSE"),
            (here("mae:ratio"), "MAE"),
        ],
        custom={"scaleDistribution": {"type": "log", "log": 10}},
        short=True,
    ),
    lines(
        "Share of the largest error",
        "The largest error squared / the sum of squared errors: how much of the window's RMSE is one single pair. "
        "Exact for scalar predictions of weight 1. Over a tenth, look at that pair before the model.",
        [
            (f"{here('max_absolute_error:max')} ^ 2 / ({here('window_squared_error:sum')} > 0)", "largest error"),
        ],
        "percentunit",
        steps=((None, "green"), (0.1, "orange")),
        short=True,
    ),
    lines(
        "RMSE / MAE",
        "How heavy the tails are: 1 where all errors are as large, 1.25 for Gaussian ones, above about 2 few "
        "predictions carry most of the squared error.",
        [(f"{here('rmse:sqrt_ratio')} / ({here('mae:ratio')} > 0)", "RMSE / MAE")],
        steps=((None, "green"), (1.25, "text"), (2, "orange")),
        short=True,
    ),
)

DASHBOARD = Dashboard(
    title="Model",
    description="One version of a model: how wrong, since when, in which segments, and beside its other versions.",
    variables=[
        variable("job", "msemon_pairs_total"),
        variable("model", 'msemon_pairs_total{job="$job"}'),
        variable("version", f"msemon_pairs_total{{{MODEL}}}", sort=8),
        variable("window", f"msemon_window_pairs{{{MODEL}}}"),
        variable("dimension", f"msemon_segment_pairs_total{{{MODEL}}}"),
        variable("segment", f'msemon_segment_pairs_total{{{THIS}, dimension="$dimension"}}', many=True),
    ],
    rows=[
        ("Now: $model $version, $window", 4, [(4, panel) for panel in NOW], False),
        ("History", 10, [(16, HISTORY[0]), (8, HISTORY[1])], False),
        ("Windows", 7, [(24, WINDOWS)], False),
        ("Windows over time, and labels", 8, [(8, panel) for panel in LENGTHS], False),
        ("Segments of $dimension", 10, [(24, SEGMENT_TABLE)], False),
        ("Segments of $dimension over time", 9, [(8, panel) for panel in SEGMENT_LINES], False),
        ("Versions side by side", 6, [(24, VERSION_TABLE)], False),
        ("Versions over time", 8, [(12, panel) for panel in VERSION_LINES], False),
        ("Outliers", 8, [(8, panel) for panel in OUTLIERS], False),
    ],
    annotations=[
        annotation(
            "Drift",
            f"max by (model, version) (msemon_drift_active{{{THIS}}}) > 0",
            "red",
            "{{model}} {{version}}",
        ),
        annotation(
            "Segment drift",
            f"max by (dimension, segment) (msemon_segment_drift_active{{{SEGMENTS}}}) > 0",
            "orange",
            "{{dimension}} {{segment}}",
        ),
    ],
    links=[
        link("Models", "All models at a glance", "job", "window"),
        link("Pipeline", "Events, join, lag, checkpoints, cost", "job"),
    ],
)
