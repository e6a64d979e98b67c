"""The Pareto set, limits and the short list, against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pkpd.search import pareto, short_list
from pkpd.search.choice import beyond_limit

BETTER = ["low", "high", "low"]


def dominated(values, better, i):
    """Whether some other schedule is as good in everything and better in something."""
    sign = [1 if b == "low" else -1 for b in better]
    for j in range(len(values)):
        steps = [s * (values[j][k] - values[i][k]) for k, s in enumerate(sign)]
        if all(x <= 0 for x in steps) and any(x < 0 for x in steps):
            return True
    return False


few = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(few, few, few), min_size=1, max_size=12))
def test_the_pareto_set_is_that_of_its_definition(values):
    wanted = [not dominated(values, BETTER, i) for i in range(len(values))]
    assert pareto(values, BETTER).tolist() == wanted


def test_a_convex_front_is_the_pareto_set():
    angle = np.linspace(0, np.pi / 2, 30)
    front = 1.0 - np.stack([np.cos(angle), np.sin(angle)], axis=1)  # a quarter of a circle
    inside = front + 0.05
    found = pareto(np.concatenate([front, inside]), ["low", "low"])
    assert found[:30].all()
    assert not found[30:].any()


def test_what_is_not_known_is_worse_than_anything():
    assert pareto([[0.1, np.nan], [0.1, 0.0]], ["low", "high"]).tolist() == [False, True]


@given(
    st.lists(st.tuples(few, few, few), min_size=1, max_size=10),
    st.lists(st.booleans(), min_size=10, max_size=10),
    st.integers(1, 5),
)
def test_the_short_list_is_of_the_allowed_pareto_set_and_its_members_differ(values, may, keep):
    allowed = np.array(may[: len(values)])
    margins = np.array([1.0, 0.5, 2.0])
    found = short_list(values, BETTER, margins, allowed, keep)
    assert len(found) <= keep
    assert bool(found) == bool(allowed.any())
    mine = [i for i in range(len(values)) if allowed[i]]
    for i in found:
        assert allowed[i]
        assert not dominated([values[m] for m in mine], BETTER, mine.index(i))
    for i, j in itertools.combinations(found, 2):
        assert (np.abs(np.subtract(values[i], values[j])) > margins).any()
    if found and len(found) < keep:  # nothing that differs is left out
        rest = [m for m in mine if not dominated([values[k] for k in mine], BETTER, mine.index(m))]
        for m in rest:
            near = [np.abs(np.subtract(values[m], values[i])) <= margins for i in found]
            assert any(n.all() for n in near)


def test_the_first_is_the_compromise_and_the_next_differ_most():
    # on the line from (0, 10) to (10, 0) the compromise is the middle, then come the ends
    values = [[float(x), 10.0 - x] for x in range(11)]
    found = short_list(values, ["low", "low"], [0.1, 0.1], keep=3)
    assert found[0] == 5
    assert set(found[1:]) == {0, 10}
    five = short_list(values, ["low", "low"], [0.1, 0.1], keep=5)
    assert {2, 7} < set(five) or {3, 8} < set(five) or {2, 8} < set(five) or {3, 7} < set(five)


def test_of_equals_the_farther_in_all_is_next_and_then_the_first_by_name():
    # each is half a range from the compromise in something; together .71, .87 and .52
    values = {
        "p": (0.5, 0.5, 0.5),
        "a": (0.0, 1.0, 0.5),
        "b": (1.0, 0.0, 0.0),
        "c": (0.4, 0.4, 1.0),
    }
    ends = {"p": (0.5, 0.5), "z": (0.0, 1.0), "y": (1.0, 0.0)}  # equal in all
    for few, wanted in ((values, "pbac"), (ends, "pyz")):
        for names in itertools.permutations(few):
            rows = [few[name] for name in names]
            places = short_list(rows, ["low"] * len(rows[0]), [0.01] * len(rows[0]), labels=names)
            assert "".join(names[i] for i in places) == wanted
    # two compromises with a shortfall of .6: the one whose others are less
    two = [(0.6, 0.5), (0.4, 0.6), (0.0, 1.0), (1.0, 0.0)]
    assert short_list(two, ["low", "low"], [0.01, 0.01])[0] == 1


@given(st.lists(st.tuples(few, few, few), min_size=1, max_size=9, unique=True), st.randoms())
def test_the_short_list_does_not_depend_on_the_order(values, random):
    names = [f"s{number}" for number in range(len(values))]
    mixed = random.sample(range(len(values)), len(values))
    one = short_list(values, BETTER, [0.5] * 3, labels=names)
    other = short_list(
        [values[i] for i in mixed], BETTER, [0.5] * 3, labels=[names[i] for i in mixed]
    )
    assert [names[i] for i in one] == [names[mixed[i]] for i in other]


def test_nothing_to_compare_by_lists_nothing():
    assert short_list([[], []], [], []) == []


def test_a_limit_is_judged_over_draws():
    draws = stats.norm(0.2, 0.05).ppf((np.arange(4000) + 0.5) / 4000)
    share, error = beyond_limit(draws, 0.25, None, 0.005)
    assert share == pytest.approx(stats.norm.sf(1.0), abs=5e-4)
    of_draws = np.sqrt(share * (1 - share) / 4000)
    of_patients = stats.norm(0.2, 0.05).pdf(0.25) * 0.005
    assert error == pytest.approx(np.hypot(of_draws, of_patients), rel=0.02)
    below, _ = beyond_limit(draws, None, 0.25)
    assert below == pytest.approx(1.0 - share)
    nobody, _ = beyond_limit(np.full(3, np.nan), 0.25, None)
    assert np.isnan(nobody)
    assert beyond_limit(np.array([0.1, 0.2]), 0.25, None)[1] > 0.1  # two draws prove little
