"""Lenalidomide with MEC under a posterior: delayed recovery by cohort, schedule against dose.

In NCT01681537 two of six patients had not recovered by day 45 at 10 mg on days 1 to 14, and the
trial went on with ten days, up to 50 mg. Was it the schedule or chance? The counts that define
recovery are not in any text read; every plausible pair is worked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from pkpd.evidence.likelihood.random_effects import StudyEffects
from pkpd.evidence.likelihood.simulator import arm_of, observe
from pkpd.evidence.likelihood.terms import Arm
from pkpd.evidence.table.arms import ArmToSimulate, SimulatedArm
from pkpd.evidence.table.endpoints import DELAY_READINGS, Observable
from pkpd.evidence.table.schedule import Schedule
from pkpd.evidence.table.table import EvidenceTable
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.patients import SCORES, arm_patients, candidates, random_scores
from pkpd.marrow.variants import FULL

Floats = NDArray[np.float64]

ROW = "DEANGELO2018.dlt_delayed_recovery_d45"  # a row with the trial's population and MEC
DAYS, DOSES = (14, 10), (5.0, 10.0, 25.0, 50.0)
#: Cohorts of the trial in its order: days and dose of lenalidomide (mg), delayed, patients.
COHORTS = ((14, 10.0, 2, 6), (14, 5.0, 0, 3), (10, 5.0, 0, 3), (10, 10.0, 0, 3), (10, 25.0, 0, 3),
           (10, 50.0, 1, 7))  # fmt: skip
PAIRS = tuple((anc, plt) for _, anc, plt in DELAY_READINGS)
RELEVANT = 0.05  # a difference of risk that a trial would care about
SURE = 0.90


@dataclass(frozen=True)
class DelayedRisks:
    """Risk not to have recovered by day 45, of those alive and free of leukaemia.

    Attributes
    ----------
    risk : float[pairs, days, doses, draws]
        At each of :data:`PAIRS`, :data:`DAYS` and :data:`DOSES`; the trial's deviation from other
        trials is drawn anew in each draw, the same for all its arms.
    """

    risk: Floats

    def of(self, pair: int, days: int, dose: float) -> Floats:
        """Risk in each draw."""
        return self.risk[pair, DAYS.index(days), DOSES.index(dose)]


@dataclass(frozen=True)
class Contrast:
    """Schedule against dose at one pair of thresholds.

    Attributes
    ----------
    neutrophils, platelets
        Thresholds, 10^9/L.
    schedule, dose : (lower, median, upper)
        14 less 10 days (mean over 5 and 10 mg, the doses given for both), and 50 less 5 mg (10
        days): difference of risk, 90 % interval.
    schedule_rather
        Posterior probability that the schedule's difference is the larger one.
    schedule_relevant, dose_relevant
        Posterior probabilities that they are above :data:`RELEVANT`.
    as_seen
        Probability that a trial like this one prints a split at least as uneven: two of nine or
        more delayed over 14 days, and one of sixteen or fewer over 10 days.
    """

    neutrophils: float
    platelets: float
    schedule: tuple[float, float, float]
    dose: tuple[float, float, float]
    schedule_rather: float
    schedule_relevant: float
    dose_relevant: float
    as_seen: float

    @property
    def verdict(self) -> str:
        """In words."""
        schedule, dose = self.schedule_relevant, self.dose_relevant
        if schedule >= SURE and self.schedule_rather >= SURE:
            return "the schedule matters"
        if dose >= SURE and self.schedule_rather <= 1.0 - SURE:
            return "the dose matters"
        if schedule <= 1.0 - SURE and dose <= 1.0 - SURE:
            return f"neither moves the risk by {RELEVANT:.0%} in this model"
        return "the data cannot tell"


def delayed_risks(
    table: EvidenceTable,
    effects: StudyEffects,
    draws: Sequence[Mapping[str, float]],
    *,
    patients: int = 512,
    seed: int = 1,
) -> DelayedRisks:
    """Simulate all doses over 14 and 10 days in the same patients.

    Parameters
    ----------
    table
        Evidence, for the trial's population and schedule.
    effects
        Deviations of studies.
    draws
        Posterior draws.
    patients
        Simulated patients.
    seed
        Of patients and deviations.
    """
    row = table.row(ROW)
    rng = np.random.default_rng(seed)
    risk = np.zeros((len(PAIRS), len(DAYS), len(DOSES), len(draws)))
    for i, theta in enumerate(draws):
        spread = effects.for_simulation(theta)
        deviation = effects.draw(theta, rng)
        for j, days in enumerate(DAYS):
            for k, dose in enumerate(DOSES):
                schedule = _with_lenalidomide(row.schedule, days, dose)
                to_do = ArmToSimulate("", row.population, schedule, 1, row.cycle_days)
                seen = _simulated(to_do, schedule, spread, patients, seed)
                weights, size = effects.weights_at(theta, seen.weight, seen.scores, deviation)
                arm = Arm(seen, weights, size, theta)
                for p, pair in enumerate(PAIRS):
                    risk[p, j, k, i] = arm.share(Observable("delayed", "", pair, 45.0))[0][0]
    return DelayedRisks(risk)


def cohort_rows(risks: DelayedRisks, seed: int = 1) -> list[dict[str, object]]:
    """Risk of each cohort under each pair, with the trial's numbers.

    Returns
    -------
    list of dict
        ``probability``: chance that a patient is delayed; ``lower``, ``upper``: 90 % interval of
        the risk over posterior and trials; ``as_many``: probability that the cohort has at least as
        many delayed patients as printed.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for p, (anc, plt) in enumerate(PAIRS):
        for days, dose, late, n in COHORTS:
            values = risks.of(p, days, dose)
            drawn = rng.binomial(n, np.repeat(np.clip(values, 0.0, 1.0), 50))
            low, high = np.quantile(values, (0.05, 0.95))
            rows.append(
                {
                    "neutrophils": anc,
                    "platelets": plt,
                    "days": days,
                    "dose_mg": dose,
                    "printed": f"{late}/{n}",
                    "probability": float(values.mean()),
                    "lower": float(low),
                    "upper": float(high),
                    "as_many": float(np.mean(drawn >= late)),
                }
            )
    return rows


def contrasts(risks: DelayedRisks, seed: int = 1) -> tuple[Contrast, ...]:
    """Schedule against dose, at each pair of thresholds."""
    rng = np.random.default_rng(seed)
    found = []
    for p, (anc, plt) in enumerate(PAIRS):
        schedule = np.mean([risks.of(p, 14, d) - risks.of(p, 10, d) for d in (5.0, 10.0)], axis=0)
        dose = risks.of(p, 10, 50.0) - risks.of(p, 10, 5.0)
        late = {days: np.zeros(200 * dose.size, dtype=np.int64) for days in DAYS}
        for days, amount, _, n in COHORTS:
            values = np.repeat(np.clip(risks.of(p, days, amount), 0.0, 1.0), 200)
            late[days] = late[days] + rng.binomial(n, values)
        found.append(
            Contrast(
                anc,
                plt,
                _interval(schedule),
                _interval(dose),
                float(np.mean(schedule > dose)),
                float(np.mean(schedule > RELEVANT)),
                float(np.mean(dose > RELEVANT)),
                float(np.mean((late[14] >= 2) & (late[10] <= 1))),
            )
        )
    return tuple(found)


def from_counts_alone(draws: int = 200_000, seed: int = 1) -> float:
    """Probability that 14 days are riskier than 10, from the trial's counts without any model.

    Jeffreys' priors on the two risks; dose levels of a schedule taken together.
    """
    rng = np.random.default_rng(seed)
    sides = []
    for days in DAYS:
        late = sum(k for d, _, k, _ in COHORTS if d == days)
        n = sum(m for d, _, _, m in COHORTS if d == days)
        sides.append(beta(late + 0.5, n - late + 0.5).rvs(draws, random_state=rng))
    return float(np.mean(sides[0] > sides[1]))


def table_text(risks: DelayedRisks) -> str:
    """Print cohorts, contrasts and verdicts."""
    lines = [
        "Lenalidomide with MEC: not recovered by day 45 (of those alive without leukaemia)",
        f"{'recovered at':>14} {'days':>4} {'mg':>4} {'printed':>7} {'risk':>5} "
        f"{'90 % interval':>14} {'P(as many)':>10}",
    ]
    for row in cohort_rows(risks):
        told = f"{row['neutrophils']:g} / {row['platelets']:g}"
        interval = f"{row['lower']:.2f} to {row['upper']:.2f}"
        lines.append(
            f"{told:>14} {row['days']:>4} {row['dose_mg']:>4g} {row['printed']:>7} "
            f"{row['probability']:5.2f} {interval:>14} {row['as_many']:10.2f}"
        )
    lines += [
        "",
        "Difference of risk: 14 less 10 days (5 and 10 mg); 50 less 5 mg (10 days)",
        f"{'recovered at':>14} {'schedule':>22} {'dose':>22} {'P(schedule>dose)':>16} "
        f"{'P(split seen)':>13}",
    ]
    for c in contrasts(risks):
        told = f"{c.neutrophils:g} / {c.platelets:g}"
        schedule = f"{c.schedule[1]:+.3f} ({c.schedule[0]:+.3f}, {c.schedule[2]:+.3f})"
        dose = f"{c.dose[1]:+.3f} ({c.dose[0]:+.3f}, {c.dose[2]:+.3f})"
        lines.append(
            f"{told:>14} {schedule:>22} {dose:>22} {c.schedule_rather:16.2f} {c.as_seen:13.2f}  "
            f"{c.verdict}"
        )
    alone = from_counts_alone()
    told = "tell" if not 1.0 - SURE < alone < SURE else "cannot tell"
    lines.append(
        "The trial's counts without the model, 2 of 9 against 1 of 16: P(14 days riskier) "
        f"{alone:.2f}; by themselves they {told} schedule from chance"
    )
    return "\n".join(lines)


def _interval(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def _with_lenalidomide(schedule: Schedule, days: int, dose: float) -> Schedule:
    drugs = tuple(
        replace(entry, levels=(dose,), shares=(1.0,), days=tuple(range(1, days + 1)))
        if entry.drug == "lenalidomide"
        else entry
        for entry in schedule.drugs
    )
    return Schedule(f"lenalidomide {dose:g} mg x{days} with MEC", drugs)


def _simulated(
    arm: ArmToSimulate, schedule: Schedule, theta: Mapping[str, float], n: int, seed: int
) -> SimulatedArm:
    """Simulate an arm in patients that are the same for all arms, so that only doses differ."""
    made = arm_of(arm, schedule, schedule.text)
    scores = random_scores(candidates(made, n), seed, ROW)
    outcomes = population_outcomes(made, theta, n, scores=scores)
    taken = scores if len(scores) == outcomes.n else arm_patients(made, theta, scores, FULL)[2]
    normal = {name: ndtri(taken[:, SCORES.index(name)]) for name in ("rho", "kill", "kill_blasts")}
    return SimulatedArm(np.ones(outcomes.n), partial(observe, outcomes), normal)
