"""Learn the marrow with leukaemia from published outcomes, and say how good it is.

    python fits/evidence/calibrate.py --reduced --out build/evidence
    python fits/evidence/calibrate.py --full --out build/evidence

A run that is stopped goes on from its last stage when started again.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from landmarks import landmark_table, landmarks  # noqa: E402
from sampling import (  # noqa: E402
    PLANS,
    Plan,
    Sampler,
    finished,
    folder_of,
    likelihood_of,
    prior_of,
    processes,
    runs_of,
)
from scores import (  # noqa: E402
    check_rows,
    checks_text,
    high_khats,
    left_out,
    refit_study,
    scores_text,
    write_csv,
)

from pkpd.cards import card_names, load_trial  # noqa: E402
from pkpd.evidence.criticism.criticism import (  # noqa: E402
    influence,
    influence_table,
    left_out_checks,
    predictive_checks,
)
from pkpd.evidence.criticism.schedule_or_dose import (  # noqa: E402
    Design,
    cohort_rows,
    contrasts,
    delayed_risks,
    design_of,
    table_text,
)
from pkpd.evidence.likelihood.parameters import marrow_effects  # noqa: E402
from pkpd.evidence.posterior.learned import learned, learned_table  # noqa: E402
from pkpd.evidence.posterior.stored import (  # noqa: E402
    EvidencePosterior,
    due_to_go_on,
    load_posterior,
    others_of,
)
from pkpd.evidence.sampling.smc_state import SMCRun  # noqa: E402
from pkpd.evidence.table.table import load_evidence  # noqa: E402

REPEATS = 8  # replicates of a row for each posterior draw


def sample_run(task: tuple[str, str, str, int]) -> tuple[SMCRun, float]:
    """Sample one run; the run, and the CPU seconds it took."""
    mode, out, variant, run = task
    began = time.process_time()
    done = Sampler(PLANS[mode], Path(out), variant, run).sample()
    return done, time.process_time() - began


def prolong_run(
    task: tuple[str, str, str, int], run: SMCRun, others: list[SMCRun]
) -> tuple[SMCRun, float]:
    """Let the chains of one run go on for a stage; the run, and the CPU seconds it took."""
    mode, out, variant, index = task
    began = time.process_time()
    done = Sampler(PLANS[mode], Path(out), variant, index).prolong(run, others)
    return done, time.process_time() - began


def sample_without(task: tuple[str, str, str, str]) -> float:
    """Sample the posterior without a study; its CPU seconds."""
    mode, out, variant, study = task
    began = time.process_time()
    refit_study(PLANS[mode], Path(out), variant, study)
    return time.process_time() - began


def report_part(task: tuple[str, str, str]) -> tuple[str, float]:
    """One part of the report as text (its tables are written as CSV), and its CPU seconds."""
    mode, out, part = task
    began = time.process_time()
    return PARTS[part](PLANS[mode], Path(out)), time.process_time() - began


def posterior_of(plan: Plan, out: Path, variant: str = "full") -> EvidencePosterior:
    """Posterior that :func:`save_posteriors` wrote."""
    return load_posterior(folder_of(out, plan, variant) / "posterior.nc")


def save_posterior(plan: Plan, out: Path, variant: str = "full") -> str:
    """Gather the runs of a model, write its posterior, and say whether they converged."""
    posterior, convergence = finished(plan, out, variant)
    posterior.save(folder_of(out, plan, variant) / "posterior.nc")
    if variant == "friberg":
        return f"Convergence of the plain Friberg marrow\n{convergence.table()}"
    file = out / f"posterior_{plan.name}.nc"
    held: list[str] = posterior.record["held"]  # pyright: ignore
    # what is held is known too well in it
    fit_for_use = posterior.converged and not held
    posterior.save(file, default=fit_for_use)
    use = "may be" if fit_for_use else "must not be"
    return (
        f"Convergence\n{convergence.table()}\n"
        f"held at prior medians: {', '.join(held) or 'nothing'}\n"
        f"{file.name} {use} the default of predictions"
    )


def landmark_part(plan: Plan, out: Path) -> str:
    """Landmarks with their intervals."""
    draws = posterior_of(plan, out).draws(plan.draws)
    found = landmarks(
        load_evidence(), marrow_effects(plan.nodes), draws, patients=plan.patients_predicted
    )
    rows = [{**asdict(entry), "inside": int(entry.inside)} for entry in found]
    write_csv(out / plan.name / "landmarks.csv", rows)
    return f"Landmarks\n{landmark_table(found)}"


def coverage_part(plan: Plan, out: Path) -> str:
    """Coverage of all used rows under the posterior, and under the other studies' posterior."""
    posterior, likelihood = posterior_of(plan, out), likelihood_of(plan)
    if not posterior.converged:
        return f"Coverage: none is given. {_why_not(posterior)}"
    ours = left_out(plan, out, "full", posterior, likelihood)
    fitted = predictive_checks(likelihood, posterior.draws(plan.draws), repeats=REPEATS)
    left = left_out_checks(posterior, likelihood, ours, draws=plan.draws, repeats=REPEATS)
    write_csv(out / plan.name / "checks.csv", check_rows(fitted, left))
    return "\n\n".join(
        (
            checks_text(fitted, "All used rows under the posterior"),
            checks_text(left, "Rows of each study under the other studies"),
        )
    )


def _why_not(posterior: EvidencePosterior) -> str:
    """Why a posterior is not scored."""
    variant = posterior.record.get("variant", "full")
    name = "The plain Friberg marrow" if variant == "friberg" else "The marrow with leukaemia"
    return f"{name} has not converged: {'; '.join(posterior.problems)}"


def score_part(plan: Plan, out: Path) -> str:
    """Log scores of studies left out, beside both baselines."""
    likelihood = likelihood_of(plan)
    posterior, baseline = posterior_of(plan, out), posterior_of(plan, out, "friberg")
    for one in (posterior, baseline):
        if not one.converged:
            return f"Log scores: none are given. {_why_not(one)}"
    ours = left_out(plan, out, "full", posterior, likelihood)
    friberg = left_out(plan, out, "friberg", baseline, likelihood_of(plan, "friberg"))
    text, rows = scores_text(likelihood, ours, friberg)
    write_csv(out / plan.name / "scores.csv", rows)
    return f"Log score of rows left out by study\n{text}"


def parameter_part(plan: Plan, out: Path) -> str:
    """Prior against posterior, and the rows that hold each parameter."""
    posterior = posterior_of(plan, out)
    rows = [{**asdict(entry), "verdict": entry.verdict} for entry in learned(posterior)]
    write_csv(out / plan.name / "learned.csv", rows)
    matrix = influence(posterior)
    table = [
        {"term": term, **dict(zip(posterior.names, map(float, matrix[i]), strict=True))}
        for i, term in enumerate(posterior.terms)
    ]
    write_csv(out / plan.name / "influence.csv", table)
    return (
        f"Prior against posterior\n{learned_table(posterior)}\n\n"
        "Rows that hold each parameter where it is (shift of its mean, in posterior SDs, if the "
        f"row counted less)\n{influence_table(posterior, most=4)}"
    )


def schedules_part(plan: Plan, out: Path) -> str:
    """Answer the trials that ask for schedule or dose and have a row of evidence."""
    designs = {name: design_of(load_trial(name)) for name in card_names("trials")}
    asked = {name.partition("_")[2]: d for name, d in designs.items() if d and d.evidence_row}
    return "\n\n".join(_schedule_or_dose(plan, out, name, d) for name, d in asked.items())


def _schedule_or_dose(plan: Plan, out: Path, name: str, design: Design) -> str:
    draws = posterior_of(plan, out).draws(plan.draws)
    risks = delayed_risks(
        load_evidence(), marrow_effects(plan.nodes), draws, design, patients=plan.patients_predicted
    )
    write_csv(out / plan.name / f"{name}_cohorts.csv", cohort_rows(risks))
    rows = [
        {
            "neutrophils": c.neutrophils,
            "platelets": c.platelets,
            **_named("schedule", c.schedule),
            **_named("dose", c.dose),
            "schedule_rather": c.schedule_rather,
            "schedule_relevant": c.schedule_relevant,
            "dose_relevant": c.dose_relevant,
            "as_seen": c.as_seen,
            "verdict": c.verdict,
        }
        for c in contrasts(risks)
    ]
    write_csv(out / plan.name / f"{name}_contrasts.csv", rows)
    return table_text(risks)


def _named(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    lower, median, upper = interval
    return {f"{name}_lower": lower, f"{name}_median": median, f"{name}_upper": upper}


PARTS: dict[str, Callable[[Plan, Path], str]] = {
    "landmarks": landmark_part,
    "coverage": coverage_part,
    "scores": score_part,
    "parameters": parameter_part,
    "schedules": schedules_part,
}


def everything(plan: Plan, out: Path, pool: Executor) -> tuple[str, float]:
    """Sample, and work out every part of the report; its text, and the CPU seconds taken.

    What needs the model's posterior alone is done while the baseline is still sampled.
    """
    mode, folder = plan.name, str(out)

    def parts(*names: str) -> dict[str, Future[tuple[str, float]]]:
        return {name: pool.submit(report_part, (mode, folder, name)) for name in names}

    def refitted(variant: str) -> list[Future[float]]:
        """Sample anew without each study that weights cannot leave out."""
        high = high_khats(posterior_of(plan, out, variant))
        return [pool.submit(sample_without, (mode, folder, variant, study)) for study in high]

    def started(variant: str) -> list[Future[tuple[SMCRun, float]]]:
        tasks = [(mode, folder, variant, k) for k in range(runs_of(plan, variant))]
        return [pool.submit(sample_run, task) for task in tasks]

    def ended(variant: str, futures: list[Future[tuple[SMCRun, float]]]) -> float:
        """Wait for runs, and let their chains go on together until they agree; CPU seconds."""
        done, seconds = map(list, zip(*(future.result() for future in futures), strict=True))
        cpu = sum(seconds)
        names = prior_of(plan).names
        while due := due_to_go_on(done, names, plan.settings, plan.most_rounds):
            tasks = [
                pool.submit(prolong_run, (mode, folder, variant, k), done[k], others_of(done, k))
                for k in due
            ]
            for k, task in zip(due, tasks, strict=True):
                done[k], seconds = task.result()
                cpu += seconds
        return cpu

    cpu = ended("full", started("full"))
    print(f"the marrow model is sampled: {cpu:.0f} CPU s", flush=True)
    pages = [f"Calibration, {mode}", save_posterior(plan, out)]
    baseline, without = started("friberg"), refitted("full")
    done = parts("landmarks", "schedules", "parameters")
    cpu += sum(task.result() for task in without)
    done |= parts("coverage")
    cpu += ended("friberg", baseline)
    convergence = save_posterior(plan, out, "friberg")
    cpu += sum(task.result() for task in refitted("friberg"))
    done |= parts("scores")
    for name in PARTS:
        text, seconds = done[name].result()
        pages.append(text)
        cpu += seconds
    return "\n\n".join((*pages, convergence)), cpu


def main() -> None:
    """Calibrate and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--reduced", action="store_true", help="minutes (default)")
    length.add_argument("--full", action="store_true", help="hours")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "evidence", help="results")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    plan, out = PLANS["full" if options.full else "reduced"], options.out
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with processes(options.workers) as pool:
        text, cpu = everything(plan, out, pool)
    seconds = time.monotonic() - began
    report = (
        f"{text}\n\n{cpu:.0f} CPU s and {seconds:.0f} s by the clock "
        "(stages sampled before, if any, not counted)\n"
    )
    (out / f"report_{plan.name}.txt").write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
