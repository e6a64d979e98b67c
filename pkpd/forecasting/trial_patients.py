"""Virtual patients of dose-finding trials, whose counts arrive while they are pending.

A patient who has not recovered by the day of the rule has a dose-limiting toxicity on that day, and
not before. Until then counts come visit by visit, and the forecast from those so far,
P(DLT | counts), says more than the time that has passed. Patients and forecasts are made once, so
that thousands of trials only look them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards import load_rule
from pkpd.designs.weights import WeightFunction, linear_weight, weight_of_forecast
from pkpd.distributions import stream
from pkpd.endpoints.clock import clock_of
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.lanes import Identities, Lanes, lanes_of
from pkpd.errors import PkpdError
from pkpd.fitting.model.residual import ResidualError
from pkpd.forecasting.bank import Bank, asked_of, simulated
from pkpd.forecasting.many import (
    VisitCounts,
    check_days,
    check_lines,
    counted_on,
    forecast_along,
    judged,
)
from pkpd.forecasting.measurement import Measurement, measurement_of
from pkpd.machine import cores
from pkpd.schedule import Regimen
from pkpd.trials import DLTRule

WEIGHTS = ("forecast", "fractional", "clipped forecast", "recovered", "follow-up", "none")
"""What pending patients can be weighed by."""
_AFTER = 7  # days that are simulated after the look
_SEEN_BACK = 2  # visits in a row on which counts are back


@dataclass(frozen=True, eq=False)
class TrialPatients:
    """Virtual patients of M scenarios at each of K doses, with forecasts at each of V visits.

    Patient i of a scenario is the same person at every dose. One whom the rule cannot judge at a
    dose (who has died, or has leukaemia at the look) is replaced by the next one who can be.

    Attributes
    ----------
    doses
        Names of the doses, lowest first.
    window_days
        Days from the first dose to the rule's look.
    visit_days
        Protocol days on which counts are taken.
    scenario_draws
        Draw of the source that holds in each scenario.
    dlt : bool[K, M, P]
        Whether each patient has a dose-limiting toxicity.
    forecasts : float32[K, M, P, V + 1]
        P(DLT | counts up to each visit), by a forecaster who does not know which draw holds; the
        first is before any count.
    back : bool[K, M, P, V + 1]
        Whether counts were seen low, and back on two visits since.
    before : float[K]
        Risk at each dose as the forecaster gives it before treatment.
    judged : float[K, M]
        Share of the patients whom the rule can judge.
    """

    doses: tuple[str, ...]
    window_days: float
    visit_days: tuple[int, ...]
    scenario_draws: tuple[int, ...]
    dlt: NDArray[np.bool_]
    forecasts: NDArray[np.float32]
    back: NDArray[np.bool_]
    before: Floats
    judged: Floats

    def risks(self) -> Floats:
        """Give the true risks at each dose, ``[M, K]``."""
        return self.dlt.mean(axis=2).T

    def outcomes(self, weights: str | WeightFunction = "forecast") -> VirtualOutcomes:
        """Patients for `pkpd.designs.simulate_trials`, who differ in how they are weighed alone.

        Parameters
        ----------
        weights
            Of pending patients. ``"forecast"``: one minus the likelihood ratio of the counts so far
            (`pkpd.designs.weight_of_forecast`), below 0 after bad news; ``"fractional"``: no
            weight, P(DLT | counts so far) as that part of a DLT (`pkpd.designs.Pending`);
            ``"clipped forecast"``: the weight, 0 where it is below 0; ``"recovered"``: 1 once
            counts were seen low and back, 0 before; ``"follow-up"``: days over the window;
            ``"none"``: 0 until the window ends; or a function of days and window.

        Raises
        ------
        PkpdError
            If there are no such weights.
        """
        if callable(weights):
            return VirtualOutcomes(self, None, weights)
        if weights == "follow-up":
            return VirtualOutcomes(self, None, linear_weight)
        before = np.broadcast_to(self.before[:, None, None, None], self.forecasts.shape)
        tables: dict[str, Callable[[], Floats]] = {
            "forecast": lambda: weight_of_forecast(self.forecasts, before),
            "fractional": lambda: self.forecasts.astype(float),
            "clipped forecast": lambda: weight_of_forecast(self.forecasts, before, signed=False),
            "recovered": lambda: self.back.astype(float),
            "none": lambda: np.zeros(self.forecasts.shape),
        }
        if weights not in tables:
            what = f"{weights!r} are no weights of pending patients"
            raise PkpdError(where="weights", what=what, allowed=", ".join(WEIGHTS))
        table = tables[weights]().astype(np.float32)
        return VirtualOutcomes(self, table, None, fractional=weights == "fractional")


@dataclass(frozen=True, eq=False)
class VirtualOutcomes:
    """Outcomes of virtual patients (`pkpd.designs.Outcomes`); made by `TrialPatients.outcomes`.

    Attributes
    ----------
    patients
        Who they are.
    table : float32[K, M, P, V + 1]
        Weights by visit; ``None`` where they follow from the days.
    function
        From days and window to weights, in the place of a table.
    fractional
        Whether weights are fractions of a DLT (`pkpd.designs.Pending`).
    """

    patients: TrialPatients
    table: NDArray[np.float32] | None
    function: WeightFunction | None
    fractional: bool = False

    @property
    def window_days(self) -> float:
        """Length of the assessment window."""
        return self.patients.window_days

    @property
    def draws(self) -> int:
        """Number of scenarios."""
        return self.patients.dlt.shape[1]

    def risks(self) -> Floats:
        """Give the true risks, shape ``(draws, levels)``."""
        return self.patients.risks()

    def enrol(
        self, u: np.ndarray, draw: np.ndarray, level: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Days to the DLT of one new patient in each trial, and who he is."""
        people = self.patients.dlt.shape[2]
        place = np.minimum((u * people).astype(np.int64), people - 1)
        hit = self.patients.dlt[level - 1, draw, place]
        return np.where(hit, self.window_days, np.inf), draw * people + place

    def weights(self, who: np.ndarray, level: np.ndarray, followed: np.ndarray) -> np.ndarray:
        """Weights of pending patients from their counts so far."""
        if self.function is not None:
            return self.function(followed, self.window_days)
        assert self.table is not None
        people = self.patients.dlt.shape[2]
        visit = np.searchsorted(np.array(self.patients.visit_days) - 1.0, followed, side="right")
        return self.table[level - 1, who // people, who % people, visit].astype(float)


def trial_patients(
    source: Ensemble,
    schedules: Mapping[str, Regimen],
    rule: str | DLTRule,
    visits: Sequence[int],
    *,
    scenarios: int | Sequence[int] = 8,
    patients: int = 1000,
    bank: int = 10_000,
    lines: Sequence[str] | None = None,
    errors: Mapping[str, ResidualError] | None = None,
    seed: int = 1,
    threads: int | None = None,
    on_progress: Callable[[float, float, str], None] | None = None,
) -> TrialPatients:
    """Make virtual patients of dose-finding trials, and forecast each of them visit by visit.

    Parameters
    ----------
    source
        Patients of a marrow with draws of what is not known (`pkpd.source`). The forecaster has all
        draws; in each scenario one of them holds.
    schedules
        What is given at each dose, by name, lowest dose first.
    rule
        Dose-limiting toxicity: a rule of delayed recovery whose clock starts on day 1.
    visits
        Protocol days on which counts are taken.
    scenarios
        Number of draws that hold in turn, spread evenly from the least to the most toxic; or the
        draws themselves, counted from 0.
    patients
        Virtual patients of each scenario.
    bank
        Virtual patients of the forecaster.
    lines
        What is counted; the lines of the rule if not given.
    errors
        How counts scatter, as of `pkpd.forecast`.
    seed, threads
        Of all random numbers; at most so many.
    on_progress
        Called as work proceeds (``done, total, text``).

    Raises
    ------
    PkpdError
        If the rule is of another kind, a dose gives a lower risk than the one before it by more
        than chance, or an input cannot be used.
    """
    known = load_rule(rule) if not isinstance(rule, DLTRule) else rule
    _check_rule(known)
    assert known.by_day is not None
    window, threads = float(known.by_day), threads or cores()
    days = check_days(visits, int(known.by_day))
    counted = check_lines(lines or [c.line for c in known.criteria], source.lines)
    for name, number, least in (("patients", patients, 10), ("bank", bank, 100)):
        if number < least:
            what, allowed = f"{number!r}", f"a whole number, {least} or more"
            raise PkpdError(where=f"trial_patients, {name}", what=what, allowed=allowed)
    if not schedules:
        raise PkpdError(where="schedules", what="there is no dose", remedy="name one")
    measurement = measurement_of(source).with_errors(errors or {})
    until = int(known.by_day) + _AFTER
    asked = asked_of(source, known, None, None, until)
    ready = [lanes_of(source, regimen, until) for regimen in schedules.values()]
    for name, lanes in zip(schedules, ready, strict=True):
        _check_clock(known, lanes, name)
    tell = on_progress or (lambda *_: None)
    banks = []
    for k, (name, lanes) in enumerate(zip(schedules, ready, strict=True)):
        tell(0.0, 1.0, f"bank at {name}")
        banks.append(judged(simulated(lanes, lanes.drawn(bank, seed), asked, threads)))
        if not len(banks[k]):
            what = f"the rule {known.name} can judge nobody"
            raise PkpdError(where=f"dose {name}", what=what)
    before = np.array([float(one.dlt.mean()) for one in banks if one.dlt is not None])
    _check_rising(tuple(schedules), before, [len(one) for one in banks])
    draws = _scenario_draws(scenarios, banks, source.draws)
    parts, total = [], float(len(ready) * len(draws))
    for k, (name, lanes) in enumerate(zip(schedules, ready, strict=True)):
        row = []
        for m, draw in enumerate(draws):
            tell(k * len(draws) + m, total, f"patients at {name}, scenario {m + 1}")
            who = lanes.drawn(patients, 10_000 + seed)
            mine = Identities(np.full(patients, draw), who.body, who.scores)
            truth = simulated(lanes, mine, asked, threads)
            rng = stream(seed, "counts of trial patients")
            seen = counted_on(truth, days, counted, measurement, rng)
            row.append(_of_scenario(truth, seen, banks[k], known, measurement, threads))
        parts.append(tuple(np.stack(column) for column in zip(*row, strict=True)))
    tell(total, total, "patients")
    dlt, forecasts, back, share = (np.stack(column) for column in zip(*parts, strict=True))
    return TrialPatients(tuple(schedules), window, days, draws, dlt, forecasts, back, before, share)


def _of_scenario(
    truth: Bank,
    seen: VisitCounts,
    bank: Bank,
    rule: DLTRule,
    measurement: Measurement,
    threads: int,
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], np.float64]:
    """Outcomes, forecasts and seen recovery of those who can be judged, in the places of all."""
    assert truth.dlt is not None
    assert bank.dlt is not None
    fine = np.flatnonzero(np.isfinite(truth.dlt))
    if not fine.size:
        what = "the rule can judge nobody in a scenario"
        raise PkpdError(where=f"rule {rule.name}", what=what, remedy="leave it out")
    place = fine[np.searchsorted(fine, np.arange(len(truth))) % fine.size]
    found = forecast_along(bank, seen, bank.dlt, measurement, threads)
    return (
        truth.dlt[place] == 1.0,
        found[place].astype(np.float32),
        _seen_back(seen, rule)[place],
        np.float64(fine.size / len(truth)),
    )


def _seen_back(seen: VisitCounts, rule: DLTRule) -> NDArray[np.bool_]:
    """Whether counts were seen low and then back on two visits in a row, up to each visit."""
    each = []
    for criterion in rule.criteria:
        if criterion.line not in seen.values:
            continue
        high = seen.values[criterion.line] >= criterion.at_least
        was_low = np.logical_or.accumulate(~high, axis=1)
        twice = high.copy()
        for lag in range(1, _SEEN_BACK):
            twice[:, lag:] &= high[:, :-lag]
            twice[:, :lag] = False
        each.append(np.logical_or.accumulate(was_low & twice, axis=1))
    if not each:
        return np.zeros((len(seen), len(seen.days) + 1), dtype=bool)
    found = np.all(each, axis=0) if rule.join == "any" else np.any(each, axis=0)
    return np.concatenate([np.zeros((len(found), 1), dtype=bool), found], axis=1)


def _check_rule(rule: DLTRule) -> None:
    """Refuse rules whose toxicities come before the window ends."""
    if not rule.kind.startswith("not_recovered") or rule.by_day is None:
        what = f"it is of kind {rule.kind}, whose toxicities do not wait for a day of the look"
        allowed = "a rule of delayed recovery (kind not_recovered, with by_day)"
        raise PkpdError(where=f"rule {rule.name}", what=what, allowed=allowed)


def _check_clock(rule: DLTRule, lanes: Lanes, name: str) -> None:
    """Refuse a clock that does not start when a patient enters the trial."""
    if rule.clock != "first_dose" and rule.clock not in lanes.plan.course_names:
        courses = ", ".join(("first_dose", *lanes.plan.course_names))
        what = f"the rule's clock starts with course {rule.clock!r}, which is not there"
        raise PkpdError(where=f"dose {name}", what=what, allowed=courses)
    clock = clock_of(lanes.plan, rule.clock)
    if int(lanes.plan.planned_start[clock.course]) + clock.first_dose_day > 0:
        what = f"the clock of rule {rule.name} starts after day 1"
        remedy = "let the first dose that it counts from be on day 1"
        raise PkpdError(where=f"dose {name}", what=what, remedy=remedy)


def _check_rising(names: Sequence[str], risks: Floats, judged: Sequence[int]) -> None:
    """Refuse doses of which a higher one has a lower risk, by more than chance among so many."""
    for k in range(1, len(risks)):
        low, high = risks[k - 1], risks[k]
        error = np.sqrt(low * (1 - low) / judged[k - 1] + high * (1 - high) / judged[k])
        if low - high > 3 * error + 1e-9:
            what = f"its risk is {high:.3f}, and that of {names[k - 1]} below it {low:.3f}"
            remedy = "order the schedules by their risk"
            raise PkpdError(where=f"dose {names[k]}", what=what, remedy=remedy)


def _scenario_draws(
    scenarios: int | Sequence[int], banks: Sequence[Bank], draws: int
) -> tuple[int, ...]:
    """Draws that hold in turn."""
    if not isinstance(scenarios, int | np.integer):
        for draw in scenarios:
            if not 0 <= draw < draws:
                what = f"draw {draw} of a source with {draws}"
                raise PkpdError(where="scenarios", what=what, allowed=f"0 to {draws - 1}")
        if not len(scenarios):
            raise PkpdError(where="scenarios", what="there is none")
        return tuple(int(draw) for draw in scenarios)
    if not 1 <= scenarios <= draws:
        what = f"{scenarios} of a source with {draws} draws"
        raise PkpdError(where="scenarios", what=what, allowed=f"1 to {draws}")
    total = np.zeros(draws)
    for one in banks:
        assert one.dlt is not None
        hit = np.bincount(one.who.draw, one.dlt, draws)
        total += hit / np.maximum(np.bincount(one.who.draw, minlength=draws), 1)
    order = np.argsort(total, kind="stable")
    at = ((np.arange(scenarios) + 0.5) * draws / scenarios).astype(np.int64)
    return tuple(int(draw) for draw in order[at])
