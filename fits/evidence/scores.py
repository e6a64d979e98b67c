"""Coverage and log score of rows predicted from the other studies, beside two baselines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sampling import Plan, folder_of, likelihood_of, prior_of

from pkpd.evidence.criticism.baselines import left_out_scores, score_table
from pkpd.evidence.criticism.criticism import (
    LeftOutStudy,
    RowCheck,
    coverage_table,
    leave_studies_out,
)
from pkpd.evidence.criticism.psis import LIMIT, smoothed_weights
from pkpd.evidence.criticism.refit import refit_without
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.sampling.smc import with_seed


def high_khats(posterior: EvidencePosterior, limit: float = LIMIT) -> dict[str, float]:
    """Studies that importance weights cannot leave out, with their k-hat."""
    base = np.log(np.maximum(posterior.weights.ravel(), 1e-300))
    found = {}
    for index, study in enumerate(posterior.studies):
        khat = smoothed_weights(base - posterior.by_study[..., index].ravel())[1]
        if khat > limit:
            found[study] = khat
    return found


def refit_study(plan: Plan, out: Path, variant: str, study: str) -> EvidencePosterior:
    """Posterior without a study, sampled or read if it is there."""
    folder = folder_of(out, plan, variant)
    file = folder / f"without_{re.sub(r'[^A-Za-z0-9]+', '_', study)}.nc"
    sampled = max(run.stat().st_mtime for run in folder.glob("run*.npz"))
    # one from runs that were sampled again since is of no use
    if file.exists() and file.stat().st_mtime >= sampled:
        return load_posterior(file)
    posterior = load_posterior(folder / "posterior.nc")
    settings = with_seed(plan.refit, plan.refit.seed + 100 * (1 + posterior.studies.index(study)))
    without = refit_without(
        posterior, prior_of(plan), likelihood_of(plan, variant), settings, (study,)
    )
    without.save(file)
    return without


def left_out(
    plan: Plan,
    out: Path,
    variant: str,
    posterior: EvidencePosterior,
    likelihood: EvidenceLikelihood,
) -> tuple[LeftOutStudy, ...]:
    """Predict each study from the others, sampled anew where k-hat is high."""
    return leave_studies_out(
        posterior, likelihood, lambda study: refit_study(plan, out, variant, study)
    )


def scores_text(
    likelihood: EvidenceLikelihood,
    ours: Sequence[LeftOutStudy],
    friberg: Sequence[LeftOutStudy],
) -> tuple[str, list[dict[str, object]]]:
    """Log scores of the model and of both baselines: as text, and by term."""
    names = ["+".join(row.id for row in term.rows) for term in likelihood.terms]
    kinds = {name: term.kind for name, term in zip(names, likelihood.terms, strict=True)}
    mine = by_term(ours)
    others = {
        "plain Friberg": by_term(friberg),
        "dose regression": left_out_scores(
            likelihood.terms, [(study,) for study in likelihood.studies]
        ),
    }
    rows: list[dict[str, object]] = [
        {
            "term": name,
            "kind": kinds[name],
            "model": mine[name],
            **{other: scores.get(name, "") for other, scores in others.items()},
        }
        for name in names
    ]
    text = [score_table(mine, others, kinds), "", khat_line("model", ours)]
    text.append(khat_line("plain Friberg", friberg))
    return "\n".join(text), rows


def by_term(left: Iterable[LeftOutStudy]) -> dict[str, float]:
    """Log predictive probability of each term, left out."""
    return {name: value for study in left for name, value in study.by_term.items()}


def khat_line(name: str, left: Sequence[LeftOutStudy]) -> str:
    """Say how many studies could be left out by weights."""
    high = [s for s in left if not s.refitted and s.khat > LIMIT]
    again = sum(s.refitted for s in left)
    told = f": {', '.join(f'{s.study} {s.khat:.2f}' for s in high)}" if high else ""
    return (
        f"{name}: {len(left)} studies, {again} sampled anew without, {len(high)} left out by "
        f"weights that cannot be trusted (k-hat above {LIMIT:g}){told}"
    )


def checks_text(checks: Sequence[RowCheck], title: str) -> str:
    """Coverage and the rows outside."""
    return f"{title}\n{coverage_table(checks)}"


def check_rows(fitted: Sequence[RowCheck], left: Sequence[RowCheck]) -> list[dict[str, object]]:
    """Rows of the CSV file of checks."""
    other = {check.row.id: check for check in left}
    return [
        {
            "row": check.row.id,
            "line": check.row.line,
            "kind": check.kind,
            "printed": check.observed,
            **_told("posterior", check),
            **_told("left_out", other[check.row.id]),
        }
        for check in fitted
    ]


def _told(name: str, check: RowCheck) -> Mapping[str, object]:
    return {
        f"{name}_lower": check.lower,
        f"{name}_median": check.median,
        f"{name}_upper": check.upper,
        f"{name}_pit": check.pit,
        f"{name}_inside": int(check.inside),
    }


def write_csv(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
