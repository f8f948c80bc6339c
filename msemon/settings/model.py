"""Every setting: one model a section, composed in `Settings`.

Names and defaults are the contract's. Values whose function is not in this version are refused rather than ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from msemon.settings.names import EVENT_FIELDS, MODEL_METRICS, SEGMENT_METRICS
from msemon.settings.values import (
    Address,
    Begin,
    Count,
    Duration,
    FieldPath,
    File,
    MaybeText,
    Number,
    PositiveSpan,
    Servers,
    Span,
    Start,
    Text,
    Unset,
    distinct,
    later,
    path_names,
)

MAX_PANES = 1_000

CLIENT_OWN = frozenset({
    "bootstrap_servers", "group_id", "group_instance_id", "security_protocol", "sasl_mechanism",
    "sasl_plain_username", "sasl_plain_password", "sasl_oauth_token_provider", "ssl_cafile", "ssl_certfile",
    "ssl_keyfile", "ssl_check_hostname", "ssl_context",
    "enable_auto_commit", "auto_offset_reset", "isolation_level", "partition_assignment_strategy",
    "key_deserializer", "value_deserializer", "consumer_timeout_ms",
})  # fmt: skip
"""Client options that have a setting of their own, or whose value msemon's promises depend on."""

_SECRET_NAME = re.compile("password|secret|token|credential", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a client option of this name is masked wherever settings are shown."""
    return _SECRET_NAME.search(name) is not None


class Section(BaseModel):
    """What all sections have in common: unknown keys are refused, and nothing changes after the start."""

    # validate_default: cross checks must also see a default beside a changed neighbour
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class KafkaSettings(Section):
    """The brokers, the topics and the client."""

    bootstrap_servers: Servers = "localhost:9092"
    """Brokers to begin with: host:port, several joined by commas."""
    topics: list[Text] = Field(default=["predictions", "labels"], min_length=1)
    """Topics to read, any number; what an event is follows from its content."""
    group_id: Text = "msemon"
    """Consumer group; replicas of one monitor share it."""
    client: Literal["kafka-python", "librdkafka"] = "kafka-python"
    """Kafka client library that reads the topics; librdkafka needs the extra msemon[librdkafka]."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to speak to the brokers."""
    sasl_over_plaintext: bool = False
    """Whether passwords and tokens may cross the network unencrypted; SASL_PLAINTEXT needs it."""
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER", "AWS_MSK_IAM"] | None,
        Unset,
        later("GSSAPI", "AWS_MSK_IAM"),
    ] = None
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; others are not in this version."""
    sasl_token_url: MaybeText = None
    """With OAUTHBEARER, the endpoint that gives tokens for user and password; none: the password is the token."""
    sasl_token_scope: MaybeText = None
    """Scope to ask that endpoint for."""
    sasl_username: MaybeText = None
    """User of the mechanism, or the client's name at the token endpoint."""
    sasl_password: Annotated[SecretStr | None, Unset] = None
    """Password, the client's secret, or the token; a secret, best kept in a file of the secrets directory."""
    ssl_cafile: File = None
    """PEM file of the authorities that the brokers' certificates are checked against."""
    ssl_certfile: File = None
    """PEM file of the client's own certificate."""
    ssl_keyfile: File = None
    """PEM file of that certificate's key."""
    ssl_check_hostname: bool = True
    """Whether the brokers' certificates must be for the addresses they are reached by."""
    group_instance_id: MaybeText = None
    """Static member id, one a replica: a restart then keeps its partitions."""
    start: Begin = Start("latest", "latest")
    """Where a group with no state begins: latest, earliest, an RFC 3339 time, or a duration back from now."""
    dead_letter_topic: MaybeText = None
    """Topic that rejected records are copied to."""
    client_options: dict[str, Any] = {}
    """Further options passed to the client as they are."""

    @field_validator("topics")
    @classmethod
    def _topics(cls, topics: list[str]) -> list[str]:
        distinct(topics, "topic")
        return topics

    @field_validator("sasl_over_plaintext")
    @classmethod
    def _in_the_clear(cls, allowed: bool, info: ValidationInfo) -> bool:
        if info.data.get("security_protocol") == "SASL_PLAINTEXT" and not allowed:
            raise ValueError(
                "expected true where kafka.security_protocol is SASL_PLAINTEXT: "
                "what msemon logs in with crosses the network unencrypted"
            )
        return allowed

    @field_validator("sasl_token_url", "sasl_token_scope")
    @classmethod
    def _token(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("sasl_mechanism", "OAUTHBEARER") != "OAUTHBEARER":
            raise ValueError("expected none where kafka.sasl_mechanism is not OAUTHBEARER")
        if value is not None and info.field_name == "sasl_token_scope" and info.data.get("sasl_token_url", "") is None:
            raise ValueError("expected none where there is no kafka.sasl_token_url")
        return value

    @field_validator("sasl_token_url")
    @classmethod
    def _endpoint(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and not re.match(r"https?://[^/\s@]+(/\S*)?$", url):
            raise ValueError("expected an address that begins with https://, without user and password in it")
        if url is not None and url.startswith("http:") and not info.data.get("sasl_over_plaintext", True):
            raise ValueError("expected https://, or kafka.sasl_over_plaintext: the secret would cross unencrypted")
        return url

    @field_validator("sasl_mechanism", "sasl_username", "sasl_password")
    @classmethod
    def _sasl(cls, value: Any, info: ValidationInfo) -> Any:
        protocol = info.data.get("security_protocol")  # absent where it is a mistake itself
        token = info.data.get("sasl_mechanism") == "OAUTHBEARER" and info.data.get("sasl_token_url", "") is None
        if info.field_name == "sasl_username" and token:
            if value is not None:
                raise ValueError("expected none where kafka.sasl_password is the token: the token says who we are")
            return value
        if protocol is not None and (value is not None) != protocol.startswith("SASL_"):
            wanted = "none" if value is not None else "a value"
            raise ValueError(f"expected {wanted} where kafka.security_protocol is {protocol}")
        return value

    @field_validator("ssl_cafile", "ssl_certfile", "ssl_keyfile")
    @classmethod
    def _ssl(cls, path: str | None, info: ValidationInfo) -> str | None:
        protocol = info.data.get("security_protocol", "SSL")
        if path is not None and not protocol.endswith("SSL"):
            raise ValueError(f"expected none where kafka.security_protocol is {protocol}")
        if path is not None and info.field_name == "ssl_keyfile" and info.data.get("ssl_certfile", "") is None:
            raise ValueError("expected kafka.ssl_certfile too: a key is of no use without its certificate")
        return path

    @field_validator("dead_letter_topic")
    @classmethod
    def _not_an_input(cls, topic: str | None, info: ValidationInfo) -> str | None:
        if topic is not None and topic in info.data.get("topics", []):
            raise ValueError("expected a topic that is not among kafka.topics, or rejections would be read again")
        return topic

    @field_validator("client_options")
    @classmethod
    def _options(cls, options: dict[str, Any]) -> dict[str, Any]:
        own = sorted(CLIENT_OWN & options.keys())
        if own:
            raise ValueError(f"expected options that msemon does not set itself, not {', '.join(own)}")
        for name, value in options.items():
            if not isinstance(value, str | int | float | bool):
                raise ValueError(f"expected text, a number, true or false for {name}")  # noqa: TRY004 - pydantic's way
        return options


def _registry_url(url: str | None) -> str | None:
    if url is not None:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError where it is none)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected an address such as http://registry:8081")
        if parts.username is not None or parts.password is not None:
            raise ValueError("expected an address without a user: format.schema_registry_username is for that")
    return url


class FormatSettings(Section):
    """How bytes become events."""

    encoding: Literal["json", "avro", "protobuf"] = "json"
    """How messages are encoded; avro needs the extra msemon[avro], protobuf msemon[protobuf]."""
    cloudevents: bool = False
    """Whether events are carried by CloudEvents, in structured or binary mode."""
    schema_registry_url: Annotated[MaybeText, AfterValidator(_registry_url)] = None
    """http or https address of a schema registry with Confluent's interface, which avro needs."""
    schema_registry_username: MaybeText = None
    """User that the registry is told, by basic authentication."""
    schema_registry_password: Annotated[SecretStr | None, Unset] = None
    """Password of that user; a secret, read anew at every request where it is a file of the secrets directory."""
    schema_registry_cafile: File = None
    """PEM file of the authorities that the registry's certificate is checked against."""
    schema_registry_certfile: File = None
    """PEM file of the certificate that the registry is shown."""
    schema_registry_keyfile: File = None
    """PEM file of that certificate's key."""
    descriptor_set: File = None
    """File of a Protobuf FileDescriptorSet with all it imports, which protobuf needs."""
    messages: dict[str, Text] = {}
    """Maps each topic to the full name of its Protobuf message: {"labels": "acme.Label"}."""
    fields: dict[str, FieldPath] = {}
    """Maps an event's names to paths in the message: {"id": "request.id"}."""

    @field_validator("schema_registry_url")
    @classmethod
    def _needed(cls, url: str | None, info: ValidationInfo) -> str | None:
        encoding = info.data.get("encoding", "avro")
        if url is None and info.data.get("encoding") == "avro":
            raise ValueError("expected an address such as http://registry:8081 where format.encoding is avro")
        if url is not None and encoding != "avro":
            raise ValueError(f"expected none where format.encoding is {encoding}")
        return url

    @field_validator(
        "schema_registry_username",
        "schema_registry_password",
        "schema_registry_cafile",
        "schema_registry_certfile",
        "schema_registry_keyfile",
    )
    @classmethod
    def _of_a_registry(cls, value: Any, info: ValidationInfo) -> Any:
        url = info.data.get("schema_registry_url", "")  # absent where it is a mistake itself
        if value is not None and url is None:
            raise ValueError("expected none where format.schema_registry_url is not set")
        user = info.data.get("schema_registry_username", "")
        if info.field_name == "schema_registry_password" and (value is None) != (user is None) and user != "":
            raise ValueError("expected user and password together, or none of them")
        if str(info.field_name).endswith("file") and value is not None and not str(url).startswith("https:"):
            raise ValueError("expected none where format.schema_registry_url is not https")
        certificate = info.data.get("schema_registry_certfile", "")
        if info.field_name == "schema_registry_keyfile" and value is not None and certificate is None:
            raise ValueError("expected format.schema_registry_certfile too: a key is of no use without its certificate")
        return value

    @field_validator("descriptor_set", "messages")
    @classmethod
    def _of_protobuf(cls, value: Any, info: ValidationInfo) -> Any:
        encoding = info.data.get("encoding")  # absent where it is a mistake itself
        if encoding is not None and bool(value) != (encoding == "protobuf"):
            raise ValueError(f"expected {'none' if value else 'a value'} where format.encoding is {encoding}")
        return value

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str]) -> dict[str, str]:
        unknown = sorted(fields.keys() - set(EVENT_FIELDS))
        if unknown:
            raise ValueError(f"expected the names {', '.join(EVENT_FIELDS)}, not {', '.join(unknown)}")
        paths = {name: path_names(fields.get(name, name)) for name in EVENT_FIELDS}
        for name, path in paths.items():
            within = [other for other, longer in paths.items() if other != name and longer[: len(path)] == path]
            if within:
                raise ValueError(f"expected a place of its own for each field, but {within[0]} lies in that of {name}")
        return fields


class JoinSettings(Section):
    """How predictions and labels find each other."""

    timeout: PositiveSpan = Duration("24h")
    """How long a prediction waits for its label."""
    memory: Span = Duration("10m")
    """How long a label is kept, for slower models and repeats, and a matched prediction for repeats."""
    max_pending: Count = 5_000_000
    """Most entries a process keeps, waiting and remembered."""


class WindowSettings(Section):
    """The windows and their clock."""

    lengths: list[PositiveSpan] = Field(default=[Duration("5m"), Duration("1h"), Duration("24h")], min_length=1)
    """Lengths of the windows."""
    clock: Literal["observed", "predicted"] = "observed"
    """Time of a pair: observed (when its error became knowable) or predicted (when the prediction was made)."""
    panes: Annotated[Count, Field(le=MAX_PANES)] = 60
    """Panes a window is cut into, 1 to 1000: it moves on by one of them at a time."""
    max_future: Span = Duration("5m")
    """How far an event's time may be ahead of its record and of the wall clock."""

    @field_validator("lengths")
    @classmethod
    def _distinct(cls, lengths: list[Duration]) -> list[Duration]:
        distinct(lengths, "length")  # as seconds: 60s and 1m are one window
        return lengths

    @field_validator("panes")
    @classmethod
    def _whole_panes(cls, panes: int, info: ValidationInfo) -> int:
        for length in info.data.get("lengths", []):
            if round(length * 1e6) % panes:
                raise ValueError(f"expected a number of panes that cuts {length} into whole microseconds")
        return panes


class LimitSettings(Section):
    """What bounds memory and messages."""

    series: Count = 1_000
    """Most segment series a model and partition; further ones are folded into __other__."""
    models: Count = 1_000
    """Most pairs of model and version a partition; further ones are folded into __other__."""
    total_series: Count = 100_000
    """Most series over all models of a partition."""
    label_length: Annotated[Count, Field(ge=10)] = 128  # a cut value ends in `~` and 8 digits, and keeps something
    """Most characters of a label value, at least 10; longer ones are cut and end in a hash."""
    message_bytes: Count = 1_000_000
    """Largest message in bytes."""
    vector_length: Annotated[Count, Field(le=65_535)] = 4_096  # the join keeps it in 16 bits
    """Most numbers in a prediction or label, at most 65,535."""
    json_depth: Count = 32
    """Deepest nesting of a message."""
    message_events: Count = 10_000
    """Most events in one message, where it is an array."""


class BaselineSettings(Section):
    """What drift is measured from."""

    file: File = None
    """JSON file of baselines, read anew when it changes; series it does not name learn their own."""
    learn_pairs: Count = 5_000
    """Pairs a baseline is learnt from."""
    learn_time: PositiveSpan = Duration("24h")
    """Time that learning lasts."""
    learn_after: Span = Duration("24h")
    """Time from a cold start to the beginning of learning."""
    adopt: list[Text] = []
    """Models whose newest version may use the baseline it learnt itself."""


class DriftSettings(Section):
    """When an error counts as drifted."""

    enabled: bool = True
    """Whether drift is tested for."""
    tolerated_ratio: Annotated[Number, Field(gt=1)] = 1.1
    """Ratio of the MSE to its baseline that is no drift yet, above 1."""
    mean_time_between_false_alarms: PositiveSpan = Duration("365d")
    """Mean time between false alarms of one model with all its segments."""


class StateSettings(Section):
    """Where state is kept between runs."""

    store: Literal["sqlite", "kafka", "none"] = "sqlite"
    """Where state is kept: sqlite (a directory of this replica), kafka (a topic, for replicas that move) or none."""
    path: Text = "./msemon-state"
    """Directory of the sqlite store."""
    topic: Text = "msemon-state"
    """Topic of the kafka store."""
    interval: PositiveSpan = Duration("10s")
    """Time between checkpoints."""


class WebSettings(Section):
    """Where HTTP is served."""

    address: Address = "0.0.0.0:10673"
    """host:port that /metrics, health and the page are served on; port 0 takes a free one."""
    health_address: Annotated[Address | None, Unset] = None
    """host:port for health alone."""
    config_file: File = None
    """Prometheus' web configuration file: TLS, users, headers, a rate limit; read anew when it changes."""

    @field_validator("health_address")
    @classmethod
    def _another(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is not None and address == info.data.get("address") and not address.endswith(":0"):
            raise ValueError("expected another address than web.address")
        return address


def _metrics(known: tuple[str, ...]) -> BeforeValidator:
    def check(value: object) -> object:
        if value == "all":
            return value
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError('expected "all" or a list of names such as ["mse", "rmse"]')
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"expected names of metrics without a prefix, not {', '.join(unknown)}")
        return value

    return BeforeValidator(check)


class ExportSettings(Section):
    """Which metric families are exported."""

    metrics: Annotated[Literal["all"] | list[str], _metrics(MODEL_METRICS)] = "all"
    """Families to export per model: all, or a list of names without msemon_."""
    segment_metrics: Annotated[Literal["all"] | list[str], _metrics(SEGMENT_METRICS)] = [
        "mse", "rmse", "rmse_lower", "rmse_upper", "bias", "window_pairs", "window_weight", "window_squared_error",
        "baseline_mse", "baseline_upper_mse", "baseline_pairs",
        "drift_evidence", "drift_threshold", "drift_active", "drift_alarms_total",
        "pairs_total", "weight_total", "squared_error_total",
    ]  # fmt: skip
    """Families to export per segment: all, or a list of names without msemon_segment_."""


class Settings(BaseSettings):
    """All settings. `Settings()` is the defaults; `load()` is what users set.

    Durations are seconds (`Duration`, a float), `kafka.start` is a `Start`.
    """

    # Layers are gathered in `layers.py`, because pydantic-settings' own sources stop at the first mistake, ignore
    # unknown names and do not say where a value came from; so only what is passed in counts here.
    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    segments: list[list[Text]] = []
    """Dimensions, each a list of segment keys: [["country"], ["country", "tier"]]."""
    kafka: KafkaSettings = KafkaSettings()
    format: FormatSettings = FormatSettings()
    join: JoinSettings = JoinSettings()
    windows: WindowSettings = WindowSettings()
    limits: LimitSettings = LimitSettings()
    baseline: BaselineSettings = BaselineSettings()
    drift: DriftSettings = DriftSettings()
    state: StateSettings = StateSettings()
    web: WebSettings = WebSettings()
    export: ExportSettings = ExportSettings()

    _warnings: list[str] = PrivateAttr(default_factory=list)
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _files: Mapping[str, Path] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("segments")
    @classmethod
    def _dimensions(cls, segments: list[list[str]]) -> list[list[str]]:
        for keys in segments:
            if not keys:
                raise ValueError("expected at least one key in each dimension")
            distinct(keys, "key of a dimension")
            if any(re.search(r"[,\\\x00-\x1f\x7f]", key) for key in keys):
                raise ValueError("expected keys without commas, backslashes and control characters")
        distinct([",".join(sorted(keys)) for keys in segments], "dimension")
        return segments

    def came_from(self, origins: Mapping[str, str], warnings: list[str], files: Mapping[str, Path]) -> Settings:
        """Itself, with where its values came from and what to warn of."""
        self._origins = origins
        self._files = files
        self._warnings = warnings
        return self

    @property
    def warnings(self) -> list[str]:
        """One line each: what was set but has no effect."""
        return self._warnings

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each setting that is not a default came from: `{"join.timeout": "msemon.toml"}`."""
        return self._origins

    @property
    def files(self) -> Mapping[str, Path]:
        """Files of the secrets directory whose values are in force: `{"kafka.sasl_password": Path(…)}`."""
        return self._files
