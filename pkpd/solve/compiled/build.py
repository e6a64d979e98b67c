"""The compiled kernels, made in two processes where they are not in Numba's cache yet.

Compiling is Python's work and holds its lock, so that threads would not help. A second process
compiles its share and leaves it in the cache, where this one finds it; whatever is not there this
one compiles itself when it first calls it.

``python -m pkpd.solve.compiled.build NAME...`` is what the second process runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numba import from_dtype, types

from pkpd.float64 import WITHOUT_JAX

_LETTERS = {"b": np.int8, "i": np.int32, "q": np.int64, "d": np.float64}
_KINETICS = "q q q1 i1 d2 i1 i2 i1 i1 d2 d3 d3 b2 i2 i1 i2 q1 d1 d2 b2"  # up to ``active``
_LINES = "q q q1 i1 d2 i2 i2 i3 i1 i1 i1 d2 d3 d3 i2 d2 q1 d1 d2 b2"
_ARGUMENTS = {
    "kinetics_range": f"{_KINETICS} ?",
    "lines_range": f"{_LINES} d3 d4 ?",
    "kinetics_adjoint_range": f"{_KINETICS} d2",
    "lines_adjoint_range": f"{_LINES} d3 d4 d2 ?",
}
"""Types of the arguments of each kernel: letter of the type, number of dimensions."""
# what this process compiles and what the other one, so that both take about as long
_SHARES = {
    False: (("kinetics_range",), ("lines_range",)),
    True: (
        ("kinetics_range", "lines_range", "lines_adjoint_range"),
        ("kinetics_adjoint_range",),
    ),
}
_PATIENCE = 120.0
_lock = Lock()


def signature(name: str) -> tuple[Any, ...]:
    """Types that a kernel is called with."""
    out: list[Any] = []
    for word in _ARGUMENTS[name].split():
        if word == "?":
            out.append(types.boolean)
            continue
        one = from_dtype(np.dtype(_LETTERS[word[0]]))
        out.append(types.Array(one, int(word[1]), "C") if word[1:] else one)
    return tuple(out)


def kernel(name: str) -> Any:
    """Kernel of a name; nothing is compiled yet."""
    from pkpd.solve.compiled import kinetics as compiled_kinetics
    from pkpd.solve.compiled import lines as compiled_lines

    return getattr(compiled_kinetics if name.startswith("kinetics") else compiled_lines, name)


@lru_cache(maxsize=2)
def kernels(*, derivatives: bool) -> tuple[Any, ...]:
    """Return the kernels of kinetics and of lines, with ``derivatives`` also their adjoints."""
    with _lock:
        _build(derivatives)
    names = list(_ARGUMENTS)[: 4 if derivatives else 2]
    return tuple(kernel(name) for name in names)


@lru_cache(maxsize=2)
def _build(derivatives: bool) -> None:
    own, others = _SHARES[derivatives]
    if _is_kept(kernel(others[-1]), signature(others[-1])):
        return
    helper = _start(others)
    if helper is None:
        return
    try:
        for name in own:
            kernel(name).compile(signature(name))
        helper.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        helper.kill()
        helper.wait()


def _is_kept(of: Any, types_of_arguments: tuple[Any, ...]) -> bool:
    """Whether a kernel is compiled or in Numba's cache (or there is no telling)."""
    if of.signatures:
        return True
    load = getattr(getattr(of, "_cache", None), "load_overload", None)
    return load is None or load(types_of_arguments, of.targetctx) is not None


def _start(names: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    """Start a second process; ``None`` where there is no core for it or no plain Python."""
    from pkpd.solve.compiled.family import CORES

    program = sys.executable or ""
    plain = Path(program).name.lower().startswith("python") and not hasattr(sys, "frozen")
    if CORES < 2 or not plain or WITHOUT_JAX in os.environ:
        return None
    path = os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parents[3])])
    try:
        return subprocess.Popen(
            [program, "-m", __name__, *names],
            env={**os.environ, WITHOUT_JAX: "1", "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


if __name__ == "__main__":
    for _name in sys.argv[1:]:
        kernel(_name).compile(signature(_name))
