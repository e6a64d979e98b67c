"""Kernels are compiled for the types they are called with, some of them by a second process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from population_cases import STRUCTURE, parameters, schedules, times

from pkpd.solve.compiled import build as compiled_build
from pkpd.solve.compiled import family as compiled
from pkpd.solve.population.problem import prepare

NAMES = tuple(compiled_build._ARGUMENTS)


def test_kernels_are_called_with_the_types_they_are_built_for():
    schedule = np.array([0, 1, 2])
    problem = prepare(STRUCTURE, schedules(), times(), schedule=schedule, engine="compiled")
    theta = parameters(3)
    shape = (len(STRUCTURE.lines), 3, times().shape[1])
    problem.value_and_gradient(theta, np.zeros(shape), np.ones(shape))
    for name in NAMES:
        built = compiled_build.signature(name)
        assert compiled_build.kernel(name).signatures == [built]


def test_every_kernel_is_somebodys_share():
    for derivatives, count in ((False, 2), (True, 4)):
        own, others = compiled_build._SHARES[derivatives]
        assert sorted(own + others) == sorted(NAMES[:count])


def test_no_second_process_where_it_would_not_help(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with monkeypatch.context() as one:
        one.setattr(compiled, "CORES", 1)
        assert compiled_build._start(("lines_range",)) is None
    monkeypatch.setattr(compiled, "CORES", 2)
    for program in ("", "/opt/app/simulator", None):
        monkeypatch.setattr(sys, "executable", program)
        assert compiled_build._start(("lines_range",)) is None
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert compiled_build._start(("lines_range",)) is None
    monkeypatch.delattr(sys, "frozen")
    monkeypatch.setenv(compiled_build.WITHOUT_JAX, "1")
    assert compiled_build._start(("lines_range",)) is None


def test_a_process_that_cannot_be_started_is_done_without(monkeypatch):
    def fail(*_, **__):
        raise PermissionError("not allowed")

    monkeypatch.setattr(compiled, "CORES", 2)
    monkeypatch.setattr(subprocess, "Popen", fail)
    assert compiled_build._start(("lines_range",)) is None


def _python(code: str, folder, **variables: str) -> list[str]:
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": path, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.long
@pytest.mark.parametrize("helped", [True, False])
def test_what_the_second_process_compiles_is_loaded_by_the_first(tmp_path, helped):
    found = _python(
        f"""
        from pkpd.solve.compiled import family as compiled
        from pkpd.solve.compiled import build as compiled_build
        compiled.CORES = {2 if helped else 1}
        _, lines = compiled_build.kernels(derivatives=False)
        lines.compile(compiled_build.signature("lines_range"))
        print(sum(lines.stats.cache_hits.values()))
        """,
        tmp_path,
    )
    assert found == ["1" if helped else "0"]


def test_the_second_process_does_not_load_jax(tmp_path):
    found = _python(
        """
        import sys
        from pkpd.solve.compiled import build as compiled_build
        compiled_build.kernel("lines_range")
        print("jax" in sys.modules)
        """,
        tmp_path,
        **{compiled_build.WITHOUT_JAX: "1"},
    )
    assert found == ["False"]
