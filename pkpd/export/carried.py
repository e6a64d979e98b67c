"""Covariates that change between records: over which interval a record's values hold.

NONMEM and mrgsolve take them over the interval that ends at the record (backward), rxode2 over the
one that begins at it (forward) unless the model says otherwise.
"""

from __future__ import annotations

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.structure import carries_forward


def refuse_forward(model: PopulationModel, data: Dataset | None, program: str) -> None:
    """Refuse a model that carries covariates forward, where any changes, or no data say so.

    Raises
    ------
    PkpdError
        If the program would take them over another interval than the model.
    """
    covariates = covariates_read(model)
    changing = [n for n in covariates if data is None or not data.constant(n)]
    if model.occasional and (data is None or _occasions_change(data)):
        changing.append(f"the occasion of {model.occasional[0]}")
    if changing and carries_forward(model.structure):
        remedy = "" if data is not None else "give the data set, if they do not change; or "
        raise PkpdError(
            where=f"export, {', '.join(changing)}",
            what=f'carry="forward" takes a record\'s values over the interval that begins at it, '
            f"and {program} over the one that ends at it",
            allowed='EventOptions(carry="backward"), where covariates change',
            remedy=f'{remedy}build and fit the model with carry="backward"',
        )


def _occasions_change(data: Dataset) -> bool:
    occasion = data.occasion
    if occasion is None:
        return False
    return bool(np.any((occasion != occasion[:, :1]) & data.events.valid))
