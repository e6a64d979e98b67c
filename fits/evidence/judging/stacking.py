"""A mixture of the model with what it must beat: what to expect of a new study in a known setting.

The weights are those that make rows of left-out studies most probable (stacking of Yao, Vehtari,
Simpson and Gelman 2018, doi:10.1214/17-BA1091), by kind of endpoint: a kind's own rows count one
each, and all rows together as ``SHARED`` of them, so that a kind with few rows has about the
weights of all. The mixture says nothing of schedules that differ: its other members hardly see
them, and contrasts are the model's alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from judging.scorecard import AVERAGE, MODEL, REGRESSION, Predicted, kind_of
from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.evidence.table.table import EvidenceRow

MEMBERS = (MODEL, AVERAGE, REGRESSION)
SHARED = 20.0
ALL = "all"
VALUES = 2000
_STEPS = 2000  # of expectation and maximisation; weights move by less than 1e-4 long before


@dataclass(frozen=True)
class Mixture:
    """Weights of the members.

    Attributes
    ----------
    weights : float[3]
        By kind of endpoint, and of all rows together (``ALL``), in the order of ``MEMBERS``.
    rows
        Rows of left-out studies they were learned from, by the same names.
    """

    weights: Mapping[str, Floats]
    rows: Mapping[str, int]

    def predicted(
        self, row: EvidenceRow, said: Mapping[str, Mapping[str, Predicted]]
    ) -> Predicted | None:
        """Mix what members say of a row; members that say nothing leave their weight to the others.

        Returns
        -------
        Predicted or None
            ``None`` where the model alone predicts the row: there is nothing to mix.
        """
        own = [said[name].get(row.id) for name in MEMBERS]
        there = [(one, i) for i, one in enumerate(own) if one is not None]
        if len(there) < 2:
            return None
        w = self.weights.get(kind_of(row), self.weights[ALL])[[i for _, i in there]]
        w = w / w.sum() if w.sum() > 0.0 else np.full(len(there), 1.0 / len(there))
        ends = np.rint(np.concatenate(([0.0], np.cumsum(w))) * VALUES).astype(int)
        values = [
            _even(one.values, high - low)
            for (one, _), low, high in zip(there, ends, ends[1:], strict=False)
        ]
        scores = np.array([one.log_score for one, _ in there])
        score = np.logaddexp.reduce(np.log(np.maximum(w, 1e-300)) + scores)
        return Predicted(np.concatenate(values), float(score))

    def lines(self) -> list[dict[str, object]]:
        """Give one line for each kind of endpoint, as they are kept."""
        found: list[dict[str, object]] = []
        for kind, own in self.weights.items():
            weights = {name: f"{w:.4f}" for name, w in zip(MEMBERS, own, strict=True)}
            found.append({"endpoint": kind, "rows": self.rows[kind], **weights})
        return found


def _even(values: Floats, size: int) -> Floats:
    """Take ``size`` numbers that stand evenly in a sample."""
    fine = values[np.isfinite(values)]
    levels = (np.arange(size) + 0.5) / max(size, 1)
    return np.quantile(fine, levels, method="inverted_cdf") if size else np.empty(0)


def learn_mixture(
    rows: Sequence[EvidenceRow], said: Mapping[str, Mapping[str, Predicted]]
) -> Mixture:
    """Learn weights from rows that all members predict and whose studies none has seen."""
    whole = [row for row in rows if all(row.id in said[name] for name in MEMBERS)]
    scores = np.array([[said[name][row.id].log_score for name in MEMBERS] for row in whole])
    kinds = np.array([kind_of(row) for row in whole])
    weights = {ALL: _most_probable(scores, np.ones(len(whole)))}
    number = {ALL: len(whole)}
    for kind in sorted(set(kinds.tolist())):
        own = kinds == kind
        weights[kind] = _most_probable(scores, own + SHARED / len(whole))
        number[kind] = int(own.sum())
    return Mixture(weights, number)


def _most_probable(scores: Floats, counts: Floats) -> Floats:
    """Weights ``[3]`` that make rows of these log scores ``[n, 3]`` and counts ``[n]`` likeliest.

    By expectation and maximisation; the log likelihood is concave in the weights.
    """
    each = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights = np.full(each.shape[1], 1.0 / each.shape[1])
    for _ in range(_STEPS):
        mine = each * weights
        weights = counts @ (mine / mine.sum(axis=1, keepdims=True)) / counts.sum()
    return weights


def mixed(
    mixture: Mixture, rows: Sequence[EvidenceRow], said: Mapping[str, Mapping[str, Predicted]]
) -> dict[str, Predicted]:
    """Give the mixture's predictions of rows, by id."""
    found = {row.id: mixture.predicted(row, said) for row in rows}
    return {name: one for name, one in found.items() if one is not None}


def mixed_by_fold(
    folds: Sequence[Sequence[EvidenceRow]], said: Mapping[str, Mapping[str, Predicted]]
) -> dict[str, Predicted]:
    """Predict each fold with the weights that the other folds tell."""
    found: dict[str, Predicted] = {}
    for k, fold in enumerate(folds):
        others = [row for j, one in enumerate(folds) if j != k for row in one]
        found |= mixed(learn_mixture(others, said), fold, said)
    return found


def read_mixture(file: Path) -> Mixture:
    """Read weights that a run on left-out studies has written.

    Raises
    ------
    PkpdError
        If the file is not such a table.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            found = {line["endpoint"]: line for line in csv.DictReader(lines)}
        weights = {
            kind: np.array([float(x[name]) for name in MEMBERS]) for kind, x in found.items()
        }
        rows = {kind: int(line["rows"]) for kind, line in found.items()}
        fine = all((w >= 0.0).all() and abs(w.sum() - 1.0) < 1e-3 for w in weights.values())
        problem = "" if fine and ALL in weights else f'each line must sum to 1, one must be "{ALL}"'
    except (OSError, KeyError, TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        message = f"{file}: no weights of a mixture ({problem}); needed: mixture.csv of left_out.py"
        raise PkpdError(message)
    return Mixture(weights, rows)
