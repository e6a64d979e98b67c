"""Why an individual has no likelihood: the record without a finite prediction, and its cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import sentence
from pkpd.nonmem.inspect_code import assignments
from pkpd.nonmem.tree import Statement

_BEGINNINGS = (0.37, -2.9)  # of Y before the code: where the two stay, it was not set


def reasons(
    data: Dataset,
    error: Sequence[Statement],
    quantities: np.ndarray,
    y_from: Callable[[float], Any],
) -> dict[int, str]:
    """Say for each subject that has no finite prediction why not: index to sentence.

    Parameters
    ----------
    data
        The data set, of M observations.
    error
        Statements that set ``Y``.
    quantities : float[2 M]
        What the density of each observation is made of.
    y_from
        From a value of ``Y`` before the code is carried out to its value after it, [M].
    """
    seen = data.observations
    bad = ~np.isfinite(quantities).reshape(2, -1).all(axis=0)
    if not np.any(bad):
        return {}
    one, two = (np.asarray(y_from(begin)) for begin in _BEGINNINGS)
    unset = (one != two) & np.isfinite(one) & np.isfinite(two)
    first: dict[int, int] = {}
    for m in [*np.flatnonzero(bad & unset).tolist(), *np.flatnonzero(bad).tolist()]:
        first.setdefault(int(seen.subject[m]), m)
    lines = sorted({one.line for one, _ in assignments(error) if one.target == "Y"})
    branches = f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"
    out = {}
    for b, m in sorted(first.items()):
        what, remedy = "Y or its error is not finite", "look at the parameters of this subject"
        if unset[m]:
            what = f"Y has no value: it is set only in a branch of IF ({branches}), not here"
            remedy = "set Y in an ELSE, too, or leave such records out by IGNORE"
        out[b] = sentence(where=data.events.place(b, int(seen.record[m])), what=what, remedy=remedy)
    return out
