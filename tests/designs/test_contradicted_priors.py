"""Posteriors where data contradict the prior, against Gauss-Legendre panels around the posterior.

The reference finds the posterior on a grid of 40 prior standard deviations on each side and sums
over panels there, the tails from the limit on. Its nodes share nothing with the package's grids.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_expit, logit

from pkpd.designs import BLRM, CRM, OverdoseControl, Pending, TiteCRM, TrialData, Trials
from pkpd.designs.rules.posterior import Line

NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)
AMOUNTS = (1, 5, 10, 20, 40)
SKELETON = np.array([0.05, 0.12, 0.2, 0.3, 0.4])
LIMIT = 0.33


def panels(low, high, count):
    """Nodes and weights along the last axis, between ends of any shape."""
    low, high = (np.asarray(end, float)[..., None, None] for end in (low, high))
    width = (high - low) / count
    nodes = low + width * (np.arange(count)[:, None] + (NODES + 1) / 2)
    weights = np.broadcast_to(width / 2 * WEIGHTS, nodes.shape)
    return (part.reshape(*part.shape[:-2], -1) for part in (nodes, weights))


def log_likelihood(yes, no, data):
    """Of risks whose logarithms are given by level first."""
    found = 0.0
    waiting = np.bincount([one.level for one in data.pending], minlength=len(data.treated) + 1)
    for j, (n, y) in enumerate(zip(data.treated, data.dlts, strict=True)):
        found = found + y * yes[j] + (n - waiting[j + 1] - y) * no[j]
    for one in data.pending:
        j, q = one.level - 1, one.fraction
        if q is None:
            found = found + np.log1p(-one.weight * np.exp(yes[j]))
        else:
            found = found + q * yes[j] + (1 - q) * no[j]
    return found


def support(log_density, line):
    """Ends of the values whose density is not negligible."""
    keep = np.flatnonzero(log_density > log_density.max() - 60)
    return line[max(keep[0] - 1, 0)], line[min(keep[-1] + 1, len(line) - 1)]


def two_parameters(x, mean, sd, correlation, data):
    """Means of the risks, probabilities of exceeding the limit, and means of the parameters."""

    def log_density(a, b):
        u, v = (a - mean[0]) / sd[0], (b - mean[1]) / sd[1]
        prior = -(u**2 - 2 * correlation * u * v + v**2) / (2 * (1 - correlation**2))
        odds = [a + np.exp(b) * one for one in x]
        yes, no = [log_expit(z) for z in odds], [log_expit(-z) for z in odds]
        return prior + log_likelihood(yes, no, data)

    lines = [m + s * np.linspace(-40, 40, 801) for m, s in zip(mean, sd, strict=True)]
    rough = log_density(lines[0][:, None], lines[1])
    ends = [support(rough.max(axis=1 - axis), lines[axis]) for axis in (0, 1)]
    (a, wa), (b, wb) = (panels(*pair, 30) for pair in ends)
    mass = np.exp(log_density(a[:, None], b) - rough.max()) * wa[:, None] * wb
    total = mass.sum()
    risks = [(mass * expit(a[:, None] + np.exp(b) * one)).sum() / total for one in x]
    above = []
    for one in x:
        cut = np.clip(logit(LIMIT) - np.exp(b) * one, *ends[0])
        a_part, wa_part = panels(cut, np.full_like(cut, ends[0][1]), 20)
        part = np.exp(log_density(a_part, b[:, None]) - rough.max()) * wa_part
        above.append((part.sum(axis=1) * wb).sum() / total)
    centre = [(mass * a[:, None]).sum() / total, (mass * b).sum() / total]
    return np.array(risks), np.array(above), np.array(centre)


def one_parameter(model, scale, data):
    """As `two_parameters`, of the CRM with intercept 3."""
    x = logit(SKELETON) - 3.0

    def logs(b):
        if model == "power":
            yes = np.log(SKELETON)[:, None] * np.exp(b)
            return yes, np.log(-np.expm1(yes))
        odds = 3.0 + x[:, None] * np.exp(b)
        return log_expit(odds), log_expit(-odds)

    def log_density(b):
        return log_likelihood(*logs(b), data) - 0.5 * (b / scale) ** 2

    line = np.linspace(-40 * scale, 40 * scale, 8001)
    top, ends = log_density(line).max(), support(log_density(line), line)
    b, w = panels(*ends, 100)
    mass = w * np.exp(log_density(b) - top)
    turn = (logit(LIMIT) - 3.0) / x if model == "logistic" else np.log(LIMIT) / np.log(SKELETON)
    above = []
    for cut in np.clip(np.log(turn), *ends):  # the risk falls with b
        b_part, w_part = panels(ends[0], cut, 100)
        above.append((w_part * np.exp(log_density(b_part) - top)).sum() / mass.sum())
    return (mass * np.exp(logs(b)[0])).sum(axis=1) / mass.sum(), np.array(above)


def agree(design, data, wanted):
    """Means and tails to 1e-6, ten times what is claimed."""
    found = design.posterior(data, "risks")[0], design.posterior(data, "over")[0]
    for mine, theirs in zip(found, wanted, strict=False):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert design.exceeds(data, 2, LIMIT)[0] == pytest.approx(wanted[1][1], abs=1e-6)


def blrm(mean, sd, correlation=0.0, amounts=AMOUNTS, reference=10.0):
    """With overdose control at the limit."""
    return BLRM(
        levels=len(amounts),
        amounts=amounts,
        reference=reference,
        prior_mean=mean,
        prior_sd=sd,
        prior_correlation=correlation,
        interval=(0.16, LIMIT),
    )


WAITS = (Pending(1, 0.3), Pending(3, -1e6), Pending(2, -2.5), Pending(4, fraction=0.7))
STEEP = blrm((-3.0, 0.0), (0.5, 0.5), 0.0, (10, 20, 40), 20.0)
CASES = {
    "all": (STEEP, TrialData((18, 0, 0), (18, 0, 0), 1)),
    "all of three doses": (
        blrm((-2.0, 0.0), (0.4, 0.2)),
        TrialData((6, 6, 6, 0, 0), (6, 6, 6, 0, 0), 3),
    ),
    "none": (blrm((2.15, 0.52), (0.84, 0.8), 0.2), TrialData((30,) * 5, (0,) * 5, 5)),
    "falling": (blrm((-2.0, 0.0), (0.4, 0.2), -0.5), TrialData((9,) * 5, (9, 7, 4, 1, 0), 5)),
    "pending": (
        blrm((-3.5, 0.3), (0.5, 0.4), 0.3),
        TrialData((7, 7, 3, 1, 0), (6, 6, 2, 0, 0), 3, WAITS),
    ),
    "far": (blrm((-7.0, -0.5), (0.3, 0.2)), TrialData((60,) * 5, (60,) * 5, 5)),
    "nothing": (blrm((-0.847, 0.0), (2.0, 1.0)), TrialData((0,) * 5, (0,) * 5)),
    "as expected": (
        blrm((-0.847, 0.0), (2.0, 1.0)),
        TrialData((3, 3, 6, 3, 0), (0, 0, 1, 2, 0), 3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_two_parameters(name):
    design, data = CASES[name]
    x = np.log(np.array(design.amounts) / design.reference)
    prior = design.prior_mean, design.prior_sd, design.prior_correlation
    wanted = two_parameters(x, *prior, data)
    agree(design, data, wanted)
    np.testing.assert_allclose(design.moments(data)[0][0], wanted[2], atol=1e-5)


def test_means_that_the_grid_around_the_prior_had_wrong():
    printed = {  # it had .311 .376 .446, and .152 .343 .454 .569 .677
        "all": (0.378, 0.451, 0.526),
        "all of three doses": (0.166, 0.366, 0.478, 0.593, 0.698),
    }
    for name, risks in printed.items():
        design, data = CASES[name]
        np.testing.assert_allclose(design.risks(data)[0], risks, atol=6e-4)


@pytest.mark.parametrize("model", ["power", "logistic"])
@pytest.mark.parametrize("scale", [0.1, 0.25, 1.16])
def test_one_parameter(model, scale):
    control = OverdoseControl(LIMIT)
    settings = {"target": 0.3, "skeleton": tuple(SKELETON), "model": model, "scale": scale}
    design = CRM(levels=5, overdose=control, **settings)
    for dlts in ((30, 6, 0, 0, 0), (0,) * 5, (25, 0, 0, 0, 0)):
        data = TrialData((30, 6, 0, 0, 0), dlts, 1, last_cohort=(3, min(3, dlts[0])))
        agree(design, data, one_parameter(model, scale, data))
    late = TiteCRM(levels=5, overdose=control, **settings)
    data = TrialData((9, 7, 3, 1, 0), (8, 6, 2, 0, 0), 3, WAITS)
    agree(late, data, one_parameter(model, scale, data))


def test_many_trials_at_once_are_those_alone():
    design = blrm((-2.0, 0.0), (0.4, 0.2))
    rng = np.random.default_rng(3)
    treated = rng.integers(0, 13, (40, 5))
    dlts = rng.binomial(treated, rng.choice([0.0, 0.1, 0.5, 1.0], (40, 1)))
    every = [TrialData(tuple(n), tuple(y), 1) for n, y in zip(treated, dlts, strict=True)]
    again = blrm((-2.0, 0.0), (0.4, 0.2))
    alone = np.stack([again.risks(one)[0] for one in every[:8]])
    many = Trials(treated=treated, dlts=dlts, current=np.ones(40, int))
    np.testing.assert_allclose(design.risks(many)[:8], alone, atol=1e-12)


def test_a_moved_line_keeps_its_step():
    line = Line(-1.0, 0.5, 101, 6.5, 0.13)
    step = np.diff(line.values())[0]
    for move, doublings in ((1, 0), (-3, 0), (0, 1), (2, 2)):
        moved = line.values(move, doublings)
        np.testing.assert_allclose(np.diff(moved), step, rtol=1e-12)
        assert moved.mean() == pytest.approx(-1.0 + move)
        assert moved[-1] - moved[0] >= 2 * 7.5 * 0.5 * 2**doublings - 1e-9
