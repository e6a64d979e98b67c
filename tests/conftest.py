"""Settings of all tests."""

from __future__ import annotations

import gc
import os

import jax
import pytest
from hypothesis import settings

# the first example of a test may compile for seconds, and machines differ
settings.register_profile("pkpd", deadline=None)
settings.load_profile("pkpd")

# what is compiled stays to the end; looking through it for garbage again and again takes a tenth
gc.set_threshold(50_000)

QUICKLY_COMPILED = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""XLA compiles the many small programs of the quick tests five times faster so than by default."""


def pytest_configure(config: pytest.Config) -> None:
    """Say how JAX compiles for the tests, and where that is kept.

    The workers of a run, their child processes and later runs share it in pytest's own cache
    (``.pytest_cache``). The quick tests are compiled without optimisation, and slow ones where
    ``PKPD_COMPILE=quickly`` says so; else programs are those of users. What the user has set is
    left alone.
    """
    quickly = os.environ.get("PKPD_COMPILE") == "quickly"
    if quickly or config.getoption("markexpr") == "not slow":
        os.environ.setdefault("XLA_FLAGS", QUICKLY_COMPILED)  # read when the first program is
    cache = getattr(config, "cache", None)
    if cache is None or jax.config.jax_compilation_cache_dir is not None:
        return
    for name, value in {
        "jax_compilation_cache_dir": str(cache.mkdir("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs(request: pytest.FixtureRequest):
    """Let go of what a module has compiled where the slow tests run: together it takes 10 GB."""
    yield
    if request.config.getoption("markexpr") == "slow":
        jax.clear_caches()
        gc.collect()
