"""What a report says of transfusion and growth factors is what is simulated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkpd.cards.rule_cards import load_rule
from pkpd.comparison.check import check_as_compared
from pkpd.comparison.marrow_choice import choose_marrow
from pkpd.comparison.marrow_words import leukaemia_assumptions
from pkpd.comparison.run import ready_trials
from pkpd.comparison.scenario import Variant, load_scenario
from pkpd.evidence.posterior.stored import load_posterior

SHIPPED = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"
FILE = """
title = "clofarabine, and filgrastim"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 60
[dose.clofarabine]
amount = "30 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[dose.filgrastim]
amount = "0.005 mg/kg"
days = "7-20"
route = "sc"
[course.treatment]
doses = [{doses}]
cycle_days = 42
cycles = {cycles}
[[cohort]]
id = "all"
"""
BY_NEED = '[growth_factor]\ndrug = "filgrastim"\nbelow = 0.5\nfrom_day = 7\n'
GCSF = {"neutrophils": "quartino2014_docetaxel"}
NO_GROWTH = "neutrophil counts are without growth factors"


def told(
    folder, marrow, *, filgrastim=False, by_need=False, transfusion=True, cards=None, cycles=1
):
    doses = '"clofarabine", "filgrastim"' if filgrastim else '"clofarabine"'
    path = folder / "mine.toml"
    path.write_text(FILE.format(doses=doses, cycles=cycles) + BY_NEED * by_need)
    variant = Variant(options={"transfusion": transfusion}, cards=cards or {})
    scenario = replace(load_scenario(path), patients=2, draws=1, variants=(variant,))
    posterior = load_posterior(SHIPPED) if marrow == "leukaemia" else None
    (item,) = ready_trials(scenario, choose_marrow(marrow, scenario, posterior))
    return item


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_transfusion_is_told_as_it_is(tmp_path, marrow):
    given = " ".join(told(tmp_path, marrow).assumptions)
    assert "platelets are transfused on mornings with a count below 10" in given
    none = " ".join(told(tmp_path, marrow, transfusion=False).assumptions)
    assert "platelets are not transfused" in none
    assert "without transfusion; low counts" in none
    assert "are transfused" not in none


def test_growth_factors_of_the_marrow_without_leukaemia_are_told(tmp_path):
    assert NO_GROWTH in told(tmp_path, "friberg").assumptions
    for how in ({"filgrastim": True}, {"by_need": True}):
        words = told(tmp_path, "friberg", cards=GCSF, **how).assumptions
        assert NO_GROWTH not in words
        (given,) = (text for text in words if text.startswith("growth factors act on neutrophils"))
        assert ("filgrastim of the schedule" in given) == ("filgrastim" in how)
        assert ("filgrastim by need, on days that begin with" in given) == ("by_need" in how)
        assert not any("growth factors and" in text for text in words)


def test_an_amount_that_does_not_act_is_told(tmp_path):
    assert not any("amount does not act" in text for text in told(tmp_path, "leukaemia").limits)
    item = told(tmp_path, "leukaemia", filgrastim=True)
    (limit,) = (text for text in item.limits if text.startswith("filgrastim"))
    assert limit.startswith("filgrastim: given or not, by the days of its doses; their amount does")
    idle = "Without effect in this model: the amount of filgrastim."
    assert item.attrs["without_effect"] == idle
    assert told(tmp_path, "leukaemia", by_need=True).attrs["without_effect"] == idle
    assert told(tmp_path, "leukaemia").attrs["without_effect"] == ""
    by_need = " ".join(told(tmp_path, "leukaemia", by_need=True).assumptions)
    assert "from day 7 on (given or not: its amount does not act)" in by_need


def test_a_billion_cycles_are_refused_where_they_are_written(tmp_path):
    path = tmp_path / "mine.toml"
    for cycles, allowed in ((3660, True), (3661, False), (1_000_000_000, False)):
        path.write_text(FILE.format(doses='"clofarabine"', cycles=cycles))
        found = [one for one in check_as_compared(path) if "is in no course" not in one]
        assert (found == []) == allowed
        if not allowed:
            assert "mine.toml: course.treatment > cycles" in found[0].replace("[", "").replace(
                "]", ""
            )
            assert "3660" in found[0]


def test_a_report_says_what_its_rule_makes_of_a_death():
    low = load_rule("neutropenia_7_days")
    assert any("already there has a DLT" in text for text in leukaemia_assumptions(low, True))
    told = leukaemia_assumptions(load_rule("leukemia_d42_generic"), True)
    (death,) = [text for text in told if text.startswith("a patient who dies before")]
    assert "cannot be judged, nor can one with leukaemia" in death
    assert "already there" not in death
    without = leukaemia_assumptions(None, True)
    assert not any("a patient who dies before" in text for text in without)
