"""Probabilities that a risk exceeds a limit, against adaptive quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit

from pkpd.designs import CRM, TrialData
from pkpd.designs.rules.posterior import below

SKELETON = np.array([0.05, 0.12, 0.2, 0.3, 0.4])


def reference(model, treated, dlts, level, limit, sd, intercept=3.0):
    """Posterior probability by quadrature between the limit and the ends of the prior."""
    x = logit(SKELETON) - intercept

    def risks(b):
        return SKELETON ** np.exp(b) if model == "power" else expit(intercept + np.exp(b) * x)

    def log_density(b):
        p = np.clip(risks(b), 1e-300, 1 - 1e-16)
        return dlts @ np.log(p) + (treated - dlts) @ np.log1p(-p) - 0.5 * (b / sd) ** 2

    line = np.linspace(-8 * sd, 8 * sd, 20_001)
    values = np.array([log_density(b) for b in line])
    top = line[values.argmax()]

    def density(b):
        return np.exp(log_density(b) - values.max())

    turn = (
        np.log(np.log(limit) / np.log(SKELETON[level - 1]))
        if model == "power"
        else np.log((logit(limit) - intercept) / x[level - 1])
    )
    ends = -8 * sd, 8 * sd

    def mass(low, high):
        inside = [p for p in (top - 0.3, top, top + 0.3) if low < p < high]
        return quad(density, low, high, points=inside or None, limit=400, epsabs=1e-13)[0]

    return mass(ends[0], turn) / mass(*ends)  # the risk falls with b


@pytest.mark.parametrize("model", ["power", "logistic"])
@pytest.mark.parametrize(
    ("treated", "dlts"),
    [
        ((9, 6, 0, 0, 0), (3, 6, 0, 0, 0)),
        ((12, 6, 0, 0, 0), (4, 5, 0, 0, 0)),
        ((3, 3, 0, 0, 0), (2, 2, 0, 0, 0)),
        ((8, 7, 10, 6, 0), (2, 1, 3, 2, 0)),
        ((0, 0, 0, 30, 30), (0, 0, 0, 9, 12)),
    ],
)
def test_a_tail_of_a_narrow_posterior_has_six_digits(model, treated, dlts):
    design = CRM(levels=5, target=0.3, skeleton=tuple(SKELETON), model=model)
    sd = float(np.sqrt(-0.5 / design.curves.log_prior[0])) * abs(design.curves.axes[0][0])
    for level, limit in ((1, 0.3), (2, 0.25), (4, 0.4)):
        data = TrialData(treated, dlts, current=2)
        wanted = reference(model, np.array(treated), np.array(dlts), level, limit, sd)
        assert design.exceeds(data, level, limit)[0] == pytest.approx(wanted, abs=2e-6)


def test_weights_below_an_end_integrate_polynomials_and_keep_what_is_whole():
    axis = np.linspace(-3.0, 3.0, 61)
    ends = np.array([-np.inf, -3.0, -0.337, 1.25, 2.0, 3.0, np.inf])
    found = below(axis, ends)
    assert (found[[0, 1]] == 0.0).all()
    assert (found[[5, 6]] == 1.0).all()
    # a density that vanishes at the ends
    normal = np.exp(-0.5 * (axis / 0.3) ** 2) / np.sqrt(2 * np.pi) / 0.3
    from scipy.stats import norm

    np.testing.assert_allclose(found[2:5] @ normal * 0.1, norm.cdf(ends[2:5] / 0.3), atol=5e-7)
