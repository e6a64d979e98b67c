"""A marrow of lines as one marrow: its step, its inputs, and how drugs form them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from pkpd.errors import PkpdError
from pkpd.kinetics.quadrature import NODES
from pkpd.marrow.actions import LineEffects, LineKill, SaturableKill, combined
from pkpd.marrow.effects import EmaxEffect, LinearEffect, NoEffect, combined_effect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.marrow.gcsf import GcsfMarrow
from pkpd.marrow.leukaemic import LeukaemicMarrow
from pkpd.marrow.line_marrow import LineMarrow
from pkpd.marrow.protocol import Marrow
from pkpd.marrow.stem_cell import StemCellMarrow
from pkpd.marrow.step import rk4_cell

VALUES = {
    "baseline": 3.0, "set_point": 4.0, "MTT": 110.0, "gamma": 0.3, "k_circ": 0.1, "ks": 0.01,
    "ftr": 0.7, "beta": 0.2, "ke": 0.6, "k_anc": 5.6, "g0": 24.3e-6,
}  # fmt: skip
NEUTROPHILS = [
    Friberg(saturation=0.001),
    StemCellMarrow(circulation="own", feedback_rule="off"),
    GcsfMarrow(),
    GcsfMarrow(g_csf="state"),
]
PLATELETS = PlateletChain(transits=2, ageing=3, feedback_rule="capped")


def marrow_of(neutrophils=NEUTROPHILS[0], **options):
    return LineMarrow((("neutrophils", neutrophils), ("platelets", PLATELETS)), **options)


def parameters(marrow):
    p = {name: VALUES[name.split(".")[1]] for name in marrow.parameters if "." in name}
    return p | {"platelets.MTT": 150.0, "platelets.set_point": 200.0, "transfused_loss": 0.8}


@pytest.mark.parametrize("line", NEUTROPHILS, ids=repr)
@pytest.mark.parametrize("combination", ["additive", "bliss"])
def test_a_cell_is_the_step_of_each_line(line, combination):
    """In days and one patient, what `rk4_cell` is for arrays of patients in hours."""
    marrow = marrow_of(line, combination=combination)
    p = parameters(marrow)
    y = {k: v + 0.03 * i for i, (k, v) in enumerate(marrow.start(p).items())}
    mean, rise, kill, hours = 0.7, -0.4, 0.3, 0.5 if "state" in marrow.states[-4] else 5.0
    u = marrow.rest()
    for name, part in (("neutrophils", 1.0), ("platelets", 0.5)):
        u[f"kill_{name}"] = part * kill
        if combination == "additive":
            u |= {f"effect_{name}": part * mean, f"effect_{name}_first": part * rise}
        else:
            # a mean of 0.7 as what is left, 0.5, and what exceeds 1, 0.2
            u |= {f"rest_{name}": 1.2 - part * mean, f"rest_{name}_first": -0.5 * part * rise}
            u |= {f"excess_{name}": 0.2, f"excess_{name}_first": 0.5 * part * rise}
    found = marrow.step(y, p, u, hours / 24.0)
    for name, own, part in (("neutrophils", line, 1.0), ("platelets", PLATELETS, 0.5)):
        column = jnp.array([[y[f"{name}.{state}"]] for state in own.states])
        q = {k: jnp.array([p[f"{name}.{k}"]]) for k in own.parameters}
        effect = jnp.array([part * mean]), jnp.array([part * rise / hours])
        expected = rk4_cell(own.derivative, column, effect, part * kill / 24.0, hours, q)
        got = [float(found[f"{name}.{state}"]) for state in own.states]
        np.testing.assert_allclose(got, expected[:, 0], rtol=1e-12, atol=1e-14)
        rates = marrow.derivative(y, p, u)
        slopes = own.derivative(column, jnp.array([part * mean]), part * kill / 24.0, q)
        got = [float(rates[f"{name}.{state}"]) / 24.0 for state in own.states]
        np.testing.assert_allclose(got, slopes[:, 0], rtol=1e-12, atol=1e-15)
        assert float(marrow.observe(y, p)[name]) == pytest.approx(
            float(jnp.exp(own.log_count(column, q))[0]), rel=1e-13
        )


def test_it_is_a_marrow_and_transfused_platelets_decay_beside_it():
    marrow = marrow_of()
    assert isinstance(marrow, Marrow)
    p = parameters(marrow)
    y = marrow.start(p) | {"transfused": 20.0}
    after = marrow.step(y, p, marrow.rest(), 0.25)
    assert float(after["transfused"]) == pytest.approx(20.0 * np.exp(-0.2), rel=1e-14)
    seen = marrow.observe(after, p)
    total = float(seen["platelets"]) + 20.0 * np.exp(-0.2)
    assert float(seen["platelets_with_transfused"]) == pytest.approx(total, rel=1e-14)
    without = marrow_of(care=False)
    assert "transfused" not in without.states
    assert "platelets_with_transfused" not in without.observed


def moments(f):
    """Mean over a cell of length 1, and first Legendre moment, by adaptive quadrature."""
    mean = quad(f, 0, 1, epsabs=0, epsrel=1e-12)[0]
    return mean, 12.0 * quad(lambda t: f(t) * (t - 0.5), 0, 1, epsabs=1e-14, epsrel=1e-12)[0]


def acting(shapes, combination="additive"):
    """Actions of drugs a, b, ... on the neutrophils."""
    return [
        LineEffects(f"{name}.", (("neutrophils", shape), ("platelets", NoEffect())), combination)
        for name, shape in zip("abc", shapes, strict=False)
    ]


def test_exact_moments_and_values_at_nodes_are_added():
    """A linear effect by its moments, whatever its course; a saturable one by four nodes."""
    marrow = marrow_of()
    actions = acting([EmaxEffect(), LinearEffect()])
    assert [a.driver for a in actions] == ["level", "moments"]
    p = parameters(marrow) | {"a.Emax_neutrophils": 1.25, "a.EC50_neutrophils": 2.0}
    p |= {"b.slope_neutrophils": 0.5}

    def decaying(t):
        return 3.0 * np.exp(-0.2 * t)

    sharp = (0.8, -7.0)  # of a peak that no four nodes would see
    u = combined(marrow, actions, [decaying(NODES), sharp], p)
    mean, first = moments(lambda t: 1.25 * decaying(t) / (2.0 + decaying(t)))
    assert float(u["effect_neutrophils"]) == pytest.approx(mean + 0.4, rel=1e-9)
    assert float(u["effect_neutrophils_first"]) == pytest.approx(first - 3.5, rel=1e-9)
    assert float(u["effect_platelets"]) == float(u["effect_platelets_first"]) == 0.0


def test_bliss_of_what_the_nodes_integrate_exactly():
    marrow = marrow_of(combination="bliss")
    actions = acting([LinearEffect(), LinearEffect()], "bliss")
    assert [a.driver for a in actions] == ["level", "level"]
    p = parameters(marrow) | {"a.slope_neutrophils": 1.0, "b.slope_neutrophils": 1.0}
    e1, e2 = (lambda t: 0.1 + 0.6 * t), (lambda t: 0.45 * t**2)
    u = combined(marrow, actions, [e1(NODES), e2(NODES)], p)
    expected = moments(lambda t: 1 - (1 - e1(t)) * (1 - e2(t)))
    np.testing.assert_allclose(marrow._effect("neutrophils", u), expected, rtol=1e-12)
    np.testing.assert_allclose(marrow._effect("platelets", u), 0.0, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=3))
def test_bliss_of_constant_effects_is_the_rule_at_an_instant(effects):
    """What exceeds 1 adds, also when there are several drugs and only some of them do."""
    marrow = marrow_of(combination="bliss")
    actions = acting([LinearEffect()] * len(effects), "bliss")
    p = parameters(marrow) | {
        f"{d}.slope_neutrophils": e for d, e in zip("abc", effects, strict=False)
    }
    u = combined(marrow, actions, [np.ones(4)] * len(effects), p)
    mean, first = marrow._effect("neutrophils", u)
    assert float(mean) == pytest.approx(float(combined_effect(effects, "bliss")), abs=1e-13)
    assert float(first) == pytest.approx(0.0, abs=1e-13)


def test_a_lumped_kill_is_spread_over_the_day_of_its_dose():
    marrow = marrow_of()
    p = parameters(marrow) | {"k.ln_kill_neutrophils": 0.02, "k.ln_kill_platelets": 0.01}
    u = combined(marrow, [LineKill("k.", ("neutrophils", "platelets"))], [300.0], p)
    assert (u["kill_neutrophils"], u["kill_platelets"]) == (6.0, 3.0)
    y = marrow.start(p)
    before = float(y["neutrophils.log_proliferating"])
    hold = p | {"neutrophils.gamma": 0.0}
    for _ in range(4):
        y = marrow.step(y, hold, u, 0.25)
    # without feedback the dividing pool loses just these six natural-log units
    assert float(y["neutrophils.log_proliferating"]) == pytest.approx(before - 6.0, rel=1e-12)


def test_marrows_that_want_no_first_moment_get_none():
    marrow = LeukaemicMarrow()
    p = dict.fromkeys(SaturableKill("x_").parameters, 0.5)
    assert set(combined(marrow, [SaturableKill("x_")], [np.ones(4)], p)) == set(marrow.inputs)


def test_refusals():
    with pytest.raises(PkpdError, match="there is no line 'platelets'"):
        LineMarrow((("neutrophils", Friberg()),))
    with pytest.raises(PkpdError, match="rule 'loewe'; allowed: additive, bliss"):
        marrow_of(combination="loewe")
