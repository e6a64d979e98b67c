"""Cards beside a scenario or a schedule: pk, drug with its own pk and effect, in both marrows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkpd.cards import card_folder
from pkpd.comparison.run import compare
from pkpd.comparison.scenario import load_scenario
from pkpd.errors import CardError

SCENARIO = """
kind = "scenario"
question = "Which kinetics?"
marrow = "friberg"
trials = ["nct01673308_lenalidomide_mds"]
[[variant]]
name = "mine"
cards = { "lenalidomide.pk" = "own/my_pk.toml" }
"""

SCHEDULE = """
title = "A drug of my own"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 60
[dose.mine]
drug = "own/mine.toml"
amount = "80 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[course.c]
doses = ["mine"]
cycle_days = 42
"""


def copied(folder, kind, name, new, *changes):
    """A copy of a shipped card under another name, with changed texts."""
    text = (Path(str(card_folder(kind))) / f"{name}.toml").read_text()
    text = text.replace(f'name = "{name}"', f'name = "{new}"')
    for old, other in changes:
        assert old in text
        text = text.replace(old, other)
    folder.mkdir(exist_ok=True)
    (folder / f"{new}.toml").write_text(text)


def test_a_scenario_names_cards_beside_itself(tmp_path, monkeypatch):
    copied(tmp_path / "own", "pk", "liang2024_lenalidomide", "my_pk")
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    monkeypatch.chdir("/")
    scenario = load_scenario(tmp_path / "scenario.toml")
    result = compare(scenario, patients=8, draws=2, jobs=1)
    assert "pk/my_pk" in result.record["cards"]
    assert result.record["settings"]["cards"] == {"mine": {"lenalidomide.pk": "my_pk.toml"}}
    shipped = load_scenario(tmp_path / "scenario.toml")
    variant = shipped.variants[0]
    object.__setattr__(variant, "cards", {"lenalidomide.pk": "liang2024_lenalidomide"})
    again = compare(shipped, patients=8, draws=2, jobs=1)
    columns = ["estimate", "lower", "upper"]
    assert again.table()[columns].equals(result.table()[columns])


def test_a_drug_with_kinetics_of_ones_own(tmp_path, posterior):
    own = tmp_path / "own"
    drug = ('drug = "etoposide"', 'drug = "mine"')
    copied(own, "pk", "freyer2000_etoposide", "mine_pk", drug)
    copied(own, "effects", "etoposide_kill", "mine_effect", drug)
    kinetics = ('pk = "freyer2000_etoposide"', 'pk = "mine_pk.toml"')
    effect = ('effect = "etoposide_kill"', 'effect = "mine_effect.toml"')
    copied(own, "drugs", "etoposide", "mine", kinetics, effect)
    (tmp_path / "mine.toml").write_text(SCHEDULE)
    told = []
    result = compare(
        tmp_path / "mine.toml", patients=8, draws=2, jobs=1, marrow="friberg", on_start=told.append
    )
    assert {"drugs/mine", "pk/mine_pk", "effect/mine_effect", "joint/default"} <= set(
        result.record["cards"]
    )
    (text,) = told[0].values()
    assert "mine: your card mine.toml acts by its kinetics (mine_pk.toml, mine_effect.toml)" in text
    assert "marrow without leukaemia" in text
    # the same numbers under the shipped names give the same figures
    shipped = SCHEDULE.replace('drug = "own/mine.toml"', 'drug = "etoposide"')
    (tmp_path / "shipped.toml").write_text(shipped)
    same = compare(tmp_path / "shipped.toml", patients=8, draws=2, jobs=1, marrow="friberg")
    nadir = [r.table().query("endpoint == 'nadir'").estimate.tolist() for r in (result, same)]
    assert nadir[0] == pytest.approx(nadir[1], rel=0.5)  # other patients' deviations by its name
    # with its intensity it acts in the other marrow, exactly as the shipped drug's card value
    learned = compare(tmp_path / "mine.toml", patients=8, draws=2, jobs=1, posterior=posterior)
    assert "acts by its intensity" in learned.record["simulated"]["mine"]
    assert "drugs/mine" in learned.record["cards"]
    text = (own / "mine.toml").read_text().split("[leukaemia]")[0]
    (own / "mine.toml").write_text(text)
    with pytest.raises(CardError, match=r"mine of trial mine has kinetics .* cannot use"):
        compare(tmp_path / "mine.toml", patients=8, draws=2, jobs=1, posterior=posterior)
