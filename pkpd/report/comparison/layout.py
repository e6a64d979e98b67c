"""Sheets that figures of a trial are drawn on: title, footer, legend, and panels placed in inches.

Panels have places that are worked out from what stands in them, once. Measuring what was drawn and
moving it, as matplotlib's own layouts do, takes longer than the drawing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from pkpd.report.comparison.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pkpd.comparison.results import TrialResult

WIDTH = 7.2
"""Inches: the text width of an A4 page."""

TITLE_LINE = 0.15
"""Inches of a line of a panel's title."""

TICKS = 0.22
"""Inches that the numbers below an axis take; its label takes as much again."""

_PAD = 0.03


@dataclass(frozen=True)
class Sheet:
    """A figure with room for panels between its title and its footer.

    Attributes
    ----------
    figure
        The matplotlib figure.
    bottom, top
        Inches from the lower edge to the room, and from the room to the upper edge.
    """

    figure: Figure
    bottom: float
    top: float

    def panel(self, left: float, above: float, width: float, height: float) -> Axes:
        """Add axes.

        Parameters
        ----------
        left, above
            Inches from the left edge, and from the upper end of the room.
        width, height
            Inches of the axes without labels.
        """
        whole = self.figure.get_size_inches()[1]
        low = whole - self.top - above - height
        place = (left / WIDTH, low / whole, width / WIDTH, height / whole)
        return self.figure.add_axes(place)

    def legend(self, handles: Iterable[Any], **more: Any) -> None:
        """Put a legend between the panels and the footer."""
        whole = self.figure.get_size_inches()[1]
        self.figure.legend(
            handles=list(handles),
            loc="lower left",
            bbox_to_anchor=(0.0, (self.bottom - 0.27) / whole),
            frameon=False,
            **more,
        )


def sheet(
    result: TrialResult, subject: str, room: float, footer: str, *, legend: bool = False
) -> Sheet:
    """Empty sheet.

    Parameters
    ----------
    result
        Whose trial's name and title stand above.
    subject
        What the figure is of.
    room
        Inches for the panels with their labels.
    footer
        Text below.
    legend
        Whether there is a legend.
    """
    trial = result.trial
    title = textwrap.wrap(f"{trial.name}: {subject}", 92)
    smaller = textwrap.wrap(trial.title, 120) if trial.title != trial.name else []
    foot = textwrap.wrap(footer, 140)
    bottom = 0.125 * len(foot) + 0.09 + (0.27 if legend else 0.0)
    top = 0.17 * len(title) + 0.13 * len(smaller) + 0.14
    height = room + bottom + top
    figure = Figure(figsize=(WIDTH, height))
    left = 0.012
    figure.text(left, 1.0 - 0.06 / height, "\n".join(title), fontsize=10, weight="bold", va="top")
    figure.text(
        left,
        1.0 - (0.09 + 0.17 * len(title)) / height,
        "\n".join(smaller),
        fontsize=7.5,
        color=GREY,
        va="top",
    )
    figure.text(left, 0.05 / height, "\n".join(foot), fontsize=6.5, color=GREY, va="bottom")
    return Sheet(figure, bottom, top)


def place_labels(ax: Axes, *, left: float = 0.36) -> None:
    """Put the labels of axes whose size is set where no tick label is.

    Parameters
    ----------
    ax
        Axes on a figure of known size.
    left
        Inches between the y axis and its label.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    box, (wide, high) = ax.get_position(), figure.get_size_inches()
    ax.yaxis.set_label_coords(-left / (box.width * wide), 0.5)
    ax.xaxis.set_label_coords(0.5, -(TICKS + _PAD) / (box.height * high))


def title_height(titles: Iterable[str]) -> float:
    """Inches above panels with these titles, wrapped already."""
    return TITLE_LINE * max(text.count("\n") + 1 for text in titles) + 0.08


def text_width(texts: Iterable[str], size: float) -> float:
    """Inches of the longest line of some texts in a font of `size` points."""
    lines = [line for text in texts for line in text.split("\n")]
    return max((_line_width(line, size) for line in lines), default=0.0)


@cache
def _measure() -> TextToPath:
    return TextToPath()


def _line_width(line: str, size: float) -> float:
    width, _, _ = _measure().get_text_width_height_descent(line, FontProperties(size=size), False)
    return width / 72.0
