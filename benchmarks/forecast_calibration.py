"""Are forecasts calibrated? Patients of the source itself are forecast from their first counts.

Run it with ``python benchmarks/forecast_calibration.py --marrow friberg --patients 1000``. Virtual
patients are drawn from the same source as the bank, with other random numbers; of each one
neutrophils and platelets are counted three times a week, with error, and the counts after a day are
hidden. Recovery has atoms (never low, not seen), so that its place in the forecast distribution is
drawn within them: over all patients of a calibrated forecast it is uniform, and in the middle 80 %
of it lie 80 % of the patients. Beside it stand the error of the median day, the Brier score of
"back by day 45", and both for the most probable patient (MAP) alone. A criterion "after" is that of
the clock of today: what is planned after the day is neither given to the patient nor forecast.
Beside it stands a naive forecast: all patients of the bank who are alive on the day of the last
count and whose count, with error, is on the same side of the threshold as this patient's.

The rows so far are kept in a file; the same command goes on where it was ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import pkpd
from pkpd.data.dataset import NOT_CENSORED
from pkpd.distributions import stream
from pkpd.errors import PkpdError
from pkpd.explorer.first_answers import made_from
from pkpd.forecasting import Forecaster, Measurement, Seen, forecaster, most_probable
from pkpd.forecasting.bank import BACK, BOTH, Bank, asked_of, criterion, simulated
from pkpd.forecasting.tempering import Tempering
from pkpd.forecasting.today import after_last_count, back_after
from pkpd.forecasting.weighing import Weighed

CUTS = (7, 10, 15, 21)
VISITS = (1, 3, 5, 8, 10, 12, 15, 17, 19)
LINES = ("neutrophils", "platelets")
BY_DAY = 45
NAIVE = 4000
"""Patients whom the naive forecast is taken from."""
CRITERIA = ("neutrophils >= 0.5", "platelets >= 20", "both")


def schedule_of(marrow: str) -> pkpd.Regimen:
    """Clofarabine for five days; with leukaemia lenalidomide with MEC."""
    if marrow == "friberg":
        return pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    return pkpd.load_trial("nct01681537_len_mec").cohort("10d-10").regimen


def counted(bank: Bank, measurement: Measurement, seed: int) -> list[Seen]:
    """Count the patients of a bank on the visits, with error."""
    rng, columns = stream(seed, "counts"), []
    for day in VISITS:
        for line in LINES:
            true = bank.counted(line, day - 1.0)
            columns.append(measurement.errors[line].simulate(true, bank.who.draw, rng))
    values = np.array(columns)
    names = tuple(line for _ in VISITS for line in LINES)
    times = np.repeat(np.array(VISITS) - 1.0, len(LINES))
    nothing = np.full(len(names), NOT_CENSORED), np.full(len(names), -np.inf)
    return [Seen(i, names, times, values[:, i], *nothing) for i in range(len(bank))]


def forecasts(
    made: Forecaster, seen: Seen, schedule: pkpd.Regimen, cuts: Sequence[int]
) -> Iterator[tuple[int, Weighed]]:
    """Forecasts of a patient from the counts up to each cut, one after the other."""
    before, known = None, 0.0
    for cut in cuts:
        new = seen.until(cut).taken(np.flatnonzero(seen.until(cut).time >= known))
        known = float(cut)
        before = (
            made.weighed(new, schedule) if before is None else made.updated(before, new, "auto")
        )
        yield cut, before


def place(times: np.ndarray, weights: np.ndarray, true: float, rng: np.random.Generator) -> float:
    """Place of a value in a weighed distribution, drawn within an atom that it lies on."""
    below = float(weights[times < true].sum())
    here = float(weights[times == true].sum())
    return below + rng.random() * here


class Naive:
    """When patients of a bank are back after a day, of those whose last count is alike."""

    def __init__(self, bank: Bank, measurement: Measurement, seed: int) -> None:
        self.bank, self.rng = bank, stream(seed, "naive counts")
        self.measurement = measurement
        self.known: dict[float, tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]] = {}

    def back(self, seen: Seen, name: str) -> np.ndarray:
        """Days of a criterion after the last count, of the patients who are alike."""
        time = float(seen.time.max())
        if time not in self.known:
            self.known[time] = self._of_day(seen, time)
        days, low = self.known[time]
        alike = self.bank.death_day > time + 1.0
        found = np.zeros(len(self.bank))
        for line in BACK if name == BOTH else [name.partition(" >= ")[0]]:
            mine = seen.last_counts.get(line, np.inf) < BACK[line]
            alike &= low[line] == mine
            of = days[criterion(line, BACK[line])]
            # who is counted as low is back on the next morning at the earliest
            found = np.maximum(found, np.where((of == 0) & mine, time + 1.0, of))
        return found[alike]

    def _of_day(
        self, seen: Seen, time: float
    ) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
        bank, low = self.bank, {}
        for line, level in BACK.items():
            error = self.measurement.errors[line]
            low[line] = error.simulate(bank.counted(line, time), bank.who.draw, self.rng) < level
        nothing = seen.taken(np.array([int(np.argmax(seen.time))]))
        nothing = Seen(0, ("wbc",), nothing.time, *(np.ones(1),), nothing.censored, nothing.lower)
        return back_after(bank.lanes, bank.who, bank.asked, nothing, 1, 1), low


def ends(times: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Quantiles 0.1, 0.5 and 0.9 of a weighed distribution."""
    order = np.argsort(times, kind="stable")
    total = np.cumsum(weights[order])
    return times[order][np.searchsorted(total, np.array([0.1, 0.5, 0.9]) * total[-1])]


def rows_of(
    one: Weighed, truth: Bank, i: int, cut: int, naive: Naive, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """Scores of one forecast, by criterion and clock."""
    after = after_last_count(one, 1, 1)
    there = back_after(truth.lanes, truth.who[[i]], truth.asked, one.seen, 1, 1)
    asked = [
        (name, one.bank.recovery[name], one.weights, float(truth.recovery[name][i]))
        for name in CRITERIA
    ]
    asked += [(f"{n}, after", after.back[n], after.weights, float(there[n][0])) for n in CRITERIA]
    for name, times, weights, true in asked:
        low, middle, high = ends(times, weights)
        row: dict[str, object] = {
            "patient": i,
            "cut": cut,
            "criterion": name,
            "true": true,
            "place": place(times, weights, true, rng),
            "low": low,
            "median": middle,
            "high": high,
            "p_by_day": float(weights @ (times <= BY_DAY)),
            "engine": one.engine,
            "k": one.k,
        }
        if name.endswith(", after"):
            plain = naive.back(one.seen, name.removesuffix(", after"))
            even = np.full(plain.size, 1.0 / plain.size)
            row["naive_place"] = place(plain, even, true, rng)
            row["naive_low"], row["naive_median"], row["naive_high"] = ends(plain, even)
        yield row


def between(rows: pd.DataFrame, until: int, name: str = "{}") -> tuple[pd.Series, pd.Series]:
    """Widths of intervals, and errors of medians; what is not seen counts as the last day."""
    low, middle, high, true = (
        rows[of].clip(upper=until) for of in (*map(name.format, ("low", "median", "high")), "true")
    )
    # who is not low is back on the day of the last count
    first = rows["cut"]
    width = high.clip(lower=first) - low.clip(lower=first)
    return width, (middle.clip(lower=first) - true.clip(lower=first)).abs()


def summary_of(rows: pd.DataFrame, until: int) -> pd.DataFrame:
    """Coverage and errors by criterion and cut."""
    out = []
    for (name, cut), mine in rows.groupby(["criterion", "cut"], sort=False):
        u, n = mine["place"], len(mine)
        inner = np.isfinite(mine["high"]) & (mine["low"] > 0)
        held = (mine["true"] >= mine["low"]) & (mine["true"] <= mine["high"])
        both = np.isfinite(mine["median"]) & np.isfinite(mine["true"])
        late = (mine["true"] <= BY_DAY).astype(float)
        row = {
            "criterion": name,
            "cut": cut,
            "n": n,
            "covered": float(((u >= 0.1) & (u <= 0.9)).mean()),
            "se": float(np.sqrt(0.16 / n)),
            "below": float((u < 0.1).mean()),
            "above": float((u > 0.9).mean()),
            "inner_n": int(inner.sum()),
            "inner_covered": float(held[inner].mean()) if inner.any() else np.nan,
            "width": float((mine["high"] - mine["low"])[inner].median()) if inner.any() else np.nan,
            "error_days": float((mine["median"] - mine["true"])[both].abs().mean()),
            "brier": float(((mine["p_by_day"] - late) ** 2).mean()),
            "tempered": float((mine["engine"] == "smc").mean()),
        }
        width, error = between(mine, until)
        row |= {"width_all": float(width.mean()), "error_all": float(error.mean())}
        if name.endswith(", after"):
            width, error = between(mine, until, "naive_{}")
            v = mine["naive_place"]
            row["naive_covered"] = float(((v >= 0.1) & (v <= 0.9)).mean())
            row |= {"naive_width": float(width.mean()), "naive_error": float(error.mean())}
        told = mine["map_day"].notna()
        if told.any():
            by, true = (mine["map_day"] <= BY_DAY)[told].astype(float), late[told]
            row["map_n"] = int(told.sum())
            row["map_brier"] = float(((by - true) ** 2).mean())
            row["brier_there"] = float(((mine["p_by_day"][told] - true) ** 2).mean())
            fine = told & both & np.isfinite(mine["map_day"])
            row["map_error_days"] = float((mine["map_day"] - mine["true"])[fine].abs().mean())
            row["error_days_there"] = float((mine["median"] - mine["true"])[fine].abs().mean())
        out.append(row)
    return pd.DataFrame(out)


def settings_of(given: argparse.Namespace) -> dict[str, object]:
    """Give what the rows depend on: settings, code, cards, libraries and the shipped posterior."""
    apart = ("out", "threads")
    settings = {name: value for name, value in vars(given).items() if name not in apart}
    files = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(pkpd.__file__).parent.rglob("*.nc")):
        files.update(path.read_bytes())
    return settings | {"code": made_from(), "files": files.hexdigest()}


def so_far(file: Path, settings: Mapping[str, object]) -> tuple[int, list[dict[str, object]]]:
    """How many patients an earlier run of the same settings has done, and its rows."""
    kept = file.with_suffix(".json")
    if not (file.exists() and kept.exists()):
        return 0, []
    before = json.loads(kept.read_text())
    done = int(before.pop("done"))
    if before != json.loads(json.dumps(settings)):
        return 0, []
    rows = [{str(name): value for name, value in row.items()} for row in
            pd.read_csv(file).to_dict("records")]  # fmt: skip
    return done, rows


def main() -> None:
    """Simulate, hide, forecast, score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--marrow", choices=("friberg", "leukaemia"), default="friberg")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--bank", type=int, default=10_000)
    parser.add_argument("--particles", type=int, default=Tempering().particles)
    parser.add_argument("--map-every", type=int, default=5, help="MAP of every n-th patient, or 0")
    parser.add_argument("--cuts", type=int, nargs="+", default=CUTS, help="days of the last count")
    parser.add_argument("--until-day", type=int, default=75)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/forecast_calibration"))
    given = parser.parse_args()
    schedule = schedule_of(given.marrow)
    source = pkpd.source("rr_aml", marrow=given.marrow, patients=1, draws=given.draws)
    made = forecaster(
        source, given.until_day, bank=given.bank, seed=given.seed, threads=given.threads
    )
    made.tempering = Tempering(given.particles)
    bank = made.bank_for(schedule)
    lanes = bank.lanes
    asked = asked_of(source, None, None, None, given.until_day)
    truth = simulated(lanes, lanes.drawn(given.patients, 10_000 + given.seed), asked, given.threads)
    every = counted(truth, made.measurement, given.seed)
    others = simulated(lanes, lanes.drawn(NAIVE, 20_000 + given.seed), asked, given.threads)
    naive = Naive(others, made.measurement, given.seed)
    start, file = time.perf_counter(), given.out / f"{given.marrow}.csv"
    given.out.mkdir(parents=True, exist_ok=True)
    made_of = settings_of(given)
    begun, rows = so_far(file, made_of)
    order = stream(given.seed, "order").permutation(given.patients)
    for done, i in enumerate(order, start=1):
        if done <= begun:
            continue
        rng = stream(given.seed, f"places of patient {i}")
        for cut, one in forecasts(made, every[i], schedule, given.cuts):
            if truth.death_day[i] < every[i].until(cut).last_day:
                break  # who has died is not forecast
            mine = list(rows_of(one, truth, int(i), cut, naive, rng))
            if given.map_every and done % given.map_every == 0:
                try:
                    mode = most_probable(
                        source, schedule, given.until_day, one.seen, made.measurement, one.aside
                    ).patient(asked)
                except PkpdError as error:
                    print(f"patient {i}, day {cut}: {error}")
                else:
                    for row in mine:
                        if str(row["criterion"]) not in CRITERIA:
                            continue
                        row["map_day"] = float(mode.recovery[str(row["criterion"])][0])
            rows += mine
        if done % 10 == 0 or done == given.patients:
            found = pd.DataFrame(rows)
            found["map_day"] = found.get("map_day", pd.Series(np.nan, found.index))
            found.to_csv(file, index=False)
            settings = made_of | {"done": done}
            file.with_suffix(".json").write_text(json.dumps(settings))
            print(f"{done} patients, {time.perf_counter() - start:.0f} s", flush=True)
    summary = summary_of(pd.read_csv(file), given.until_day)
    summary.round(4).to_csv(given.out / f"{given.marrow}_summary.csv", index=False)
    print(summary.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
