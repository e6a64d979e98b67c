"""The PyMC model of the priors has the distributions that the sampler uses."""

import numpy as np
import pytest

from pkpd.evidence.likelihood.prior import HalfNormal, Pooled, Prior
from pkpd.evidence.likelihood.pymc_model import prior_model
from pkpd.units import Parameter

PRIOR = Prior(
    [
        Parameter("even", 2.0, "1", interval=(1.0, 4.0), distribution="lognormal"),
        Parameter("lopsided", 2.0, "1", interval=(1.5, 8.0), distribution="lognormal"),
        Parameter("share", 0.3, "1", interval=(0.1, 0.6), distribution="logit"),
        Parameter("difference", 0.0, "1", interval=(-1.0, 1.0), distribution="normal"),
        HalfNormal("spread", 1.0),
        Pooled("member", "even", "spread"),
    ]
)


@pytest.mark.slow
def test_quantiles_agree_with_the_samplers_prior():
    import pymc as pm

    with prior_model(PRIOR):
        drawn = pm.sample_prior_predictive(draws=20_000, random_seed=1).prior
    ours = PRIOR.values(PRIOR.draw(20_000, np.random.default_rng(2)))
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    for index, name in enumerate(PRIOR.names):
        theirs = np.quantile(drawn[name].to_numpy().ravel(), levels)
        mine = np.quantile(ours[:, index], levels)
        spread = np.quantile(ours[:, index], 0.9) - np.quantile(ours[:, index], 0.1)
        # error of a quantile of 20,000 draws is about 1 % of the spread
        assert theirs == pytest.approx(mine, abs=0.04 * spread), name
