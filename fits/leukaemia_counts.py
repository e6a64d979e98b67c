"""A simulated study of clofarabine with cytarabine in relapsed AML: counts, blasts, known truth.

Fifteen patients (`--full`: forty) have neutrophils, platelets and marrow blasts counted on days 1,
14, 28 and 42, and dosing records. They are simulated with the marrow with leukaemia and fitted back
in it by maximum likelihood (`--full`: also by NUTS), and the fit answers for a schedule
(`pkpd.simulate`). Nothing is shipped: what is not free are the values of the cards.
"""

# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import pandas as pd
from reference_table import ReferenceTable, arguments

import pkpd
from pkpd.fitting.model.population_parameters import start_values
from pkpd.models import (
    PopulationModel,
    compartments,
    fixed,
    leukaemia_model,
    parameter,
    residual,
    simulate_data,
)

DAYS = (1, 14, 28, 42)
LINES = {2: "neutrophils", 3: "platelets", 4: "marrow_blasts"}
KINETICS = {"CL": 30.0, "V1": 80.0, "V2": 150.0, "Q": 20.0, "k_in": 2.5, "k_out": 0.0289}
TRUTH = {"rho": 0.25, "stem_start": 0.2, "blasts_start": 0.5, "kill_blasts": 14.0}
SPREAD = {"rho": 0.3, "stem_start": 0.4, "blasts_start": 0.3}
ERRORS = {"neutrophils": 0.25, "platelets": 0.2, "marrow_blasts": 0.25}


def model() -> PopulationModel:
    """Build the model at the truth: four typical values, three spreads, three errors are free."""
    structure = leukaemia_model(
        {"clofarabine": compartments(2), "cytarabine": None},
        disease="aml_relapsed",
        molar_mass={"clofarabine": 303.68},
        free=tuple(TRUTH),
    )
    held = [parameter(f"{name}_clofarabine", fixed(value)) for name, value in KINETICS.items()]
    free = [parameter(name, value, iiv=SPREAD.get(name)) for name, value in TRUTH.items()]
    errors = {line: residual.lognormal(value) for line, value in ERRORS.items()}
    return PopulationModel(structure, [*held, *free], errors)


def study(made: PopulationModel, patients: int, seed: int) -> pkpd.data.Dataset:
    """Simulate five days of clofarabine (about 30 mg/m^2 in an hour) and of cytarabine."""
    surface = 1.8 + 0.2 * np.random.default_rng(seed).standard_normal(patients)
    rows = []
    for i, area in enumerate(np.clip(surface, 1.4, 2.4), start=1):
        mg = round(30.0 * area, 1)
        rows += [(i, 24.0 * d, mg, mg, 1, 1, 0) for d in range(5)]
        rows += [(i, 24.0 * d, 0.1, 0.0, 3, 1, 0) for d in range(5)]
        rows += [(i, 24.0 * (d - 1), 0.0, 0.0, 0, 0, line) for d in DAYS for line in LINES]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "RATE", "CMT", "EVID", "DVID"])
    table["DV"], table["MDV"] = 1.0, table["EVID"]
    # counts of a morning come before its doses
    table = table.sort_values(["ID", "TIME", "EVID"], kind="stable")
    design = pkpd.read_nonmem(
        table, lines=LINES, units={"TIME": "h", "AMT": "mg", "DV": {"marrow_blasts": "%"}}
    )
    return simulate_data(made, design, seed=seed)


def main() -> None:
    """Simulate, fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("leukaemia_counts", options)

    # data and model
    made = model()
    data = study(made, 40 if options.full else 15, seed=11)
    print(data.summary())

    # fit, starting away from the truth
    known = start_values(made)
    away = {name: 1.3 * value for name, value in TRUTH.items()}
    maximum = pkpd.fit(made.with_values(away), data, method="focei")
    print(maximum.summary())
    fit, columns = maximum, ["estimate", "lower", "upper"]  # 95 %
    if options.full:
        fit = pkpd.fit(made, data, start=maximum, draws=1000, tune=500)
        columns = ["median", "q5", "q95"]  # 90 %
    found = fit.table()[columns].dropna()

    # checks
    checks = pkpd.check(fit, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # the posterior answers for a schedule
    regimen = pkpd.daily("clofarabine", "30 mg/m^2", days="1-5", route="iv", duration="1 h")
    regimen = regimen.together(pkpd.daily("cytarabine", "1 g/m^2", days="1-5", route="iv"))
    given = pkpd.simulate(
        regimen, "rr_aml", posterior=fit, patients=200, draws=50, until_day=57,
        rule="leukemia_d56_generic",
    )  # fmt: skip
    judged = given["dlt"].notnull()
    risk = given["dlt"].where(judged).mean("patient").quantile([0.05, 0.5, 0.95])
    print(f"DLT by day 56: {risk.values.round(3)} of {float(judged.mean()):.0%} who can be judged")

    # reference: all but a few of the intervals should hold the truth
    held = 0
    for name, (value, low, high) in found.iterrows():
        held += low <= known[name] <= high
        table.told(name, value, known[name])
        table.rows[-1] |= {"lower": low, "upper": high}
    table.at_least("intervals that hold the truth", held, len(found) - (3 if options.full else 2))
    if options.full:
        table.at_most("largest R-hat", fit.table()["r_hat"].max(), 1.01)
        table.at_least("smallest bulk ESS", fit.table()["ess_bulk"].min(), 400)
        table.told("sampling, seconds", fit.record["wall_s"])
    table.told("maximum likelihood, seconds", maximum.seconds)
    table.finish()


if __name__ == "__main__":
    main()
