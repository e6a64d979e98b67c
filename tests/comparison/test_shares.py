"""Averages of outcomes of which some, or all, are not known."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np

from pkpd.cards import load_rule
from pkpd.comparison.lanes import BY_DAYS
from pkpd.comparison.questions import _difference
from pkpd.comparison.shares import cohort_shares, figure, mean_of_known

NAN = np.nan


def test_the_mean_is_that_of_what_is_known():
    matrix = np.array([[1.0, 0.0, NAN], [NAN, NAN, NAN], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(mean_of_known(matrix), [0.5, NAN, 0.0, 2.0 / 3.0])
    cube = np.random.default_rng(1).normal(size=(3, 4, 50))
    cube[cube > 1.0] = NAN
    np.testing.assert_array_equal(mean_of_known(cube), np.nanmean(cube, axis=-1))


def test_a_delay_of_all_counts_whoever_cannot_be_judged_as_no_delay():
    grid = np.zeros((2, 4, 4, 2, 10), np.float32)
    # one late of five who can be judged: by these counts and this day alone; then nobody can be
    grid[0, 0, 1, 0] = [1, 0, 0, 0, 0, *(NAN,) * 5]
    grid[:, :, :, 1] = NAN
    lanes: Any = SimpleNamespace(
        sensitivity=grid, dlt={}, values={}, curves=SimpleNamespace(by_days=BY_DAYS)
    )
    found = cohort_shares(lanes, load_rule("len_mec_2018"))
    np.testing.assert_array_equal(found.delay(0.5, 20.0, 45.0), [0.2, NAN])
    np.testing.assert_array_equal(found.delay_of_all(0.5, 20.0, 45.0), [0.1, 0.0])
    np.testing.assert_array_equal(found.delay_of_all(0.5, 25.0, 45.0), [0.0, 0.0])


def test_no_filter_of_warnings_is_changed_meanwhile(monkeypatch):
    # filters are those of all threads: one that restores its own ends the silence of another

    def changed(*_, **__):
        raise AssertionError

    monkeypatch.setattr(warnings, "catch_warnings", changed)
    monkeypatch.setattr(warnings, "filterwarnings", changed)
    assert np.isnan(mean_of_known(np.full((4, 30), NAN))).all()


def test_a_share_of_nobody_or_everybody_has_no_interval():
    for every in (0.0, 1.0):
        found = figure(np.array([every, NAN, every]))
        assert (found.value, np.isnan(found.lower), np.isnan(found.upper)) == (every, True, True)
    found = figure(np.repeat([0.0, 0.1], [20, 10]))
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 0.1)
    assert figure(np.zeros(20), "difference").lower == 0.0


def test_few_draws_tell_no_interval():
    every = np.linspace(0.1, 0.3, 20)
    assert figure(every).lower < figure(every).value < figure(every).upper
    few = figure(every[:19])
    assert (few.value, np.isnan(few.lower), np.isnan(few.upper)) == (every[9], True, True)
    assert _difference((0.1, 0.2, 0.3), 20).upper == 0.3
    assert np.isnan(_difference((0.1, 0.2, 0.3), 19).upper)
