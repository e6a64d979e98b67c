"""Data and model of `children_maintenance.py`: published kinetics, a marrow, counts that drift."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import pkpd
from pkpd.models import (
    Friberg,
    LinearStructure,
    PopulationModel,
    derived,
    fixed,
    from_column,
    linear_system,
    marrow_model,
    parameter,
    residual,
)

LIMIT = 0.1
A_DAY = 24.0


def read(path: Path) -> tuple[pkpd.data.Dataset, pd.DataFrame]:
    """Read a table of the supplement's columns; counts below 0.1 are censored there."""
    table = pd.read_csv(path)
    seen = table.EVID == 0
    table = table.assign(CENS=(seen & (table.DV < LIMIT)).astype(int))
    table.loc[table.CENS == 1, "DV"] = LIMIT
    data = pkpd.read_nonmem(
        table.drop(columns="IPRED", errors="ignore"),
        units={"TIME": "d", "AMT": "mg", "DV": "10^9/L"},
        lines={8: "neutrophils"},
        covariates=["BSA"],
    )
    return data, table[seen]


def model() -> PopulationModel:
    """Join published kinetics to a marrow and a noise that vary between children."""
    system = linear_system(
        "mercaptopurine",
        ["gut", "plasma", "nucleotides"],
        ["ka", "k20", "k23", "k30"],
        lambda p: {
            (0, 1): p["ka"],
            (1, 2): p["k23"],
            (1, None): p["k20"] - p["k23"],
            (2, None): p["k30"],
        },
        observed=3,
    )
    published = {"ka": 31.2, "k20": 12.72, "k23": 0.019 * 9.9216, "k_circ": 2.3765}
    drift = residual.ornstein_uhlenbeck
    return PopulationModel(
        marrow_model(
            LinearStructure(system, None, dosing=("F1",)),
            lines={"neutrophils": Friberg(circulation="own")},
            max_step_h=A_DAY,
        ),
        [
            *(parameter(name, fixed(value / A_DAY)) for name, value in published.items()),
            parameter("F1", fixed(0.22)),
            from_column("surface", "BSA"),
            derived("k30", lambda surface: 0.219 * surface**1.16 / A_DAY),
            parameter("circ0", 2.1, iiv=0.2),
            parameter("MTT", 28 * A_DAY, iiv=0.1),
            parameter("slope", 0.16, iiv=0.4),
            parameter("gamma", 0.84, iiv=0.08),
            parameter("noise", fixed(1.0), iiv=0.25),
        ],
        {
            "neutrophils": residual.lognormal(
                0.21,
                nu=4.4,
                scale="noise",
                processes=[drift(0.26, 17 * A_DAY), drift(0.15, fixed(365 * A_DAY))],
            )
        },
    )
