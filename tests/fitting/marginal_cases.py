"""Small population models whose likelihoods can be worked out otherwise."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pandas as pd

import pkpd
from pkpd.fitting.model.specification import PopulationModel, parameter


@dataclass(frozen=True)
class Curve:
    """A function of time and individual parameters as a structural model."""

    function: object
    parameters: tuple
    lines: tuple = ("DV",)

    def bind(self, dataset):
        return CurvePredictor(self, dataset)


@dataclass(frozen=True, eq=False)
class CurvePredictor:
    structure: Curve
    dataset: object

    @property
    def parameters(self):
        return self.structure.parameters

    def __call__(self, values):
        seen = self.dataset.observations
        here = {}
        for name, value in values.items():
            value = jnp.asarray(value)
            place = (seen.subject, seen.record)[: value.ndim]
            here[name] = value[place] if value.ndim else value
        return self.structure.function(jnp.asarray(seen.time), **here)

    def problems(self, values):
        f = np.asarray(self(values))
        bad = np.unique(self.dataset.observations.subject[~np.isfinite(f)])
        return {int(b): "the curve is not finite." for b in bad}


LINE = Curve(lambda t, a, b: a + b * t, ("a", "b"))
LEVEL = Curve(lambda t, a: a + 0.0 * t, ("a",))
DECAY = Curve(lambda t, A, k: A * jnp.exp(-k * t), ("A", "k"))


def data(times, values, **more):
    """Data set from ``times[T]`` and ``values[B, T]``."""
    values = np.asarray(values)
    n, size = values.shape
    table = {
        "ID": np.repeat(np.arange(1, n + 1), size),
        "TIME": np.tile(times, n),
        "DV": values.ravel(),
        "EVID": 0,
    }
    return pkpd.read_nonmem(pd.DataFrame(table | more))


def line_model(residual, *, correlated=(), a=10.0, b=1.0, omega=(2.0, 0.3)):
    parameters = [
        parameter("a", a, iiv=omega[0], scale="identity"),
        parameter("b", b, iiv=omega[1], scale="identity"),
    ]
    return PopulationModel(LINE, parameters, residual, correlated=correlated)


def decay_model(residual, *, omega=(0.3, 0.4), A=10.0, k=0.3, **more):
    parameters = [parameter("A", A, iiv=omega[0]), parameter("k", k, iiv=omega[1])]
    return PopulationModel(DECAY, parameters, residual, **more)


def decay_data(n=8, times=(0.5, 1.0, 2.0, 4.0, 8.0), seed=1, sd=0.5, limit=None):
    rng = np.random.default_rng(seed)
    times = np.array(times)
    A = 10.0 * np.exp(0.3 * rng.standard_normal((n, 1)))
    k = 0.3 * np.exp(0.4 * rng.standard_normal((n, 1)))
    y = A * np.exp(-k * times) + sd * rng.standard_normal((n, len(times)))
    more = {}
    if limit is not None:
        more = {"CENS": (y < limit).astype(int).ravel()}
        y = np.maximum(y, limit)
    return data(times, y, **more)
