"""A few faults with daemons that read with librdkafka, whatever the others read with: a rebalance of real processes
under load, and certificates, which librdkafka reads but once. `MSEMON_TEST_CLIENT=librdkafka` runs them all so.
"""

from __future__ import annotations

import pytest
from faults.test_f06_replicas_come_and_go import test_f06_sums_over_replicas_that_come_and_go
from faults.test_f33_rotation import _kafka, test_f33_certificates_that_are_rotated_are_wrong_or_have_expired

from support import running

__all__ = [
    "_kafka",
    "test_f06_sums_over_replicas_that_come_and_go",
    "test_f33_certificates_that_are_rotated_are_wrong_or_have_expired",
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLIENT", "librdkafka")
