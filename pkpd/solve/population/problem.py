"""A population ready to be solved: one interface, two engines that agree to rounding.

`prepare` does the part of the work that does not depend on parameters, and chooses the engine: the
compiled one on the processor for the models it knows (`pkpd.solve.compiled.family`), the JAX engine
(`scan_engine`) for the rest and, where JAX has an accelerator, for large populations. The compiled
engine appears to JAX as functions with a derivative, so both can be differentiated and batched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.solve.compiled import family as compiled
from pkpd.solve.compiled import run as compiled_run
from pkpd.solve.compiled.tapes import LARGEST_BYTES, Tapes
from pkpd.solve.grid.grid import (
    DEFAULT_STEP_H,
    DoseCells,
    Doses,
    Grid,
    bucket,
    by_cell,
    population_grid,
)
from pkpd.solve.grid.structure import PopulationStructure
from pkpd.solve.grid.versions import Versions
from pkpd.solve.population import scan_engine
from pkpd.solve.population.host_function import primitive
from pkpd.solve.population.lane_guard import bad_lanes, scrub, spread, without
from pkpd.solve.population.status import PENALTY

Engine = Literal["auto", "compiled", "scan"]

ACCELERATOR_FROM = 256
"""Lanes per core of the processor from which an accelerator is faster (``make bench``, H200)."""


@dataclass(frozen=True, eq=False)
class PopulationProblem:
    """A population ready to be solved for any parameters; made by `prepare`.

    Attributes
    ----------
    structure
        Drugs and lines.
    doses, times_h
        As given; ``times_h[G, T]``, NaN is padding.
    grid
        Cells.
    schedule : int[L] or None
        Schedule of each lane; ``None`` if all lanes share the only one.
    max_step_h
        Longest cell in hours.
    plan
        Plan of the compiled engine, or ``None`` for the JAX engine.
    scan_from
        Number of lanes from which the JAX engine is used though there is a plan; never if ``None``.
    threads
        Threads of the compiled engine; all cores if ``None``.
    """

    structure: PopulationStructure
    doses: Doses
    times_h: Floats
    grid: Grid
    schedule: NDArray[np.int64] | None
    max_step_h: float
    plan: compiled.Plan | None
    scan_from: int | None
    threads: int | None

    def engine(self, n_lanes: int = 1) -> str:
        """Name of the engine for so many lanes."""
        large = self.scan_from is not None and n_lanes >= self.scan_from
        return "scan" if self.plan is None or large else "compiled"

    @property
    def _plan(self) -> compiled.Plan:
        """Plan of the compiled engine; refuses where there is none."""
        if self.plan is None:
            raise PkpdError(
                where="population",
                what="this structure is outside the compiled family",
                remedy="differentiate log_likelihood with JAX",
            )
        return self.plan

    @property
    def n_versions(self) -> int:
        """Number of versions of the drugs' parameters."""
        return 1 if self.grid.versions is None else self.grid.versions.count

    @property
    def n_lines(self) -> int:
        """Number of marrow lines."""
        return len(self.structure.line_names)

    def schedule_of(self, n_lanes: int) -> NDArray[np.int64]:
        """Schedule of each of ``n_lanes`` lanes."""
        if self.schedule is None:
            return np.zeros(n_lanes, dtype=np.int64)
        if self.schedule.size != n_lanes:
            raise PkpdError(
                where="population",
                what=f"parameters of {n_lanes} lanes, schedules of {self.schedule.size}",
                remedy="give one schedule index per lane",
            )
        return self.schedule

    def missing(self, n_lanes: int) -> NDArray[np.bool_]:
        """Observations that were not asked for, ``[L, T]``."""
        return (self.grid.obs_cell < 0)[self.schedule_of(n_lanes)]

    def theta(self, parameters: Mapping[str, Any]) -> Any:
        """Parameters as ``theta[P, L]`` from nested mappings (`PopulationStructure.values`)."""
        values = self.structure.values(parameters)
        xp = jnp if any(isinstance(v, Array) for v in values) else np
        shape = np.broadcast_shapes((1,), *(np.shape(v) for v in values))
        if shape == (1,) and self.schedule is not None:
            shape = self.schedule.shape
        return xp.stack([xp.broadcast_to(xp.asarray(v, dtype=np.float64), shape) for v in values])

    @cached_property
    def _tables(self) -> scan_engine.Tables:
        return scan_engine.tables(by_cell(self.grid))

    def _scan(self, theta: Array, solver: Callable[..., Any]) -> Any:
        """Call the JAX engine with the lanes padded to a bucket."""
        n = theta.shape[1]
        extra = bucket(n) - n
        theta = scrub(jnp.asarray(theta))
        bad = jax.lax.stop_gradient(self._bad(theta))
        padded = jnp.pad(without(theta, bad), ((0, 0), (0, extra)), mode="edge")
        schedule = np.pad(self.schedule_of(n), (0, extra), mode="edge")
        out = solver(self.structure, self._tables, schedule, padded)
        return jax.tree.map(lambda a: jnp.where(bad[:, None], jnp.nan, a[:, :n]), out)

    def _bad(self, theta: Any) -> Any:
        """Lanes with an unusable parameter, ``[L]``."""
        return bad_lanes(self.structure, self.n_versions, theta)

    def log_counts(self, theta: Any) -> Any:
        """Log counts at the observations, ``[lines, L, T]``; NaN where none was asked for.

        Numbers in, numbers out; a JAX array or tracer gives a JAX array that can be
        differentiated.
        """
        if self.engine(theta.shape[1]) == "compiled":
            if isinstance(theta, np.ndarray):
                return self._compiled(theta)
            return self._counts_primitive(theta)
        out = self._scan(theta, scan_engine.scan_counts)[:, :, : self.times_h.shape[1]]
        out = jnp.where(self.missing(theta.shape[1]), jnp.nan, out)
        return np.array(out) if isinstance(theta, np.ndarray) else out

    def nodes(self, theta: Any) -> tuple[Floats, Any, Any]:
        """Dense output: between nodes log count is the cubic Hermite interpolant.

        Returns
        -------
        time_h : float[C + 1, G]
            Node times of each schedule.
        log_count, slope : float[lines, L, C + 1]
            Log count and its slope per hour.
        """
        times = self.grid.node_times()
        if self.engine(theta.shape[1]) == "scan":
            count, slope = self._scan(theta, scan_engine.scan_nodes)
            count, slope = count[..., : times.shape[0]], slope[..., : times.shape[0]]
            if isinstance(theta, np.ndarray):
                count, slope = np.array(count), np.array(slope)
            return times, count, slope
        if isinstance(theta, np.ndarray):
            both = self._compiled(theta, dense=True)
        else:
            both = self._nodes_primitive(theta)
        return times, both[..., 0], both[..., 1]

    def log_likelihood(self, theta: Any, observed: Floats, weight: Floats) -> Any:
        """Form the normal log-likelihood of each lane for observed log counts, ``[L]``.

        Parameters
        ----------
        theta : float[P, L]
            Parameters.
        observed, weight : float[lines, L, T]
            Observed log counts and ``1 / sd^2``; a weight of 0 marks a missing value.

        Returns
        -------
        float[L]
            ``sum(log(weight) - log(2 pi) - weight * residual^2) / 2``. A lane that cannot be
            solved gives `pkpd.solve.population.status.PENALTY` and has no gradient.

        Notes
        -----
        The compiled engine forms the derivative in the same pass as the value.
        """
        observed = np.ascontiguousarray(observed, dtype=np.float64)
        weight = np.ascontiguousarray(weight, dtype=np.float64)
        used = weight > 0
        constant = 0.5 * np.where(used, np.log(np.where(used, weight, 1.0) / (2 * np.pi)), 0.0)
        constant = constant.sum(axis=(0, 2))
        if self.engine(theta.shape[1]) == "scan":
            out = self._scan(theta, scan_engine.scan_counts)[:, :, : self.times_h.shape[1]]
            residual = jnp.where(used, observed - out, 0.0)
            value = -0.5 * jnp.sum(weight * residual**2, axis=(0, 2))
        elif isinstance(theta, np.ndarray):
            value = self.value_and_gradient(theta, observed, weight)[0]
        else:
            value = self._likelihood_primitive(observed, weight)(theta)
        lane = jnp.where(value > PENALTY, value + constant, PENALTY)
        return np.array(lane) if isinstance(theta, np.ndarray) else lane

    def value_and_gradient(
        self, theta: Floats, observed: Floats, weight: Floats
    ) -> tuple[Floats, Floats]:
        """Weighted sum of squares ``[L]`` (times -1/2) and its derivative ``[P, L]``, as numbers.

        The terms of the normal log-likelihood that depend on ``theta``; compiled engine only. For
        graph libraries: values and vector-Jacobian products as plain arrays.
        """
        plan = self._plan
        n = theta.shape[1]
        wrong = self._bad(theta)
        usable = without(theta, wrong) if wrong.any() else theta
        value, bar, _ = compiled_run.normal_log_likelihood(
            plan,
            self.grid,
            self.schedule_of(n),
            usable,
            observed,
            weight,
            threads=self.threads,
        )
        bad = wrong | ~(np.isfinite(value) & np.isfinite(bar).all(axis=0) & (value > PENALTY))
        if bad.any():
            value, bar = np.where(bad, PENALTY, value), np.where(bad, 0.0, bar)
        return value, bar

    def _each(self, solver: Callable[..., tuple[Floats, ...]], n_args: int):
        """Let a host function take leading batch axes, as ``jax.vmap`` adds them."""

        def host(*args: Any) -> tuple[Floats, ...]:
            arrays = [np.asarray(a, dtype=np.float64) for a in args]
            dims = arrays[0].ndim - 2
            if dims == 0:
                return solver(*arrays)
            lead = arrays[0].shape[:dims]
            flat = [a.reshape(-1, *a.shape[dims:]) for a in arrays]
            out = [solver(*(a[b] for a in flat)) for b in range(flat[0].shape[0])]
            return tuple(
                np.stack(parts).reshape(*lead, *parts[0].shape) for parts in zip(*out, strict=True)
            )

        return host

    def _usable(
        self, theta: Floats, copies: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Lanes that can be solved, their schedules and parameters; the others cost nothing."""
        good = np.flatnonzero(~self._bad(theta))
        schedule = self.schedule_of(theta.shape[1] // copies)
        if copies > 1:
            schedule = np.tile(schedule, copies)
        if good.size == theta.shape[1]:
            return good, schedule, theta
        return good, schedule[good], theta[:, good]

    def _compiled(self, theta: Floats, copies: int = 1, *, dense: bool = False) -> Floats:
        """Log counts or nodes, NaN in lanes with an unusable parameter.

        All lanes may come several times, one copy after the other.
        """
        good, schedule, usable = self._usable(theta, copies)
        out = compiled_run.solve(
            self._plan, self.grid, schedule, usable, threads=self.threads, dense=dense
        )[int(dense)]
        return spread(out, good, theta.shape[1])

    @cached_property
    def _tapes(self) -> Tapes:
        return Tapes()

    def _compiled_taped(self, theta: Floats, copies: int) -> Floats:
        """Log counts as `_compiled`, keeping what `_pulled` needs."""
        good, schedule, usable = self._usable(theta, copies)
        plan = self._plan
        if compiled_run.tape_bytes(plan, self.grid, schedule) > LARGEST_BYTES:
            return self._compiled(theta, copies)
        out, _, tape = compiled_run.solve_taped(
            plan, self.grid, schedule, usable, threads=self.threads, old=self._tapes.spare()
        )
        self._tapes.keep(tape)
        return spread(out, good, theta.shape[1])

    def _pulled(self, theta: Floats, copies: int, bar: Floats, node_bar: Floats | None = None):
        """Vector-Jacobian product, zero in lanes where there is none."""
        good, schedule, usable = self._usable(theta, copies)
        tape = self._tapes.take(usable, schedule) if node_bar is None else None
        if tape is not None:
            found = compiled_run.pull(tape, bar[:, good], threads=self.threads)
            self._tapes.give_back(tape)
        else:
            found = compiled_run.vector_jacobian(
                self._plan,
                self.grid,
                schedule,
                usable,
                bar[:, good],
                node_cotangent=None if node_bar is None else node_bar[:, good],
                threads=self.threads,
            )[1]
        out = np.zeros(theta.shape)
        out[:, good] = np.where(np.isfinite(found).all(axis=0), found, 0.0)
        return out

    @cached_property
    def _counts_primitive(self) -> Callable[[Array], Array]:
        n_times = self.times_h.shape[1]

        def pull(copies, theta, bar):
            return self._pulled(theta, copies, np.where(np.isfinite(bar), bar, 0.0))

        return primitive(
            lambda copies, theta: self._compiled(theta, copies),
            lambda copies, theta: self._compiled_taped(theta, copies),
            pull,
            lambda n: (self.n_lines, n, n_times),
        )

    @cached_property
    def _nodes_primitive(self) -> Callable[[Array], Array]:
        n_times, n_nodes = self.times_h.shape[1], self.grid.n_cells + 1

        def value(copies, theta):
            return self._compiled(theta, copies, dense=True)

        def pull(copies, theta, bar):
            none = np.zeros((self.n_lines, theta.shape[1], n_times))
            return self._pulled(theta, copies, none, bar)

        return primitive(value, value, pull, lambda n: (self.n_lines, n, n_nodes, 2))

    def _likelihood_primitive(self, observed: Floats, weight: Floats):
        def both(theta):
            value, bar = self.value_and_gradient(theta, observed, weight)
            return value, bar

        def value(theta):
            residual = np.where(weight > 0, observed - self._compiled(theta), 0.0)
            out = -0.5 * (weight * residual**2).sum(axis=(0, 2))
            return (np.where(np.isfinite(out) & (out > PENALTY), out, PENALTY),)

        def call(host, shapes, theta):
            kinds = tuple(jax.ShapeDtypeStruct(s, jnp.float64) for s in shapes)
            return jax.pure_callback(self._each(host, 1), kinds, theta, vmap_method="broadcast_all")

        @jax.custom_vjp
        def function(theta):
            return call(value, ((theta.shape[1],),), theta)[0]

        def forward(theta):
            return call(both, ((theta.shape[1],), theta.shape), theta)

        def backward(saved, bar):
            return (saved * bar,)

        function.defvjp(forward, backward)
        return function


def prepare(
    structure: PopulationStructure,
    doses: Doses,
    times_h: ArrayLike,
    *,
    schedule: ArrayLike | None = None,
    max_step_h: float = DEFAULT_STEP_H,
    dose_cells: DoseCells = "usual",
    versions: Versions | None = None,
    engine: Engine = "auto",
    threads: int | None = None,
) -> PopulationProblem:
    """Do the part of solving a population that does not depend on parameters.

    Parameters
    ----------
    structure
        Drugs and lines.
    doses
        Doses of ``G`` schedules.
    times_h
        Observation times in hours, ``[T]`` or ``[G, T]``; NaN is padding.
    schedule : int[L]
        Schedule of each lane. Left out: all lanes share one schedule, or lane ``g`` has schedule
        ``g`` if there are several.
    max_step_h
        Longest cell in hours. 4 h keeps the relative error of counts below 1e-5 in the published
        models; it falls with about the third power.
    dose_cells
        Short cells at the edges of doses, see `pkpd.solve.grid.grid.population_grid`.
    versions
        When the parameters of the drugs change within a lane; ``theta`` then has further rows
        (`pkpd.solve.grid.versions`). Takes the compiled engine, on any device.
    engine
        ``"compiled"``, ``"scan"`` (JAX), or ``"auto"``.
    threads
        Threads of the compiled engine.

    Raises
    ------
    PkpdError
        If the input has no meaning, or ``engine="compiled"`` and the structure is not in its
        family.
    """
    if engine not in ("auto", "compiled", "scan"):
        raise PkpdError(
            where="population", what=f"engine {engine!r}", allowed="auto, compiled, scan"
        )
    if versions is not None:
        if engine == "scan":
            what = 'engine "scan" for kinetics that change'
            raise PkpdError(where="population", what=what, allowed="auto, compiled")
        engine = "compiled"
    grid = population_grid(
        doses,
        times_h,
        n_drugs=len(structure.drugs),
        max_step_h=max_step_h,
        dose_cells=dose_cells,
        versions=versions,
    )
    groups = grid.n_schedules
    if schedule is not None:
        given = np.asarray(schedule, dtype=np.float64)
        there = (given >= 0) & (given < groups) & (given == np.floor(given))
        if given.ndim != 1 or given.size == 0 or not there.all():
            raise PkpdError(
                where="population",
                what="a schedule index is out of range or no whole number",
                allowed=f"one number from 0 to {groups - 1} per lane",
            )
        index = given.astype(np.int64)
    else:
        index = None if groups == 1 else np.arange(groups)
    plan = None if engine == "scan" else compiled.compile_plan(structure)
    accelerated = engine == "auto" and jax.default_backend() != "cpu"
    scan_from = ACCELERATOR_FROM * compiled.CORES if accelerated else None
    if engine == "compiled" and plan is None:
        raise PkpdError(
            where="population",
            what="the structure is not in the family of the compiled engine",
            remedy='use engine="auto" or engine="scan"',
        )
    times = np.broadcast_to(np.atleast_2d(np.asarray(times_h, dtype=np.float64)), grid.obs_at.shape)
    return PopulationProblem(
        structure, doses, times, grid, index, max_step_h, plan, scan_from, threads
    )
