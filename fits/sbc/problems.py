"""Problems for simulation-based calibration: a model with priors that mean something, and a design.

Priors of standard deviations are log-normal: mass at zero would draw truths whose posteriors have a
singular edge, which says nothing about the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import pkpd
from pkpd.data.dataset import Dataset
from pkpd.fitting.model.covariate_effects import power
from pkpd.fitting.model.priors import Estimate, Prior
from pkpd.fitting.model.residual import combined, lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.predict.marrow import marrow_model
from pkpd.predict.pk import compartments


@dataclass(frozen=True, eq=False)
class Problem:
    """What is calibrated.

    Attributes
    ----------
    model, design
        Model with priors; subjects, doses, times and covariates.
    lloq
        Limits of quantification by line.
    draws, tune
        Draws of each of two chains after and during adaptation.
    """

    model: PopulationModel
    design: Dataset
    lloq: Mapping[str, float] | None = None
    draws: int = 200
    tune: int = 300


def around(value: float, spread: float) -> Estimate:
    """Estimate with a log-normal prior around a value, ``spread`` its coefficient of variation."""
    return Estimate(value, Prior("LogNormal", mu=float(np.log(value)), sigma=spread))


def theophylline() -> Problem:
    """One oral dose in 12 subjects, 11 samples each, weights 54 to 86 kg, limit 0.3 mg/L."""
    times = (0.25, 0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 24.0, 30.0)
    rows = []
    for b, weight in enumerate(np.linspace(54.6, 86.4, 12)):
        rows.append((b + 1, 0.0, 1, 320.0, np.nan, weight, 1))
        rows.extend((b + 1, t, 0, 0.0, 1.0, weight, 1) for t in times)
    columns = ["ID", "TIME", "EVID", "AMT", "DV", "WT", "DVID"]
    design = pkpd.read_nonmem(
        pd.DataFrame(rows, columns=columns), covariates=["WT"], lines={1: "concentration"}
    )
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", around(1.5, 0.3), iiv=around(0.5, 0.3)),
            parameter("CL", around(2.8, 0.2), iiv=around(0.25, 0.3)),
            parameter(
                "V",
                around(32.0, 0.2),
                iiv=around(0.2, 0.3),
                effects=power("WT", 70.0, 0.8, Prior("Normal", mu=0.8, sigma=0.3)),
            ),
        ],
        combined(around(0.4, 0.3), around(0.1, 0.3)),
        correlated=[("CL", "V")],
    )
    return Problem(model, design, {"concentration": 0.3})


def neutrophils() -> Problem:
    """Neutrophils after one infusion in 16 subjects with known kinetics, limit 0.5 x 10^9/L."""
    days = (0.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 18.0, 22.0)
    rows = []
    for b in range(16):
        rows.append((b + 1, 0.0, 1, 100.0, 100.0, np.nan, 1))
        rows.extend((b + 1, 24 * d + 0.5, 0, 0.0, 0.0, 1.0, 1) for d in days)
    columns = ["ID", "TIME", "EVID", "AMT", "RATE", "DV", "DVID"]
    design = pkpd.read_nonmem(pd.DataFrame(rows, columns=columns), lines={1: "neutrophils"})
    model = PopulationModel(
        marrow_model(compartments(1)),
        [
            parameter("CL", 2.0, fixed=True),
            parameter("V", 50.0, fixed=True),
            parameter("slope", around(1.5, 0.2), iiv=around(0.3, 0.3)),
            parameter("circ0", around(5.0, 0.2), iiv=around(0.3, 0.3)),
            parameter("MTT", around(100.0, 0.1), iiv=around(0.15, 0.3)),
            parameter("gamma", around(0.17, 0.15)),
        ],
        {"neutrophils": lognormal(around(0.25, 0.2))},
    )
    return Problem(model, design, {"neutrophils": 0.5})


def joint() -> Problem:
    """Concentrations and neutrophils over two cycles in 8 subjects, clearance differs by cycle."""
    rows = []
    for b in range(8):
        for cycle in (0, 1):
            begin = 504.0 * cycle
            rows.append((b + 1, begin, 1, 100.0, 100.0, np.nan, 1, cycle))
            seen = [(begin + h, 1) for h in (1.0, 4.0, 12.0, 30.0)]
            seen += [(begin + 24 * d + 6.0, 2) for d in (1, 5, 8, 11, 14, 17)]
            rows += [(b + 1, t, 0, 0.0, 0.0, 1.0, line, cycle) for t, line in sorted(seen)]
    columns = ["ID", "TIME", "EVID", "AMT", "RATE", "DV", "DVID", "OCC"]
    design = pkpd.read_nonmem(
        pd.DataFrame(rows, columns=columns), lines={1: "concentration", 2: "neutrophils"}
    )
    model = PopulationModel(
        marrow_model(compartments(1)),
        [
            parameter("CL", around(2.0, 0.2), iiv=around(0.3, 0.3), iov=around(0.2, 0.3)),
            parameter("V", around(50.0, 0.2), iiv=around(0.2, 0.3)),
            parameter("slope", around(1.5, 0.2), iiv=around(0.3, 0.3)),
            parameter("circ0", around(5.0, 0.2), iiv=around(0.3, 0.3)),
            parameter("MTT", around(100.0, 0.1)),
            parameter("gamma", around(0.17, 0.15)),
        ],
        {
            "concentration": lognormal(around(0.15, 0.2)),
            "neutrophils": lognormal(around(0.25, 0.2)),
        },
    )
    return Problem(model, design, {"concentration": 0.05, "neutrophils": 0.3})


PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "theophylline": theophylline,
    "neutrophils": neutrophils,
    "joint": joint,
}
