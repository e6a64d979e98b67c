"""Nonlinear systems on event tables, against DOP853 restarted at every event."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from pkpd.data.events import EventTable
from pkpd.errors import PkpdError
from pkpd.solve.events.check import choose_solver, solve_events_checked
from pkpd.solve.events.nodes import record_states
from pkpd.solve.events.ode import OdeOptions, solve_events
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.population.status import LaneStatus

P = {"ka": 0.8, "Vmax": 8.0, "Km": 0.6, "V": 20.0, "kout": 0.08, "IC50": 0.7, "R0": 50.0}
SEEN = np.array([0.7, 2.0, 5.5, 9.0, 14.0, 20.0, 33.0, 47.0])


def slopes(t, y, u, p):
    """First-order absorption, saturable elimination, turnover with inhibited input."""
    c = y[1] / p["V"]
    absorbed = p["ka"] * y[0]
    return (
        -absorbed,
        absorbed - p["Vmax"] * c / (p["Km"] + c),
        p["kout"] * (p["R0"] / (1.0 + c / p["IC50"]) - y[2]),
    )


def start(p):
    return 0.0 * p["R0"], 0.0 * p["R0"], p["R0"]


MODEL = OdeSystem("saturable", ("depot", "central", "response"), tuple(P), slopes, initial=start)


def oracle(times, p, boluses=(), infusions=(), first=0.0, y0=None, after=None):
    """States [T, 3]: boluses (time, amount, state), infusions (start, end, rate, state).

    ``after`` gives other parameters by time: from (time, parameters) on.
    """
    y = np.array([0.0, 0.0, p["R0"]] if y0 is None else y0)
    edges = {first, *times, *(b[0] for b in boluses)}
    edges |= {e for i in infusions for e in i[:2] if first <= e <= max(times)}
    edges = sorted(e for e in edges if e <= max(times))
    out = {}
    for k, t in enumerate(edges):
        y = y.copy()
        for when, amount, state in boluses:
            y[state] += amount if when == t else 0.0
        out[t] = y
        if k + 1 == len(edges):
            break
        end = edges[k + 1]
        rate = np.zeros(3)
        for begin, stop, r, state in infusions:
            rate[state] += r if begin <= t and end <= stop else 0.0
        q = p if after is None or end <= after[0] else after[1]

        def f(s, x, rate=rate, q=q):
            return np.array(slopes(s, x, 0.0, q), dtype=float) + rate

        solved = solve_ivp(f, (t, end), y, method="DOP853", rtol=1e-12, atol=1e-12)
        y = solved.y[:, -1]
    return np.array([out[t] for t in times])


def table(doses, seen=SEEN, subject=1):
    """Table of one subject: doses (time, columns), then observations."""
    rows = sorted(
        [(t, 0, {"evid": 1, **c}) for t, c in doses] + [(t, 1, {}) for t in seen],
        key=lambda r: r[:2],
    )
    names = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    columns = {n: [r[2].get(n, 0) for r in rows] for n in names}
    return EventTable.from_columns([subject] * len(rows), [r[0] for r in rows], **columns)


def at_seen(events, values, **options):
    """States at the observations of a table of one subject."""
    states = np.asarray(solve_events(MODEL, events, values, options=OdeOptions(**options)))
    return states[0, events.evid[0] == 0]


def agree(found, expected, tolerance):
    scale = np.abs(expected) + 1e-2 * np.abs(expected).max(axis=0)
    assert np.all(np.abs(found - expected) <= tolerance * scale)


# The default steps start at 1/32 h and end at 0.5 h: a process of 0.8 per hour loses at most
# 2.8e-4 * 0.4^6 = 1e-6 of itself in each, so the depot is allowed ten times the rest.
SMOOTH = 1e-6

FEATURES = {
    "bolus": ([(0.0, {"amt": 100, "cmt": 1})], {}, [(0.0, 100, 0)], []),
    "into the centre": ([(0.0, {"amt": 60, "cmt": 2})], {}, [(0.0, 60, 1)], []),
    "into the response": ([(3.0, {"amt": 10, "cmt": 3})], {}, [(3.0, 10, 2)], []),
    "additional doses": (
        [(0.0, {"amt": 50, "cmt": 1, "addl": 3, "ii": 11.0})],
        {},
        [(11.0 * k, 50, 0) for k in range(4)],
        [],
    ),
    "lag and bioavailability": (
        [(0.0, {"amt": 100, "cmt": 1, "addl": 1, "ii": 24.0})],
        {"ALAG1": 1.3, "F1": 0.7},
        [(1.3, 70, 0), (25.3, 70, 0)],
        [],
    ),
    "infusion": ([(1.0, {"amt": 80, "cmt": 2, "rate": 16})], {}, [], [(1.0, 6.0, 16.0, 1)]),
    "duration": (
        [(1.0, {"amt": 80, "cmt": 2, "rate": -2})],
        {"D2": 7.3, "F2": 0.5},
        [],
        [(1.0, 8.3, 40 / 7.3, 1)],
    ),
    "rate": (
        [(1.0, {"amt": 80, "cmt": 2, "rate": -1})],
        {"R2": 9.0},
        [],
        [(1.0, 1 + 80 / 9, 9, 1)],
    ),
}


@pytest.fixture(scope="module")
def by_feature():
    """States at the observations of each feature, all solved together as subjects."""
    names = ("evid", "amt", "rate", "ii", "addl", "ss", "cmt")
    parts = [table(doses, subject=i) for i, (doses, *_) in enumerate(FEATURES.values())]
    rows = {n: np.concatenate([getattr(t, n)[0] for t in parts]) for n in ("time", *names)}
    events = EventTable.from_columns(
        np.concatenate([np.full(t.shape[1], i) for i, t in enumerate(parts)]),
        rows.pop("time"),
        **rows,
    )
    neutral = {"ALAG1": 0.0, "F1": 1.0, "F2": 1.0, "D2": 1.0, "R2": 1.0}
    values = {
        name: np.array([dosing.get(name, value) for _, dosing, *_ in FEATURES.values()])
        for name, value in neutral.items()
    }
    states = np.asarray(solve_events(MODEL, events, P | values))
    seen = (events.evid == 0) & events.valid
    return {name: states[i, seen[i]] for i, name in enumerate(FEATURES)}


@pytest.mark.parametrize("feature", FEATURES)
def test_events_against_dop853(by_feature, feature):
    _, _, boluses, infusions = FEATURES[feature]
    found = by_feature[feature]
    expected = oracle(SEEN, P, boluses, infusions)
    agree(found[:, 1:], expected[:, 1:], SMOOTH)
    agree(found[:, :1], expected[:, :1], 10 * SMOOTH)


def test_reset_returns_to_the_initial_states():
    events = table(
        [(0.0, {"amt": 100, "cmt": 1}), (12.0, {"evid": 4, "amt": 40, "cmt": 2, "rate": 20})]
    )
    found = at_seen(events, P)
    late = SEEN > 12
    expected = oracle(SEEN[~late], P, [(0.0, 100, 0)])
    agree(found[~late, 1:], expected[:, 1:], SMOOTH)
    expected = oracle(SEEN[late], P, infusions=[(12.0, 14.0, 20.0, 1)], first=12.0)
    agree(found[late, 1:], expected[:, 1:], SMOOTH)


def test_other_records_and_time_varying_parameters():
    events = table([(0.0, {"amt": 100, "cmt": 1}), (10.0, {"evid": 2})])
    later = events.time > 10.0
    values = P | {"Vmax": np.where(later, 3.0, 8.0)}
    expected = oracle(SEEN, P, [(0.0, 100, 0), (10.0, 0, 0)], after=(10.0, P | {"Vmax": 3.0}))
    agree(at_seen(events, values)[:, 1:], expected[:, 1:], SMOOTH)


STEADY = {
    "bolus": ({"amt": 60, "cmt": 1, "ii": 12.0}, {}, [(0.0, 60, 0)], []),
    "lag": ({"amt": 60, "cmt": 1, "ii": 12.0}, {"ALAG1": 2.5, "F1": 0.8}, [(2.5, 48, 0)], []),
    "infusion longer than the interval": (
        {"amt": 60, "cmt": 2, "ii": 12.0, "rate": 4},
        {},
        [],
        [(0.0, 15.0, 4.0, 1)],
    ),
}


@pytest.mark.slow
def test_steady_state_is_many_doses():
    cycles = 60  # a half-life of the response is 9 h; the slowest mode falls to e^-50
    seen = SEEN[:5]
    doses = [table([(0.0, {"ss": 1, **columns})], seen) for columns, *_ in STEADY.values()]
    names = ("time", "evid", "amt", "rate", "ii", "ss", "cmt")
    rows = {n: np.concatenate([getattr(t, n)[0] for t in doses]) for n in names}
    events = EventTable.from_columns(np.repeat(np.arange(3), 6), rows.pop("time"), **rows)
    dosing = {
        name: np.array([given_.get(name, value) for _, given_, *_ in STEADY.values()])
        for name, value in {"ALAG1": 0.0, "F1": 1.0}.items()
    }
    states = np.asarray(solve_events(MODEL, events, P | dosing))
    moved = np.arange(-cycles, 1) * 12.0
    for found, (_, _, boluses, infusions) in zip(states, STEADY.values(), strict=True):
        expected = oracle(
            [float(m) for m in moved[1:]] + list(seen),
            P,
            [(t + m, a, s) for t, a, s in boluses for m in moved],
            [(a + m, b + m, r, s) for a, b, r, s in infusions for m in moved],
            -cycles * 12.0,
        )[-len(seen) :]
        agree(found[1:, 1:], expected[:, 1:], SMOOTH)


@pytest.mark.long
def test_constant_infusion_added_steady_state_and_none_at_all():
    events = EventTable.from_columns(
        [1, 1, 2, 2, 2, 3, 3],
        np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        evid=[1, 0, 1, 1, 0, 1, 0],
        amt=[0, 0, 10, 0, 0, 0, 0],
        cmt=[2, 0, 3, 2, 0, 2, 0],
        ss=[1, 0, 0, 2, 0, 1, 0],
        rate=[4, 0, 0, 4, 0, 12, 0],  # Vmax is 8
    )
    central = P["V"] * P["Km"] * 4.0 / (P["Vmax"] - 4.0)  # input equals elimination
    response = P["R0"] / (1.0 + central / P["V"] / P["IC50"])
    solution = solve_events_checked(MODEL, events, P)
    states = solution.states[[0, 1], [1, 2]]
    # what SS = 2 adds is the deviation from the initial states
    expected = [[0.0, central, response], [0.0, central, response + 10.0]]
    np.testing.assert_allclose(states, expected, rtol=1e-7, atol=1e-9)
    assert solution.code.tolist() == [0, 0, LaneStatus.EXPLODED]
    assert "subject 3: no steady state was found" in solution.detail[2]


@pytest.mark.slow
def test_derivatives_against_differences_of_dop853():
    """Lag, bioavailability, duration, rate, right side and initial state, by the oracle."""
    events = table(
        [
            (0.0, {"amt": 100, "cmt": 1}),
            (8.0, {"amt": 40, "cmt": 2, "rate": -2}),
            (24.0, {"amt": 30, "cmt": 2, "rate": -1}),
        ]
    )
    values = P | {"ALAG1": 0.6, "F1": 0.9, "D2": 3.7, "R2": 6.5}
    weight = np.linspace(0.5, 1.5, SEEN.size)[:, None] * [0.1, 1.0, 0.7]

    def by_oracle(v):
        boluses = [(v["ALAG1"], 100 * v["F1"], 0)]
        infusions = [
            (8.0, 8.0 + v["D2"], 40 / v["D2"], 1),
            (24.0, 24.0 + 30 / v["R2"], v["R2"], 1),
        ]
        return np.sum(weight * oracle(SEEN, v, boluses, infusions))

    def total(v):
        states = solve_events(MODEL, events, v, options=OdeOptions(max_step_h=0.25))
        return jnp.sum(jnp.asarray(weight) * states[0, np.flatnonzero(events.evid[0] == 0)])

    found = jax.grad(total)({k: jnp.asarray(v) for k, v in values.items()})
    for name, value in values.items():
        step = 1e-5 * value
        up, down = (by_oracle(values | {name: value + s}) for s in (step, -step))
        # differences lose 1e-12 * 500 / step
        expected = (up - down) / (2 * step)
        assert float(found[name]) == pytest.approx(expected, rel=2e-5, abs=1e-4), name


@pytest.mark.long
def test_forward_mode_gives_the_same():
    events = table([(0.0, {"amt": 100, "cmt": 1, "addl": 1, "ii": 12.0})], SEEN[:4])
    values = {k: jnp.asarray(v) for k, v in (P | {"ALAG1": 0.6}).items()}

    def total(v):
        return jnp.sum(solve_events(MODEL, events, v))

    forward, back = jax.jacfwd(total)(values), jax.grad(total)(values)
    for name in values:
        assert float(forward[name]) == pytest.approx(float(back[name]), rel=1e-9, abs=1e-9), name


@pytest.mark.long
@pytest.mark.parametrize("states", [2, 3])
def test_stages_are_a_loop_where_states_are_more_than_two(states):
    # written out for each stage, the right side of thirteen took four times as long to compile
    written = []

    def rhs(t, y, u, p):
        written.append(t)
        return tuple(-p["k"] * each for each in y)

    table = EventTable.from_columns([1, 1], [0.0, 10.0], evid=[1, 0], amt=[100.0, 0.0])
    decay = OdeSystem("decay", ("central", "b", "c")[:states], ("k",), rhs)
    slope = jax.grad(lambda k: solve_events(decay, table, {"k": k})[0, 1, 0])(0.1)
    assert len(written) == (1 if states > 2 else 6)
    assert slope == pytest.approx(-1000.0 * np.exp(-1.0), rel=1e-6)


@pytest.mark.slow
def test_derivative_of_a_steady_state_goes_through_the_fixed_point():
    events = table([(0.0, {"ss": 1, "amt": 60, "cmt": 1, "ii": 12.0})], SEEN[:3])

    def total(values):
        return jnp.sum(solve_events(MODEL, events, values)[0, :, 1:])

    values = {k: jnp.asarray(v) for k, v in P.items()}
    found = jax.jit(jax.grad(total))(values)
    plain = jax.jit(total)
    for name, value in P.items():
        up, down = (plain(values | {name: jnp.asarray(value * (1 + s))}) for s in (1e-5, -1e-5))
        # the fixed point is found to 1e-12 or so, and the values are of the order of 100
        assert float(found[name]) == pytest.approx(
            float(up - down) / (2e-5 * value), rel=1e-5, abs=1e-4
        )


@settings(max_examples=10, deadline=None)
@given(
    st.floats(5.0, 200.0),
    st.integers(0, 4),
    st.floats(2.0, 20.0),
    st.floats(0.0, 4.0),
    st.floats(0.2, 1),
)
@pytest.mark.long
def test_additional_doses_are_written_out_doses(amount, more, interval, lag, fraction):
    values = P | {"ALAG1": lag, "F1": fraction}
    short = at_seen(table([(0.0, {"amt": amount, "cmt": 1, "addl": more, "ii": interval})]), values)
    written = [(k * interval, {"amt": amount, "cmt": 1}) for k in range(more + 1)]
    long = at_seen(table(written, SEEN), values)
    # steps are placed the same, but for records of the written doses between them; where little is
    # left, elimination is as fast as absorption and has the error of several steps
    agree(short[:, 1:], long[:, 1:], OdeOptions().tolerance)


def population(vmax):
    """Subjects with doses of 20, 40, ... mg."""
    n = len(vmax)
    time = np.concatenate([[0.0], SEEN])
    first = np.tile([True] + [False] * SEEN.size, n)
    amounts = np.repeat(20.0 * np.arange(1, n + 1), time.size)
    events = EventTable.from_columns(
        np.repeat(np.arange(n), time.size),
        np.tile(time, n),
        evid=np.where(first, 1, 0),
        amt=np.where(first, amounts, 0.0),
        cmt=np.where(first, 1, 0),
    )
    return events, P | {"Vmax": np.asarray(vmax, dtype=float)}


def test_order_of_subjects_does_not_matter():
    events, values = population([8.0, 5.0, 12.0, 9.0])
    order = [2, 0, 3, 1]
    straight = np.asarray(solve_events(MODEL, events, values))
    mixed = np.asarray(
        solve_events(MODEL, events.subset(order), values | {"Vmax": values["Vmax"][order]})
    )
    np.testing.assert_allclose(mixed, straight[order], rtol=1e-13, atol=1e-13)


def test_similar_tables_share_a_program():
    events, values = population([8.0, 5.0, 12.0])
    solve_events(MODEL, events, values)
    before = record_states._cache_size()
    other, values = population([8.0, 5.0, 12.0, 7.0])
    later = EventTable.from_columns(
        np.repeat(np.arange(4), 9),
        np.tile(np.concatenate([[0.0], SEEN + 0.01]), 4),
        evid=(other.evid.ravel()),
        amt=other.amt.ravel(),
        cmt=other.cmt.ravel(),
    )
    solve_events(MODEL, later, values)
    assert record_states._cache_size() == before


FAST = OdeSystem(
    "van der Pol",
    ("position", "speed"),
    ("mu",),
    lambda t, y, u, p: (y[1], p["mu"] * (1.0 - y[0] ** 2) * y[1] - y[0]),
    initial=lambda p: (2.0 + 0.0 * p["mu"], 0.0 * p["mu"]),
)


def still(n, times):
    return EventTable.from_columns(
        np.repeat(np.arange(n), len(times)), np.tile(np.asarray(times, dtype=float), n)
    )


@pytest.mark.slow
def test_a_stiff_subject_is_solved_again_and_the_others_stay():
    events = still(3, [0.0, 1.0, 4.0, 10.0])
    mu = np.array([0.5, 200.0, 0.8])
    options = OdeOptions(max_step_h=0.1)
    solution = solve_events_checked(FAST, events, {"mu": mu}, options=options)
    assert solution.code.tolist() == [0, LaneStatus.SOLVED_AGAIN, 0]
    assert list(solution.detail) == [1]
    assert "subject 1: fixed steps of 0.1 h" in solution.detail[1]
    traced = np.asarray(solve_events(FAST, events, {"mu": mu}, options=options))
    np.testing.assert_array_equal(solution.states[[0, 2]], traced[[0, 2]])
    for b, m in enumerate(mu):
        exact = solve_ivp(
            lambda t, y, m=m: [y[1], m * (1 - y[0] ** 2) * y[1] - y[0]],
            (0, 10),
            [2.0, 0.0],
            method="Radau",
            rtol=1e-10,
            atol=1e-12,
            t_eval=[1.0, 4.0, 10.0],
        ).y.T
        # the tolerance of the subjects that were not solved again
        np.testing.assert_allclose(solution.states[b, 1:], exact, rtol=1e-5, atol=1e-5)


# dy/dt = k y^2 from 1 is infinite at 1/k
RUNAWAY = OdeSystem(
    "runaway",
    ("y",),
    ("k",),
    lambda t, y, u, p: (p["k"] * y[0] ** 2,),
    lambda p: (1.0 + 0 * p["k"],),
)
RUNS = np.array([0.1, 0.4, 0.2])


@pytest.mark.slow
def test_an_exploding_subject_is_explained():
    events = still(3, [0.0, 1.0, 2.0, 3.0])
    solution = solve_events_checked(RUNAWAY, events, {"k": RUNS})
    assert solution.code.tolist() == [0, LaneStatus.EXPLODED, 0]
    assert "subject 1: y is not finite from 3 h on" in solution.detail[1]


@pytest.mark.slow
def test_an_exploding_subject_does_not_touch_the_derivatives_of_the_others():
    events, k = still(3, [0.0, 1.0, 2.0, 3.0]), RUNS

    def total(scale):
        states = solve_events(RUNAWAY, events, {"k": scale * k})
        return jnp.sum(jnp.where(jnp.isfinite(states), states, 0.0))

    def exact(scale):
        return sum(np.sum(1.0 / (1.0 - scale * each * np.arange(4))) for each in k[[0, 2]])

    # only the finite subjects, and those exactly; the lost one adds nothing
    found = jax.grad(total)(1.0)
    assert np.isfinite(found)
    expected = (exact(1 + 1e-6) - exact(1 - 1e-6)) / 2e-6
    assert found == pytest.approx(expected, rel=1e-5)


def test_step_is_chosen():
    events, _ = population([8.0, 5.0])
    options, words = choose_solver(MODEL, events, P)
    assert options.solver == "fixed"
    assert "fixed steps" in words
    solution = solve_events_checked(MODEL, events, P, options=options)
    assert np.all(solution.error < 1e-6)
    exact = oracle(SEEN, P, [(0.0, 20, 0)])
    agree(solution.states[0, 1:], exact, 1e-5)


def test_errors_of_steps_that_an_event_ends_early_are_seen():
    """An infusion of 2 h is one step whether steps are 32 h long or 16."""
    events = EventTable.from_columns(
        [1, 1], [0.0, 2.0], evid=[1, 0], amt=[200.0, 0.0], rate=[100.0, 0.0]
    )
    decay = OdeSystem("decay", ("central",), ("k",), lambda t, y, u, p: (-p["k"] * y[0],))
    options = OdeOptions(max_step_h=32.0, first_step_h=32.0, tolerance=1.0)
    solution = solve_events_checked(decay, events, {"k": 0.8}, options=options)
    wrong = abs(solution.states[0, 1, 0] / (100.0 / 0.8 * -np.expm1(-1.6)) - 1.0)
    assert 1e-3 < wrong < 1e-1
    assert 0.5 * wrong < solution.error[0] < 1.5 * wrong


@pytest.mark.long
def test_equations_for_which_no_steps_will_do_are_told():
    options, words = choose_solver(FAST, still(1, [0.0, 2000.0]), {"mu": 2000.0})
    assert options.solver == "diffrax-stiff"
    assert "van der Pol: no fixed steps" in words


@pytest.mark.long  # test_event_stiff holds implicit steps against a tight solution
@pytest.mark.parametrize("solver", ["diffrax", "diffrax-stiff"])
def test_adaptive_solvers_and_their_derivatives(solver):
    events = table([(0.0, {"amt": 100, "cmt": 1}), (12.0, {"evid": 4, "amt": 50, "cmt": 2})])
    values = {k: jnp.asarray(v) for k, v in (P | {"ALAG1": 0.4}).items()}

    def total(v, chosen):
        return jnp.sum(solve_events(MODEL, events, v, options=OdeOptions(solver=chosen)))

    one, other = (jax.value_and_grad(total)(values, s) for s in (solver, "fixed"))
    assert float(one[0]) == pytest.approx(float(other[0]), rel=1e-6)
    for name in values:
        assert float(one[1][name]) == pytest.approx(float(other[1][name]), rel=2e-5, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max_step_h": 0.0}, "max_step_h"), ({"solver": "euler"}, "'euler'")],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(PkpdError, match=words):
        OdeOptions(**options)
