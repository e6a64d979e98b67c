from __future__ import annotations

import conjugate
import numpy as np

from pkpd.infer.bayes import build_model
from pkpd.infer.likelihood import bind
from pkpd.infer.start import StartingPoint, flat_spread, flat_start, named_start


def test_centring_is_the_share_of_the_variance_that_the_data_explain():
    spread = np.array([[0.1, 0.3], [0.2, 0.4]])
    point = StartingPoint({}, None, None, spread)
    got = point.informed({"CL": 0.5, "V": 0.3}, ("CL", "V"))
    assert got["CL"] == 1 - (0.01 + 0.04) / 2 / 0.25
    assert got["V"] == 0.0  # less is known than without data: nothing is explained
    assert StartingPoint({}).informed({"CL": 0.5}, ("CL",)) == {}


def test_the_flat_point_is_in_the_order_and_on_the_scale_of_the_sampler():
    model = conjugate.model().replace(residual={"height": conjugate.additive(0.5)})
    likelihood = bind(model, conjugate.data(3))
    made = build_model(likelihood)
    random = np.array([[0.1], [0.2], [-0.3]])
    point = StartingPoint({"level": 2.0}, random, {"slope": 0.05, "level": 9.0})
    flat = flat_start(made, named_start(likelihood, point, {}))
    order = [v.name for v in made.free_RVs]
    assert order == ["level", "slope", "sigma_height", "x"]
    np.testing.assert_allclose(flat[:3], [2.0, 0.2, np.log(0.5)])
    np.testing.assert_allclose(flat[3:], random[:, 0] / conjugate.OMEGA)
    np.testing.assert_allclose(flat_spread(made, point), [0.3, 0.05, 0.1, 0.05, 0.05, 0.05])
    import nutpie

    # nutpie lays its variables out in the same order
    compiled = nutpie.compile_pymc_model(made, backend="numba")
    density = made.compile_logp(mode="FAST_COMPILE")
    parts = dict(zip((v.name for v in made.value_vars[:3]), flat[:3], strict=True))
    parts[made.value_vars[3].name] = flat[3:].reshape(3, 1)
    np.testing.assert_allclose(compiled.logp_func(flat)[0], density(parts), rtol=1e-10)
