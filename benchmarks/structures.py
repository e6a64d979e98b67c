"""Structures of the marrow with leukaemia side by side, at the numbers of their cards.

    python -m benchmarks.structures
    python -m benchmarks.structures full ten_stages --patients 4096

Nothing here is learned: each structure answers with its cards, before any trial. The first table
compares 7+3 with what is published of it and says how many standard errors each figure is away; the
second has the landmarks of ``docs/marrow_with_leukaemia.md``; the third the cohorts of the five
trials. Results are written to ``build/structures.csv``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pkpd
from pkpd.cards import card_names, load_trial, rules_for
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import LANDED, leukaemia_cards
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.marrow.variants import VARIANTS
from pkpd.schedule import GrowthFactorPolicy, Regimen

Floats = NDArray[np.float64]
NAMES = (LANDED, "ten_stages", "ten_stages_driven")
NEUTROPHILS, PLATELETS = ("neutrophils", 0.5), ("platelets", 20.0)
REMISSION = ("CR", "CRh", "CRi")
OUT = Path(__file__).parents[1] / "build" / "structures.csv"
EMPTY = 0.1  # 10^9/L; a patient whose count rises from below it shows how fast it rises


@dataclass(frozen=True)
class Target:
    """A published figure of 7+3.

    Attributes
    ----------
    name
        In words.
    published, error
        Value and what one standard error of it is taken to be; both of the logarithm where `log`.
    at_most
        Whether only values above it are away from it.
    """

    name: str
    published: float
    error: float
    log: bool = False
    at_most: bool = False

    def distance(self, value: float) -> float:
        """Return how many standard errors a value is away."""
        gap = np.log(value / self.published) if self.log else value - self.published
        return float(max(gap, 0.0) if self.at_most else gap) / self.error


TARGETS = (
    Target("day of neutrophils 0.5, median", 26.5, 1.5),
    Target("day of neutrophils 0.5, 1 %", 14.0, 2.0),
    Target("day of neutrophils 0.5, 99 %", 47.0, 4.0),
    Target("from 0.5 to 1.0, days between medians", 2.5, 0.7),
    Target("neutrophils on day 14, median", 0.05, 0.4, log=True, at_most=True),
    Target("neutrophils on day 21, median", 0.3, 0.35, log=True),
    Target("neutrophils on day 28, median", 2.7, 0.4, log=True),
    Target("neutrophils on day 35, median", 1.7, 0.5, log=True),
    Target("day with filgrastim from day 11, ratio", 0.85, 0.04),
    Target("high-dose cytarabine in remission, day of 0.5", 20.0, 2.0),
    Target("high-dose cytarabine in remission, days below 0.5", 9.0, 2.0),
)
"""Days: 181 patients (PMC10020242) and other trials of 7+3; counts by day: placebo arm of
NCT01890746 (51, 29 and 14 patients on the last three), whose kill may differ (`OWN_KILL`);
filgrastim: 15 % sooner. Errors are of rounding and of differences between trials, assumed."""
OWN_KILL = Target("kill in the trial of counts by day, ratio", 1.0, 0.2, log=True)
KILLS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05)


class Structure:
    """Outcomes of arms under a structure.

    Parameters
    ----------
    name
        Of a variant of the marrow.
    patients
        Simulated in each arm.
    """

    def __init__(self, name: str, patients: int) -> None:
        self.name, self.patients = name, patients
        self.theta, self.variant = dict(leukaemia_cards(name).theta), VARIANTS[name]

    def outcomes(self, arm: Arm, **changes: float) -> ArmOutcomes:
        """Outcomes of an arm, with other numbers in place of those of the cards."""
        theta = {**self.theta, **changes}
        return population_outcomes(arm, theta, self.patients, variant=self.variant)

    def given(
        self,
        *doses: tuple[str, str, str],
        disease: str = "aml",
        days: int = 90,
        growth_factor: GrowthFactorPolicy | None = None,
        **changes: float,
    ) -> ArmOutcomes:
        """Outcomes of drugs by vein; a dose is drug, amount and days."""
        policy = {} if growth_factor is None else {"growth_factor": growth_factor}
        schedule = ArmSchedule(_together(doses), days, **policy)
        return self.outcomes(Arm("course", schedule, disease), **changes)


def _together(doses: Sequence[tuple[str, str, str]]) -> Regimen:
    first, *rest = (
        pkpd.daily(drug, amount, days=days, route="oral" if drug == "lenalidomide" else "iv")
        for drug, amount, days in doses
    )
    for other in rest:
        first = first.together(other)
    return first


SEVEN_THREE = (("daunorubicin", "60 mg/m^2", "1-3"), ("cytarabine", "100 mg/m^2", "1-7"))
HIGH_DOSE = (("cytarabine", "6 g/m^2", "1,3,5"),)
WITH_CLOFARABINE = (
    ("idarubicin", "12 mg/m^2", "1-3"),
    ("cytarabine", "100 mg/m^2", "1-7"),
    ("clofarabine", "10 mg/m^2", "1-5"),
)


def days_of_recovery(found: ArmOutcomes, key: tuple[str, float] = NEUTROPHILS) -> Floats:
    """Days of recovery of those in remission who had been below; infinite if not seen."""
    days = found.recovery_day[key][found.responded(*REMISSION)]
    return days[~np.isnan(days)]


def crossing(counts: Floats, level: float) -> Floats:
    """Time in days at which counts ``[n, D]`` rise to a level after their lowest, by logarithms."""
    logs, rows = np.log(np.maximum(counts, 1e-6)), np.arange(len(counts))
    lowest = logs.argmin(axis=1)
    after = np.arange(counts.shape[1]) > lowest[:, None]
    there = after & (logs >= np.log(level))
    day = there.argmax(axis=1)
    low, high = logs[rows, day - 1], logs[rows, day]
    time = day - 1 + (np.log(level) - low) / np.where(high > low, high - low, 1.0)
    return np.where(there.any(axis=1) & (logs.min(axis=1) < np.log(level)), time, np.nan)


def late(found: ArmOutcomes, day: int = 45) -> float:
    """Share not recovered (0.5 and 20) by a day, of those alive and free of leukaemia then."""
    told = (found.blasts_day(day) < 5.0) & (found.death_day > day)
    days = np.maximum(found.recovery_day[NEUTROPHILS], found.recovery_day[PLATELETS])
    return float(np.mean(days[told] > day))


BY_DAY = TARGETS[4:8]


def _by_day(one: Structure, kill: float) -> tuple[float, tuple[float, ...]]:
    """Medians of neutrophils of responders on the days of `BY_DAY`, at a multiple of the kill."""
    found = one.given(*SEVEN_THREE, days=40, ln_kill=kill * one.theta["ln_kill"])
    counts = found.course.mornings["neutrophils"][found.responded(*REMISSION)]
    return kill, tuple(float(np.median(counts[:, day - 1])) for day in (14, 21, 28, 35))


def _distance(tried: tuple[float, tuple[float, ...]]) -> float:
    kill, medians = tried
    away = [t.distance(value) for t, value in zip(BY_DAY, medians, strict=True)]
    return sum(d * d for d in (*away, OWN_KILL.distance(kill)))


def induction(one: Structure) -> list[tuple[str, float, Target | None]]:
    """Figures of 7+3, those with a target first."""
    found = one.given(*SEVEN_THREE)
    counts = found.course.mornings["neutrophils"][found.responded(*REMISSION)]
    days = days_of_recovery(found)
    own, medians = min((_by_day(one, kill) for kill in KILLS), key=_distance)
    with_factor = one.given(*SEVEN_THREE, growth_factor=GrowthFactorPolicy(0.5, 11))
    consolidation = one.given(*HIGH_DOSE, disease="aml_remission")
    below = consolidation.days_below[NEUTROPHILS]
    middle = float(np.median(days))
    values = [
        middle,
        *np.quantile(days[np.isfinite(days)], [0.01, 0.99]),
        np.median(days_of_recovery(found, ("neutrophils", 1.0))) - middle,
        *medians,
        np.median(days_of_recovery(with_factor)) / middle,
        np.median(days_of_recovery(consolidation)),
        np.median(below[below > 0]),
    ]
    rows = [(t.name, float(v), t) for t, v in zip(TARGETS, values, strict=True)]
    rows.append((OWN_KILL.name, own, OWN_KILL))
    empty = counts[counts.min(axis=1) < EMPTY]
    times = {level: crossing(empty, level) for level in (0.1, 0.5, 1.0)}
    for low, high in ((0.1, 0.5), (0.5, 1.0)):
        took = float(np.nanmedian(times[high] - times[low]))
        rows.append((f"patient's own days from {low:g} to {high:g}, median", took, None))
    deeper = one.given(*SEVEN_THREE, ln_kill=one.theta["ln_kill"] + np.log(10.0))
    more = np.median(days_of_recovery(deeper)) - middle
    return [*rows, ("days that tenfold kill costs", float(more), None)]


def landmarks(one: Structure) -> Iterator[tuple[str, float, str]]:
    """Other landmarks: name, value, as published."""
    found = one.given(*SEVEN_THREE)
    yield "7+3: day of platelets 20", float(np.median(days_of_recovery(found, PLATELETS))), "25"
    yield "7+3: complete remission, %", 100 * found.responded("CR").mean(), "60-65"
    yield "7+3: death by day 30, %", 100 * float(np.mean(found.death_day <= 30)), "6-11"
    yield "7+3: late at day 45, %", 100 * late(found), "5.6 (an earlier study)"
    clofarabine = one.given(("clofarabine", "30 mg/m^2", "1-5"))
    yield "clofarabine 30: remission, %", 100 * clofarabine.responded("CR", "CRi").mean(), "46-48"
    yield "clofarabine 30: late at day 45, %", 100 * late(clofarabine), ""
    both = one.given(*WITH_CLOFARABINE)
    yield "idarubicin, cytarabine, clofarabine: late at day 45, %", 100 * late(both), ""
    for dose in (2, 3, 4):
        solid = one.given(("clofarabine", f"{dose} mg/m^2", "1-5"), disease="solid", days=28)
        low = (solid.course.mornings["neutrophils"] < 0.5).sum(axis=1) > 5
        name = f"solid tumours, clofarabine {dose}: grade 4 over 5 d, %"
        yield name, 100 * float(low.mean()), "MTDs: about 33"
    myeloma = one.given(("lenalidomide", "30 mg", "1-21"), disease="myeloma", days=84)
    low = myeloma.course.mornings["neutrophils"].min(axis=1) < 1.0
    yield "myeloma, lenalidomide 30: grade 3-4 neutropenia, %", 100 * float(low.mean()), "60"


def trials(one: Structure) -> Iterator[tuple[str, float, float, int]]:
    """Cohorts of the five trials: name, median day of 0.5, risk in % by the first clock, judged."""
    for name in card_names("trials"):
        trial = load_trial(name)
        arms = arms_of_trial(trial)
        for cohort in trial.cohorts:
            found = one.outcomes(arms[cohort.id])
            days = found.recovery_day[NEUTROPHILS]
            verdict = found.dlt(rules_for(trial, cohort)[0])
            known = np.isfinite(verdict)
            risk = 100 * float(verdict[known].mean()) if known.any() else float("nan")
            middle = float(np.median(days[~np.isnan(days)])) if (~np.isnan(days)).any() else np.nan
            yield f"{trial.id} {cohort.id}", middle, risk, int(known.sum())


def main() -> None:
    """Print the three tables."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("structures", nargs="*", help=f"among {', '.join(VARIANTS)}")
    ask.add_argument("--patients", type=int, default=2048, help="of each arm")
    given = ask.parse_args()
    names = tuple(given.structures) or NAMES
    if unknown := [name for name in names if name not in VARIANTS]:
        ask.error(f"no structure {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    every = [Structure(name, given.patients) for name in names]
    rows: list[list[object]] = []

    def table(title: str, head: str, lines: Iterator[tuple[str, str, list[str], list[float]]]):
        print(f"\n{title}\n{head:58s}{'published':>14s}" + "".join(f"{n:>22s}" for n in names))
        for name, published, texts, values in lines:
            print(f"{name:58s}{published:>14s}" + "".join(f"{text:>22s}" for text in texts))
            rows.append([title, name, published, *values])

    table("7+3", "in brackets: standard errors away", _induction_lines(every))
    table("Landmarks", "", _lines(every, landmarks))
    table("Five trials", "median day of neutrophils 0.5; risk of a DLT, %", _trial_lines(every))
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["table", "figure", "published", *names], *rows])
    print(f"\n{OUT}")


Lines = Iterator[tuple[str, str, list[str], list[float]]]


def _induction_lines(every: Sequence[Structure]) -> Lines:
    found = [induction(one) for one in every]
    squares = np.zeros(len(every))
    for row in zip(*found, strict=True):
        name, _, target = row[0]
        values = [value for _, value, _ in row]
        texts = [f"{value:.2f}" for value in values]
        if target is not None:
            away = np.array([target.distance(value) for value in values])
            squares += away**2
            texts = [f"{text} ({d:+.1f})" for text, d in zip(texts, away, strict=True)]
        yield name, "" if target is None else f"{target.published:g}", texts, values
    yield "sum of squared distances", "", [f"{x:.1f}" for x in squares], list(squares)


def _lines(
    every: Sequence[Structure], figures: Callable[[Structure], Iterator[tuple[str, float, str]]]
) -> Lines:
    for row in zip(*(figures(one) for one in every), strict=True):
        values = [value for _, value, _ in row]
        yield row[0][0], row[0][2], [f"{value:.1f}" for value in values], values


def _trial_lines(every: Sequence[Structure]) -> Lines:
    for row in zip(*(trials(one) for one in every), strict=True):
        texts = [f"{day:.0f}; {risk:.0f} (of {known:,})" for _, day, risk, known in row]
        yield row[0][0], "", texts, [risk for _, _, risk, _ in row]


if __name__ == "__main__":
    main()
