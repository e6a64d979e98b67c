"""Searches of covariates in simulated studies: power, false inclusions, scores beside ratios.

Studies of a drug given once, one compartment, a few samples each; weight acts on clearance and
volume and age on clearance, sex and four covariates made of noise on nothing. Prints how often each
relation is kept, how the score of each candidate goes with its ratio of likelihoods in the first
step, and seconds.

    python -m benchmarks.covariate_search --studies 40
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy import stats

import pkpd
from pkpd.checks import covariate_search
from pkpd.models import PopulationModel, compartments, covariate, parameter, residual

TIMES = np.array([0.5, 2.0, 6.0, 12.0, 24.0])
TRUE = {("CL", "WT"), ("V", "WT"), ("CL", "AGE")}
NOISE = ("X1", "X2", "X3", "X4")


def study(rng: np.random.Generator, n: int, effects: bool) -> pkpd.data.Dataset:
    """Simulate a study of ``n`` subjects, with or without effects of covariates."""
    weight = 70.0 * np.exp(0.25 * rng.standard_normal(n))
    age = rng.uniform(20.0, 80.0, n)
    known = {"WT": weight, "AGE": age, "SEX": (np.arange(n) % 2).astype(float)}
    known |= {name: rng.standard_normal(n) for name in NOISE}
    on = 1.0 if effects else 0.0
    clearance = 5.0 * (weight / 70.0) ** (0.75 * on) * np.exp(-0.01 * on * (age - 50.0))
    clearance *= np.exp(0.3 * rng.standard_normal(n))
    volume = 40.0 * (weight / 70.0) ** on * np.exp(0.2 * rng.standard_normal(n))
    seen = 400.0 / volume[:, None] * np.exp(-(clearance / volume)[:, None] * TIMES)
    seen *= 1.0 + 0.15 * rng.standard_normal(seen.shape)
    size = 1 + len(TIMES)
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(1, n + 1), size),
            "TIME": np.tile(np.concatenate([[0.0], TIMES]), n),
            "AMT": np.tile([400.0] + [0.0] * len(TIMES), n),
            "DV": np.column_stack([np.zeros(n), seen]).ravel(),
            "EVID": np.tile([1] + [0] * len(TIMES), n),
        }
        | {name: np.repeat(values, size) for name, values in known.items()}
    )
    return pkpd.read_nonmem(table, covariates=list(known))


def model() -> PopulationModel:
    """Give the model that a search begins with."""
    parameters = [parameter("CL", 5.0, iiv=0.4), parameter("V", 40.0, iiv=0.4)]
    return PopulationModel(compartments(1), parameters, residual.proportional(0.15))


def main() -> None:
    """Search in every study and print what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=40)
    options.add_argument("--subjects", type=int, default=40)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--null", action="store_true", help="no covariate acts on anything")
    given = options.parse_args()
    rng = np.random.default_rng(given.seed)
    kept: list[set[tuple[str, str]]] = []
    first: list[pd.DataFrame] = []
    took, fits, failed = list[float](), 0, 0
    each = [covariate.power("WT", 70.0), "AGE", "SEX", *NOISE]
    candidates = {"CL": each, "V": each}
    for _ in range(given.studies):
        data = study(rng, given.subjects, not given.null)
        base = pkpd.fit(model(), data, method="focei", progress=False, covariance=None)
        began = time.perf_counter()
        found = covariate_search(base, candidates, forms=["exponential"])
        took.append(time.perf_counter() - began)
        # all candidates of the first step once more, to hold scores beside ratios
        steps = covariate_search(
            base, candidates, forms=["exponential"], fits=99, forward=1e-12
        ).steps
        first.append(steps[steps["step"] == 1])
        fits += int((found.steps["decision"] != "not fitted").sum())
        failed += len(found.failed)
        kept.append({(r.split(" ~ ")[0], r.split(" ~ ")[1].split(",")[0]) for r in found.relations})
    true = set() if given.null else TRUE
    print(f"{given.studies} studies of {given.subjects} subjects, seed {given.seed}")
    for pair in sorted(true):
        share = np.mean([pair in one for one in kept])
        print(f"{pair[0]} ~ {pair[1]}: kept in {share:.0%}")
    tried = {(p, c) for p in ("CL", "V") for c in ("WT", "AGE", "SEX", *NOISE)} - true
    wrong = sum(len(one - true) for one in kept)
    print(f"false: {wrong} of {given.studies * len(tried)} relations tried, in "
          f"{np.mean([bool(one - true) for one in kept]):.0%} of the studies")  # fmt: skip
    every = pd.concat(first)
    score, ratio = every["score"].to_numpy(), -every["difference"].to_numpy()
    good = np.isfinite(ratio)
    print(f"scores beside ratios of {good.sum()} candidates: correlation "
          f"{np.corrcoef(score[good], ratio[good])[0, 1]:.4f}, of ranks "
          f"{stats.spearmanr(score[good], ratio[good]).statistic:.4f}")  # fmt: skip
    top = [
        one.sort_values("score").iloc[-1]["relation"] == one.sort_values("p").iloc[0]["relation"]
        for one in first
    ]
    within = [
        one.sort_values("p").iloc[0]["relation"]
        in one.sort_values("score_p")["relation"].tolist()[:3]
        for one in first
    ]
    print(f"best ratio has the best score in {np.mean(top):.0%}, one of the best three in "
          f"{np.mean(within):.0%} of the studies")  # fmt: skip
    null = every if given.null else every[every["covariate"].isin(["SEX", *NOISE])]
    values = null["score"].to_numpy()
    test = stats.kstest(values, stats.chi2(1).cdf)
    share = np.mean(values > stats.chi2.ppf(0.95, 1))
    print(f"scores of relations that are none: {len(values)}, mean {values.mean():.3f} (1), "
          f"{share:.1%} above 3.84 (5 %), Kolmogorov-Smirnov p = {test.pvalue:.2f}")  # fmt: skip
    print(f"{fits} fits, {failed} failed; a search took {np.median(took):.1f} s (median)")


if __name__ == "__main__":
    main()
