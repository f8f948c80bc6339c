"""librdkafka's two handles, the group's consumer and the one that asks, with a bound to every call."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from msemon.settings import Settings
from msemon.sources import librdkafka_config as config
from msemon.sources import librdkafka_log
from msemon.sources.apart import apart
from msemon.sources.base import ErrorKind, Fatal, TopicPartition, Trouble, Unreachable
from msemon.sources.certificates import Certificates
from msemon.sources.librdkafka_inside import Described, Question, Statistics
from msemon.sources.login import Login
from msemon.sources.oauth import Tokens

# ruff: noqa: SLF001 (librdkafka's own errors have public names that begin with an underscore)

log = structlog.get_logger(__name__)

_FATAL = {
    KafkaError._FATAL,
    KafkaError._INVALID_ARG,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    KafkaError.INVALID_GROUP_ID,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.UNSUPPORTED_VERSION,
}
_FORBIDDEN = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
}
_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
_REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}

LOOK_S = 1.0
"""How often files of certificates are looked at while we are not let in."""

EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()


class Client:
    """Made anew for each connection. Raises KafkaException where librdkafka does not take the options, and NoToken."""

    def __init__(self, settings: Settings, ask_s: float) -> None:
        self._ask_s = ask_s
        self._refusals: deque[Trouble] = deque(maxlen=16)
        self._login = Login(settings)
        self._secrets = self._login.now()
        self._tokens = Tokens(settings) if settings.kafka.sasl_mechanism == "OAUTHBEARER" else None
        self._certificates = Certificates(settings)
        self._not_let_in = False  # since the files were looked at last
        self._look_at_s = 0.0
        self._sent_s: float | None = None  # when the commit that is not answered yet was sent
        self.statistics = Statistics()
        told: dict[str, Any] = {"error_cb": self._told}
        if (tokens := self._tokens) is not None:
            tokens.now()  # else librdkafka would wait for it for ten seconds, and say nothing of why it does not come
            told["oauth_cb"] = lambda _options: tuple(tokens.now())
        heard = {"stats_cb": self.statistics.read, "on_commit": self._answered}
        self.consumer: Any = Consumer(config.consumer_config(settings) | told | heard)
        self._asking: Any = AdminClient(config.client_config(settings) | told)
        self.committed_s = -math.inf
        """When the last commit that was taken was sent."""
        self.refused: str | None = None
        """Why the last commit that was answered was not taken; None where it was."""

    def refusals(self) -> Iterator[Trouble]:
        """Why we were not let in since the last call; librdkafka logs what it gets over by itself."""
        while self._refusals:
            yield self._refusals.popleft()

    def renew_login(self) -> None:
        """Log in from now on with what the secrets are now; for tokens librdkafka asks by itself."""
        secrets = self._login.now()
        if secrets != self._secrets and self._tokens is None:
            self._secrets = secrets
            for each in (self.consumer, self._asking):
                each.set_sasl_credentials(*secrets)

    def outdated(self) -> bool:
        """Whether we are not let in and the files of certificates have changed since this was made."""
        now_s = time.monotonic()
        if not self._not_let_in or now_s < self._look_at_s:
            return False
        self._not_let_in, self._look_at_s = False, now_s + LOOK_S
        return self._certificates.changed()

    def ask(self, topics: Sequence[str]) -> Question:
        """A question about topics, not waited for."""
        return Question(self._asking, topics, self._ask_s)

    def described(self, topics: Sequence[str], timeout_s: float | None = None) -> dict[str, Described | None]:
        """Each topic as it is now, None where it does not exist. Raises Unreachable or Fatal."""
        try:
            found = Question(self._asking, topics, timeout_s or self._ask_s).answer()
        except (KafkaException, TimeoutError) as problem:
            self._asking.poll(0.0)  # calls `_told`
            if words := "; ".join(dict.fromkeys(self._lockouts())):
                raise Unreachable(f"could not ask for the topics: {words}", ErrorKind.AUTHENTICATION) from problem
            raise refusal(problem, "ask for the topics") from problem
        return {topic: found.get(topic) for topic in topics}

    def offsets(self, wanted: Collection[TopicPartition], at: Any) -> dict[TopicPartition, int]:
        """Offsets at the start, the end or a time, only where there is one. Raises Unreachable."""
        asked = {ClientPartition(*where): at for where in wanted}
        try:
            answers = self._asking.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._ask_s
            )
            found = {TopicPartition(e.topic, e.partition): a.result(self._ask_s + 1.0) for e, a in answers.items()}
        except (KafkaException, TimeoutError) as problem:
            raise refusal(problem, "ask for offsets") from problem
        # Of a time that no record has reached there is no offset; some brokers give one, and no time of it.
        timed = at not in (EARLIEST, LATEST)
        return {where: each.offset for where, each in found.items() if not timed or each.timestamp >= 0}

    def offsets_at(self, wanted: Collection[TopicPartition], time_ms: int) -> dict[TopicPartition, int]:
        """First offsets of that time or later, where there are any. Raises Unreachable."""
        return self.offsets(wanted, OffsetSpec.for_timestamp(time_ms))

    def committed(self, wanted: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and note of what the group has committed. Raises Unreachable."""
        asked = [ClientPartition(*where) for where in wanted]
        try:
            found = self.consumer.committed(asked, timeout=self._ask_s)
        except KafkaException as problem:
            raise refusal(problem, "ask what was committed") from problem
        for each in found:
            if each.error is not None:
                raise refusal(KafkaException(each.error), "ask what was committed")
        places = {TopicPartition(each.topic, each.partition): each for each in found if each.offset >= 0}
        return {where: (each.offset, each.metadata or "") for where, each in places.items()}

    def commit(self, offsets: Mapping[TopicPartition, int], note: str) -> None:
        """Send them, unless earlier ones are not answered yet. The answer comes within `consume`. Raises Fatal.

        Waiting for it in the client would keep all its other calls waiting, for as long as no coordinator is there.
        """
        if self.committing:
            return
        told = [ClientPartition(*where, offset, note) for where, offset in offsets.items()]
        self._sent_s = time.monotonic()
        try:
            self.consumer.commit(offsets=told, asynchronous=True)
        except KafkaException as problem:
            self._answered(problem.args[0], [])
            if fatal(problem.args[0]):
                raise refusal(problem, "commit") from problem

    @property
    def committing(self) -> bool:
        """Whether the answer to a commit is still to come."""
        return self._sent_s is not None

    def close(self, timeout_s: float) -> None:
        """End; where that takes longer it goes on by itself."""
        call = apart(self.consumer.close, "closing")
        wait([call], timeout_s)
        if not call.done():
            log.warning("the client did not close in time")
        elif (problem := call.exception()) is not None:
            log.warning("the client did not close cleanly", reason=str(problem))

    def _answered(self, error: Any, partitions: Collection[Any]) -> None:
        sent_s, self._sent_s = self._sent_s, None
        error = error or next((each.error for each in partitions if each.error is not None), None)
        self.refused = None if error is None else error.str()
        if error is not None:
            self._refusals.append(trouble(error))
        elif sent_s is not None:
            self.committed_s = sent_s  # the answer may have come long before it was read

    def _told(self, error: Any) -> None:
        told = trouble(error)
        if told.kind is not ErrorKind.OTHER:
            self._refusals.append(told)
            self._not_let_in |= told.kind is ErrorKind.AUTHENTICATION

    def _lockouts(self) -> list[str]:
        """Why, since the last call; the other refusals stay for `refusals`."""
        told = [*self.refusals()]
        self._refusals.extend(each for each in told if each.kind is not ErrorKind.AUTHENTICATION)
        return [each.text for each in told if each.kind is ErrorKind.AUTHENTICATION]


def trouble(error: Any) -> Trouble:
    """What the client says, and of what kind it is."""
    return Trouble(_kind(error), librdkafka_log.plain(error.str()))


def _kind(error: Any) -> ErrorKind:
    # What a broker holds against a client's certificate comes after the handshake, as a connection that broke off.
    if error.code() in _REFUSED or "SSL alert" in error.str():
        return ErrorKind.AUTHENTICATION
    return ErrorKind.AUTHORIZATION if error.code() in _FORBIDDEN else ErrorKind.OTHER


def fatal(error: Any) -> bool:
    """Whether going on would be wrong after this error of the client."""
    return bool(error.fatal() or error.code() in _FATAL)


def refusal(problem: BaseException, task: str) -> Exception:
    """The exception that tells the daemon what to do about it."""
    text = f"could not {task}: {config.reason(problem) or 'no answer in time'}"
    if not isinstance(problem, KafkaException):
        return Unreachable(text)
    error = problem.args[0]
    if not fatal(error):
        return Unreachable(text, _kind(error))
    if _FENCED in error.str():  # once told, librdkafka has another code for it
        return Fatal("another member of the group has the same group_instance_id")
    return Fatal(text)
