"""Settings of all tests."""

from __future__ import annotations

import os

import jax
import pytest
from hypothesis import settings

# the first example of a test may compile for seconds, and machines differ
settings.register_profile("pkpd", deadline=None)
settings.load_profile("pkpd")


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers of a run, their child processes and later runs share what JAX compiles.

    It lies in pytest's own cache (``.pytest_cache``); a folder that the user has set is left alone.
    """
    cache = getattr(config, "cache", None)
    if cache is None or jax.config.jax_compilation_cache_dir is not None:
        return
    for name, value in {
        "jax_compilation_cache_dir": str(cache.mkdir("jax")),
        # tests are made of many small programs, and a fifth of a second each adds up to minutes
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
