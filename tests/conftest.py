"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# the first example of a test may compile for seconds, and machines differ
settings.register_profile("pkpd", deadline=None)
settings.load_profile("pkpd")
