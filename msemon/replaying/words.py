"""What a replay found, in words: for the table and for the report."""

from __future__ import annotations

from datetime import UTC, datetime

from msemon.core.view import SeriesKey
from msemon.replaying.engine import Episode
from msemon.replaying.run import Replay

_EPISODES = 50


def said(done: Replay) -> list[str]:
    """What was read, joined and rejected, and when something drifted."""
    tally = done.tally
    lines = [
        f"{tally.events:,} events from {time_text(tally.first_us)} to {time_text(tally.last_us)}: windows end there",
        (
            f"joined {tally.matched:,}, repeats {tally.duplicates:,}, conflicting {tally.conflicting:,}, "
            f"evicted {tally.evicted:,}; left waiting {tally.waiting[0]:,} predictions and {tally.waiting[1]:,} labels"
        ),
    ]
    lines += [
        f"rejected of {topic} as {reason}: {count:,}" for (topic, reason), count in sorted(tally.rejections.items())
    ]
    lines += [episode_text(each) for each in done.episodes[:_EPISODES]]
    if len(done.episodes) > _EPISODES:
        lines.append(f"and {len(done.episodes) - _EPISODES:,} more changes of drift")
    return lines


def episode_text(episode: Episode) -> str:
    """A change of drift."""
    change = episode.change
    series = f"{name(change.key)} {segment(change.key)}".rstrip()
    if not change.active:
        return f"drift over at {time_text(episode.at_us)}: {series}, MSE {number(change.mse)}"
    return (
        f"drift at {time_text(episode.at_us)}: {series}, MSE {number(change.mse)} since {time_text(change.since_us)}, "
        f"baseline {number(change.baseline_mse)}"
    )


def name(key: SeriesKey) -> str:
    """A model with its version."""
    return f"{key.model} {key.version}".rstrip()


def segment(key: SeriesKey) -> str:
    """Empty for a whole model."""
    return f"{key.dimension}={key.segment}" if key.dimension else ""


def time_text(time_us: int) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def number(value: float) -> str:
    """Four digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
