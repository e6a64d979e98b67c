"""The figure of a scorecard: paired differences by group, and where printed numbers fell."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from judging.scorecard import AVERAGE, MODEL, Scorecard
from pkpd.files import write_bytes

_BINS = 10


def draw_scores(card: Scorecard, file: Path) -> None:
    """Draw CRPS of the model less that of the average, and histograms of PIT values.

    Parameters
    ----------
    card
        Scores.
    file
        ``.svg``, ``.png`` or ``.pdf``.
    """
    import matplotlib.pyplot as plt

    groups = card.groups()
    compared = [
        (group if grouping == "all" else f"{grouping}: {group}", ids)
        for grouping, group, ids in groups
    ]
    found = [(name, card.against(AVERAGE, ids, lambda one: one.crps)) for name, ids in compared]
    # of one study there is no standard error
    found = [(f"{name} ({one.rows})", one) for name, one in found if one.studies > 1]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 0.5 + 0.3 * len(found)), width_ratios=(2, 1), layout="constrained"
    )
    places = np.arange(len(found))[::-1]
    middle = np.array([one.difference for _, one in found])
    error = np.array([one.error for _, one in found])
    left.axvline(0.0, color="0.5", linewidth=0.8)
    left.errorbar(middle, places, xerr=2.0 * error, fmt="o", color="C0", markersize=4)
    left.set_yticks(places, [name for name, _ in found])
    left.set_xlabel("CRPS, model less average (± 2 standard errors by study)")
    left.set_title("left of the line: the model knows more", fontsize="medium")
    rows = len(card.rows)
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    for name, style in ((MODEL, {"alpha": 0.5}), (AVERAGE, {"histtype": "step", "linewidth": 1.5})):
        right.hist([one.pit for one in card.scores[name]], edges, label=name, **style)
    right.axhline(rows / _BINS, color="0.5", linewidth=0.8)
    right.set_xlabel("predicted share below\nthe printed number")
    right.set_ylabel("rows")
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    drawn = io.BytesIO()
    kind = file.suffix.removeprefix(".") or "png"
    figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(file, drawn.getvalue())
    plt.close(figure)
