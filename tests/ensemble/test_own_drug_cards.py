"""Drug cards of one's own in regimens of Python: the card that is named is the one that acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pkpd
from pkpd.cards import card_folder
from pkpd.cards.checking import check_card
from pkpd.endpoints.clock import has_treatment
from pkpd.ensemble.lanes import lanes_of
from pkpd.errors import CardError, PkpdError
from pkpd.forecasting.doses import next_cycle
from pkpd.leukaemia.drug_effects import prepare_regimen
from pkpd.leukaemia.parameters import leukaemia_cards, value_of
from pkpd.leukaemia.schedule import ArmSchedule
from pkpd.models import load_model
from pkpd.schedule import plan

FEW = {"patients": 4, "draws": 2}
GIVEN = {"amount": "25 mg", "days": "1-21", "route": "oral"}
SCHEDULE = """
title = "mine"
population = "mds_lower_risk"
rule = "leukemia_d42_generic"
horizon_days = 60
[dose.len]
drug = "{}.toml"
amount = "25 mg"
days = "1-21"
route = "oral"
[course.c]
doses = ["len"]
cycle_days = 28
"""


def shipped(kind, name):
    return (Path(str(card_folder(kind))) / f"{name}.toml").read_text()


@pytest.fixture
def cards(tmp_path):
    """Lenalidomide with a tenth of its EC50; the same under a new name, with parts of its own."""
    text = shipped("drugs", "lenalidomide").replace(
        'ec50 = { value = 0.1, unit = "umol/L", range = [0.045, 0.33]',
        'ec50 = { value = 0.01, unit = "umol/L", range = [0.0045, 0.033]',
    )
    (tmp_path / "lenalidomide.toml").write_text(text)
    own = text.replace('name = "lenalidomide"', 'name = "mylen"', 1)
    for key, kind, name in (
        ("pk", "pk", "hughes2019_lenalidomide"),
        ("effect", "effects", "lenalidomide_plasma"),
    ):
        part = shipped(kind, name).replace('drug = "lenalidomide"', 'drug = "mylen"')
        (tmp_path / f"my_{key}.toml").write_text(part.replace(f'"{name}"', f'"my_{key}"', 1))
        own = own.replace(f'{key} = "{name}"', f'{key} = "my_{key}.toml"')
    (tmp_path / "mylen.toml").write_text(own)
    for name in ("lenalidomide", "mylen"):
        (tmp_path / f"of_{name}.toml").write_text(SCHEDULE.format(name))
    return tmp_path


def nadir(regimen, marrow, **more):
    found = pkpd.simulate(
        regimen, "mds_lower_risk", marrow=marrow, until_day=28, seed=3, **FEW, **more
    )
    return found["nadir"].sel(line="neutrophils").values, found.attrs["simulated"]


@pytest.mark.parametrize("name", ["lenalidomide", "mylen"])
def test_the_card_that_a_regimen_names_acts(cards, name):
    by_file = pkpd.daily(str(cards / f"{name}.toml"), **GIVEN, cycle_days=28)
    read = pkpd.load_trial(cards / f"of_{name}.toml").cohorts[0].regimen
    assert by_file.drugs == read.drugs == (name,)
    assert by_file.cards == read.cards == {name: str(cards / f"{name}.toml")}
    found, told = nadir(by_file, "leukaemia")
    np.testing.assert_array_equal(found, nadir(read, "leukaemia")[0])
    assert f"{name}: your card {name}.toml acts by its kinetics" in told
    assert "drawn from the ranges of your card, not learned" in told
    usual, words = nadir(pkpd.daily("lenalidomide", **GIVEN), "leukaemia")
    assert "your card" not in words
    assert (found != usual).any()
    areas = pkpd.exposures(read, "mds_lower_risk", unit="umol/L", **FEW)
    assert list(areas["drug"].values) == [name]
    assert f"your card {name}.toml" in areas.attrs["simulated"]


def test_the_marrow_without_leukaemia_takes_it_too(cards):
    regimen = pkpd.daily(str(cards / "mylen.toml"), **GIVEN)
    found, told = nadir(regimen, "friberg")
    assert np.isfinite(found).all()
    assert "mylen: your card mylen.toml acts by its kinetics (my_pk.toml, my_effect.toml)" in told
    areas = pkpd.exposures(regimen, "mds_lower_risk", marrow="friberg", unit="umol/L", **FEW)
    assert np.isfinite(areas["auc"].values).all()
    given = load_model(drugs=["mylen"], drug_cards={"mylen": str(cards / "mylen.toml")})
    np.testing.assert_array_equal(nadir(regimen, "friberg", model=given)[0], found)
    with pytest.raises(CardError, match=r"drug mylen: .* card mylen\.toml.*drug_cards="):
        nadir(regimen, "friberg", model=load_model(drugs=["lenalidomide"]))


def test_a_forecast_takes_the_card_and_draws_its_numbers(cards):
    regimen = pkpd.daily(str(cards / "mylen.toml"), **GIVEN)
    made = pkpd.source("mds_lower_risk", patients=1, draws=8)
    seen = {"DAY": [1, 8], "ANC": [2.0, 1.0]}
    found = pkpd.forecast(made, seen, regimen, 30, bank=100, engine="importance")
    assert "mylen: your card mylen.toml acts by its kinetics (my_pk.toml)" in found.summary()
    lanes = lanes_of(made, regimen, 30)
    treated = lanes.treated(lanes.drawn(8, 1))
    ec50 = [numbers["own.ec50.mylen"] for numbers in treated.of_cards]
    assert len(set(ec50)) == 8
    assert 0.003 < min(ec50) < 0.01 < max(ec50) < 0.05


def test_one_drug_has_one_card_in_a_regimen(cards):
    mine = pkpd.daily(str(cards / "lenalidomide.toml"), **GIVEN)
    assert next_cycle(mine, 36).cards == mine.cards
    with pytest.raises(PkpdError, match="two cards are named 'lenalidomide'"):
        mine.then(pkpd.daily("lenalidomide", **GIVEN))
    with pytest.raises(CardError, match="there is no such file"):
        nadir(pkpd.daily("nowhere.toml", **GIVEN), "leukaemia")
    with pytest.raises(PkpdError, match=r'pkpd\.daily\("mine\.toml"'):
        pkpd.source("mds_lower_risk", cards={"mylen": str(cards / "mylen.toml")})


def test_a_card_of_ones_own_says_whether_it_is_treatment(cards):
    text = (cards / "mylen.toml").read_text()
    (cards / "mylen.toml").write_text(
        text.replace("dose_unit =", "supportive = true\ndose_unit =", 1)
    )
    assert not has_treatment(plan(pkpd.daily(str(cards / "mylen.toml"), **GIVEN), 28))


def test_parts_of_another_drug_are_found_when_the_card_is_checked(tmp_path):
    text = shipped("drugs", "lenalidomide").replace('"lenalidomide"', '"mylen"', 1)
    (tmp_path / "mylen.toml").write_text(text)
    found = check_card(tmp_path / "mylen.toml")
    assert any("is of lenalidomide, not mylen; copy it to a file" in told for told in found)


def test_a_card_of_ones_own_keeps_what_a_disease_says_of_its_drug(cards):
    arm = ArmSchedule(pkpd.daily(str(cards / "lenalidomide.toml"), **GIVEN, cycle_days=28), 28)
    prepared = prepare_regimen(arm)
    theta = {**leukaemia_cards().theta, "own.ec50.lenalidomide": 0.02}
    found = prepared.with_own(theta)
    assert found["ec50.lenalidomide"] == 0.02
    for name in ("sensitivity.lenalidomide", "kill_blasts.lenalidomide"):
        assert value_of(found, name, "mds_del5q") == theta[f"{name}.mds_del5q"]
    assert found["kill_blasts.lenalidomide"] == theta["kill_blasts.lenalidomide"]
    fewer = replace(prepared, own=tuple(p for p in prepared.own if "hill" not in p.name))
    assert "kill_hill.lenalidomide" not in fewer.with_own(theta)
