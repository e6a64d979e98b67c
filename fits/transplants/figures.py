"""Draw docs/images/recoveries.png: ten series with their forecasts, and the calibration of all.

Every series is forecast from the folds it is not in. Points are counts of Liao et al., Sci Data
2021;8:71 (CC BY 4.0); triangles are limits.
"""

# ruff: noqa: T201

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from forecast_recoveries import arguments as forecast_arguments
from forecast_recoveries import learn_and_forecast
from forecasts import Chain, Forecasts
from marrow_bank import MarrowBank
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from places import arguments, find_prefix, run
from population import fit
from scores import Scored, score
from series import RECOVERED, SOURCE_WORDS, Series, folds, read_series

from pkpd.files import whole

SHOWN_DAYS = (8, 10, 12)
COLOURS = dict(zip(SHOWN_DAYS, ("#d95f02", "#1b9e77", "#3b5fc0"), strict=True))
EACH = {"PBSC_unmodified": 3, "TCD": 1, "BM_unmodified": 3, "cord": 3}
"""Series drawn of each source: those whose days lie at the middles of equal parts."""

_LEAST, _MOST, _UNTIL, _DRAWS = 0.03, 60.0, 34, 2000
_BARS = (0.065, 0.05, 0.0385)  # heights of the intervals of the day of recovery
_PARTS = 20
_PALETTE = 128


def chosen(series: Sequence[Series]) -> list[Series]:
    """Pick series by their day of recovery, without a look at their forecasts."""
    found = []
    for source, many in EACH.items():
        own = [s for s in series if s.source == source and s.recovery]
        own = [s for s in own if max(s.landmarks, default=0) >= 8]
        own.sort(key=lambda s: (s.recovery, s.key))
        found += [own[int((i + 0.5) / many * len(own))] for i in range(many) if own]
    return found


def draw_series(axes: Axes, series: Series, chain: Chain, forecasts: Forecasts) -> None:
    """Draw counts of one series, curves to come and its forecast days."""
    rng = np.random.default_rng(1)
    bank = chain.of(series.source)
    axes.axhline(RECOVERED, color="0.6", lw=0.7)
    for landmark, bar in zip(SHOWN_DAYS, _BARS, strict=True):
        if landmark not in series.landmarks:
            continue
        colour = COLOURS[landmark]
        weights = bank.log_weights(series.recorded, (landmark,))[0]
        curves, _ = bank.drawn(weights, _DRAWS, rng)
        days = np.arange(landmark, _UNTIL + 1)
        low, middle, high = np.quantile(curves[:, days], [0.25, 0.5, 0.75], axis=0)
        axes.fill_between(days, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(days, middle, color=colour, lw=1.1)
        whole_mass = np.cumsum(forecasts[(*series.key, landmark)])
        edges = np.searchsorted(whole_mass, [0.05, 0.25, 0.75, 0.95])
        axes.plot(edges[[0, 3]], [bar, bar], color=colour, lw=1.0)
        axes.plot(edges[[1, 2]], [bar, bar], color=colour, lw=3.2, solid_capstyle="butt")
    seen = (series.days >= 0) & (series.days <= _UNTIL)
    days, counts, limited = series.days[seen], series.counts[seen], series.limited[seen]
    axes.plot(days[~limited], np.maximum(counts[~limited], _LEAST), "k.", ms=3.5)
    axes.plot(days[limited], counts[limited], "v", color="0.55", ms=2.2)
    if series.recovery:
        axes.axvline(series.recovery, color="k", lw=0.6, ls=":")
    axes.set(yscale="log", ylim=(_LEAST, _MOST), xlim=(0, _UNTIL))
    axes.set_title(SOURCE_WORDS[series.source], fontsize=8, pad=2)
    axes.tick_params(labelsize=7)


def draw_calibration(axes: Axes, named: dict[str, Scored]) -> None:
    """Draw how often outcomes lie below each quantile of their forecasts."""
    shares = np.linspace(0.0, 1.0, _PARTS + 1)
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    for (name, scored), colour in zip(named.items(), ("k", "#7570b3"), strict=True):
        axes.plot(shares, _below(scored, shares), color=colour, lw=1.3, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xlabel("quantile of the forecast", fontsize=8)
    axes.set_ylabel("share of outcomes below", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    axes.tick_params(labelsize=7)


def draw_landmarks(axes: Axes, named: dict[str, Scored]) -> None:
    """Draw the CRPS at each landmark."""
    for (name, scored), colour in zip(named.items(), ("k", "#7570b3"), strict=True):
        days = np.unique(scored.landmarks)
        means = [scored.crps[scored.landmarks == day].mean() for day in days]
        axes.plot(days, means, ".-", color=colour, lw=1.2, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("forecast on day", fontsize=8)
    axes.set_ylabel("CRPS, days", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    axes.tick_params(labelsize=7)


def _below(scored: Scored, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean share of the mass of an outcome's day that lies below each quantile."""
    part = (shares[:, None] - scored.below) / np.maximum(scored.at, 1e-12)
    return np.clip(part, 0.0, 1.0).mean(axis=1)


def main() -> None:
    """Learn in three folds, forecast, draw."""
    options = arguments(__doc__ or "", Path("docs/images/recoveries.png"))
    series = read_series(find_prefix(options.data))
    settings = forecast_arguments(["given", "cv", "unused.csv"])
    alone: Forecasts = {}
    mixture: Forecasts = {}
    chain_of: dict[tuple[str, str], Chain] = {}
    marrow = MarrowBank()
    for given, held in folds(series):
        own, mixed = learn_and_forecast(given, held, settings)
        alone |= own
        mixture |= mixed
        chain = Chain(marrow, fit(marrow, given, seed=1), seed=1)
        chain_of |= {one.key: chain for one in held}
    figure = Figure(figsize=(9.5, 6.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.0, 1.05))
    grid, last = above.add_gridspec(2, 5), below.add_gridspec(1, 3, width_ratios=(2, 2, 1))
    for i, one in enumerate(chosen(series)):
        axes = above.add_subplot(grid[i // 5, i % 5])
        draw_series(axes, one, chain_of[one.key], alone)
        if i % 5 == 0:
            axes.set_ylabel("neutrophils, 10$^9$/L", fontsize=8)
        else:
            axes.set_yticklabels([])
        if i >= 5:
            axes.set_xlabel("day after the graft", fontsize=8)
    named = {"marrow": score(alone, series), "even mixture": score(mixture, series)}
    draw_calibration(below.add_subplot(last[0]), named)
    draw_landmarks(below.add_subplot(last[1]), named)
    legend = below.add_subplot(last[2])
    legend.axis("off")
    for day, colour in COLOURS.items():
        legend.plot([], [], color=colour, lw=2, label=f"forecast on day {day}")
    legend.plot([], [], "k.", label="count")
    legend.plot([], [], "v", color="0.55", ms=3, label="at most this")
    legend.plot([], [], "k:", lw=0.8, label="recovery")
    legend.legend(fontsize=7.5, frameon=False, loc="center")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    with whole(options.out) as target:
        # a palette takes a third of the bytes
        Image.open(picture).convert("RGB").quantize(_PALETTE).save(target, "PNG", optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run(main)
