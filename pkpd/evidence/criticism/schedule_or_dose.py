"""Is it the schedule or the dose of a drug that delays recovery, under a posterior.

A trial gave a drug on more and on fewer days, in several doses, and some patients had not recovered
by a day. The counts that define recovery may not be printed; every plausible pair is worked out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pkpd.arrays import Floats
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.trial_predictions import new_study
from pkpd.evidence.likelihood.simulator import arm_of, delay_rule
from pkpd.evidence.table.arms import ArmToSimulate
from pkpd.evidence.table.schedule import Schedule
from pkpd.evidence.table.table import EvidenceTable
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.marrow.variants import Variant
from pkpd.trials import Trial

_RARE = 0.1  # share of a model's trials below which what was seen is in its tail


@dataclass(frozen=True)
class Design:
    """Cohorts of a trial that differ in days and dose of one drug.

    Attributes
    ----------
    title
        Of the trial, for tables.
    drug, unit
        The drug and the unit of its dose.
    names
        Cohorts in the trial's order.
    cohorts
        Of each: days and dose of the drug, delayed patients and patients as printed.
    pairs
        Counts (neutrophils, platelets, 10^9/L) that may mean recovery.
    by_day
        Day by which a patient should have recovered.
    relevant
        Difference of risk that a trial would care about.
    sure
        Probability from which a verdict is given.
    evidence_row
        Row of the evidence table with the trial's population and the other drugs.
    """

    title: str
    drug: str
    unit: str
    names: tuple[str, ...]
    cohorts: tuple[tuple[int, float, int, int], ...]
    pairs: tuple[tuple[float, float], ...]
    by_day: int
    relevant: float = 0.05
    sure: float = 0.90
    evidence_row: str = ""

    @property
    def days(self) -> tuple[int, int]:
        """Days of the longer and of the shorter schedule."""
        longer, shorter = sorted({c[0] for c in self.cohorts}, reverse=True)
        return longer, shorter

    @property
    def doses(self) -> tuple[float, ...]:
        """All doses, rising."""
        return tuple(sorted({c[1] for c in self.cohorts}))

    @property
    def common(self) -> tuple[float, ...]:
        """Doses that both schedules have."""
        longer, shorter = (self._doses(days) for days in self.days)
        return tuple(sorted(longer & shorter))

    @property
    def dose_contrast(self) -> tuple[int, float, float]:
        """Days of the schedule with more doses, and its lowest and highest dose."""
        days = max(self.days, key=lambda d: (len(self._doses(d)), -d))
        return days, min(self._doses(days)), max(self._doses(days))

    def late(self, days: int) -> tuple[int, int]:
        """Delayed patients and patients of a schedule as printed."""
        own = [(late, n) for d, _, late, n in self.cohorts if d == days]
        return sum(late for late, _ in own), sum(n for _, n in own)

    def _doses(self, days: int) -> set[float]:
        return {c[1] for c in self.cohorts if c[0] == days}


def design_of(trial: Trial) -> Design | None:
    """Read the design off a trial whose card asks ``schedule_or_dose``; ``None`` for others.

    Raises
    ------
    PkpdError
        If the cohorts do not have two schedules that share a dose, with printed results.
    """
    asked = next((q for q in trial.questions if q.ask == "schedule_or_dose"), None)
    if asked is None:
        return None
    cohorts, unit = [], ""
    for cohort in trial.cohorts:
        rules = [r for c in cohort.regimen.courses for r in c.doses if r.drug == asked["drug"]]
        printed = [p for p in cohort.published if p.endpoint == asked["printed"]]
        if len(rules) != 1 or not printed or printed[0].numerator is None:
            raise _unfit(trial, f"cohort {cohort.id} has not one dose of {asked['drug']} and one "
                         f"count of {asked['printed']}")  # fmt: skip
        unit = rules[0].unit
        result = printed[0]
        late, n = result.numerator, result.denominator
        assert late is not None
        assert n is not None
        cohorts.append((len(rules[0].days), rules[0].amount, late, n))
    schedules = {days: {c[1] for c in cohorts if c[0] == days} for days, *_ in cohorts}
    if len(schedules) != 2 or not set.intersection(*schedules.values()):
        raise _unfit(trial, "the cohorts do not have two numbers of days with a dose in common")
    return Design(
        title=trial.name,
        drug=asked["drug"],
        unit=unit,
        names=tuple(c.id for c in trial.cohorts),
        cohorts=tuple(cohorts),
        pairs=asked["recovered_at"],
        by_day=asked["by_day"],
        relevant=asked["relevant"],
        sure=asked["sure"],
        evidence_row=asked["evidence_row"],
    )


def _unfit(trial: Trial, what: str) -> PkpdError:
    where = f"trial {trial.id}: question schedule_or_dose"
    return PkpdError(where=where, what=what, remedy="leave the question out")


@dataclass(frozen=True)
class DelayedRisks:
    """Risk not to have recovered by the design's day, of those alive and free of leukaemia.

    Under a rule that judges others, too, a comparison's risks are of these.

    Attributes
    ----------
    risk : float[pairs, days, doses, draws]
        At each of the design's pairs, days and doses; the trial's deviation from other trials is
        drawn anew in each draw, the same for all its arms.
    of_all : float[pairs, days, doses, draws]
        Share of all patients that is delayed. A trial prints its delayed patients among all that it
        treated: whoever died or kept leukaemia is among these, and not delayed.
    design
        Of the trial.
    """

    risk: Floats
    of_all: Floats
    design: Design

    def of(self, pair: int, days: int, dose: float) -> Floats:
        """Risk in each draw."""
        return self.risk[self._place(pair, days, dose)]

    def late(self, pair: int, days: int, dose: float, repeats: int) -> Floats:
        """Chance that one of all patients is delayed, each draw's so many times over."""
        return np.repeat(self.of_all[self._place(pair, days, dose)], repeats)

    def _place(self, pair: int, days: int, dose: float) -> tuple[int, int, int]:
        return pair, self.design.days.index(days), self.design.doses.index(dose)


@dataclass(frozen=True)
class Contrast:
    """Schedule against dose at one pair of thresholds.

    Attributes
    ----------
    neutrophils, platelets
        Thresholds, 10^9/L.
    schedule, dose : (lower, median, upper)
        More less fewer days (mean over the doses given for both), and highest less lowest dose of
        one schedule: difference of risk, 90 % interval.
    schedule_rather
        Posterior probability that the schedule's difference is the larger one.
    schedule_relevant, dose_relevant
        Posterior probabilities that they are above the design's `relevant`.
    as_seen
        Probability that a trial like this one prints a split at least as uneven: as many delayed or
        more over more days, and as many or fewer over fewer days, of all its patients.
    design
        Of the trial.
    """

    neutrophils: float
    platelets: float
    schedule: tuple[float, float, float]
    dose: tuple[float, float, float]
    schedule_rather: float
    schedule_relevant: float
    dose_relevant: float
    as_seen: float
    design: Design

    @property
    def verdict(self) -> str:
        """In words."""
        schedule, dose = self.schedule_relevant, self.dose_relevant
        sure = self.design.sure
        if schedule >= sure and self.schedule_rather >= sure:
            return "the schedule matters"
        if dose >= sure and self.schedule_rather <= 1.0 - sure:
            return "the dose matters"
        if schedule <= 1.0 - sure and dose <= 1.0 - sure:
            return f"neither moves the risk by {self.design.relevant:.0%} in this model"
        return "the data cannot tell"


def delayed_risks(
    table: EvidenceTable,
    draws: Sequence[Mapping[str, float]],
    design: Design,
    *,
    variant: Variant,
    patients: int = 512,
    seed: int = 1,
) -> DelayedRisks:
    """Simulate all doses over the days of both schedules in the same patients.

    Parameters
    ----------
    table
        Evidence, for the trial's population and schedule.
    draws
        Posterior draws.
    design
        With the row of the table.
    variant
        Mechanisms of the marrow that they were learned with.
    patients
        Simulated patients.
    seed
        Of patients and deviations.
    """
    row = table.row(design.evidence_row)
    study = new_study(design.evidence_row, draws, patients=patients, seed=seed, variant=variant)
    rules = [delay_rule(pair, design.by_day) for pair in design.pairs]

    def look(outcomes: ArmOutcomes) -> dict[Hashable, Floats]:
        return {p: evaluate_rule(rule, outcomes.course).outcome for p, rule in enumerate(rules)}

    risk = np.zeros((len(design.pairs), 2, len(design.doses), len(draws)))
    of_all = np.zeros_like(risk)
    for j, days in enumerate(design.days):
        for k, dose in enumerate(design.doses):
            schedule = _with_dose(row.schedule, design, days, dose)
            to_do = ArmToSimulate("", row.population, schedule, 1, row.cycle_days)
            seen = study.collect(arm_of(to_do, schedule, schedule.text), look)
            for p in range(len(rules)):
                # who died or kept leukaemia has no verdict, and is no delay among all
                risk[p, j, k] = np.nanmean(seen[p], axis=-1)
                of_all[p, j, k] = np.nansum(seen[p], axis=-1) / seen[p].shape[-1]
    return DelayedRisks(risk, of_all, design)


def cohort_rows(risks: DelayedRisks, seed: int = 1) -> list[dict[str, object]]:
    """Risk of each cohort under each pair, with the trial's numbers.

    Returns
    -------
    list of dict
        ``probability``: chance that a patient is delayed; ``lower``, ``upper``: 90 % interval of
        the risk over posterior and trials; ``as_many``: probability that the cohort has at least as
        many delayed patients as printed, of all its patients.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for p, (anc, plt) in enumerate(risks.design.pairs):
        for days, dose, late, n in risks.design.cohorts:
            values = risks.of(p, days, dose)
            drawn = rng.binomial(n, risks.late(p, days, dose, 50))
            low, high = np.quantile(values, (0.05, 0.95))
            rows.append(
                {
                    "neutrophils": anc,
                    "platelets": plt,
                    "days": days,
                    f"dose_{risks.design.unit.replace('/', '_per_')}": dose,
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
    design, found = risks.design, []
    longer, shorter = design.days
    many, lowest, highest = design.dose_contrast
    for p, (anc, plt) in enumerate(design.pairs):
        schedule = np.mean(
            [risks.of(p, longer, d) - risks.of(p, shorter, d) for d in design.common], axis=0
        )
        dose = risks.of(p, many, highest) - risks.of(p, many, lowest)
        late = {days: np.zeros(200 * dose.size, dtype=np.int64) for days in design.days}
        for days, amount, _, n in design.cohorts:
            late[days] = late[days] + rng.binomial(n, risks.late(p, days, amount, 200))
        seen = {days: design.late(days)[0] for days in design.days}
        uneven = (late[longer] >= seen[longer]) & (late[shorter] <= seen[shorter])
        found.append(
            Contrast(
                anc,
                plt,
                _interval(schedule),
                _interval(dose),
                float(np.mean(schedule > dose)),
                float(np.mean(schedule > design.relevant)),
                float(np.mean(dose > design.relevant)),
                float(np.mean(uneven)),
                design,
            )
        )
    return tuple(found)


def words_of(design: Design) -> tuple[str, str]:
    """Name both contrasts: ``14 less 10 days``, ``50 less 5 mg``."""
    _, lowest, highest = design.dose_contrast
    longer, shorter = design.days
    return f"{longer} less {shorter} days", f"{highest:g} less {lowest:g} {design.unit}"


def in_the_tail(found: Sequence[Contrast]) -> str:
    """Say how often a trial of this model splits as unevenly as the one that was seen."""
    shares = sorted(one.as_seen for one in found)
    ends = dict.fromkeys(f"{share:.0%}".removesuffix("%") for share in (shares[0], shares[-1]))
    rare = shares[-1] < _RARE
    told = ": its counts lie in the tail of what this model predicts" if rare else ""
    return f"such a trial splits at least as unevenly in {' to '.join(ends)} % of its runs{told}"


def alone_in_words(design: Design) -> str:
    """Say what the trial's counts tell without any model."""
    (late, many), (few, others) = (design.late(days) for days in design.days)
    alone = from_counts_alone(design)
    told = "tell" if not 1.0 - design.sure < alone < design.sure else "cannot tell"
    return (
        f"the trial's own counts, {late} of {many} against {few} of {others}, give a probability "
        f"of {alone:.0%} that {design.days[0]} days are riskier: by themselves they {told} "
        "schedule from chance"
    )


def from_counts_alone(design: Design, draws: int = 200_000, seed: int = 1) -> float:
    """Probability that more days are riskier than fewer, from the trial's counts without any model.

    Jeffreys' priors on the two risks; dose levels of a schedule taken together.
    """
    rng = np.random.default_rng(seed)
    sides = []
    for days in design.days:
        late, n = design.late(days)
        sides.append(rng.beta(late + 0.5, n - late + 0.5, draws))
    return float(np.mean(sides[0] > sides[1]))


def table_text(risks: DelayedRisks) -> str:
    """Print cohorts, contrasts and verdicts."""
    design = risks.design
    more, higher = words_of(design)
    doses = " and ".join(f"{dose:g}" for dose in design.common)
    amount = f"dose_{design.unit.replace('/', '_per_')}"
    lines = [
        f"{design.title}: not recovered by day {design.by_day} (of those alive without leukaemia)",
        f"{'recovered at':>14} {'days':>4} {design.unit:>4} {'printed':>7} {'risk':>5} "
        f"{'90 % interval':>14} {'P(as many)':>10}",
    ]
    for row in cohort_rows(risks):
        told = f"{row['neutrophils']:g} / {row['platelets']:g}"
        interval = f"{row['lower']:.2f} to {row['upper']:.2f}"
        lines.append(
            f"{told:>14} {row['days']:>4} {row[amount]:>4g} {row['printed']:>7} "
            f"{row['probability']:5.2f} {interval:>14} {row['as_many']:10.2f}"
        )
    lines += [
        "",
        f"Difference of risk: {more} ({doses} {design.unit}); {higher} "
        f"({design.dose_contrast[0]} days)",
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
    alone = alone_in_words(design)
    return "\n".join([*lines, f"{alone[0].upper()}{alone[1:]}."])


def _interval(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def _with_dose(schedule: Schedule, design: Design, days: int, dose: float) -> Schedule:
    drugs = tuple(
        replace(entry, levels=(dose,), shares=(1.0,), days=tuple(range(1, days + 1)))
        if entry.drug == design.drug
        else entry
        for entry in schedule.drugs
    )
    return Schedule(f"{design.title}, {dose:g} {design.unit} x{days}", drugs)
