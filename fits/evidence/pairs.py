"""Do differences between arms come true in studies that a posterior has not seen? In minutes.

    python fits/evidence/pairs.py --ship models/evidence/posterior.nc

Pairs of arms of studies that were never learned from (`unseen_outcomes.csv`, `later_outcomes.csv`),
and of those that were, each left out of the posterior by importance weights. Where these cannot be
trusted (Pareto's k-hat above 0.7) a study's pairs are not scored and it is named; `left_out.py`
samples the posterior without each fold of studies anew, which takes an hour. With `--ship FILE` the
record of that posterior takes the scores of the first.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

import numpy as np
from judging.arm_contrasts import alike
from judging.figures import keep, may_be_kept, of_pairs
from judging.pairs_of_arms import Pair, pairs_of_arms, pairs_record, pairs_text
from judging.scorecard import with_scores
from plans import ROOT

from pkpd.errors import PkpdError
from pkpd.evidence import EvidenceLikelihood, load_learning_table
from pkpd.evidence.criticism.criticism import leave_studies_out
from pkpd.evidence.criticism.psis import LIMIT
from pkpd.evidence.criticism.row_predictions import predict_table
from pkpd.evidence.likelihood.total import only_studies
from pkpd.evidence.posterior.shipped import HOW_TO_GET_ONE, shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.sampling.simulations import MarrowMaker
from pkpd.evidence.table.learning import joined, refined
from pkpd.evidence.table.table import load_evidence

REPEATS = 2  # offsets of a study at each draw
UNSEEN = ("unseen_outcomes.csv", "later_outcomes.csv")


def main() -> None:
    """Predict, score and write."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--draws", type=int, default=400, help="of the posterior")
    ask.add_argument("--patients", type=int, default=64, help="of an arm, others at each draw")
    ask.add_argument("--ship", type=Path, help="posterior whose record takes the scores")
    may_be_kept(ask)
    given = ask.parse_args()
    try:
        posterior = shipped_posterior() if given.ship is None else load_posterior(given.ship)
        if posterior is None:
            raise PkpdError(where="pairs", what="no posterior is shipped", remedy=HOW_TO_GET_ONE)
        posterior.require_converged("pairs of arms")
    except PkpdError as error:
        sys.exit(str(error))
    size = given.draws, given.patients
    first, second = (load_evidence(ROOT / "models" / "evidence" / file) for file in UNSEEN)
    new = EvidenceLikelihood(refined(joined(first, second)))
    unseen = pairs_in(posterior, new, set(new.studies) - set(posterior.studies), *size)
    learned = EvidenceLikelihood(load_learning_table())
    left_out = leave_studies_out(posterior, learned)
    trusted = {study.study: study.weights for study in left_out if study.khat <= LIMIT}
    others = pairs_in(posterior, learned, learned.studies, *size, trusted)
    scored = [*unseen, *(pair for pair in others if pair.first.study in trusted)]
    doubtful = sorted({pair.first.study for pair in others} - set(trusted))
    told = (
        ("", scored),
        ("Of studies that were never learned from", unseen),
        ("Of studies left out", scored[len(unseen) :]),
        ("With those whose weights cannot be trusted", [*unseen, *others]),
    )
    print("\n\n".join(f"{head}\n{pairs_text(pairs)}" for head, pairs in told))
    print(f"\n{len(doubtful)} studies whose weights cannot be trusted: {', '.join(doubtful)}")
    if given.figures:
        never = of_pairs(unseen), of_pairs(scored[len(unseen) :])
        found = {"all": of_pairs(scored), "never": never[0], "left_out": never[1]}
        keep("pairs", posterior, {**found, "doubtful": doubtful})
    if given.ship is not None:
        with_scores(posterior, {"pairs": pairs_record(unseen)}).save(given.ship, default=True)


def pairs_in(
    posterior: EvidencePosterior,
    likelihood: EvidenceLikelihood,
    studies: Collection[str],
    draws: int,
    patients: int,
    weights: dict[str, np.ndarray] | None = None,
) -> list[Pair]:
    """Predict the pairs of arms of some studies; ``weights`` of all draws leave a study out."""
    counts = [row for term in likelihood.terms for row in term.rows if row.endpoint.kind == "count"]
    counts = [row for row in counts if row.study in studies]
    own = only_studies(
        likelihood, {one.study for one, other in combinations(counts, 2) if alike(one, other)}
    )
    found = predict_table(
        own, MarrowMaker(own.arms, patients, posterior.variant),
        posterior.draws(draws, 1), repeats=REPEATS,
    )  # fmt: skip
    chosen = posterior.chosen(draws, 1)
    # the chosen draws stand for the posterior: the weights that remain are ratios to it
    base = np.maximum(posterior.weights.ravel()[chosen], 1e-300)
    every = {s: np.repeat(w[chosen] / base, REPEATS) for s, w in (weights or {}).items()}
    return pairs_of_arms(found, every)


if __name__ == "__main__":
    main()
