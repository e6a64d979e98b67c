"""Simulated trials, forecasts and chains on workers: the same figures whatever their number."""

from __future__ import annotations

from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scenarios import NUMBERS_OF_WORKERS
from typer.testing import CliRunner

import pkpd
from pkpd.cli import app
from pkpd.cluster import workers
from pkpd.designs import (
    BOIN,
    CRM,
    Accrual,
    EventTimes,
    TiteBOIN,
    compare_trials,
    simulate_trials,
)
from pkpd.errors import PkpdError
from pkpd.fitting.simulate_data import simulate_data
from pkpd.models import PopulationModel, compartments, parameter, residual
from pkpd.search import search_schedules

pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]
LATE = {"accrual": Accrual(7), "times": EventTimes(28), "trials": 60, "seed": 4}
RISKS = [[0.05, 0.2, 0.4], [0.2, 0.35, 0.6]]


@pytest.fixture(scope="module", params=NUMBERS_OF_WORKERS)
def cluster(request):
    """Address of workers, which load their libraries once for several tests."""
    with workers("local", request.param) as begun:
        yield begun.client.scheduler.address


@pytest.mark.slow
def test_trials_on_workers_are_those_of_one_process(cluster):
    for design in (
        TiteBOIN(levels=3, target=0.3),
        CRM(levels=3, skeleton=(0.1, 0.3, 0.5), target=0.3),
    ):
        alone = simulate_trials(design, RISKS, **LATE)
        spread = simulate_trials(design, RISKS, **LATE, cluster=cluster)
        xr.testing.assert_identical(alone, spread)
    ways = {"waits": (BOIN(levels=3, target=0.3), RISKS), "goes on": (design, RISKS)}
    alone = compare_trials(ways, **LATE)
    xr.testing.assert_identical(alone, compare_trials(ways, **LATE, cluster=cluster))


@pytest.mark.slow
def test_searches_on_workers_are_those_of_one_process(cluster):
    """Under all three views, whose patients and draws travel."""
    menu = {
        f"{amount} mg/m2": pkpd.daily(
            "clofarabine", f"{amount} mg/m^2", days="1-5", route="iv", duration="1 h"
        )
        for amount in (10, 40)
    }
    how = {"population": "rr_aml", "rule": "leukemia_d42_generic", "until_day": 60}
    shipped = ROOT / "models" / "evidence" / "posterior.nc"
    how |= {"marrow": "leukaemia", "posterior": shipped}
    how |= {"patients": 10, "draws": 6, "limits": ()}
    alone = search_schedules(menu, **how)
    assert len(alone.answers) == 3
    spread = search_schedules(menu, **how, cluster=cluster)
    xr.testing.assert_identical(alone.dataset, spread.dataset)
    assert alone.summary() == spread.summary()


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("importance", marks=pytest.mark.long),
        pytest.param("smc", marks=pytest.mark.long),
    ],
)
def test_forecasts_on_workers_are_those_of_one_process(engine, cluster):
    source = pkpd.source("rr_aml", marrow="friberg", patients=1, draws=10)
    schedule = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    counts = {"ID": [1, 1, 2, 2, 3, 3], "DAY": [1, 8] * 3, "ANC": [1.5, 0.5, 2.5, 1.2, 4.0, 0.2]}
    how = {"bank": 300, "engine": engine, "alternatives": ["29"]}
    alone = pkpd.forecast(source, counts, schedule, 45, **how)
    spread = pkpd.forecast(source, counts, schedule, 45, **how, cluster=cluster)
    xr.testing.assert_identical(alone.dataset, spread.dataset)
    xr.testing.assert_identical(alone.alternatives, spread.alternatives)
    later = {"ID": [1], "DAY": [10], "ANC": [0.7]}
    xr.testing.assert_identical(alone.update(later).dataset, spread.update(later).dataset)


@pytest.fixture(scope="module")
def fitted():
    """A model and data that it simulated, to be fitted."""
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 1.5), parameter("CL", 2.7, iiv=0.3), parameter("V", 32, iiv=0.15)],
        residual.additive(0.7),
    )
    rows = [(1, 0.0, 320.0, 1, None), *((1, float(t), 0.0, 0, 1.0) for t in (1, 3, 6, 12, 24))]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"])
    every = pd.concat([table.assign(ID=i) for i in range(1, 7)])
    return model, simulate_data(model, pkpd.read_nonmem(every))


@pytest.mark.long
def test_chains_on_workers_are_the_same_whatever_their_number(fitted, tmp_path):
    how = {"draws": 200, "tune": 200, "chains": 3, "progress": False}
    one, three = (
        pkpd.fit(*fitted, **how, cluster="local", cores=cores, checkpoint=folder).idata.posterior
        for cores, folder in ((1, None), (3, tmp_path))
    )
    xr.testing.assert_equal(one, three)
    chains = one["CL"].values
    assert chains.shape == (3, 200)
    assert len(np.unique(chains[:, 0])) == 3
    again = pkpd.fit(*fitted, **how, cluster="local", checkpoint=tmp_path)
    xr.testing.assert_equal(one, again.idata.posterior)
    together = pkpd.fit(*fitted, **how).idata.posterior["CL"]
    error = np.hypot(*(np.std(c) / np.sqrt(float(az.ess(c.values))) for c in (together, one["CL"])))
    assert abs(float(together.mean()) - chains.mean()) < 4.5 * float(error)


def test_what_has_no_chains_has_no_cluster(fitted):
    with pytest.raises(PkpdError, match="method 'map' has no chains; allowed: nuts"):
        pkpd.fit(*fitted, method="map", cluster="local")


def test_commands_name_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr("pkpd.cluster._PATIENCE_S", 1)
    words = ["design", str(ROOT / "benchmarks" / "designs" / "tite_boin.toml")]
    words += ["--characteristics", "--cluster", "nowhere at all"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "cluster nowhere at all: no Dask scheduler answers there" in done.stderr
