"""Theophylline in twelve volunteers: FOCE-I against nlmixr2, then the posterior.

Data: Upton, in Boeckmann, Sheiner and Beal (1994) NONMEM Users Guide Part V; R's ``Theoph``. Oral
dose (mg), concentration (mg/L), weight (kg). Reference: nlmixr2qual,
``inst/references/theophylline__focei``.
"""

# ruff: noqa: T201

from __future__ import annotations

import numpy as np
from reference_table import HERE, ReferenceTable, arguments

import pkpd
from pkpd.models import PopulationModel, compartments, parameter, residual

OBJECTIVE = 116.8038
LOG_TYPICAL = {"ka": 0.46445, "CL": 1.01205, "V": 3.45997}
VARIANCE = {"ka": 0.40463, "CL": 0.068796, "V": 0.019222}
ADDITIVE = 0.69384


def main() -> None:
    """Fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("theophylline", options)

    # data
    data = pkpd.read_nonmem(
        HERE / "data" / "theophylline.csv",
        units={"TIME": "h", "AMT": "mg", "DV": "mg/L", "WT": "kg"},
        covariates=["WT"],
    )
    print(data.summary())

    # model
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [
            parameter("ka", 1.5, iiv=0.6),
            parameter("CL", 2.7, iiv=0.3),
            parameter("V", 32.0, iiv=0.15),
        ],
        residual.additive(0.7),
    )

    # fit
    maximum = pkpd.fit(model, data, method="focei")
    print(maximum.summary())
    draws = 1000 if options.full else 500
    posterior = pkpd.fit(model, data, start=maximum, draws=draws, tune=draws, progress=False)
    print(posterior.table().round(3).to_string())

    # checks
    checks = pkpd.check(posterior, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # reference
    table.near("objective", maximum.objective, OBJECTIVE, within=0.05)
    for name, wanted in LOG_TYPICAL.items():
        table.near(f"log {name}", np.log(maximum.estimates[name]), wanted, percent=1)
    for name, wanted in VARIANCE.items():
        found = maximum.estimates[f"omega_{name}"] ** 2
        table.near(f"variance of {name}", found, wanted, percent=1)
    table.near("additive error", maximum.estimates["sigma_concentration"], ADDITIVE, percent=1)
    summary = posterior.table()
    for name, wanted in LOG_TYPICAL.items():
        low, high = summary.loc[name, ["q5", "q95"]]
        table.inside(f"posterior of {name}", summary["median"][name], (low, high), np.exp(wanted))
    table.at_most("largest R-hat", summary["r_hat"].max(), 1.01 if options.full else 1.03)
    table.at_least("smallest bulk ESS", summary["ess_bulk"].min(), 400)
    table.told("FOCE-I, seconds", maximum.seconds)
    table.finish()


if __name__ == "__main__":
    main()
