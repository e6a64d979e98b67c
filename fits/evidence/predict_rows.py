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
from pkpd.evidence.likelihood.log_sums import log_sum
from pkpd.evidence.likelihood.parameters import marrow_effects
from pkpd.evidence.likelihood.simulator import MarrowSimulator, patients_by_arm
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.shipped import label_of, shipped_file
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.table.arms import ArmSeen
from pkpd.evidence.table.table import load_evidence

PLAN = PLANS["full"]
REPEATS = 8
SHIPPED = 1000  # draws of a posterior that ships


def predicted(
    posterior: EvidencePosterior, rows: Path, draws: int
) -> tuple[tuple[RowCheck, ...], dict[str, float]]:
    """Every row beside its prediction, and the log predictive probability of each term."""
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
    likelihood, each = bare.with_simulator(simulator), []

    def keep(theta: Mapping[str, float], seen: Mapping[str, ArmSeen]) -> None:
        each.append(likelihood.evaluate(theta, seen).by_term)

    checks = predictive_checks(likelihood, posterior.draws(draws), repeats=REPEATS, on_draw=keep)
    names = ["+".join(row.id for row in term.rows) for term in likelihood.terms]
    by_term = log_sum(np.array(each), axis=0) - np.log(draws)
    return checks, dict(zip(names, map(float, by_term), strict=True))


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


def tested(checks: Sequence[RowCheck]) -> dict[str, int]:
    """Coverage of 90 % intervals, as a posterior's record keeps it."""
    return {
        "rows": len(checks),
        "studies": len({check.row.study for check in checks}),
        "inside": sum(check.inside for check in checks),
    }


def main() -> None:
    """Predict and print."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("rows", type=Path, help="CSV file of published rows")
    ask.add_argument("--posterior", type=Path, default=shipped_file(), help="default: the shipped")
    ask.add_argument("--draws", type=int, default=200, help="of the posterior, at least 1")
    ask.add_argument("--out", type=Path, help="also write the table as CSV")
    ask.add_argument("--ship", type=Path, help="write the posterior as a default, with coverage")
    given = ask.parse_args()
    if given.draws < 1:
        ask.error(f"--draws {given.draws}; allowed: at least 1")
    if given.posterior is None:
        ask.error("no posterior is shipped with this installation; name one with --posterior")
    try:
        posterior = load_posterior(given.posterior)
        checks, scores = predicted(posterior, given.rows, given.draws)
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
    new = [check for check in checks if check.row.study not in posterior.studies]
    if 0 < len(new) < len(checks):
        print(f"\nrows of studies that were not learned from:\n{coverage_table(new)}")
    print(f"\nlog score {sum(scores.values()):.1f} of {len(scores)} terms")
    if given.out is not None:
        write_csv(given.out, found)
    if given.ship is not None:
        thin = posterior.thinned(min(SHIPPED, posterior.weights.size))
        replace(thin, record={**thin.record, "tested": tested(new)}).save(given.ship, default=True)


if __name__ == "__main__":
    main()
