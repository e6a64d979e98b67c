"""When will this patient's counts be back? Forecasts from a source and the counts so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pkpd.cards import load_rule
from pkpd.cluster import Workers, workers
from pkpd.data.dataset import Dataset
from pkpd.data.sheets import TableSource
from pkpd.endpoints.definitions import check_last_morning
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.lanes import carried, lanes_of
from pkpd.ensemble.source import source as source_of
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.psis import smoothed_weights
from pkpd.fitting.model.residual import ResidualError
from pkpd.forecasting.bank import Bank, Level, asked_of, simulated
from pkpd.forecasting.doses import as_given, how_given, planned_doses
from pkpd.forecasting.measurement import Measurement, measurement_of
from pkpd.forecasting.mode import around, most_probable
from pkpd.forecasting.result import Forecast
from pkpd.forecasting.seen import Seen, read_seen
from pkpd.forecasting.summaries import risk
from pkpd.forecasting.tempering import Tempering, tempered
from pkpd.forecasting.weighing import Weighed, more, weigh
from pkpd.machine import cores
from pkpd.schedule import Regimen
from pkpd.subjects import Population
from pkpd.trials import DLTRule

if TYPE_CHECKING:
    from pathlib import Path

Engine = Literal["auto", "importance", "smc", "map"]
ENGINES = ("auto", "importance", "smc", "map")
BANK = 10_000
DRAWS = 1000
"""Parameter draws of virtual patients: all that ship. A patient's counts leave 2 to 20 % of them,
and of 200 so few that another 200 moved a share by 8 points."""


@dataclass(eq=False)
class Forecaster:
    """A source of patients with banks that are simulated once and serve every patient.

    Attributes
    ----------
    ensemble
        The source.
    until_day
        Last protocol day of its forecasts.
    measurement
        How counts scatter.
    rule, back, clock
        As of `forecast`.
    bank
        Virtual patients in a bank.
    seed, threads
        Of all random numbers; at most so many.
    tempering
        Particles and moves, where a bank is too little.
    """

    ensemble: Ensemble
    until_day: int
    measurement: Measurement
    rule: DLTRule | None = None
    back: Mapping[str, Level] | None = None
    clock: str | None = None
    bank: int = BANK
    seed: int = 1
    threads: int | None = None
    tempering: Tempering = field(default_factory=Tempering)
    _banks: dict[Any, Bank] = field(default_factory=dict, repr=False)

    @property
    def banks(self) -> int:
        """Number of banks that are kept."""
        return len(self._banks)

    def bank_for(self, schedule: Regimen, body: Mapping[str, float] | None = None) -> Bank:
        """Simulate the bank of a schedule and of what is known of a body, once.

        Parameters
        ----------
        schedule
            What is given.
        body
            Covariates that are known, by the names of `pkpd.subjects`.
        """
        body = dict(body or {})
        key = schedule, tuple(sorted(body.items()))
        if key not in self._banks:
            if self.rule is not None:
                check_last_morning("forecast", self.until_day, schedule, self.rule)
            asked = asked_of(self.ensemble, self.rule, self.back, self.clock, self.until_day)
            lanes = lanes_of(self.ensemble, schedule, self.until_day, body)
            who = lanes.drawn(self.bank, self.seed)
            made = simulated(lanes, who, asked, self.threads)
            self._ready(made)
            self._banks[key] = made
        return self._banks[key]

    def weighed(self, seen: Seen, schedule: Regimen, engine: Engine = "auto") -> Weighed:
        """Weigh a bank by what was seen of a patient, and make it anew where that is too little."""
        regimen = as_given(schedule, seen.doses, seen.last_day)
        first = min(day for day, _ in planned_doses(regimen))
        if len(seen) and first > np.ceil(seen.time.max()):
            what = f"all counts are from before the first dose, which is planned on day {first}"
            remedy = "give counts on treatment, or compare schedules (in Python pkpd.simulate)"
            raise PkpdError(where=f"patient {seen.label}", what=what, remedy=remedy)
        bank = self.bank_for(regimen, seen.body)
        self._check(seen, bank)
        found = weigh(bank, seen, self.measurement)
        return self._by_engine(found, engine)

    def weighed_of_all(
        self, asked: Sequence[tuple[Seen, Regimen]], engine: Engine, spread: Workers | None = None
    ) -> list[Weighed]:
        """As `weighed` of each patient and schedule, perhaps over the workers of a cluster."""
        if spread is None:
            return [self.weighed(*one, engine) for one in asked]
        own = replace(self, threads=1, _banks={})
        blocks = _blocks(asked, spread.threads)
        alike = list(spread.in_turn(lambda block: own.weighed_of_all(block, engine), blocks))
        return [one for block in alike for one in block]

    def updated(self, before: Weighed, seen: Seen, engine: Engine) -> Weighed:
        """Weigh by further counts."""
        self._check(seen, before.bank)
        if seen.doses or seen.body:
            what = "further doses or covariates are given, which another bank would be needed for"
            raise PkpdError(where="update", what=what, remedy="forecast anew")
        old = set(zip(before.seen.line, before.seen.time.tolist(), strict=True))
        for line, time in zip(seen.line, seen.time.tolist(), strict=True):
            if (line, time) in old:
                what = f"the {line.replace('_', ' ')} of day {int(time) + 1} are known already"
                raise PkpdError(where="update", what=what, remedy="give new counts alone")
        lanes = before.bank.lanes
        source = self.bank_for(lanes.regimen, lanes.given)
        found = more(before, seen, self.measurement, source)
        return self._by_engine(found, engine)

    def continued(self, one: Weighed, regimen: Regimen, made: Bank | None = None) -> Bank:
        """Simulate the patients of a bank under another continuation; ``made`` if it is there.

        Raises
        ------
        PkpdError
            If it differs from what was given before the last count, or begins after the last day.
        """
        if regimen.start_days[-1] > self.until_day:
            what = f"a continuation begins on day {regimen.start_days[-1]}, and the forecast ends "
            what += f"on day {self.until_day}"
            remedy = "forecast until later (--until-day)"
            raise PkpdError(where="alternatives (--next)", what=what, remedy=remedy)
        _check_same_past(one.bank.lanes.regimen, regimen, one.seen.last_day)
        if made is not None:
            return made
        before = one.bank.lanes
        lanes = lanes_of(before.ensemble, regimen, self.until_day, before.given)
        who = carried(one.bank.who, before, lanes, self.seed)
        last = regimen.courses[-1].name
        asked = replace(one.bank.asked, clock=last)
        return simulated(lanes, who, asked, self.threads)

    def _by_engine(self, found: Weighed, engine: Engine) -> Weighed:
        if not found.used or found.unheard:  # nothing to be like
            return found
        if engine == "map":
            return self._by_mode(found)
        if engine == "importance" or (engine == "auto" and found.trusted):
            return found
        if found.untold is None and self.rule is not None:
            found = replace(found, untold=risk(found.bank))
        return tempered(found, self.measurement, self.seed, self.tempering, self.threads)

    def _by_mode(self, found: Weighed) -> Weighed:
        lanes = found.bank.lanes
        mode = most_probable(
            self.ensemble, lanes.regimen, self.until_day, replace(found.heard, body=lanes.given),
            self.measurement, seed=self.seed,
        )  # fmt: skip
        if found.untold is None and self.rule is not None:
            found = replace(found, untold=risk(found.bank))
        return around(mode, found, self.seed, self.threads)

    def _ready(self, bank: Bank) -> None:
        """Do once what the first answer would wait for."""
        _ = bank.order
        smoothed_weights(np.linspace(-5.0, 0.0, 100))
        for line in bank.measured:
            for censored, lower in ((0, -np.inf), (1, 0.0)):
                self.measurement.errors[line].log_density(
                    bank.counted(line, 0.0), bank.who.draw, 1.0, censored, lower
                )

    def _check(self, seen: Seen, bank: Bank) -> None:
        """Refuse counts that this source cannot be compared with."""
        if seen.last_day > self.until_day:
            what = (
                f"the last count is of day {seen.last_day}, the forecast ends on {self.until_day}"
            )
            remedy = "correct the day, or forecast until later (--until-day)"
            raise PkpdError(where=f"patient {seen.label}", what=what, remedy=remedy)
        if not set(seen.line) & set(bank.measured):
            what = (
                f"counts of {', '.join(dict.fromkeys(seen.line))}, which the source does not have"
            )
            allowed = ", ".join(bank.measured)
            raise PkpdError(where=f"patient {seen.label}", what=what, allowed=allowed)


def forecast(
    source: Ensemble | str | Population,
    patient: Dataset | TableSource | Mapping[str, Any],
    schedule: Regimen | Mapping[Any, Regimen],
    until_day: int = 60,
    *,
    rule: str | Path | DLTRule | None = None,
    back: Mapping[str, Level] | None = None,
    alternatives: Mapping[str, Regimen | str] | Sequence[str] = (),
    engine: Engine = "auto",
    errors: Mapping[str, ResidualError] | None = None,
    units: Mapping[str, str] | str | None = None,
    lines: Mapping[Any, str] | None = None,
    lloq: float | Mapping[str, float] | None = None,
    clock: str | None = None,
    bank: int = BANK,
    seed: int = 1,
    threads: int | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
) -> Forecast:
    """Forecast a patient's counts from those seen so far, or those of many patients.

    Virtual patients of the source are simulated under the patient's schedule; those whose counts
    are like the ones seen tell what comes next. They keep their parameters whole, so that the
    forecast has the uncertainty of the source: between patients, of its parameters, and of counts.

    Parameters
    ----------
    source
        Where virtual patients come from: `pkpd.source` of cards, of the learned posterior or of a
        fit; or a population, whose usual source with 1,000 draws is taken.
    patient
        Counts so far, as `pkpd.forecasting.read_seen` reads them: a file or data frame by protocol
        day or in the style of NONMEM, a mapping of columns, or a data set. Counts below a limit are
        written ``<0.1``. Columns of age, weight, height, sex, creatinine and marrow blasts are
        used where they are there.
    schedule
        What the patient gets, before and after today; or one by patient.
    until_day
        Last protocol day of the forecast.
    rule
        Dose-limiting toxicity, by name or file.
    back
        Counts (10^9/L) from which a line is back, ``{"neutrophils": 0.5, "platelets": 20}`` unless
        the rule says others; ``"baseline"`` in place of a count is the patient's own before the
        first dose. Recovery from the usual other counts is reported, too.
    alternatives
        Other continuations by name: regimens that are the same up to the last count
        (`pkpd.forecasting.next_cycle`), or texts such as ``"29"`` or ``"29 at 0.75"``, one more
        cycle from that day with a share of the doses. Their recovery is looked for after the first
        cycle of their last course.
    engine
        ``"importance"``: the bank, weighed; ``"smc"``: tempered from there to patients that are
        like this one, moved by Markov chains; ``"map"``: the most probable patient with a normal
        approximation around it, for comparison with other tools; ``"auto"``: the first, and the
        second where Pareto k is above 0.7 or fewer than 100 virtual patients count.
    errors
        How counts scatter, by line (`pkpd.models.residual`), in place of the fit's residual errors
        or of the card ``counting``.
    units, lines, lloq
        Of the table of counts, as of `pkpd.read_counts` and `pkpd.read_nonmem`.
    clock
        Course after whose first cycle recovery is looked for; the rule's, or the first.
    bank
        Number of virtual patients.
    seed, threads
        Of all random numbers; at most so many.
    cluster, jobs
        Address of a Dask scheduler over whose workers patients are spread, or ``"local"`` for so
        many processes of this machine; for many patients. The figures are the same.

    Returns
    -------
    Forecast
        Numbers in ``dataset``, words by ``summary()``, a figure by ``plot()``; further counts go
        into ``update()``.

    Raises
    ------
    PkpdError
        If there is no count on treatment, or an input cannot be used.

    Examples
    --------
    >>> import pkpd
    >>> source = pkpd.source("rr_aml", marrow="friberg", draws=20)
    >>> schedule = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    >>> counts = {"DAY": [1, 5, 8], "ANC": [2.1, 1.2, 0.7]}
    >>> found = pkpd.forecast(source, counts, schedule, 42, bank=1000)
    >>> dict(found.dataset["recovered"].sizes)
    {'patient': 1, 'criterion': 7, 'day': 42}
    """
    if engine not in ENGINES:
        raise PkpdError(where="forecast", what=f"engine {engine!r}", allowed=", ".join(ENGINES))
    made = forecaster(
        source, until_day, rule=rule, back=back, errors=errors, clock=clock, bank=bank, seed=seed,
        threads=threads,
    )  # fmt: skip
    limits = made.measurement.limits
    seen, notes = read_seen(patient, units=units, lines=lines, lloq=lloq, limits=limits)
    asked = [(one, _schedule_of(schedule, one)) for one in seen]
    if isinstance(schedule, Mapping):
        _check_counted(schedule, seen)
    with workers(cluster, jobs or cores()) as spread:
        weighed = made.weighed_of_all(asked, engine, spread)
    found = {one.label: own for one, own in zip(seen, weighed, strict=True)}
    planned = {one.label: regimen for one, regimen in asked}
    told = (
        f"{text} (patient {one.label})" if len(asked) > 1 else text
        for one, regimen in asked
        for text in how_given(regimen, one.doses, one.last_day)
    )
    notes = (*notes, *told)
    result = Forecast(made, found, engine, notes, planned=planned)
    return result.continued(alternatives) if alternatives else result


def forecaster(
    source: Ensemble | str | Population,
    until_day: int = 60,
    *,
    rule: str | Path | DLTRule | None = None,
    back: Mapping[str, Level] | None = None,
    errors: Mapping[str, ResidualError] | None = None,
    clock: str | None = None,
    bank: int = BANK,
    seed: int = 1,
    threads: int | None = None,
) -> Forecaster:
    """Make a source ready for many forecasts; its banks are kept.

    Parameters as of `forecast`.
    """
    for name, value, least in (("until_day", until_day, 2), ("bank", bank, 100)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            allowed = f"a whole number, {least} or more"
            raise PkpdError(where=f"forecast, {name}", what=f"{value!r}", allowed=allowed)
    ensemble = (
        source_of(source, patients=1, draws=DRAWS, seed=seed)
        if isinstance(source, str | Population)
        else source
    )
    wanted = rule if rule is None or isinstance(rule, DLTRule) else load_rule(rule)
    measurement = measurement_of(ensemble)
    if errors:
        measurement = measurement.with_errors(errors)
    asked_of(ensemble, wanted, back, clock, int(until_day))
    return Forecaster(
        ensemble, int(until_day), measurement, wanted, back, clock, int(bank), seed, threads
    )


def _blocks(
    asked: Sequence[tuple[Seen, Regimen]], threads: int
) -> list[Sequence[tuple[Seen, Regimen]]]:
    """Divide patients into blocks, one for each thread and few enough to share a bank."""
    size = max(1, -(-len(asked) // threads))
    return [asked[i : i + size] for i in range(0, len(asked), size)]


def _schedule_of(schedule: Regimen | Mapping[Any, Regimen], seen: Seen) -> Regimen:
    if isinstance(schedule, Regimen):
        return schedule
    if not isinstance(schedule, Mapping):
        raise PkpdError(
            where="forecast, schedule",
            what=f"{type(schedule).__name__} is no schedule",
            allowed="a pkpd.Regimen, or one by patient",
        )
    found = schedule.get(seen.label, schedule.get(str(seen.label)))
    if found is None:
        raise PkpdError(
            where=f"patient {seen.label}",
            what="there is no schedule",
            allowed=", ".join(str(name) for name in schedule),
        )
    return found


def _check_counted(schedules: Mapping[Any, Regimen], seen: Sequence[Seen]) -> None:
    """Refuse a schedule of a patient who has no counts."""
    known = dict.fromkeys(str(one.label) for one in seen)
    lacking = [str(name) for name in schedules if str(name) not in known]
    if lacking:
        raise PkpdError(
            where="forecast, schedule",
            what=f"one is of {', '.join(lacking)}, of whom the table has no counts",
            allowed=", ".join(known),
            remedy="correct the name, or leave this schedule out",
        )


def _check_same_past(planned: Regimen, other: Regimen, until_day: int) -> None:
    """Refuse a continuation that gives other doses before the last count."""
    past = [_calendar(regimen, until_day) for regimen in (planned, other)]
    if past[0] != past[1]:
        day = min(day for day, *_ in past[0] ^ past[1])
        raise PkpdError(
            where="alternatives (--next)",
            what=f"a continuation differs from the schedule on day {day}, and counts were seen "
            f"until day {until_day}",
            remedy=f"let it differ from day {until_day} on",
        )


def _calendar(regimen: Regimen, until_day: int) -> set[tuple[Any, ...]]:
    """Doses of a planned calendar before a protocol day's own."""
    return {
        (day, rule.drug, rule.amount, rule.unit, rule.hour, rule.duration_h, rule.route)
        for day, rule in planned_doses(regimen)
        if day < until_day
    }
