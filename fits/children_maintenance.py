"""Neutrophils of 78 children under daily mercaptopurine, forecast from each child's own past.

Data and reference: supplement of Jost et al. (2020) Front Physiol 11:217 (article CC BY, data not
shipped here): a year and a half of oral mercaptopurine, 4,029 neutrophil counts (10^9/L), NONMEM's
estimates and predictions of each child. The kinetics are published, the marrow is fitted with
residuals that drift. Forecasts of the next visit and of four weeks ahead take doses as given up to
the forecast day, and are cross-validated over children in three folds. ``--data FILE``: other
children, with the same columns, are forecast with the population fitted to the 78.
"""

# ruff: noqa: T201

from __future__ import annotations

import numpy as np
import pandas as pd
from children.model import A_DAY, LIMIT, model, read
from reference_table import ReferenceTable, arguments, find_data

import pkpd
from pkpd.fitting.model.likelihood import bind
from pkpd.forecasting import (
    Horizon,
    difference,
    forecast_series,
    last_value,
    local_level,
    scored,
)

ADDRESS = "https://doi.org/10.3389/fphys.2020.00217 (Data Sheets 1 and 2, as one table of events)"
FILES = {
    "children.csv": "cc4468309e41a6ca66ada0ca59943d97bdfbe2760de5f9086a5b36428c13632d",
    "estimates.csv": "15c59561cd2523058a9beb00763c537d751245c51218dc1b36970b41a896785a",
}
HORIZONS = [Horizon("next", None, (5, 16)), Horizon("4 weeks", 28, (24, 32))]


def forecasts(source, train: pkpd.data.Dataset, data: pkpd.data.Dataset) -> dict[str, pd.DataFrame]:
    """Forecast children by everything that is compared."""
    return {
        "marrow": forecast_series(source, data, HORIZONS),
        "most_probable": forecast_series(source, data, HORIZONS, engine="map", bank=1000),
        "local_level_robust": local_level(train).forecasts(data, HORIZONS),
        "local_level": local_level(train, robust=False).forecasts(data, HORIZONS),
        "last_value": last_value(train, data, HORIZONS),
    }


def main() -> None:
    """Fit, forecast and compare."""
    options = arguments(__doc__)
    table = ReferenceTable("children_maintenance", options)

    # data
    paths = [find_data(options.data, name, sha, ADDRESS) for name, sha in FILES.items()]
    children, seen = read(paths[0])
    labels = list(children.subjects)
    print(children.summary())

    # NONMEM's predictions of each child
    likelihood = bind(model(), children)
    start = {p.name: p.typical.value for p in likelihood.model.parameters if p.has_typical}
    start |= {name: 1.0 for name in likelihood.fixed_names if name not in start}
    nobody = np.zeros((len(labels), likelihood.random_effects.size))
    values = dict(likelihood.individual_parameters(likelihood.fixed(start), nobody))
    theirs = pd.read_csv(paths[1]).set_index("ID").loc[labels]
    values |= {"circ0": theirs.Base.to_numpy(), "MTT": 4 * A_DAY / theirs.ktr.to_numpy()}
    values |= {"slope": theirs.slope.to_numpy(), "gamma": theirs.gamma.to_numpy()}
    off = np.abs(np.asarray(likelihood.predictor(values)) / seen.IPRED.to_numpy() - 1.0)
    worst = pd.Series(off).groupby(seen.ID.to_numpy()).max()
    table.at_least("predictions within 0.5 % of NONMEM's, %", 100 * np.mean(off < 0.005), 99.8)
    table.at_least("children with all of them within 0.5 %", int((worst < 0.005).sum()), 77)

    # fit
    maximum = pkpd.fit(
        model(), children, method="focei", covariance="observed" if options.full else None
    )
    print(maximum.summary())
    table.at_most("FOCE-I, seconds", maximum.seconds, 180)
    start_of_folds = maximum.model
    parts = []
    for fold in range(3):
        train = children.subset([c for i, c in enumerate(labels) if i % 3 != fold])
        fitted = pkpd.fit(start_of_folds, train, method="focei", covariance=None, iterations=20)
        parts.append(forecasts(fitted, train, children.subset(labels[fold::3])))
    found = {name: pd.concat([part[name] for part in parts]) for name in parts[0]}
    for name, one in found.items():
        one.to_csv(table.page.with_name(f"children_{name}.csv"), index=False)
    if options.data is not None and options.data.is_file() and options.data != paths[0]:
        for name, one in forecasts(maximum, children, read(options.data)[0]).items():
            one.to_csv(table.page.with_name(f"further_children_{name}.csv"), index=False)
            for horizon, part in scored(one, floor=LIMIT).groupby("horizon"):
                table.told(f"further children, {name}, {horizon}: CRPS", part.crps.mean())
                table.told(f"further children, {name}, {horizon}: in 90 %", part.inside90.mean())

    # checks
    if options.full:
        posterior = pkpd.fit(model(), children, start=maximum, draws=500, tune=500, progress=False)
        summary = posterior.table()
        print(summary.round(4).to_string())
        pkpd.write_fit_page(pkpd.check(posterior, quick=True), table.page)
        table.at_most("largest R-hat", summary["r_hat"].max(), 1.02)

    # reference
    scores = {name: scored(one, floor=LIMIT) for name, one in found.items()}
    for horizon, limit in (("next", 0.238), ("4 weeks", 0.267)):
        for name, one in scores.items():
            mine = one[one.horizon == horizon]
            table.told(f"{horizon}, {name}: CRPS of the log count", mine.crps.mean())
            table.told(f"{horizon}, {name}: counts in the 90 % interval", mine.inside90.mean())
        mine = scores["marrow"][scores["marrow"].horizon == horizon]
        table.at_most(f"{horizon}: CRPS of the log count", mine.crps.mean(), limit)
        table.at_least(f"{horizon}: counts in 90 % intervals", mine.inside90.mean(), 0.88)
        table.at_most(f"{horizon}: counts in 90 % intervals", mine.inside90.mean(), 0.94)
        apart, error = difference(scores["marrow"], scores["local_level_robust"])[horizon]
        table.at_most(
            f"{horizon}: CRPS less the robust local level's, in errors", apart / error, -2
        )
    table.finish()


if __name__ == "__main__":
    main()
