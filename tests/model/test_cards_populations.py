"""Population cards: values of the card, faults named with their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pkpd
from pkpd.cards.checking import check_card
from pkpd.cards.files import card_folder, card_names
from pkpd.cards.population_cards import MARROW_SETTINGS, load_population
from pkpd.cards.relations import STATUSES
from pkpd.errors import CardError
from pkpd.model.joint import load_model
from pkpd.model.parameters import typical

CARD = Path(str(card_folder("populations"))) / "rr_aml.toml"


@pytest.mark.parametrize("name", card_names("populations"))
def test_every_input_has_source_and_status(name):
    population = load_population(name)
    assert population.name == name
    assert [p.name for p in population.parameters] == [f"population.{k}" for k in MARROW_SETTINGS]
    for item in (*population.covariates, *population.parameters):
        assert item.source
        assert item.status in STATUSES
    sampled = {c.name for c in population.covariates}
    assert {"age", "male", "weight", "height", "scr", "anc", "plt", "wbc"} <= sampled


def test_values_of_a_card():
    population = load_population("rr_aml")
    covariates = {c.name: c for c in population.covariates}
    assert (covariates["anc"].men.median, covariates["anc"].men.sigma) == (1.2, 1.4)
    assert covariates["height"].women.mean == 160
    assert population.limits == (("crcl", 50.0, 160.0),)
    relief = population.parameters[-1]
    assert (relief.value, relief.interval, relief.distribution) == (0.8, (0.5, 0.95), "logit")
    assert population.variability == (("population.mtt_factor", 0.15),)


def test_a_card_without_marrow_settings_has_neutral_ones(tmp_path):
    text = CARD.read_text().replace('name = "rr_aml"', 'name = "mine"')
    head, *tables = text.split("\n[")
    kept = [table for table in tables if not table.startswith("marrow.")]
    assert len(kept) == len(tables) - len(MARROW_SETTINGS)
    (tmp_path / "mine.toml").write_text("\n[".join([head, *kept]))
    population = load_population(str(tmp_path / "mine.toml"))
    values = typical(load_model(drugs=["lenalidomide"]), population)
    settings = [float(values[f"population.{key}"][0]) for key in MARROW_SETTINGS]
    assert settings == [1.0, 1.0, 0.0]
    regimen = pkpd.daily("lenalidomide", "10 mg", days="1-3", route="oral")
    counts = pkpd.simulate(regimen, population, marrow="friberg", patients=2, until_day=3)
    assert np.isfinite(counts["count"]).all()


def test_unknown_population_names_the_nearest():
    with pytest.raises(CardError, match="did you mean 'rr_aml'"):
        load_population("rr_amll")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[covariates.scr]", "[covariates.scrr]", "did you mean 'scr'"),
        ("[covariates.anc]", "[covariates.plt2]", "plt2"),
        ('distribution = "truncnormal"', 'distribution = "truncated"', "truncnormal"),
        ("sigma = 1.4", "sigm = 1.4", "needs 'sigma'"),
        ("sigma = 1.4", "sigma = -1.4", "above 0"),
        ("sigma = 1.4", "sigma = 1.4\nsd = 0.3", "distribution 'lognormal' has none"),
        ("probability = 0.55", "probability = 0.55\nupper = 0.6", "'bernoulli' has none"),
        ("median = 1.2", "median = 0.0", "above 0"),
        ("men = { median = 82, sigma = 0.18 }", "", "men and women must both be given"),
        ("probability = 0.55", "probability = 55", "between 0 and 1"),
        ("lower = 18", "lower = 80", "is not below 'upper'"),
        ("median = 35", "median = 99", "lower < median < upper"),
        ('between = ["anc", "wbc"]', 'between = ["anc", "crp"]', "'crp' is not sampled"),
        ("[marrow.relief]", "[marrow.relieve]", "did you mean 'relief'"),
        ("range = [0.5, 0.95]", "range = [0.5, 1.2]", "logit needs limits between 0 and 1"),
        ("[limits.crcl]", "[limits.gfr]", "unknown covariate"),
        ("[limits.crcl]", "[limits.pb_blasts_pct]", "is not sampled (did you mean 'bm_blasts_pct'"),
        ('unit = "10^9/L"', 'unit = "10^9 per litre"', "'litre' is not a unit known here"),
        ('unit = "10^9/L"', 'unit = "/uL"', "'1/uL' is not used for anc; allowed: 10^9/L"),
        ("[[correlation]]", "[[correlations]]", "did you mean 'correlation'"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, old, new, words):
    text = CARD.read_text()
    assert old in text
    file = tmp_path / CARD.name
    file.write_text(text.replace(old, new, 1))
    (problem,) = check_card(file)
    assert str(file) in problem
    assert words in problem
