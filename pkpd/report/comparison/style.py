"""Labels of figures that keep apart, in the style that figures of fits have too.

Every line is told apart by its style and a direct label as well as by its colour, so that the
figures survive a grey-scale printer.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from matplotlib.lines import Line2D

from pkpd.fitting.plots.style import GREY, INK, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GREY", "INK", "beside", "labels_at_right", "spread_labels", "styled", "wrapped"]


def spread_labels(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions on a line apart so that neighbours keep a distance, moving them little.

    Parameters
    ----------
    positions
        Wanted positions, in any order and unit.
    gap
        Least distance in the same unit.

    Returns
    -------
    list of float
        New positions in the order of the input; the order along the line is kept.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    groups: list[tuple[list[int], float]] = []  # members and centre
    for i in order:
        members, centre = [i], float(positions[i])
        while groups:
            previous, middle = groups[-1]
            half = gap * (len(previous) + len(members)) / 2.0
            if centre - middle >= half - 1e-12:
                break
            groups.pop()
            members = previous + members
            centre = float(np.mean([positions[j] for j in members]))
        groups.append((members, centre))
    placed = [0.0] * len(positions)
    for members, centre in groups:
        for rank, i in enumerate(members):
            placed[i] = centre + gap * (rank - (len(members) - 1) / 2.0)
    return placed


def labels_at_right(
    ax: Axes, labels: Sequence[tuple[float, str]], colours: Sequence[str] | None = None
) -> None:
    """Label heights (axes fractions) outside the right edge, moved apart where they collide."""
    figure = cast("Figure", ax.get_figure(root=True))
    box = ax.get_window_extent()
    width, height = (72.0 * side / figure.dpi for side in (box.width, box.height))
    gap = 8.0 / max(height, 40.0)
    spread = spread_labels([y for y, _ in labels], gap)
    for i, ((y, text), place) in enumerate(zip(labels, spread, strict=True)):
        colour = INK if colours is None else colours[i]
        ends = ([1.0 + 1.5 / width, 1.0 + 8.0 / width], [y, place])
        ax.add_artist(
            Line2D(*ends, color=colour, linewidth=0.5, transform=ax.transAxes, clip_on=False)
        )
        ax.text(
            1.0 + 9.5 / width,
            place,
            text,
            fontsize=6.5,
            color=colour,
            va="center_baseline",
            transform=ax.transAxes,
        )


def beside(ax: Axes, y: float, text: str, colour: str) -> None:
    """Write beside the right edge, at a height of the data."""
    ax.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=colour,
        annotation_clip=False,
    )


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most so many characters; words stay whole."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
