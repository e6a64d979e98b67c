"""Predict published rows that no calibration has seen: `predict_rows.py ROWS.csv`.

    python fits/evidence/predict_rows.py models/evidence/later_outcomes.csv

The file is written as the table of published outcomes is (`models/evidence/README.md`). Each row is
predicted as its trial would have printed it, for a study that deviates from others as studies do.
With `--ship FILE` the posterior is written as the default of predictions, thinned, with the
coverage of rows of new studies in its record, which `what_is_known.md` of every comparison tells.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sampling import PLANS
from scores import write_csv

from pkpd.errors import DataError, PkpdError, sentence
from pkpd.evidence.criticism.criticism import RowCheck, coverage_table, predictive_checks
from pkpd.evidence.criticism.score_figure import draw_scores
from pkpd.evidence.criticism.scorecard import (
    AVERAGE,
    MODEL,
    REGRESSION,
    Predicted,
    Scorecard,
    as_record,
    averages,
    predicted_row,
    regressions,
    scorecard,
    scorecard_rows,
    scorecard_text,
)
from pkpd.evidence.likelihood.parameters import marrow_effects
from pkpd.evidence.likelihood.simulator import MarrowSimulator, patients_by_arm
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.shipped import label_of, shipped_file
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.table.table import EvidenceRow, load_evidence

PLAN = PLANS["full"]
REPEATS = 8  # of each row and draw
SHIPPED = 1000  # draws of a posterior that ships


def predicted(
    posterior: EvidencePosterior, rows: Path, draws: int
) -> tuple[tuple[RowCheck, ...], dict[str, Predicted]]:
    """Every row beside its prediction, and what is said of it."""
    bare = EvidenceLikelihood(load_evidence(rows), effects=marrow_effects(PLAN.nodes))
    if not bare.terms:
        raise DataError(
            sentence(
                where=str(rows),
                what="no row can be predicted",
                remedy="look at the endpoints of models/evidence/README.md, and at column unused",
            )
        )
    patients = patients_by_arm(bare, *PLAN.patients)
    simulator = MarrowSimulator(bare.arms, patients, steps_per_day=PLAN.steps)
    said: dict[str, Predicted] = {}

    def keep(row: EvidenceRow, values: np.ndarray, chances: np.ndarray) -> None:
        said[row.id] = predicted_row(row, values, chances)

    checks = predictive_checks(
        bare.with_simulator(simulator), posterior.draws(draws), repeats=REPEATS, on_values=keep
    )
    return checks, said


def scored(
    checks: Sequence[RowCheck],
    said: Mapping[str, Predicted],
    posterior: EvidencePosterior,
    beside: Mapping[str, Mapping[str, Predicted]],
) -> Scorecard | None:
    """Scores of the rows of studies that were not learned from, beside what they must beat."""
    rows = [c.row for c in checks if c.row.study not in posterior.studies]
    if not rows:
        return None
    bare = EvidenceLikelihood(load_evidence(), effects=marrow_effects(PLAN.nodes))
    terms = [term for term in bare.terms if term.study in posterior.studies]
    similar = averages(rows, [row for term in terms for row in term.rows])
    others = {AVERAGE: similar, REGRESSION: regressions(rows, terms), **beside}
    return scorecard(rows, {MODEL: said, **others})


def table(checks: Sequence[RowCheck], known: Sequence[str]) -> list[dict[str, object]]:
    """One line for each row."""
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
        }
        for check in checks
    ]


def main() -> None:
    """Predict and print."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("rows", type=Path, help="CSV file of published rows")
    ask.add_argument("--posterior", type=Path, default=shipped_file(), help="default: the shipped")
    ask.add_argument("--draws", type=int, default=200, help="of the posterior, at least 1")
    ask.add_argument("--beside", action="append", default=[], metavar="NAME=FILE",
                     help="another posterior whose scores stand beside")  # fmt: skip
    ask.add_argument("--out", type=Path, help="folder for rows, scores and their figure")
    ask.add_argument("--ship", type=Path, help="write the posterior as a default, with its scores")
    given = ask.parse_args()
    if given.draws < 1:
        ask.error(f"--draws {given.draws}; allowed: at least 1")
    if given.posterior is None:
        ask.error("no posterior is shipped with this installation; name one with --posterior")
    named = [one.partition("=") for one in given.beside]
    try:
        posterior = load_posterior(given.posterior)
        checks, said = predicted(posterior, given.rows, given.draws)
        beside = {
            name: predicted(load_posterior(Path(file)), given.rows, given.draws)[1]
            for name, _, file in named
        }
    except PkpdError as error:
        sys.exit(str(error))
    found = table(checks, posterior.studies)
    print(label_of(posterior).text)
    for row in found:
        printed, lower, median, upper = (row[k] for k in ("printed", "lower", "median", "upper"))
        print(
            f"{row['row']:44} {printed:8.3g}   {median:8.3g} ({lower:.3g} to {upper:.3g})"
            f"{'' if row['inside'] else '  outside'}"
            f"{'  (study learned from)' if row['study_was_learned_from'] else ''}"
        )
    print(f"\n{coverage_table(checks)}")
    card = scored(checks, said, posterior, beside)
    if card is None:
        print("\nall rows are of studies that were learned from: no scores")
        return
    text = scorecard_text(card)
    print(f"\nrows of studies that were not learned from:\n{text}")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        write_csv(given.out / "rows.csv", found)
        write_csv(given.out / "scores.csv", scorecard_rows(card))
        draw_scores(card, given.out / "scores.svg")
        (given.out / "scores.md").write_text(
            f"# Rows that were not learned from\n\n{label_of(posterior).text}\n\n"
            f"![scores](scores.svg)\n\n```text\n{text}\n```\n", encoding="utf-8",
        )  # fmt: skip
    if given.ship is not None:
        thin = posterior.thinned(SHIPPED) if posterior.weights.size > SHIPPED else posterior
        replace(thin, record={**thin.record, "tested": as_record(card)}).save(
            given.ship, default=True
        )


if __name__ == "__main__":
    main()
