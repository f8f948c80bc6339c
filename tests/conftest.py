"""What every test session has: the list of what did not run, and hypothesis profiles."""

from __future__ import annotations

import os

import hypothesis

pytest_plugins = ["support.report"]

# No deadline anywhere: one slow example on a busy machine is no fault of the code, and pytest-timeout bounds the test.
# In CI the examples follow from the test alone, so that a red run can be repeated.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))
