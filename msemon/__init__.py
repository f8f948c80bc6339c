"""msemon tells a team how wrong its regression models are in production, now and honestly."""

__version__ = "0.1.0"
