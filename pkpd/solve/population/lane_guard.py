"""Lanes with unusable parameters: found, kept out of the engines, and without a derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import PkpdError
from pkpd.solve.grid.structure import PopulationStructure
from pkpd.solve.grid.versions import n_kinetic
from pkpd.solve.population.status import limits_of


@jax.custom_vjp
def scrub(theta: Array) -> Array:
    """Identity whose derivative is zero in lanes where it would not be finite."""
    return theta


def _scrubbed(_: None, bar: Array) -> tuple[Array]:
    return (jnp.where(jnp.isfinite(bar).all(axis=0), bar, 0.0),)


scrub.defvjp(lambda theta: (theta, None), _scrubbed)


def without(theta: Any, bad: Any) -> Any:
    """Parameters with those of bad lanes replaced by those of the first good one.

    Lanes share vectors and counts of terms, so a number that is none must not reach the engines.
    """
    xp = np if isinstance(theta, np.ndarray) else jnp
    good = xp.argmin(bad)
    stand_in = xp.where(bad[good], 1.0, theta[:, good])
    return xp.where(bad, stand_in[:, None], theta)


def bad_lanes(structure: PopulationStructure, versions: int, theta: Any) -> Any:
    """Lanes with an unusable parameter in any version (`status.unusable`), ``[L]``.

    Raises
    ------
    PkpdError
        If the rows are not those of the structure with its versions.
    """
    xp = np if isinstance(theta, np.ndarray) else jnp
    low, strict = limits_of(structure)
    if versions > 1:
        more, kinetic = (versions - 1, 1), n_kinetic(structure)
        low = np.concatenate([low, np.tile(low[:kinetic], more)])
        strict = np.concatenate([strict, np.tile(strict[:kinetic], more)])
    if theta.shape[0] != low.shape[0]:
        raise PkpdError(
            where="population",
            what=f"parameters in {theta.shape[0]} rows",
            allowed=f"{low.shape[0]} rows for {versions} versions of the drugs' parameters",
        )
    with np.errstate(invalid="ignore"):
        wrong = ~xp.isfinite(theta) | (theta < low) | (strict & (theta == low))
    return wrong.any(axis=0)


def spread(found: Floats, good: NDArray[np.int64], n_lanes: int) -> Floats:
    """Put what was found of some lanes ``[lines, G, ...]`` among all, NaN in the others."""
    if good.size == n_lanes:
        return found
    out = np.full((found.shape[0], n_lanes, *found.shape[2:]), np.nan)
    out[:, good] = found
    return out
