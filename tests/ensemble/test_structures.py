"""A structure of the marrow with leukaemia as a source of patients, before it has learned."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import pkpd
from benchmarks.structures import NEUTROPHILS, trials
from pkpd.cards import load_trial
from pkpd.errors import PkpdError
from pkpd.leukaemia.parameters import leukaemia_cards

SEVEN = pkpd.daily("daunorubicin", "60 mg/m^2", days="1-3", route="iv").together(
    pkpd.daily("cytarabine", "100 mg/m^2", days="1-7", route="iv")
)


def days_between(low, high, counts):
    """Days from a first count of at least ``low`` after the nadir to one of ``high``."""
    found = []
    for course in counts:
        after = course[int(course.argmin()) :]
        if course.min() < low and after.max() >= high:
            found.append(int(np.argmax(after >= high)) - int(np.argmax(after >= low)))
    return np.array(found)


def test_counts_of_ten_stages_come_back_twice_as_fast():
    """From 0.1 to 0.5 in 2 days where patients were counted daily after transplantation; 5 and 9
    days here, after 7+3, with ten and with three stages."""
    took = {}
    for name in ("full", "ten_stages"):
        people = pkpd.source("aml_untreated", structure=name, patients=300)
        assert name in people.words
        assert "nothing learned" in people.words
        counts = pkpd.simulate(SEVEN, people, until_day=60)["count"].sel(line="neutrophils")
        took[name] = np.median(days_between(0.1, 0.5, counts.values.reshape(-1, 60)))
    assert took["full"] >= 7.0
    assert took["ten_stages"] <= 6.0


def test_draws_of_a_structure_are_of_the_prior_of_its_cards():
    people = pkpd.source("aml_untreated", structure="ten_stages", patients=2, draws=400)
    rho = np.array([theta["rho"] for theta in people.study.thetas])
    low, high = leukaemia_cards("ten_stages").parameters["rho"].interval
    middle = leukaemia_cards("ten_stages").theta["rho"]
    assert np.median(rho) == pytest.approx(middle, rel=0.05)
    assert np.mean((rho > low) & (rho < high)) == pytest.approx(0.95, abs=0.03)


def test_what_does_not_go_with_a_structure_is_refused():
    with pytest.raises(PkpdError, match=r"structure: 'ten_stage' \(did you mean 'ten_stages'"):
        pkpd.source("aml_untreated", structure="ten_stage")
    with pytest.raises(PkpdError, match="marrow friberg has none"):
        pkpd.source("aml_untreated", structure="ten_stages", marrow="friberg")
    with pytest.raises(PkpdError, match="a posterior is given, too"):
        pkpd.source(
            "aml_untreated", structure="ten_stages", posterior="models/evidence/posterior.nc"
        )


def test_cohorts_are_judged_by_the_clock_of_their_trial():
    """NCT01629082 counts days from its consolidation, the rule alone from the first dose."""

    class Recorder:
        def __init__(self):
            self.clocks = {}

        def outcomes(self, arm):
            def dlt(rule):
                self.clocks[arm.name] = rule.clock
                return np.zeros(2)

            return SimpleNamespace(recovery_day={NEUTROPHILS: np.ones(2)}, dlt=dlt)

    one = Recorder()
    assert len(list(trials(one))) == len(one.clocks)
    trial = load_trial("nct01629082_clofarabine_lenalidomide")
    for cohort in trial.cohorts:
        assert one.clocks[f"{trial.id} {cohort.id}"] == "consolidation"
