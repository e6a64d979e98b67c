"""Platelets and neutrophils of rats under docetaxel: the published pooled fit, then a population.

Data: R. Rumney, Myleotoxicity-PKPD (BSD-3), real counts of 48 rats after 0, 5, 10 or 15 mg/kg of
docetaxel, and concentrations in 18 others. Reference: that project's optimisation for all rats
pooled (``PK_real/opt_results.csv``, ``PD_real/Docetaxel_opt_results.csv``, relative noise, eta 1),
in which every rat gets the mean dose of its group as a bolus. Then each rat gets its own infusion
and its own parameters.
"""

# ruff: noqa: T201

from __future__ import annotations

import pandas as pd
from reference_table import ReferenceTable, arguments, find_data

import pkpd
from pkpd.models import (
    Friberg,
    PopulationModel,
    compartments,
    fixed,
    marrow_model,
    parameter,
    residual,
)

NAME = "0470-2008_2018-05-09_Docetaxel.csv"
SHA256 = "70e0bf323a8a05efb5c790074d6bb252f560612107f3e037a88ef3de4e2f8e31"
ADDRESS = f"https://github.com/Rebecca-Rumney/Myleotoxicity-PKPD (Data_and_parameters/{NAME})"
KINETICS = {"V1": 0.6838, "CL": 2.7789, "V2": 4.0892, "Q": 1.7038}
POOLED = {"circ0": 987.546, "MTT": 90.6309, "gamma": 0.515517, "slope": 12.0563}
POOLED_SIGMA = 0.207393
POOLED_LOG_LIKELIHOOD = -2385.029


def rows(path) -> pd.DataFrame:
    """Read the file, sorted by rat and time, doses first; numbers of the lines in column DVID."""
    frame = pd.read_csv(path, na_values=".")
    frame["DVID"] = frame["YNAME"].str.strip()
    frame.loc[frame["EVID"] == 1, "DVID"] = ""
    return frame.sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False], kind="stable")


def read(frame: pd.DataFrame, lines: dict[str, str]) -> pkpd.data.Dataset:
    """Read those lines; others are left out and counted in the summary."""
    units = {"TIME": "h", "AMT": "mg", "DV": dict.fromkeys(lines.values(), "10^3/mcL")}
    if "concentration" in lines.values():
        units["DV"] = {"concentration": "ng/mL"}
    return pkpd.read_nonmem(
        frame, columns={"DV": "OBS"}, lines=lines, other_lines="drop", units=units
    )


def mean_boluses(frame: pd.DataFrame) -> pd.DataFrame:
    """Give every rat the mean dose of its group at once."""
    dose = frame["EVID"] == 1
    mean = frame[dose].groupby("DOSE")["AMT"].mean()
    return frame.assign(TINF=0.0, AMT=frame["DOSE"].map(mean).where(dose))


def main() -> None:
    """Fit and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("rumney_rats", options)

    # data: kinetics and counts were measured in different rats
    frame = rows(find_data(options.data, NAME, SHA256, ADDRESS))
    measured = frame[(frame["EVID"] == 0) & (frame["MDV"] == 0)]
    with_pk = set(measured.loc[measured["DVID"] == "Docetaxel", "ID"])
    counted = frame[~frame["ID"].isin(with_pk)]
    pooled = read(mean_boluses(counted), {"Platelets": "platelets"})
    concentrations = read(
        mean_boluses(frame[frame["ID"].isin(with_pk)]), {"Docetaxel": "concentration"}
    )
    both = read(counted, {"Platelets": "platelets", "Neutrophiles absolute": "neutrophils"})
    print(concentrations.summary(), both.summary(), sep="\n")

    # model
    kinetics = PopulationModel(
        compartments(2),
        [parameter(name, value) for name, value in KINETICS.items()],
        residual.proportional(0.3),
    )
    known = [parameter(name, fixed(value)) for name, value in KINETICS.items()]
    platelets = PopulationModel(
        marrow_model(compartments(2), lines={"platelets": Friberg()}),
        [
            *known,
            parameter("circ0", 900.0),
            parameter("MTT", 100.0),
            parameter("gamma", 0.4),
            parameter("slope", 10.0),
        ],
        {"platelets": residual.proportional(0.2)},
    )

    # fit
    pk = pkpd.fit(kinetics, concentrations, method="focei")
    print(pk.summary())
    found = pkpd.fit(platelets, pooled, method="focei")
    print(found.summary())
    marrow = []
    for line, circ0, mtt in (("platelets", 990.0, 90.0), ("neutrophils", 1.3, 100.0)):
        marrow += [
            parameter(f"circ0_{line}", circ0, iiv=0.2),
            parameter(f"MTT_{line}", mtt, iiv=0.1),
            parameter(f"gamma_{line}", 0.5 if line == "platelets" else 0.2),
            parameter(f"slope_{line}", 12.0, iiv=0.2),
        ]
    lines = {"platelets": Friberg(), "neutrophils": Friberg()}
    population = PopulationModel(
        marrow_model(compartments(2), lines=lines),
        [*known, *marrow],
        {"platelets": residual.proportional(0.2), "neutrophils": residual.proportional(0.4)},
    )
    joint = pkpd.fit(population, both, method="focei")
    print(joint.summary())

    # checks
    checks = pkpd.check(joint)
    print(checks.summary())
    pkpd.write_fit_page(checks, table.page)

    # reference
    for name, wanted in KINETICS.items():
        table.near(f"{name}, 18 rats pooled", pk.estimates[name], wanted, percent=2)
    for name, wanted in POOLED.items():
        table.near(f"{name}, pooled", found.estimates[name], wanted, percent=2)
    table.near("sigma, pooled", found.estimates["sigma_platelets"], POOLED_SIGMA, percent=1)
    table.near("log-likelihood, pooled", found.log_likelihood, POOLED_LOG_LIKELIHOOD, within=0.5)
    for line in lines:
        for name in ("circ0", "MTT", "gamma", "slope"):
            key = f"{name}_{line}"
            table.told(f"{key}, population", joint.estimates[key])
    table.told("population, seconds", joint.seconds)
    table.finish()


if __name__ == "__main__":
    main()
