"""The table of shapes: how neutrophils come back, in patients and in the model, by source.

The model is that of each structure of the marrow with a population learned from all series, eight
times from other seeds. Its virtual patients are counted on the sampling days of the real ones, and
recorded as they are: given to 0.1, and as limits where there is no differential. A median is that
of the patients of all eight fits, and ``error`` is the standard error that the seeds leave in it.
Rows of 7+3 are of the cards, daily, without data beside them. Printed, and written as CSV.
"""

# ruff: noqa: T201

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from forecasts import Chain, SourceBank
from marrow_bank import FULL_DAY, RATE, STRUCTURES, MarrowBank
from numpy.typing import NDArray
from places import CYTOKINES, arguments, find_prefix, run
from population import Population, fit
from recording import CORRELATION, SCATTER_AHEAD, recorded_draw
from series import RECOVERED, SOURCES, Series, read_cytokines, read_series

from pkpd.files import whole
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import simulate
from pkpd.marrow.variants import VARIANTS
from pkpd.schedule import NEVER, Course, DoseRule, GrowthFactorPolicy, Regimen, parse_days

Floats = NDArray[np.float64]
Shape = dict[str, float]

RECOVERY, NEXT, SECOND = "day of recovery", "next day / first", "second day / first"
FROM_LITTLE = "0.15-0.3 -> 0.5, days"
TENTH, ONE = "0.1 -> 0.5, days", "0.5 -> 1.0, days"
OVERSHOOT = "peak of a week / two to three weeks later"
LEARNED = {"rate of regrowth, 1/day": RATE, "day of a full pool, in time": FULL_DAY}
LATE = "share late"
STATISTICS = (RECOVERY, NEXT, SECOND, FROM_LITTLE, TENTH, ONE, OVERSHOOT)

COLUMNS = ("source", "statistic", "of", "n", "q10", "median", "q90", "median_low", "median_high",
           "error")  # fmt: skip
_SCATTERED = "ten_stages, scatter"
_VIRTUAL = 20  # virtual patients of a fit for each real one
_SEEDS = range(1, 9)
_BOOTSTRAPS, _SEED = 2000, 1
_LEAST = 0.002  # 10^9/L, the least granulocytes that were counted
_SEVEN_THREE = (("daunorubicin", 60, "1-3"), ("cytarabine", 100, "1-7"))
_HORIZON, _PATIENTS = 70, 2000


def shape(series: Series) -> Shape:
    """Statistics of one series; what cannot be told is left out."""
    return _interpolated(series) if series.always else _daily(series)


def _daily(series: Series) -> Shape:
    """Those of counts that are known by day."""
    found: Shape = {}
    count = {
        int(day): float(value)
        for day, value, limited in zip(series.days, series.counts, series.limited, strict=True)
        if not limited
    }
    first = series.recovery
    from_little = _from_little(series, count)
    if from_little is not None:
        found[FROM_LITTLE] = from_little
    if first is None:
        return found
    found[RECOVERY] = first
    for name, later in ((NEXT, first + 1), (SECOND, first + 2)):
        if later in count:
            found[name] = count[later] / count[first]
    full = [day for day in sorted(count) if day >= first and count[day] >= 1.0]
    if full:
        found[ONE] = full[0] - first
    return found | _overshoot(count, first)


def _interpolated(series: Series) -> Shape:
    """Those of counts that are known to the last cell, by interpolation of their logarithms."""
    after = series.days >= 0
    days, logs = series.days[after], np.log(np.maximum(series.counts[after], _LEAST))
    cross = partial(_last_rise, days, logs)
    tenth, half, one = cross(0.1), cross(RECOVERED), cross(1.0)
    found: Shape = {}
    if half is None:
        return found
    found[RECOVERY] = half
    if tenth is not None:
        found[TENTH] = half - tenth
    if one is not None and one >= half:
        found[ONE] = one - half
    return found


def _last_rise(days: NDArray[np.int64], logs: Floats, level: float) -> float | None:
    """Day on which counts pass a level for the first time after the least of them."""
    start = int(logs.argmin())
    above = np.flatnonzero(logs[start:] >= np.log(level)) + start
    if not above.size or above[0] == start:
        return None
    i = above[0]
    share = (np.log(level) - logs[i - 1]) / (logs[i] - logs[i - 1])
    return float(days[i - 1] + share * (days[i] - days[i - 1]))


def _from_little(series: Series, count: dict[int, float]) -> float | None:
    """Days to 0.5 from the first count of 0.15 to 0.3 that follows a lower one."""
    low = False
    for day in series.days[series.days >= 0]:
        value = count.get(int(day), 0.0)
        if low and 0.15 <= value <= 0.3:
            later = [d for d in sorted(count) if d > day and count[d] >= RECOVERED]
            return float(later[0] - day) if later else None
        if value > 0.3:
            low = False
        low = low or value < 0.15
    return None


def _overshoot(count: dict[int, float], first: int) -> Shape:
    week = [v for day, v in count.items() if first <= day < first + 7]
    later = [v for day, v in count.items() if first + 14 <= day <= first + 21]
    return {OVERSHOOT: max(week) / float(np.median(later))} if later else {}


def virtual_series(
    bank: SourceBank, real: Sequence[Series], rng: np.random.Generator, scatter: float
) -> list[Series]:
    """Virtual patients of a population, counted on the days of real ones and recorded as they are.

    ``scatter`` is the scale of errors of the logarithm of a count; 0: curves as they are.
    """
    found = []
    curves, other = bank.drawn(bank.log_prior, _VIRTUAL * len(real), rng)
    for i, (curve, cells) in enumerate(zip(curves, other, strict=True)):
        like = real[i % len(real)]
        days = like.days[(like.days >= 0) & (like.days < len(curve))]
        if like.always:
            shown, limited = curve[days] * np.exp(scatter * _errors(days, rng)), None
        else:
            shown, limited = recorded_draw(curve, cells, days, rng, scatter)
        none = np.zeros(len(days), bool)
        found.append(Series(f"v{i}", "1", like.source, days, shown,
                            none if limited is None else limited, like.always))  # fmt: skip
    return found


def _errors(days: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Draw normal errors of counts, correlated as those of successive days are."""
    found = rng.standard_normal(len(days))
    for i, gap in enumerate(np.diff(days), 1):
        carried = CORRELATION ** float(gap)
        found[i] = carried * found[i - 1] + np.sqrt(1.0 - carried**2) * found[i]
    return found


def seven_three(structure: str, growth_factor: bool) -> list[Series]:
    """Daily counts after 7+3 by the cards of a structure; filgrastim below 2 from day 8."""
    rules = tuple(
        DoseRule(drug, amount, "mg/m^2", days=parse_days(days)[0], route="iv")
        for drug, amount, days in _SEVEN_THREE
    )
    policy = GrowthFactorPolicy(below=2.0, from_day=8) if growth_factor else NEVER
    regimen = Regimen((Course("7+3", rules, _HORIZON, cycles=1),))
    arm = Arm("7+3", ArmSchedule(regimen, _HORIZON, growth_factor=policy), "aml")
    theta = leukaemia_cards(structure).theta
    course, _ = simulate(arm, theta, who(arm, _PATIENTS, _SEED), VARIANTS[structure])
    days, none = np.arange(_HORIZON), np.zeros(_HORIZON, bool)
    name = "7+3 with filgrastim" if growth_factor else "7+3"
    return [
        Series(f"v{i}", "1", name, days, curve, none) for i, curve in enumerate(course.neutrophils)
    ]


def rows(source: str, of: str, series: Iterable[Series], bootstrap: bool) -> list[dict]:
    """Rows of the table for one source of data or of a model."""
    every = [shape(one) for one in series]
    if "7+3" in source:
        for own, one in zip(every, series, strict=True):
            whole_days = Series("", "", "", one.days, one.counts, one.limited, always=True)
            steps = _interpolated(whole_days)
            own.pop(ONE, None)
            own |= {name: steps[name] for name in (TENTH, ONE) if name in steps}
    found, rng = [], np.random.default_rng(_SEED)
    for name in STATISTICS:
        values = np.array([own[name] for own in every if name in own])
        if not values.size:
            continue
        low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
        row = {"source": source, "statistic": name, "of": of, "n": values.size,
               "q10": low, "median": median, "q90": high}  # fmt: skip
        if bootstrap:
            again = values[rng.integers(values.size, size=(_BOOTSTRAPS, values.size))]
            edges = np.quantile(np.median(again, axis=1), [0.025, 0.975])
            row |= dict(zip(("median_low", "median_high"), edges, strict=True))
        found.append(row)
    return found


def fits_of(
    structure: str, series: Sequence[Series], sources: tuple[str, ...], scatters: Sequence[float]
) -> list[tuple[list[Population], dict[tuple[str, float], list[Series]]]]:
    """Fit a structure from each seed: populations, and virtual series by source and scatter."""
    one = partial(_one_fit, structure, series, sources, scatters)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, _SEEDS))


def _one_fit(
    structure: str,
    series: Sequence[Series],
    sources: tuple[str, ...],
    scatters: Sequence[float],
    seed: int,
) -> tuple[list[Population], dict[tuple[str, float], list[Series]]]:
    marrow = MarrowBank(structure)
    populations = fit(marrow, series, seed=seed, sources=sources)
    chain, found = Chain(marrow, populations, seed=seed), {}
    for source in sources:
        real, rng = [one for one in series if one.source == source], np.random.default_rng(seed)
        for scatter in scatters:
            found[source, scatter] = virtual_series(chain.of(source), real, rng, scatter)
    return populations, found


def model_rows(structure: str, real: dict[str, list[Series]]) -> list[dict]:
    """Rows of a structure with populations learned from all series."""
    found = []
    names = {0.0: structure}
    if structure == "ten_stages":
        names[SCATTER_AHEAD] = _SCATTERED
    for sources in (SOURCES, ("cytokines",)):
        series = [one for source in sources for one in real.get(source, [])]
        if not series:
            continue
        fits = fits_of(structure, series, sources, tuple(names))
        for place, source in enumerate(sources):
            populations = [one for one, _ in fits]
            found += learned_rows(source, structure, populations, place, len(real[source]))
            for scatter, name in names.items():
                own = [virtual[source, scatter] for _, virtual in fits]
                found += pooled_rows(source, name, own)
    return found


def pooled_rows(source: str, of: str, by_fit: Sequence[Sequence[Series]]) -> list[dict]:
    """Rows of the virtual patients of all fits, with the error that the fits' seeds leave."""
    pooled = rows(source, of, [one for own in by_fit for one in own], bootstrap=False)
    alone = [rows(source, of, own, bootstrap=False) for own in by_fit]
    for row in pooled:
        medians = [
            one["median"] for own in alone for one in own if one["statistic"] == row["statistic"]
        ]
        row["error"] = float(np.std(medians, ddof=1) / np.sqrt(len(medians)))
    return pooled


def learned_rows(
    source: str, structure: str, fits: Sequence[Sequence[Population]], place: int, n: int
) -> list[dict]:
    """Make rows of what the fits learned of a source, with the least and largest bootstraps."""
    found, again = [], [p for _, *own in fits for p in own]
    for name, parameter in LEARNED.items():
        medians = [np.exp(first.mean[place, parameter]) for first, *_ in fits]
        width = np.exp(1.2816 * np.mean([first.spread[place, parameter] for first, *_ in fits]))
        median = float(np.exp(np.mean(np.log(medians))))
        others = [np.exp(p.mean[place, parameter]) for p in again]
        row = {"source": source, "statistic": name, "of": structure, "n": n,
               "q10": median / width, "median": median, "q90": median * width,
               "median_low": min(others), "median_high": max(others),
               "error": float(np.std(medians, ddof=1) / np.sqrt(len(medians)))}  # fmt: skip
        found.append(row)
    late = [[p.levels[place] @ p.share_late(place) for p in own] for own in fits]
    firsts = [own[0] for own in late]
    row = {"source": source, "statistic": LATE, "of": structure, "n": n,
           "median": float(np.mean(firsts)), "median_low": min(min(own[1:]) for own in late),
           "median_high": max(max(own[1:]) for own in late),
           "error": float(np.std(firsts, ddof=1) / np.sqrt(len(firsts)))}  # fmt: skip
    return [*found, row]


def tell(table: Sequence[dict]) -> None:
    """Print medians of data and models beside each other; SE is that of the seeds of the fits."""
    models = (*STRUCTURES, _SCATTERED)
    print(f"{'':62s}{'data (95 % interval)':>24s}" + "".join(f"{m:>21s}" for m in models))
    values = {(r["source"], r["statistic"], r["of"]): r for r in table}
    for source in dict.fromkeys(r["source"] for r in table):
        for name in (*STATISTICS, *LEARNED, LATE):
            data = values.get((source, name, "data"))
            others = [values.get((source, name, model)) for model in models]
            if data is None and not any(others):
                continue
            known = ""
            if data is not None:
                low, high = data["median_low"], data["median_high"]
                known = f"{data['median']:.2f} ({low:.2f} to {high:.2f})"
            shown = [_with_error(r) if r else "" for r in others]
            print(f"{source:20s}{name:42s}{known:>24s}" + "".join(f"{s:>21s}" for s in shown))


def _with_error(row: dict) -> str:
    """Write a median with the error that the seeds of the fits leave in it."""
    median = f"{row['median']:.2f}"
    return f"{median} (SE {row['error']:.2f})" if row.get("error", 0.0) >= 0.005 else median


def main() -> None:
    """Learn populations, make the table."""
    options = arguments(__doc__ or "", Path("build/fits/transplant_shapes.csv"))
    prefix = find_prefix(options.data)
    real: dict[str, list[Series]] = {source: [] for source in SOURCES}
    for one in read_series(prefix):
        real[one.source].append(one)
    cytokines = read_cytokines(prefix.parent / CYTOKINES)
    if cytokines:
        real["cytokines"] = cytokines
    table = [row for source, own in real.items() for row in rows(source, "data", own, True)]
    for structure in STRUCTURES:
        table += model_rows(structure, real)
    for structure in ("ten_stages", "full"):
        for growth_factor in (False, True):
            series = seven_three(structure, growth_factor)
            table += rows(series[0].source, structure, series, bootstrap=False)
    tell(table)
    with whole(options.out) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in table:
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)


if __name__ == "__main__":
    run(main)
