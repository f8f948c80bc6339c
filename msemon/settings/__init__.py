"""Every setting, where it comes from, and what is wrong with it.

`load()` reads file, secrets directory, environment and flags; `Settings` is one model a section.
"""

from msemon.settings.layers import KEYS, SECTIONS, Key, unknown_flag
from msemon.settings.loading import SettingsError, load
from msemon.settings.model import Settings
from msemon.settings.toml import default_text, to_toml
from msemon.settings.values import Duration, Start, split_address

__all__ = [
    "KEYS",
    "SECTIONS",
    "Duration",
    "Key",
    "Settings",
    "SettingsError",
    "Start",
    "default_text",
    "load",
    "split_address",
    "to_toml",
    "unknown_flag",
]
