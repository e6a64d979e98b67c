from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pkpd.errors import PkpdError
from pkpd.fitting.model.priors import Estimate, Prior, estimate, fixed

DISTRIBUTIONS = {
    "LogNormal": ({"mu": 0.3, "sigma": 0.5}, stats.lognorm(0.5, scale=np.exp(0.3)), 1.4),
    "HalfNormal": ({"sigma": 0.8}, stats.halfnorm(scale=0.8), 0.5),
    "Uniform": ({"lower": -1.0, "upper": 3.0}, stats.uniform(-1, 4), 0.2),
    "Gamma": ({"alpha": 2.0, "beta": 0.1}, stats.gamma(2, scale=10.0), 7.0),
    "HalfCauchy": ({"beta": 0.5}, stats.halfcauchy(scale=0.5), 1.5),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_prior_has_the_density_of_its_name(name):
    arguments, same, at = DISTRIBUTIONS[name]
    with pm.Model():
        variable = Prior(name, **arguments).variable("x")
    # some constants inside PyMC are of single precision
    assert pm.logp(variable, np.float64(at)).eval() == pytest.approx(same.logpdf(at), rel=1e-8)


def test_a_prior_is_written_as_it_is_made_and_compares_by_value():
    one = Prior("LogNormal", mu=2.3, sigma=0.25)
    assert repr(one) == "Prior(LogNormal, mu=2.3, sigma=0.25)"
    assert one != Prior("LogNormal", mu=2.3, sigma=0.26)
    assert hash(one) == hash(Prior("LogNormal", mu=2.3, sigma=0.25))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda: Prior("Log Normal"), "'Log Normal' is not the name of a distribution"),
        (lambda: Prior(3), "3 is not the name of a distribution"),
        (lambda: Prior("Normal", mu="0", sigma=1.0), "prior Normal, mu: '0' is a str"),
        (lambda: Prior("Logorithmic", mu=1.0).variable("CL"), "PyMC has no distribution"),
        (lambda: Prior("Model").variable("CL"), "PyMC has no distribution 'Model'"),
        (lambda: Prior("LogNormal", mean=1.0).variable("CL"), "is not accepted by PyMC"),
    ],
)
def test_what_is_no_prior_is_refused_in_a_sentence(prior, message):
    with pm.Model(), pytest.raises(PkpdError, match=message) as error:
        prior()
    assert "\n" not in str(error.value)


def test_numbers_become_estimates():
    assert estimate(2) == Estimate(2.0)
    assert fixed(0.75) == Estimate(0.75, None, True)
    given = Estimate(1.0, Prior("Normal", mu=0.0, sigma=1.0))
    assert estimate(given) is given
