"""Predict every published row from the other studies: `left_out.py --full --out build/evidence`.

Studies are left out in folds; the posterior without a fold is sampled anew and predicts its rows,
beside the average of similar trials and a regression on doses that have not seen them either, and a
marrow without leukaemia, whose cards have seen no row. From these predictions the weights of a
mixture of the first three are learned (`mixture.csv`), which `predict_rows.py` uses; here it
predicts each fold with the weights of the others. Pairs of arms of one study are scored beside "no
difference". Needs a run of `learn.py` with the same folder. With `--ship FILE` the record of that
posterior takes these scores, which `what_is_known.md` of every comparison tells, and the weights
are written beside it.
"""

# ruff: noqa: T201

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from judging.arm_contrasts import ArmContrast, arm_contrasts, contrasts_text
from judging.figures import keep, may_be_kept, of_card, of_contrasts, of_pairs
from judging.pairs_of_arms import Pair, pairs_of_arms, pairs_record, pairs_text
from judging.remissions import remission_text
from judging.score_figure import draw_scores
from judging.scorecard import (
    AVERAGE,
    MIXTURE,
    MODEL,
    REGRESSION,
    Predicted,
    as_record,
    averages,
    of_one_arm,
    predicted_row,
    regressions,
    scorecard,
    scorecard_rows,
    scorecard_text,
    with_scores,
)
from judging.stacking import learn_mixture, mixed_by_fold
from judging.without_leukaemia import FRIBERG, spread_of_studies, without_leukaemia
from plans import PLANS, arguments, file_name, problem, variant_of, write_csv

from pkpd.evidence.criticism.left_out import predict_folds
from pkpd.evidence.posterior.learning import emulator_of
from pkpd.evidence.posterior.stored import load_posterior
from pkpd.evidence.sampling.chains import ChainSettings
from pkpd.evidence.sampling.simulations import MarrowMaker
from pkpd.evidence.table.table import EvidenceRow

PATIENTS = 256  # simulated for an arm and draw, others at each draw
SETTINGS = {
    "full": ChainSettings(draws=700, tune=400, chains=4),
    "reduced": ChainSettings(draws=300, tune=300, chains=4, depth=7),
}


def main() -> None:
    """Leave out, predict, score and write."""
    ask = arguments(__doc__)
    ask.add_argument("--folds", type=int, default=5, help="at least 2")
    ask.add_argument("--draws", type=int, default=200, help="of each posterior")
    ask.add_argument("--seed", type=int, default=1, help="of the run whose simulations are used")
    ask.add_argument("--cluster", metavar="ADDRESS", help="Dask scheduler of the folds, or local")
    ask.add_argument("--ship", type=Path, help="posterior whose record takes the scores")
    may_be_kept(ask)
    given = ask.parse_args()
    if given.folds < 2:
        ask.error(f"--folds {given.folds}; allowed: at least 2")
    plan, variant = PLANS["full" if given.full else "reduced"], variant_of(given.variant)
    plan = replace(plan, seed=given.seed)
    prior, likelihood = problem(plan, given.variant)
    emulator = emulator_of(prior, likelihood, plan, given.out, variant)
    settings = replace(SETTINGS[plan.name], cores=given.workers)
    learned = load_posterior(given.out / f"posterior_{file_name(plan, given.variant)}.nc")
    spread = spread_of_studies(learned)  # of all studies: a favour to the baseline
    rows: list[list[EvidenceRow]] = []
    contrasts: list[ArmContrast] = []
    pairs: list[Pair] = []
    said: dict[str, dict[str, Predicted]] = {MODEL: {}, AVERAGE: {}, REGRESSION: {}, FRIBERG: {}}
    began = time.monotonic()
    folds = predict_folds(
        emulator, prior, likelihood, lambda own: MarrowMaker(own.arms, PATIENTS, variant),
        settings, folds=given.folds, draws=given.draws, cluster=given.cluster, jobs=given.workers,
    )  # fmt: skip
    for fold in folds:
        if given.figures or given.ship is not None:
            fold.posterior.require_converged("scores of left-out studies")
        others = [term for term in likelihood.terms if term.study not in fold.studies]
        mine = list(fold.rows.rows.values())
        rows.append([row for row in mine if of_one_arm(row)])
        contrasts += arm_contrasts(fold.rows)
        pairs += pairs_of_arms(fold.rows)
        said[MODEL] |= {
            row.id: predicted_row(row, fold.rows.values[row.id], fold.rows.chances[row.id])
            for row in mine
        }
        said[AVERAGE] |= averages(mine, [row for term in others for row in term.rows])
        # ratios and differences have no dose of their own
        one_arm = [row for row in mine if row.other_schedule is None]
        said[REGRESSION] |= regressions(one_arm, others)
        said[FRIBERG] |= without_leukaemia(mine, spread)[0]
        worse = "; ".join(fold.posterior.problems) or "converged"
        print(
            f"{time.monotonic() - began:7.0f} s  {len(fold.studies)} studies, {worse}", flush=True
        )
    kept = [row for fold in rows for row in fold]
    said[MIXTURE] = mixed_by_fold(rows, said)
    card = scorecard(kept, said)
    parts = scorecard_text(card), remission_text(card), contrasts_text(contrasts), pairs_text(pairs)
    text = "\n\n".join(parts)
    folder = given.out / f"left_out_{file_name(plan, given.variant)}"
    folder.mkdir(exist_ok=True)
    write_csv(folder / "scores.csv", scorecard_rows(card))
    weights = learn_mixture(kept, said).lines()
    write_csv(folder / "mixture.csv", weights)
    draw_scores(card, folder / "scores.svg")
    (folder / "scores.md").write_text(
        "# Rows predicted from the other studies\n\n![scores](scores.svg)\n\n"
        f"```text\n{text}\n```\n",
        encoding="utf-8",
    )
    print(text)
    if given.figures:
        found = {**of_card(card), **of_contrasts(contrasts), "pairs": of_pairs(pairs)}
        keep("left_out", learned, {**found, "weights": weights})
    if given.ship is not None:
        scores = as_record(card) | {"pairs": pairs_record(pairs)}
        posterior = with_scores(load_posterior(given.ship), {"left_out": scores})
        posterior.save(given.ship, default=True)
        write_csv(given.ship.with_name("mixture.csv"), weights)


if __name__ == "__main__":
    main()
