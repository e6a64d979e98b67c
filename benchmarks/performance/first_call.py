"""Seconds of the first call in a fresh process.

``python -m benchmarks.performance.first_call KIND`` with ``counts`` or ``gradient`` prints the
seconds of the imports and of the call.
"""

from __future__ import annotations

import sys
import time


def main(kind: str) -> None:
    """Import, prepare, and time the first call."""
    start = time.perf_counter()
    import numpy as np

    from benchmarks.performance.fitting import fitting_problem
    from pkpd.solve.population.problem import prepare

    imported = time.perf_counter()
    structure, theta, doses, times = fitting_problem(16)
    problem = prepare(structure, doses, times)
    begun = time.perf_counter()
    if kind == "counts":
        problem.log_counts(theta)
    else:
        shape = (len(structure.lines), *times.shape)
        problem.value_and_gradient(theta, np.zeros(shape), np.ones(shape))
    print(imported - start, time.perf_counter() - begun)


if __name__ == "__main__":
    main(sys.argv[1])
