"""A few faults with daemons that read with librdkafka, whatever the others read with: a rebalance of real processes
under load, certificates, which librdkafka reads but once, and what hostile messages hold (F23, F26, F27).
`MSEMON_TEST_CLIENT=librdkafka` runs them all so.
"""

from __future__ import annotations

import pytest
from faults import test_f26_cardinality_daemon as f26
from faults.test_f06_replicas_come_and_go import test_f06_sums_over_replicas_that_come_and_go
from faults.test_f23_poison_daemon import test_every_poison_value_between_good_events
from faults.test_f26_cardinality_daemon import test_a_flood_of_segments_and_models
from faults.test_f27_label_values_daemon import test_nasty_names_in_every_place
from faults.test_f33_rotation import _kafka, test_f33_certificates_that_are_rotated_are_wrong_or_have_expired

from support import running

__all__ = [
    "_kafka",
    "test_a_flood_of_segments_and_models",
    "test_every_poison_value_between_good_events",
    "test_f06_sums_over_replicas_that_come_and_go",
    "test_f33_certificates_that_are_rotated_are_wrong_or_have_expired",
    "test_nasty_names_in_every_place",
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLIENT", "librdkafka")
    # Turns as large as F26's own, but five after memory has its size, not ten: what is folded knows no client.
    monkeypatch.setattr(f26, "SEGMENTS", f26.SEGMENTS * 2 // 3)
    monkeypatch.setattr(f26, "MODELS", f26.MODELS * 2 // 3)
    monkeypatch.setattr(f26, "TURNS", f26.TURNS * 2 // 3)
