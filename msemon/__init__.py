"""msemon tells a team how wrong its regression models are in production, now and honestly."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msemon.replaying.run import Replay, replay

__all__ = ["Replay", "__version__", "replay"]


def __getattr__(name: str) -> Any:
    """`msemon.replay` and what it gives, loaded when asked for: `msemon version` needs none of it."""
    if name in ("Replay", "replay"):
        from msemon.replaying import run

        return getattr(run, name)
    raise AttributeError(name)
