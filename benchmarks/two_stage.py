"""Later phase I trials of a compound begin at a dose that the counts of its first trial predict.

Run it with ``python benchmarks/two_stage.py``. It follows the two-stage design of Zandvliet et al.,
Invest New Drugs 2010;28:61-75. Every compound is tried on five schedules, each in a 3+3 trial on a
ladder of modified Fibonacci steps from a tenth of the typical compound's dose. The conventional
programme begins every trial at the lowest dose. The other one gives draws of the marrow and of the
drug, which do not hold the compound, the weight that all counts of one conventional trial lend
them, predicts the dose with a risk of a third on each of the other schedules, and begins there at a
share of it. Whatever the start, a trial meets the same patients in the same order.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

import pkpd
from pkpd.data.dataset import BELOW, NOT_CENSORED
from pkpd.designs import Action, ThreePlusThree, TrialData
from pkpd.distributions import stratified_normals, stream
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.forecasting.many import weights_of
from pkpd.forecasting.measurement import CountError, measurement_of
from pkpd.model.joint import load_model
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

DRUG, HOW = "clofarabine", {"route": "iv", "unusual_dose": True}
SCHEDULES = {"once": "1", "x3": "1-3", "x5": "1-5", "weekly": "1, 8, 15", "x14": "1-14"}
LATER = len(SCHEDULES) - 1  # trials of a compound after its first
LADDER: Floats = np.cumprod([1.0, 2, 1.67, 1.5, 1.4, *[1.33] * 9])
"""Doses over the lowest one."""
SAFETY = 10.0  # dose of the typical compound with the limiting risk, over the lowest dose
LIMIT, CERTAINTY = 1 / 3, 0.25  # risk that is too high; its probability under overdose control
VISITS = (1, 8, 11, 15, 18, 22, 25)
HIGHEST = 1e4  # count that a rebound after a dose far above the others reaches, at most
WINDOW = 28  # days
RULE = DLTRule(
    "grade 4 neutropenia for 5 days or more", (Criterion("neutrophils", 0.5),),
    kind="low_count_duration", duration_days=(5.0,), by_day=WINDOW,
)  # fmt: skip
COMPOUNDS = {  # SD of the log between compounds, and what differs by it
    "potency": (0.6, ("effect.slope",)),
    "clearance": (0.4, ("CL_nonrenal", "CL_renal")),
    "volume": (0.3, ("V1", "V2", "Q")),
    "half-life": (0.6, ("effect.half_life",)),
}
FRACTIONS = {"a third": 1 / 3, "half": 1 / 2, "two thirds": 2 / 3, "all": 1.0}
WAYS = ("conventional", *FRACTIONS, "overdose control")
"""Where the second trial begins: at the lowest dose, a share of the prediction, a safe dose."""
SHOWN = ("below", "above", "dlts", "patients", "correct", "too_high", "start_above")


def compounds(draws: int, patients: int, seed: int) -> CardsEnsemble:
    """Patients of a marrow, each draw with a compound of its own; one draw is the typical one."""
    model = load_model(
        "solid", drugs=[DRUG], replace={f"{DRUG}.effect": "clofarabine_triphosphate_linear"}
    )
    source = pkpd.source(
        "solid_tumour_phase1", marrow="friberg", model=model, draws=draws, patients=patients,
        seed=seed, transfusion=None,
    )  # fmt: skip
    assert isinstance(source, CardsEnsemble)
    values = dict(source.values)
    for what, (sd, names) in COMPOUNDS.items():
        scores = stratified_normals(stream(seed, f"compound:{what}"), draws)
        for name in names:
            values[f"{DRUG}.{name}"] = values[f"{DRUG}.{name}"] * np.exp(sd * scores * (draws > 1))
    only = replace(source.model, marrow=(source.model.line("neutrophils"),))
    return replace(source, model=only, values=values)


def lowest_doses(patients: int, seed: int) -> dict[str, float]:
    """Lowest dose of each schedule: a tenth of the typical compound's with the limiting risk."""
    typical, doses = compounds(1, patients, seed), np.geomspace(0.05, 200, 25)
    risks = {n: np.array([_seen(typical, n, d)[1].mean() for d in doses]) for n in SCHEDULES}
    return {name: dose_at(doses, of) / SAFETY for name, of in risks.items()}


def dose_at(doses: Floats, risks: Floats) -> float:
    """Dose with the limiting risk, between doses on the log scale; the last where none has it."""
    return float(np.exp(np.interp(LIMIT, np.maximum.accumulate(risks), np.log(doses))))


def _seen(source: CardsEnsemble, schedule: str, dose: float) -> tuple[Singles, Flags]:
    """Neutrophils on visits ``[M, N, V]`` and toxicities ``[M, N]``."""
    days, amount = np.array(VISITS) - 1.0, f"{dose:.6g} mg/m^2"
    given = pkpd.daily(DRUG, amount, days=SCHEDULES[schedule], duration="1 h", **HOW)
    found = pkpd.simulate(given, source, until_day=WINDOW + 1, days=days, rule=RULE)
    counts = np.minimum(found["count"].sel(line="neutrophils").values, HIGHEST)
    return counts.astype(np.float32), found["dlt"].values == 1.0


@dataclass(frozen=True)
class People:
    """Patients of many compounds on every rung of the ladder, by schedule.

    Counts are in 10^9/L ``[K, M, N, V]``, toxicities ``[K, M, N]``: rung, compound, patient, visit.
    """

    counts: dict[str, Singles]
    dlt: dict[str, Flags]

    def risks(self, schedule: str) -> Floats:
        """Share of patients with a toxicity, by rung and compound ``[K, M]``."""
        return self.dlt[schedule].mean(axis=2)


def treated(source: CardsEnsemble, lowest: dict[str, float]) -> People:
    """Give every dose of every schedule to the patients of a source."""
    found = {n: [_seen(source, n, dose) for dose in first * LADDER] for n, first in lowest.items()}
    return People(
        *({n: np.stack([one[k] for one in of]) for n, of in found.items()} for k in (0, 1))
    )


@dataclass(frozen=True)
class Trial:
    """What a trial did: the rung and the place of each patient, and the rung that it selected."""

    rungs: Whole
    who: Whole
    dlts: int
    selected: int


def three_plus_three(dlt: Flags, order: Whole, start: int) -> Trial:
    """Run one 3+3 trial in patients with known toxicities ``[K, N]``, who come in an order."""
    levels, cohorts, rungs = len(dlt), [], []
    design = ThreePlusThree(levels=levels, start=start)
    while True:
        data = TrialData.from_cohorts(levels, cohorts)
        decision = design.next_dose(data)
        if decision.action == Action.STOP:
            who = order[np.arange(len(rungs)) % len(order)]
            return Trial(np.array(rungs) - 1, who, sum(data.dlts), decision.mtd or 0)
        level = decision.level
        assert level is not None
        n = int(design.size(data.batch(), np.array([level]))[0])
        places = order[np.arange(len(rungs), len(rungs) + n) % len(order)]
        rungs += [level] * n
        cohorts.append((level, n, int(dlt[level - 1, places].sum())))


class Learner:
    """Draws of marrow and drug, weighed by the counts of a trial."""

    def __init__(self, bank: People, error: CountError, limit: float) -> None:
        self.bank, self.error, self.limit = bank, error, limit

    def weights(self, schedule: str, rungs: Whole, seen: Singles) -> Floats:
        """Weights of the draws from counts ``[P, V]`` of patients on rungs of a schedule.

        The density of a patient's counts under a draw is the mean over that draw's patients.
        Weights are flattened until 30 draws count.
        """
        logs = []
        for rung in np.unique(rungs):
            mine = self._densities(self.bank.counts[schedule][rung], seen[rungs == rung])
            logs.append(np.sum(logsumexp(mine, axis=2), axis=0))
        return weights_of(np.sum(logs, axis=0, dtype=np.float32)[None])[0].astype(float)

    def _densities(self, counts: Singles, seen: Singles) -> Singles:
        """Log density of each of P patients' counts in the bank's patients, ``[P, M, N]``."""
        draws, people, visits = counts.shape
        none = np.zeros(draws * people, dtype=np.int64)
        total = np.zeros((len(seen), draws * people), dtype=np.float32)
        for v in range(visits):
            at, values = counts[:, :, v].ravel(), seen[:, v, None]
            for low in (False, True):
                some = np.flatnonzero((values[:, 0] < self.limit) == low)
                told = np.full_like(values[some], self.limit) if low else values[some]
                kind = BELOW if low else NOT_CENSORED
                if some.size:
                    total[some] += self.error.log_densities(at, none, told, kind)
        return total.reshape(len(seen), draws, people)

    def prediction(self, schedule: str, weights: Floats) -> tuple[float, int]:
        """Dose over the lowest one with the limiting risk, and the rung of overdose control."""
        risks = self.bank.risks(schedule)
        safe = np.logical_and.accumulate((risks >= LIMIT) @ weights <= CERTAINTY)
        return dose_at(LADDER, risks @ weights), max(1, int(safe.sum()))


def starts(dose: float, controlled: int) -> dict[str, int]:
    """Rung at which each way begins: the highest one that is not above its dose."""
    most = {name: share * dose * (1 + 1e-9) for name, share in FRACTIONS.items()}
    shares = {name: max(1, int(np.sum(most[name] >= LADDER))) for name in most}
    return {"conventional": 1, **shares, "overdose control": controlled}


def rows(truth: People, learner: Learner, seed: int) -> Iterator[dict[str, object]]:
    """Yield one row for every compound, first schedule, second schedule and way."""
    names, (_, number, people) = tuple(truth.dlt), next(iter(truth.dlt.values())).shape
    every = range(1, len(LADDER) + 1)
    ran = {}
    for m, name in product(range(number), names):
        order = stream(seed, f"order:{m}:{name}").permutation(people)
        ran[m, name] = [three_plus_three(truth.dlt[name][:, m], order, start) for start in every]
    for m, one in product(range(number), names):
        first = ran[m, one][0]
        own = truth.counts[one][first.rungs, m, first.who].astype(float)
        noise, draw = stream(seed, f"counts:{m}:{one}"), np.zeros(own.size, dtype=np.int64)
        seen = learner.error.simulate(own.ravel(), draw, noise).reshape(own.shape)
        weights = learner.weights(one, first.rungs, seen.astype(np.float32))
        for two in names:
            risks = truth.risks(two)[:, m]
            right = int(np.sum(np.logical_and.accumulate(risks < LIMIT)))
            dose, controlled = learner.prediction(two, weights)
            for way, start in starts(dose, controlled).items():
                trial = ran[m, two][start - 1]
                yield {
                    "compound": m, "first": one, "second": two, "way": way,
                    "below": int(np.sum(trial.rungs + 1 < right)),
                    "above": int(np.sum(trial.rungs + 1 > right)),
                    "dlts": trial.dlts, "patients": len(trial.rungs),
                    "correct": float(trial.selected == right),
                    "too_high": float(trial.selected > right),
                    "start_above": float(start > max(right, 1)),
                    "start": start, "selected": trial.selected, "right": right,
                    "effective": 1.0 / np.sum(weights**2),
                    "log_ratio": np.log(dose / dose_at(LADDER, risks)),
                }  # fmt: skip


def ratio(part: pd.Series, whole: pd.Series) -> tuple[float, float]:
    """Ratio of two sums over compounds, and its standard error (delta method)."""
    found = part.sum() / whole.sum()
    return found, (part - found * whole).std() / np.sqrt(len(part)) / whole.mean()


def table(found: pd.DataFrame) -> pd.DataFrame:
    """Means of each way in second trials, paired differences and what is saved, with errors."""
    second = found.query("first != second")
    mean = second.groupby(["way", "compound"])[list(SHOWN)].mean()
    lone = found.query("first == second and way == 'conventional'")
    lone = lone.groupby("compound")["below"].mean()
    usual, made = mean.loc["conventional"], {}
    for way in WAYS:
        mine, row = mean.loc[way], {}
        row |= {name: mine[name].mean() for name in SHOWN}
        row["median DLTs"] = second[second["way"] == way]["dlts"].median()
        for name in ("below", "above", "dlts", "patients", "correct"):
            gap = mine[name] - usual[name]
            row[f"{name} less"] = gap.mean()
            row[f"{name} se"] = gap.std(ddof=1) / np.sqrt(len(gap))
        for what, before in (("second trials", 0.0 * lone), ("programme", lone)):
            kept, se = ratio(before + LATER * mine["below"], before + LATER * usual["below"])
            row[f"saved in {what}, %"], row[f"{what} se"] = 100 * (1 - kept), 100 * se
        made[way] = row
    return pd.DataFrame(made)


def main(words: Sequence[str] | None = None) -> pd.DataFrame:
    """Simulate, learn, compare, print and write."""
    parser = argparse.ArgumentParser(description="First trials that tell where others begin.")
    numbers = {"compounds": 60, "people of each compound": 150}
    numbers |= {"draws": 400, "patients of each draw": 100, "seed": 1}
    for what, number in numbers.items():
        parser.add_argument(f"--{what.split()[0]}", type=int, default=number, help=what)
    parser.add_argument("--out", type=Path, default=Path("build/two_stage"))
    given = parser.parse_args(words)
    start = time.perf_counter()
    lowest = lowest_doses(1000, given.seed)
    print("lowest doses, mg/m^2:", {name: round(dose, 3) for name, dose in lowest.items()})
    learnt = compounds(given.draws, given.patients, 1000 + given.seed)
    bank = treated(learnt, lowest)
    truth = treated(compounds(given.compounds, given.people, given.seed), lowest)
    print(f"patients: {time.perf_counter() - start:.0f} s", flush=True)
    how = measurement_of(learnt)
    learner = Learner(bank, how.errors["neutrophils"], how.limits["neutrophils"])
    found = pd.DataFrame(rows(truth, learner, given.seed))
    pairs = len(found.query("first != second")) // len(WAYS)
    print(f"{pairs} pairs of trials: {time.perf_counter() - start:.0f} s")
    print(table(found).round(3).to_string())
    off = found.query("first != second and way == 'conventional'")["log_ratio"]
    print(f"predicted over true dose: median {np.exp(off.median()):.2f}, SD of log {off.std():.2f}")
    print(f"draws that count: {found['effective'].min():.0f} to {found['effective'].max():.0f}")
    given.out.mkdir(parents=True, exist_ok=True)
    found.to_csv(given.out / "trials.csv", index=False)
    return found


if __name__ == "__main__":
    main()
