"""Settings of all tests."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

from pkpd.machine import ready_for_pymc

# the first example of a test may compile for seconds, and machines differ and are busy
settings.register_profile(
    "pkpd", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pkpd")

# what is compiled stays to the end; looking through it for garbage again and again takes a tenth
gc.set_threshold(50_000)

QUICK = "not slow and not long"
"""The marks that `make test` asks for."""
QUICKLY_COMPILED = " ".join(
    (
        "--xla_backend_optimization_level=0",
        # newer ones do not know it, and end the process
        *(["--xla_cpu_use_fusion_emitters=false"] if jax.__version_info__ < (0, 11) else []),
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",  # threads gain nothing where workers fill cores
    )
)
"""XLA compiles the many small programs of the quick tests five times faster so than by default."""


def pytest_configure(config: pytest.Config) -> None:
    """Say how JAX compiles for the tests, and where that is kept; workers may import ArviZ at once.

    The workers of a run, their child processes and later runs share it in pytest's own cache
    (``.pytest_cache``). The quick tests are compiled without optimisation, and slow ones where
    ``PKPD_COMPILE=quickly`` says so; else programs are those of users. Flags and a cache that the
    user has set stay.
    """
    ready_for_pymc()
    quickly = os.environ.get("PKPD_COMPILE") == "quickly"
    if quickly or config.getoption("markexpr") == QUICK:
        flags = os.environ.get("XLA_FLAGS", "")  # read when the first program is compiled
        if QUICKLY_COMPILED not in flags:  # a worker has them from its parent
            os.environ["XLA_FLAGS"] = f"{QUICKLY_COMPILED} {flags}".strip()
    cache = getattr(config, "cache", None)
    if cache is None or jax.config.jax_compilation_cache_dir is not None:
        return
    for name, value in {
        "jax_compilation_cache_dir": str(cache.mkdir("jax")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


LONGEST = (
    "solve_population/test_compiled_build",  # kernels that many tests need, by one worker
    "solve_events/test_event_ode_cases",
    "fitting/test_likelihood",
    "kinetics/test_linear",
    "fitting/test_bayes",
    "fitting/test_judge",
    "comparison/test_learned_comparison",
    "nonmem/test_stream",
    "fitting/test_fit",
    "leukaemia/test_compiled_course",
    "fuzz/test_fuzz",
    "comparison/test_one_and_two_cycles",
    "solve/test_event_ode",
    "fitting/test_model_building",
    "laws/test_marrow_laws",
    "fitting/test_residual",
    "fitting/test_honest",
    "evidence/test_density",
    "docs/test_documents",
    "test_architecture",
)
"""Files of quick tests that take longest: they come first, so that both workers end together."""
LONGEST_SLOW = (
    "explorer/test_page",
    "docs/test_documents",
    "evidence/test_synthetic",
    "evidence/test_learning",
    "evidence/test_runner",
    "solve/test_event_ode",
    "fitting/test_optimal_times",
    "fitting/test_covariate_search",
    "fitting/test_sampling_designs",
    "comparison/test_over_workers",
    "comparison/test_cluster",
    "fitting/test_ill_posed",
    "fitting/test_honest",
    "fitting/test_sample",
    "fitting/test_bayes",
    "fitting/test_fit",
    "fitting/test_serial_residuals",
    "fitting/test_calibration",
    "laws/test_courses",
    "solve_population/test_engines",
    "comparison/test_learned_comparison",
    "nonmem/test_bundles",
    "fitting/test_marginal",
    "nonmem/test_stream",
    "export/test_export",
    "faults/test_killed_runs",
    "faults/test_hostile_machine",
    "solve_events/test_event_ode_cases",
    "predict/test_marrow_occasions",
    "fits/test_transplants",
    "fitting/test_other_modes",
)
"""Those of slow tests and of long ones."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; the long cases of a slow test are long alone."""
    for item in items:
        if item.get_closest_marker("long"):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "slow"]
    longest = LONGEST if config.getoption("markexpr") == QUICK else LONGEST_SLOW
    place = {f"tests/{name}.py": i for i, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


MOST_BYTES = 2_500_000_000
"""Memory of a worker above which it lets go of its programs: all of a run's are 5 GB and more."""
MORE_BYTES = 500_000_000
"""By how much it has grown since it last did so: what cannot be let go of is not asked for again.

Else every later module would begin without the programs that it shares with those before it: of
860 MB none went back to the system by letting go alone, and half with `_give_back`.
"""
_left = 0


@pytest.fixture(autouse=True, scope="module")
def _forget_programs(request: pytest.FixtureRequest):
    """Let go of what modules have compiled: slow ones each, quick ones where memory asks for it."""
    yield
    _forget(always=request.config.getoption("markexpr") != QUICK)


@pytest.fixture(autouse=True)
def _forget_programs_within(request: pytest.FixtureRequest):
    """Let go of them between the slow tests of a module, too: that of the documents has twenty."""
    yield
    if request.config.getoption("markexpr") != QUICK:
        _forget()


def _forget(always: bool = False) -> None:
    """Let go of all programs, always or where memory asks for it."""
    global _left
    if always or _resident() > max(MOST_BYTES, _left + MORE_BYTES):
        jax.clear_caches()
        gc.collect()
        _give_back()
        _left = _resident()


def _give_back() -> None:
    """Hand memory that is free within this process to the system, where the C library can."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Resident memory of this process (bytes); 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
