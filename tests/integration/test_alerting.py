"""The rules in Prometheus, Alertmanager and a webhook: what arrives, what is kept quiet, and when it resolves.

Here the replicas are stand-ins, pages that say what the story needs. The rules and Alertmanager's configuration are
those that are shipped, with every duration divided by 60 (`support.alerting.shortened`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import pytest

from support.alerting import write_shortened
from support.alertmanager import Alertmanager, Notice, Webhook, alertmanager, webhook
from support.prometheus import Prometheus, prometheus
from support.stand_in import StandIn, stand_in
from support.tools import ALERTMANAGER, PROMETHEUS, needs
from support.waiting import wait_until

FACTOR = 60
ARRIVES_S = 60.0

pytestmark = pytest.mark.timeout(400)


def whole(model: str) -> str:
    return f'msemon_drift_active{{model="{model}",version="1"}}'


def part(model: str, segment: str) -> str:
    return f'msemon_segment_drift_active{{model="{model}",version="1",dimension="country",segment="{segment}"}}'


@dataclass
class Story:
    """All that was sent, and what was seen to be kept quiet meanwhile."""

    notices: list[Notice] = field(default_factory=list)
    quiet: set[tuple[str, ...]] = field(default_factory=set)

    def of(self, model: str) -> list[tuple[str, ...]]:
        """What was sent of a model, in order; the same said twice in a row stands once."""
        return [alert for alert, _ in groupby(each.alert for each in self.notices if each.labels.get("model") == model)]


@dataclass
class World:
    """What the story is played on."""

    a: StandIn
    b: StandIn
    server: Prometheus
    manager: Alertmanager
    hook: Webhook

    def arrives(self, *alert: str) -> None:
        wait_until(lambda: self.hook.has(*alert), ARRIVES_S, f"{alert} to arrive", 0.1)

    def holds(self, expression: str) -> None:
        wait_until(lambda: self.server.vector(expression), ARRIVES_S, expression, 0.1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    server_binary, manager_binary = needs(PROMETHEUS), needs(ALERTMANAGER)
    directory = tmp_path_factory.mktemp("alerting")
    rules = write_shortened(directory / "rules", FACTOR)
    with (
        stand_in() as a,
        stand_in() as b,
        webhook() as (hook, url),
        alertmanager(manager_binary, directory / "alertmanager", url) as manager,
    ):
        everything_is_well(a, b)
        targets = {"a": a.port, "b": b.port}
        with prometheus(server_binary, directory / "prometheus", targets, rules=rules, alertmanager=manager.port) as it:
            yield played(World(a, b, it, manager, hook))


def everything_is_well(a: StandIn, b: StandIn) -> None:
    """Replica a has model `moved`, replica b the others; events come, and half of them meet."""
    for replica, models in ((a, ["moved"]), (b, ["lone", "two", "total", "steady"])):
        for model in models:
            for series in (whole(model), part(model, "de"), part(model, "fr")):
                replica.set(series, 0)
        replica.set("msemon_partitions_assigned", 2)
        replica.set("msemon_consumer_lag_seconds", 0)
        for topic in ("predictions", "labels"):
            replica.set(f'msemon_partitions{{topic="{topic}"}}', 4)
    for kind in ("prediction", "label"):
        b.count(f'msemon_events_total{{topic="{kind}s",kind="{kind}"}}', 40)
        b.count(f'msemon_join_expired_total{{side="{kind}"}}', 0)
    b.count("msemon_join_matched_total", 20)


def played(world: World) -> Story:
    story = Story()
    world.holds("count(up == 1) == 2")
    # On a crowded machine the first scrapes may come seconds late: then MsemonDown fires, rightly, before the story.
    wait_until(world.manager.quiet, ARRIVES_S, "Alertmanager to be quiet", 0.1)
    if world.hook.has("page", "firing", "MsemonDown"):
        world.arrives("page", "resolved", "MsemonDown")
    world.hook.forget()
    for series in (part("lone", "de"), part("two", "de"), part("two", "fr"), whole("total"), part("total", "fr")):
        world.b.set(series, 1)
    world.a.set(part("moved", "de"), 1)
    world.arrives("team", "firing", "MsemonSegmentDrift", "lone", "de")
    world.arrives("team", "firing", "MsemonSegmentDrift", "two", "de")
    world.arrives("team", "firing", "MsemonSegmentDrift", "moved", "de")
    world.arrives("page", "firing", "MsemonModelDrift", "total")
    kept_quiet(world, story, ("MsemonSegmentDrift", "total"))

    world.a.alive = False  # killed; the group gives its partitions to b, which takes its time to restore them
    world.b.set("msemon_partitions_assigned", 4)
    world.b.set(part("lone", "de"), 0)
    world.b.set(whole("total"), 0)
    world.arrives("team", "firing", "MsemonTargetDown", "a")
    for side in ("prediction", "label"):
        world.b.count(f'msemon_join_expired_total{{side="{side}"}}', 10)
    world.holds(f"absent_over_time({part('moved', 'de')}[20s])")  # the rule looks back 15 s: the alert is only kept
    world.b.set(part("moved", "de"), 1)
    world.arrives("team", "resolved", "MsemonSegmentDrift", "lone", "de")
    world.arrives("page", "resolved", "MsemonModelDrift", "total")
    world.arrives("team", "firing", "MsemonSegmentDrift", "total", "fr")

    # Longer than the alert could live on what the killed replica had said: 15 s are over, and 15 s it is kept.
    world.holds("sum_over_time(msemon_segment_drift_active{model='moved',segment='de',instance='b'}[1m]) > 20")
    world.b.set(part("moved", "de"), 0)
    world.arrives("team", "resolved", "MsemonSegmentDrift", "moved", "de")

    world.arrives("quiet", "firing", "MsemonPartnersMissed")
    world.b.alive = False
    world.arrives("page", "firing", "MsemonDown")
    kept_quiet(world, story, ("MsemonPartnersMissed",))
    story.notices = world.hook.notices
    return story


def kept_quiet(world: World, story: Story, alert: tuple[str, ...]) -> None:
    wait_until(lambda: alert in world.manager.suppressed(), ARRIVES_S, f"{alert} to be inhibited", 0.1)
    story.quiet |= world.manager.suppressed()


def test_a_segment_that_drifts_arrives_once_and_resolves_when_it_has_recovered(story):
    assert story.of("lone") == [
        ("team", "firing", "MsemonSegmentDrift", "lone", "de"),
        ("team", "resolved", "MsemonSegmentDrift", "lone", "de"),
    ]


def test_two_segments_of_a_model_are_one_message(story):
    messages = {notice.message for notice in story.notices if notice.labels.get("model") == "two"}
    (first, *_) = sorted(messages)
    together = [notice for notice in story.notices if notice.message == first]
    assert {notice.alert[2:] for notice in together} == {
        ("MsemonSegmentDrift", "two", "de"),
        ("MsemonSegmentDrift", "two", "fr"),
    }


def test_no_message_is_about_two_models(story):
    about: dict[int, set[str]] = {}
    for notice in story.notices:
        about.setdefault(notice.message, set()).add(notice.labels.get("model", ""))
    assert all(len(models) == 1 for models in about.values()), about


def test_a_segment_is_quiet_while_its_model_drifts_and_heard_afterwards(story):
    assert ("MsemonSegmentDrift", "total") in story.quiet
    assert story.of("total") == [
        ("page", "firing", "MsemonModelDrift", "total"),
        ("page", "resolved", "MsemonModelDrift", "total"),
        ("team", "firing", "MsemonSegmentDrift", "total", "fr"),
    ] or story.of("total") == [
        ("page", "firing", "MsemonModelDrift", "total"),
        ("team", "firing", "MsemonSegmentDrift", "total", "fr"),
        ("page", "resolved", "MsemonModelDrift", "total"),
    ]  # the two are different receivers, told at the same time


def test_a_replica_that_is_killed_resolves_nothing(story):
    """Its alert lives on until another replica says the same, and ends when that one says that it has recovered."""
    assert story.of("moved") == [
        ("team", "firing", "MsemonSegmentDrift", "moved", "de"),
        ("team", "resolved", "MsemonSegmentDrift", "moved", "de"),
    ]


def test_alerts_on_data_are_heard_while_one_replica_is_down_and_quiet_once_none_is_up(story):
    order = [notice.alert[:3] for notice in story.notices]
    one_down = order.index(("team", "firing", "MsemonTargetDown"))
    data = order.index(("quiet", "firing", "MsemonPartnersMissed"))
    none_up = order.index(("page", "firing", "MsemonDown"))
    assert one_down < data < none_up
    assert ("MsemonPartnersMissed",) in story.quiet


def test_nothing_else_arrives(story):
    """Not of a model that is well, and of the daemon nothing but what the story did to it."""
    told = {notice.alert[2:] for notice in story.notices}
    assert {about for about in told if "steady" in about} == set()
    assert {about for about in told if len(about) < 3} - {("MsemonModelDrift", "total")} == {
        ("MsemonTargetDown", "a"),
        ("MsemonPartnersMissed",),
        ("MsemonDown",),
    }


def test_what_arrives_reads_as_a_sentence_and_leads_to_its_runbook(story):
    for notice in story.notices:
        text = " ".join(notice.annotations.values())
        assert notice.annotations["runbook_url"] == f"docs/runbooks/{notice.labels['alertname']}.md"
        assert not re.search(r"[{}<>]|error|no value", text.replace("squared error", "")), text
