"""Simulate a table's arms at many sets of parameters, each time with other patients, and keep it.

Nothing is frozen: every block of sets of parameters has patients of its own. What is kept are
summaries (`pkpd.evidence.likelihood.summaries`), from which an emulator learns.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cluster import workers as spread_over
from pkpd.evidence.likelihood.cells import Cells
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.simulator import STEPS_PER_DAY, MarrowSimulator
from pkpd.evidence.likelihood.summaries import Summaries, summarise
from pkpd.evidence.likelihood.total import Simulator
from pkpd.evidence.table.arms import ArmToSimulate
from pkpd.files import whole
from pkpd.marrow.variants import FULL, Variant

BLOCK = 25
"""Sets of parameters that share patients."""
_BROKEN = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading a file that was cut short or changed may raise."""
_FIELDS = ("z", "share", "size", "days", "days_size")


@dataclass(frozen=True)
class Simulations:
    """Summaries at N sets of parameters.

    Attributes
    ----------
    z : float[N, d]
        Scores of the parameters under the prior.
    share, size : float[N, S]
    days : float[N, D, 4]
    days_size : float[N, D]
        As in `pkpd.evidence.likelihood.summaries.Summaries`.
    """

    z: Floats
    share: Floats
    size: Floats
    days: Floats
    days_size: Floats

    def __repr__(self) -> str:
        """Tell how many there are of what."""
        return (
            f"Simulations({len(self)} sets of {self.z.shape[1]} parameters: "
            f"{self.share.shape[1]} shares, {self.days.shape[1]} distributions of days)"
        )

    def __len__(self) -> int:
        return len(self.z)

    def taken(self, places: NDArray[Any]) -> Simulations:
        """Take some of them."""
        return Simulations(*(getattr(self, name)[places] for name in _FIELDS))

    def rounded(self) -> Simulations:
        """As they are read from the file that keeps them: summaries in single precision."""
        some = (getattr(self, name) for name in _FIELDS[1:])
        return Simulations(self.z, *(x.astype(np.float32).astype(np.float64) for x in some))

    def at(self, index: int) -> Summaries:
        """Summaries at one of the sets of parameters."""
        return Summaries(
            self.share[index], self.size[index], self.days[index], self.days_size[index]
        )


def joined(parts: list[Simulations]) -> Simulations:
    """Several as one."""
    return Simulations(*(np.concatenate([getattr(p, name) for p in parts]) for name in _FIELDS))


@dataclass(frozen=True)
class MarrowMaker:
    """Makes simulators of arms, each with the patients of a seed.

    Attributes
    ----------
    arms, n, variant, steps_per_day
        As `pkpd.evidence.likelihood.simulator.MarrowSimulator`.
    """

    arms: Mapping[str, ArmToSimulate]
    n: int | Mapping[str, int]
    variant: Variant = FULL
    steps_per_day: int = STEPS_PER_DAY

    def __call__(self, seed: int) -> MarrowSimulator:
        """Make a simulator that uses one core."""
        return MarrowSimulator(
            self.arms, self.n, seed, self.variant, threads=1, steps_per_day=self.steps_per_day
        )


@dataclass(frozen=True)
class Task:
    """What a process needs to simulate.

    Attributes
    ----------
    make
        From a seed to a simulator.
    cells
        Whose summaries are asked.
    prior
        From scores to parameters.
    """

    make: Callable[[int], Simulator]
    cells: Cells
    prior: Prior

    def simulate(self, z: Floats, seed: int) -> Simulations:
        """Simulate at scores ``[n, d]`` with the patients of a seed."""
        run = self.make(seed)
        found = []
        for point in z:
            theta = self.prior.theta(point)
            found.append(summarise(self.cells.shares, self.cells.days, run(theta), theta))
        return Simulations(
            z,
            np.stack([f.share for f in found]),
            np.stack([f.size for f in found]),
            np.stack([f.days for f in found]),
            np.stack([f.days_size for f in found]),
        )


@dataclass(frozen=True)
class _Blocks:
    """Simulations of a block by its number; each block has the next seed."""

    task: Task
    z: Floats
    seed: int

    def scores(self, index: int) -> Floats:
        return self.z[BLOCK * index : BLOCK * (index + 1)]

    def __call__(self, index: int) -> tuple[int, Simulations]:
        return index, self.task.simulate(self.scores(index), self.seed + index)


_blocks: _Blocks | None = None  # of a worker process


def _begin(blocks: _Blocks) -> None:
    global _blocks
    _blocks = blocks


def _block(index: int) -> tuple[int, Simulations]:
    assert _blocks is not None
    return _blocks(index)


def simulate_at(
    task: Task,
    z: Floats,
    *,
    seed: int,
    folder: Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> Simulations:
    """Simulate at scores ``[N, d]``, in blocks that are kept in a folder as they end.

    Parameters
    ----------
    task
        What is simulated.
    z
        Scores.
    seed
        Of the patients; each block has the next.
    folder
        Where blocks are kept; those that are there and fit are not simulated again.
    workers
        Processes; 1: this one.
    cluster
        Address of a Dask scheduler whose workers simulate (``"tcp://host:8786"``), or ``"local"``
        for so many ``workers`` by Dask. Simulations are the same.
    on_block
        Called with the number of sets of parameters done, and of all.
    """
    run = _Blocks(task, z, seed)
    number = -(-len(z) // BLOCK)
    done: dict[int, Simulations] = {}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(number):
            kept = read_block(folder / f"{index:04d}.npz", run.scores(index))
            if kept is not None:
                done[index] = kept
    todo = [index for index in range(number) if index not in done]
    with _each(run, todo, workers, cluster) as results:
        for index, result in results:
            done[index] = result.rounded()  # a run that goes on from files sees the same
            if folder is not None:
                write_block(folder / f"{index:04d}.npz", result)
            if on_block is not None:
                on_block(sum(len(part) for part in done.values()), len(z))
    return joined([done[index] for index in range(number)])


@contextmanager
def _each(
    run: _Blocks, todo: Sequence[int], processes: int, cluster: str | None
) -> Iterator[Iterable[tuple[int, Simulations]]]:
    """Blocks as they are done: in this process, in others, or over a cluster."""
    with spread_over(cluster if todo else None, processes) as spread:
        if spread is not None:
            yield spread.as_done(run, todo)
        elif processes == 1 or not todo:
            yield map(run, todo)
        else:
            # spawned, since a forked process inherits the locks of libraries that run threads
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                processes, mp_context=context, initializer=_begin, initargs=(run,)
            ) as pool:
                waiting = [pool.submit(_block, index) for index in todo]
                yield (future.result() for future in as_completed(waiting))


def blocks_of(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Block of every simulation of rounds of these sizes; each round begins blocks of its own."""
    first = np.cumsum([0, *(-(-size // BLOCK) for size in sizes)])
    return np.concatenate([at + np.arange(n) // BLOCK for at, n in zip(first, sizes, strict=False)])


def kept_simulations(folder: Path, number: int) -> Simulations | None:
    """Read all simulations that `simulate_at` kept in a folder, if there are so many."""
    files = sorted(folder.glob("[0-9]*.npz"))[: -(-number // BLOCK)]
    parts = [part for file in files if (part := read_block(file)) is not None]
    found = joined(parts) if parts else None
    return found if found is not None and len(found) == number else None


def write_block(file: Path, result: Simulations) -> None:
    """Write a block, whole or not at all."""
    with whole(file) as part, part.open("wb") as out:
        np.savez_compressed(
            out,
            **{n: getattr(result, n).astype(np.float32) for n in _FIELDS[1:]},
            z=result.z,
        )


def read_block(file: Path, z: Floats | None = None) -> Simulations | None:
    """Read a block, if it is there, is whole, and is of these scores."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            found = Simulations(*(data[name].astype(np.float64) for name in _FIELDS))
    except _BROKEN:
        return None  # simulated again
    return found if z is None or np.array_equal(found.z, z) else None


def digits_of(text: str) -> str:
    """Short hash that names a folder of simulations by what they are of."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
