"""Names that settings may use: an event's fields, metric families. Those who give them meaning are layers above."""

from __future__ import annotations

EVENT_FIELDS = ("id", "model", "version", "prediction", "label", "ts", "weight", "segments")

SEGMENT_METRICS = (
    "mse", "rmse", "mae", "bias", "r2", "mse_standard_error", "rmse_lower", "rmse_upper", "max_absolute_error",
    "window_pairs", "window_weight", "window_squared_error", "window_absolute_error", "window_error",
    "pairs_total", "weight_total", "squared_error_total", "absolute_error_total", "overprediction_total",
    "underprediction_total", "baseline_mse", "baseline_upper_mse", "baseline_pairs",
    "drift_evidence", "drift_threshold", "drift_active", "drift_alarms_total",
)  # fmt: skip
"""Families that stand per model and again per segment, without `msemon_` and `msemon_segment_`."""

MODEL_METRICS = (
    *SEGMENT_METRICS,
    "window_predictions", "window_labelled", "lifetime_pairs", "lifetime_weight", "lifetime_squared_error",
    "label_delay_seconds", "last_pair_timestamp_seconds", "stream_timestamp_seconds",
    "series", "series_limit", "series_folded_total",
)  # fmt: skip
