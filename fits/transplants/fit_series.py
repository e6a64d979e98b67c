"""The series of 133 transplantations fitted by `pkpd.fit`: rates of regrowth by source.

Counts from day 5 on, those at most at a limit as censored, in the marrow of ten stages that
conditioning has emptied. Regrowth and seeding of the graft differ by its source and between
patients. Growth factor was not recorded: on days 6 to 20 it counts by the share of patients who had
it by the centre's habit (assumed). The patient's own cells, which conditioning left in blood, are
gone by day 5.
"""

# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import pandas as pd
from places import find_prefix, run
from reference_table import ReferenceTable, arguments
from series import SOURCE_WORDS, SOURCES, Series, read_series

import pkpd
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.models import PopulationModel, covariate, fixed, leukaemia_model, parameter, residual

GIVEN = {"PBSC_unmodified": 0.5, "TCD": 0.95, "BM_unmodified": 0.4, "cord": 0.9}
"""Share of patients given growth factor, by source: assumed."""
FIRST_DAY, LAST_DAY = 5, 45
GROWTH_FACTOR = range(6, 21)
DRAWS = 400  # of each of two chains
LEAST = 0.05  # 10^9/L; a count printed as 0.0 lies below it
FREE = ("rho", "graft_seeding", "k_neutrophil", "neutrophils_normal", "filgrastim")


def model() -> PopulationModel:
    """Build the model; the first source is the reference of the others."""
    structure = leukaemia_model(
        {"graft": None, "filgrastim": None},
        disease="emptied",
        structure="ten_stages",
        observed=["neutrophils"],
        free=FREE,
        max_step_h=8.0,
    )
    by_source = [covariate.category("SOURCE", [1, 2, 3])]
    individual = [
        parameter("rho", 0.9, iiv=0.35, effects=by_source),
        parameter("graft_seeding", 3e-4, iiv=1.5, effects=by_source),
        parameter("k_neutrophil", 11.0 / 6.5, iiv=fixed(0.12)),
        parameter("neutrophils_normal", 3.2, iiv=0.35),
        parameter("filgrastim", 10.0),
    ]
    return PopulationModel(structure, individual, residual.lognormal(0.5))


def table_of(series: list[Series]) -> pd.DataFrame:
    """Write series in the style of NONMEM: a graft of one unit, growth factor, counts."""
    rows = []
    for number, one in enumerate(series, start=1):
        source = SOURCES.index(one.source)
        rows.append((number, 0.0, 1.0, 1, 1, 0, 0.0, source))
        share = GIVEN[one.source]
        rows += [(number, 24.0 * d, share, 2, 1, 0, 0.0, source) for d in GROWTH_FACTOR]
        for day, count, limited in zip(one.days, one.counts, one.limited, strict=True):
            if FIRST_DAY <= day <= LAST_DAY and not (limited and count > 1.0):
                seen, below = max(float(count), LEAST), int(limited or count < LEAST)
                rows.append((number, 24.0 * day + 1.0, 0.0, 1, 0, below, seen, source))
    names = ["ID", "TIME", "AMT", "CMT", "EVID", "CENS", "DV", "SOURCE"]
    table = pd.DataFrame(rows, columns=names).sort_values(["ID", "TIME", "EVID"], kind="stable")
    return table.assign(DVID=1, MDV=table["EVID"])


def sampled(fit: MaximumLikelihood, data: pkpd.data.Dataset, table: ReferenceTable) -> None:
    """Sample the posterior by NUTS and print the rates beside those of the fit."""
    posterior = pkpd.fit(
        model(), data, start=fit, draws=DRAWS, tune=DRAWS, chains=2, progress=False
    )
    print(posterior.summary())
    found, estimate = posterior.table(), fit.table()["estimate"]
    ratio = {0: 0.0} | {k: found["median"][f"rho_SOURCE_{k}"] for k in range(1, len(SOURCES))}
    for k, source in enumerate(SOURCES):
        rate = found["median"]["rho"] * np.exp(ratio[k])
        theirs = estimate["rho"] * np.exp(estimate[f"rho_SOURCE_{k}"] if k else 0.0)
        table.told(f"regrowth after {SOURCE_WORDS[source]}, sampled", rate, theirs)
    for name in ("filgrastim", "omega_rho", "omega_graft_seeding"):
        table.told(f"{name}, sampled", found["median"][name], estimate[name])
    table.at_most("largest R-hat of the population", found["r_hat"].max(), 1.02)
    table.told("smallest effective size of the population", found["ess_bulk"].min())


def main() -> None:
    """Read, fit and print the rates; with ``--full`` sample them, too."""
    options = arguments(__doc__)
    table = ReferenceTable("transplants_series", options)
    data = pkpd.read_nonmem(
        table_of(list(read_series(find_prefix(options.data)))),
        lines={1: "neutrophils"},
        units={"TIME": "h", "AMT": "mg", "DV": "10^9/L"},
        covariates=["SOURCE"],
    )
    print(data.summary())
    fit = pkpd.fit(model(), data, method="focei")
    print(fit.summary())

    # rates by source, per day; the study's own by empirical Bayes beside them
    found = fit.table()["estimate"]
    studied = {"PBSC_unmodified": 1.20, "TCD": 1.30, "BM_unmodified": 0.82, "cord": 0.45}
    for k, source in enumerate(SOURCES):
        rate = found["rho"] * np.exp(found[f"rho_SOURCE_{k}"] if k else 0.0)
        table.told(f"regrowth after {SOURCE_WORDS[source]}, per day", rate, studied[source])
    table.told("-2 log likelihood", fit.objective)
    if options.full:
        sampled(fit, data, table)
    table.at_least("converged", float(fit.converged), 1.0)
    table.finish()


if __name__ == "__main__":
    run(main)
