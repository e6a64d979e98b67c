"""The figure of one patient's forecast: counts with bands, and recovery by day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from pkpd.arrays import Floats
from pkpd.data.dataset import BELOW
from pkpd.fitting.plots.style import (
    BLUE,
    GREY,
    INK,
    RUST,
    SKY,
    WIDTH,
    censored_points,
    log_axis,
    points,
    styled,
)
from pkpd.forecasting.bank import BOTH, Level, criterion
from pkpd.forecasting.seen import Seen
from pkpd.forecasting.words import last_known, why_not_known

if TYPE_CHECKING:
    import xarray as xr

    from pkpd.forecasting.result import Forecast

COLOURS = {"neutrophils": BLUE, "platelets": RUST}
TRANSFUSED = "platelets"
ZIGZAG = 0.1
"""Distance of the logarithm of the median from its mean over three mornings: beyond it that is
drawn."""
FLOOR = {"neutrophils": 0.01, "platelets": 1.0, "wbc": 0.05, "marrow_blasts": 0.1}
_BANDS = ((0.05, 0.95, 0.16), (0.25, 0.75, 0.30))  # quantiles, and how dark between them
_STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))


@styled
def draw(forecast: Forecast, label: Any) -> Figure:
    """Draw the forecast of one patient; the counts alone where it cannot tell.

    Parameters
    ----------
    forecast, label
        Whose.
    """
    one, weighed = forecast.dataset.sel(patient=label), forecast.weighed[label]
    seen = weighed.seen
    lines = [
        x for x in ("neutrophils", "platelets", "wbc", "marrow_blasts") if _shown(x, one, seen)
    ]
    figure = Figure(figsize=(WIDTH, 2.0 * len(lines) + 1.9), layout="constrained")
    every = figure.subplots(len(lines) + 1, 1, sharex=True)
    back = weighed.bank.asked.back or {}
    for ax, line in zip(every, lines, strict=False):
        _counts(ax, one, seen, line, back.get(line), weighed.trusted)
    _recovered(every[-1], one, dict(back) if weighed.trusted else {}, seen.last_day)
    every[-1].set_xlabel("protocol day (day 1 = first dose)")
    every[0].set_title(f"Patient {label}: counts until day {seen.last_day}")
    every[0].set_xlim(1, int(one["day"].values[-1]))
    marks = _marks(weighed.trusted, censored=bool((seen.censored == BELOW).any()))
    figure.legend(handles=marks, loc="outside lower left", ncols=len(marks), handlelength=1.6)
    return figure


def _marks(trusted: bool, censored: bool) -> list[Any]:
    """Say what marks and bands of counts are; their colours are those of lines."""
    marks: list[Any] = [
        Line2D([], [], ls="", marker="o", mfc="none", mec=INK, ms=4, label="counted")
    ]
    if censored:
        marks.append(Line2D([], [], ls="", marker="v", color=RUST, ms=4, label="below the limit"))
    if trusted:
        bands = ((alpha, f"{high - low:.0%}".replace("%", " %")) for low, high, alpha in _BANDS)
        marks.append(Line2D([], [], color=GREY, label="median of the forecast"))
        marks += [Patch(color=GREY, alpha=a, lw=0, label=f"{of} of it") for a, of in bands]
    return [*marks, Line2D([], [], color=GREY, lw=0.7, label="last count")]


def _shown(line: str, one: xr.Dataset, seen: Seen) -> bool:
    known = line in one["line"].values
    return known and (line in COLOURS or line in seen.line)


def _counts(
    ax: Axes, one: xr.Dataset, seen: Seen, line: str, back: Level | None, trusted: bool
) -> None:
    counts, day = one["count"].sel(line=line), one["day"].values
    floor, colour = FLOOR.get(line, 0.01), COLOURS.get(line, GREY)

    def at_level(level: float) -> Floats:
        values = np.maximum(counts.sel(quantile=level).values, floor)
        return _over_three_mornings(values, seen.last_day) if transfused else values

    transfused = False
    middle = at_level(0.5)
    smooth = _over_three_mornings(middle, seen.last_day)
    transfused = line == TRANSFUSED and bool(np.any(np.abs(np.log(middle / smooth)) > ZIGZAG))
    if transfused and trusted:
        ax.annotate(
            "platelets after the last count: means over three mornings, as the mornings of "
            "transfusions are not known",
            (1.0, 1.02), xycoords="axes fraction", ha="right", va="bottom", fontsize=6.5,
            color=GREY,
        )  # fmt: skip
    if line == "wbc" and trusted:
        ax.annotate(
            "what the marrow makes: lymphocytes, which a count also holds, are not in it",
            (1.0, 1.02), xycoords="axes fraction", ha="right", va="bottom", fontsize=6.5,
            color=GREY,
        )  # fmt: skip
    # a few virtual patients would give narrow bands
    for low, high, alpha in _BANDS if trusted else ():
        ax.fill_between(day, at_level(low), at_level(high), color=colour, alpha=alpha, linewidth=0)
    if trusted:
        ax.plot(day, at_level(0.5), color=colour)
    mine = np.array([name == line for name in seen.line], dtype=bool)
    at, value = seen.time[mine] + 1.0, np.maximum(seen.value[mine], floor)
    below = seen.censored[mine] == BELOW
    points(ax, at[~below], value[~below])
    censored_points(ax, at[below], value[below])
    if back is not None and not isinstance(back, str):
        ax.axhline(back, color=INK, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
        ax.annotate(
            f"{back:g}", (1.0, back), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    ax.axvline(seen.last_day, color=GREY, linewidth=0.7, zorder=0)
    log_axis(ax.yaxis)
    unit = "%" if line == "marrow_blasts" else "10⁹/L"
    ax.set_ylabel(f"{line.replace('_', ' ')}\n({unit})")


def _over_three_mornings(values: Floats, last_day: int) -> Floats:
    """Quantiles after the last count, their logarithms averaged with weights 1, 2 and 1.

    Virtual patients like one patient are transfused on the same mornings, as often as every other:
    what they have in common is not when that will be.
    """
    logs = np.log(values)
    out = logs.copy()
    out[1:-1] = 0.25 * logs[:-2] + 0.5 * logs[1:-1] + 0.25 * logs[2:]
    out[-1] = 0.5 * (logs[-2] + logs[-1])
    out[:last_day] = logs[:last_day]
    return np.exp(out)


def _recovered(ax: Axes, one: xr.Dataset, back: dict[str, Level], last: int) -> None:
    names = [criterion(*item) for item in back.items()]
    colours = [COLOURS.get(line, SKY) for line in back]
    if back and BOTH in one["criterion"].values:
        names, colours = [*names, BOTH], [*colours, INK]
    day = one["day"].values
    for name, colour, style in zip(names, colours, _STYLES, strict=False):
        share = one["recovered_after"].sel(criterion=name).values
        # it is of what comes after, as far as what confirms a recovery is simulated
        label, ahead = name.replace(">=", "≥"), (day >= last) & (day <= last_known(one))
        ax.step(day[ahead], share[ahead], where="post", color=colour, linestyle=style, label=label)
    ax.axvline(last, color=GREY, linewidth=0.7, zorder=0)
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}"))
    ax.set_ylabel("back by that day\nif no more is given\n(of 100)")
    if back:
        ax.legend(loc="lower right")
    else:
        why = why_not_known(int(one["counts_used"]))
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center")
