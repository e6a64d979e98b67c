"""Predict the day of neutrophil recovery of children from the cells and the source of their graft.

GIVEN.csv has columns child, source (blood, marrow), cd34_million_per_kg, anc500_day (empty: not
seen) and survival_days. The marrow and its patients are those of the series of adults
(`population.fit`). A child's graft seeds exp(-rate day) of a full pool at the usual dose and as
much more as its dose is larger, so that an e-fold of cells brings recovery 1/rate days earlier:

- adults: nothing is learned from children; their usual dose is assumed to have been that of adults.
- children: by maximum likelihood of their days, the day of a full pool by source with its spread,
  and a factor of the rate of regrowth. Late patients are left out. All else is as in adults.

Without HELD.csv both are scored in three folds beside two baselines, and the days that an e-fold
of cells costs are told. With it, its children (child, source, cd34_million_per_kg) are predicted,
and OUT.csv has columns child, day, probability (of recovery on that day; what is missing to 1 comes
after day 45) and by_day (of recovery up to that day).
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from forecasts import with_any
from grafts import (
    GRAFTS,
    Banks,
    Child,
    Floats,
    GraftBank,
    forecast,
    learn,
    log_likelihood,
    of_children,
    read_children,
    start_of,
)
from marrow_bank import MarrowBank
from places import NO_DATA, find_prefix, run
from population import Population, fit
from scipy.stats import norm
from scores import score
from series import LATER, folds, read_series

from pkpd.errors import DataError, sentence
from pkpd.files import whole

REGRESSION = "regression of log day"
_STEP = 0.02  # of values, for differences of the log likelihood
_LEAST = 1e-6  # probabilities below it are not written
_SEED = 5


def regression(values: Floats, children: Sequence[Child]) -> Floats:
    """Log day normal about a line in the log dose with a level by source, ``[J, LATER + 1]``."""
    names = list(GRAFTS)
    mean = np.array([values[names.index(c.source)] + values[2] * c.log_dose for c in children])
    edges = np.log(np.arange(LATER) + 0.5)
    up_to = norm.cdf((edges - mean[:, None]) / np.exp(values[3]))
    p = np.diff(up_to, axis=1, prepend=0.0, append=1.0)
    return np.array([with_any(own, 0) for own in p])


def same_source(given: Sequence[Child], children: Sequence[Child]) -> Floats:
    """Days of given children of the same source, smoothed by a day to both sides."""
    by_source = {}
    for source in GRAFTS:
        days = [c.outcome for c in given if c.source == source and c.outcome is not None]
        counted = np.bincount(np.array(days, dtype=int), minlength=LATER + 1)
        by_source[source] = with_any(np.convolve(counted, [0.25, 0.5, 0.25], "same"), 0)
    return np.array([by_source[child.source] for child in children])


def days_per_fold(days: Floats, children: Sequence[Child], weights: Floats) -> list[float]:
    """Days by which an e-fold of cells brings recovery earlier, by source: least squares."""
    found = []
    for source in GRAFTS:
        own = [i for i, child in enumerate(children) if child.source == source]
        x, y, w = np.array([children[i].log_dose for i in own]), days[own], weights[own]
        x = x - w @ x / w.sum()
        found.append(-float((w * x) @ y / (w @ x**2)))
    return found


def expected(p: Floats) -> Floats:
    """Mean of the day of recovery, at most `LATER`, ``[J]``."""
    return p @ np.arange(LATER + 1)


@dataclass(frozen=True, eq=False)
class Methods:
    """What predicts children, once adults are learned.

    Attributes
    ----------
    adults
        The fit, then its bootstraps.
    banks
        Source -> bank drawn from adults.
    nearer
        Source -> bank drawn from what the first of them says of children.
    """

    adults: Sequence[Population]
    banks: Banks
    nearer: Banks

    @classmethod
    def made(
        cls, marrow: MarrowBank, adults: Sequence[Population], given: Sequence[Child], size: int
    ) -> Methods:
        """Simulate banks of ``size`` virtual patients."""
        banks = {source: GraftBank(marrow, adults[0], source, size) for source in GRAFTS}
        values, _ = cls(adults, banks, banks).learn(given)
        near = of_children(adults[0], values)
        nearer = {source: GraftBank(marrow, near, source, size) for source in GRAFTS}
        return cls(adults, banks, nearer)

    def as_adults(self, children: Sequence[Child]) -> Floats:
        """Probabilities by day with nothing learned from children."""
        every = [forecast(self.banks, own, children) for own in self.adults[1:] or self.adults]
        return np.mean(every, axis=0)

    def learn(self, given: Sequence[Child]) -> tuple[Floats, float]:
        """Values of `of_children`, and the log likelihood."""
        return learn(lambda v: self.of_values(v, given), start_of(self.adults[0]), given)

    def relearned(self, values: Floats, given: Sequence[Child], weights: Floats) -> Floats:
        """Values of `of_children` under bootstrap weights, ``[B, J]``: a step of Fisher's scoring.

        ``values`` are the maximum with weights of one.
        """
        step = _STEP * np.eye(len(values))
        ahead, behind = (
            [log_likelihood(self.of_values(values + sign * own, given), given) for own in step]
            for sign in (1.0, -1.0)
        )
        scores = (np.array(ahead) - np.array(behind)) / (2.0 * _STEP)
        return values + (weights - 1.0) @ np.linalg.solve(scores @ scores.T, scores).T

    def of_values(self, values: Floats, children: Sequence[Child]) -> Floats:
        """Probabilities by day at values of `of_children`."""
        return forecast(self.nearer, of_children(self.adults[0], values), children)

    def all(self, given: Sequence[Child], held: Sequence[Child]) -> dict[str, Floats]:
        """Predict held children by every method, learned from the given ones."""
        start = [math.log(15.0), math.log(15.0), 0.0, math.log(0.2)]
        line, _ = learn(lambda v: regression(v, given), start, given)
        level = [replace(child, dose=math.nan) for child in (*given, *held)]
        blind, _ = self.learn(level[: len(given)])
        return {
            "same source": same_source(given, held),
            REGRESSION: regression(line, held),
            "marrow of adults": self.as_adults(held),
            "marrow of children, dose not told": self.of_values(blind, level[len(given) :]),
            "marrow of children": self.of_values(self.learn(given)[0], held),
        }


def tell_scores(methods: Methods, children: Sequence[Child]) -> None:
    """Score every method in three folds, and print."""
    found: dict[str, dict] = {}
    for given, held in folds(children):
        for name, p in methods.all(given, held).items():
            own = {(*child.key, 0): row for child, row in zip(held, p, strict=True)}
            found.setdefault(name, {}).update(own)
    scored = {name: score(p, children) for name, p in found.items()}
    print("three folds: CRPS, days; log score; less CRPS than the regression (SE); whole-day "
          "intervals of 50, 90 % hold and say; with split days")  # fmt: skip
    for name, own in scored.items():
        less = scored[REGRESSION].crps - own.crps
        error = less.std(ddof=1) / math.sqrt(len(less))
        held, stated = 100 * own.held.mean(axis=0), 100 * own.stated.mean(axis=0)
        split = 100 * own.split_coverage()
        print(f"  {name:34s}{own.crps.mean():.3f}  {np.log(own.at).mean():.3f}  {less.mean():+.3f} "
              f"({error:.3f})  {held[0]:.0f}, {held[1]:.0f} / {stated[0]:.0f}, {stated[1]:.0f}  "
              f"{split[0]:.0f}, {split[1]:.0f}")  # fmt: skip


def tell_effects(methods: Methods, children: Sequence[Child], bootstraps: int) -> None:
    """Learn from all children, and print what was learned and what an e-fold of cells does."""
    seen = [child.outcome is not None for child in children]
    known = [child for child in children if child.outcome is not None]
    days = np.array([child.outcome for child in known], dtype=float)
    values, likelihood = methods.learn(children)
    rng = np.random.default_rng(_SEED)
    w = rng.dirichlet(np.ones(len(children)), bootstraps) * len(children)
    every = np.vstack([values, methods.relearned(values, children, w)])
    slopes = []
    for own, weights in zip(every, [np.ones(len(known)), *w[:, seen]], strict=True):
        model = expected(methods.of_values(own, known))
        slopes.append([days_per_fold(y, known, weights) for y in (days, model)])
    effects = np.array(slopes)
    print(f"learned (95 % interval of {bootstraps} bootstraps), log likelihood {likelihood:.2f}:")
    names = (*(f"day of a full pool, {source}" for source in GRAFTS), "SD of its log",
             "rate of regrowth over that of adults")  # fmt: skip
    for k, name in enumerate(names):
        print(f"  {name:38s}" + _interval(np.exp(every[:, k])))
    held = [values[0], values[1], values[2]]
    at_rate = learn(lambda v: methods.of_values(np.append(v, 0.0), children), held, children)[1]
    print(f"  log likelihood with the rate of adults {at_rate:.2f}")
    adult = [
        days_per_fold(expected(forecast(methods.banks, own, known)), known, np.ones(len(known)))
        for own in methods.adults
    ]
    print("an e-fold of cells brings recovery earlier, days:")
    for k, source in enumerate(GRAFTS):
        print(f"  {source:8s}data {_interval(effects[:, 0, k])}; marrow of children "
              f"{_interval(effects[:, 1, k])}; of adults {_interval(np.array(adult)[:, k])}; data "
              f"less adults {_interval(effects[:, 0, k] - adult[0][k])}; data less children "
              f"{_interval(effects[:, 0, k] - effects[:, 1, k])}")  # fmt: skip


def _interval(values: Floats) -> str:
    """First value, and quantiles of the rest."""
    low, high = np.quantile(values[1:], [0.025, 0.975]) if len(values) > 1 else (math.nan, math.nan)
    return f"{values[0]:.2f} ({low:.2f} to {high:.2f})"


def write(path: Path, children: Sequence[Child], p: Floats) -> None:
    """Write probabilities of children by day."""
    with whole(path) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("child", "day", "probability", "by_day"))
        for child, own in zip(children, p, strict=True):
            by_day = np.cumsum(own)
            for day in np.flatnonzero(own[:LATER] > _LEAST):
                writer.writerow((child.patient, day, f"{own[day]:.6g}", f"{by_day[day]:.6g}"))


def told(path: Path, children: Sequence[Child], learning: bool) -> list[Child]:
    """Say what is missing; those to learn from have a dose and an outcome."""
    doses = Counter(math.isnan(child.dose) for child in children)
    if not learning:
        print(f"{path}: {len(children)} children to predict; {doses[True]} without a dose, given "
              "the usual one")  # fmt: skip
        return list(children)
    unknown = sum(child.day is None and child.alive is None for child in children)
    kept = [c for c in children if not math.isnan(c.dose) and (c.day or c.alive) is not None]
    censored = sum(child.day is None for child in kept)
    print(f"{path}: {len(children)} children, {doses[True]} without a dose and {unknown} without "
          f"day of recovery and of survival are left out; of the {len(kept)} others {censored} "
          "were lost before recovery: censored on their last day")  # fmt: skip
    if {child.source for child in kept if child.day is not None} != set(GRAFTS):
        what = "children with a dose and a day of recovery are not there for each source"
        raise DataError(where=f"{path}", what=what, allowed=", ".join(GRAFTS))
    return kept


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("given", metavar="GIVEN.csv", type=Path, help="children to learn from")
    parser.add_argument("held", metavar="HELD.csv", type=Path, nargs="?", help="to predict")
    parser.add_argument("out", metavar="OUT.csv", type=Path, nargs="?", help="written")
    parser.add_argument("--data", type=Path, help="folder of the series of adults")
    parser.add_argument("--bank", type=int, default=2048,
                        help="virtual patients of a source (a power of 2)")  # fmt: skip
    parser.add_argument("--bootstraps", type=int, default=200, help="of the effect of a dose")
    options = parser.parse_args(words)
    if options.held is not None and options.out is None:
        parser.error(sentence(where="OUT.csv", what="not named", remedy="name it after HELD.csv"))
    return options


def main(words: Sequence[str] | None = None) -> None:
    """Read, learn adults, predict children or score."""
    options = arguments(words)
    for path in (options.given, options.held):
        if path is not None and not path.is_file():
            print(f"No data: {path} was not found. Give a file of your children.")
            sys.exit(NO_DATA)
    given = told(options.given, read_children(options.given, outcomes=True), learning=True)
    held = []
    if options.held is not None:
        held = told(options.held, read_children(options.held, outcomes=False), learning=False)
    marrow = MarrowBank()
    adults = fit(marrow, read_series(find_prefix(options.data)), seed=1)
    methods = Methods.made(marrow, adults, given, options.bank)
    if options.held is not None:
        write(options.out, held, methods.of_values(methods.learn(given)[0], held))
        print(f"{options.out} written")
        return
    tell_scores(methods, given)
    tell_effects(methods, given, options.bootstraps)


if __name__ == "__main__":
    run(main)
