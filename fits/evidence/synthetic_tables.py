"""Does learning find what made a table? `synthetic_tables.py --full --tables 100 --out DIR`.

Posterior draws of a run of `learn.py` in the same folder are taken as truths, each makes a table
in new patients, and its posterior together with the published table is sampled by the emulator,
likelihood and chains of that run (`judging/calibration.py`). Tables that are done
are kept, so that more can be added. Ranks, tests of them and their figure are written: ranks.csv,
summary.json, ecdf.png, in a folder of the plan and structure (synthetic_full_friberg).
"""

# ruff: noqa: T201

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from judging.calibration import (
    DRAWS,
    FIRST_SEED,
    LIMITS,
    CalibrationRanks,
    TableRank,
    gather_ranks,
    rank_of_table,
)
from judging.figures import keep, may_be_kept
from plans import PLANS, arguments, file_name, problem, variant_of

from pkpd.evidence.posterior.learning import emulator_of
from pkpd.evidence.posterior.stored import evidence_hash, load_posterior
from pkpd.evidence.sampling.chains import ChainSettings
from pkpd.evidence.sampling.simulations import MarrowMaker, digits_of
from pkpd.fitting.calibration.calibrate import Calibration

PATIENTS = 512  # of an arm, at the truth
FEWEST = 10  # tables
SETTINGS = ChainSettings(draws=300, tune=200, chains=2, cores=1, seed=100)

_judged: dict[str, Any] = {}  # of a worker process


def begin(full: bool, out: Path, variant: str) -> None:
    """Make ready, once in each process, what all tables share."""
    plan = PLANS["full" if full else "reduced"]
    prior, likelihood = problem(plan, variant)
    mechanisms = variant_of(variant)
    posterior = load_posterior(out / f"posterior_{file_name(plan, variant)}.nc")
    _judged.update(
        emulator=emulator_of(prior, likelihood, plan, out, mechanisms),
        prior=prior,
        likelihood=likelihood,
        simulate=MarrowMaker(likelihood.arms, PATIENTS, mechanisms),
        posterior=posterior.z.reshape(-1, prior.size),
    )


def one(index: int) -> dict[str, Any]:
    """Rank of one table, as it is written down."""
    began = time.process_time()
    rank = rank_of_table(settings=SETTINGS, index=index, **_judged)
    found = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(rank).items()}
    return {**found, "cpu_s": time.process_time() - began}


def main() -> None:
    """Rank the tables that are not done yet, and say how uniform all ranks are."""
    ask = arguments(__doc__)
    ask.add_argument("--tables", type=int, default=20, help="in all, done ones included")
    may_be_kept(ask)
    given = ask.parse_args()
    if given.tables < FEWEST:
        ask.error(f"--tables {given.tables}; allowed: at least {FEWEST}, fewer say nothing")
    plan = PLANS["full" if given.full else "reduced"]
    prior, likelihood = problem(plan, given.variant)
    # tables of another posterior, of other chains or other patients are no more of the same
    own = given.out / f"posterior_{file_name(plan, given.variant)}.nc"
    written = str(load_posterior(own).record["written"])
    made_of = (evidence_hash(likelihood), written, SETTINGS, LIMITS, PATIENTS, FIRST_SEED)
    key = digits_of(repr(made_of))
    file = given.out / f"synthetic_tables_{key}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    kept = {entry["index"]: entry for entry in map(json.loads, lines)}
    due = [index for index in range(given.tables) if index not in kept]
    begun = (given.full, given.out, given.variant)
    with (
        ProcessPoolExecutor(given.workers, get_context("spawn"), begin, begun) as pool,
        file.open("a") as log,
    ):
        for future in as_completed([pool.submit(one, index) for index in due]):
            found = future.result()
            log.write(json.dumps(found) + "\n")
            log.flush()
            kept[found["index"]] = found
            print(f"{len(kept)} of {given.tables} tables, {found['cpu_s']:.0f} CPU s", flush=True)
    names = ("ranks", "z_score", "spread")
    tables = [
        TableRank(index, **{name: np.array(kept[index][name]) for name in names})  # pyright: ignore
        for index in range(given.tables)
    ]
    seconds = [kept[table.index]["cpu_s"] for table in tables]
    folder = given.out / f"synthetic_{file_name(plan, given.variant)}"
    folder.mkdir(exist_ok=True)
    ranks = gather_ranks(prior, tables)
    uniform = written_down(ranks, seconds, folder)
    failed = {n: kept[n]["problems"] for n in range(given.tables) if kept[n]["problems"]}
    for number, problems in failed.items():
        print(f"table {number} did not converge: {'; '.join(problems)}")
    if given.figures:
        figures = figures_of(ranks, uniform, seconds)
        keep("tables", load_posterior(own), {**figures, "converged": given.tables - len(failed)})
    sys.exit(0 if uniform and not failed else 1)


def figures_of(found: CalibrationRanks, uniform: bool, cpu_s: Sequence[float]) -> dict[str, object]:
    """Gather what documents print of the tables."""
    rms, error = found.rms
    return {
        "tables": len(found.ranks),
        "uniform": uniform,
        "rms": rms,
        "error": error,
        **{f"{level:.0%}": found.covered(level) for level in (0.5, 0.9)},
        "cpu_s": float(np.median(cpu_s)),
    }


def written_down(found: CalibrationRanks, cpu_s: Sequence[float], out: Path) -> bool:
    """Print and write ranks, their tests and their figure; whether they are uniform."""
    numbers = pd.RangeIndex(len(found.ranks), name="table")
    ranks = pd.DataFrame(found.ranks, index=numbers, columns=list(found.names))
    tests = Calibration(ranks, ranks.iloc[:, :0], DRAWS, ranks.iloc[:, :0], {}, {})
    table = tests.table()
    table["mean_z"] = pd.Series(found.z_score.mean(axis=0), found.names[:-1])
    table["rms_z"] = pd.Series(np.sqrt((found.z_score**2).mean(axis=0)), found.names[:-1])
    table["sd"] = pd.Series(found.spread.mean(axis=0), found.names[:-1])
    rms, error = found.rms
    worst = table["adjusted_p"].idxmin()
    verdict = (
        f"{'Uniform' if tests.calibrated else 'Not uniform'}: {len(ranks)} tables, ranks of "
        f"{len(found.names)} quantities, smallest P value {table['adjusted_p'].min():.2f} adjusted "
        f"for their number ({worst}); root mean square of z scores {rms:.3f} (SE {error:.3f}; "
        f"intervals 15 % too narrow give 1.18); inside central 50 and 90 % intervals "
        f"{found.covered(0.5):.1%} and {found.covered(0.9):.1%} of the truths"
    )
    print(table.round(3).to_string())
    print(verdict)
    ranks.to_csv(out / "ranks.csv")
    summary = {
        "command": " ".join(["python", *sys.argv]),
        "verdict": verdict,
        "ranked_among": DRAWS,
        "cpu_seconds_per_table": round(float(np.median(cpu_s)), 1),
        "settings": asdict(SETTINGS),
        # the log likelihood has no z score
        "table": json.loads(str(table.round(4).to_json(orient="index"))),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    tests.plot().figure.savefig(out / "ecdf.png", dpi=120)
    return tests.calibrated


if __name__ == "__main__":
    main()
