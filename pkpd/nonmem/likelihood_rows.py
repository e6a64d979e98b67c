"""Observations whose residual errors are correlated: groups of records with one value of L2.

The joint normal density of a group is that of its first observation times those of the others
given the ones before. Each observation then has a mean and a variance of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class L2Groups:
    """Observations of each group.

    Attributes
    ----------
    member
        Places among the observations, -1 in the padding, int[G, K].
    """

    member: np.ndarray


def group_rows(data: Dataset, normal: np.ndarray, level: np.ndarray | None) -> L2Groups | None:
    """Find observations of neighbouring records with one value of L2, if any has two.

    The records of a group follow one another in the data: one with another value between them,
    whether an observation or not, ends it (NONMEM Users Guide, help item L2).
    """
    if level is None:
        return None
    seen = data.observations
    stretch = np.cumsum(np.diff(level, axis=1, prepend=level[:, :1]) != 0, axis=1)
    groups: list[list[int]] = []
    last: tuple[int, int] | None = None
    order = np.lexsort((seen.record, seen.subject))
    for m in order.tolist():
        key = (int(seen.subject[m]), int(stretch[seen.subject[m], seen.record[m]]))
        if not normal[m]:
            continue
        if key == last:
            groups[-1].append(m)
        else:
            groups.append([m])
        last = key
    groups = [g for g in groups if len(g) > 1]
    if not groups:
        return None
    width = max(map(len, groups))
    return L2Groups(np.array([g + [-1] * (width - len(g)) for g in groups]))


def given_earlier(
    groups: L2Groups,
    y: Any,
    slope: Any,
    entry: Callable[[int, int], Any],
    variance: Any,
    data: Dataset,
) -> tuple[Any, Any]:
    """Means and variances given the earlier observations of the group, [M] each.

    Parameters
    ----------
    groups
        Groups.
    y : float[M]
        Predictions.
    slope : float[M, K]
        Slopes by the residual random effects.
    entry
        Entry (i, j) of their covariance, from 1, [M] or a number.
    variance : float[M]
        Variances of single observations.
    data
        Measured values.
    """
    member = groups.member
    real = member >= 0
    place = np.maximum(member, 0)
    n, count = y.shape[0], slope.shape[1]
    full = jnp.stack(
        [
            jnp.stack([jnp.broadcast_to(entry(i, j), (n,)) for j in range(1, count + 1)], axis=-1)
            for i in range(1, count + 1)
        ],
        axis=-2,
    )
    g = slope[place]
    joint = jnp.einsum("gai,gij,gbj->gab", g, full[place[:, 0]], g)
    unit = np.eye(member.shape[1])
    both = real[:, :, None] & real[:, None, :]
    lower = jnp.linalg.cholesky(jnp.where(both, joint, unit))
    left = jnp.where(real, data.observations.value[place] - y[place], 0.0)
    standard = jax.scipy.linalg.solve_triangular(lower, left[..., None], lower=True)[..., 0]
    own = jnp.diagonal(lower, axis1=1, axis2=2)
    shift = jnp.einsum("gab,gb->ga", lower, standard) - own * standard
    where = member[real]
    return y.at[where].add(shift[real]), variance.at[where].set(own[real] ** 2)
