"""Information on the scale of the search carried to the parameters that are told."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.arrays import FloatArray
from pkpd.fitting.maximum.scales import FreeParameters


def on_scale(
    free: FreeParameters, x: FloatArray, matrix: FloatArray, scale: str
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Carry the information to natural values, or to variances and covariances.

    Parameters
    ----------
    free, x, scale
        As of `change_to`.
    matrix : float[P, P]
        Information on the scale of ``x``.

    Returns
    -------
    names
        A variance is called ``omega_CL^2``, a covariance ``cov_CL_V``.
    values, matrix
        On the new scale.
    """
    names, values, slopes = change_to(free, x, scale)
    return names, values, slopes.T @ matrix @ slopes


def change_to(
    free: FreeParameters, x: FloatArray, scale: str
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Names and values on a scale, and the derivatives of ``x`` by the values.

    Parameters
    ----------
    free, x
        Parameters and their values.
    scale
        ``"deviation"``: natural values as the package has them. ``"variance"``: those of
        deviations squared, partial correlations as covariances.

    Returns
    -------
    names, values, slopes
        ``[P]``, ``[P]`` and ``[P, P]``: information ``M`` of ``x`` becomes ``slopes' M slopes``.
    """
    if scale == "deviation":
        known = free.values(x)
        found = np.array([known[name] for name in free.names])
        return free.names, found, np.diag(1.0 / free.slopes(x))
    names, places = _variances(free)
    natural, effects = free.natural, free.likelihood.random_effects
    order = {name: i for i, name in enumerate(effects.names)}

    def told(v: Any) -> Any:
        known = natural(v)
        omega = effects.covariance(known) if effects.size else None
        out = []
        for name, kind in places:
            if kind == "covariance":
                assert omega is not None
                first, second = name.split("\n")
                out.append(omega[order[first], order[second]])
            else:
                out.append(known[name] ** 2 if kind == "variance" else known[name])
        return jnp.stack(out)

    values = np.asarray(told(jnp.asarray(x)))
    return names, values, np.linalg.inv(np.asarray(jax.jacfwd(told)(jnp.asarray(x))))


def _variances(free: FreeParameters) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Names of variances and covariances, and of what each is made of, in the order of ``x``."""
    pairs = {}
    for block in free.likelihood.model.correlated:
        for i, one in enumerate(block):
            for other in block[:i]:
                pairs[f"partial_{other}_{one}"] = (other, one)
                pairs[f"partial_{one}_{other}"] = (other, one)
    names, places = [], []
    for name, kind in zip(free.names, free.kinds, strict=True):
        if kind == "correlation":
            first, second = pairs[name]
            names.append(f"cov_{first}_{second}")
            places.append((f"{first}\n{second}", "covariance"))
        elif kind == "deviation" or name.startswith("sigma_"):
            names.append(f"{name}^2")
            places.append((name, "variance"))
        else:
            names.append(name)
            places.append((name, "same"))
    return tuple(names), places
