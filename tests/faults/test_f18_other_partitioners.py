"""F18: producers of the two topics partition differently: the share that never meets shows by side."""

from __future__ import annotations

from support.lives import Monitor


def test_f18_topics_that_partition_differently_show_as_pairs_that_never_come(kafka, tmp_path):
    """Equal counts, but a label lies on another partition than its prediction: none match. What never met is
    counted by side, waiting while it may still come and expired afterwards; nothing else gives it away."""
    monitor = Monitor(kafka, tmp_path, partitions=4, join__timeout="60s", join__memory="60s")
    asked, answers = monitor.events(400, "apart")
    asked.sort(key=lambda event: event.time_us)
    answers.sort(key=lambda event: event.time_us)
    monitor.send(asked, [])
    monitor.send([], answers, shift=1)
    with monitor.run() as running:
        running.await_events({monitor.topics[0]: 400, monitor.topics[1]: 400})
        running.until(lambda: running.scrape().sum("msemon_join_pending") > 0, "the gauges", 10)
        scrape = running.scrape()
        assert scrape.value("msemon_join_matched_total") == 0
        for side in ("prediction", "label"):
            expired = scrape.value("msemon_join_expired_total", side=side)
            pending = scrape.value("msemon_join_pending", side=side)
            assert expired is not None
            assert expired > 200, "most are too old by now to be answered"
            assert expired + (pending or 0) == 400


def test_f18_where_a_share_lies_elsewhere_that_share_is_what_expires(kafka, tmp_path):
    """One producer in four has another partitioner: three quarters match exactly, the rest shows by side."""
    monitor = Monitor(kafka, tmp_path, partitions=4)
    asked, answers = monitor.events(400, "some")
    astray = {event.id for event in asked[::4]}
    monitor.send(asked, [event for event in answers if event.id not in astray])
    expected = monitor.oracle()
    monitor.send([], [event for event in answers if event.id in astray], shift=1)
    with monitor.run() as running:
        monitor.await_exact(running, expected)
        running.until(
            lambda: all(
                running.scrape().value("msemon_join_pending", side=side) == len(astray)
                for side in ("prediction", "label")
            ),
            "the rest to wait",
            10,
        )
        assert running.scrape().value("msemon_join_matched_total") == 300
