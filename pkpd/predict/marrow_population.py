"""Counts of a joint model by the population engine (`pkpd.solve.population.problem`).

Serves doses of given times, rates and durations, parameters of marrow and effects constant in a
subject, and kinetics that are constant or change at records (`pkpd.predict.marrow_occasions`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.dataset import Dataset
from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE, RESET
from pkpd.data.expand import expand
from pkpd.kinetics.compartments import LinearSystem, compartment_model
from pkpd.kinetics.linear import LinearPK
from pkpd.predict.marrow_events import drug_of_dose, events_of
from pkpd.predict.marrow_occasions import Stretches
from pkpd.solve.compiled.family import compile_plan
from pkpd.solve.population.grid import SAME_TIME, Doses, refine
from pkpd.solve.population.population import TOLERANCE
from pkpd.solve.population.problem import PopulationProblem, prepare
from pkpd.solve.population.status import assess, parameter_problems
from pkpd.solve.population.structure import DirectKill, Drug, Line, PopulationStructure
from pkpd.solve.population.versions import Versions, n_kinetic, of_version

if TYPE_CHECKING:
    from pkpd.predict.marrow import MarrowDrug, MarrowStructure

_VOLUMES = {"V": "V1", "Q2": "Q"}
_A_DAY = 24.0


def linear_pk(drug: MarrowDrug) -> tuple[LinearPK, dict[str, str]] | None:
    """Return a drug's kinetics as the population engine writes them, or ``None`` if it cannot.

    Returns
    -------
    structure, names
        And the drug's own name of each of the structure's parameters.
    """
    if drug.pk is None:
        return None
    system = drug.pk.system
    transits = sum(name.startswith("transit") for name in system.compartments)
    depot = "depot" in system.compartments
    n = system.size - transits - depot
    if n not in (1, 2, 3) or (transits and depot):
        return None
    absorption = "transit" if transits else "first_order" if depot else "none"
    known = compartment_model(n, absorption, transits)
    if _shape(system) != _shape(known) or drug.pk.volume != ("V" if n == 1 else "V1"):
        return None
    before = transits or int(depot)
    structure = LinearPK(
        absorption=before - 1 if before else None,
        compartments=n,
        effect_site=drug.driver != "plasma",
        unit="umol/L",
    )
    names = {_VOLUMES.get(name, name): name for name in system.parameters}
    if before:
        names["KTR" if before > 1 else "ka"] = names.pop("ktr" if transits else "ka")
    if drug.driver == "effect_compartment":
        names |= {"k_in": "ke0", "k_out": "ke0"}
    elif drug.driver == "triphosphate":
        names |= {"k_in": "k_in", "k_out": "k_out"}
    return structure, names


def _shape(system: LinearSystem) -> tuple[Any, ...]:
    return (
        system.name,
        system.compartments,
        system.parameters,
        system.dose_compartment,
        system.observed,
    )


def reason_against(structure: MarrowStructure, dataset: Dataset) -> str | None:
    """Say why the population engine cannot take the doses or the model; ``None`` if it can."""
    events = dataset.events
    later = np.arange(events.shape[1])[None, :] > 0
    owner = drug_of_dose(structure, events)
    if structure.combination != "additive" and len(structure.drugs) > 1:
        return "effects of several drugs combine otherwise than by addition"
    if np.any(events.valid & (events.evid == RESET)) or np.any(events.is_reset & later):
        return "there are resets (EVID 3 or 4)"
    if np.any(events.is_dose & (events.ss > 0)):
        return "there are steady-state doses"
    if np.any(events.is_dose & np.isin(events.rate, (MODELLED_RATE, MODELLED_DURATION))):
        return "rates or durations of doses are modelled"
    for k, drug in enumerate(structure.drugs):
        mine = owner == k
        if drug.pk is None:
            continue
        if linear_pk(drug) is None:
            return f"the kinetics of {drug.name} are not those of compartments() without a depot"
        if np.any(mine & (events_of(events, drug, mine).cmt > 1)):
            return f"a dose of {drug.name} goes past its first compartment"
        if any(name.startswith("ALAG") for name in drug.pk.dosing):
            return f"doses of {drug.name} have a lag"
        if "F1" in drug.pk.dosing and np.any(mine & (events.rate > 0)):
            # NONMEM's F changes the duration of an infusion of given rate
            return f"infusions of {drug.name} have a bioavailability"
    return None


def reason_against_changes(structure: MarrowStructure, dataset: Dataset) -> str | None:
    """Say why the population engine cannot take kinetics that change; ``None`` if it can."""
    if compile_plan(_described(structure)[0]) is None:
        return "effects or marrow equations are not those of the compiled engine"
    for k, (drug, doses) in enumerate(
        zip(structure.drugs, _doses(structure, dataset), strict=True)
    ):
        for mine in doses if drug.pk is not None and "F1" in drug.pk.dosing else ():
            times = [dose[0] for dose, _ in mine]
            if np.any(np.diff(np.sort(times)) <= SAME_TIME):
                return f"doses of {structure.drugs[k].name} with a bioavailability fall together"
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
        self._line, self._subject, self._stretches = line, subject, stretches
        population, self._sources = _described(structure)
        start = dataset.events.time[:, :1]
        times, self._slot = _times(dataset.events.time - start, subject, record)
        doses = _doses(structure, dataset, stretches)
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
        log_count = self.problem.log_counts(self._theta(values))
        seen = log_count[self._line, self._subject, self._slot]
        return jnp.exp(seen) if isinstance(seen, Array) else np.exp(seen)

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
        return out

    def _theta(self, values: dict[str, Any]) -> Any:
        """Rows of all versions (`pkpd.solve.population.versions`), one lane for each subject."""
        rows = [values[s] if isinstance(s, str) else s for s in self._sources]
        xp = jnp if any(isinstance(v, Array) for v in rows) else np
        size = self.problem.grid.n_schedules

        def of_subjects(given: list[Any]) -> Any:
            numbers = (xp.asarray(v, dtype=np.float64) for v in given)
            return xp.stack([xp.broadcast_to(v, (size,)) for v in numbers])

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


def _described(structure: MarrowStructure) -> tuple[PopulationStructure, list[str | float]]:
    """Return a joint model as the population engine has it, and where its rows come from."""
    drugs: list[Drug] = []
    sources: list[str | float] = []
    for drug in structure.drugs:
        if drug.pk is None:
            drugs.append(Drug(drug.name, DirectKill()))
            sources.append(1.0)
            continue
        made = linear_pk(drug)
        assert made is not None  # reason_against has looked
        kinetics, names = made
        drugs.append(Drug(drug.name, kinetics))
        own: dict[str, str | float] = {name: drug.own[written] for name, written in names.items()}
        own["per_umol"] = drug.per_unit
        own["F"] = drug.own.get("F1", 1.0)
        sources += [own[name] for name in (*kinetics.parameters, "F")]
    if structure.whole is not None:
        held: dict[str, float] = dict(structure.held)
        sources += [held.get(name, name) for name in structure.whole.parameters]
        return PopulationStructure(tuple(drugs), whole=structure.whole), sources
    lines = []
    for i, name in enumerate(structure.names):
        lines.append(Line(name, structure.marrow[i], structure.effects[i]))
        for k in range(len(drugs)):
            sources += structure.effect_names(i, k).values()
        sources += structure.marrow_names(i).values()
    return PopulationStructure(tuple(drugs), tuple(lines)), sources


def _times(
    time: np.ndarray, subject: np.ndarray, record: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct observation times of each subject ``[B, T]``, and which one each observation is."""
    seen = time[subject, record]
    slot = np.zeros(len(seen), dtype=np.int64)
    rows = []
    for b in range(len(time)):
        mine = subject == b
        distinct, slot[mine] = np.unique(seen[mine], return_inverse=True)
        rows.append(distinct)
    out = np.full((len(time), max(len(row) for row in rows)), np.nan)
    for b, row in enumerate(rows):
        out[b, : len(row)] = row
    return out, slot


_Dose = tuple[float, float, float, int]


def _doses(
    structure: MarrowStructure, dataset: Dataset, stretches: Stretches | None = None
) -> list[list[list[tuple[_Dose, int]]]]:
    """Doses by drug and subject with additional ones written out, hours from each first record.

    Each with the stretch of records whose bioavailability it takes.
    """
    events = dataset.events
    owner = drug_of_dose(structure, events)
    out = []
    for k, drug in enumerate(structure.drugs):
        table = events_of(events, drug, owner == k)
        given = expand(table)
        of_dose = (
            np.zeros(given.record.shape, int) if stretches is None else stretches.of_doses(given)
        )
        mine: list[list[tuple[_Dose, int]]] = [[] for _ in range(events.shape[0])]
        for b, d in np.argwhere(given.valid):
            at = table.time[b, given.record[b, d]] + given.shift[b, d] - table.time[b, 0]
            amount, rate = given.amt[b, d], given.rate[b, d]
            at_once = 0.0 if drug.pk is not None else _A_DAY  # what has no kinetics acts over a day
            dose = (at, amount, amount / rate if rate > 0 else at_once, k)
            mine[b].append((dose, int(of_dose[b, d])))
        out.append(mine)
    return out
