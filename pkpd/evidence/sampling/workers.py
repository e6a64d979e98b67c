"""Evaluate a target at many sets of parameters, in threads or processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

#: From parameters by name to the log likelihood and its pieces.
Target = Callable[[Mapping[str, float]], tuple[float, NDArray[np.float64]]]
Evaluate = Callable[[Sequence[dict[str, float]]], list[tuple[float, NDArray[np.float64]]]]

_target: Target | None = None  # of a worker process


@contextmanager
def evaluator(target: Target | Callable[[], Target], workers: int, how: str) -> Iterator[Evaluate]:
    """Give a function that evaluates a list of parameters, in order.

    Parameters
    ----------
    target
        The target; with ``how="processes"`` a function without arguments that makes it in each
        process.
    workers
        Threads or processes; 1 with threads: none are started.
    how
        ``threads`` or ``processes``.
    """
    if how == "processes":
        # spawned, since a forked process inherits the locks of libraries that run threads
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_make, initargs=(cast(Any, target),)
        ) as processes:
            yield lambda thetas: list(processes.map(_evaluate, thetas, chunksize=4))
        return
    function = cast(Target, target)
    if workers == 1:
        yield lambda thetas: [function(theta) for theta in thetas]
        return
    with ThreadPoolExecutor(workers) as threads:
        yield lambda thetas: list(threads.map(function, thetas))


def _make(factory: Callable[[], Target]) -> None:
    global _target
    _target = factory()


def _evaluate(theta: Mapping[str, float]) -> tuple[float, NDArray[np.float64]]:
    assert _target is not None
    return _target(theta)
