"""Kinetics that change within a subject: the compiled engine against a tight solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marrow_cases import dataset, friberg, infusion, reference

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import fixed_effects
from pkpd.fitting.model.residual import lognormal
from pkpd.fitting.model.specification import PopulationModel, parameter
from pkpd.marrow.friberg import PlateletChain
from pkpd.predict.marrow import MarrowStructure, marrow_model
from pkpd.predict.marrow_occasions import by_data, by_record
from pkpd.predict.pk import compartments
from pkpd.predict.structure import FollowingData
from pkpd.solve.events.timeline import EventOptions

TOLERANCE = 1e-5
"""What the compiled scheme leaves in counts at its default step."""

MARROW = {"circ0": 5.0, "MTT": 100.0, "gamma": 0.2}


def jumps_of(time, doses, forward):
    """Inputs as jumps, and at every record the number of the one whose parameters now hold."""

    def holding(record):
        def change(y, rates):
            rates["record"] = record
            return y

        return change

    out = []
    for t in np.unique(time):
        holds = np.searchsorted(time, t, side="right") - forward
        out.append((t, holding(min(holds, len(time) - 1))))
    for at, amount, duration, into in doses:
        out += infusion(amount, duration, at, into)
    return sorted(out, key=lambda jump: jump[0])


@dataclass(frozen=True, eq=False)
class Case:
    """A data set, a model, values by record, and the model's equations written out once more."""

    data: Dataset
    structure: MarrowStructure
    values: dict[str, Any]
    doses: Callable  # of a subject and its values: (time, amount, duration, state)
    kinetics: Callable  # (state, values, rates) -> change of drug states, effect
    n_states: int
    concentration: Callable  # (state, values) -> by line
    forward: bool = False

    @cached_property
    def predictor(self):
        return self.structure.bind(self.data)

    def solved(self, values, rtol=1e-11):
        """Predictions by scipy, restarted at every record and dose."""
        events, seen = self.data.events, self.data.observations
        out = np.empty(len(seen))
        for b in range(events.shape[0]):
            valid = events.valid[b]
            mine = {
                k: v[b][valid] if np.ndim(v) == 2 else np.full(valid.sum(), v)
                for k, v in values.items()
            }
            start = events.time[b, 0]  # where the marrow begins
            time = events.time[b][valid] - start

            def rhs(t, y, rates, mine=mine):
                p = {k: v[rates["record"]] for k, v in mine.items()}
                change, effect = self.kinetics(y, p, rates)
                return np.append(change, friberg(y[self.n_states :], effect, p))

            y0 = [0.0] * self.n_states + [mine["circ0"][0]] * 5
            at = np.flatnonzero(seen.subject == b)
            doses = [(t - start, *rest) for t, *rest in self.doses(b, mine)]
            jumps = jumps_of(time, doses, self.forward)
            found = reference(rhs, y0, jumps, seen.time[at] - start, rtol)
            for i, y in zip(at, found, strict=True):
                p = {k: v[seen.record[i]] for k, v in mine.items()}
                line = seen.line[i]
                lines = self.concentration(y, p)
                out[i] = lines[line] if line < len(lines) else y[-1]
        return out


def occasions(options=None):
    """Subject 1: three occasions, the first ending during an infusion; subject 2: one only."""
    rows = [
        (1, 0.0, 1, 1, 100.0, 10.0),
        (1, 6.0, 0, 100),  # the infusion goes on to 10 h
        (1, 48.0, 0, 101),
        (1, 120.0, 1, 1, 90.0),
        (1, 120.5, 0, 100),
        (1, 190.0, 0, 101),
        (1, 260.0, 0, 100),
        (1, 330.0, 0, 101),
        (2, 3.0, 1, 1, 80.0),
        (2, 33.0, 0, 100),
        (2, 150.0, 0, 101),
    ]
    occasion = np.array([[0, 0, 1, 1, 1, 1, 2, 2], [0] * 8])
    data = dataset(rows, ["concentration", "neutrophils"], occasion=occasion)
    forward = options is not None
    structure = marrow_model(compartments(1, options=options))
    values = {
        "CL": np.array([5.0, 8.0, 3.0])[occasion] * np.array([[1.0], [1.3]]),
        "V": np.array([50.0, 40.0, 60.0])[occasion],
        "slope": 0.6,
        **MARROW,
    }

    def doses(b, p):
        return [[(0.0, 100.0, 10.0, 0), (120.0, 90.0, 0.0, 0)], [(3.0, 80.0, 0.0, 0)]][b]

    def kinetics(y, p, rates):
        change = -p["CL"] / p["V"] * y[0] + rates.get(0, 0.0)
        return [change], p["slope"] * y[0] / p["V"]

    return Case(data, structure, values, doses, kinetics, 1, lambda y, p: [y[0] / p["V"]], forward)


def covariate():
    """Oral doses, some additional; clearance and bioavailability follow a covariate."""
    rows = [
        (1, 0.0, 1, 1, 50.0, 0, 24.0, 3),
        (1, 30.0, 0, 101),
        (1, 60.0, 0, 100),
        (1, 100.0, 1, 1, 40.0),
        (1, 110.0, 0, 100),
        (1, 240.0, 0, 101),
        (2, 0.0, 1, 1, 70.0),
        (2, 80.0, 0, 101),
    ]
    weight = np.array([[70.0, 66.0, 61.0, 58.0, 63.0, 70.0], [90.0] * 6])
    data = dataset(rows, ["concentration", "neutrophils"], covariates={"WT": weight})
    structure = marrow_model(
        compartments(2, absorption="first_order", dosing=["F1"]), driver="effect_compartment"
    )
    values = {
        "CL": 4.0 * (weight / 70.0) ** 0.75,
        "V1": 40.0,
        "V2": 30.0 * weight / 70.0,
        "Q": 6.0,
        "ka": 0.7,
        "F1": 0.9 * (weight / 70.0) ** 2,
        "ke0": 0.3,
        "slope": 0.7,
        **MARROW,
    }

    def doses(b, p):
        if b:
            return [(0.0, 70.0 * p["F1"][0], 0.0, 0)]
        # an additional dose takes the bioavailability of the record that follows it
        at = [(0.0, 0), (24.0, 1), (48.0, 2), (72.0, 3)]
        out = [(t, 50.0 * p["F1"][n], 0.0, 0) for t, n in at]
        return [*out, (100.0, 40.0 * p["F1"][3], 0.0, 0)]

    def kinetics(y, p, rates):
        gut, central, outside, site = y[:4]
        flow = p["Q"] * (central / p["V1"] - outside / p["V2"])
        change = [
            -p["ka"] * gut,
            p["ka"] * gut - p["CL"] / p["V1"] * central - flow,
            flow,
            p["ke0"] * (central / p["V1"] - site),
        ]
        return change, p["slope"] * site

    return Case(data, structure, values, doses, kinetics, 4, lambda y, p: [y[1] / p["V1"]])


def two_drugs():
    """Two infused drugs, of which one has another clearance and volume in each occasion."""
    rows = [
        (1, 0.0, 1, 1, 100.0, 50.0),
        (1, 0.0, 1, 2, 30.0, 10.0),
        (1, 40.0, 0, 102),
        (1, 72.0, 1, 1, 100.0, 50.0),
        (1, 72.0, 1, 2, 30.0, 10.0),
        (1, 73.0, 0, 101),
        (1, 74.5, 0, 100),
        (1, 190.0, 0, 102),
    ]
    occasion = np.array([[0, 0, 0, 1, 1, 1, 1, 1]])
    lines = ["concentration_a", "concentration_b", "neutrophils"]
    data = dataset(rows, lines, occasion=occasion)
    structure = marrow_model({"a": compartments(1), "b": compartments(1)}, effect="linear")
    values = {
        "CL_a": np.array([6.0, 3.0])[occasion],
        "V_a": np.array([50.0, 70.0])[occasion],
        "CL_b": 2.0,
        "V_b": 20.0,
        "slope_a": 0.4,
        "slope_b": 0.3,
        **MARROW,
    }

    def doses(b, p):
        return [(t, a, d, k) for t in (0.0, 72.0) for k, a, d in ((0, 100.0, 2.0), (1, 30.0, 3.0))]

    def at(y, p):
        return [y[0] / p["V_a"], y[1] / p["V_b"]]

    def kinetics(y, p, rates):
        a, b = at(y, p)
        change = [rates.get(0, 0.0) - p["CL_a"] * a, rates.get(1, 0.0) - p["CL_b"] * b]
        return change, p["slope_a"] * a + p["slope_b"] * b

    return Case(data, structure, values, doses, kinetics, 2, at)


CASES = {
    "occasions": occasions,
    "carried forward": lambda: occasions(EventOptions(carry="forward")),
    "covariate": covariate,
    "two drugs": two_drugs,
}


def pieces(case):
    """Values that may be differentiated by: of each stretch of each subject, then constants."""
    stretches = by_data(case.data, case.forward).of_record
    out = []
    for name, value in case.values.items():
        if np.ndim(value) < 2:
            out.append((name, None))
            continue
        for b in range(stretches.shape[0]):
            out += [(name, (stretches == v) & (np.arange(len(stretches)) == b)[:, None])
                    for v in np.unique(stretches[b])]  # fmt: skip
    return out


def scaled(case, logs, xp=np):
    """Values with the logarithm of each piece moved."""
    out = dict(case.values)
    for log, (name, where) in zip(logs, pieces(case), strict=True):
        factor = xp.exp(log)
        out[name] = out[name] * (factor if where is None else xp.where(where, factor, 1.0))
    return out


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "occasions" else pytest.mark.slow) for name in CASES],
)
def test_counts_and_concentrations_match_a_tight_solution(name):
    case = CASES[name]()
    assert case.predictor.engine == "compiled"
    expected = case.solved(case.values)
    for kind in (dict, FollowingData):
        found = case.predictor(kind(case.values))
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
    course, _ = case.predictor._serving(FollowingData(case.values))
    assert course is case.predictor._by_data
    assert not case.predictor.problems(case.values)


@pytest.mark.parametrize(
    "name",
    [
        "occasions",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("two drugs", "carried forward", "covariate")
        ),
    ],
)
def test_derivatives_by_every_stretch_match_differences_of_the_tight_solution(name):
    case = CASES[name]()
    n = len(pieces(case))

    def predict(kind):
        # one program; the operations one by one are 140
        return jax.jit(
            jax.jacrev(lambda logs: jnp.log(case.predictor(kind(scaled(case, logs, jnp)))))
        )

    followed, recorded = (np.asarray(predict(kind)(jnp.zeros(n))) for kind in (FollowingData, dict))
    step = 2e-3
    for i in range(n):
        moved = step * np.eye(n)[i]
        up, down = (case.solved(scaled(case, sign * moved), 1e-9) for sign in (1.0, -1.0))
        expected = (np.log(up) - np.log(down)) / (2 * step)
        # 1e-6 of the differences (step squared, and 1e-9 over the step), and 1e-5 of the scheme
        for found in (followed, recorded):
            np.testing.assert_allclose(found[:, i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long  # each engine is held against a tight solution above
@pytest.mark.parametrize("name", CASES)
def test_both_engines_agree_on_values_and_derivatives(name):
    case = CASES[name]()
    general = replace(case.structure, engine="general", general_step_h=0.1).bind(case.data)
    weight = np.random.default_rng(1).standard_normal(len(case.data.observations))
    zero = jnp.zeros(len(pieces(case)))

    def both(predictor):
        def total(logs):
            return jnp.dot(weight, jnp.log(predictor(FollowingData(scaled(case, logs, jnp)))))

        value, slope = jax.value_and_grad(total)(zero)
        return np.append(value, slope)

    # general engine at 0.1 h: better than 1e-6; the rest is the compiled scheme
    np.testing.assert_allclose(both(case.predictor), both(general), rtol=1e-4, atol=3e-5)


@pytest.mark.long  # the engines are compared above
def test_likelihood_with_variability_between_occasions_is_that_of_the_general_engine():
    case = occasions()
    spread = np.exp(0.1 * np.random.default_rng(2).standard_normal(len(case.data.observations)))
    seen = replace(case.data.observations, value=case.predictor(case.values) * spread)
    data = replace(case.data, observations=seen)

    def slopes(structure):
        estimates = [
            parameter("CL", 5.0, iiv=0.3, iov=0.2),
            parameter("V", 50.0, iov=0.1),
            parameter("slope", 0.6, iiv=0.2),
            *(parameter(name, value) for name, value in MARROW.items()),
        ]
        errors = {"concentration": lognormal(0.2), "neutrophils": lognormal(0.2)}
        likelihood = bind(PopulationModel(structure, estimates, errors), data)
        by_name = {name: e.value for name, e in fixed_effects(likelihood.model).items()}
        fixed = likelihood.fixed(by_name)
        shape = (likelihood.n_subjects, likelihood.random_effects.size)
        # all random effects zero: occasions have equal values, and derivatives of their own
        return likelihood.value_and_gradient(fixed, jnp.zeros(shape))

    general = replace(case.structure, engine="general", general_step_h=0.1)
    for found, expected in zip(slopes(case.structure), slopes(general), strict=True):
        # 1e-5 of a count, in a log-likelihood whose residuals are over 0.2
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.long
def test_derivatives_stay_right_where_values_agree_by_chance():
    """At zero a trend in time changes no value, but its derivative is not that of one record."""
    case = occasions()
    time = case.data.events.time

    def predict(trend):
        values = {**case.values, "CL": 5.0 * jnp.exp(trend * time), "V": 50.0}
        return case.predictor(values)

    found = jax.jacrev(predict)(0.0)
    step = 1e-6
    difference = (predict(step) - predict(-step)) / (2 * step)
    np.testing.assert_allclose(found, difference, rtol=1e-6, atol=1e-6)


def test_an_impossible_value_of_one_occasion_spoils_its_own_subject_only():
    case = occasions()
    own = case.data.observations.subject == 0
    counted = case.data.observations.line == 1
    good = case.predictor(case.values)
    values = {**case.values, "V": case.values["V"].copy()}
    values["V"][0, 6:] = -60.0
    found = np.asarray(case.predictor(values))
    assert np.isnan(found[own & counted]).all()
    np.testing.assert_allclose(found[~own], good[~own], rtol=1e-12)
    told = case.predictor.problems(values)
    assert list(told) == [0]
    assert "V1: value -60.0" in told[0]

    def total(scale):
        return jnp.nansum(case.predictor({**values, "CL": scale * values["CL"]})[~own])

    assert np.isfinite(jax.grad(total)(1.0))


def test_the_general_engine_takes_what_the_compiled_one_cannot():
    case = covariate()
    changing = {**case.values, "MTT": np.full(case.data.events.shape, 100.0)}
    changing["MTT"][0, 3:] = 90.0
    predictor = case.predictor
    assert predictor._serving(case.values)[0] is predictor._by_record
    assert predictor._serving(changing)[0] is predictor._general
    strict = replace(case.structure, engine="compiled").bind(case.data)
    assert strict._serving(case.values)[0] is strict._by_record
    with pytest.raises(PkpdError, match="MTT is given by record"):
        strict(changing)
    # numbers by record that do not change are constant
    still = {**case.values, "CL": np.full((2, 6), 4.0), "V2": 30.0, "F1": 1.0}
    assert predictor._serving(still)[0] is predictor._population

    twice = dataset([(1, 0.0, 1, 1, 9.0), (1, 0.0, 1, 1, 9.0), (1, 50.0, 0, 100)], ["neutrophils"])
    alone = marrow_model(compartments(1, dosing=["F1"]), engine="compiled").bind(twice)
    by_record_now = {"CL": np.array([[2.0, 2.0, 3.0]]), "V": 20.0, "F1": 1.0, "slope": 0.3}
    with pytest.raises(PkpdError, match="fall together"):
        alone({**by_record_now, **MARROW})
    other = marrow_model(compartments(1), lines=PlateletChain(ageing=2), engine="compiled")
    del by_record_now["F1"]
    with pytest.raises(PkpdError, match="not those of the compiled engine"):
        other.bind(twice)({**by_record_now, **MARROW, "ks": 0.01})


@pytest.mark.slow
def test_stretches_end_where_the_data_change():
    case = occasions()
    found = by_data(case.data, False)
    assert found.count == 3
    np.testing.assert_array_equal(found.a_record, [[0, 2, 6], [0, 0, 0]])
    np.testing.assert_array_equal(found.begins_h, [[6.0, 190.0], [np.inf, np.inf]])
    np.testing.assert_array_equal(by_data(case.data, True).begins_h[0], [48.0, 260.0])
    each = by_record(case.data, False)
    assert each.count == 8
    # subject 2 has three records, the first at 3 h
    np.testing.assert_array_equal(each.begins_h[1], [0.0, 30.0] + [np.inf] * 5)
