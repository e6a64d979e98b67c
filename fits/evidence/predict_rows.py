"""Predict published rows that no calibration has seen: `predict_rows.py ROWS.csv ...`.

    python fits/evidence/predict_rows.py models/evidence/later_outcomes.csv

Files are written as the table of published outcomes is (`models/evidence/README.md`), and rows of
several are scored together. Each row is predicted as its trial would have printed it, for a study
that deviates from others as studies do: by the model, and by the mixture of model, average of
similar trials and regression on doses whose weights left-out studies have told (`--mixture FILE`,
written by `left_out.py`).
With `--ship FILE` the posterior is written as the default of predictions, thinned, with the
coverage of rows of new studies in its record, which `what_is_known.md` of every comparison tells.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from judging.arm_contrasts import arm_contrasts, contrasts_text
from judging.figures import keep, may_be_kept, of_card, of_contrasts, of_pairs
from judging.pairs_of_arms import pairs_of_arms, pairs_text
from judging.remissions import remission_text
from judging.score_figure import draw_scores
from judging.scorecard import (
    AVERAGE,
    MIXTURE,
    MODEL,
    REGRESSION,
    Predicted,
    Scorecard,
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
from judging.stacking import Mixture, mixed, read_mixture
from judging.without_leukaemia import FRIBERG, spread_of_studies, without_leukaemia
from plans import results_folder, write_csv

from pkpd.errors import PkpdError
from pkpd.evidence.criticism.criticism import coverage_table
from pkpd.evidence.criticism.row_predictions import RowCheck, RowsPredicted, predict_table
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.shipped import label_of, shipped_file
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.sampling.simulations import MarrowMaker
from pkpd.evidence.table.learning import joined, load_learning_table, refined
from pkpd.evidence.table.table import EvidenceRow, load_evidence

REPEATS = 8  # of each row and draw
SHIPPED = 1000  # draws of a posterior that ships
PATIENTS = 256  # simulated for an arm and draw, others at each draw
WEIGHTS = Path(__file__).parents[2] / "models" / "evidence" / "mixture.csv"


def predicted(
    posterior: EvidencePosterior, files: Sequence[Path], draws: int
) -> tuple[tuple[RowCheck, ...], dict[str, Predicted], RowsPredicted]:
    """Every row beside its prediction, what is said of it, and the draws."""
    table = reduce(joined, map(load_evidence, files))
    bare = EvidenceLikelihood(refined(table))
    variant = posterior.variant
    make = MarrowMaker(bare.arms, PATIENTS, variant)
    found = predict_table(bare, make, posterior.draws(draws), repeats=REPEATS)
    said = {
        name: predicted_row(row, found.values[name], found.chances[name])
        for name, row in found.rows.items()
    }
    # rows are compared and grouped as they stand in the file
    checks = tuple(replace(c, row=table.row(c.row.id)) for c in found.checks())
    return checks, said, found


def scored(
    checks: Sequence[RowCheck],
    said: Mapping[str, Predicted],
    simulated: Mapping[str, EvidenceRow],
    posterior: EvidencePosterior,
    mixture: Mixture,
    beside: Mapping[str, Mapping[str, Predicted]],
) -> tuple[Scorecard | None, dict[str, Predicted]]:
    """Scores of the rows of studies that were not learned from, beside what they must beat.

    Average and regression see rows at their line of treatment and age (``simulated``, by id), as
    where the weights of the mixture were learned. ``beside`` has what other predictors say, by
    name. What the mixture says comes second.
    """
    rows = [c.row for c in checks if c.row.study not in posterior.studies and of_one_arm(c.row)]
    if not rows:
        return None, {}
    terms = EvidenceLikelihood(load_learning_table()).terms
    terms = [term for term in terms if term.study in posterior.studies]
    finer = [simulated[row.id] for row in rows]
    similar = averages(finer, [row for term in terms for row in term.rows])
    members = {MODEL: said, AVERAGE: similar, REGRESSION: regressions(finer, terms)}
    both = mixed(mixture, rows, members)
    return scorecard(rows, {**members, MIXTURE: both, **beside}), both


def table(
    checks: Sequence[RowCheck], known: Sequence[str], both: Mapping[str, Predicted]
) -> list[dict[str, object]]:
    """One line for each row; what the mixture says is empty where there is nothing to mix."""
    ends = {
        name: np.quantile(one.values, (0.05, 0.5, 0.95), method="inverted_cdf")
        for name, one in both.items()
    }
    return [
        {
            "row": check.row.id,
            "population": check.row.population.name,
            "endpoint": check.row.endpoint.name,
            "patients": check.row.denominator or check.row.n or "",
            "printed": check.observed,
            "lower": check.lower,
            "median": check.median,
            "upper": check.upper,
            "pit": check.pit,
            "inside": int(check.inside),
            "study_was_learned_from": int(check.row.study in known),
            **{
                f"mixture_{name}": ends[check.row.id][i] if check.row.id in ends else ""
                for i, name in enumerate(("lower", "median", "upper"))
            },
        }
        for check in checks
    ]


def mixture_text(row: Mapping[str, object]) -> str:
    """Median and interval of the mixture, in a line."""
    if row["mixture_median"] == "":
        return ""
    lower, median, upper = (row[f"mixture_{k}"] for k in ("lower", "median", "upper"))
    return f"   mixture {median:.3g} ({lower:.3g} to {upper:.3g})"


def main() -> None:
    """Predict and print."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("rows", type=Path, nargs="+", help="CSV files of published rows")
    ask.add_argument("--posterior", type=Path, default=shipped_file(), help="default: the shipped")
    ask.add_argument("--draws", type=int, default=200, help="of the posterior, at least 1")
    ask.add_argument("--beside", action="append", default=[], metavar="NAME=FILE",
                     help="another posterior whose scores stand beside")  # fmt: skip
    ask.add_argument("--mixture", type=Path, default=WEIGHTS, help="weights; default: the shipped")
    ask.add_argument("--out", type=results_folder, help="folder for rows, scores and their figure")
    ask.add_argument("--ship", type=Path, help="write the posterior as a default, with its scores")
    may_be_kept(ask)
    given = ask.parse_args()
    if given.draws < 1:
        ask.error(f"--draws {given.draws}; allowed: at least 1")
    if given.posterior is None:
        ask.error("no posterior is shipped with this installation; name one with --posterior")
    named = [one.partition("=") for one in given.beside]
    try:
        mixture = read_mixture(given.mixture)
        posterior = load_posterior(given.posterior)
        others = {name: load_posterior(Path(file)) for name, _, file in named}
        for file, one in ((given.posterior, posterior), *others.items()):
            one.require_converged(f"predictions of {file}")
        checks, said, drawn = predicted(posterior, given.rows, given.draws)
        beside = {name: predicted(one, given.rows, given.draws)[1] for name, one in others.items()}
    except PkpdError as error:
        sys.exit(str(error))
    friberg, refused = without_leukaemia(list(drawn.rows.values()), spread_of_studies(posterior))
    card, both = scored(checks, said, drawn.rows, posterior, mixture, {FRIBERG: friberg, **beside})
    found = table(checks, posterior.studies, both)
    print(label_of(posterior).text)
    print("printed, the model's median (90 %), and the mixture's of rows of new studies:")
    for row in found:
        printed, lower, median, upper = (row[k] for k in ("printed", "lower", "median", "upper"))
        print(
            f"{row['row']:44} {printed:8.3g}   {median:8.3g} ({lower:.3g} to {upper:.3g})"
            f"{'' if row['inside'] else '  outside'}{mixture_text(row)}"
            f"{'  (study learned from)' if row['study_was_learned_from'] else ''}"
        )
    print(f"\n{coverage_table(checks)}")
    if given.out is not None and found:
        write_csv(given.out / "rows.csv", found)
    if card is None:
        print("\nno row is of one arm of a study that was not learned from: no scores")
        if given.ship is not None:
            sys.exit(f"{given.ship} is not written: a posterior ships with scores; name other rows")
        return
    two = [c.row.id for c in checks if not of_one_arm(c.row)]
    contrasts = [c for c in arm_contrasts(drawn) if c.first.study not in posterior.studies]
    pairs = [p for p in pairs_of_arms(drawn) if p.first.study not in posterior.studies]
    parts = scorecard_text(card), remission_text(card), contrasts_text(contrasts), pairs_text(pairs)
    text = "\n\n".join(parts)
    if two:
        text += f"\nnot scored, since no baseline predicts a difference of arms: {', '.join(two)}"
    if refused:
        text += f"\n{FRIBERG} cannot simulate {len(refused)} rows on counts: {', '.join(refused)}"
    print(f"\nrows of studies that were not learned from:\n{text}")
    if given.out is not None:
        write_csv(given.out / "scores.csv", scorecard_rows(card))
        draw_scores(card, given.out / "scores.svg")
        (given.out / "scores.md").write_text(
            f"# Rows that were not learned from\n\n{label_of(posterior).text}\n\n"
            f"![scores](scores.svg)\n\n```text\n{text}\n```\n", encoding="utf-8",
        )  # fmt: skip
    if given.figures:
        told = {**of_card(card), **of_contrasts(contrasts), "pairs": of_pairs(pairs)}
        keep("_".join(file.stem.partition("_")[0] for file in given.rows), posterior, told)
    if given.ship is not None:
        thin = posterior.thinned(SHIPPED) if posterior.weights.size > SHIPPED else posterior
        with_scores(thin, as_record(card)).save(given.ship, default=True)


if __name__ == "__main__":
    main()
