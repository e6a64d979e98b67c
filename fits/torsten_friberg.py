"""Concentrations and neutrophils of 15 subjects: the posterior of Stan/Torsten under its priors.

Data and reference: metrumresearchgroup/Torsten (BSD-3), ``example-models/FribergKarlsson``: 795
concentrations and 75 neutrophil counts simulated from two compartments with oral doses twice a day
and Friberg's model, and the posterior of Stan (4 chains of 1000 draws). Doses in ug, volumes in L.
Body weight acts on clearances (0.75) and volumes (1); seven parameters vary with full correlation.
"""

# ruff: noqa: T201

from __future__ import annotations

import json
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from reference_table import ReferenceTable, arguments, find_data

import pkpd
from pkpd import models
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import Estimate
from pkpd.models import Prior, compartments, covariate, marrow_model, parameter, residual

ADDRESS = "https://github.com/metrumresearchgroup/Torsten (example-models/FribergKarlsson/{})"
FILES = {
    "FribergKarlsson.short_data.json": (
        "short_data.json",
        "d6882bba8fa17d9b05505149e51d14baac7de45e300326b6ff513b8eb885b3a1",
    ),
    "FribergKarlsson.summary_pars.csv": (
        "summary_pars.csv",
        "dcfab07976cb30211a2e95c2be15b600cb44dde8d81952bfd73cd710be7242c1",
    ),
}
NAMES = {
    "CL": "CLHat",
    "Q": "QHat",
    "V1": "V1Hat",
    "V2": "V2Hat",
    "ka": "kaHat",
    "MTT": "mttHat",
    "circ0": "circ0Hat",
    "slope": "alphaHat",
    "gamma": "gamma",
    "sigma_concentration": "sigma",
    "sigma_neutrophils": "sigmaNeut",
}
VARYING = ("CL", "Q", "V1", "V2", "MTT", "circ0", "slope")
SECONDS_PER_GRADIENT_OF_STAN = 0.380


def as_table(path: Path) -> pd.DataFrame:
    """Write Torsten's arrays as NONMEM rows, one for each event or measurement."""
    given = json.loads(path.read_text())
    subject = np.repeat(np.arange(1, given["nSubjects"] + 1), np.diff([*given["start"], 826]))
    frame = pd.DataFrame({k: given[k] for k in ("time", "amt", "evid", "ii", "addl", "cmt")})
    frame = frame.assign(ID=subject, order=np.arange(len(frame)))
    frame["WT"] = np.repeat(given["weight"], np.bincount(subject)[1:])
    parts = [frame[frame.evid == 1].assign(DV=np.nan, DVID="")]
    for dvid, rows, values in (
        ("concentration", given["iObsPK"], given["cObs"]),
        ("neutrophils", given["iObsPD"], given["neutObs"]),
    ):
        parts.append(frame.iloc[np.array(rows) - 1].assign(DV=values, DVID=dvid))
    return pd.concat(parts).sort_values("order", kind="stable").drop(columns="order")


def main() -> None:
    """Fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("torsten_friberg", options)

    # data
    paths = [
        find_data(options.data, name, sha256, ADDRESS.format(there))
        for name, (there, sha256) in FILES.items()
    ]
    data = pkpd.read_nonmem(as_table(paths[0]), covariates=["WT"])
    print(data.summary())

    # model: the priors of the Stan program
    def around(median: float, sigma: float) -> Prior:
        return Prior("LogNormal", mu=float(np.log(median)), sigma=sigma)

    scale = Prior("HalfCauchy", beta=0.5)
    spread = Estimate(0.2, scale)
    clearance, volume = covariate.allometric("WT", 70, 0.75), covariate.allometric("WT", 70, 1.0)
    model = models.PopulationModel(
        marrow_model(compartments(2, absorption="first_order")),
        [
            parameter("CL", 10.0, prior=around(10, 0.2), iiv=spread, effects=clearance),
            parameter("Q", 15.0, prior=around(15, 0.1), iiv=spread, effects=clearance),
            parameter("V1", 35.0, prior=around(35, 0.1), iiv=spread, effects=volume),
            parameter("V2", 100.0, prior=around(100, 0.2), iiv=spread, effects=volume),
            parameter("ka", 2.0, prior=around(2, 0.2)),
            parameter("MTT", 125.0, prior=around(125, 0.2), iiv=spread),
            parameter("circ0", 5.0, prior=around(5, 0.2), iiv=spread),
            parameter("slope", 2e-4, prior=around(2e-4, 0.2), iiv=spread),
            parameter("gamma", 0.17, prior=around(0.17, 0.2)),
        ],
        {
            "concentration": residual.lognormal(0.1, prior=scale),
            "neutrophils": residual.lognormal(0.1, prior=scale),
        },
        correlated=[VARYING],
        lkj=1.0,
    )

    # fit
    draws = 3000 if options.full else 400
    posterior = pkpd.fit(model, data, draws=draws, tune=min(draws, 1000), progress=False)
    seconds = posterior.record["wall_s"]
    summary = posterior.table()
    print(summary.round(4).to_string())

    # checks
    checks = pkpd.check(posterior, quick=not options.full)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)
    likelihood, times = posterior.likelihood, []
    values = likelihood.fixed(start_values(model)), np.zeros((15, len(VARYING)))
    for _ in range(51):
        times.append(-time.perf_counter())
        jax.block_until_ready(likelihood.value_and_gradient(*values))
        times[-1] += time.perf_counter()
    gradient = float(np.median(times))

    # reference
    stan = pd.read_csv(paths[1], index_col="variable")
    omegas = {f"omega_{name}": f"omega[{i + 1}]" for i, name in enumerate(VARYING)}
    for ours, theirs in (NAMES | omegas).items():
        error = np.hypot(
            stan["sd"][theirs] / stan["ess_bulk"][theirs] ** 0.5, summary["mcse_mean"][ours]
        )
        table.near(ours, summary["mean"][ours], stan["mean"][theirs], within=3 * error)
    table.at_most("largest R-hat", summary["r_hat"].max(), 1.01 if options.full else 1.05)
    table.told("smallest bulk ESS per second", summary["ess_bulk"].min() / seconds)
    table.told("seconds per gradient", gradient, SECONDS_PER_GRADIENT_OF_STAN)
    table.at_least("gradients, times Stan", SECONDS_PER_GRADIENT_OF_STAN / gradient, 100)
    table.finish()


if __name__ == "__main__":
    main()
