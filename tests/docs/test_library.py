"""The model library: a page for each card with every number of it, and profiles that are right."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from docs.site import card_tables, formulas, library, profiles
from docs.site.pages import ROOT
from pkpd.cards import card_names
from pkpd.cards.drug_cards import ACTIONS, load_drug_card
from pkpd.cards.model_cards import STRUCTURES, load_model_card


def numbers(card):
    """Names of the numbers of a card, wherever they are in it."""
    for key, value in card.items():
        if isinstance(value, dict) and {"value", "source"} <= value.keys():
            yield key
        elif isinstance(value, dict):
            yield from numbers(value)


@pytest.mark.parametrize("name", card_names("drugs"))
def test_the_page_of_a_drug_has_every_number_of_its_cards(name):
    text = library.drug_page(name, None)
    others = library.cards_of_drug(name)
    cards = [library.read("drugs", name)]
    cards += [library.read("pk", n) for n in others["pk"]]
    cards += [library.read("effects", n) for n in others["effect"]]
    for card in cards:
        assert card_tables.plain(card["title"]) in text
        for number in numbers(card):
            assert f"{number}`" in text, number


@pytest.mark.parametrize("name", card_names("marrow"))
def test_the_page_of_a_marrow_has_every_number_of_its_card(name):
    text = library.marrow_page(name, None)
    card = library.read("marrow", name)
    for number in numbers(card):
        assert f"`{number}`" in text
    assert card_tables.plain(card["reference"]["citation"]) in text


def test_the_page_of_the_marrow_with_leukaemia_has_every_number():
    text = library.leukaemia_page(None)
    for file in sorted((ROOT / "models/leukaemia").glob("*.toml")):
        for number in numbers(tomllib.loads(file.read_text())):
            assert f"`{number}`" in text, number
    assert "Disease `aml_secondary`, like `aml_unfit` where it says nothing." in text


def test_every_kinetics_and_effect_card_is_on_a_page():
    found = {"pk": set(), "effect": set()}
    for name in card_names("drugs"):
        for key, cards in library.cards_of_drug(name).items():
            found[key] |= set(cards)
    assert found["pk"] == set(card_names("pk"))
    assert found["effect"] == set(card_names("effects"))


def test_every_structure_and_action_has_equations():
    names = {name for kind in STRUCTURES.values() for name in kind}
    assert names | set(ACTIONS) == set(formulas.EQUATIONS)


def test_every_status_is_explained():
    cards = [library.read(kind, n) for kind in ("drugs", "pk", "effects") for n in card_names(kind)]
    cards += [tomllib.loads(f.read_text()) for f in (ROOT / "models/leukaemia").glob("*.toml")]
    assert set(card_tables.statuses(cards)) <= set(card_tables.STATUS_WORDS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"value": 1.5, "unit": "mg/m^2", "ci95": [1, 2]}, ("1.5 mg/m^2", "1 to 2 (95 % CI)")),
        ({"value": 2, "unit": "1", "range": [1.0, 4]}, ("2", "1 to 4")),
        ({"value": 2, "unit": "h", "rse": 0.1}, ("2 h", "RSE 10 %")),
    ],
)
def test_a_row_says_value_and_limits(row, expected):
    ((name, value, limits, status, source),) = card_tables.number_rows(
        {"x": row | {"status": "read", "source": "a | b"}}
    )
    assert (name, value, limits, status, source) == ("`x`", *expected, "read", "a \\| b")


def test_relations_are_written_with_the_options_that_are_on():
    card = library.read("pk", "bonate2004_clofarabine")
    row = card["individual"]["CL"]
    with_factor = formulas.relation("CL", row, True, {"adult_clearance": True})
    assert r"\left(\frac{\text{weight}}{40}\right)^{0.75}" in with_factor
    assert r"\text{adult}_{\text{factor}}\ \text{[age from 18]}" in with_factor
    assert with_factor.endswith(r"e^{\eta_i}")
    without = formulas.relation("CL", row, False, {"adult_clearance": False})
    assert "adult" not in without
    assert "eta" not in without


def test_a_relation_has_the_least_value_of_the_parameter():
    row = library.read("pk", "freyer2000_etoposide")["individual"]["CL"]
    text = formulas.relation("CL", row, True, {})
    assert text.startswith(r"\text{CL}_{i} = \max\left(0.5, \text{CL}_{\text{intercept}} + ")
    assert text.endswith(r"\text{scr umol L}\right) \cdot e^{\eta_i}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\frac{dProl}{dt} = CL A_1", r"\frac{d\mathrm{Prol}}{dt} = \mathrm{CL} A_1"),
        (r"\frac{dA_1}{dt} \text{of cells}", r"\frac{dA_1}{dt} \text{of cells}"),
    ],
)
def test_names_of_several_letters_are_upright(text, expected):
    assert formulas.upright(text) == expected


def test_concentrations_are_those_of_the_closed_form():
    # one compartment, an hour's infusion: cyclophosphamide by Ahmed 2020
    drug = load_drug_card("cyclophosphamide")
    hours = np.array([0.5, 1.0, 6.0, 24.0])
    found = profiles.concentration(drug, "ahmed2020_cyclophosphamide", hours)
    rate = np.log(found[2] / found[3]) / 18.0
    shape = np.where(hours <= 1, -np.expm1(-rate * hours), np.nan)
    shape[2:] = -np.expm1(-rate) * np.exp(-rate * (hours[2:] - 1.0))
    np.testing.assert_allclose(found / found[1], shape / shape[1], rtol=1e-6)


def test_a_line_follows_its_published_equations():
    card = load_model_card("marrow", "friberg2002_paclitaxel")
    days = np.array([0.0, 2.0, 6.0, 12.0, 25.0])
    found = profiles.line_course(card, days)
    ktr, gamma, circ0 = 4 / 124.0, 0.239, 7.21

    def slopes(t, y):
        prol, *transit, circ = y
        growth = 0.0 if t < 96 else ktr * prol * (circ0 / circ) ** gamma
        chain = np.array([prol, *transit])
        return [growth - ktr * prol, *(ktr * (chain[:-1] - transit)), ktr * (transit[-1] - circ)]

    y = np.full(5, circ0)
    first = solve_ivp(slopes, (0, 96), y, t_eval=[0, 48, 96], rtol=1e-9, atol=1e-10)
    second = solve_ivp(
        slopes, (96, 600), first.y[:, -1], t_eval=[144, 288, 600], rtol=1e-9, atol=1e-10
    )
    expected = [*first.y[-1, :2], *second.y[-1]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cpx_351", "100 mg/m^2 iv on days 1-3"),
        ("clofarabine", "40 mg/m^2 iv on days 1-5"),
        ("lenalidomide", "25 mg oral on days 1-21"),
        ("pegfilgrastim", "6 mg sc on day 1"),
    ],
)
def test_courses_of_the_profiles(name, words):
    assert profiles.course_of(load_drug_card(name))[1] == words


def test_a_drug_that_changes_nothing_has_no_profile():
    assert profiles.course_of(load_drug_card("plerixafor")) is None


def test_blasts_and_counts_of_a_morning_stand_at_one_place(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(profiles, "_save", lambda figure, file: drawn.extend(figure.axes))
    found = xr.Dataset(
        {
            "count": (("draw", "patient", "line", "time"), np.ones((1, 2, 2, 3))),
            "marrow_blasts": (("draw", "patient", "day"), np.ones((1, 2, 3))),
        },
        {"line": ["neutrophils", "platelets"], "time": [0.0, 1.0, 2.0], "day": [1, 2, 3]},
    )
    profiles._draw_counts(found, tmp_path / "x.svg", blasts=True)
    assert [axis.lines[0].get_xdata().tolist() for axis in drawn] == [[0.0, 1.0, 2.0]] * 3


def test_pictures_are_drawn(tmp_path):
    words = profiles.line_profile(load_model_card("marrow", "friberg_solid"), tmp_path / "x.svg")
    assert words.startswith("Neutrophils of the typical patient")
    first = (tmp_path / "x.svg").read_bytes()
    profiles.line_profile(load_model_card("marrow", "friberg_solid"), tmp_path / "x.svg")
    assert first.startswith(b"<?xml")
    assert (tmp_path / "x.svg").read_bytes() == first  # the same card makes the same picture
