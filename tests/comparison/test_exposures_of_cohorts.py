"""Exposures in a comparison: closed forms, the fine grid, pairs, published figures, files."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from pkpd.cards.drug_cards import read_drug_card
from pkpd.cards.files import card_folder
from pkpd.comparison.exposures import (
    CohortExposures,
    cohort_exposures,
    first_cycle,
    lanes_of,
    measured,
    without_exposure,
)
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.run import ready_trials
from pkpd.comparison.scenario import load_scenario, with_overrides
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.errors import CardError
from pkpd.exposure.exposures import exposures
from pkpd.exposure.levels import LevelDose
from pkpd.exposure.sources import DrugLanes, drugs_of
from pkpd.kinetics.linear import LinearPK
from pkpd.report.comparison import exposure_words, tables
from pkpd.report.comparison.brief import BriefPrinter
from pkpd.report.comparison.terminal import CohortPrinter

OWN = 6  # patients and draws in all


@pytest.fixture(scope="module")
def clofarabine():
    """Clofarabine, then lenalidomide, in few patients without leukaemia in the marrow."""
    scenario = load_scenario("nct01629082_clofarabine_lenalidomide")
    scenario = with_overrides(scenario, patients=3, draws=2)
    (item,) = ready_trials(scenario, choose_marrow("friberg", scenario))
    return item


def test_areas_are_dose_by_clearance_and_peaks_those_of_a_fine_grid(clofarabine):
    item, cohort = clofarabine, clofarabine.trial.cohorts[0]
    found = cohort_exposures(item, cohort).lanes
    days = item.trial.horizon_days
    for drug in drugs_of(item.ensemble, cohort.regimen, days):
        first, last = first_cycle(cohort.regimen, drug.name, days)
        span = (24.0 * (first - 1), 24.0 * last)
        fine = exposures(
            cohort.regimen, item.ensemble, until_day=days, unit="ng/mL", intervals=[span],
            times_h=[0.0],
        ).sel(drug=drug.name)  # fmt: skip
        near = {"auc": 1e-9, "cmax": 1e-3}
        for name, tolerance in near.items():
            expected = fine[name].to_numpy().ravel()
            np.testing.assert_allclose(found[drug.name, name], expected, rtol=tolerance)
        if not drug.occasion:
            dose = next(r for c in cohort.regimen.courses for r in c.doses if r.drug == drug.name)
            area = 1e3 * dose.amount * drug.parameters["F"] / drug.parameters["CL"]
            np.testing.assert_allclose(found[drug.name, "auc_dose"], area, rtol=1e-9)
    # the peak of an infusion is at its end
    hours = next(r.duration_h for c in cohort.regimen.courses for r in c.doses)
    np.testing.assert_allclose(found["clofarabine", "tmax"], hours)


def test_the_peak_of_a_slow_absorption_is_that_of_its_closed_form():
    """Bateman's function for peaks after 1.7 to 23 h: tmax = ln(ka / k) / (ka - k)."""
    ka, k = np.array([1.3, 0.3, 0.15, 0.05, 0.08]), np.array([0.2, 0.05, 0.1, 0.3, 0.02])
    one, volume = np.ones(ka.size), 30.0
    own = {"CL": k * volume, "V1": volume * one, "ka": ka, "F": one}
    drug = DrugLanes("drug", LinearPK(0, 1), own, {}, one, one, one)
    found = measured(drug, [LevelDose(0.0, 0.0, 500.0 * one, 0)], 0.0, 24.0 * 28, 1.0)
    when = np.log(ka / k) / (ka - k)
    top = 500.0 / volume * ka / (ka - k) * (np.exp(-k * when) - np.exp(-ka * when))
    np.testing.assert_allclose(found["cmax"], top, rtol=1e-3)
    np.testing.assert_allclose(found["tmax"], when, atol=0.05)
    np.testing.assert_allclose(found["auc_dose"], 500.0 / (k * volume), rtol=1e-9)


def test_cohorts_are_paired_and_published_figures_go_with_the_dose(mine):
    (trial,) = mine.trials
    ratio = {(r.first, r.second, r.measure): r for r in trial.exposure_ratios}
    for measure in ("auc", "cmax", "ctrough"):
        same, more = ratio["10 mg", "10 mg again", measure], ratio["10 mg", "25 mg", measure]
        assert (same.patients_lower, same.ratio, same.patients_upper) == (1.0, 1.0, 1.0)
        ends = [more.patients_lower, more.ratio, more.patients_upper]
        np.testing.assert_allclose(ends, 0.4, rtol=1e-9)
    row = {(r.cohort, r.measure): r for r in trial.exposures}
    assert row["10 mg", "auc_dose"].published == 852.3
    assert row["25 mg", "auc_dose"].published == pytest.approx(2.5 * 852.3)
    assert "12 patients with MDS" in row["25 mg", "cmax"].published_spread
    # 14 doses whose areas end within the cycle but for the last hours of the slowest
    np.testing.assert_allclose(
        row["10 mg", "auc"].estimate, 14 * row["10 mg", "auc_dose"].estimate, rtol=0.01
    )
    table = mine.exposures()
    assert set(table["drug"]) == {"lenalidomide"}
    assert len(mine.exposure_ratios()) == len(trial.exposure_ratios)


def test_ratios_by_kidneys_are_those_of_clearance():
    scenario = load_scenario("nct01673308_lenalidomide_mds")
    scenario = with_overrides(scenario, patients=300, draws=1)
    (item,) = ready_trials(scenario, choose_marrow("friberg", scenario))
    (cohort,) = item.trial.cohorts
    rows = [r for r in cohort_exposures(item, cohort).rows if r.measure == "auc_ratio"]
    (drug,) = drugs_of(item.ensemble, cohort.regimen, item.trial.horizon_days)
    clearance, kidneys = drug.parameters["CL"], drug.crcl
    low = np.median(1.0 / clearance[(kidneys >= 30) & (kidneys < 50)])
    row = rows[0]
    assert row.estimate == pytest.approx(low / np.median(1.0 / clearance[kidneys >= 50]))
    assert row.estimate > 1.1
    assert row.published == 2.4
    assert "30 to 50 by 50 or more" in row.when


def test_a_cohort_with_kidneys_of_its_own_has_the_exposures_of_its_own(folder):
    text = (folder / "mine.toml").read_text()
    low = "\npatients = { median_creatinine_clearance_mL_min = 30 }\n"
    path = folder / "low.toml"
    path.write_text(text.replace('id = "10 mg again"', f'id = "10 mg again"{low}'))
    (item,) = ready_trials(
        with_overrides(load_scenario(path), patients=40, draws=1),
        choose_marrow("friberg", load_scenario(path)),
    )
    usual, reduced, _ = item.trial.cohorts
    crcl = []
    for patients in map(item.ensemble_of, (usual, reduced)):
        assert isinstance(patients, CardsEnsemble)
        crcl.append(patients.sample["crcl"])
    one, other = (cohort_exposures(item, c).lanes for c in (usual, reduced))
    found = other["lenalidomide", "auc_dose"] / one["lenalidomide", "auc_dose"]
    # Hughes 2019: clearance goes with creatinine clearance to the 0.224
    np.testing.assert_allclose(found, (crcl[0] / crcl[1]) ** 0.224, rtol=1e-9)
    assert np.median(found) > 1.1


def test_a_drug_that_one_cohort_lacks_is_told_with_that_cohort():
    given = SimpleNamespace(drug=SimpleNamespace(name="x"))
    found = without_exposure(
        {
            "a": CohortExposures((), {}, {"y": "no kinetics"}, (given,)),  # type: ignore[arg-type]
            "b": CohortExposures((), {}, {"x": "not given by day 28", "y": "no kinetics"}, ()),
        }
    )
    assert found == {"y": "no kinetics", "x": "in b: not given by day 28"}


@pytest.mark.slow
def test_drugs_without_kinetics_are_named_and_counted(learned_five):
    trial = learned_five.trial("nct01681537_len_mec")
    assert set(trial.without_exposure) == {"mitoxantrone", "etoposide", "cytarabine"}
    assert {r.drug for r in trial.exposures} == {"lenalidomide"}
    assert "3 of 4 drugs" in exposure_words.text(trial)


def test_few_lanes_are_looked_at_and_each_draw_has_other_patients():
    draws, lanes = lanes_of(200, 1000)
    assert draws.size == 64
    assert (draws[0], draws[-1]) == (0, 199)
    assert 400 < lanes.size <= 512
    assert len(set(lanes % 1000)) > 100
    draws, lanes = lanes_of(2, 3)
    assert (draws.tolist(), lanes.tolist()) == ([0, 1], list(range(OWN)))


def test_files_report_and_full_output_have_them_and_the_screen_has_not(mine, tmp_path):
    tables.write_results(mine, tmp_path, figures=False)
    (trial,) = mine.trials
    lines = (tmp_path / "exposures.csv").read_text().splitlines()
    assert len(lines) == 1 + len(trial.exposures)
    assert lines[0].startswith("trial,cohort,drug,measure,unit,when,estimate")
    ratios = (tmp_path / "exposure_ratios.csv").read_text().splitlines()
    assert len(ratios) == 1 + len(trial.exposure_ratios)
    assert "area of a dose, to infinity, ng/mL h" in (tmp_path / "report.html").read_text()
    printed = {}
    for printer in (CohortPrinter, BriefPrinter):
        stream = io.StringIO()
        printer(Console(file=stream, width=80)).trial(trial)
        printed[printer] = stream.getvalue()
    assert "\nExposures\n" in printed[CohortPrinter]
    assert max(map(len, printed[CohortPrinter].splitlines())) <= 80
    assert "Exposures" not in printed[BriefPrinter]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('measure = "auc"', 'measure = "area"', "auc, cmax, auc_ratio"),
        ("crcl = [30, 50]", "crcl = [50, 30]", "50 to 30 is no range"),
        ('route = "oral"', 'route = "orally"', "orally"),
        ('unit = "ng/mL h"', 'unit = "mg/L h"', "ng/mL h"),
    ],
)
def test_a_row_of_a_card_that_cannot_be_read_is_told(tmp_path, old, new, words):
    text = (card_folder("drugs") / "lenalidomide.toml").read_text()
    (tmp_path / "lenalidomide.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(CardError, match=words):
        read_drug_card(tmp_path / "lenalidomide.toml")
