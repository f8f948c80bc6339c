"""Bytes in, columns of events out; what can't be used is named, never raised."""

from msemon.decoding.fields import parse_path
from msemon.decoding.json import JsonDecoder
from msemon.decoding.text import clean

__all__ = ["JsonDecoder", "clean", "parse_path"]
