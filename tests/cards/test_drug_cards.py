"""Drug cards: every drug by every name, usual doses, cards of one's own, action in each marrow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pkpd.cards import card_folder, card_names, load_trial
from pkpd.cards.drug_actions import drug_action
from pkpd.cards.drug_cards import (
    ACTIONS,
    BY_LEVEL,
    LONG_ACTING,
    UsualDose,
    drug_named,
    drug_names,
    load_drug_card,
    read_drug_card,
)
from pkpd.cards.trial_cards import drug_card_of
from pkpd.errors import CardError, PkpdError
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.drug_effects import intensity, prepare_regimen
from pkpd.leukaemia.parameters import default_theta, leukaemia_cards
from pkpd.leukaemia.trial_arms import arms_of_trial

SCHEDULE = """
title = "One drug"
population = "aml_untreated"
rule = "leukemia_d42_generic"
horizon_days = 90
[dose.given]
drug = "{drug}"
amount = "{amount}"
days = "1-5"
route = "{route}"
{more}
[course.treatment]
doses = ["given"]
cycle_days = 28
"""

MINE = """
kind = "drug"
name = "mine"
title = "A drug of my own"
routes = ["iv"]
dose_unit = "mg/m^2"
[leukaemia]
acts_by = "{acts_by}"
{numbers}
"""

INTENSITY = """
intensity = {{ value = {value}, unit = "1", source = "test", status = "assumed" }}
reference = {{ value = 100, unit = "mg/m^2", source = "test", status = "assumed" }}
"""


@pytest.fixture
def schedule(tmp_path):
    """Make a schedule file with one drug."""

    def make(drug, amount="10 mg/m^2", route="iv", more=""):
        file = tmp_path / "schedule.toml"
        file.write_text(SCHEDULE.format(drug=drug, amount=amount, route=route, more=more))
        return file

    return make


@pytest.fixture
def mine(tmp_path):
    """Make a drug card beside the schedule."""

    def make(acts_by="intensity", value=0.5, name="mine"):
        numbers = INTENSITY.format(value=value) if acts_by == "intensity" else ""
        text = MINE.format(acts_by=acts_by, numbers=numbers).replace('"mine"', f'"{name}"')
        (tmp_path / f"{name}.toml").write_text(text)
        return tmp_path / f"{name}.toml"

    return make


def test_every_shipped_drug_can_be_given_in_the_marrow_with_leukaemia(schedule):
    for name in card_names("drugs"):
        card = load_drug_card(name)
        assert card.shipped
        assert card.leukaemia is not None
        usual = card.usual_dose
        amount = "1 mg" if usual is None else f"{usual.value:g} {usual.unit}"
        trial = load_trial(schedule(name, amount, card.routes[0]))
        (arm,) = arms_of_trial(trial).values()
        prepared = prepare_regimen(arm.schedule)
        rates = prepared.at(default_theta()).rates
        assert np.isfinite(rates).all()
        by_slot = (LONG_ACTING, *BY_LEVEL)
        assert rates.any() == (card.leukaemia.acts_by not in ("nothing", *by_slot)), name
        assert bool(prepared.levels) == card.leukaemia.by_level
        assert prepared.rules.amount.any() == (card.leukaemia.acts_by in by_slot)
        assert drug_action(card, "leukaemia").by != "refused"
    assert len(card_names("drugs")) >= 33


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("G-CSF", "filgrastim"),
        (" Ara-C ", "cytarabine"),
        ("cpx-351", "cpx_351"),
        ("ATRA", "tretinoin"),
        ("Neulasta", "pegfilgrastim"),
        ("liposomal daunorubicin", "daunorubicin"),
    ],
)
def test_other_names_mean_the_same_drug(schedule, text, name):
    assert drug_named(text) == name
    usual = load_drug_card(name).usual_dose
    route = load_drug_card(name).routes[0]
    trial = load_trial(schedule(text, f"{usual.value:g} {usual.unit}", route))
    assert trial.drugs == (name,)


def test_no_name_means_two_drugs():
    names = drug_names()
    assert set(names.values()) == set(card_names("drugs"))
    written = [t.casefold() for n in card_names("drugs") for t in (n, *load_drug_card(n).also)]
    assert len(written) == len({(w, names[w]) for w in written})


def test_numbers_of_a_card_are_parameters_of_the_marrow():
    numbers = leukaemia_cards().parameters
    assert numbers["intensity.etoposide"].value == 0.15
    assert numbers["reference.venetoclax"].unit == "mg/m^2"
    assert "venetoclax" in leukaemia_cards().drugs
    assert "filgrastim" not in leukaemia_cards().drugs
    assert numbers["ec50_stem.clofarabine"].learned
    assert "with_dexamethasone.lenalidomide" in leukaemia_cards().learned
    assert leukaemia_cards().words["intensity.etoposide"].startswith("kill by a course of etop")


# -- usual doses ------------------------------------------------------------------------------


def test_a_slip_of_the_unit_is_refused_unless_it_is_meant(schedule):
    with pytest.raises(CardError, match=r"\[dose.given\] > amount: .* 500 times the usual dose"):
        load_trial(schedule("clofarabine", "20 g/m^2"))
    assert load_trial(schedule("clofarabine", "20 g/m^2", more="unusual_dose = true"))
    with pytest.raises(CardError, match=r"a capsule of 5000 mg .* 69 times the usual"):
        load_trial(schedule("clofarabine", "20 mg/m^2", more="strengths_mg = [5000]"))
    # 399 mg/m^2 is 9.98 times the usual 40
    assert load_trial(schedule("clofarabine", "399 mg/m^2"))
    with pytest.raises(CardError, match="10 times the usual dose of 40 mg/m\\^2"):
        load_trial(schedule("clofarabine", "400 mg/m^2"))
    # low doses of cytarabine are 1/150 of the largest; micrograms for milligrams 1/1,000
    assert load_trial(schedule("cytarabine", "20 mg/m^2"))
    with pytest.raises(CardError, match=r"0.04 mg/m\^2 of clofarabine is 1/1,000 of the usual"):
        load_trial(schedule("clofarabine", "0.04 mg/m^2"))
    assert load_trial(schedule("clofarabine", "40 ug/m^2", more="unusual_dose = true"))


@pytest.mark.parametrize(("drug", "usual"), [("filgrastim", "5 ug/kg"), ("pegfilgrastim", "6 mg")])
def test_little_of_a_growth_factor_does_not_act_as_all_of_it(schedule, drug, usual):
    number, unit = usual.split(" ")
    for share in (1.0, 0.2, 5.0):
        assert load_trial(schedule(drug, f"{float(number) * share:g} {unit}", route="sc"))
    little = f"{float(number) / 5000:g} {unit}"
    with pytest.raises(CardError, match=r"is 1/5,000 of the usual dose of .* is given or not: its"):
        load_trial(schedule(drug, little, route="sc"))
    meant = schedule(drug, little, route="sc", more="unusual_dose = true")
    assert load_trial(meant)
    # of other drugs a low dose is none of these
    assert load_trial(schedule("clofarabine", "0.4 mg/m^2"))


def test_growth_factor_by_need_has_a_usual_amount(schedule):
    file = schedule("clofarabine", "20 mg/m^2")
    text = file.read_text()
    need = '[growth_factor]\ndrug = "filgrastim"\nbelow = 0.5\namount = "{}"\n'
    file.write_text(text + need.format("5 ug/kg"))
    assert load_trial(file).growth_factor.amount == "5 ug/kg"
    file.write_text(text + need.format("0.001 ug/kg"))
    with pytest.raises(CardError, match=r"growth_factor > amount: .* 1/5,000 of the usual dose"):
        load_trial(file)


def test_a_cohorts_dose_is_checked_too(schedule, tmp_path):
    file = schedule("clofarabine")
    text = '[[cohort]]\nid = "a"\nchange.given = { amount = "20 g/m^2" }\n'
    file.write_text(file.read_text() + text)
    with pytest.raises(CardError, match=r"\[\[cohort\]\] 1 > change.given > amount"):
        load_trial(file)


def test_doses_of_different_units_are_compared_in_one_adult():
    usual = UsualDose(10.0, "mg/m^2", "", "assumed")
    assert usual.times(10.0, "mg/m^2") == 1.0
    assert usual.times(18.0, "mg") == pytest.approx(1.0)  # 1.8 m^2
    assert usual.times(1.0, "mg/kg") == pytest.approx(75.0 / 18.0)


# -- cards of one's own -----------------------------------------------------------------------


def test_a_drug_card_beside_the_schedule_acts_with_its_own_numbers(schedule, mine):
    mine(value=0.5)
    trial = load_trial(schedule("mine.toml", "20 mg/m^2"))
    assert trial.drugs == ("mine",)
    (arm,) = arms_of_trial(trial).values()
    effect = prepare_regimen(arm.schedule).at(default_theta()).rates
    # five days of 20 mg/m^2 are the reference dose of 100: 0.5 in all, equally each day
    np.testing.assert_allclose(effect[0, :5, 0, 0], 0.1)
    assert effect[0, 5:].sum() == 0.0


def test_a_card_of_ones_own_wins_over_the_shipped_one_of_its_name(schedule, mine):
    mine(value=0.9, name="etoposide")
    trial = load_trial(schedule("etoposide.toml", "20 mg/m^2"))
    assert not drug_card_of(trial, "etoposide").shipped
    (arm,) = arms_of_trial(trial).values()
    theta = default_theta() | {"intensity.etoposide": 0.2}
    effect = prepare_regimen(arm.schedule).at(theta).rates
    assert effect[0, :, 0, 0].sum() == pytest.approx(0.9)
    shipped = load_trial(schedule("etoposide", "20 mg/m^2"))
    (arm,) = arms_of_trial(shipped).values()
    effect = prepare_regimen(arm.schedule).at(theta).rates
    assert effect[0, :, 0, 0].sum() == pytest.approx(intensity(theta, "etoposide", 100.0))


def test_the_range_of_a_card_of_ones_own_is_its_prior(schedule, mine):
    file = mine(value=0.5)
    text = file.read_text()
    file.write_text(text.replace("value = 0.5,", "value = 0.5, range = [0.25, 2.0],"))
    (arm,) = arms_of_trial(load_trial(schedule("mine.toml", "20 mg/m^2"))).values()
    prepared = prepare_regimen(arm.schedule)
    theta = default_theta()
    draws = prepared.own_draws(400, seed=3)
    total = [prepared.at({**theta, **own}).rates[0, :, 0, 0].sum() for own in draws]
    # the limits are the central 95 % and the value is the median, on the log scale
    low, middle, high = np.quantile(total, [0.025, 0.5, 0.975])
    assert [low, middle, high] == pytest.approx([0.25, 0.5, 2.0], rel=0.03)
    once, twice = prepared.with_own({**theta, **draws[0]}), theta | draws[0]
    assert prepared.with_own(once)["intensity.mine"] == draws[0]["own.intensity.mine"]
    assert prepared.with_own(twice)["intensity.mine"] == draws[0]["own.intensity.mine"]
    assert prepared.own_draws(1, seed=3) == ({},)
    assert prepared.at(theta).rates[0, :, 0, 0].sum() == pytest.approx(0.5)


def test_one_name_for_two_cards_is_refused(schedule, mine):
    mine(name="etoposide")
    file = schedule("etoposide.toml")
    second = '[dose.etoposide]\namount = "80 mg/m^2"\ndays = "1"\nroute = "iv"\n[course'
    file.write_text(file.read_text().replace("[course", second, 1))
    with pytest.raises(CardError, match="two cards would be named 'etoposide'"):
        load_trial(file)


def test_a_file_by_its_whole_path_works_and_an_absent_one_is_named(schedule, mine, tmp_path):
    file = mine()
    assert load_trial(schedule(str(file))).drugs == ("mine",)
    with pytest.raises(CardError, match=r"\[dose.given\] > drug.*there is no such file"):
        load_trial(schedule("other.toml"))
    with pytest.raises(CardError, match=r'write drug = "mine\.toml" for the card beside this file'):
        load_trial(schedule("mine"))


def test_kinetics_alone_are_refused_by_the_marrow_with_leukaemia_with_the_reason(
    schedule, tmp_path
):
    text = (Path(str(card_folder("drugs"))) / "etoposide.toml").read_text()
    (tmp_path / "etoposide.toml").write_text(text.split("[leukaemia]")[0])
    trial = load_trial(schedule("etoposide.toml"))
    with pytest.raises(CardError, match=r"cannot use: there it needs a table \[leukaemia\]"):
        arms_of_trial(trial)
    card = drug_card_of(trial, "etoposide")
    assert drug_action(card, "friberg").by == "kinetics"
    assert drug_action(card, "leukaemia").by == "refused"


@pytest.mark.parametrize(
    ("drug", "key"), [("clofarabine", "max_blasts"), ("lenalidomide", "kill_blasts")]
)
def test_a_drug_that_kills_no_blasts_is_said_to(drug, key, tmp_path):
    text = (Path(str(card_folder("drugs"))) / f"{drug}.toml").read_text()
    none = "\n".join(t for t in text.split("\n") if not t.startswith((f"{key} =", f'"{key}.sd"')))
    (tmp_path / f"{drug}.toml").write_text(none)
    told = drug_action(load_drug_card(str(tmp_path / f"{drug}.toml")), "leukaemia").text
    assert told.endswith(f"it kills no blasts, because its card has no {key}")
    assert "blasts" not in drug_action(load_drug_card(drug), "leukaemia").text


@pytest.mark.parametrize("drug", ["clofarabine", "lenalidomide"])
def test_a_card_of_ones_own_acts_by_its_kinetics(drug, schedule, tmp_path):
    """A copy of a shipped card under another name does what the shipped one does."""
    text = (Path(str(card_folder("drugs"))) / f"{drug}.toml").read_text()
    (tmp_path / "copy.toml").write_text(text.replace(f'name = "{drug}"', 'name = "copy"'))
    for part, name in (("pk", "pk"), ("effect", "effects")):
        card = getattr(load_drug_card(drug), part)
        own = (Path(str(card_folder(name))) / f"{card}.toml").read_text()
        own = own.replace(f'drug = "{drug}"', 'drug = "copy"').replace(
            f'"{card}"', f'"copy_{part}"'
        )
        (tmp_path / f"copy_{part}.toml").write_text(own.replace(f"{drug}.", "copy."))
        file = tmp_path / "copy.toml"
        file.write_text(file.read_text().replace(f'"{card}"', f'"copy_{part}.toml"'))
    lowest = {}
    route = load_drug_card(drug).routes[0]
    for name in (drug, "copy.toml"):
        trial = load_trial(schedule(name, "10 mg", route))
        (arm,) = arms_of_trial(trial, "lymphoma").values()
        outcomes = population_outcomes(arm, default_theta(), 512)
        lowest[name] = np.median(outcomes.nadir["neutrophils"])
        assert drug_action(drug_card_of(trial, Path(name).stem), "leukaemia").by == "kinetics"
    # other patients are more or less sensitive: only the distribution is the same
    assert lowest["copy.toml"] == pytest.approx(lowest[drug], rel=0.1)


@pytest.mark.parametrize(
    ("drug", "name", "unit", "other"),
    [
        ("clofarabine", "max_stem", "1/day", "1/h"),
        ("clofarabine", "ec50_stem", "umol/L", "mg/L"),
        ("lenalidomide", "kill_blasts", "1/day", "1"),
        ("lenalidomide", "dexamethasone", "1", "%"),
        ("cytarabine", "half_dose", "mg/m^2", "mg"),
        ("cytarabine", "intensity", "1", "%"),
    ],
)
def test_numbers_of_an_action_are_in_the_unit_that_they_are_used_in(
    tmp_path, drug, name, unit, other
):
    text = (Path(str(card_folder("drugs"))) / f"{drug}.toml").read_text()
    (line,) = re.findall(rf"^{name} = {{.*$", text, re.MULTILINE)
    (tmp_path / f"{drug}.toml").write_text(text)
    load_drug_card(str(tmp_path / f"{drug}.toml"))
    new = line.replace(f'unit = "{unit}"', f'unit = "{other}"')
    (tmp_path / f"{drug}.toml").write_text(text.replace(line, new))
    with pytest.raises(CardError, match=rf"{name}: is .*; allowed: .*{re.escape(unit)}"):
        load_drug_card(str(tmp_path / f"{drug}.toml"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "below_in.mds_high_risk",
            "below_in.mds_high_rsk",
            "there is no such disease .did you mean 'mds_high_risk'",
        ),
        (
            "levels_mg = [25, 20,",
            "levels_mg = [20, 25,",
            "holds > levels_mg: is not in order; allowed: the largest first, each once",
        ),
        ("\ndexamethasone =", "\ndexametasone =", "is no drug card .did you mean 'dexamethasone'"),
        ("\ndexamethasone =", "\nDexamethasone =", "is no drug card .did you mean 'dexamethasone'"),
    ],
)
def test_names_and_order_in_a_drug_card_are_checked(tmp_path, old, new, words):
    text = (Path(str(card_folder("drugs"))) / "lenalidomide.toml").read_text()
    assert old in text
    (tmp_path / "lenalidomide.toml").write_text(text.replace(old, new))
    with pytest.raises(CardError, match=words):
        load_drug_card(str(tmp_path / "lenalidomide.toml"))
    # a drug that no card is of may be one of one's own
    for own in ("mine", "thalidomide", "dexamethasone_iv"):
        (tmp_path / "lenalidomide.toml").write_text(text.replace("\ndexamethasone", f"\n{own}"))
        assert load_drug_card(str(tmp_path / "lenalidomide.toml")).leukaemia is not None


def test_units_of_an_action_may_be_spelled_otherwise(tmp_path):
    text = (Path(str(card_folder("drugs"))) / "clofarabine.toml").read_text()
    shipped = load_drug_card("clofarabine").leukaemia.numbers
    text = text.replace('unit = "1/day"', 'unit = "per day"').replace('"umol/L"', '"uM"')
    (tmp_path / "clofarabine.toml").write_text(text)
    own = load_drug_card(str(tmp_path / "clofarabine.toml")).leukaemia.numbers
    assert own == shipped


def test_an_action_of_a_concentration_needs_kinetics_and_its_numbers(mine):
    file = mine()
    kill = 'acts_by = "saturable_kill"\ndriver = "plasma"'
    file.write_text(file.read_text().replace('acts_by = "intensity"', kill))
    with pytest.raises(CardError, match="intensity: has no meaning for a drug that acts by satur"):
        load_drug_card(str(file))
    file.write_text(MINE.format(acts_by="maturation_block", numbers=""))
    with pytest.raises(CardError, match="emax: is missing"):
        load_drug_card(str(file))


def test_what_a_drug_does_in_each_marrow():
    told = {name: drug_action(load_drug_card(name), "friberg").by for name in card_names("drugs")}
    assert told["clofarabine"] == "kinetics"
    assert told["venetoclax"] == "refused"
    with pytest.raises(PkpdError, match="allowed: friberg, leukaemia"):
        drug_action(load_drug_card("clofarabine"), "fribreg")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('acts_by = "intensity"', 'acts_by = "intensiti"', "did you mean 'intensity'"),
        ("reference = {", "referense = {", "is it written as 'referense'"),
        (
            'unit = "mg/m^2", source',
            'unit = "mg", source',
            "reference: is 100 mg; allowed: above 0 mg/m",
        ),
        ('acts_by = "intensity"', 'acts_by = "nothing"', "has no meaning for a drug"),
        (
            'unit = "1", source',
            'unit = "1", range = [0.0, 1.0], distribution = "lognormal", source',
            "lognormal needs limits above 0",
        ),
        (
            'unit = "1", source',
            'unit = "1", range = [0.2, 2.0], distribution = "logit", source',
            "logit needs limits between 0 and 1",
        ),
        ('dose_unit = "mg/m^2"', 'dose_unit = "mg/m^2"\npk = "no"', "no card 'no' in pk"),
        (
            'dose_unit = "mg/m^2"',
            'dose_unit = "mg/m^2"\npk = "freyer2000_etoposide"',
            "give pk and effect, or neither",
        ),
        (
            'dose_unit = "mg/m^2"',
            'dose_unit = "mg/m^2"\npk = "gone.toml"\neffect = "gone.toml"',
            "there is no such file",
        ),
    ],
)
def test_faults_of_a_drug_card_are_named(mine, old, new, words):
    file = mine()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(CardError, match=words) as told:
        load_drug_card(str(file))
    assert str(told.value).startswith(str(file))


def test_a_card_that_says_nothing_is_refused(mine):
    file = mine()
    file.write_text(file.read_text().split("[leukaemia]")[0])
    with pytest.raises(CardError, match="add pk and effect, or a table"):
        load_drug_card(str(file))
    assert len(set(ACTIONS)) == 7


def test_units_of_absorption_are_spelled_as_others_and_both_are_looked_at(tmp_path):
    text = (card_folder("drugs") / "clofarabine.toml").read_text()
    file = tmp_path / "clofarabine.toml"
    file.write_text(text.replace('value = 0.5, unit = "h"', 'value = 0.5, unit = "hour"'))
    half_life = read_drug_card(file).by_mouth.absorption_half_life
    assert (half_life.value, half_life.unit) == (0.5, "h")
    file.write_text(text.replace('value = 0.575, unit = "1"', 'value = 0.575, unit = "mg"'))
    with pytest.raises(CardError, match=r"by_mouth > bioavailability: is 0.575 mg; allowed: 0 1"):
        read_drug_card(file)
    file.write_text(text.replace('value = 0.5, unit = "h"', 'value = 0, unit = "h"'))
    with pytest.raises(CardError, match="absorption_half_life: is not a time above 0"):
        read_drug_card(file)


def test_a_number_that_nothing_reads_is_refused(tmp_path):
    text = (Path(str(card_folder("drugs"))) / "lenalidomide.toml").read_text()
    number = (
        '[parameters.fraction_bound]\nvalue = 0.3\nunit = "1"\nsource = "label"\nstatus = "read"\n'
    )
    (tmp_path / "lenalidomide.toml").write_text(
        text.replace("[usual_dose]", f"{number}\n[usual_dose]")
    )
    with pytest.raises(CardError, match=r"fraction_bound: unknown key; allowed: molar_mass"):
        read_drug_card(str(tmp_path / "lenalidomide.toml"))
