"""One suite over both engines: exactness, laws, derivatives, and that the engines agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from population_cases import STRUCTURE, TYPICAL, nested, parameters, schedules, times
from scipy.integrate import solve_ivp

from benchmarks.performance import workloads
from pkpd.errors import PkpdError
from pkpd.kinetics.linear import Disposition
from pkpd.marrow.effects import EmaxEffect, LinearEffect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.solve.compiled.family import compile_plan
from pkpd.solve.compiled.marrow import SATURATION, SATURATION_REST
from pkpd.solve.compiled.run import pull, solve_taped, vector_jacobian
from pkpd.solve.compiled.tapes import MOST, Tapes
from pkpd.solve.grid.grid import Doses
from pkpd.solve.grid.structure import Drug, Line, PopulationStructure
from pkpd.solve.population.problem import prepare

ENGINES = ("compiled", "scan")
SLOW = pytest.param("compiled", marks=pytest.mark.slow)
LONG = pytest.param("scan", marks=pytest.mark.long)  # it agrees with the compiled one to 1e-10
LANES = 5
SCHEDULE = np.array([0, 1, 2, 1, 0])


SATURATING = replace(
    STRUCTURE,
    lines=tuple(
        replace(line, marrow=replace(line.marrow, saturation=a))
        for line, a in zip(STRUCTURE.lines, (1.0 / 3.0, 0.001), strict=True)
    ),
)


def problem(engine: str, structure: PopulationStructure = STRUCTURE, **options):
    return prepare(structure, schedules(), times(), schedule=SCHEDULE, engine=engine, **options)


@pytest.mark.parametrize("engine", [SLOW, LONG])
def test_counts_match_a_tight_solution_of_the_full_equations(engine):
    work = workloads.workload("W1").first(6)
    exact = workloads.reference(work)
    found = prepare(work.structure, work.doses, work.times_h, engine=engine)
    counts = np.exp(found.log_counts(work.theta)[0])
    # 1e-5 is what the engine promises at its default step; DOP853 ran at 1e-12
    assert np.max(np.abs(counts / exact - 1.0)) < 1e-5


@pytest.mark.slow
def test_oral_doses_match_a_tight_solution():
    work = workloads.workload("W2").first(2)
    days = np.arange(33)
    work = replace(work, times_h=24.0 * days)
    exact = workloads.reference(work)
    found = prepare(work.structure, work.doses, work.times_h)
    assert np.max(np.abs(np.exp(found.log_counts(work.theta)[0]) / exact - 1.0)) < 1e-5


def test_error_falls_with_the_step():
    work = workloads.workload("W2").first(16)

    def counts(step):
        found = prepare(work.structure, work.doses, work.times_h, max_step_h=step)
        return found.log_counts(work.theta)

    exact = counts(0.25)
    errors = [np.max(np.abs(counts(h) - exact)) for h in (4.0, 2.0, 1.0)]
    # the oral peak makes it fall with about the third power of the step
    assert errors[0] < 1e-5
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 5


def corners() -> np.ndarray:
    """Ordinary lanes, one of slow absorption, one of equal rates, one without distribution."""
    theta, row = parameters(LANES), STRUCTURE.row
    elimination = theta[row[("pk", "oral", "CL")]] / theta[row[("pk", "oral", "V1")]]
    theta[row[("pk", "oral", "KTR")], 1] = 0.3 * elimination[1]
    theta[row[("pk", "oral", "KTR")], 2] = elimination[2]
    theta[row[("pk", "infused", "Q")], 3] = 0.0
    return theta


@pytest.mark.long  # that likelihoods agree is quick
@pytest.mark.parametrize(
    ("structure", "theta"),
    [
        (STRUCTURE, parameters(LANES)),
        (STRUCTURE, corners()),
        (SATURATING, parameters(LANES)),
    ],
    ids=["ordinary", "corners", "saturating"],
)
def test_engines_agree_in_value_and_gradient(structure, theta):
    one, other = (problem(engine, structure) for engine in ENGINES)
    a, b = one.log_counts(theta), other.log_counts(theta)
    missing = one.missing(LANES)
    assert missing.sum() == 1
    assert np.isnan(a[:, missing]).all()
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    cotangent = np.where(missing, 0.0, np.random.default_rng(3).standard_normal(a.shape))

    def gradient(p):
        return jax.grad(lambda t: jnp.sum(jnp.where(missing, 0.0, p.log_counts(t)) * cotangent))(
            jnp.asarray(theta)
        )

    gradient_a, gradient_b = gradient(one), gradient(other)
    scale = np.abs(gradient_b).max(axis=1, keepdims=True)
    assert (scale > 0).all()
    assert np.max(np.abs(gradient_a - gradient_b) / scale) < 1e-10


def test_rates_that_are_fast_are_those_of_either_engine():
    """A site that is at once in balance with the plasma."""
    theta = parameters(LANES)
    rows = [STRUCTURE.row["pk", "infused", name] for name in ("k_in", "k_out")]
    theta[rows] *= 1e5 / theta[rows[1]]
    one, other = (problem(engine).log_counts(theta) for engine in ENGINES)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    theta[rows] /= 100.0
    np.testing.assert_allclose(one, problem("compiled").log_counts(theta), rtol=0, atol=1e-3)
    # beyond what the series reaches a lane has no count, and the others have theirs
    theta[rows, 0] *= 2e7 / theta[rows[1], 0]
    for engine in ENGINES:
        found = problem(engine).log_counts(theta)
        assert np.isnan(found[:, 0, 1:]).all()
        np.testing.assert_allclose(found[:, 1:], one[:, 1:], rtol=0, atol=1e-3)


def test_likelihoods_of_the_engines_agree():
    theta = parameters(LANES)
    one, other = (problem(engine) for engine in ENGINES)
    missing = one.missing(LANES)
    observed = np.where(missing, 0.0, one.log_counts(theta) + 0.2)
    weight = np.where(missing, 0.0, 3.0) * np.ones_like(observed)
    a, b = (p.log_likelihood(theta, observed, weight) for p in (one, other))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    used = (~missing).sum(axis=1) * 2
    expected = 0.5 * used * (np.log(3.0 / (2 * np.pi)) - 3.0 * 0.04)
    np.testing.assert_allclose(a, expected, rtol=1e-12)


@pytest.mark.parametrize("name", [" ".join(n) for n in STRUCTURE.layout])
def test_gradient_matches_differences(name):
    row = [" ".join(n) for n in STRUCTURE.layout].index(name)
    found, theta = problem("compiled"), parameters(LANES)
    missing = found.missing(LANES)
    shape = (2, LANES, missing.shape[1])
    observed = np.ones(shape)
    weight = np.where(missing, 0.0, 1.0) * np.ones(shape)
    _, gradient = found.value_and_gradient(theta, observed, weight)
    step = 1e-5 * theta[row]
    ends = []
    for sign in (1.0, -1.0):
        moved = theta.copy()
        moved[row] += sign * step
        ends.append(found.value_and_gradient(moved, observed, weight)[0])
    slope = (ends[0] - ends[1]) / (2 * step)
    # central differences with a relative step of 1e-5 hold about seven digits
    np.testing.assert_allclose(gradient[row], slope, rtol=2e-6, atol=1e-7 * np.abs(slope).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_no_dose_keeps_the_baseline(engine):
    theta = parameters(LANES)
    row = STRUCTURE.row
    for line in ("neutrophils", "platelets"):
        theta[row[("marrow", line, "baseline")]] = theta[row[("marrow", line, "set_point")]]
    empty = Doses.of([[(0.0, 0.0, 0.0, 0)]] * 3)
    found = prepare(STRUCTURE, empty, times(), schedule=SCHEDULE, engine=engine)
    counts = found.log_counts(theta)
    for i, line in enumerate(("neutrophils", "platelets")):
        level = np.log(theta[row[("marrow", line, "set_point")]])[:, None]
        assert np.nanmax(np.abs(counts[i] - level)) < 1e-12


def test_half_the_bioavailability_of_twice_the_dose_is_the_same():
    theta = parameters(LANES)
    doses = schedules()
    twice = theta.copy()
    for drug in STRUCTURE.drugs:
        twice[STRUCTURE.row[("pk", drug.name, "F")]] /= 2.0
    more = replace(doses, amount=2.0 * doses.amount)
    a = problem("compiled").log_counts(theta)
    b = prepare(STRUCTURE, more, times(), schedule=SCHEDULE).log_counts(twice)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_a_split_infusion_is_the_whole_infusion():
    theta = parameters(1)
    asked = [100.0, 200.0]
    whole = Doses.of([[(10.0, 12.0, 3.0, 0)]])
    split = Doses.of([[(10.0, 4.0, 1.0, 0), (11.0, 8.0, 2.0, 0)]])
    a, b = (prepare(STRUCTURE, d, asked).log_counts(theta) for d in (whole, split))
    # the cells differ, so the time stepping does: both are within the promise of the step
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_doses_in_another_order_and_at_the_same_time_add():
    theta = parameters(1)
    asked = [100.0, 200.0]
    one = Doses.of([[(30.0, 9.0, 0.0, 1), (5.0, 3.0, 1.0, 0)]])
    two = Doses.of([[(5.0, 3.0, 1.0, 0), (30.0, 4.0, 0.0, 1), (30.0, 5.0, 0.0, 1)]])
    a, b = (prepare(STRUCTURE, d, asked).log_counts(theta) for d in (one, two))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("lanes", [1, 3, 16, 37])
def test_a_lane_does_not_feel_its_neighbours(lanes):
    theta = parameters(40)[:, :lanes]
    doses = Doses.of([[(24.0 * d, 9.0, 1.0, 0) for d in range(3)]])
    found = prepare(STRUCTURE, doses, [48.0, 200.0])
    together = found.log_counts(theta)
    order = np.random.default_rng(0).permutation(lanes)
    shuffled = found.log_counts(theta[:, order])
    alone = np.concatenate([found.log_counts(theta[:, [i]]) for i in range(lanes)], axis=1)
    # the length of a series is set by its block, hence equality to rounding
    np.testing.assert_allclose(shuffled, together[:, order], rtol=0, atol=1e-12)
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)


def test_threads_do_not_change_the_result_and_may_be_many():
    theta = parameters(70)
    doses = Doses.of([[(24.0 * d, 9.0, 1.0, 0) for d in range(3)]])
    one = prepare(STRUCTURE, doses, [48.0, 200.0], threads=1)
    two = replace(one, threads=2)
    expected = one.log_counts(theta)
    np.testing.assert_array_equal(two.log_counts(theta), expected)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(two.log_counts, theta) for _ in range(8)]:
            np.testing.assert_array_equal(done.result(), expected)


def test_derivatives_from_several_threads_at_once():
    found, theta = problem("compiled"), parameters(LANES)
    weight = jnp.asarray(~found.missing(LANES))

    @jax.jit
    def both(t):
        return jax.value_and_grad(
            lambda x: jnp.sum(jnp.where(weight, found.log_counts(x), 0.0) ** 2)
        )(t)

    points = [jnp.asarray(theta * (1.0 + 0.01 * i)) for i in range(6)]
    expected = [jax.device_get(both(point)) for point in points]
    with ThreadPoolExecutor(6) as pool:
        # each thread asks for a value and then for its derivative, while the others do the same
        for _ in range(4):
            for got, (value, slope) in zip(pool.map(both, points), expected, strict=True):
                np.testing.assert_array_equal(got[0], value)
                np.testing.assert_allclose(got[1], slope, rtol=1e-12, atol=1e-12)


def test_a_tape_gives_the_derivative_that_a_new_solution_gives():
    found, theta = problem("compiled"), parameters(LANES)
    bar = np.where(found.missing(LANES), 0.0, np.random.default_rng(1).standard_normal((2, 5, 8)))
    schedule = found.schedule_of(LANES)
    counts, _, tape = solve_taped(found.plan, found.grid, schedule, theta)
    np.testing.assert_array_equal(counts, found.log_counts(theta))
    again, expected = vector_jacobian(found.plan, found.grid, schedule, theta, bar)
    np.testing.assert_array_equal(again, counts)
    for _ in range(2):  # reading a tape does not change it
        np.testing.assert_allclose(pull(tape, bar), expected, rtol=1e-12, atol=1e-14)


def test_tapes_are_found_by_their_parameters_and_bounded():
    found, theta = problem("compiled"), parameters(LANES)
    tapes, schedule = Tapes(), found.schedule_of(LANES)
    for i in range(MOST + 2):
        made = solve_taped(found.plan, found.grid, schedule, theta * (1 + i), old=tapes.spare())[2]
        tapes.keep(made)
    assert tapes.take(theta, schedule) is None  # the oldest made room
    assert tapes.take(theta * (MOST + 2), 0 * schedule) is None  # of other schedules
    last = tapes.take(theta * (MOST + 2), schedule)
    assert last is made
    assert tapes.take(theta * (MOST + 2), schedule) is None
    tapes.give_back(last)
    assert tapes.spare() is last


def test_saturation_reaches_the_kernel_to_the_last_digit():
    for a in (0.0, 1e-6, 0.001, 0.1, 1.0 / 3.0, np.nextafter(1.0, 0.0)):
        line = Line("neutrophils", Friberg(saturation=a), (EmaxEffect(),))
        plan = compile_plan(PopulationStructure((Drug("a", Disposition(1)),), (line,)))
        first, rest = plan.lines[0, SATURATION].item(), plan.lines[0, SATURATION_REST].item()
        assert abs(first / 2**30 + rest / 2**60 - a) <= 2.0**-60


def test_age_classes_are_left_to_the_other_engine():
    line = Line("platelets", PlateletChain(ageing=2), (EmaxEffect(),))
    assert compile_plan(PopulationStructure((Drug("a", Disposition(1)),), (line,))) is None


@pytest.mark.parametrize("engine", ["compiled", LONG])
def test_derivatives_of_the_nodes_match_differences(engine):
    theta = jnp.asarray(parameters(LANES))
    found = prepare(STRUCTURE, schedules(), [[900.0]] * 3, schedule=SCHEDULE, engine=engine)
    row = STRUCTURE.row[("marrow", "neutrophils", "MTT")]

    @jax.jit
    def ends(scale):
        _, count, slope = found.nodes(theta.at[row].multiply(scale))
        return jnp.stack([count[0].sum(axis=1), slope[0, :, 10]])

    h = 1e-4
    differences = (ends(1.0 + h) - ends(1.0 - h)) / (2 * h)
    # second-order differences of a curve with third derivatives of order one
    np.testing.assert_allclose(jax.jacrev(ends)(1.0), differences, rtol=1e-5, atol=1e-8)


def test_compiled_counts_can_be_batched_and_jitted():
    theta = jnp.asarray(parameters(LANES))
    found = problem("compiled")
    scales = jnp.array([1.0, 1.1])
    batch = jax.jit(jax.vmap(lambda s: found.log_counts(theta * s)))(scales)
    for i, s in enumerate(scales):
        np.testing.assert_array_equal(batch[i], found.log_counts(np.asarray(theta * s)))


def test_lanes_that_are_not_asked_for_change_nothing_for_the_others():
    found, points = problem("compiled"), np.stack([parameters(LANES), 1.1 * parameters(LANES)])
    weight = np.where(found.missing(LANES), 0.0, 1.0 + np.arange(LANES)[:, None])

    def one(theta):
        return jnp.sum(jnp.where(weight > 0, weight * found.log_counts(theta), 0.0), axis=(0, 2))

    def both(theta):
        value, pull = jax.vjp(one, theta)
        return value, pull(jnp.ones(LANES))[0]

    asked = np.array([[True, False, False, True, False], [False, True, False, False, False]])
    some = jnp.where(asked[:, None, :], points, jnp.nan)
    value, slope = jax.jit(jax.vmap(both))(some)
    for i, point in enumerate(points):
        whole, its_slope = both(jnp.asarray(point))
        mine = asked[i]
        np.testing.assert_allclose(value[i][mine], whole[mine], rtol=0, atol=1e-11)
        np.testing.assert_allclose(slope[i][:, mine], its_slope[:, mine], rtol=1e-10, atol=1e-11)
        assert np.isnan(value[i][~mine]).all()
        assert not slope[i][:, ~mine].any()


@pytest.mark.slow
def test_engine_is_chosen_by_structure():
    assert problem("auto").engine(LANES) == "compiled"
    platelets = Line("platelets", PlateletChain(ageing=3), (EmaxEffect(),))
    other = PopulationStructure((Drug("a", Disposition(1)),), (platelets,))
    assert compile_plan(other) is None
    found = prepare(other, Doses.of([[]]), [24.0])
    assert found.engine(LANES) == "scan"
    theta = parameters(2, structure=other)
    # first inside a trace, then outside: nothing of the trace may be kept
    traced = jax.jit(found.log_counts)(theta)
    np.testing.assert_allclose(traced, found.log_counts(theta), rtol=1e-12)
    with pytest.raises(PkpdError, match="family of the compiled engine"):
        prepare(other, Doses.of([[]]), [24.0], engine="compiled")


@pytest.mark.slow
def test_an_accelerator_takes_large_populations():
    few = problem("compiled")
    many = replace(few, scan_from=LANES)
    assert many.engine(LANES - 1) == "compiled"
    assert many.engine(LANES) == "scan"
    theta = parameters(LANES)
    # the last digits tell the engines apart
    np.testing.assert_array_equal(many.log_counts(theta), problem("scan").log_counts(theta))
    for own, other in zip(few.nodes(theta), many.nodes(theta), strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_nested_parameters_give_the_rows():
    theta = parameters(LANES)
    np.testing.assert_array_equal(problem("compiled").theta(nested(theta)), theta)


@pytest.mark.parametrize("engine", [SLOW, LONG])
@pytest.mark.parametrize("line", ["neutrophils", "platelets"])
def test_saturating_feedback_matches_a_tight_solution_of_the_equations_in_counts(line, engine):
    a, n, extra = (0.1, 3, 0.0) if line == "neutrophils" else (0.3, 1, 0.012)
    chain = Friberg(saturation=a) if line == "neutrophils" else PlateletChain(saturation=a)
    structure = PopulationStructure(
        (Drug("a", Disposition(1)),), (Line(line, chain, (LinearEffect(),)),)
    )
    theta = np.array([[{**TYPICAL, "slope": 3.0}[name[-1]]] for name in structure.layout])
    p = {name[-1]: float(v[0]) for name, v in zip(structure.layout, theta, strict=True)}
    ktr, dose = (n + 1) / p["MTT"], 600.0

    def rates(t, y):
        driver = p["F"] * dose * p.get("per_umol", 1.0) / p["V1"] * np.exp(-p["CL"] / p["V1"] * t)
        feedback = ((1 + a) / (y[-1] / p["set_point"] + a)) ** p["gamma"]
        flow = ktr * y[:-1]
        out = np.empty_like(y)
        out[0] = flow[0] * ((1 - p["slope"] * driver) * feedback - 1)
        out[1:] = flow
        out[1:-1] -= flow[1:]
        out[-1] -= (ktr + extra) * y[-1]
        return out

    start = np.full(n + 2, (ktr + extra) / ktr * p["baseline"])
    start[-1] = p["baseline"]
    seen = np.array([24.0, 100.0, 200.0, 350.0, 600.0])
    exact = solve_ivp(
        rates, (0, 600), start, "DOP853", seen, rtol=1e-12, atol=1e-14, first_step=1e-3
    ).y[-1]
    doses = Doses.of([[(0.0, dose, 0.0, 0)]])
    found = prepare(structure, doses, seen, engine=engine, max_step_h=1.0, dose_cells="fine")
    assert exact.min() < 0.7 * p["baseline"]
    # steps of an hour; the nodes' cubic interpolation and the effect's straight line remain
    np.testing.assert_allclose(np.exp(found.log_counts(theta)[0, 0]), exact, rtol=2e-6)
