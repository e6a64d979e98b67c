"""Does learning from published outcomes find what made them? Calibration of the whole scheme.

    python fits/evidence/synthetic_tables.py --tables 50 --out build/evidence

Parameters are drawn from the prior, numbers for every row of the product's table from them, the
posterior of these is sampled, and the truth is ranked among its draws: uniform if all is right.
Prior, marrow simulator, likelihood of every kind of row and deviations of studies are those of the
reduced calibration; a sixth of the studies makes it affordable. Truth and posterior are simulated
alike, with the Monte Carlo error of few simulated patients as part of the likelihood. Tables that
are done are kept, so that more can be added. Ranks, tests of them and their figure are written:
synthetic_ranks.csv, synthetic_summary.json, synthetic_ecdf.png.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sampling import PLANS, label_of, prior_of, processes

from pkpd.evidence.criticism.calibration import (
    CalibrationRanks,
    TableRank,
    gather_ranks,
    rank_of_table,
)
from pkpd.evidence.likelihood.parameters import marrow_effects
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.simulator import MarrowSimulator, patients_by_arm
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import Switches
from pkpd.evidence.sampling.smc import SMCSettings
from pkpd.evidence.table.table import load_evidence
from pkpd.fitting.calibration.calibrate import Calibration

PLAN = replace(PLANS["reduced"], patients=(64, 32, 1.0), nodes=(5, 7, 7), steps=2)
# with fewer chains and stages the posterior of a table comes out up to a third too narrow
SETTINGS = SMCSettings(particles=512, chains=128, share=0.7, final_stages=5, seed=1)
EVERY = 6  # each table has numbers for a sixth of the studies, the next for another sixth
# a row that counts half has no posterior that ranks could be uniform under
SWITCHES = Switches(mirror=1.0, paediatric=1.0)


@lru_cache(maxsize=EVERY)
def problem(part: int) -> tuple[Prior, EvidenceLikelihood]:
    """Prior, and likelihood of a part of the studies; made once in each process."""
    whole = EvidenceLikelihood(load_evidence(), switches=SWITCHES)
    rows = tuple(row for row in whole.table if row.study in whole.studies[part::EVERY])
    bare = EvidenceLikelihood(
        replace(whole.table, rows=rows), effects=marrow_effects(PLAN.nodes), switches=SWITCHES
    )
    patients = patients_by_arm(bare, *PLAN.patients)
    simulator = MarrowSimulator(bare.arms, patients, steps_per_day=PLAN.steps, threads=1)
    return prior_of(PLAN), bare.with_simulator(simulator)


def one(index: int) -> dict[str, Any]:
    """Rank of one table, as it is written down."""
    began = time.process_time()
    rank = rank_of_table(*problem(index % EVERY), SETTINGS, index)
    found = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(rank).items()}
    return {**found, "cpu_s": time.process_time() - began}


def main() -> None:
    """Rank the tables that are not done yet, and say how uniform all ranks are."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--tables", type=int, default=50, help="synthetic tables, done ones included")
    ask.add_argument("--out", type=Path, default=Path("build/evidence"))
    ask.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    given = ask.parse_args()
    if given.tables < 10:
        ask.error(f"--tables {given.tables}; allowed: at least 10, fewer say nothing")
    # tables of another prior, model, sampler or evidence are no more of the same
    prior, labels = prior_of(PLAN), [label_of(PLAN, "full", *problem(k)) for k in range(EVERY)]
    label = repr((labels, prior.names, SETTINGS, PLAN.steps))
    key = hashlib.sha256(label.encode()).hexdigest()[:12]
    file = given.out / f"synthetic_tables_{key}.jsonl"
    given.out.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    kept = {entry["index"]: entry for entry in map(json.loads, lines)}
    due = [index for index in range(given.tables) if index not in kept]
    with processes(given.workers) as pool, file.open("a") as log:
        for future in as_completed([pool.submit(one, index) for index in due]):
            found = future.result()
            log.write(json.dumps(found) + "\n")
            log.flush()
            kept[found["index"]] = found
            print(f"{len(kept)} of {given.tables} tables, {found['cpu_s']:.0f} CPU s", flush=True)
    names = ("ranks", "truth", "z_score", "contraction")
    tables = [
        TableRank(index, *(np.array(kept[index][name]) for name in names))
        for index in range(given.tables)
    ]
    seconds = [kept[table.index]["cpu_s"] for table in tables]
    calibrated = written_down(gather_ranks(prior, SETTINGS, tables), seconds, given.out)
    sys.exit(0 if calibrated else 1)


def written_down(found: CalibrationRanks, cpu_s: Sequence[float], out: Path) -> bool:
    """Print and write ranks, their tests and their figure; whether they are uniform."""
    numbers = pd.RangeIndex(len(found.ranks), name="table")
    ranks = pd.DataFrame(found.ranks, index=numbers, columns=list(found.names))
    tests = Calibration(ranks, ranks.iloc[:, :0], found.draws, ranks.iloc[:, :0], {}, {})
    table = tests.table()
    table["mean_z"] = pd.Series(found.z_score.mean(axis=0), found.names[:-1])
    table["rms_z"] = pd.Series(np.sqrt((found.z_score**2).mean(axis=0)), found.names[:-1])
    table["contraction"] = pd.Series(found.contraction.mean(axis=0), found.names[:-1])
    overall = float(np.sqrt((found.z_score**2).mean()))
    worst = table["adjusted_p"].idxmin()
    verdict = (
        f"{'Uniform' if tests.calibrated else 'Not uniform'}: {len(ranks)} tables, ranks of "
        f"{len(found.names)} quantities, smallest P value {table['adjusted_p'].min():.2f} adjusted "
        f"for their number ({worst}); root mean square of z scores {overall:.2f}"
    )
    print(table.round(3).to_string())
    print(verdict)
    ranks.to_csv(out / "synthetic_ranks.csv")
    summary = {
        "command": f"python fits/evidence/synthetic_tables.py --tables {len(ranks)}",
        "verdict": verdict,
        "ranked_among": found.draws,
        "cpu_seconds_per_table": round(float(np.median(cpu_s)), 1),
        "settings": asdict(SETTINGS),
        # the log likelihood has no z score
        "table": json.loads(table.round(4).to_json(orient="index")),
    }
    (out / "synthetic_summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    tests.plot().figure.savefig(out / "synthetic_ecdf.png", dpi=120)
    return tests.calibrated


if __name__ == "__main__":
    main()
