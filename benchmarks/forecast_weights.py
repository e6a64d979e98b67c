"""Pending patients weighed by forecasts of their counts, by follow-up, or waited for.

Run it with ``python benchmarks/forecast_weights.py``. Lenalidomide is given on days 1-28 at five
doses; who has not recovered by day 42 has a dose-limiting toxicity, on that day. Virtual patients
of eight draws of the marrow without leukaemia, from the least to the most toxic, enter trials of
TITE-BOIN and TITE-CRM. Every way to weigh them meets the same patients, in the same order, at the
same intervals. The forecaster does not know which draw holds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import xarray as xr

import pkpd
from pkpd.designs import (
    BOIN,
    CRM,
    Accrual,
    Design,
    TiteBOIN,
    TiteCRM,
    compare_trials,
    skeleton,
)
from pkpd.forecasting import WEIGHTS, TrialPatients, trial_patients

DOSES_MG = (10, 20, 30, 45, 65)
VISITS = (1, 4, 8, 11, 15, 18, 22, 25, 29, 32, 36, 39)
TARGET = 0.25
SHOWN = ("correct", "too_high", "patients_above", "patients_below", "dlts", "duration")


def virtual(given: argparse.Namespace) -> TrialPatients:
    """Patients at the five doses, and their forecasts."""
    source = pkpd.source("rr_aml", marrow="friberg", draws=200, patients=1)
    schedules = {
        f"{dose} mg": pkpd.daily("lenalidomide", f"{dose} mg", days="1-28", route="oral")
        for dose in DOSES_MG
    }
    return trial_patients(
        source, schedules, "leukemia_d42_generic", VISITS, scenarios=given.scenarios,
        patients=given.patients, bank=given.bank, seed=given.seed,
    )  # fmt: skip


def designs(name: str) -> tuple[Design, Design]:
    """Design that goes on with pending patients, and the one that waits for them."""
    shared = {"levels": len(DOSES_MG), "target": TARGET, "most_patients": 30}
    if name == "TITE-BOIN":
        return TiteBOIN(**shared), BOIN(**shared)
    shared["skeleton"] = skeleton(0.06, TARGET, 3, len(DOSES_MG))
    return TiteCRM(**shared), CRM(**shared)


def compared(people: TrialPatients, name: str, given: argparse.Namespace) -> xr.Dataset:
    """Characteristics of every way, paired."""
    goes_on, waits = designs(name)
    ways = {way: (goes_on, people.outcomes(way)) for way in WEIGHTS if way in given.weights}
    if "waits" in given.weights:
        ways["waits"] = (waits, people.outcomes("none"))
    accrual = Accrual(given.every_days)
    trials = -(-given.trials // len(people.scenario_draws))
    return compare_trials(ways, accrual=accrual, trials=trials, seed=given.seed)


def table(found: xr.Dataset, against: str) -> pd.DataFrame:
    """Means of each way, and differences to one of them with their errors."""
    rows = {}
    for way in found.way.values:
        mine = found.sel(way=way)
        row = {name: float(mine["mean"].sel(measure=name)) for name in SHOWN}
        for name in ("patients_above", "correct", "duration"):
            gap = mine.sel(other=against, measure=name)
            row[f"{name} less {against}"] = float(gap["difference"])
            row[f"{name} se"] = float(gap["difference_se"])
        rows[way] = row
    return pd.DataFrame(rows).T


def main() -> None:
    """Simulate, compare, print and write."""
    parser = argparse.ArgumentParser(description="Weights of pending patients.")
    parser.add_argument("--trials", type=int, default=10_000, help="of each way, all scenarios")
    parser.add_argument("--scenarios", type=int, default=8)
    parser.add_argument("--patients", type=int, default=500, help="virtual, in each scenario")
    parser.add_argument("--bank", type=int, default=5000)
    parser.add_argument("--every-days", type=float, default=10.0, help="between two patients")
    parser.add_argument("--design", action="append", choices=("TITE-BOIN", "TITE-CRM"))
    parser.add_argument("--weights", nargs="+", default=[*WEIGHTS, "waits"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/forecast_weights"))
    given = parser.parse_args()
    start = time.perf_counter()
    people = virtual(given)
    print(f"patients and forecasts: {time.perf_counter() - start:.0f} s")
    print(pd.DataFrame(people.risks(), columns=people.doses).round(3).to_string())
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.design or ("TITE-BOIN", "TITE-CRM"):
        start = time.perf_counter()
        found = compared(people, name, given)
        spent = time.perf_counter() - start
        print(f"\n{name}: {found.attrs['trials']} trials of each scenario and way, {spent:.0f} s")
        for against in ("follow-up", "waits"):
            if against in found.way.values:
                print(table(found, against).round(3).to_string(), flush=True)
        found.to_netcdf(given.out / f"{name}.nc")


if __name__ == "__main__":
    main()
