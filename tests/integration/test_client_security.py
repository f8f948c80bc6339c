"""How both clients are let in by Apache Kafka: each mechanism, and each way it can be wrong, with its reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from msemon.settings import Settings
from msemon.sources.base import ErrorKind, TopicPartition, Trouble, Unreachable
from msemon.sources.opening import open_source
from support.brokers import admin, why_no_kafka
from support.doors import Authority, tls, with_door
from support.report import not_run
from support.token_endpoint import TokenEndpoint, unsecured
from support.topics import Record, create_topics, produce, unique
from support.waiting import wait_until

USER, PASSWORD = "monitor", "ge heim+4711"
JAAS = "org.apache.kafka.common.security"


class Guarded(NamedTuple):
    """A broker's door, and what a client needs to come in by it."""

    bootstrap: str
    address: str
    authority: Authority
    topic: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """SASL_SSL with all four mechanisms; tokens are checked by Kafka's validator of unsecured ones."""
    if reason := why_no_kafka():
        not_run(reason)
    directory = tmp_path_factory.mktemp("guarded")
    authority = Authority(directory / "authority")
    door = "listener.name.users"
    scram = f"{JAAS}.scram.ScramLoginModule required;"
    broker, address = with_door(directory, "SASL_SSL", tls(authority, directory) | {
        f"{door}.ssl.client.auth": "none",
        f"{door}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        f"{door}.plain.sasl.jaas.config": f'{JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        f"{door}.scram-sha-256.sasl.jaas.config": scram,
        f"{door}.scram-sha-512.sasl.jaas.config": scram,
        f"{door}.oauthbearer.connections.max.reauth.ms": "60000",  # and a token's end, where that is sooner
        f"{door}.oauthbearer.sasl.jaas.config":
            f'{JAAS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
    })  # fmt: skip
    broker.start()
    with admin(broker.bootstrap) as client:
        both = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        for each in both:
            done = client.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, each, PASSWORD)])
            assert done == {USER: None}
    topic = unique("events")
    create_topics(broker.bootstrap, {topic: 1})
    yield Guarded(broker.bootstrap, address, authority, topic)
    broker.stop()


@pytest.fixture(params=["kafka-python", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings(guarded: Guarded, client: str, **kafka: Any) -> Settings:
    given = {
        "client": client, "bootstrap_servers": guarded.address, "topics": [guarded.topic], "group_id": unique("group"),
        "security_protocol": "SASL_SSL", "ssl_cafile": str(guarded.authority.certificate),
    }  # fmt: skip
    return Settings(kafka=given | kafka)  # type: ignore[arg-type]


def let_in(chosen: Settings) -> None:
    """Until the group has given us the topic's partition: both of librdkafka's clients have logged in by then."""
    source = open_source(chosen)
    try:
        source.connect()
        source.subscribe()
        wait_until(lambda: source.poll(0.2).assigned == frozenset({0}), 30, "the partition")
    finally:
        source.close(5)


def refused(chosen: Settings) -> Unreachable:
    """With what words we are not let in."""
    source = open_source(chosen)
    try:
        with pytest.raises(Unreachable) as caught:
            source.connect()
        return caught.value
    finally:
        source.close(5)


def login(mechanism: str, password: str = PASSWORD) -> dict[str, Any]:
    return {"sasl_mechanism": mechanism, "sasl_username": USER, "sasl_password": password}


LASTS_S = 8.0
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_password_lets_us_in_and_another_does_not(guarded, client, mechanism):
    let_in(settings(guarded, client, **login(mechanism)))
    found = refused(settings(guarded, client, **login(mechanism, "another")))
    assert found.kind is ErrorKind.AUTHENTICATION
    assert "uthentication failed" in str(found), found
    assert "another" not in str(found)


def test_a_token_lets_us_in_and_one_that_has_ended_does_not(guarded, client):
    let_in(settings(guarded, client, sasl_mechanism="OAUTHBEARER", sasl_password=unsecured(USER, 300)))
    found = refused(settings(guarded, client, sasl_mechanism="OAUTHBEARER", sasl_password=unsecured(USER, -300)))
    assert found.kind is ErrorKind.AUTHENTICATION, found


def test_tokens_are_asked_of_the_endpoint_with_the_clients_credentials(guarded, client):
    with TokenEndpoint(USER, PASSWORD) as endpoint:
        given = login("OAUTHBEARER") | {"sasl_token_url": endpoint.url, "sasl_over_plaintext": True}
        let_in(settings(guarded, client, **given, sasl_token_scope="kafka"))
        assert endpoint.scopes == {"kafka"}
        found = refused(settings(guarded, client, **given | {"sasl_password": "another"}))
        assert found.kind is ErrorKind.AUTHENTICATION, found
        assert "kafka.sasl_token_url answers 401" in str(found)
        assert "another" not in str(found)


@pytest.mark.timeout(240)
def test_tokens_that_last_for_seconds_are_renewed_while_we_read(guarded, client):
    """The broker ends a connection with its token. Nothing is refused as long as there are new ones; then it is."""
    with TokenEndpoint(USER, PASSWORD, lasts_s=LASTS_S) as endpoint:
        given = login("OAUTHBEARER") | {"sasl_token_url": endpoint.url, "sasl_over_plaintext": True}
        topic = unique("events")
        create_topics(guarded.bootstrap, {topic: 1})
        source = open_source(settings(guarded, client, **given, topics=[topic]))
        troubles: list[Trouble] = []
        arrived: list[bytes | None] = []

        def read() -> bool:
            polled = source.poll(0.2)
            arrived.extend(value for batch in polled.batches for value in batch.values)
            troubles.extend(polled.errors)
            return True

        def until_asked_again(before: int) -> None:
            wait_until(lambda: read() and endpoint.asked > before, 60, "another token")

        def refusals() -> list[Trouble]:
            return [each for each in troubles if each.kind is ErrorKind.AUTHENTICATION]

        try:
            source.connect()
            source.subscribe()
            wait_until(lambda: source.poll(0.2).assigned == frozenset({0}), 30, "the partition")
            where = TopicPartition(topic, 0)
            source.seek(where, 0)
            source.resume([where])
            for number in range(4):
                produce(guarded.bootstrap, topic, [Record(b"%d" % number)])
                until_asked_again(endpoint.asked)
            wait_until(lambda: read() and len(arrived) == 4, 30, "the last record")
            assert source.partition_counts() == {topic: 1}
            assert arrived == [b"0", b"1", b"2", b"3"]
            assert not refusals()
            endpoint.refuse = True
            wait_until(lambda: read() and refusals(), 60, "a refusal")
        finally:
            source.close(5)


def test_a_certificate_of_an_authority_that_is_not_ours_is_refused(guarded, client, tmp_path):
    other = Authority(tmp_path / "other")
    found = refused(settings(guarded, client, **login("PLAIN"), ssl_cafile=str(other.certificate)))
    assert found.kind is ErrorKind.AUTHENTICATION
    assert "certificate" in str(found), found


def test_a_certificate_for_another_address_is_refused_unless_nobody_is_to_look(guarded, client):
    """It is for 127.0.0.1, and we ask for localhost, to which it is a stranger's."""
    port = guarded.address.split(":")[1]
    away = login("PLAIN") | {"bootstrap_servers": f"localhost:{port}"}
    found = refused(settings(guarded, client, **away))
    assert found.kind is ErrorKind.AUTHENTICATION
    assert "ertificate" in str(found), found
    let_in(settings(guarded, client, **away, ssl_check_hostname=False))


def test_without_tls_at_a_door_of_tls_nobody_answers(guarded, client):
    chosen = settings(guarded, client, security_protocol="PLAINTEXT", ssl_cafile=None)
    began = time.monotonic()
    assert refused(chosen).kind is not ErrorKind.AUTHORIZATION
    assert time.monotonic() - began < 60
