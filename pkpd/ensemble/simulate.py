"""Counts under a regimen as a labelled data set, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.arguments import NONE, NUMBERS, PATH, TEXT, Kind, a, check_arguments, from_to
from pkpd.arrays import Floats, Indices
from pkpd.cards import load_grades, load_rule
from pkpd.cards.usual_doses import check_regimen
from pkpd.course.course import Course
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.endpoints.clock import ClockDays, clock_days, clock_of, has_treatment, rule_days
from pkpd.endpoints.curve import log_count_at
from pkpd.endpoints.definitions import (
    FROM_DAY_1,
    THRESHOLDS,
    check_last_morning,
    recovery_definition,
)
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.endpoints.grades import grade
from pkpd.endpoints.recovery import nadir, recovery_after, recovery_days, recovery_of_cycle
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble, Treated, courses
from pkpd.ensemble.source import check_none_beside, in_words, notes_of, source
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.fitting.draws import Fitted
from pkpd.machine import cores
from pkpd.model.joint import JointModel
from pkpd.schedule import NEVER, GrowthFactorPolicy, Regimen, Slot, given_amount
from pkpd.subjects import PatientSample, Population
from pkpd.trials import DLTRule

if TYPE_CHECKING:
    import xarray as xr

MOST_VALUES = 200_000_000
GRADES = "ctcae_v5"


def simulate(
    regimen: Regimen,
    population: str | Population | PatientSample | Ensemble,
    *,
    marrow: str | None = None,
    disease: str | None = None,
    posterior: EvidencePosterior | Fitted | str | Path | None = None,
    model: JointModel | None = None,
    patients: int = 200,
    draws: int = 1,
    until_day: int = 90,
    days: Sequence[float] | None = None,
    rule: str | Path | DLTRule | None = None,
    seed: int = 1,
    transfusion: TransfusionPolicy | None = TransfusionPolicy(),  # noqa: B008 (frozen)
    growth_factor: GrowthFactorPolicy = NEVER,
    threads: int | None = None,
) -> xr.Dataset:
    """Simulate blood counts of patients under a regimen, and what became of them.

    Parameters
    ----------
    regimen
        What is given; gates and modifications are followed on each patient's own counts. A dose far
        from the usual one (`pkpd.cards.usual_doses`) needs ``unusual_dose=True``. A drug card of
        your own acts where the regimen names its file, ``pkpd.daily("mine.toml", ...)``, or comes
        from a schedule file that does.
    population
        Name of a population card, a `Population`, patients of your own
        (`pkpd.subjects.patients`, `pkpd.subjects.sample_population`), or an ensemble
        (`pkpd.source`), which has all of the next itself: beside it they are refused.
    marrow, disease, posterior, model, patients, draws, seed, transfusion, growth_factor
        As of `pkpd.source`, the same as `pkpd.compare` takes.
    until_day
        Last protocol day; day 1 begins with the first dose.
    days
        Times in days since the start of day 1 at which counts are given; the start of every
        protocol day if omitted.
    rule
        DLT rule, by name or file; its verdict is then among the outcomes.
    threads
        At most so many; all cores by default.

    Returns
    -------
    xarray.Dataset
        ``count`` (draw, patient, line, time) in 10^9/L, platelets without transfused ones;
        ``platelets_with_transfused`` (draw, patient, day), as a laboratory counts them, and
        ``transfused`` (draw, patient, day). With leukaemia ``marrow_blasts`` (draw, patient, day)
        in percent and ``death_day`` (draw, patient), infinite for those alive; without, ``amount``
        (draw, patient, day, slot) as given, after caps and rounding to strengths, in the unit of
        the coordinate ``unit`` (slot).
        Outcomes, read in mornings: ``nadir`` and ``worst_grade`` (CTCAE v5) by line, as a
        laboratory counts, transfused platelets included; ``recovery_day`` by criterion, in days
        since the start of day 1, looked for from the planned last dose of the first cycle to the
        first of the next (0: not low then; infinite: not recovered before the next cycle or the
        last day), and ``dlt`` (1, 0, NaN where it cannot be judged). Counts of the dead go on as
        if they lived; outcomes do not. The attribute ``simulated`` says which model answered,
        ``because`` why it is the one without leukaemia if nobody named one, ``seed`` that of
        patients who were made here, ``notes`` which parameters of a fit stay at their estimates, or
        that its draws are repeated.

    Raises
    ------
    PkpdError
        If an input cannot be used, or the result would hold more than 2e8 counts.

    Examples
    --------
    >>> import pkpd
    >>> regimen = pkpd.daily("lenalidomide", "10 mg", days="1-21", route="oral")
    >>> counts = pkpd.simulate(regimen, "mds_post_hma", patients=3, until_day=28)
    >>> dict(counts["count"].sizes)
    {'draw': 1, 'patient': 3, 'line': 3, 'time': 28}
    """
    check_arguments(
        "simulate",
        regimen=(regimen, a(Regimen)),
        until_day=(until_day, from_to(1)),
        days=(days, NUMBERS | NONE),
        rule=(rule, PATH | a(DLTRule) | NONE),
        threads=(threads, from_to(1) | NONE),
    )
    times = np.arange(until_day, dtype=float) if days is None else np.asarray(days, dtype=float)
    if times.ndim != 1 or times.size == 0 or not np.all((times >= 0) & (times <= until_day)):
        raise PkpdError(
            where="simulate",
            what="days holds a time outside the simulation",
            allowed=f"0 to {until_day} days since the start of day 1",
        )
    of_mornings = bool(np.all(times == np.floor(times)) and times.max() < until_day)
    given = TEXT | a(Population, PatientSample) | Kind("an ensemble", _treats)
    check_arguments("simulate", population=(population, given))
    if isinstance(population, (str, Population, PatientSample)):
        ensemble = source(
            population, marrow=marrow, disease=disease, posterior=posterior, model=model,
            patients=patients, draws=draws, seed=seed, transfusion=transfusion,
            growth_factor=growth_factor,
        )  # fmt: skip
        made_of: dict[str, int] = {"seed": seed}
    else:
        check_none_beside(
            "simulate", marrow=(marrow, None), disease=(disease, None),
            posterior=(posterior, None), model=(model, None), patients=(patients, 200),
            draws=(draws, 1), seed=(seed, 1), transfusion=(transfusion, TransfusionPolicy()),
            growth_factor=(growth_factor, NEVER),
        )  # fmt: skip
        ensemble, made_of = population, {}
    if not of_mornings:
        ensemble = ensemble.between_mornings()
    if ensemble.draws * ensemble.patients * times.size * 3 > MOST_VALUES:
        raise PkpdError(
            where="simulate",
            what=f"{ensemble.draws} draws of {ensemble.patients} patients at {times.size} times",
            allowed="at most 2e8 counts",
            remedy="use fewer, or pkpd.compare, which keeps summaries only",
        )
    wanted = rule if rule is None or isinstance(rule, DLTRule) else load_rule(rule)
    if wanted is not None:
        check_rule_lines(wanted, ensemble)
        check_last_morning("simulate", until_day, regimen, wanted)
    drugs = ensemble.model.drugs if isinstance(ensemble, CardsEnsemble) else ()
    check_regimen(regimen, {drug.name: drug.card for drug in drugs})
    treated = ensemble.treated(regimen, until_day)
    gather = _Gather(ensemble, treated, times, of_mornings, wanted, until_day)
    for draws_done, found in courses(treated, gather.read, threads or cores()):
        gather.keep(draws_done, found)
    return gather.dataset(made_of, in_words(ensemble, regimen))


def _treats(value: object) -> bool:
    """Whether a value is a source of patients."""
    return hasattr(value, "treated") and hasattr(value, "between_mornings")


class _Gather:
    """Arrays of a simulation, filled portion by portion."""

    def __init__(
        self,
        ensemble: Ensemble,
        treated: Treated,
        times: Floats,
        of_mornings: bool,
        rule: DLTRule | None,
        days: int,
    ) -> None:
        self.ensemble, self.treated = ensemble, treated
        self.times, self.of_mornings, self.rule, self.days = times, of_mornings, rule, days
        self.grades = load_grades(GRADES)
        self.arrays: dict[str, NDArray[np.generic]] = {}
        self.lines: tuple[str, ...] = ()

    def read(self, draws: Indices, course: Course) -> tuple[Indices, dict[str, NDArray]]:
        """Read what is kept of a portion, lanes first."""
        lines = (*course.mornings, *(("wbc",) if course.wbc is not None else ()))
        found: dict[str, NDArray] = {
            "count": np.stack([self._counts(course, line) for line in lines], axis=1),
            "transfused": course.transfused,
            "nadir": np.stack([nadir(course, line, resolution="morning")[0] for line in lines], 1),
        }
        if course.platelets_with_transfused is not None:
            found["platelets_with_transfused"] = course.platelets_with_transfused
        self.lines = lines
        worst, recovered = [], []
        defined = recovery_definition(self.rule)
        clock = self._clock(course)
        for line, thresholds in _thresholds(self.ensemble.lines).items():
            lowest = found["nadir"][:, lines.index(line)]
            before = course.laboratory(line)[:, 0]
            worst.append(grade(self.grades, line, lowest, baseline=before))
            seen = recovery_after(
                course, line, thresholds, resolution="morning", definition=defined,
                search=clock.search, until=clock.until,
            )  # fmt: skip
            recovered += list(recovery_days(recovery_of_cycle(seen, clock.falls_until)))
        if worst:
            found["worst_grade"] = np.stack(worst, axis=1)
            found["recovery_day"] = np.stack(recovered, axis=1)
        if course.marrow_blasts is not None:
            found["marrow_blasts"] = course.marrow_blasts
        if course.cumulative_hazard is not None:
            found["death_day"] = course.death_day
        slots = self.treated.plan.slots
        # drugs that act by their intensity are given by tables, not in slots
        if course.amount is not None and course.amount.shape[-1] == len(slots):
            found["amount"] = _given(course, slots)
        if self.rule is not None:
            asked = clock_of(self.treated.plan, self.rule.clock, self.rule.by_day)
            begin, search, stop, _ = rule_days(course, asked)
            found["dlt"] = evaluate_rule(
                self.rule, course, resolution="morning", start=begin, search=search, until=stop
            ).outcome
        return draws, found

    def _clock(self, course: Course) -> ClockDays:
        """Days of the rule's clock, or of that from the first dose; the start without treatment."""
        plan = self.treated.plan
        if self.rule is None and not has_treatment(plan):
            start = np.zeros(course.lanes)
            never = np.full(course.lanes, np.inf)
            return ClockDays(start, start, never, never)
        name, by_day = (self.rule.clock, self.rule.by_day) if self.rule else ("first_dose", None)
        return clock_days(course, clock_of(plan, name, by_day))

    def _counts(self, course: Course, line: str) -> Floats:
        if self.of_mornings:
            return course.own(line)[:, self.times.astype(np.int64)]
        curve = course.curve
        assert curve is not None
        logs = curve.log_count[line], curve.slope[line]
        return np.exp(log_count_at(curve.time_h, *logs, 24.0 * self.times))

    def keep(self, draws: Indices, found: dict[str, NDArray]) -> None:
        """Put a portion where it belongs."""
        m, n = self.ensemble.draws, self.ensemble.patients
        for name, values in found.items():
            shape = (m, n, *values.shape[1:])
            array = self.arrays.setdefault(name, np.empty(shape, values.dtype))
            array[draws] = values.reshape(len(draws), n, *values.shape[1:])

    def dataset(self, made_of: Mapping[str, int], words: str) -> xr.Dataset:
        """Everything with its names."""
        import xarray as xr

        slots = self.treated.plan.slots
        dims = {
            "count": ("line", "time"),
            "transfused": ("day",),
            "platelets_with_transfused": ("day",),
            "nadir": ("line",),
            "worst_grade": ("graded",),
            "recovery_day": ("criterion",),
            "marrow_blasts": ("day",),
            "death_day": (),
            "amount": ("day", "slot"),
            "dlt": (),
        }
        graded = _thresholds(self.ensemble.lines)
        criteria = [f"{line} >= {t:g}" for line, levels in graded.items() for t in levels]
        every = self.arrays.items()
        data = xr.Dataset(
            {name: (("draw", "patient", *dims[name]), array) for name, array in every},
            coords={
                "draw": np.arange(self.ensemble.draws),
                "patient": np.arange(self.ensemble.patients),
                "line": list(self.lines),
                "graded": list(graded),
                "criterion": criteria,
                "time": self.times,
                "day": np.arange(1, self.days + 1),
                "drug": ("slot", [slot.drug for slot in slots]),
                "unit": ("slot", [slot.unit for slot in slots]),
            },
            attrs={
                "marrow": self.ensemble.marrow,
                "simulated": words,
                **made_of,
            },
        )
        if isinstance(self.ensemble, CardsEnsemble) and self.ensemble.because:
            data.attrs["because"] = self.ensemble.because
        data.attrs |= notes_of(self.ensemble)
        for name in ("count", "nadir", "platelets_with_transfused"):
            if name in data:
                data[name].attrs["units"] = "10^9/L"
        data["time"].attrs |= FROM_DAY_1
        if "recovery_day" in data:
            data["recovery_day"].attrs |= FROM_DAY_1
        if "death_day" in data:
            data["death_day"].attrs |= FROM_DAY_1
        if "marrow_blasts" in data:
            data["marrow_blasts"].attrs["units"] = "percent of nucleated marrow cells"
        if self.rule is not None:
            data.attrs["rule"] = self.rule.name
        return data


def _given(course: Course, slots: Sequence[Slot]) -> Floats:
    """Amounts that patients get, in the units of the slots, after caps and rounding."""
    assert course.amount is not None
    assert course.surface is not None
    assert course.weight is not None
    surface, weight = course.surface[:, None], course.weight[:, None]
    each = [given_amount(s, course.amount[..., i], surface, weight) for i, s in enumerate(slots)]
    return np.stack(each, axis=-1)


def check_rule_lines(rule: DLTRule, ensemble: Ensemble) -> None:
    """Refuse a rule that needs a line which the patients of a source do not have.

    Raises
    ------
    PkpdError
        Naming the rule and the line.
    """
    for criterion in rule.criteria:
        if criterion.line not in ensemble.lines:
            raise PkpdError(
                where=f"rule {rule.name}",
                what=f"it needs {criterion.line}, which the source of patients does not have",
                allowed=", ".join(ensemble.lines),
                remedy=f"fit a model with {criterion.line}, or name a rule without them, a card or "
                'a file of your own (kind = "rule")',
            )


def _thresholds(lines: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Give the counts that mean recovery, for the lines that there are."""
    return {line: levels for line, levels in THRESHOLDS.items() if line in lines}
