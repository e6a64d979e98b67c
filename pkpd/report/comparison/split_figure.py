"""What has become of the patients of each cohort by day: stacked areas, and a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pkpd.report import wording
from pkpd.report.comparison.figures import day_axis, rule_day
from pkpd.report.comparison.layout import TICKS, WIDTH, place_labels, sheet, title_height
from pkpd.report.comparison.split_words import COLOURS, of_100, split_states
from pkpd.report.comparison.style import INK, labels_at_right, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pkpd.comparison.results import TrialResult

_KEY_COLUMNS = 3


@styled
def split_panel(
    result: TrialResult, cohort: str, ax: Axes | None = None, *, title_width: int = 60
) -> Axes:
    """Draw the shares of patients in each state by day, stacked to 100 %.

    Parameters
    ----------
    result, cohort
        ``curves["split"]`` holds the share of patients in each state on the morning of each day.
    ax
        Axes to draw on; by default a new figure's.
    title_width
        Characters of the title before it wraps.

    Notes
    -----
    The numbers at the right are the shares on the last morning; states that round to nothing there
    have none. A state that no patient of the trial is ever in is left out.
    """
    if ax is None:
        ax = Figure(figsize=(4.2, 2.8), layout="constrained").add_subplot()
    data = result.curves["split"].sel(cohort=cohort, state=split_states(result))
    day = data["day"].values
    shares = data.transpose("state", "day").values
    edges = np.vstack([np.zeros(day.size), np.cumsum(shares, axis=0)])
    numbers, labels = of_100(shares[:, -1]), []
    for s, state in enumerate(map(str, data["state"].values)):
        ax.fill_between(
            day,
            edges[s],
            edges[s + 1],
            step="post",
            color=COLOURS[state],
            linewidth=0.4,
            edgecolor="white",
        )
        if numbers[s]:
            middle = 0.5 * (edges[s, -1] + edges[s + 1, -1])
            labels.append((float(middle), f"{numbers[s]} %"))
    ax.set_ylim(0.0, 1.0)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100"])
    ax.set_ylabel("% of patients")
    day_axis(ax, result)
    ax.set_xlim(float(day[0]), float(day[-1]))
    labels_at_right(ax, labels)
    rule_day(ax, result, height=0.13)
    ax.set_title(wrapped(wording.cohort_title(result.trial, cohort), title_width), y=1.0, pad=4.0)
    return ax


@styled
def split_figure(result: TrialResult, footer: str = "") -> Figure:
    """Draw the split by day: a panel for each cohort."""
    ids = [str(c) for c in result.curves["cohort"].values]
    columns = min(2, len(ids))
    letters = 90 if columns == 1 else 40
    above = title_height(wrapped(wording.cohort_title(result.trial, c), letters) for c in ids)
    high = 1.35
    pitch = above + high + TICKS
    rows_of_key = math.ceil(len(split_states(result)) / _KEY_COLUMNS)
    room = math.ceil(len(ids) / columns) * pitch + TICKS + 0.2 * (rows_of_key - 1)
    page = sheet(result, "what has become of the patients", room, footer, legend=True)
    for i, cohort in enumerate(ids):
        row, column = divmod(i, columns)
        left = column * WIDTH / columns + 0.52
        ax = page.panel(left, row * pitch + above, WIDTH / columns - 1.0, high)
        split_panel(result, cohort, ax, title_width=letters)
        place_labels(ax)
        if i + columns < len(ids):
            ax.set_xlabel("")
    page.legend(
        (
            Patch(facecolor=COLOURS[state], edgecolor=INK, linewidth=0.4, label=state)
            for state in reversed(split_states(result))
        ),
        ncols=_KEY_COLUMNS,
        handlelength=1.4,
        columnspacing=1.4,
    )
    return page.figure
