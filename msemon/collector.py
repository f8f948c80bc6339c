"""Keeps Python's garbage collector out of the hot loop.

A batch makes tens of thousands of short-lived containers, and frees them all by itself; the collector, which by default
looks after every 700, found nothing and took a quarter of decoding's time. What a daemon keeps from its start (modules,
settings, metrics) is never garbage.
"""

from __future__ import annotations

import gc

_YOUNG = 50_000  # more than a batch makes; cycles that wait so long (of requests, of errors) come to some megabytes


def settle() -> None:
    """Everything there is now stays; look for garbage seldom from now on. For the whole interpreter, so for a process
    of one's own.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
