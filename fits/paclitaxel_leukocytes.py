"""Leukocytes of 45 patients under paclitaxel: Friberg's model with each patient's own kinetics.

Data: ``wbcSim`` of the R package nlmixr2data (GPL >= 3, not shipped here), simulated from the model
of Friberg et al. (2002) J Clin Oncol 20:4713-21 (DDMODEL00000186). Amounts in umol, volumes in L,
clearance in L/h, leukocytes in 10^9/L; V1, V2 and CL of each patient are given, Q is 204 L/h.
Reference: the values simulated from, CIRC0 7.21, MTT 124 h, slope 28.9 L/umol, gamma 0.239. With
176 counts the estimates themselves are 2 to 10 % away from them (one standard error): what is asked
is that the values lie in the intervals and that the likelihood ratio does not speak against them.
"""

# ruff: noqa: T201

from __future__ import annotations

from dataclasses import replace

from reference_table import ReferenceTable, arguments, find_data

import pkpd
from pkpd.models import (
    Friberg,
    PopulationModel,
    compartments,
    fixed,
    from_column,
    marrow_model,
    parameter,
    residual,
)

SHA256 = "2d9cd5ee11d3ccc7e8a5640b0416dc3f04929858b9177f12dd08118dcd1f34bb"
ADDRESS = (
    "https://github.com/nlmixr2/nlmixr2data (data/wbcSim.rda, written as wbcSim.csv with "
    "write.csv(wbcSim, row.names = FALSE, quote = FALSE))"
)
PUBLISHED = {"circ0": 7.21, "MTT": 124.0, "slope": 28.9, "gamma": 0.239}
VARIANCE = {"circ0": 0.107, "MTT": 0.0296, "slope": 0.176}
PROPORTIONAL = 0.286
LIMIT = 9.49  # 95 % of chi-squared with four degrees of freedom


def main() -> None:
    """Fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("paclitaxel_leukocytes", options)

    # data
    data = pkpd.read_nonmem(
        find_data(options.data, "wbcSim.csv", SHA256, ADDRESS),
        units={"TIME": "h", "AMT": "umol", "DV": "10^9/L"},
        lines={3: "leukocytes"},
        covariates=["V1I", "V2I", "CLI"],
    )
    print(data.summary())

    # model: the kinetics are known, the marrow is not
    model = PopulationModel(
        marrow_model(compartments(2), lines={"leukocytes": Friberg()}),
        [
            from_column("CL", "CLI"),
            from_column("V1", "V1I"),
            from_column("V2", "V2I"),
            parameter("Q", fixed(204.0)),
            parameter("slope", 20.0, iiv=0.3),
            parameter("circ0", 6.0, iiv=0.3),
            parameter("MTT", 100.0, iiv=0.2),
            parameter("gamma", 0.2),
        ],
        {"leukocytes": residual.proportional(0.3)},
    )

    # fit
    maximum = pkpd.fit(model, data, method="focei")
    print(maximum.summary())
    published = model.with_values(PUBLISHED).replace(
        parameters=[
            replace(p, typical=fixed(PUBLISHED[p.name])) if p.name in PUBLISHED else p
            for p in model.parameters
        ]
    )
    held = pkpd.fit(published, data, method="focei")
    draws = 1000 if options.full else 250
    posterior = pkpd.fit(model, data, start=maximum, draws=draws, tune=draws, progress=False)
    summary = posterior.table()
    print(summary.round(4).to_string())

    # checks
    checks = pkpd.check(posterior, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # reference
    ratio = held.objective - maximum.objective
    table.at_most("likelihood ratio, 4 values", ratio, LIMIT)
    for name, wanted in PUBLISHED.items():
        table.told(f"FOCE-I {name}", maximum.estimates[name], wanted)
    for name, wanted in PUBLISHED.items():
        low, high = summary.loc[name, ["q5", "q95"]]
        table.inside(f"posterior of {name}", summary["median"][name], (low, high), wanted)
    for name, wanted in VARIANCE.items():
        table.told(f"variance of {name}", maximum.estimates[f"omega_{name}"] ** 2, wanted)
    table.told("proportional error", maximum.estimates["sigma_leukocytes"], PROPORTIONAL)
    table.at_most("largest R-hat", summary["r_hat"].max(), 1.01 if options.full else 1.05)
    table.at_least("smallest bulk ESS", summary["ess_bulk"].min(), 400 if options.full else 100)
    table.told("FOCE-I, seconds", maximum.seconds)
    table.finish()


if __name__ == "__main__":
    main()
