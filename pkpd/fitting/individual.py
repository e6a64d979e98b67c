"""`individual`: the random effects of every subject under a model, or under a fit's estimates."""

from __future__ import annotations

from typing import get_args

import numpy as np

from pkpd.arrays import FloatArray
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.maximum.individual_estimates import (
    IndividualEstimates,
    IndividualMethod,
    individual_estimates,
)
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import Fit
from pkpd.solve.cache import keep_compilations


def individual(
    model: PopulationModel | MaximumLikelihood | Fit,
    data: Dataset | None = None,
    *,
    method: IndividualMethod | None = None,
) -> IndividualEstimates:
    """Estimate the random effects of every subject, the population's parameters held.

    These are the modes of each subject's posterior density (maximum a posteriori, NONMEM's
    POSTHOC), searched from several places, with standard errors from the curvature there.

    Parameters
    ----------
    model
        A population model, held at its values whether or not they are marked as fixed; or a fit,
        held at its estimates (maximum likelihood) or at its posterior means.
    data
        Subjects; those of the fit if left out.
    method
        What the contributions to the objective are: ``"focei"`` (the default), ``"laplace"``, or
        ``"foce"`` and ``"laplace-nointer"``, whose residual variance follows the typical prediction
        (NONMEM without INTERACTION). Of a maximum likelihood fit its own, ``"foce"`` for ``"fo"``.

    Returns
    -------
    IndividualEstimates

    Raises
    ------
    PkpdError
        If a model comes without data, or the method is none of these.
    DataError
        If the model cannot take the data.

    Examples
    --------
    >>> import pkpd
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 4.0, iiv=0.4), parameter("V", 70.0, iiv=0.4)],
    ...     residual.proportional(0.2),
    ... )
    >>> data = pkpd.read_nonmem("new_patients.csv")  # doctest: +SKIP
    >>> pkpd.individual(model, data).table()  # doctest: +SKIP
    """
    keep_compilations()
    population, own, random, named = _held_at(model)
    dataset = own if data is None else data
    if dataset is None:
        raise PkpdError(
            where="individual",
            what="a population model comes without data",
            remedy="give them: pkpd.individual(model, data)",
        )
    if method not in (None, *get_args(IndividualMethod)):
        raise PkpdError(
            where="individual",
            what=f"method {method!r}",
            allowed=", ".join(get_args(IndividualMethod)),
        )
    if own is not None:
        dataset = dataset.numbered_as(own)
    started = random if data is None else None
    return individual_estimates(population, dataset, method or named, started)


def _held_at(
    model: PopulationModel | MaximumLikelihood | Fit,
) -> tuple[PopulationModel, Dataset | None, FloatArray | None, IndividualMethod]:
    """Model with the values to hold, data and random effects of a fit, and its method."""
    if isinstance(model, MaximumLikelihood):
        methods: dict[str, IndividualMethod] = {name: name for name in get_args(IndividualMethod)}
        named = methods.get(model.method, "foce")
        return model.model, model.likelihood.dataset, model.random, named
    if isinstance(model, Fit):
        means = {name: float(np.mean(v)) for name, v in model.draws.population.items()}
        return model.model.with_values(means), model.dataset, model.draws.means[1], "focei"
    if isinstance(model, PopulationModel):
        return model, None, None, "focei"
    raise PkpdError(
        where="individual",
        what=f"{type(model).__name__} is no model",
        allowed="a PopulationModel, or the result of pkpd.fit",
    )
