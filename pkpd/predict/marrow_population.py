"""Counts of a joint model by the population engine (`pkpd.solve.population.problem`).

Serves any linear kinetics, doses of given rates and durations, a lag that all doses share, resets,
parameters of marrow and effects constant in a subject, and kinetics that are constant or change at
records (`pkpd.predict.marrow_occasions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.dataset import Dataset
from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE
from pkpd.data.expand import expand
from pkpd.marrow.effects import LinearEffect, NoEffect
from pkpd.predict.marrow_events import drug_of_dose, events_of
from pkpd.predict.marrow_kinetics import Source, dosed, engine_drugs
from pkpd.predict.marrow_occasions import Stretches
from pkpd.solve.compiled.family import compile_plan
from pkpd.solve.grid.grid import SAME_TIME, Doses, refine
from pkpd.solve.grid.structure import DirectKill, Drug, Line, PopulationStructure
from pkpd.solve.grid.versions import Versions, n_kinetic, of_version
from pkpd.solve.population.problem import PopulationProblem, prepare
from pkpd.solve.population.status import TOLERANCE, assess, parameter_problems

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowDrug, MarrowStructure

_A_DAY = 24.0


def reason_against(structure: MarrowStructure, dataset: Dataset) -> str | None:
    """Say why the population engine cannot take the doses or the model; ``None`` if it can."""
    events = dataset.events
    later = np.arange(events.shape[1])[None, :] > 0
    owner = drug_of_dose(structure, events)
    if structure.combination != "additive" and len(structure.drugs) > 1:
        return "effects of several drugs combine otherwise than by addition"
    if structure.whole is not None and np.any(events.is_reset & later):
        return "there are resets (EVID 3 or 4)"
    if np.any(events.is_dose & (events.ss > 0)):
        return "there are steady-state doses"
    if np.any(events.is_dose & np.isin(events.rate, (MODELLED_RATE, MODELLED_DURATION))):
        return "rates or durations of doses are modelled"
    for k, drug in enumerate(structure.drugs):
        mine = owner == k
        if drug.pk is None:
            continue
        into = dosed(drug, events_of(events, drug, mine))
        if len(into) > 1 and not _proportional(structure, k):
            return f"doses of {drug.name} go into several compartments and do not act in proportion"
        if not set(_lags(drug, into)) <= {_shared_lag(structure, dataset)}:
            return f"doses of {drug.name} have a lag that nothing else shares"
        table = events_of(events, drug, mine)
        entered = np.where(table.cmt > 0, table.cmt, drug.pk.system.dose_compartment)
        shared = np.isin(entered, [c for c in into if f"F{c}" in drug.pk.dosing])
        if np.any(mine & shared & (events.rate > 0)):
            # NONMEM's F changes the duration of an infusion of given rate
            return f"infusions of {drug.name} have a bioavailability"
    return None


def _lags(drug: MarrowDrug, into: Sequence[int]) -> list[str]:
    """Lags of the compartments that doses enter."""
    return [name for c in into if (name := f"ALAG{c}") in drug.kinetics.dosing]


def _shared_lag(structure: MarrowStructure, dataset: Dataset) -> str | None:
    """Return the lag of all doses; ``None`` where there is none, or the marrow tells the time.

    A marrow in its steady state waits for the first dose: a lag of every dose is one of all counts.
    """
    drug = structure.drugs[0]
    if len(structure.drugs) > 1 or drug.pk is None or structure.whole is not None:
        return None
    if structure.free_baseline:
        return None
    mine = drug_of_dose(structure, dataset.events) == 0
    into = dosed(drug, events_of(dataset.events, drug, mine))
    return next(iter(_lags(drug, into)), None) if len(into) == 1 else None


def _proportional(structure: MarrowStructure, drug: int) -> bool:
    """Whether the effects of a drug on all lines are proportional to its concentration."""
    if structure.whole is not None:
        return False
    return all(isinstance(line[drug], LinearEffect | NoEffect) for line in structure.effects)


def reason_against_changes(structure: MarrowStructure, dataset: Dataset) -> str | None:
    """Say why the population engine cannot take kinetics that change; ``None`` if it can."""
    described = _described(structure, dataset)
    if compile_plan(described.structure) is None:
        return "effects or marrow equations are not those of the compiled engine"
    if np.any(dataset.events.is_reset[:, 1:]):
        return "there are resets (EVID 3 or 4) where kinetics change"
    if _shared_lag(structure, dataset) is not None:
        return "doses have a lag where kinetics change"
    for engine, doses in enumerate(_doses(structure, dataset, described, _Lanes.of(dataset))):
        drug = structure.drugs[described.of[engine]]
        shared = drug.pk is not None and any(name.startswith("F") for name in drug.pk.dosing)
        for mine in doses if shared else ():
            times = [dose[0] for dose, _ in mine]
            if np.any(np.diff(np.sort(times)) <= SAME_TIME):
                return f"doses of {drug.name} with a bioavailability fall together"
    return None


class PopulationCourse:
    """Marrow lines of a joint model at the observations, by the population engine.

    Parameters
    ----------
    structure
        The joint model; `reason_against` must have found nothing.
    dataset
        The data.
    line : int[M]
        Marrow line of each observation.
    subject, record : int[M]
        Its place in the event table.
    stretches
        Where the kinetics may change, if they do; then `reason_against_changes` must have found
        nothing.
    """

    def __init__(
        self,
        structure: MarrowStructure,
        dataset: Dataset,
        line: np.ndarray,
        subject: np.ndarray,
        record: np.ndarray,
        stretches: Stretches | None = None,
    ) -> None:
        self._line, self._stretches = line, stretches
        described = _described(structure, dataset)
        population, self._sources = described.structure, described.sources
        lanes = _Lanes.of(dataset)
        self._subject_of, self._lane = lanes.subject, lanes.of_record[subject, record]
        time = dataset.events.time
        start = time[lanes.subject, lanes.first]
        seen = time[subject, record] - start[self._lane]
        times, self._slot = _times(seen, self._lane, len(start))
        lag = _shared_lag(structure, dataset)
        self._lag = None if lag is None else structure.drugs[0].own[lag]
        doses = _doses(structure, dataset, described, lanes, stretches)
        rows = [sorted(pair for drug in doses for pair in drug[b]) for b in range(len(times))]
        versions = None
        if stretches is not None:
            of_dose = np.zeros((len(rows), max(1, *map(len, rows))), dtype=np.int32)
            for b, row in enumerate(rows):
                of_dose[b, : len(row)] = [version for _, version in row]
            versions = Versions(stretches.begins_h, of_dose)
        self.problem: PopulationProblem = prepare(
            population,
            Doses.of([[dose for dose, _ in row] for row in rows]),
            times,
            schedule=np.arange(len(times)),
            max_step_h=structure.max_step_h,
            dose_cells="fine",
            versions=versions,
        )

    def __call__(self, values: dict[str, Any]) -> Any:
        """Solve for the counts (10^9/L) at the observations.

        Values are scalars or [B]; those of kinetics may be [B, N] if there are stretches.
        """
        theta = self._theta(values)
        if self._lag is not None:
            return jnp.exp(self._lagged(theta, values[self._lag]))
        log_count = self.problem.log_counts(theta)
        seen = log_count[self._line, self._lane, self._slot]
        return jnp.exp(seen) if isinstance(seen, Array) else np.exp(seen)

    def many(self, values: Mapping[str, Any], n: int) -> np.ndarray | None:
        """Solve for the counts of one subject with ``n`` sets of parameters, ``[M, n]``: numbers.

        ``None`` where the data have several subjects, or kinetics change or are late.
        """
        if self._n_subjects > 1 or self._stretches is not None or self._lag is not None:
            return None
        rows = [values[s] if isinstance(s, str) else s for s in self._sources]
        rows = [row(values) if callable(row) else row for row in rows]
        if any(np.ndim(row) > 1 for row in rows):
            return None
        theta = np.stack([np.broadcast_to(np.asarray(row, dtype=float), (n,)) for row in rows])
        lanes = len(self._subject_of)
        problem = replace(self.problem, schedule=np.repeat(np.arange(lanes), n))
        width = self.problem.times_h.shape[1]
        log_count = problem.log_counts(np.tile(theta, (1, lanes))).reshape(-1, lanes, n, width)
        with np.errstate(over="ignore"):  # of parameters that nobody has
            return np.exp(log_count[self._line, self._lane, :, self._slot])

    def _lagged(self, theta: Any, lag: Any) -> Array:
        """Log counts at the observations where every dose is late: those as much earlier, [M]."""
        times, log_count, slope = self.problem.nodes(jnp.asarray(theta))
        late = jnp.broadcast_to(jnp.asarray(lag, dtype=float), (self._n_subjects,))
        at = self.problem.times_h - late[self._subject_of][:, None]
        at = jnp.maximum(at, 0.0)
        left = jax.vmap(lambda edges, t: jnp.searchsorted(edges, t, side="right"))(times.T, at) - 1
        left = jnp.clip(left, 0, times.shape[0] - 2)
        lanes = np.arange(len(at))[:, None]
        t0, t1 = jnp.asarray(times.T)[lanes, left], jnp.asarray(times.T)[lanes, left + 1]
        length = jnp.where(t1 > t0, t1 - t0, 1.0)
        u = (at - t0) / length
        r, (y0, y1), (d0, d1) = (
            1.0 - u,
            (log_count[:, lanes, left], log_count[:, lanes, left + 1]),
            (slope[:, lanes, left], slope[:, lanes, left + 1]),
        )
        value = r * r * (1.0 + 2.0 * u) * y0 + u * u * (3.0 - 2.0 * u) * y1
        value = value + length * u * r * (r * d0 - u * d1)
        return value[self._line, self._lane, self._slot]

    def problems(self, values: dict[str, Any]) -> dict[int, str]:
        """Sentences on subjects that cannot be solved or are over tolerance."""
        problem = self.problem
        theta = np.asarray(self._theta(values), dtype=np.float64)
        missing = problem.missing(theta.shape[1])
        coarse = problem.log_counts(theta)
        fine = replace(problem, grid=refine(problem.grid)).log_counts(theta)
        gap = np.where(missing, 0.0, np.abs(fine - coarse))
        error = np.where(np.isnan(gap), np.inf, gap).max(axis=(0, 2))
        structure = problem.structure
        status = assess(
            structure, of_version(structure, theta, 0), coarse, missing, error, TOLERANCE
        )
        out = dict(status.detail)
        for version in range(1, problem.n_versions):
            out |= parameter_problems(structure, of_version(structure, theta, version))
        subjects = {lane: int(self._subject_of[lane]) for lane in out}
        return {
            b: out[lane].replace(f"lane {lane}", f"lane {b}", 1)
            for lane, b in reversed(subjects.items())
        }

    @property
    def _n_subjects(self) -> int:
        return int(self._subject_of[-1]) + 1

    def _theta(self, values: dict[str, Any]) -> Any:
        """Rows of all versions (`pkpd.solve.grid.versions`), one lane for each subject."""
        rows = [
            values[s] if isinstance(s, str) else s(values) if callable(s) else s
            for s in self._sources
        ]
        xp = jnp if any(isinstance(v, Array) for v in rows) else np
        size = self._n_subjects

        def of_subjects(given: list[Any]) -> Any:
            numbers = (xp.asarray(v, dtype=np.float64) for v in given)
            both = xp.stack([xp.broadcast_to(v, (size,)) for v in numbers])
            return both if len(self._subject_of) == size else both[:, self._subject_of]

        if self._stretches is None:
            return of_subjects(rows)
        kinetic = n_kinetic(self.problem.structure)
        where = (np.arange(size)[:, None], self._stretches.a_record)
        shape = self._stretches.of_record.shape

        def of_versions(value: Any) -> Any:
            array = xp.asarray(value, dtype=np.float64)
            if array.ndim < 2:
                return xp.broadcast_to(array.reshape(-1, 1), where[1].shape)
            return xp.broadcast_to(array, shape)[where]

        changing = xp.stack([of_versions(value) for value in rows[:kinetic]])
        later = changing[:, :, 1:].transpose(2, 0, 1).reshape(-1, size)
        return xp.concatenate([changing[:, :, 0], of_subjects(rows[kinetic:]), later])


@dataclass(frozen=True)
class _Described:
    """A joint model as the population engine has it.

    Attributes
    ----------
    structure
        Drugs and lines of the engine.
    sources
        Where the rows of its parameters come from.
    of, into
        Drug of the joint model behind each of the engine's, and compartment of its doses (0: any).
    """

    structure: PopulationStructure
    sources: list[Source]
    of: tuple[int, ...]
    into: tuple[int, ...]


def _described(structure: MarrowStructure, dataset: Dataset) -> _Described:
    drugs: list[Drug] = []
    sources: list[Source] = []
    of: list[int] = []
    into: list[int] = []
    owner = drug_of_dose(structure, dataset.events)
    for k, drug in enumerate(structure.drugs):
        if drug.pk is None:
            drugs.append(Drug(drug.name, DirectKill()))
            sources.append(1.0)
            of.append(k)
            into.append(0)
            continue
        table = events_of(dataset.events, drug, owner == k)
        for one in engine_drugs(drug, dosed(drug, table)):
            drugs.append(Drug(one.name, one.kinetics))
            sources += one.sources
            of.append(k)
            into.append(one.compartment)
    if structure.whole is not None:
        held: dict[str, float] = dict(structure.held)
        sources += [held.get(name, name) for name in structure.whole.parameters]
        made = PopulationStructure(tuple(drugs), whole=structure.whole)
        return _Described(made, sources, tuple(of), tuple(into))
    lines = []
    for i, name in enumerate(structure.names):
        effects = tuple(structure.effects[i][k] for k in of)
        lines.append(Line(name, structure.marrow[i], effects))
        for k in of:
            sources += structure.effect_names(i, k).values()
        sources += structure.marrow_names(i).values()
    made = PopulationStructure(tuple(drugs), tuple(lines))
    return _Described(made, sources, tuple(of), tuple(into))


@dataclass(frozen=True, eq=False)
class _Lanes:
    """Stretches of records that begin with the marrow at its start: a subject, or after a reset.

    Attributes
    ----------
    subject, first : int[L]
        Subject and first record of each lane.
    of_record : int[B, N]
        Lane of each record.
    """

    subject: np.ndarray
    first: np.ndarray
    of_record: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> _Lanes:
        new = dataset.events.is_reset.copy()
        new[:, 0] = True
        subject, first = np.nonzero(new)
        return cls(subject, first, np.cumsum(new).reshape(new.shape) - 1)


def _times(time: np.ndarray, lane: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct observation times of each lane ``[L, T]``, and which one each observation is."""
    slot = np.zeros(len(time), dtype=np.int64)
    rows = []
    for b in range(size):
        mine = lane == b
        distinct, slot[mine] = np.unique(time[mine], return_inverse=True)
        rows.append(distinct)
    out = np.full((size, max(len(row) for row in rows)), np.nan)
    for b, row in enumerate(rows):
        out[b, : len(row)] = row
    return out, slot


_Dose = tuple[float, float, float, int]


def _doses(
    structure: MarrowStructure,
    dataset: Dataset,
    described: _Described,
    lanes: _Lanes,
    stretches: Stretches | None = None,
) -> list[list[list[tuple[_Dose, int]]]]:
    """Doses by drug of the engine and lane with additional ones written out.

    Hours from the first record of the lane; each with the stretch of records whose bioavailability
    it takes.
    """
    events = dataset.events
    owner = drug_of_dose(structure, events)
    out = []
    for engine, (k, compartment) in enumerate(zip(described.of, described.into, strict=True)):
        drug, mine = structure.drugs[k], owner == k
        table = events_of(events, drug, mine)
        if compartment:
            own = np.where(table.cmt > 0, table.cmt, drug.kinetics.system.dose_compartment)
            table = events_of(events, drug, mine & (own == compartment))
        given = expand(table)
        of_dose = (
            np.zeros(given.record.shape, int) if stretches is None else stretches.of_doses(given)
        )
        rows: list[list[tuple[_Dose, int]]] = [[] for _ in lanes.subject]
        for b, d in np.argwhere(given.valid):
            record = given.record[b, d]
            lane = lanes.of_record[b, record]
            begin = float(table.time[b, lanes.first[lane]])
            at = float(table.time[b, record] + given.shift[b, d]) - begin
            amount, rate = float(given.amt[b, d]), float(given.rate[b, d])
            at_once = 0.0 if drug.pk is not None else _A_DAY  # what has no kinetics acts over a day
            dose = (at, amount, amount / rate if rate > 0 else at_once, engine)
            rows[lane].append((dose, int(of_dose[b, d])))
        out.append(rows)
    return out
