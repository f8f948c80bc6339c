"""F22 end to end: what producers send twice, and whole topics replayed, count once; other values are conflicts."""

from __future__ import annotations

from random import Random

from support.histories import joined, records, repeated
from support.running import daemon
from support.stories import made, names, pairs, settings
from support.topics import produce

COUNT = 500


def test_repeats_and_a_replayed_topic_count_once(kafka, tmp_path):
    """The first one stands, and each repeat is counted by its side."""
    random = Random(22)
    topics = made(kafka, names())
    predicted, labelled = pairs(COUNT)
    predicted = repeated(predicted, 0.2, random, prediction=1000.0)
    labelled = repeated(repeated(labelled, 0.2, random), 0.1, random, label=-1000.0)
    with daemon(tmp_path / "daemon.log", settings(kafka, topics)) as running:
        for turn in (1, 2, 3):  # the second and the third are replays of all
            produce(kafka, topics[0], records(predicted))
            produce(kafka, topics[1], records(labelled))
            running.await_events({topics[0]: turn * len(predicted), topics[1]: turn * len(labelled)})
            truth = joined(predicted * turn, labelled * turn)
            scrape = running.scrape()
            assert scrape.value("msemon_join_duplicates_total", side="prediction") == truth.duplicate_predictions
            assert scrape.value("msemon_join_duplicates_total", side="label") == truth.duplicate_labels
            assert scrape.value("msemon_join_conflicting_labels_total") == truth.conflicting_labels
            assert scrape.value("msemon_join_matched_total") == len(truth.pairs) == COUNT
            assert scrape.value("msemon_squared_error_total", model="m", version="") == 4.0 * COUNT
            assert scrape.value("msemon_window_predictions", model="m", version="", window="1h") == COUNT
            assert scrape.value("msemon_window_labelled", model="m", version="", window="1h") == COUNT
