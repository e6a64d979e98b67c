"""Tempered forecasts against a bank that is large enough to be weighed alone.

Run it with ``python benchmarks/forecast_reference.py``. Patients of the marrow with leukaemia are
made and counted as `forecast_calibration.py` does, and forecast from their counts up to a day. 1.2
million other virtual patients, weighed by the same counts, are the reference: of its days of
recovery after the last count, 80 % should lie in the interval. This asks more of few patients than
whether their one true day lies there, which stands beside it. In some patients hardly anybody of
the large bank counts either (``effective``): those are left out of the second summary.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from forecast_calibration import CRITERIA, NAIVE, Naive, counted, schedule_of

import pkpd
from pkpd.distributions import stream
from pkpd.ensemble.lanes import Identities
from pkpd.forecasting import Forecaster, Seen, forecaster
from pkpd.forecasting.bank import asked_of, counts_only, simulated
from pkpd.forecasting.tempering import Tempering, tempered
from pkpd.forecasting.today import back_after
from pkpd.forecasting.weighing import Weighed, log_likelihood

UNTIL = 75
AT_ONCE = 100_000
NEAR = 10.0  # below the best log-likelihood; the others do not count
KEPT = 1000  # patients of the reference who are followed
ENOUGH = 30.0


@dataclass
class Reference:
    """Days of recovery of a large bank by criterion, and its effective number of patients."""

    back: dict[str, np.ndarray]
    effective: float


def references(
    made: Forecaster, found: dict[int, Weighed], chunks: int, threads: int
) -> dict[int, Reference]:
    """Weigh a large bank by the counts of every patient."""
    first = next(iter(found.values()))
    lanes, last = first.bank.lanes, max(one.seen.last_day for one in found.values())
    near: dict[int, list[tuple[np.ndarray, Identities]]] = {i: [] for i in found}
    for chunk in range(chunks):
        who = lanes.drawn(AT_ONCE, 500 + chunk)
        bank = counts_only(replace(lanes, days=last + 1), who, threads)
        for i, one in found.items():
            logs = log_likelihood(bank, one.seen, made.measurement, one.aside)
            index = np.flatnonzero(logs > logs.max() - NEAR)
            near[i].append((logs[index], who[index]))
    out = {}
    for i, one in found.items():
        logs = np.concatenate([some for some, _ in near[i]])
        who = Identities(
            np.concatenate([of.draw for _, of in near[i]]),
            np.concatenate([of.body for _, of in near[i]]),
            np.concatenate([of.scores for _, of in near[i]]),
        )
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        at = np.searchsorted(np.cumsum(weights), (np.arange(KEPT) + 0.5) / KEPT)
        picked, again = np.unique(np.minimum(at, weights.size - 1), return_inverse=True)
        back = back_after(lanes, who[picked], one.bank.asked, one.seen, 1, threads)
        out[i] = Reference(
            {name: back[name][again] for name in CRITERIA}, float(1.0 / np.sum(weights**2))
        )
    return out


def inside(days: np.ndarray, true: np.ndarray) -> float:
    """Share of true days in the middle 80 % of forecast ones; in atoms, the share of the atom."""
    days = np.sort(days)
    low, high = (np.searchsorted(days, true, side) / days.size for side in ("left", "right"))
    within = np.clip(np.minimum(high, 0.9) - np.maximum(low, 0.1), 0.0, None)
    there = (low >= 0.1) & (low <= 0.9)
    return float(np.where(high > low, within / np.maximum(high - low, 1e-12), there).mean())


def width(days: np.ndarray, first: int) -> float:
    """Days between the ends of the interval, from the last count to the end of the forecast."""
    ends = np.quantile(days, [0.1, 0.9], method="inverted_cdf")
    return float(np.diff(np.clip(ends, first, UNTIL))[0])


def row_of(days: np.ndarray, reference: np.ndarray, true: np.ndarray, cut: int) -> dict[str, float]:
    """Score one forecast of one criterion."""
    shares = {"inside": inside(days, reference), "true_inside": inside(days, true)}
    return shares | {"width": width(days, cut)}


def summary_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over patients with standard errors; a patient's criteria are one number."""
    of = rows.groupby(["particles", "patient"], sort=False)
    each = of[["inside", "true_inside", "width", "seconds"]].mean()
    found = each.groupby("particles", sort=False)
    errors = found[["inside", "true_inside"]].sem().add_suffix("_se")
    return found.mean().join(errors).assign(patients=found.size())


def main() -> None:
    """Make patients, forecast them, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--particles", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--cut", type=int, default=21, help="day of the last count")
    parser.add_argument("--chunks", type=int, default=12, help="of 100,000 patients")
    parser.add_argument("--bank", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/forecast_reference"))
    given = parser.parse_args()
    schedule = schedule_of("leukaemia")
    source = pkpd.source("rr_aml", marrow="leukaemia", patients=1, draws=10)
    made = forecaster(source, UNTIL, bank=given.bank, seed=1, threads=given.threads)
    lanes, asked = made.bank_for(schedule).lanes, asked_of(source, None, None, None, UNTIL)
    truth = simulated(lanes, lanes.drawn(1000, 10_001), asked, given.threads)
    every = [seen.until(given.cut) for seen in counted(truth, made.measurement, 1)]
    order = stream(1, "order").permutation(1000)
    alive = [int(i) for i in order if truth.death_day[i] >= every[i].last_day][: given.patients]
    found = {i: made.weighed(every[i], schedule, "importance") for i in alive}
    reference = references(made, found, given.chunks, given.threads)
    naive = Naive(simulated(lanes, lanes.drawn(NAIVE, 20_001), asked, 1), made.measurement, 1)

    def told(seen: Seen, one: Weighed | None) -> dict[str, np.ndarray]:
        if one is None:
            return {name: naive.back(seen, name) for name in CRITERIA}
        return back_after(one.bank.lanes, one.bank.who, asked, seen, 1, given.threads)

    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for i, one in found.items():
        true = back_after(truth.lanes, truth.who[[i]], asked, one.seen, 1, 1)
        for particles in (*given.particles, 0):
            start, made_anew = time.process_time(), None
            if particles:
                settings = Tempering(particles)
                made_anew = tempered(one, made.measurement, 1, settings, given.threads)
            spent, days = time.process_time() - start, told(one.seen, made_anew)
            for name in CRITERIA:
                row = row_of(days[name], reference[i].back[name], true[name], given.cut)
                of = {"patient": i, "particles": particles or "naive", "criterion": name}
                rows.append(of | row | {"effective": reference[i].effective, "seconds": spent})
        pd.DataFrame(rows).to_csv(given.out / "rows.csv", index=False)
    table = pd.DataFrame(rows)
    print("all patients", summary_of(table).round(3).to_string(), sep="\n")
    firm = table[table["effective"] >= ENOUGH]
    print(f"effective >= {ENOUGH:.0f}", summary_of(firm).round(3).to_string(), sep="\n")


if __name__ == "__main__":
    main()
