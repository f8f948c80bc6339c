"""From the settings to the parts that know nothing of settings."""

from __future__ import annotations

from msemon.core.shape import Shape, Window
from msemon.decoding import JsonDecoder
from msemon.settings import Settings

_SECOND_US = 1_000_000


def shape_of(settings: Settings) -> Shape:
    """What the core needs of the settings, in its own units."""
    keys = tuple(sorted({key for dimension in settings.segments for key in dimension}))
    panes = settings.windows.panes
    return Shape(
        windows=tuple(
            Window(length.name, round(length.seconds * _SECOND_US) // panes, panes)
            for length in settings.windows.lengths
        ),
        observed=settings.windows.clock == "observed",
        segment_keys=keys,
        dimensions=tuple(tuple(keys.index(key) for key in dimension) for dimension in settings.segments),
        timeout_us=round(settings.join.timeout * _SECOND_US),
        memory_us=round(settings.join.memory * _SECOND_US),
        series_limit=settings.limits.series,
        models_limit=settings.limits.models,
        total_series_limit=settings.limits.total_series,
        drift=settings.drift.enabled,
        tolerated_ratio=settings.drift.tolerated_ratio,
        false_alarm_us=round(settings.drift.mean_time_between_false_alarms * _SECOND_US),
        learn_pairs=settings.baseline.learn_pairs,
        learn_after_us=round(settings.baseline.learn_after * _SECOND_US),
        learn_time_us=round(settings.baseline.learn_time * _SECOND_US),
        adopt=tuple(settings.baseline.adopt),
    )


def decoder_of(settings: Settings) -> JsonDecoder:
    """The decoder these settings ask for."""
    limits = settings.limits
    return JsonDecoder(
        segment_keys=shape_of(settings).segment_keys,
        fields=settings.format.fields,
        max_future_us=round(settings.windows.max_future * _SECOND_US),
        label_length=limits.label_length,
        message_bytes=limits.message_bytes,
        vector_length=limits.vector_length,
        json_depth=limits.json_depth,
        message_events=limits.message_events,
    )
