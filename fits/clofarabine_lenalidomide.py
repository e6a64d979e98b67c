"""A simulated trial of clofarabine and lenalidomide with known truth: two lines, limits.

Nothing is shipped: typical values come from the package's cards (`pkpd.models.load_model`),
twelve weeks of counts twice a week are simulated for 20 patients (200 with --full), counts below
0.1 and platelets below 10 x 10^9/L are censored, and the model is fitted back with seven random
effects.
"""

# ruff: noqa: T201

from __future__ import annotations

import resource

import numpy as np
import pandas as pd
from reference_table import ReferenceTable, arguments

import pkpd
from pkpd import models
from pkpd.fitting.model.population_parameters import start_values
from pkpd.models import Friberg, PlateletChain, compartments, marrow_model, parameter, residual

CLOFARABINE_MG = 36.0  # 20 mg/m^2, in an hour
LIMIT = {"neutrophils": 0.1, "platelets": 10.0}
SPREAD = {  # between-patient standard deviation on the log scale; these seven vary
    "EC50_clofarabine_neutrophils": 0.5,
    "EC50_clofarabine_platelets": 0.5,
    "slope_lenalidomide_neutrophils": 0.4,
    "circ0_neutrophils": 0.3,
    "MTT_neutrophils": 0.15,
    "circ0_platelets": 0.28,
    "MTT_platelets": 0.2,
}


def truth() -> models.PopulationModel:
    """Build the model at the central values of the cards; what the data cannot tell is held."""
    c, o = "clofarabine", "lenalidomide"
    card = {k: float(v[0]) for k, v in models.typical(models.load_model(drugs=[c, o])).items()}
    values = {
        f"CL_{c}": card[f"{c}.adult_factor"] * (card[f"{c}.CL_nonrenal"] + card[f"{c}.CL_renal"]),
        f"k_in_{c}": card[f"{c}.effect.k_in"],
        f"k_out_{c}": np.log(2.0) / card[f"{c}.effect.half_life"],
        f"ka_{o}": 3.0,  # one step instead of the card's transits, with about their mean time
        f"CL_{o}": card[f"{o}.CL"],
        f"V_{o}": card[f"{o}.V1"],
        "MTT_neutrophils": card["neutrophils.MTT"],
        "MTT_platelets": 2.0 / card["platelets.k_tr"],
        "ks_platelets": card["platelets.ks"],
    }
    values |= {f"{name}_{c}": card[f"{c}.{name}"] for name in ("V1", "V2", "Q")}
    for line in LIMIT:
        values |= {
            f"Emax_{c}_{line}": card[f"{c}.effect.Emax"],
            f"EC50_{c}_{line}": card[f"{c}.effect.EC50"],
            f"slope_{o}_{line}": card[f"{o}.effect.slope_{line}"],
            f"gamma_{line}": card[f"{line}.gamma"],
            f"circ0_{line}": card[f"{line}.normal"],
        }
    structure = marrow_model(
        {c: compartments(2), o: compartments(1, absorption="first_order")},
        effect={c: "emax", o: "linear"},
        driver={c: "triphosphate", o: "plasma"},
        molar_mass={c: 303.68, o: 259.26},
        lines={"neutrophils": Friberg(), "platelets": PlateletChain(saturation=0.1)},
        # errs by 7e-5 of a count where 4 hours err by 5e-6: nothing beside errors of 20 to 30 %
        max_step_h=12.0,
    )
    estimated = [*SPREAD, "slope_lenalidomide_platelets", "gamma_neutrophils"]
    return models.PopulationModel(
        structure,
        [
            parameter(n, values[n], fixed=n not in estimated, iiv=SPREAD.get(n))
            for n in structure.parameters
        ],
        {"neutrophils": residual.lognormal(0.3), "platelets": residual.lognormal(0.2)},
    )


def trial(model: models.PopulationModel, patients: int, seed: int) -> pkpd.data.Dataset:
    """Simulate three courses of four weeks: clofarabine for 5 days, lenalidomide for 21."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(1, patients + 1):
        for course in range(3):
            start, dose = 672.0 * course, CLOFARABINE_MG
            rows.append((i, start, 1, dose, dose, 24.0, 4, 1, np.nan, ""))
            rows.append((i, start + 168.0, 1, 10.0, 0.0, 24.0, 20, 3, np.nan, ""))
        for hour in 24.0 * np.arange(0.0, 84.0, 3.5) + rng.uniform(0.0, 2.0, 24):
            rows += [(i, hour, 0, 0.0, 0.0, 0.0, 0, 0, 1.0, line) for line in LIMIT]
    names = ["ID", "TIME", "EVID", "AMT", "RATE", "II", "ADDL", "CMT", "DV", "DVID"]
    frame = pd.DataFrame(rows, columns=names).sort_values(["ID", "TIME"], kind="stable")
    design = pkpd.read_nonmem(frame, units={"TIME": "h", "AMT": "mg", "DV": "10^9/L"})
    return models.simulate_data(model, design, seed=seed, lloq=LIMIT)


def main() -> None:
    """Simulate, fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("clofarabine_lenalidomide", options)

    # data and model
    model = truth()
    data = trial(model, 200 if options.full else 20, seed=7)
    print(data.summary())

    # fit, starting away from the truth
    known = start_values(model)
    away = {p.name: 1.3 * known[p.name] for p in model.parameters if not p.typical.fixed}
    maximum = pkpd.fit(model.with_values(away), data, method="laplace")
    print(maximum.summary())
    fit, columns = maximum, ["estimate", "lower", "upper"]  # 95 %
    if options.full:
        fit = pkpd.fit(model, data, start=maximum, draws=1400, tune=500)
        columns = ["median", "q5", "q95"]  # 90 %
    found = fit.table()[columns].dropna()

    # checks
    checks = pkpd.check(fit, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # reference: all but a few of the intervals should hold the truth
    held = 0
    for name, (value, low, high) in found.iterrows():
        held += low <= known[name] <= high
        table.told(name, value, known[name])
        table.rows[-1] |= {"lower": low, "upper": high}
    # fewer than this happens once in a hundred, were the intervals independent
    table.at_least("intervals that hold the truth", held, len(found) - (5 if options.full else 4))
    if options.full:
        table.at_most("largest R-hat", fit.table()["r_hat"].max(), 1.01)
        table.at_least("smallest bulk ESS", fit.table()["ess_bulk"].min(), 400)
    table.told("maximum likelihood, seconds", maximum.seconds)
    if options.full:
        table.told("sampling, seconds", fit.record["wall_s"])
    table.told("memory, GB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    table.finish()


if __name__ == "__main__":
    main()
