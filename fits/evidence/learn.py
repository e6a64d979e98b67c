"""Learn the marrow with leukaemia from published outcomes, and say how good it is.

    python fits/evidence/learn.py --out build/evidence             # few studies and parameters
    python fits/evidence/learn.py --full --out build/evidence

Simulations are kept in the folder; a run that is stopped goes on from them. Written are the
posterior, its report, and tables of landmarks, of what was learned, of what held it, and of the
trials that ask for schedule or dose.
"""

# ruff: noqa: T201

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from judging.figures import keep, may_be_kept
from landmarks import Landmark, landmark_table, landmarks
from plans import PLANS, arguments, file_name, problem, variant_of, write_csv

from pkpd.cards import card_names, load_trial
from pkpd.evidence.criticism.criticism import influence, influence_table
from pkpd.evidence.criticism.schedule_or_dose import (
    Contrast,
    Design,
    cohort_rows,
    contrasts,
    delayed_risks,
    design_of,
    table_text,
)
from pkpd.evidence.likelihood.density import TableDensity
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.learned import learned, learned_table
from pkpd.evidence.posterior.learning import Learned, exact_totals, learn, totals
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.sampling.simulations import MarrowMaker, Task
from pkpd.evidence.table.table import load_evidence
from pkpd.marrow.variants import Variant

EXACT = 512  # patients of an arm where the emulator is checked
POINTS = 8  # posterior draws at which it is, each with patients of two seeds
DRAWS = 200  # of predictions
PATIENTS = 512  # of an arm, in predictions


def main() -> None:
    """Learn, and report."""
    ask = arguments(__doc__)
    ask.add_argument("--cluster", metavar="ADDRESS", help="Dask scheduler that simulates, or local")
    ask.add_argument("--no-report", action="store_true", help="the posterior and its checks alone")
    ask.add_argument("--rows", type=Path, help="rows of one's own to learn from, too (.csv)")
    ask.add_argument("--seed", type=int, default=1, help="of patients, networks and chains")
    may_be_kept(ask)
    given = ask.parse_args()
    plan, variant = PLANS["full" if given.full else "reduced"], variant_of(given.variant)
    chains = replace(plan.chains, seed=given.seed, cores=given.workers)
    plan = replace(plan, seed=given.seed, chains=chains)
    prior, likelihood = problem(plan, given.variant, given.rows)
    from_nothing = not any(given.out.glob(f"simulations_*/round*_{plan.seed}"))
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {line}", flush=True)

    say(
        f"{len(likelihood.terms)} terms of {len(likelihood.studies)} studies, "
        f"{len(likelihood.arms)} arms, {prior.size} parameters"
    )
    got = learn(
        prior, likelihood, plan, folder=given.out, workers=given.workers, cluster=given.cluster,
        variant=variant, say=say,
    )  # fmt: skip
    name = file_name(plan, given.variant)
    # a reduced posterior knows too well what it holds
    fit_for_use = got.posterior.converged and plan.name == "full"
    got.posterior.save(given.out / f"posterior_{name}.nc", default=fit_for_use)
    say(f"sampled, {got.posterior.record['gradients']:.0f} gradients a draw")
    checked = checked_exactly(got, prior, likelihood, variant)
    pages = [
        f"posterior_{name}.nc {'may' if fit_for_use else 'must not'} be the default of predictions",
        got.checked.table(),
        checked.text(),
    ]
    say("checked against simulation")
    minutes = (time.monotonic() - began) / 60.0
    if not given.no_report and got.posterior.converged:
        folder = given.out / name
        folder.mkdir(exist_ok=True)
        found = landmarks_of(got.posterior, folder)
        pages += [
            f"Landmarks\n{landmark_table(found)}",
            parameter_part(got.posterior, folder),
            *schedule_parts(got.posterior, folder),
        ]
        say("reported")
        if given.figures:
            took = {"minutes": minutes, "from_nothing": from_nothing}
            figures = run_figures(got, checked, found)
            keep("run", got.posterior, {**took, **figures, "answers": answers_of(folder)})
    elif not got.posterior.converged:
        pages.append("No landmark and no answer is given: " + "; ".join(got.posterior.problems))
    text = "\n\n".join(pages) + "\n"
    (given.out / f"report_{name}.txt").write_text(text, encoding="utf-8")
    print(text)


@dataclass(frozen=True)
class Checked:
    """How far an emulator's log likelihoods of the table are from those of simulations.

    Attributes
    ----------
    halves
        Standard deviation of its error, from two halves of the simulations.
    mean, sd
        Of the emulator less the mean of two simulations of `EXACT` patients of an arm, over
        `POINTS` posterior draws.
    patients
        Standard deviation of that mean by the chance of the patients.
    """

    halves: float
    mean: float
    sd: float
    patients: float

    def text(self) -> str:
        """Print it."""
        return (
            f"Error of the emulator in the log likelihood of the table, from two halves of the "
            f"simulations: SD {self.halves:.2f}\n"
            f"Emulator less simulation of {EXACT} patients of an arm at {POINTS} posterior draws: "
            f"mean {self.mean:+.2f}, SD {self.sd:.2f}; of which the patients' error is "
            f"{self.patients:.2f}"
        )


def checked_exactly(
    got: Learned, prior: Prior, likelihood: EvidenceLikelihood, variant: Variant
) -> Checked:
    """Compare the emulator with itself, and with simulations of many patients."""
    task = Task(MarrowMaker(likelihood.arms, EXACT, variant), likelihood.cells, prior)
    flat = got.posterior.z.reshape(-1, prior.size)
    points = flat[:: max(1, len(flat) // POINTS)][:POINTS]
    density = TableDensity(likelihood.cells)
    exact = np.array([exact_totals(task, density, points, seed) for seed in (1, 2)])
    off = totals(got.emulator, prior, density, points) - exact.mean(axis=0)
    patients = 0.5 * (exact[0] - exact[1]).std(ddof=1)
    return Checked(got.noise, float(off.mean()), float(off.std(ddof=1)), float(patients))


def run_figures(got: Learned, checked: Checked, found: Sequence[Landmark]) -> dict[str, object]:
    """Gather what documents print of a run."""
    table, record = got.checked, got.posterior.record
    left = np.sqrt([max(1.0 - one.contraction, 0.0) for one in learned(got.posterior)])
    return {
        "simulations": len(got.simulations),
        "parameters": len(table.names),
        "rhat": float(np.max(table.rhat)),
        "ess": float(np.min(table.bulk)),
        "divergent": table.divergent,
        "gradients": record["gradients"],
        "emulator": asdict(checked),
        "learned": {"half": int((left <= 0.5).sum()), "fifth": int((left <= 0.8).sum())},
        "landmarks": {
            "inside": sum(one.inside for one in found),
            "of": len(found),
            "outside": [one.name for one in found if not one.inside],
            "each": [asdict(one) for one in found],
        },
    }


def answers_of(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Answers of the trials that ask for schedule or dose, at each pair of thresholds."""
    found: dict[str, list[dict[str, object]]] = {}
    for file in sorted(folder.glob("*_contrasts.csv")):
        name = file.stem.removesuffix("_contrasts")
        cohorts = pd.read_csv(folder / f"{name}_cohorts.csv")
        pairs = cohorts.groupby(["neutrophils", "platelets"], sort=False)["probability"]
        found[name] = [
            {
                "counts": f"{one.neutrophils:g} and {one.platelets:g}",
                "risk": [
                    float(end(pairs.get_group((one.neutrophils, one.platelets))))
                    for end in (np.min, np.max)
                ],
                **{
                    asked: [getattr(one, f"{asked}_{end}") for end in ("lower", "median", "upper")]
                    for asked in ("schedule", "dose")
                },
            }
            for one in pd.read_csv(file).itertuples()
        ]  # fmt: skip
    return found


def landmarks_of(posterior: EvidencePosterior, folder: Path) -> tuple[Landmark, ...]:
    """Landmarks with their intervals."""
    found = tuple(
        landmarks(
            load_evidence(), posterior.draws(DRAWS), variant=posterior.variant, patients=PATIENTS
        )
    )
    write_csv(folder / "landmarks.csv", [{**asdict(e), "inside": int(e.inside)} for e in found])
    return found


def parameter_part(posterior: EvidencePosterior, folder: Path) -> str:
    """Prior against posterior, and the rows that hold each parameter."""
    rows = [{**asdict(entry), "verdict": entry.verdict} for entry in learned(posterior)]
    write_csv(folder / "learned.csv", rows)
    matrix = influence(posterior)
    table = [
        {"term": term, **dict(zip(posterior.names, map(float, matrix[i]), strict=True))}
        for i, term in enumerate(posterior.terms)
    ]
    write_csv(folder / "influence.csv", table)
    return (
        f"Prior against posterior\n{learned_table(posterior)}\n\n"
        "Rows that hold each parameter where it is (shift of its mean, in posterior SDs, if the "
        f"row counted less)\n{influence_table(posterior, most=4)}"
    )


def schedule_parts(posterior: EvidencePosterior, folder: Path) -> list[str]:
    """Answer the trials that ask for schedule or dose and have a row of evidence."""
    designs = {name: design_of(load_trial(name)) for name in card_names("trials")}
    return [
        _schedule_or_dose(posterior, folder, name.partition("_")[2], design)
        for name, design in designs.items()
        if design is not None and design.evidence_row
    ]


def _schedule_or_dose(posterior: EvidencePosterior, folder: Path, name: str, design: Design) -> str:
    risks = delayed_risks(
        load_evidence(),
        posterior.draws(DRAWS),
        design,
        variant=posterior.variant,
        patients=PATIENTS,
    )
    write_csv(folder / f"{name}_cohorts.csv", cohort_rows(risks))
    write_csv(folder / f"{name}_contrasts.csv", [_line(c) for c in contrasts(risks)])
    return table_text(risks)


def _line(c: Contrast) -> dict[str, object]:
    ends = ("lower", "median", "upper")
    return {
        "neutrophils": c.neutrophils,
        "platelets": c.platelets,
        **{f"schedule_{end}": value for end, value in zip(ends, c.schedule, strict=True)},
        **{f"dose_{end}": value for end, value in zip(ends, c.dose, strict=True)},
        "schedule_rather": c.schedule_rather,
        "schedule_relevant": c.schedule_relevant,
        "dose_relevant": c.dose_relevant,
        "as_seen": c.as_seen,
        "verdict": c.verdict,
    }


if __name__ == "__main__":
    main()
