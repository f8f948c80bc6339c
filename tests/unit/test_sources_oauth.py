"""Tokens for OAUTHBEARER: from a file that may be rotated, or from an endpoint that the test serves."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from kafka.errors import SaslAuthenticationFailedError

from msemon.settings import Settings, load
from msemon.sources.kafka_access import refusal
from msemon.sources.oauth import SHORT_S, NoToken, Tokens
from support.token_endpoint import TokenEndpoint, unsecured


def settings(**kafka: Any) -> Settings:
    given = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_over_plaintext": True}
    return Settings(kafka=given | kafka)  # type: ignore[arg-type]


def test_a_token_in_a_file_is_read_anew_and_never_trusted_for_long(tmp_path):
    secret = tmp_path / "msemon_kafka__sasl_password"
    flags = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "OAUTHBEARER"}
    secret.write_text("first\n")
    tokens = Tokens(load(flags=flags, secrets_dir=tmp_path, environ={}), wall_s=lambda: 1_000.0)
    assert tokens.now() == ("first", 1_000.0 + SHORT_S)
    secret.write_text("second\n")
    assert tokens.token() == "second"


def test_a_token_holds_no_longer_than_it_says_itself():
    now_s = time.time()
    tokens = Tokens(settings(sasl_password=unsecured("me", 10)))
    assert now_s + 9 <= tokens.now().until_s <= now_s + 11
    with pytest.raises(NoToken, match=r"kafka\.sasl_password: the token has ended"):
        Tokens(settings(sasl_password=unsecured("me", -1))).now()


def test_a_token_is_asked_for_once_until_most_of_its_time_is_over():
    now = [time.time()]
    with TokenEndpoint("me", "a secret:+", lasts_s=100) as endpoint:
        given = settings(sasl_token_url=endpoint.url, sasl_username="me", sasl_password="a secret:+")
        tokens = Tokens(given, wall_s=lambda: now[0])
        first = tokens.now()
        now[0] += 79
        assert tokens.now() is first
        assert endpoint.asked == 1
        now[0] += 2
        assert tokens.now().until_s == now[0] + 100
        assert endpoint.asked == 2


def test_while_the_endpoint_is_away_a_token_is_used_to_its_end():
    now = [time.time()]
    with TokenEndpoint("me", "secret", lasts_s=100) as endpoint:
        given = settings(sasl_token_url=endpoint.url, sasl_username="me", sasl_password="secret")
        tokens = Tokens(given, wall_s=lambda: now[0])
        first = tokens.now()
    now[0] += 90
    assert tokens.now() is first
    now[0] += 11
    with pytest.raises(NoToken, match="refused"):
        tokens.now()


def test_an_answer_that_is_no_http_is_no_token_either():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(9_999)
                connection.sendall(b"SSH-2.0-other\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(NoToken, match=r"^kafka\.sasl_token_url: not a token in JSON$"):
            Tokens(settings(sasl_token_url=url, sasl_username="me", sasl_password="secret")).now()
        answering.join(10)


@pytest.mark.parametrize(
    ("told", "lasts_s"),
    [
        ("3600", 3600), ('"3600"', 3600), ('" 90.5 "', 90.5), ("null", SHORT_S), ('""', SHORT_S), ('"soon"', SHORT_S),
        ("true", SHORT_S), ("[1]", SHORT_S), ('"inf"', SHORT_S), ("1" * 400, SHORT_S),
        ('"-5"', SHORT_S), ("0", SHORT_S),
    ],
)  # fmt: skip
def test_how_long_a_token_lasts_may_be_told_as_text_and_what_tells_nothing_is_no_refusal(told, lasts_s):
    with TokenEndpoint("me", "secret") as endpoint:
        endpoint.body = b'{"access_token": "opaque", "token_type": "Bearer", "expires_in": ' + told.encode() + b"}"
        given = settings(sasl_token_url=endpoint.url, sasl_username="me", sasl_password="secret")
        assert Tokens(given, wall_s=lambda: 1_000.0).now() == ("opaque", 1_000.0 + lasts_s)


@pytest.mark.parametrize(
    "body", [b"{}", b"not JSON", b'{"access_token": ""}', b'{"access_token": "a\\u0001b"}', b"[" * 9999]
)
def test_an_answer_that_is_no_token_is_said_without_what_it_is(body):
    with TokenEndpoint("me", "secret") as endpoint:
        endpoint.body = body
        with pytest.raises(NoToken, match=r"^kafka\.sasl_token_url: not a token( in JSON)?$"):
            Tokens(settings(sasl_token_url=endpoint.url, sasl_username="me", sasl_password="secret")).now()


def test_an_endpoint_that_refuses_or_is_not_there_is_said_as_a_refusal_and_no_secret_with_it():
    with TokenEndpoint("me", "secret") as endpoint:
        given = settings(sasl_token_url=endpoint.url, sasl_username="me", sasl_password="wrong-4711")
        with pytest.raises(NoToken, match="answers 401") as caught:
            Tokens(given).now()
    assert "4711" not in str(caught.value)
    assert isinstance(refusal(caught.value), SaslAuthenticationFailedError)
    with pytest.raises(NoToken, match="refused"):
        Tokens(given).now()
