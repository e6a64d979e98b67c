"""Daily counts after docetaxel: how early they tell grade 4, and when the count is back.

Run it with ``python benchmarks/netterberg.py``. The design is that of Netterberg 2017 (Cancer
Chemother Pharmacol 80:343): 600 virtual patients on one dose of docetaxel, neutrophils counted
before it and daily from day 3 on (day 0: the dose), forecasts from the counts up to day 3, 4 ... 21
with the population's parameters known. The marrow is that of Kloft 2006 as in DDMODEL00000224
(typical patient, spread of baseline, transit time and slope, residual error); its covariates are
left out. Concentrations are those of that entry's patient, the same in everyone: three compartments
that were fitted to its 15 values (within 3 %), for a dose of 180 mg over 80 minutes.

Forecasts are those of `pkpd.forecasting`: a bank weighed by the counts, tempered where its weights
are not to be trusted. Beside them stand the most probable patient alone (MAP), which the paper
takes, and the population of whom no count is known.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import pkpd
from pkpd.data.dataset import NOT_CENSORED
from pkpd.distributions import stream
from pkpd.ensemble.lanes import Identities, Lanes
from pkpd.forecasting import Forecaster, Seen, Weighed, forecaster
from pkpd.forecasting.bank import BASELINE, Bank, counts_only, criterion, simulated
from pkpd.models import PopulationModel, compartments, fixed, marrow_model, parameter, residual

Floats = NDArray[np.float64]

CUTS = tuple(range(3, 22))
"""Days since the dose up to which counts are known; the other count is that before it."""

LINE = "neutrophils"
BACK = criterion(LINE, BASELINE)
GRADE_4 = 0.5
UNTIL_DAY = 36
LEADS = (10, 8, 7, 6, 5, 4, 2, 0)
"""Days before the true return to baseline."""

RESIDUAL_SD = 0.424093
KINETICS = {"CL": 35.14, "V1": 7.733, "V2": 3.129, "V3": 128.3, "Q2": 8.923, "Q3": 10.18}
SCHEDULE = pkpd.daily("docetaxel", "180 mg", days="1", route="iv", duration="1.33 h")
_LENGTHS = 2.0 ** -np.arange(6)  # of the steps towards a mode
_MOVED = 0.02  # of a score, for derivatives


def published() -> PopulationModel:
    """Kloft 2006, docetaxel, as in DDMODEL00000224: 10^9/L, h, L/mg."""
    own = [parameter(name, fixed(value)) for name, value in KINETICS.items()]
    own += [
        parameter("slope", 15.5711 * 1000 / 808, iiv=0.128412**0.5),
        parameter("circ0", 5.21965, iiv=0.0639703**0.5),
        parameter("MTT", 84.1791, iiv=0.0191785**0.5),
        parameter("gamma", fixed(0.144543)),
    ]
    return PopulationModel(
        marrow_model(compartments(3)), own, {LINE: residual.lognormal(RESIDUAL_SD)}
    )


def ready(bank: int, seed: int = 1, threads: int | None = None) -> Forecaster:
    """Make the published model a source of forecasts until day 36."""
    body = {"age": 60.0, "male": 1, "weight": 75.0, "height": 175.0, "scr": 1.0}
    source = pkpd.source(pkpd.subjects.patients(body, seed=1), posterior=published())
    return forecaster(
        source, UNTIL_DAY, back={LINE: BASELINE}, bank=bank, seed=seed, threads=threads
    )


def counted(truth: Bank, made: Forecaster, seed: int) -> list[Seen]:
    """Count every patient before the dose and daily from day 3 to 21, with error."""
    rng, times = stream(seed, "counts"), np.array([0, *CUTS], dtype=float)
    error = made.measurement.errors[LINE]
    values = np.array(
        [error.simulate(truth.counted(LINE, day), truth.who.draw, rng) for day in times]
    )
    names, k = (LINE,) * times.size, times.size
    nothing = np.full(k, NOT_CENSORED), np.full(k, -np.inf)
    return [Seen(i, names, times, values[:, i], *nothing) for i in range(len(truth))]


def forecasts(
    made: Forecaster, seen: Seen, cuts: tuple[int, ...] = CUTS
) -> Iterator[tuple[int, Weighed]]:
    """Forecasts of a patient, cut by cut."""
    one, before = None, -1
    for cut in cuts:
        known = seen.until(cut + 1)  # protocol day 1 is day 0
        new = known.taken(np.flatnonzero(known.time > before))
        one = made.weighed(new, SCHEDULE) if one is None else made.updated(one, new, "auto")
        before = cut
        yield cut, one


class Told:
    """What weighed patients tell of a quantity: quantiles, interval, score."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        self.sorted = values[self.order]

    def scores(
        self, weights: Floats, true: float, rng: np.random.Generator, name: str
    ) -> dict[str, float]:
        """Median, width of the 80 % interval, whether it covers, and the score of a truth."""
        x, total = self.sorted, np.cumsum(weights[self.order])
        total /= total[-1]
        low, middle, high = x[np.searchsorted(total, [0.1, 0.5, 0.9])]
        first, last = np.searchsorted(x, true, "left"), np.searchsorted(x, true, "right")
        below = total[first - 1] if first else 0.0
        upto = total[last - 1] if last else 0.0
        at = below + rng.random() * (upto - below)  # an atom is spread
        return {
            f"{name}": float(middle),
            f"{name}_width": float(high - low),
            f"{name}_covered": float(0.1 <= at <= 0.9),
            f"{name}_crps": crps(x, total, true),
        }


def crps(x: Floats, total: Floats, true: float) -> float:
    """Continuous ranked probability score of sorted values with cumulative weights.

    Examples
    --------
    >>> crps(np.array([1.0, 3.0]), np.array([0.5, 1.0]), 2.0)
    0.5
    """
    gap = np.diff(x)
    before = np.clip(true - x[:-1], 0.0, gap)
    inside = total[:-1] ** 2 @ before + (1.0 - total[:-1]) ** 2 @ (gap - before)
    return float(inside + max(x[0] - true, 0.0) + max(true - x[-1], 0.0))


def modes(lanes: Lanes, logs: Floats, days: Floats, start: Floats, threads: int | None) -> Floats:
    """Most probable scores of P patients at once, by Gauss-Newton steps, ``[P, R]``.

    Parameters
    ----------
    lanes
        Of the source.
    logs : float[P, K]
        Log counts.
    days : float[K]
        Days since the dose.
    start : float[P, R]
        Where the search begins.
    threads
        At most so many.
    """
    short = replace(lanes, days=int(days.max()) + 2)
    n, size = start.shape

    def predicted(scores: Floats) -> Floats:
        flat = scores.reshape(-1, size)
        nobody = np.zeros(len(flat), dtype=np.int64)
        made = counts_only(short, Identities(nobody, nobody, flat), threads)
        found = made.measured[LINE][:, days.astype(int)].astype(float)
        return found.reshape(*scores.shape[:-1], days.size)

    def cost(scores: Floats, found: Floats) -> Floats:
        away = (logs - found) / RESIDUAL_SD
        return 0.5 * np.sum(away**2, axis=-1) + 0.5 * np.sum(scores**2, axis=-1)

    at, moves = start.copy(), _MOVED * np.eye(size)
    for _ in range(20):
        found = predicted(np.stack([at, *(at + m for m in moves), *(at - m for m in moves)]))
        slopes = (found[1 : size + 1] - found[size + 1 :]) / (2 * _MOVED * RESIDUAL_SD)
        gradient = at - np.einsum("rpk,pk->pr", slopes, (logs - found[0]) / RESIDUAL_SD)
        bend = np.eye(size) + np.einsum("rpk,spk->prs", slopes, slopes)
        step = np.linalg.solve(bend, gradient[..., None])[..., 0]
        tried = at - _LENGTHS[:, None, None] * step
        costs = np.stack([cost(at, found[0]), *cost(tried, predicted(tried))])
        best = np.argmin(costs, axis=0)
        at = np.concatenate([at[None], tried])[best, np.arange(n)]
        if np.max(costs[0] - costs.min(axis=0)) < 1e-4:
            break
    return at


def run(
    patients: int,
    bank: int,
    seed: int = 1,
    threads: int | None = None,
    cuts: tuple[int, ...] = CUTS,
    tell: bool = False,
) -> pd.DataFrame:
    """Forecast every patient at every cut: a row each, with the truth and MAP beside.

    Cut 0 is the population, of whose patients no count is known.
    """
    made = ready(bank, seed, threads)
    known = made.bank_for(SCHEDULE)
    truth = simulated(known.lanes, known.lanes.drawn(patients, 10_000 + seed), known.asked, threads)
    every, rng, begin = counted(truth, made, seed), stream(seed, "places"), time.perf_counter()
    true = outcomes(truth)
    low = np.exp(truth.measured[LINE].astype(float)) < GRADE_4
    onset = np.where(low.any(axis=1), low.argmax(axis=1), np.inf)
    nobody, told = np.full(len(known), 1.0 / len(known)), {}
    rows = []
    for i, seen in enumerate(every):
        for cut, one in [(0, None), *forecasts(made, seen, cuts)]:
            own, weights = (known, nobody) if one is None else (one.bank, one.weights)
            if own is known and not told:
                told = {name: Told(values) for name, values in outcomes(own).items()}
            mine = told if own is known else {n: Told(v) for n, v in outcomes(own).items()}
            row = {"patient": i, "cut": cut, "onset": onset[i], "grade_4": np.isfinite(onset[i])}
            row["p_grade_4"] = float(weights @ own.grade_4(LINE))
            row["tempered"] = one is not None and one.engine == "smc"
            for name, values in true.items():
                row[f"true_{name}"] = float(values[i])
                row |= mine[name].scores(weights, float(values[i]), rng, name)
            rows.append(row)
        if tell and (i + 1) % 100 == 0:
            print(f"{i + 1} patients, {time.perf_counter() - begin:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    at = np.zeros((patients, known.lanes.size))
    logs, days = np.log([seen.value for seen in every]), every[0].time
    nobodies = np.zeros(patients, dtype=np.int64)
    for cut in (0, *cuts):
        if cut:
            at = modes(known.lanes, logs[:, days <= cut], days[days <= cut], at, threads)
        alone = simulated(known.lanes, Identities(nobodies, nobodies, at), known.asked, threads)
        here = table["cut"] == cut
        table.loc[here, "map_grade_4"] = alone.grade_4(LINE)
        for name, values in outcomes(alone).items():
            table.loc[here, f"map_{name}"] = values
        if tell:
            print(f"MAP of day {cut}, {time.perf_counter() - begin:.0f} s", flush=True)
    return table


def outcomes(bank: Bank) -> dict[str, Floats]:
    """Return to baseline (days since the dose, at most those simulated) and log of the nadir."""
    lowest = bank.measured[LINE].min(axis=1).astype(float)
    return {"back": np.minimum(bank.recovery[BACK], float(UNTIL_DAY)), "nadir": lowest}


def of_grade_4(rows: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity and specificity by cut, of grade 4 that begins after it."""
    out = []
    last = rows["cut"] == np.minimum(np.ceil(rows["onset"]) - 1, CUTS[-1])
    parts = [(str(cut), mine[mine["onset"] > cut]) for cut, mine in rows.groupby("cut")]
    early = last & (rows["cut"] >= CUTS[0]) & rows["grade_4"]
    parts.append(("last before", rows[early]))
    for name, mine in parts:
        ill, well = mine[mine["grade_4"]], mine[~mine["grade_4"]]
        row = {"cut": name, "ahead": len(ill), "never": len(well)}
        for told, says in (
            ("P > 0.5", lambda one: one["p_grade_4"] > 0.5),
            ("P > 0.25", lambda one: one["p_grade_4"] > 0.25),
            ("MAP", lambda one: one["map_grade_4"] > 0.5),
        ):
            row[f"sens {told}"] = says(ill).mean() if len(ill) else np.nan
            row[f"spec {told}"] = 1 - says(well).mean() if len(well) else np.nan
        row["brier"] = ((mine["p_grade_4"] - mine["grade_4"]) ** 2).mean()
        row["brier MAP"] = ((mine["map_grade_4"] - mine["grade_4"]) ** 2).mean()
        out.append(row)
    return pd.DataFrame(out)


def of_days(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors of the day of return and of the nadir by cut; cut 0 is the population."""
    out = []
    for cut, mine in rows.groupby("cut"):
        row = {"cut": cut, "n": len(mine)}
        for name in ("back", "nadir"):
            error = (mine[name] - mine[f"true_{name}"]).abs()
            row[f"{name} error"] = error.mean()
            row[f"{name} MAP error"] = (mine[f"map_{name}"] - mine[f"true_{name}"]).abs().mean()
            row[f"{name} crps"] = mine[f"{name}_crps"].mean()
            row[f"{name} covered"] = mine[f"{name}_covered"].mean()
            row[f"{name} width"] = mine[f"{name}_width"].median()
        row["tempered"] = mine["tempered"].mean()
        out.append(row)
    return pd.DataFrame(out)


def of_leads(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors of forecasts that are made so many days before the true return to baseline."""
    ahead = np.floor(rows["true_back"]) - rows["cut"]
    out = []
    for lead in LEADS:
        mine = rows[(ahead == lead) & (rows["cut"] > 0) & (rows["true_back"] < UNTIL_DAY)]
        row = {"days ahead": lead, "n": len(mine)}
        for name, column in (("", "back"), ("MAP ", "map_back")):
            error = (mine[column] - mine["true_back"]).abs()
            row |= {f"{name}error": error.mean(), f"{name}within 1": (error <= 1).mean()}
            row[f"{name}within 2"] = (error <= 2).mean()
            row[f"{name}bias"] = (mine[column] - mine["true_back"]).mean()
        out.append(row)
    return pd.DataFrame(out)


def main() -> None:
    """Simulate, hide, forecast, score."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--bank", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/netterberg"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = run(given.patients, given.bank, given.seed, given.threads, tell=True)
    rows.to_csv(given.out / "rows.csv", index=False)
    first = rows[rows["cut"] == 0]
    print(
        f"grade 4 in {first['grade_4'].mean():.1%}, back at baseline on day "
        f"{first['true_back'].median():.1f}, lowest {np.exp(first['true_nadir'].median()):.2f}"
    )
    for name, table in (
        ("grade_4", of_grade_4(rows)),
        ("days", of_days(rows)),
        ("leads", of_leads(rows)),
    ):
        table.to_csv(given.out / f"{name}.csv", index=False)
        print(f"\n{name}\n{table.round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
