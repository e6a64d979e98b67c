"""The figure of a search: schedules by risk and by what is gained, with intervals over draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from pkpd.fitting.plots.style import BLUE, GREY, INK, RUST, WIDTH, styled
from pkpd.search.words import head

if TYPE_CHECKING:
    from pkpd.search.result import SearchResult


@styled
def draw(found: SearchResult) -> Figure:
    """Draw all schedules of the first view.

    Across: the first limited measure, without limits the first; up: the first objective that is to
    be high. The listed schedules have their numbers and names.

    Parameters
    ----------
    found
        The search.
    """
    one, limit = found.answers[found.view], next(iter(found.menu.limits), None)
    across = next(iter(one.measures)) if limit is None else limit.of
    gains = [n for n in found.objectives[found.view] if one.measures[n].better == "high"]
    others = [n for n in one.measures if n != across]
    up = next((n for n in ("remission", *gains) if n in others), others[0])
    listed = found.short_list
    figure = Figure(figsize=(WIDTH, 3.6 + 0.16 * len(listed)), layout="constrained")
    ax = figure.subplots()
    scale = {n: 100.0 if one.measures[n].unit == "probability" else 1.0 for n in (across, up)}
    drawn: tuple[str, ...] = ()
    allowed = dict(zip(one.members, one.allowed(found.menu.limits), strict=True))
    for member in one.members:
        x, y = (one.figures[member][n] for n in (across, up))
        colour = BLUE if member in listed else (INK if allowed[member] else GREY)
        mark = "o" if allowed[member] else "x"
        ax.plot(scale[across] * x.mean, scale[up] * y.mean, mark, color=colour, ms=4)
        if member in listed:
            sides = ((x.lower, x.upper), (y.lower, y.upper))
            if any(low < high for low, high in sides):
                drawn = ("lines: 90 % over draws",)
            ax.plot([scale[across] * v for v in sides[0]], [scale[up] * y.mean] * 2,
                    color=BLUE, lw=0.7, alpha=0.6)  # fmt: skip
            ax.plot([scale[across] * x.mean] * 2, [scale[up] * v for v in sides[1]],
                    color=BLUE, lw=0.7, alpha=0.6)  # fmt: skip
            ax.annotate(str(listed.index(member) + 1), (scale[across] * x.mean, scale[up] * y.mean),
                        xytext=(3, 3), textcoords="offset points", color=BLUE)  # fmt: skip
    if limit is not None:
        ax.axvline(scale[across] * limit.level, color=RUST, lw=0.8, ls=(0, (5, 1.5)))
        drawn += ("dashed: limit",)
    for setter, name in ((ax.set_xlabel, across), (ax.set_ylabel, up)):
        measure = one.measures[name]
        setter(f"{head(measure)} ({'%' if scale[name] == 100.0 else measure.unit})")
    ax.set_title(found.menu.title)
    words = [f"{n}  {member}" for n, member in enumerate(listed, start=1)]
    forbidden = () if all(allowed.values()) else ("x  not allowed",)
    words.append(";  ".join((*forbidden, *drawn)))
    figure.supxlabel("\n".join(words), fontsize=7.5, x=0.01, ha="left")
    return figure
