"""Figures depend on content and seed, not on names of files, populations, trials and arms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.cards.population_cards import load_population
from pkpd.comparison.run import compare
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.subjects import patients_key, sample_population

ONE = """
title = "t"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 60
[dose.clofarabine]
amount = "30 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"
[course.c]
doses = ["clofarabine"]
cycle_days = 42
"""


@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_two_names_of_one_file_have_the_same_figures(tmp_path, posterior, marrow):
    tables = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(ONE)
        given = {"posterior": posterior} if marrow == "leukaemia" else {}
        result = compare(
            tmp_path / f"{name}.toml", patients=24, draws=2, marrow=marrow, jobs=1, **given
        )
        tables.append(result.table().drop(columns="trial"))
    assert tables[0].equals(tables[1])
    other = compare(tmp_path / "two.toml", patients=24, draws=2, seed=2, marrow=marrow, jobs=1,
                    **given)  # fmt: skip
    assert not other.table().drop(columns="trial").equals(tables[1])


def test_patients_of_a_population_do_not_depend_on_its_name():
    population = load_population("rr_aml")
    same = replace(population, name="mine", title="other words", assumptions=())
    assert patients_key(same) == patients_key(population)
    first, second = sample_population(population, 20, 3), sample_population(same, 20, 3)
    for name, values in first.covariates.items():
        np.testing.assert_array_equal(values, second[name])
    for changed in (
        replace(population, limits=()),
        replace(population, disease="aml"),
        replace(population, correlations=()),
        replace(population, covariates=population.covariates[::-1]),
    ):
        assert patients_key(changed) != patients_key(population)


def test_patients_of_an_arm_do_not_depend_on_its_name():
    arm = Arm("one", ArmSchedule(None, 10), "mds_high_risk")
    first = population_outcomes(arm, default_theta(), 32, threads=1)
    renamed = population_outcomes(replace(arm, name="two"), default_theta(), 32, threads=1)
    np.testing.assert_array_equal(first.course.neutrophils, renamed.course.neutrophils)
    older = population_outcomes(replace(arm, age=80.0), default_theta(), 32, threads=1)
    assert (older.baseline["age"] != first.baseline["age"]).any()
