"""What PyTensor adds to a gradient: the likelihood of a fit, bare and as part of a PyTensor graph.

200 patients, three courses of 28 days, neutrophils and platelets, seven random effects; the
derivative is formed by the population's parameters and by every random effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor

import pkpd
from pkpd.fitting.bayes.graph import LogLikelihood
from pkpd.fitting.model import residual
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import parameter
from pkpd.models import (
    Friberg,
    PlateletChain,
    PopulationModel,
    compartments,
    marrow_model,
    simulate_data,
)

pt: Any = pytensor.tensor

MODES = ("NUMBA", "JAX")
"""PyTensor's own way, and that of nutpie's chains here."""
TARGET = 0.15
_KINETICS = {"CL": (37.7, 0.3), "V1": (268.0, 0.2), "Q": (33.2, None), "V2": (186.0, None)}
_MARROW = {
    "slope_neutrophils": (2.0, 0.4),
    "slope_platelets": (1.0, None),
    "MTT_neutrophils": (150.0, 0.2),
    "MTT_platelets": (200.0, 0.2),
    "circ0_neutrophils": (4.5, 0.3),
    "circ0_platelets": (230.0, 0.3),
    "gamma_neutrophils": (0.17, None),
    "gamma_platelets": (0.2, None),
    "ks_platelets": (0.01, None),
}


def likelihood_of_patients(patients: int = 200, seed: int = 3) -> PopulationLikelihood:
    """Bind the model to counts that were simulated from it."""
    model = PopulationModel(
        marrow_model(
            compartments(2), lines={"neutrophils": Friberg(), "platelets": PlateletChain()}
        ),
        [parameter(name, value, iiv=iiv) for name, (value, iiv) in (_KINETICS | _MARROW).items()],
        {"neutrophils": residual.lognormal(0.3), "platelets": residual.lognormal(0.2)},
    )
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(1, patients + 1):
        for course in range(3):
            rows.append((i, 672.0 * course, 1, 30.0, 30.0, 24.0, 4, np.nan, ""))
        for hour in 24.0 * np.linspace(0.0, 80.0, 15) + rng.uniform(0.0, 2.0, 15):
            rows += [(i, hour, 0, 0.0, 0.0, 0.0, 0, 1.0, line) for line in model.residual]
    names = ["ID", "TIME", "EVID", "AMT", "RATE", "II", "ADDL", "DV", "DVID"]
    frame = pd.DataFrame(rows, columns=names).sort_values(["ID", "TIME"], kind="stable")
    units = {"TIME": "h", "AMT": "mg", "DV": "10^9/L"}
    return bind(model, simulate_data(model, pkpd.read_nonmem(frame, units=units), seed=seed))


def overhead(in_turn: Callable[..., tuple[float, float]]) -> dict[str, Any]:
    """Value and gradient by JAX alone, and through a compiled PyTensor function."""
    likelihood = likelihood_of_patients()
    fixed = np.asarray(likelihood.fixed(start_values(likelihood.model)))
    rng = np.random.default_rng(1)
    random = 0.2 * rng.standard_normal((likelihood.n_subjects, likelihood.random_effects.size))

    def alone() -> list[np.ndarray]:
        value, *slopes = likelihood.value_and_gradient(fixed, random)
        return [np.asarray(one) for one in (value, *slopes)]

    inputs = pt.dvector("fixed"), pt.dmatrix("random")
    op: Any = LogLikelihood(likelihood)
    total = op(*inputs)[0]
    slopes: Any = pytensor.grad(total, list(inputs))
    graph = [total, *slopes]
    rows, apart, reference = {}, 0.0, alone()
    for mode in MODES:
        function = pytensor.function(list(inputs), graph, mode=mode)

        def through(function: Any = function) -> list[np.ndarray]:
            return [np.asarray(one) for one in function(fixed, random)]

        for one, other in zip(through(), reference, strict=True):
            size = np.max(np.abs(other))
            apart = float(np.maximum(apart, np.max(np.abs(one - other)) / size))
        first, second = in_turn(alone, through)
        rows[mode] = {"bare_ms": 1e3 * first, "ms": 1e3 * second, "overhead": second / first - 1.0}
    return {
        "patients": likelihood.n_subjects,
        "random_effects": likelihood.random_effects.size,
        "rows": rows,
        "apart": apart,
        "target_overhead": TARGET,
    }
