"""Draw the first figure of the README: what other trials predict of one trial, and its counts.

    python -m docs.site.first_figure

The trial's own rows do not count in what is called prediction
(`pkpd.comparison.what_it_rests_on`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import pkpd
from pkpd.comparison.published import clopper_pearson
from pkpd.comparison.results import Figure
from pkpd.comparison.what_it_rests_on import NAME

TRIAL = "nct01681537_len_mec"
FILE = Path(__file__).resolve().parents[1] / "images" / "len_mec_dlt.png"
LABELS = {
    "prior, median": ("before any trial", "#999999", "s"),
    "without its own rows, median": ("predicted from other trials", "#0072B2", "o"),
    "posterior, median": ("after its own counts", "#D55E00", "^"),
}


def draw(question: Any, labels: dict[str, str], file: Path) -> None:
    """Draw a forest of risks by cohort."""
    _, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for place, row in enumerate(question.rows):
        cells = dict(zip(question.columns, row, strict=True))
        shown = [(name, cells[name]) for name in LABELS if isinstance(cells.get(name), Figure)]
        for step, (name, cell) in enumerate(shown):
            y = place - 0.26 + 0.17 * step
            words, colour, mark = LABELS[name]
            axes.plot([cell.lower, cell.upper], [y, y], color=colour, lw=2.4, alpha=0.6)
            label = words if place == 0 else None
            axes.plot(cell.value, y, mark, color=colour, ms=5.5, label=label)
        if cells["published"]:
            events, patients = map(int, cells["published"].split("/"))
            known = clopper_pearson(events, patients)
            y = place + 0.28
            axes.plot([known.lower, known.upper], [y, y], color="black", lw=0.9, ls=(0, (4, 2)))
            axes.plot(events / patients, y, "D", mfc="white", mec="black", ms=5, clip_on=False,
                      label="published, 95 % exact interval" if place == 0 else None)  # fmt: skip
            axes.text(1.02, y, cells["published"], va="center", fontsize=8, clip_on=False)
    axes.set_yticks(range(len(question.rows)), [labels[str(row[0])] for row in question.rows])
    axes.set_ylim(len(question.rows) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{v:.0f}" for v in np.linspace(0, 100, 6)])
    axes.set_xlabel("risk of delayed recovery by day 45 (% of patients who can be judged)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.16), ncols=2, frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    plt.savefig(file, dpi=160)


def main() -> None:
    """Compare the trial and draw."""
    (result,) = pkpd.compare(trials=[TRIAL], patients=1000, draws=200).trials
    question = next(q for q in result.questions if q.name == NAME)
    for line in question.answer:
        print(line)
    for row in question.rows:
        print(row)
    draw(question, {cohort.id: cohort.label for cohort in result.trial.cohorts}, FILE)


if __name__ == "__main__":
    main()
