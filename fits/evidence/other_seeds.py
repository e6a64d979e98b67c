"""Does the posterior depend on a seed? `other_seeds.py --full --out build/evidence`.

Networks with other seeds learn from blocks of the simulations drawn with replacement, as if the
patients and the sets of parameters had been others; chains run on each. Printed are how far means
and standard deviations move, and the answers of the trials that ask for schedule or dose. Needs a
run of `learn.py` with the same folder. With `--runs FILE ...` nothing is trained: posteriors of
whole runs (`learn.py --seed 2`) are compared with the shipped one, and so are the risks of all
cohorts of the shipped trials.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from judging.figures import keep, may_be_kept
from plans import PLANS, arguments, file_name, problem, variant_of, write_csv

import pkpd
from pkpd.cards import card_names, load_trial
from pkpd.evidence import EvidenceLikelihood, LearningPlan
from pkpd.evidence.criticism.schedule_or_dose import (
    Design,
    cohort_rows,
    contrasts,
    delayed_risks,
    design_of,
)
from pkpd.evidence.likelihood.density import TableDensity
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.posterior.learning import emulator_of
from pkpd.evidence.posterior.shipped import shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.sampling.chains import ChainSettings, sample
from pkpd.evidence.table.table import load_evidence
from pkpd.marrow.variants import Variant

SETTINGS = {
    "full": ChainSettings(draws=500, tune=300, chains=4),
    "reduced": ChainSettings(draws=300, tune=300, chains=4, depth=7),
}
FEW = 0.15  # posterior standard deviations that a mean may move
DRAWS = 100  # of the answers
PATIENTS = 512
COMPARED = {"patients": 200, "draws": 1000, "seed": 1}  # of the risks of all cohorts


@dataclass(frozen=True)
class Moved:
    """How far another seed moves the posterior.

    Attributes
    ----------
    shift : float[d]
        Of the means of parameters' scores, in standard deviations of the posterior.
    ratio
        Mean over parameters of the standard deviations, other seed to posterior.
    """

    shift: np.ndarray
    ratio: float


def moved(posterior: np.ndarray, other: np.ndarray) -> Moved:
    """Compare draws of scores ``[K, d]``."""
    sd = posterior.std(axis=0)
    shift = (other.mean(axis=0) - posterior.mean(axis=0)) / sd
    return Moved(shift, float(np.mean(other.std(axis=0) / sd)))


def main() -> None:
    """Train and sample, or read; compare."""
    ask = arguments(__doc__)
    ask.add_argument("--seeds", type=int, default=2, help="how many others, at least 1")
    ask.add_argument(
        "--runs", type=Path, nargs="+", help="posteriors of whole runs, in their place"
    )
    may_be_kept(ask)
    given = ask.parse_args()
    if given.seeds < 1:
        ask.error(f"--seeds {given.seeds}; allowed: at least 1")
    full = given.full or given.runs is not None
    plan, variant = PLANS["full" if full else "reduced"], variant_of(given.variant)
    prior, likelihood = problem(plan, given.variant)
    own = given.out / f"posterior_{file_name(plan, given.variant)}.nc"
    found = shipped_posterior() if given.runs else load_posterior(own)
    if found is None:
        ask.error("--runs compares with the shipped posterior, and none is shipped")
    flat = found.z.reshape(-1, prior.size)
    began = time.monotonic()
    answers = _answers(found.draws(DRAWS), "as learned", variant)
    moves, figures = [], []
    if given.runs:
        others = ((file.stem, load_posterior(file).z) for file in given.runs)
    else:
        others = _networks(given, plan, prior, likelihood, flat)
    for label, z in others:
        how = moved(flat, z.reshape(-1, prior.size))
        moves.append({"seed": label, **dict(zip(prior.names, map(float, how.shift), strict=True))})
        far = int(np.argmax(np.abs(how.shift)))
        beyond, size = int(np.sum(np.abs(how.shift) > FEW)), float(np.sqrt(np.mean(how.shift**2)))
        most = {"most": prior.names[far], "by": float(how.shift[far]), "ratio": how.ratio}
        figures.append({"label": label, "size": size, "beyond": beyond, **most})
        print(
            f"{time.monotonic() - began:7.0f} s  {label}: means move by {size:.2f} posterior SD "
            f"(root mean square), {beyond} of {prior.size} by more than {FEW}, {prior.names[far]} "
            f"by {how.shift[far]:+.2f}; SD {how.ratio:.2f} of the posterior's",
            flush=True,
        )
        answers += _answers(_draws(prior, z), label, variant)
    folder = given.out / f"other_seeds_{file_name(plan, given.variant)}"
    folder.mkdir(exist_ok=True)
    write_csv(folder / "shifts.csv", moves)
    write_csv(folder / "answers.csv", answers)
    print(_table(answers))
    kept: dict[str, object] = {"moved": figures}
    if given.runs:
        first = _risks(found)
        kept["risks"] = [_risks_moved(first, file) for file in given.runs]
    if given.figures:
        keep("runs" if given.runs else "seeds", found, kept)


def _networks(
    given: argparse.Namespace,
    plan: LearningPlan,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    flat: np.ndarray,
) -> Iterator[tuple[str, np.ndarray]]:
    """Draws ``[chains, N, d]`` on networks of other seeds, each with its label."""
    density = TableDensity(likelihood.cells)
    for seed in range(1, given.seeds + 1):
        emulator = emulator_of(
            prior, likelihood, plan, given.out, variant_of(given.variant), another=seed
        )
        settings = replace(SETTINGS[plan.name], cores=given.workers, seed=100 + seed)
        yield f"seed {seed}", sample(prior, density, emulator, settings, flat).z


def _risks(posterior: EvidencePosterior) -> pd.DataFrame:
    """Risk of a DLT of every cohort in the marrow with leukaemia, and its Monte Carlo error."""
    table = pkpd.compare(posterior=posterior, with_questions=False, **COMPARED).table()
    own = table[(table["endpoint"] == "dlt") & (table["posterior"] != "")]
    return own.set_index(["trial", "cohort", "rule"])[["estimate", "mc_error"]]


def _risks_moved(first: pd.DataFrame, file: Path) -> dict[str, object]:
    """How far the risks move under the posterior of a file; the same patients have both."""
    other = _risks(load_posterior(file))
    less = other["estimate"] - first["estimate"]
    error = np.hypot(other["mc_error"], first["mc_error"])
    print(pd.DataFrame({"risk": first["estimate"], "less": less, "error": error}).to_string())
    far = less.abs().idxmax()
    trial, cohort, _ = far  # pyright: ignore
    trials = int(less.index.get_level_values("trial").nunique())
    print(
        f"{file.stem}: {len(less)} risks of {trials} trials move by "
        f"{less.abs().mean():.1%} (mean), {cohort} of {trial} by {less[far]:+.1%}"
    )
    return {
        "label": file.stem,
        "risks": len(less),
        "trials": trials,
        "mean": float(less.abs().mean()),
        "most": f"{trial}, cohort {cohort}",
        "by": float(less[far]),
        "error": float(error[far]),
    }


def _draws(prior: Prior, z: np.ndarray) -> list[dict[str, float]]:
    """Draws evenly along the chains."""
    flat = z.reshape(-1, prior.size)
    places = np.linspace(0, len(flat) - 1, DRAWS).astype(int)
    return [prior.theta(flat[place]) for place in places]


def _answers(
    draws: list[dict[str, float]], which: str, variant: Variant
) -> list[dict[str, object]]:
    """Risks of the cohorts and both contrasts of every trial that asks, at its first pair."""
    designs = {name: design_of(load_trial(name)) for name in card_names("trials")}
    rows: list[dict[str, object]] = []
    for name, design in designs.items():
        if design is not None and design.evidence_row:
            rows += _of_trial(draws, which, name, design, variant)
    return rows


def _of_trial(
    draws: list[dict[str, float]], which: str, name: str, design: Design, variant: Variant
) -> list[dict[str, object]]:
    risks = delayed_risks(load_evidence(), draws, design, variant=variant, patients=PATIENTS)
    first = design.pairs[0]
    rows: list[dict[str, object]] = [
        {
            "posterior": which, "trial": name, "asked": f"{row['days']} days, {row['printed']}",
            "lower": row["lower"], "middle": row["probability"], "upper": row["upper"],
        }
        for row in cohort_rows(risks)
        if (row["neutrophils"], row["platelets"]) == first
    ]  # fmt: skip
    contrast = contrasts(risks)[0]
    for asked in ("schedule", "dose"):
        lower, middle, upper = getattr(contrast, asked)
        rows.append(
            {
                "posterior": which, "trial": name, "asked": f"{asked}, difference",
                "lower": lower, "middle": middle, "upper": upper,
            }
        )  # fmt: skip
    return rows


def _table(answers: list[dict[str, object]]) -> str:
    lines = [f"{'answer':58} {'posterior':24} {'middle':>7}  90 % interval"]
    for row in sorted(answers, key=lambda row: (row["trial"], row["asked"], row["posterior"])):
        asked = f"{row['trial']}: {row['asked']}"
        lines.append(
            f"{asked:58} {row['posterior']:24} {row['middle']:7.1%}  {row['lower']:.1%} to "
            f"{row['upper']:.1%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
