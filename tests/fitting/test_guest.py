from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from small_data import Straight, dataset_of

from pkpd.data.dataset import ABOVE, BELOW
from pkpd.errors import PkpdError
from pkpd.fitting.bayes.guest import observe, predictions

ROWS = [
    (1, 0.5, None, 1.4),
    (1, 1.0, None, 1.0, 0, BELOW),
    (1, 2.0, None, 2.0, 0, ABOVE),
    (2, 1.0, None, 3.0, 0, BELOW, 2.0),
    (2, 3.0, None, 3.5),
]
FORMS = {
    "additive": ({"sigma": 0.4}, lambda f: 0.4 + 0 * f),
    "proportional": ({"sigma": 0.2, "form": "proportional"}, lambda f: 0.2 * f),
    "combined": ({"sigma": 0.3, "proportional": 0.2}, lambda f: np.hypot(0.3, 0.2 * f)),
    "combined_linear": (
        {"sigma": 0.3, "proportional": 0.2, "form": "combined_linear"},
        lambda f: 0.3 + 0.2 * f,
    ),
    "lognormal": ({"sigma": 0.4, "form": "lognormal"}, lambda f: 0.4 + 0 * f),
}
LEVEL = np.array([1.0, 2.0])


def guest(nu=None, rows=ROWS, **settings):
    data = dataset_of(rows, lines=("height",))
    with pm.Model() as model:
        level = pm.Flat("level", shape=2)
        f = predictions(Straight(), data)({"level": level, "slope": 0.5})
        observe("height", f, data, nu=nu, **settings)
    return data, model


@pytest.mark.parametrize(
    ("form", "nu"),
    [
        *(pytest.param(form, None, marks=pytest.mark.slow) for form in FORMS),
        pytest.param("combined", 4.0, marks=pytest.mark.slow),
        # what a form does and what tails do are separate factors of the density
        *(pytest.param(f, 4.0, marks=pytest.mark.long) for f in FORMS if f != "combined"),
    ],
)
def test_observed_density_is_that_of_scipy(form, nu):
    settings, scale = FORMS[form]
    data, model = guest(nu, **settings)
    seen = data.observations
    f = LEVEL[seen.subject] + 0.5 * seen.time
    log, base = form == "lognormal", stats.norm if nu is None else stats.t(nu)

    def z(y):
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((np.log(y) - np.log(f)) if log else y - f) / scale(f)

    out = base.logpdf(z(seen.value)) - np.log(scale(f)) - (np.log(seen.value) if log else 0)
    out = np.where(seen.censored == BELOW, base.logcdf(z(seen.value)), out)
    out = np.where(seen.censored == ABOVE, base.logsf(z(seen.value)), out)
    bounded = np.isfinite(seen.lower)
    between = np.log(base.cdf(z(seen.value)) - base.cdf(z(np.where(bounded, seen.lower, 1e-9))))
    out = np.where(bounded, between, out)
    density = model.compile_logp(mode="FAST_COMPILE")
    # PyMC's Student distribution function is good to about 1e-8
    assert float(density({"level": LEVEL})) == pytest.approx(out.sum(), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["additive", "lognormal"])
def test_gradient_is_that_of_finite_differences(form):
    _, model = guest(**FORMS[form][0])
    density = model.compile_logp(mode="FAST_COMPILE")
    slope = model.compile_dlogp(mode="FAST_COMPILE")({"level": LEVEL})
    numeric = [
        (density({"level": LEVEL + h}) - density({"level": LEVEL - h})) / 2e-6
        for h in 1e-6 * np.eye(2)
    ]
    np.testing.assert_allclose(slope, numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("prediction_below", [True, False])
def test_an_interval_far_from_the_prediction_keeps_its_digits(prediction_below):
    low, high = (20.0, 25.0) if prediction_below else (-25.0, -20.0)
    rows = [(1, 0.0, None, high, 0, BELOW, low), (2, 0.0, None, 2.0)]
    _, model = guest(rows=rows, sigma=1.0)
    got = float(model.compile_logp(mode="FAST_COMPILE")({"level": np.array([0.0, 2.0])}))
    # the mass beyond the far limit is e^-100 of this
    assert got == pytest.approx(stats.norm.logcdf(-20.0) + stats.norm.logpdf(0.0), rel=1e-10)


@pytest.mark.parametrize(("form", "nu"), [("combined", None), ("lognormal", 5.0)])
def test_posterior_predictive_draws_scatter_around_the_predictions(form, nu):
    settings, scale = FORMS[form]
    data, model = guest(nu, **settings)
    import arviz as az

    posterior = az.from_dict({"level": np.tile(LEVEL, (1, 3000, 1))})
    with model:
        drawn = pm.sample_posterior_predictive(
            posterior, progressbar=False, random_seed=1, compile_kwargs={"mode": "FAST_COMPILE"}
        )
    y = drawn.posterior_predictive["height"].values[0]
    seen = data.observations
    f = LEVEL[seen.subject] + 0.5 * seen.time
    z = (np.log(y / f) if form == "lognormal" else y - f) / scale(f)
    base = stats.norm if nu is None else stats.t(nu)
    for column in z.T:
        assert stats.kstest(column, base.cdf).pvalue > 1e-4
    assert abs(np.corrcoef(z[:, 0], z[:, 1])[0, 1]) < 0.1


def test_what_has_no_meaning_is_refused():
    data = dataset_of([(1, 1.0, None, 2.0, line) for line in (0, 1)], lines=("a", "b"))
    f = np.ones(2)
    cases = [
        ({"sigma": 1.0}, "the data have several lines.*a, b"),
        ({"sigma": 1.0, "line": "c"}, "line 'c': is not in the data"),
        ({"sigma": 1.0, "form": "normal", "line": "a"}, "form 'normal'"),
        ({"sigma": 1.0, "form": "combined", "line": "a"}, "takes proportional= with"),
        ({"sigma": 1.0, "proportional": 0.1, "form": "additive", "line": "a"}, "only with them"),
    ]
    for settings, message in cases:
        with pm.Model(), pytest.raises(PkpdError, match=message):
            observe("y", f, data, **settings)
    with pytest.raises(PkpdError, match="'level': is missing"):
        predictions(Straight(("a", "b")), data)({"slope": 1.0})
