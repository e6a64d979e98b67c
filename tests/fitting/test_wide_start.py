"""A wide start makes no standard deviation small: what counts as zero does not follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pkpd
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, compartments, parameter, residual

DATA = Path(__file__).parents[2] / "fits" / "data" / "theophylline.csv"


@pytest.fixture(scope="module")
def data():
    return pkpd.read_nonmem(DATA)


def oral(iiv):
    return PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 1.5, iiv=iiv), parameter("CL", 2.7, iiv=iiv), parameter("V", 32, iiv=iiv)],
        residual.additive(0.7),
    )


@pytest.mark.parametrize("iiv", [0.1, 1.0, 5.0, 30.0])
def test_only_what_is_small_counts_as_zero(iiv, data):
    free = FreeParameters(bind(oral(iiv), data))
    values = free.begun | {"omega_ka": 0.17, "omega_CL": 0.03, "omega_V": 0.0}
    at = dict(zip(free.names, free.at_edge(free.of(values)), strict=True))
    assert [name for name, edge in at.items() if edge] == ["omega_V"]
    assert free.values(free.of(values))["omega_ka"] == pytest.approx(0.17)
    assert free.values(free.start())["omega_ka"] == pytest.approx(iiv)


def test_limits_of_a_standard_deviation_do_not_follow_its_start(data):
    ends = []
    for iiv in (0.05, 3.0):
        free = FreeParameters(bind(oral(iiv), data))
        x = free.of(free.begun | {"omega_ka": 0.24})
        low, high = free.limits(x, 0.15 / np.abs(free.slopes(x)))
        ends.append((low["omega_ka"], high["omega_ka"]))
    assert ends[0] == pytest.approx(ends[1])
    assert ends[0] == pytest.approx((0.12, 0.45), abs=0.01)


@pytest.mark.slow
def test_a_fit_from_a_wide_start_ends_as_others_do(data):
    wide, near = (pkpd.fit(oral(iiv), data, method="focei", progress=False) for iiv in (30.0, 0.5))
    assert wide.objective == pytest.approx(near.objective, abs=0.01)
    assert not [one for one in wide.findings if one.kind == "at zero"]
    for name, error in near.standard_errors.items():
        assert wide.standard_errors[name] == pytest.approx(error, rel=0.02)
    assert np.isfinite(wide.standard_errors["omega_V"])
