"""Run the quick tests as other processors would: other instructions, other numbers of threads.

``make portable`` runs this. What fails under one setting alone depends on the last digits of a sum
or on the order of a search, and would fail on another machine. Names of settings choose some; what
follows ``--`` goes to pytest: ``make portable ARGS="haswell -- tests/fitting"``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def newest_features() -> str:
    """Instruction sets beyond AVX2 that this NumPy chooses between on this processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numpy._core import _multiarray_umath as core
    has: Mapping[str, bool] = getattr(core, "__cpu_features__", {})
    chosen = getattr(core, "__cpu_dispatch__", ())
    return " ".join(n for n in chosen if has.get(n) and n.startswith(("AVX512", "X86_V4")))


def settings() -> dict[str, dict[str, str]]:
    """Environment of each setting, by name."""
    older = {
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
    features = newest_features()
    if features:
        older["NPY_DISABLE_CPU_FEATURES"] = features
    return {
        "here": {},
        "one-thread": ONE_THREAD | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"},
        "older": older,
        "older-one-thread": older | ONE_THREAD,
        "haswell": {"OPENBLAS_CORETYPE": "Haswell"},
        "skylakex": {"OPENBLAS_CORETYPE": "SkylakeX"},
    }


def main(arguments: list[str]) -> int:
    """Run the tests under each setting; the exit status is 1 if some failed."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, more = arguments[:cut], arguments[cut + 1 :]
    every = settings()
    unknown = [n for n in names if n not in every]
    if unknown:
        print(f"no setting {', '.join(unknown)}; allowed: {', '.join(every)}")
        return 2
    print(f"NumPy {np.__version__}; beyond AVX2 here: {newest_features() or 'nothing'}")
    verdicts = []
    for name in names or every:
        # programs that were compiled for one setting are none for another
        command = [sys.executable, "-m", "pytest", "-m", "not slow and not long", "-n", "2", "-q"]
        command += ["--dist", "loadfile", "--no-loadscope-reorder"]
        command += ["-o", f"cache_dir=build/portable/{name}", *more]
        began = time.monotonic()
        print(f"== {name}: {every[name]}", flush=True)
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **every[name]}).returncode
        verdicts.append((name, code, time.monotonic() - began))
    for name, code, seconds in verdicts:
        print(f"{name:18} {'FAILED' if code else 'passed'} {seconds:6.0f} s")
    return int(any(code for _, code, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
