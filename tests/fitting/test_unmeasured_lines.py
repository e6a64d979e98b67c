"""AIC and BIC count no residual error of a line that the data do not measure."""

from __future__ import annotations

import numpy as np
import pytest

import pkpd
from pkpd.fitting.checks.all_checks import check
from pkpd.fitting.maximum.description import extra_parameters
from pkpd.fitting.uncertainty.likelihood_ratio import compare_fits, runs
from pkpd.models import PopulationModel, parameter, residual
from tests.fitting.small_data import Straight, dataset_of


@pytest.fixture(scope="module")
def data():
    draws = np.random.default_rng(3)
    level = 2.0 + 0.3 * draws.normal(size=8)
    rows = [
        (b, float(t), None, float(level[b] + 0.5 * t + 0.1 * draws.normal()), 0)
        for b in range(8)
        for t in range(5)
    ]
    return dataset_of(rows, lines=("height",))


def fitted(data, *lines, start=2.0):
    model = PopulationModel(
        Straight(("height", "width")),
        [parameter("level", start, iiv=0.3, scale="identity"), parameter("slope", 0.5)],
        {line: residual.additive(0.1) for line in lines},
    )
    return pkpd.fit(model, data, method="focei", progress=False)


@pytest.fixture(scope="module")
def fits(data):
    return fitted(data, "height"), fitted(data, "height", "width")


def test_criteria_count_what_the_data_measure(fits):
    one, two = fits
    assert set(two.names) == {*one.names, "sigma_width"}
    assert two.counted == one.counted == one.names
    for name in ("aic", "bic", "bic_subjects"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), abs=1e-3)
    assert "by subjects; 4 parameters\n" in one.summary()
    told = "4 parameters, without sigma_width of lines that the data do not measure\n"
    assert told in two.summary()


def test_checks_count_them_likewise(fits):
    found = check(fits[1], replicates=20, quick=True).information
    assert found["parameters"] == 4
    assert found["AIC"] == pytest.approx(fits[1].aic)


def test_comparisons_give_them_no_degree_of_freedom(fits, tmp_path):
    one, two = fits
    assert extra_parameters(one.about, two.about) is None
    table = compare_fits(one, two).table
    assert table["parameters"].tolist() == [4, 4]
    assert table["parent"].tolist() == ["", ""]
    for k, each in enumerate(fits):
        each.save(tmp_path / f"run{k}.nc")
    assert runs(tmp_path)["parameters"].tolist() == [4, 4]
    assert runs(tmp_path)["aic"].tolist() == pytest.approx([one.aic, two.aic])
