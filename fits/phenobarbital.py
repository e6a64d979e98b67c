"""Phenobarbital in 59 newborns: sparse routine samples, weight, and asphyxia on the volume.

Data: Grasela and Donn (1985) Dev Pharmacol Ther 8:374-383; in R's nlme and in NONMEM's manuals.
Doses (mg), concentrations (mg/L), birth weight (kg), Apgar score after five minutes. References:
the published estimates, and NONMEM's FOCE-I of the same model (``pheno_real`` of Pharmpy's tests).
"""

# ruff: noqa: T201

from __future__ import annotations

import pandas as pd
from reference_table import HERE, ReferenceTable, arguments

import pkpd
from pkpd.models import PopulationModel, compartments, covariate, fixed, parameter, residual

NONMEM = {
    "CL": 0.00469555,
    "V": 0.984258,
    "V_ASPHYXIA": 0.158920,
    "omega_CL": 0.0293508**0.5,
    "omega_V": 0.027906**0.5,
    "sigma_concentration": 0.013241**0.5,
}
NONMEM_OBJECTIVE = 586.27605628
PUBLISHED = {"CL": 0.0047, "V": 0.96, "V_ASPHYXIA": 0.13}  # per kg; volume + 13 % in asphyxia


def main() -> None:
    """Fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("phenobarbital", options)

    # data
    frame = pd.read_csv(HERE / "data" / "phenobarbital.csv", na_values=".")
    frame["ASPHYXIA"] = (frame["APGR"] < 5).astype(int)
    data = pkpd.read_nonmem(
        frame,
        units={"TIME": "h", "AMT": "mg", "DV": "mg/L", "WT": "kg"},
        covariates=["WT", "ASPHYXIA"],
    )
    print(data.summary())

    # model: values per kg of birth weight
    per_kg = covariate.power("WT", 1.0, fixed(1.0))
    model = PopulationModel(
        compartments(1),
        [
            parameter("CL", 0.005, iiv=0.2, effects=per_kg),
            parameter("V", 1.0, iiv=0.2, effects=[per_kg, covariate.linear("ASPHYXIA", 0.0, 0.1)]),
        ],
        residual.proportional(0.1),
    )

    # fit
    maximum = pkpd.fit(model, data, method="focei")
    print(maximum.summary())
    draws = 1000 if options.full else 500
    posterior = pkpd.fit(model, data, start=maximum, draws=draws, tune=draws, progress=False)
    summary = posterior.table()
    print(summary.round(4).to_string())

    # checks
    checks = pkpd.check(posterior, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # reference
    table.near("objective", maximum.objective, NONMEM_OBJECTIVE, within=0.05)
    for name, wanted in NONMEM.items():
        table.near(name, maximum.estimates[name], wanted, percent=1)
    for name, wanted in PUBLISHED.items():
        low, high = summary.loc[name, ["q5", "q95"]]
        table.inside(f"posterior of {name}", summary["median"][name], (low, high), wanted)
    table.at_most("largest R-hat", summary["r_hat"].max(), 1.01 if options.full else 1.03)
    table.at_least("smallest bulk ESS", summary["ess_bulk"].min(), 400)
    table.told("FOCE-I, seconds", maximum.seconds)
    table.finish()


if __name__ == "__main__":
    main()
