"""The best sampling times against closed forms, published designs and enumeration."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import marginal_cases as cases
import numpy as np
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.fitting.information.expected import padded
from pkpd.fitting.information.fisher import informations
from pkpd.fitting.information.groups import dataset_of
from pkpd.fitting.information.quantities import Linearised
from pkpd.fitting.information.scales import on_scale
from pkpd.fitting.model.likelihood import bind
from pkpd.models import PopulationModel, compartments, fixed, parameter, residual
from pkpd.sampling import expected_information, group, optimal_times

A, K = 10.0, 0.2
KNOWN = residual.additive(fixed(1.0))
DECAY = PopulationModel(cases.DECAY, [parameter("A", A), parameter("k", K)], KNOWN)


def curve(function, **values):
    structure = cases.Curve(function, tuple(values))
    return PopulationModel(structure, [parameter(n, v) for n, v in values.items()], KNOWN)


def decay_matrix(times, k=K):
    """Information of A and k, written out."""
    t = np.asarray(times, dtype=float)
    slopes = np.stack([np.exp(-k * t), -A * t * np.exp(-k * t)], axis=1)
    return slopes.T @ slopes


# -- closed forms ----------------------------------------------------------------------------------


def test_starts_are_as_many_where_the_given_times_are_none():
    for given, others in (([2, 4], 2), ([1, 3], 1)):  # the second is not among the candidates
        hours = [2.0, 4.0, 7.0, 12.0]
        best = optimal_times(DECAY, group(10, given, None), candidates=hours, starts=1)
        assert best.groups[0].times == (2.0, 7.0)
        assert len(best.starts) == 1 + others


@pytest.mark.long
def test_a_decay_is_seen_at_once_and_one_mean_life_later():
    """``det = A^2 exp(-2 k (t1 + t2)) (t2 - t1)^2``: the first hour, and 1 / k after it."""
    best = optimal_times(DECAY, group(10, [9, 3], None), (2, 60), starts=1)
    assert best.groups[0].times == pytest.approx([7.0, 2.0], abs=1e-4)
    det = np.linalg.det(10 * decay_matrix([2, 7]))
    assert best.criteria == pytest.approx([np.log(det)], abs=1e-8)
    given = np.linalg.det(10 * decay_matrix([9, 3]))
    assert best.efficiency == pytest.approx((given / det) ** 0.5)
    assert best.information.log_det() == pytest.approx(np.log(det))
    assert best.before.efficiency(best.information) == pytest.approx(best.efficiency)


@pytest.mark.long
def test_over_draws_the_mean_rate_tells_the_second_time():
    """The mean of ``ln det`` over rates has its maximum at the mean of the rates."""
    rates = [0.1, 0.2, 0.6]
    best = optimal_times(DECAY, group(10, [2, 3], None), (2, 60), draws={"k": rates}, starts=1)
    assert best.groups[0].times == pytest.approx([2.0, 2.0 + 1 / 0.3], abs=1e-4)
    dets = [np.linalg.det(10 * decay_matrix(best.groups[0].times, k)) for k in rates]
    assert best.criteria == pytest.approx(np.log(dets))
    ratios = [
        np.linalg.det(10 * decay_matrix([2, 3], k)) / d for k, d in zip(rates, dets, strict=True)
    ]
    assert best.efficiencies == pytest.approx(np.sqrt(ratios))
    assert "mean of 3 draws" in best.summary()


@pytest.mark.long
def test_two_groups_have_windows_of_their_own():
    groups = [group(5, [3], None, name="early"), group(20, [30], None, name="late")]
    windows = {"early": (3, 3), "late": (3, 60)}
    best = optimal_times(DECAY, groups, windows, starts=1)
    assert best.groups[0].times == (3.0,)
    assert best.groups[1].times == pytest.approx([8.0], abs=1e-4)
    expected = 5 * decay_matrix([3]) + 20 * decay_matrix([8])
    assert best.information.matrix == pytest.approx(expected, rel=1e-3)
    assert best.table()["group"].tolist() == ["early", "late"]


@pytest.mark.slow
def test_box_and_lucas_and_the_half_maximal_effect():
    """Box and Lucas 1959 (Biometrika 46:77-90), rates 0.7 and 0.2: times 1.23 and 6.86.

    An Emax curve up to C: at C and at ``C EC50 / (2 EC50 + C)`` (Bates and Watts 1988, 3.14).
    """
    two = curve(lambda t, a, b: a / (a - b) * (jnp.exp(-b * t) - jnp.exp(-a * t)), a=0.7, b=0.2)
    best = optimal_times(two, group(1, [1, 2], None), (0, 20), starts=1)
    assert best.groups[0].times == pytest.approx([1.23, 6.86], abs=5e-3)
    emax = curve(lambda t, e, c: e * t / (c + t), e=10.0, c=5.0)
    best = optimal_times(emax, group(1, [1, 2], None), (0, 20), starts=1)
    assert best.groups[0].times == pytest.approx([20 * 5 / 30, 20.0], abs=1e-4)


@pytest.mark.long
def test_samples_keep_their_distance():
    """A straight line is told by the spread of its times: 0, 10, and a third next to an end."""
    line = curve(lambda t, a, b: a + b * t, a=1.0, b=1.0)
    best = optimal_times(line, group(1, [1, 2, 3], None), (0, 10), apart=2.0, starts=2)
    times = np.array(best.groups[0].times)
    assert min(abs(times - [0, 2, 10]).max(), abs(times - [0, 8, 10]).max()) < 1e-5
    free = optimal_times(line, group(1, [1, 2, 3], None), (0, 10), starts=0)
    assert sorted(set(np.round(free.groups[0].times, 6))) == [0.0, 10.0]
    assert free.criteria[0] > best.criteria[0]


@pytest.mark.long
def test_times_for_one_parameter_and_times_among_some():
    """Three samples for k alone, and three of six hours, beside every choice there is."""

    def of_k(times):
        m = decay_matrix(times)
        return np.log(m[1, 1] - m[0, 1] ** 2 / m[0, 0])

    design = group(1, [1, 4, 9], None)
    best = optimal_times(DECAY, design, (0, 30), interest=["k"], starts=2)
    grid = np.linspace(0, 30, 121)
    every = max(of_k(c) for c in itertools.combinations_with_replacement(grid, 3) if len({*c}) > 1)
    assert best.criteria[0] == pytest.approx(of_k(best.groups[0].times))
    assert every - 1e-9 <= best.criteria[0] < every + 1e-3
    assert best.summary().startswith("Ds-optimal times")
    hours = [0, 1, 2, 4, 7, 11]
    best = optimal_times(DECAY, design, candidates=hours, starts=3)
    sets = [c for c in itertools.combinations_with_replacement(hours, 3) if len(set(c)) > 1]
    top = max(np.linalg.slogdet(decay_matrix(c))[1] for c in sets)
    assert set(best.groups[0].times) <= set(hours)
    assert best.criteria[0] == pytest.approx(top)


@pytest.mark.long
def test_what_is_known_already_counts():
    """With A known from elsewhere a single sample goes where k alone is told best: at 1 / k."""
    prior = expected_information(DECAY, group(1e6, [0, 0], None))
    best = optimal_times(DECAY, group(4, [20], None), (0, 60), prior=prior, starts=1)
    assert best.groups[0].times == pytest.approx([5.0], abs=1e-3)
    own = expected_information(DECAY, best.groups)
    assert best.information.matrix == pytest.approx(own.matrix + prior.matrix)


@pytest.mark.long
def test_a_trough_is_taken_before_the_dose():
    """Repeated doses make jumps: the sample before a dose and the one after it are different."""
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 4.0), parameter("V", 20.0)],
        residual.proportional(fixed(0.1)),
    )
    design = group(10, [13, 14], {"AMT": 100, "II": 12, "ADDL": 3})
    best = optimal_times(model, design, (12, 24), starts=1)
    first, last = sorted(best.groups[0].times)
    assert first == pytest.approx(12.0, abs=1e-6)
    assert 23.99 < last < 24.0


# -- other software --------------------------------------------------------------------------------


WARFARIN = PopulationModel(
    compartments(1, absorption="first_order"),
    [
        parameter("CL", 0.15, iiv=0.07**0.5),
        parameter("V", 8.0, iiv=0.02**0.5),
        parameter("ka", 1.0, iiv=0.6**0.5),
    ],
    residual.combined(0.5, 0.1),
)
EIGHT = group(32, [0.5, 1, 2, 6, 24, 36, 72, 120], {"AMT": 70})


@pytest.mark.long  # test_sampling_designs: PopED's criterion there
def test_warfarin_is_sampled_where_poped_samples():
    """PopED 0.3.2 printed ln det 56.7172 at 0.659, four times 5.77 and three times about 102 h."""
    best = optimal_times(WARFARIN, EIGHT, (0, 120), scale="variance", starts=2)
    times = best.groups[0].times
    assert times[:5] == pytest.approx([0.659, 5.771, 5.771, 5.771, 5.771], abs=2e-3)
    assert times[5:] == pytest.approx([102] * 3, abs=0.3)
    assert 56.71715 < best.criteria[0] < 56.7175
    assert best.efficiency == pytest.approx(np.exp((55.39645 - 56.7172) / 8), abs=1e-4)
    assert exchanges(times, np.linspace(0, 120, 481)) < 1e-6
    apart = optimal_times(WARFARIN, EIGHT, (0, 120), scale="variance", apart=0.5, starts=0)
    assert np.diff(sorted(apart.groups[0].times)).min() > 0.5 - 1e-6
    assert 56.70 < apart.criteria[0] < best.criteria[0]


def exchanges(times, hours):
    """Largest gain of ``ln det`` when one sample goes to another hour."""
    data, places = dataset_of(WARFARIN, [EIGHT], [[*times, *hours]])
    linearised = Linearised(bind(WARFARIN, data))
    free = linearised.free
    rows = places[0][:, 0]
    own = rows[: len(times)]
    some = [own]
    for k, hour in itertools.product(range(len(own)), rows[len(times) :]):
        some.append(np.array([*own[:k], hour, *own[k + 1 :]]))
    table, valid = padded(some)
    means = np.isin(np.arange(len(free.names)), linearised.located)
    found = informations(linearised.at(free.start()), table, valid, means, False)
    values = np.linalg.slogdet(32 * np.asarray(found))[1]
    whole = on_scale(free, free.start(), 32 * np.asarray(found[0]), "variance")[2]
    assert np.linalg.slogdet(whole)[1] == pytest.approx(56.71721, abs=1e-4)
    return np.nanmax(values[1:]) - values[0]


@pytest.mark.long
def test_times_over_the_uncertainty_of_a_fit():
    rows = dataset_of(DECAY, [group(1, [0, 2, 5, 9], None, name=str(k)) for k in range(6)])[0]
    fit = pkpd.fit(DECAY, pkpd.models.simulate_data(DECAY, rows), method="fo")
    best = optimal_times(fit, group(10, [1, 2], None), (0, 60), draws=20, starts=0)
    assert len(best.criteria) == 20
    assert best.groups[0].times[1] == pytest.approx(1 / fit.estimates["k"], rel=0.2)
    assert np.all(best.efficiencies < 1.0)


# -- bad input -------------------------------------------------------------------------------------


ONE = group(5, [1, 2, 3], None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "optimal times: no window is given"),
        ({"windows": (5, 1)}, r"windows of group: \(5, 1\); allowed: hours from 0 on, the earlier"),
        ({"windows": "day"}, "windows of group: 'day'; allowed: numbers, in hours"),
        ({"windows": [(0, 1)] * 2}, "allowed: one pair of hours, or one for each of 3 samples"),
        ({"windows": {"groop": (0, 1)}}, r"'groop' is no group \(did you mean 'group'\?\)"),
        ({"windows": (0, 10), "apart": 6}, "3 samples 6 h apart do not fit into their windows"),
        ({"windows": (0, 10), "apart": -1}, "optimal times, apart: -1; allowed: hours from 0 on"),
        ({"candidates": [-1, 2]}, r"optimal times, candidates: \[-1, 2\]; allowed: hours from 0"),
        ({"candidates": [1, 2], "apart": 1}, "3 samples 1 h apart do not fit"),
        ({"windows": (0, 9), "draws": 5}, "draws: 5 draws are asked of a model, which has one"),
        ({"windows": (0, 9), "draws": {"K": [1]}}, r"'K' is not estimated \(did you mean 'k'\?\)"),
        (
            {"windows": (0, 9), "draws": {"k": [0.1, 0.2], "A": [1]}},
            "draws: the parameters have 1 and 2 values; allowed: as many values of each",
        ),
        ({"windows": (0, 9), "interest": ["B"]}, "interest: 'B' is not among the estimated"),
        ({"windows": (0, 9), "starts": -1}, "optimal_times, starts: -1"),
        ({"windows": (3, 3)}, "optimal times: no times in these windows tell A, k"),
    ],
)
def test_bad_input_gets_one_sentence(given, words):
    with pytest.raises(PkpdError, match=words) as caught:
        optimal_times(DECAY, ONE, **given)
    assert "\n" not in str(caught.value)


def test_fewer_samples_than_parameters_are_refused():
    with pytest.raises(PkpdError, match="optimal times: 1 samples for 2 parameters"):
        optimal_times(DECAY, group(1, [1], None), (0, 9))
