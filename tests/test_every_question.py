"""Every question can be asked of every marrow, and its answer moves the way it must."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.models import load_model
from pkpd.schedule import GrowthFactorPolicy
from pkpd.subjects import patients

MARROWS = ("leukaemia", "friberg")
CLOFARABINE = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
LENALIDOMIDE = pkpd.daily("lenalidomide", "10 mg", days="1-21", route="oral")
PEOPLE = 16

DRUG = """
kind = "drug"
name = "mine"
title = "A drug of one's own"
routes = ["iv"]
dose_unit = "mg/m^2"
pk = "mine_pk.toml"
effect = "mine_effect.toml"

[parameters.molar_mass]
value = 303.68
unit = "g/mol"
source = "made up"
status = "assumed"

[leukaemia]
acts_by = "saturable_kill"
driver = "plasma"
max_stem = { value = 0.5, unit = "1/day", source = "made up", status = "assumed" }
ec50_stem = { value = 0.3, unit = "umol/L", source = "made up", status = "assumed" }
"""
SCHEDULE = """
title = "A schedule of one's own"
population = "%(population)s"
rule = "%(rule)s"
horizon_days = 70
visit_days = "%(visits)s"

[dose.main]
drug = "%(drug)s"
amount = "20 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[course.induction]
doses = ["main"]
cycle_days = 28

[[cohort]]
id = "all"
"""


def people(**changed):
    body = {"age": 60.0, "male": 1, "weight": 75.0, "height": 175.0, "crcl": 90.0}
    body |= {"anc": 2.0, "plt": 100.0, "wbc": 5.0, "bm_blasts_pct": 30.0, "pb_blasts_pct": 5.0}
    body |= changed
    return patients({name: np.full(PEOPLE, value) for name, value in body.items()}, seed=3)


def asked(marrow, regimen, who=None, **more):
    """Simulate patients of one's own; those of the marrow with leukaemia have a disease."""
    if marrow == "leukaemia":
        more = {"disease": "mds_high_risk", **more}
    return pkpd.simulate(regimen, who or people(), marrow=marrow, until_day=43, **more)


def nadir(found, line="neutrophils"):
    return float(np.exp(np.log(found["nadir"].sel(line=line)).mean()))


@pytest.fixture
def write(tmp_path):
    def schedule(**changed):
        values = {"population": "hr_mds_aml_unfit", "rule": "leukemia_d42_generic"}
        values |= {"visits": "1-70", "drug": "clofarabine", **changed}
        path = tmp_path / "mine_schedule.toml"
        path.write_text(SCHEDULE % values)
        return path

    return schedule


@pytest.mark.parametrize("marrow", MARROWS)
def test_kidneys_change_the_nadir_under_lenalidomide_as_its_card_says(marrow):
    well, ill = (asked(marrow, LENALIDOMIDE, people(crcl=c)) for c in (90.0, 25.0))
    assert nadir(ill) < 0.9 * nadir(well)
    if marrow == "friberg":
        assert nadir(ill, "platelets") < nadir(well, "platelets")
    else:  # more of the drug also clears more of the blasts that keep platelets low
        assert nadir(ill, "platelets") != pytest.approx(nadir(well, "platelets"), rel=1e-3)


@pytest.mark.parametrize("marrow", MARROWS)
def test_age_and_size_change_the_exposure_to_clofarabine(marrow):
    child = people(age=5.0, weight=18.0, height=108.0, crcl=120.0)
    told = contextlib.nullcontext()
    if marrow == "leukaemia":  # their disease is one of adults
        told = pytest.warns(PkpdWarning, match="16 of 16 patients .* outside the ages of mds_high")
    with told:
        young = asked(marrow, CLOFARABINE, child)
    old = asked(marrow, CLOFARABINE, people(age=75.0))
    assert abs(np.log(nadir(young) / nadir(old))) > 0.05


@pytest.mark.parametrize("marrow", MARROWS)
def test_the_length_of_an_infusion_changes_the_nadir(marrow):
    day = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="24 h")
    short, long = asked(marrow, CLOFARABINE), asked(marrow, day)
    assert nadir(short) != pytest.approx(nadir(long), rel=1e-3)


@pytest.mark.parametrize("marrow", MARROWS)
def test_growth_factor_by_need_raises_neutrophils(marrow):
    more = {}
    if marrow == "friberg":
        cards = {"neutrophils": "quartino2014_docetaxel"}
        more = {"model": load_model(drugs=["clofarabine"], replace=cards)}
    policy = GrowthFactorPolicy(1.0, 6, "0.005 mg/kg", "filgrastim")
    plain = asked(marrow, CLOFARABINE, **more)
    given = asked(marrow, CLOFARABINE, growth_factor=policy, **more)
    low = [(d["count"].sel(line="neutrophils") < 0.5).sum().item() for d in (plain, given)]
    assert low[1] < low[0]


@pytest.mark.parametrize("marrow", MARROWS)
def test_a_trial_and_a_file_with_options_cards_and_a_population_are_compared(marrow, write):
    shipped = pkpd.compare(
        trials=["nct01673308_lenalidomide_mds"], patients=12, draws=2, marrow=marrow
    )
    assert {row.endpoint for row in shipped.trials[0].rows} >= {"dlt", "nadir", "recovery_day"}
    path = write()
    size = {"patients": 24, "draws": 2, "marrow": marrow, "with_questions": False}
    usual, label, bonate = (
        pkpd.compare(path, **size, **more).table().query("endpoint == 'nadir'")["estimate"]
        for more in (
            {},
            {"options": {"clofarabine.renal_label": True}},
            {"cards": {"clofarabine.pk": "bonate2004_clofarabine"}},
        )
    )
    assert (label.values != usual.values).any()
    assert (bonate.values != usual.values).any()
    other = write(population="rr_aml")
    moved = pkpd.compare(other, **size).table().query("endpoint == 'nadir'")["estimate"]
    assert (moved.values != usual.values).any()


@pytest.mark.parametrize("marrow", MARROWS)
def test_recovery_is_seen_on_days_of_visits(marrow, write):
    size = {"patients": 24, "draws": 2, "marrow": marrow, "with_questions": False}
    for visits, gap in (("1-70", 1), ("1-70 every 7", 7)):
        found = pkpd.compare(write(visits=visits), **size).table()
        rows = found.query("line == 'neutrophils' and rule == '>= 0.5'").set_index("endpoint")
        day, seen = (rows.loc[e, "estimate"] for e in ("recovery_day", "recovery_day_on_visits"))
        assert seen > 0.0
        assert seen % gap == 0
        if gap == 1:
            assert seen == day


@pytest.mark.parametrize("marrow", MARROWS)
def test_a_drug_card_of_ones_own_acts(marrow, write, tmp_path):
    for kind, name in (("pk", "nijstad2021_clofarabine"), ("effects", "clofarabine_triphosphate")):
        shipped = (pkpd.cards.card_folder(kind) / f"{name}.toml").read_text()
        own = f"mine_{'pk' if kind == 'pk' else 'effect'}"
        text = shipped.replace(f'name = "{name}"', f'name = "{own}"').replace(
            'drug = "clofarabine"', 'drug = "mine"'
        )
        (tmp_path / f"{own}.toml").write_text(text)
    card = tmp_path / "mine.toml"
    nadirs = []
    for factor in (1.0, 0.6):
        text = DRUG.replace("value = 0.3,", f"value = {0.3 * factor:g},")
        card.write_text(text)
        if marrow == "friberg":
            effect = tmp_path / "mine_effect.toml"
            lines = effect.read_text()
            at = lines.index("[parameters.EC50")
            head, value = lines[:at], lines[at:]
            before, _, after = value.partition("value = ")
            number, _, rest = after.partition("\n")
            effect.write_text(f"{head}{before}value = {float(number) * factor:g}\n{rest}")
        result = pkpd.compare(
            write(drug="mine.toml"), patients=24, draws=1, marrow=marrow, with_questions=False
        )
        told = next(iter(result.record["simulated"].values()))
        assert "mine: your card mine.toml" in told
        rows = result.table().query("endpoint == 'nadir' and line == 'neutrophils'")
        nadirs.append(float(rows["estimate"].iloc[0]))
    assert nadirs[1] < nadirs[0]


@pytest.mark.slow
def test_a_fit_from_a_file_is_compared(tmp_path):
    """NONMEM-style file -> FOCE-I -> comparison; the same model by NUTS is among the fits."""
    from pkpd.models import (
        Friberg,
        PlateletChain,
        PopulationModel,
        compartments,
        fixed,
        marrow_model,
        parameter,
        residual,
        simulate_data,
    )

    structure = marrow_model(
        compartments(1, absorption="first_order"),
        lines={"neutrophils": Friberg(), "platelets": PlateletChain()},
    )
    values = {"ka": 2.0, "CL": 12.0, "V": 60.0, "slope_neutrophils": 6.0, "slope_platelets": 4.0,
              "circ0_neutrophils": 3.0, "MTT_neutrophils": 100.0, "gamma_neutrophils": 0.17,
              "circ0_platelets": 150.0, "MTT_platelets": 110.0, "gamma_platelets": 0.25,
              "ks_platelets": 0.03}  # fmt: skip
    free = ("slope_neutrophils", "slope_platelets", "circ0_neutrophils", "circ0_platelets")
    own = [
        parameter(n, v if n in free else fixed(v), iiv=0.2 if n.startswith("circ0") else None)
        for n, v in values.items()
    ]
    errors = {"neutrophils": residual.lognormal(0.2), "platelets": residual.lognormal(0.15)}
    model = PopulationModel(structure, own, errors)
    rows = []
    for subject in range(1, 9):
        rows += [(subject, 24.0 * d, 10.0, 1, 0, np.nan) for d in range(21)]
        rows += [(subject, 24.0 * d + 2, 0.0, 0, k, 1.0) for d in range(0, 42, 6) for k in (1, 2)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DVID", "DV"])
    table = table.sort_values(["ID", "TIME"], kind="stable")
    lines = {1: "neutrophils", 2: "platelets"}
    design = pkpd.read_nonmem(table, lines=lines)
    data = simulate_data(model, design, seed=1)
    seen = data.observations
    table.loc[table["EVID"] == 0, "DV"] = seen.value[np.argsort(seen.row)]
    path = tmp_path / "study.csv"
    table.to_csv(path, index=False, na_rep=".")
    fitted = pkpd.fit(model, pkpd.read_nonmem(path, lines=lines), method="focei", progress=False)
    assert fitted.converged
    result = pkpd.compare(
        trials=["nct01673308_lenalidomide_mds"], posterior=fitted, patients=20, draws=5
    )
    rows = result.table().query("endpoint == 'nadir' and line == 'neutrophils'")
    assert 0.0 < float(rows["estimate"].iloc[0]) < 3.0
    assert "fit of study.csv (8 subjects)" in result.record["marrow"]["fit"]


@pytest.mark.parametrize("marrow", MARROWS)
def test_a_population_without_a_disease_is_refused_by_the_marrow_with_leukaemia_alone(marrow):
    how = {"patients": 4, "until_day": 20, "marrow": marrow}
    solid = replace(pkpd.cards.load_population("solid_tumour"), disease="")
    if marrow == "friberg":
        assert pkpd.simulate(CLOFARABINE, solid, **how)["count"].notnull().all()
        return
    with pytest.raises(PkpdError, match="the patients have no disease; allowed: aml"):
        pkpd.simulate(CLOFARABINE, solid, **how)
