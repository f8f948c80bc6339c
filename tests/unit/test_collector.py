"""The garbage collector does not look at what a batch makes and frees, and still finds garbage."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from msemon import collector

class Kept:
    alive = 0
    def __init__(self):
        Kept.alive += 1
        self.me = self
    def __del__(self):
        Kept.alive -= 1

def collections():
    return sum(generation["collections"] for generation in gc.get_stats())

collector.settle()
before = collections()
for _ in range(100):
    batch = [(n, [n]) for n in range(10_000)]
print(collections() - before)
most = 0
for _ in range(300_000):
    Kept()
    most = max(most, Kept.alive)
print(most)
"""


def test_batches_cost_no_collection_and_cycles_do_not_pile_up():
    """In a process of its own, since it is for the whole interpreter."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    collected, most = map(int, ran.stdout.split())
    assert collected == 0
    assert most < 60_000
