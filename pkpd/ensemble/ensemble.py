"""What every source of patients offers: draws of what is not known times patients, under a regimen.

The design is crossed: every draw meets every patient, and every regimen meets the same draws and
patients, so that differences between regimens are paired.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pkpd.arrays import Indices
from pkpd.cluster import Workers
from pkpd.course.course import Course
from pkpd.schedule import DosingPlan, GrowthFactorPolicy, Regimen

T = TypeVar("T")


class Treated(Protocol):
    """Patients under a regimen, ready to be simulated."""

    @property
    def plan(self) -> DosingPlan:
        """Dosing plan of the regimen."""
        ...

    def chunks(self) -> Iterator[Indices]:
        """Draws in portions that are simulated at once."""
        ...

    def course(self, draws: Indices) -> Course:
        """Simulate all patients under some of the draws, on one core."""
        ...


def told(ensemble: Ensemble) -> str:
    """Tell kind, marrow and sizes of a source in a line, for its ``repr``."""
    return (
        f"{type(ensemble).__name__}({ensemble.words}: {ensemble.draws} draws times "
        f"{ensemble.patients} patients, lines {', '.join(ensemble.lines)})"
    )


class Ensemble(Protocol):
    """Draws of what is not known times patients, in one marrow."""

    @property
    def marrow(self) -> str:
        """Name of the marrow."""
        ...

    @property
    def words(self) -> str:
        """Which model answers, in words."""
        ...

    @property
    def draws(self) -> int:
        """Number of draws M."""
        ...

    @property
    def patients(self) -> int:
        """Number of patients N."""
        ...

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines that have counts on mornings."""
        ...

    @property
    def growth_factor(self) -> GrowthFactorPolicy:
        """Growth factor by need."""
        ...

    def between_mornings(self) -> Ensemble:
        """Return the same patients, whose counts are kept between mornings too."""
        ...

    def treated(self, regimen: Regimen, days: int) -> Treated:
        """Make patients ready for a regimen and a horizon of days.

        Raises
        ------
        PkpdError
            If the source does not know a drug of the regimen, or cannot give it.
        """
        ...


@dataclass(frozen=True)
class Block(Generic[T]):
    """Simulates some draws and keeps what is read of them: what one core does at a time.

    Attributes
    ----------
    treated
        Patients under a regimen.
    read
        What is kept of the course of some draws.
    """

    treated: Treated
    read: Callable[[Indices, Course], T]

    def __call__(self, draws: Indices) -> T:
        """Simulate and read."""
        return self.read(draws, self.treated.course(draws))


def courses(
    treated: Treated,
    read: Callable[[Indices, Course], T],
    threads: int,
    workers: Workers | None = None,
) -> Iterator[T]:
    """Simulate all draws on several cores, in order.

    Parameters
    ----------
    treated
        Patients under a regimen.
    read
        What is kept of the course of some draws; called in the thread that simulated it.
    threads
        Most threads.
    workers
        Workers of a cluster in place of threads; `read` and what it gives travel then.

    Yields
    ------
    object
        What `read` gives, portion by portion, in the order of the draws.
    """
    one = Block(treated, read)
    portions = list(treated.chunks())
    if workers is not None:
        yield from workers.in_turn(one, portions)
        return
    # the first alone: it compiles what the others use
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        rest = _in_turn(pool, one, portions[1:], ahead=threads + 1)
        yield from itertools.chain([one(portions[0])], rest)


def _in_turn(
    pool: ThreadPoolExecutor, function: Callable[[Any], T], items: Sequence[Any], ahead: int
) -> Iterator[T]:
    """Results in the order of the items, with at most `ahead` under way or waiting to be taken.

    Courses are large, and an interrupted run should not finish what it has queued.
    """
    under_way: deque[Future[T]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
