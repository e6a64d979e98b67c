"""Simulate a study: measurements of new patients under a model, in the design of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pkpd.arguments import MAPPING, NONE, check_arguments
from pkpd.data.dataset import BELOW, Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import limits
from pkpd.fitting.draws import single_draw
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import PopulationModel


def simulate_data(
    model: PopulationModel,
    design: Dataset,
    values: Mapping[str, float] | None = None,
    *,
    seed: int = 1,
    lloq: float | Mapping[str, float] | None = None,
) -> Dataset:
    """Simulate the measurements of a study.

    Parameters
    ----------
    model
        Model; patients are drawn from its random effects, measurements from its residual error.
    design
        Doses, covariates, times and lines of ``B`` subjects; what was measured there is replaced.
    values
        Population parameters by name; those left out keep the model's values.
    seed
        Seed.
    lloq
        Limit of quantification, one or by line: values below it are marked as censored.

    Returns
    -------
    Dataset
        The design with simulated measurements.

    Raises
    ------
    PkpdError
        If a parameter is unknown or cannot have its value, or a prediction is not finite.

    Examples
    --------
    >>> import pandas as pd
    >>> from pkpd.data import read_nonmem
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> rows = {"ID": [1, 1, 1], "TIME": [0, 1, 24], "AMT": [100, 0, 0], "DV": [None, 1, 1]}
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 2.0, iiv=0.3), parameter("V", 20.0)],
    ...     residual.proportional(0.1),
    ... )
    >>> trial = simulate_data(model, read_nonmem(pd.DataFrame(rows)), seed=1, lloq=1.0)
    >>> trial.observations.censored  # predicted for the typical patient: 4.5 and 0.5 mg/L
    array([0, 1])
    """
    check_arguments("simulate_data", values=(values, MAPPING | NONE))
    given = dict(values or {})
    model.with_values(given)  # refuses what cannot be
    seen = design.observations
    blank = replace(
        design,
        observations=replace(seen, value=np.ones(len(seen)), censored=np.zeros_like(seen.censored)),
    )
    likelihood = bind(model, blank, estimated=False)
    none = np.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    (measured,) = single_draw(likelihood, given, none).replicates(np.random.default_rng(seed))
    bad = np.flatnonzero(~np.isfinite(measured))
    if bad.size:
        subject = design.subjects[seen.subject[bad[0]]]
        raise PkpdError(
            where=f"simulate_data, subject {subject}",
            what=f"a simulated value of {design.lines[seen.line[bad[0]]]} is not finite",
            remedy="look at the values of the parameters",
        )
    lower, _ = limits(blank, lloq)
    below = measured < lower
    return replace(
        design,
        observations=replace(
            seen,
            value=np.where(below, lower, measured),
            censored=np.where(below, BELOW, 0).astype(seen.censored.dtype),
            lower=np.full(len(seen), -np.inf),
        ),
    )
