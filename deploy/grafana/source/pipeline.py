"""*Pipeline*: whether msemon itself does its work, in the order in which records go through it."""

from __future__ import annotations

from shapes import Dashboard, annotation, lines, link, stat, variable

JOB = 'job="$job"'
OURS = f'{JOB}, instance=~"$instance"'
TOPICS = f'{OURS}, topic=~"$topic"'


def rate(name: str, labels: str = "", which: str = OURS) -> str:
    """A counter's growth a second, summed over all but these labels."""
    by = f"sum by ({labels})" if labels else "sum"
    return f"{by} (rate(msemon_{name}_total{{{which}}}[$__rate_interval]))"


def growth(name: str, labels: str, which: str = OURS) -> str:
    """A counter's growth from one point of a graph to the next, summed over all but these labels."""
    return f"sum by ({labels}) (increase(msemon_{name}_total{{{which}}}[$__rate_interval]))"


def or_zero(name: str, label: str, which: str = OURS) -> str:
    """The growth of a counter that has no series before it first counts: then 0, wherever events come from."""
    return f"{growth(name, label, which)} or {growth('events', label, which)} * 0"


REJECTED, READ = (f"sum(rate(msemon_{name}_total{{{TOPICS}}}[15m]))" for name in ("events_rejected", "events"))


HEALTH = (
    stat(
        "Replicas",
        "Replicas of the job that Prometheus reaches, of those it knows.",
        [(f"sum(up{{{OURS}}})", "up"), (f"count(up{{{OURS}}})", "known")],
        steps=((None, "red"), (1, "green")),
    ),
    stat(
        "Unassigned partitions",
        "Partitions that no replica reads. For a short time that is a rebalance.",
        [(f"max(msemon_partitions{{{JOB}}}) - sum(msemon_partitions_assigned{{{JOB}}})", "")],
        steps=((None, "green"), (1, "red")),
    ),
    stat(
        "Behind",
        "How old the records are that are read now, where it is furthest back.",
        [(f"max(msemon_consumer_lag_seconds{{{OURS}}})", "")],
        "s",
        steps=((None, "green"), (60, "yellow"), (300, "red")),
    ),
    stat(
        "Rejected",
        "Of the events of the last 15 minutes, those that could not be used.",
        [(f"({REJECTED} or vector(0)) / ({READ} > 0)", "")],
        "percentunit",
        steps=((None, "green"), (0.001, "yellow"), (0.01, "red")),
        more={"decimals": 2},
    ),
    stat(
        "Oldest checkpoint",
        "Age of the oldest of the partitions' last checkpoints: a restart would read as much again. Usually "
        "state.interval, 10 s.",
        [(f"time() - min(msemon_checkpoint_timestamp_seconds{{{OURS}}})", "")],
        "s",
        steps=((None, "green"), (120, "yellow"), (600, "red")),
    ),
    stat(
        "Incomplete state",
        "Partitions whose windows or join may lack what was before their beginning. It ends by itself when that "
        "would have left the windows.",
        [(f"count(max by (partition) (msemon_state_incomplete{{{OURS}}}) > 0) or vector(0)", "")],
        steps=((None, "green"), (1, "yellow")),
    ),
    stat(
        "Kafka errors",
        "Requests and connections that failed in the time shown.",
        [(f"sum(increase(msemon_kafka_errors_total{{{OURS}}}[$__range])) or vector(0)", "")],
        steps=((None, "green"), (1, "yellow")),
        more={"decimals": 0},
    ),
    stat(
        "Alerts on msemon",
        "Alerts that fire for the data or the daemon, and not for one model.",
        [(f'count(ALERTS{{{JOB}, alertstate="firing", model=""}}) or vector(0)', "")],
        steps=((None, "green"), (1, "red")),
    ),
)

EVENTS = (
    lines(
        "Events a second",
        "Every record that is read, by topic and what it turned out to be.",
        [(rate("events", "topic, kind", TOPICS), "{{topic}} {{kind}}")],
        "cps",
    ),
    lines(
        "Rejected a second",
        "What can't be used, by topic and reason (docs/events.md), and what could not be written to the dead-letter "
        "topic either.",
        [
            (rate("events_rejected", "topic, reason", TOPICS), "{{topic}} {{reason}}"),
            (rate("dead_letter_failures"), "dead letters lost"),
        ],
        "cps",
    ),
    lines(
        "Age of the newest event",
        "From the time of the newest prediction and the newest label to now. One that rises alone has stopped.",
        [
            (f"time() - max(msemon_last_prediction_timestamp_seconds{{{OURS}}})", "prediction"),
            (f"time() - max(msemon_last_label_timestamp_seconds{{{OURS}}})", "label"),
        ],
        "s",
    ),
)

JOIN = (
    lines(
        "Waiting for the other half",
        "Predictions without a label yet, and labels without a prediction. Predictions wait as long as labels take; "
        "labels that pile up have come before their predictions, or under other keys.",
        [(f"sum by (side) (msemon_join_pending{{{OURS}}})", "{{side}}")],
    ),
    lines(
        "Matched and expired a second",
        "Pairs that the join made, and what never found its other half in time. Both sides expiring at once is how "
        "keys look that are partitioned or written differently.",
        [
            (rate("join_matched"), "matched"),
            (rate("join_expired", "side"), "{{side}} expired"),
        ],
        "cps",
    ),
    lines(
        "Repeats and evictions a second",
        "Events that had come before; labels that contradict the first one; entries given up because "
        "join.max_pending was reached: a waiting one may have cost a pair.",
        [
            (rate("join_duplicates", "side"), "{{side}} repeated"),
            (rate("join_conflicting_labels"), "label conflicts"),
            (rate("join_evicted", "entry"), "{{entry}} evicted"),
        ],
        "cps",
    ),
)

LAG = (
    lines(
        "Records not yet processed",
        "By topic, over all partitions.",
        [(f"sum by (topic) (msemon_consumer_lag{{{TOPICS}}})", "{{topic}}")],
    ),
    lines(
        "Seconds behind",
        "By replica, where it is furthest back. Dashed: MsemonConsumerLag.",
        [(f"max by (instance) (msemon_consumer_lag_seconds{{{OURS}}})", "{{instance}}")],
        "s",
        steps=((None, "green"), (300, "red")),
    ),
    lines(
        "Partitions that are furthest behind",
        "Records not yet processed, the ten largest. One alone is a key that gets too much, or a partition that is "
        "stuck.",
        [
            (
                f"topk(10, max by (topic, partition) (msemon_consumer_lag{{{TOPICS}}}))",
                "{{topic}} {{partition}}",
            )
        ],
    ),
)

GROUP = (
    lines(
        "Partitions by replica",
        "Partition numbers that each replica owns; each is that partition of every topic.",
        [(f"sum by (instance) (msemon_partitions_assigned{{{OURS}}})", "{{instance}}")],
        custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40, "lineInterpolation": "stepAfter"},
    ),
    lines(
        "Rebalances",
        "Changes of each replica's partitions. Many in an hour: replicas that come and go, or a loop that is too slow.",
        [(growth("rebalances", "instance"), "{{instance}}")],
    ),
    lines(
        "Records passed over",
        "Gone before their turn (retention), or unreadable: they are in no number.",
        [(or_zero("offset_gap_records", "topic", TOPICS), "{{topic}}")],
    ),
    lines(
        "Kafka errors a second",
        "Requests and connections that failed, by kind, at every attempt: a refused password or certificate, a "
        "missing right, or no answer.",
        [(rate("kafka_errors", "kind"), "{{kind}}")],
        "cps",
    ),
)

STATE = (
    lines(
        "Age of the checkpoints",
        "By replica, of its partition that was saved longest ago. Dashed: MsemonCheckpointOld.",
        [
            (
                f"time() - min by (instance) (msemon_checkpoint_timestamp_seconds{{{OURS}}})",
                "{{instance}}",
            )
        ],
        "s",
        steps=((None, "green"), (600, "red")),
    ),
    lines(
        "How long checkpoints and restores take",
        "The last ones of each replica. A checkpoint runs beside counting; a restore is a time without it.",
        [
            (f"max by (instance) (msemon_checkpoint_duration_seconds{{{OURS}}})", "{{instance}} checkpoint"),
            (f"max by (instance) (msemon_restore_duration_seconds{{{OURS}}})", "{{instance}} restore"),
        ],
        "s",
    ),
    lines(
        "Size of the checkpoints",
        "Bytes that the last checkpoint of each replica wrote. It grows with what waits for labels, and with series.",
        [(f"max by (instance) (msemon_checkpoint_bytes{{{OURS}}})", "{{instance}}")],
        "bytes",
    ),
    lines(
        "Failed checkpoints and refused snapshots",
        "Counting goes on without a checkpoint, and nothing is committed. A refused snapshot is one that could not be "
        "read.",
        [
            (growth("checkpoint_failures", "instance"), "{{instance}} failed"),
            (or_zero("snapshots_rejected", "instance"), "{{instance}} refused"),
        ],
    ),
)

SERIES = (
    lines(
        "Places for series in use",
        "Segment series / limits.series, the ten fullest models. At 100 % new segments are folded into __other__.",
        [
            (
                f"topk(10, max by (model, version) (msemon_series{{{OURS}}} / msemon_series_limit{{{OURS}}}))",
                "{{model}} {{version}}",
            )
        ],
        "percentunit",
        steps=((None, "green"), (1.0, "red")),
        limits={"max": 1},
    ),
    lines(
        "Folded pairs a second",
        "Pairs counted in the segment __other__ because that limit was reached.",
        [(rate("series_folded", "model"), "{{model}}")],
        "cps",
    ),
    lines(
        "Samples in a scrape",
        "What each replica exports. It is what Prometheus has to store.",
        [(f"sum by (instance) (scrape_samples_scraped{{{OURS}}})", "{{instance}}")],
    ),
)

COST = (
    lines(
        "Duration of a scrape",
        "As Prometheus sees it. Dashed: 10 s, the usual time limit.",
        [(f"max by (instance) (scrape_duration_seconds{{{OURS}}})", "{{instance}}")],
        "s",
        steps=((None, "green"), (10, "red")),
    ),
    lines(
        "Processors",
        "Processor time a second: 1 is one core.",
        [(f"sum by (instance) (rate(process_cpu_seconds_total{{{OURS}}}[$__rate_interval]))", "{{instance}}")],
    ),
    lines(
        "Memory",
        "Resident memory of each replica.",
        [(f"sum by (instance) (process_resident_memory_bytes{{{OURS}}})", "{{instance}}")],
        "bytes",
    ),
    lines(
        "Open files",
        "Of as many as the process may have open; connections count.",
        [(f"max by (instance) (process_open_fds{{{OURS}}} / process_max_fds{{{OURS}}})", "{{instance}}")],
        "percentunit",
        steps=((None, "green"), (0.8, "red")),
    ),
)

DASHBOARD = Dashboard(
    title="Pipeline",
    description="Whether msemon does its work: events, join, lag, partitions, state, series, and what it costs.",
    variables=[
        variable("job", "msemon_build_info"),
        variable("instance", f"msemon_build_info{{{JOB}}}", label="Replica", many=True),
        variable("topic", f"msemon_partitions{{{JOB}}}", many=True),
    ],
    rows=[
        ("Health", 4, [(3, panel) for panel in HEALTH], False),
        ("Events: what comes in", 8, [(8, panel) for panel in EVENTS], False),
        ("Join: predictions meet their labels", 8, [(8, panel) for panel in JOIN], False),
        ("Lag: how far behind the log", 8, [(8, panel) for panel in LAG], False),
        ("Group: who reads what", 7, [(6, panel) for panel in GROUP], False),
        ("State: what a restart would find", 7, [(6, panel) for panel in STATE], False),
        ("Series: what is exported", 7, [(8, panel) for panel in SERIES], False),
        ("Cost", 7, [(6, panel) for panel in COST], False),
    ],
    annotations=[
        annotation("Start", f"process_start_time_seconds{{{OURS}}} * 1000", "blue", "{{instance}}", at_value=True),
        annotation(
            "Rebalance",
            f"sum(increase(msemon_rebalances_total{{{JOB}}}[$__rate_interval])) > 0",
            "orange",
            "partitions have moved",
        ),
        annotation(
            "Alert", f'ALERTS{{{JOB}, alertstate="firing", model=""}}', "red", "{{alertname}} {{topic}} {{instance}}"
        ),
    ],
    links=[
        link("Models", "All models at a glance", "job"),
        link("Model", "One model: windows, segments, versions, outliers", "job"),
    ],
)
