"""The marrow without leukaemia as a predictor of published rows on counts."""

from __future__ import annotations

import numpy as np
import pytest
from judging.without_leukaemia import can_be_counted, spread_of_studies, without_leukaemia

import pkpd
from pkpd.cards.population_cards import population_of_disease
from pkpd.endpoints.recovery import nadir
from pkpd.evidence.posterior.shipped import shipped_posterior
from pkpd.evidence.table.learning import refined
from pkpd.evidence.table.table import load_evidence
from pkpd.subjects import with_median_age

HEAD = "id,study,population,schedule,n,endpoint,value,numerator,denominator,mark\n"
LENALIDOMIDE = '"lenalidomide:25 mg:PO:1-21"'
ROWS = {
    "LOW": ("myeloma", LENALIDOMIDE, "g34_neutropenia", "", 12, 40),
    "CR": ("aml", '"clofarabine:40 mg/m2:IV1h:1-5"', "cr_rate", "", 12, 40),
    "BACK": ("aml", '"clofarabine:40 mg/m2:IV1h:1-5"', "anc500_recovery_day_median", 28, "", ""),
    "PARTNER": ("aml", '"daunorubicin:60 mg/m2:IV:1-3"', "anc500_recovery_day_median", 28, "", ""),
}

SPREAD = spread_of_studies(shipped_posterior())
NONE = dict.fromkeys(SPREAD, 1e-9)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    lines = [
        f"{name},{name},{population},{schedule},40,{endpoint},{value},{k},{n},READ\n"
        for name, (population, schedule, endpoint, value, k, n) in ROWS.items()
    ]
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    file.write_text(HEAD + "".join(lines))
    return refined(load_evidence(file)).rows


def test_rows_on_counts_are_predicted_and_the_others_named(rows):
    assert [row.id for row in rows if can_be_counted(row)] == ["LOW", "BACK", "PARTNER"]
    said, refused = without_leukaemia(rows, SPREAD, patients=32, draws=4)
    assert set(said) == {"LOW", "BACK"}
    assert set(refused) == {"PARTNER"}
    assert "'daunorubicin': has no pk and effect" in refused["PARTNER"]
    days = said["BACK"].values
    assert days.size == 16
    assert np.isfinite(days).all()
    assert (days > 5).all()
    # days of studies that deviate are more spread
    alike, _ = without_leukaemia(rows, NONE, patients=32, draws=4)
    assert np.log(days).std() > np.log(alike["BACK"].values).std() + 0.02
    again, _ = without_leukaemia(rows, SPREAD, patients=32, draws=4)
    np.testing.assert_array_equal(again["BACK"].values, days)
    assert np.isfinite(said["LOW"].log_score)


def test_a_share_is_that_of_the_public_simulation(rows):
    """Neutropenia of grade 3 and 4 in the same patients, drawn from the cards through `source`."""
    patients, draws = 200, 20
    said, _ = without_leukaemia([rows[0]], NONE, patients=patients, draws=draws)
    age = rows[0].population.age
    assert age is not None
    population = with_median_age(population_of_disease("myeloma"), age)
    found = pkpd.source(population, marrow="friberg", patients=patients, draws=draws)
    regimen = pkpd.daily("lenalidomide", "25 mg", days="1-21", route="oral")
    treated = found.treated(regimen, 84)
    low = [
        (nadir(treated.course(np.array([draw])), "neutrophils")[0] < 1.0).mean()
        for draw in range(draws)
    ]
    assert 0.05 < np.mean(low) < 0.95
    # 80 numbers of 40 patients each, of draws that are not the same ones
    error = np.sqrt(np.var(low) * 2 / draws + 0.25 / 40 / 80 + 2 * 0.25 / patients)
    assert said["LOW"].values.mean() == pytest.approx(np.mean(low), abs=4 * error)
