"""Which parameter acts on which arm, and that a network sees no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learning import prior_of

from pkpd.errors import DataError
from pkpd.evidence import EvidenceLikelihood, load_evidence
from pkpd.evidence.likelihood.cells import cells_of
from pkpd.evidence.likelihood.summaries import summarise
from pkpd.evidence.sampling import emulator
from pkpd.evidence.sampling.emulator import Emulator, Training, Wiring, train
from pkpd.evidence.sampling.simulations import Simulations
from pkpd.evidence.sampling.wiring import wiring
from pkpd.evidence.table.arms import SimulatedArm

NAMES = ("regrowth", "kill", "hazard")
ROWS = (
    "A,aml,clofarabine:40 mg/m2:IV1h:1-5,60,cr_rate,,,,,20,60,READ",
    "A,aml,clofarabine:40 mg/m2:IV1h:1-5,30,anc500_recovery_day_median,24,,,,,,READ",
    "B,aml,cytarabine:100 mg/m2:CI:1-7,60,cr_rate,,,,,20,60,READ",
    "B,aml,cytarabine:100 mg/m2:CI:1-7,30,anc500_recovery_day_median,24,,,,,,READ",
)


def test_parameters_are_found_where_they_act(table_file, stand_in, tmp_path):
    """The kill of leukaemia acts on the first arm alone, the rest on both."""
    plan = EvidenceLikelihood(load_evidence(table_file(*ROWS)))
    cells, prior = cells_of(plan.terms), prior_of(*NAMES)
    runs = []

    def make(seed):
        whole = stand_in(plan.arms, n=64, seed=seed)
        runs.append(seed)

        class First:
            def __call__(self, theta):
                held = {**theta, "kill": 3.3}
                return {
                    key: whole.arm(key, theta if "clofarabine" in key else held)
                    for key in plan.arms
                }

        return First()

    inputs = [prior.names.index(name) for name in NAMES]
    found = wiring(make, cells, prior, inputs, seed=5, folder=tmp_path)
    keys = sorted({one.arm for one in (*cells.shares, *cells.days)})
    assert ["clofarabine" in key for key in keys] == [True, False]
    assert found.acts.tolist() == [[True, True, True], [True, False, True]]
    assert [keys[arm] for arm in found.arm] == [o.arm for o in (*cells.shares, *cells.days)]
    seen = len(runs)
    again = wiring(make, cells, prior, inputs, seed=5, folder=tmp_path)
    assert len(runs) == seen  # what is kept is not simulated again
    assert (again.acts == found.acts).all()


def test_a_parameter_that_no_count_shows_is_found(table_file, stand_in):
    """Of few patients none crosses a threshold, and yet their days move."""
    row = "A,aml,clofarabine:40 mg/m2:IV1h:1-5,60,cr_rate,,,,,20,60,READ"
    plan = EvidenceLikelihood(load_evidence(table_file(row)))
    cells, prior = cells_of(plan.terms), prior_of(*NAMES)

    def make(seed):
        return stand_in(plan.arms, n=4, seed=seed)

    inputs = [prior.names.index(name) for name in NAMES]
    found = wiring(make, cells, prior, inputs, seed=5)
    assert found.acts.all()
    base = np.random.default_rng(5).standard_normal(prior.size)
    moved = base.copy()
    moved[inputs[0]] -= 1.5 * np.copysign(1.0, moved[inputs[0]])
    shares = [
        summarise(cells.shares, cells.days, make(5)(prior.theta(z)), prior.theta(z)).share
        for z in (base, moved)
    ]
    assert (shares[0] == shares[1]).all()  # what is printed does not show it


def test_an_arm_that_tells_no_course_is_refused():
    with pytest.raises(DataError, match="does not tell its course"):
        SimulatedArm(np.ones(2), lambda _: np.ones(2)).trace()


@pytest.mark.long
def test_a_network_sees_what_acts_on_its_arm_and_nothing_else():
    rng = np.random.default_rng(1)
    z = rng.standard_normal((300, 3))
    share = 1 / (1 + np.exp(-np.stack([z[:, 0], z[:, 1] + 0.5 * z[:, 0]], axis=1)))
    days = np.tile([3.0, 0.2, 0.2, 3.05], (300, 1, 1)) + 0.1 * z[:, 2, None, None] * [1, 0, 0, 1]
    made = Simulations(z, share, np.full((300, 2), 60.0), days, np.full((300, 1), 60.0))
    acts = np.array([[True, False, True], [True, True, False]])
    wired = Wiring(acts, np.array([0, 1, 0]))
    how = Training(width=8, steps=300, networks=2)
    emulator = train(made, [0, 1, 2], how, wired=wired)
    logits, told = (np.asarray(j) for j in jax.jacobian(emulator)(z[0]))
    assert (logits[0] != 0).tolist() == [True, False, True]
    assert (logits[1] != 0).tolist() == [True, True, False]
    assert (told[0] != 0).any(axis=0).tolist() == [True, False, True]
    # with everything wired to everything, chance is seen, too
    whole = np.asarray(jax.jacobian(train(made, [0, 1, 2], how))(z[0])[0])
    assert (whole != 0).all()


def test_training_sees_what_the_networks_say():
    """Outputs of all simulations at once, arm by arm, are those of each alone."""
    rng = np.random.default_rng(3)
    wired = Wiring(rng.random((4, 6)) < 0.6, np.array([0, 2, 2, 3, 0, 2, 3]))  # none of arm 1
    arm, z = wired.outputs(5), rng.standard_normal((9, 6))
    first = emulator._first(rng, wired, arm, 8, np.zeros(arm.size), np.ones(arm.size))
    weights = {name: jnp.asarray(w) for name, w in first.items()}
    told = Emulator(np.arange(6), {n: w[None] for n, w in weights.items()}, arm, 5, 2)
    alone = np.array([np.concatenate([np.ravel(one) for one in told(x)]) for x in z])
    wires = emulator._wires(wired, arm)
    together = emulator._forward_all(weights, jnp.asarray(z.T, dtype=jnp.float32), wires)
    np.testing.assert_allclose(together.T, alone, atol=2e-6)


def test_chains_of_networks_of_one_shape_share_what_is_compiled():
    rng = np.random.default_rng(4)
    wired = Wiring(np.ones((2, 3), bool), np.array([0, 1, 1]))
    arm = wired.outputs(2)
    one, other = (
        Emulator(
            np.arange(3),
            {
                name: jnp.asarray(w)[None]
                for name, w in emulator._first(
                    rng, wired, arm, 5, np.zeros(arm.size), np.ones(arm.size)
                ).items()
            },
            arm, 2, 1,
        )
        for _ in range(2)
    )  # fmt: skip
    assert one.shape == other.shape
    z = rng.standard_normal(3)
    assert not np.allclose(one(z)[0], other(z)[0])
    np.testing.assert_array_equal(one.with_weights(other.weights)(z)[0], other(z)[0])
