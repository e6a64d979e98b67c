"""Priors of several parameters at once: normal for some, inverse Wishart for covariances.

Of a covariance ``W`` of ``p`` random effects, NONMEM's NWPRI knows two priors with centre ``C`` and
``r`` degrees of freedom. What methods of maximum add to ``-2 log L`` is
``r (log det W + tr(C W^-1))``, which is least at ``C``: it belongs to the inverse Wishart density
with scale ``r C`` times ``det(W)^((p + 1) / 2)``, for one variance the density of its logarithm.
What a Bayesian method samples is that density itself. The constant that NONMEM prints beside either
is that of the density (Bauer, NONMEM 7 Technical Guide 2022, equations 1.157 to 1.171; Gisleskog,
Karlsson and Beal 2002, J Pharmacokinet Pharmacodyn 29:473-505).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from pkpd.errors import PkpdError

_TRIES = 1000  # of draws outside the bounds of a parameter


def _symmetric(matrix: Any, size: int, where: str) -> np.ndarray:
    out = np.atleast_2d(np.asarray(matrix, dtype=float))
    good = out.shape == (size, size) and np.all(np.isfinite(out)) and np.allclose(out, out.T)
    if not good or np.linalg.eigvalsh(out)[0] <= 0:
        raise PkpdError(
            where=where,
            what="its matrix is not positive definite",
            allowed=f"{size} x {size} numbers, symmetric, every variance above 0",
        )
    return out


@dataclass(frozen=True, eq=False)
class JointNormal:
    """Multivariate normal prior of parameters on their natural scale.

    Parameters
    ----------
    names
        Population parameters.
    mean : float[N]
        Their means.
    covariance : float[N, N]
        Their covariance.

    Examples
    --------
    >>> JointNormal(("CL", "V"), (3.0, 20.0), [[0.04, 0.0], [0.0, 1.0]]).names
    ('CL', 'V')
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    def __init__(self, names: Sequence[str], mean: Any, covariance: Any) -> None:
        where = f"normal prior of {', '.join(names)}"
        centre = np.asarray(mean, dtype=float)
        if centre.shape != (len(names),) or not np.all(np.isfinite(centre)):
            raise PkpdError(where=where, what="its mean", allowed=f"{len(names)} numbers")
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "mean", centre)
        object.__setattr__(self, "covariance", _symmetric(covariance, len(names), where))

    def __repr__(self) -> str:
        """Tell means and standard deviations."""
        sd = np.sqrt(np.diag(self.covariance))
        told = [f"{n} {m:g} (SD {s:g})" for n, m, s in zip(self.names, self.mean, sd, strict=True)]
        return f"normal of {', '.join(told)}"

    @property
    def constant(self) -> float:
        """``-2 log`` of the density's constant."""
        return float(
            len(self.names) * np.log(2 * np.pi) + np.linalg.slogdet(self.covariance).logabsdet
        )

    def penalty(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """``-2 log`` density without its constant."""
        behind = [values[name] - mean for name, mean in zip(self.names, self.mean, strict=True)]
        inverse = np.linalg.inv(np.linalg.cholesky(self.covariance))
        return xp.sum(xp.dot(inverse, xp.stack(behind)) ** 2)


@dataclass(frozen=True, eq=False)
class InverseWishart:
    """Inverse Wishart prior of the covariance of random effects or residuals.

    Parameters
    ----------
    deviations
        Names of the standard deviations.
    partial
        Names of the canonical partial correlations, row by row.
    centre : float[P, P]
        Covariance ``C`` about which the prior is; its scale matrix is ``freedom`` times that.
    freedom
        Degrees of freedom.

    Examples
    --------
    >>> round(InverseWishart(("omega_CL",), (), [[0.09]], 20.0).constant, 3)
    27.711
    """

    deviations: tuple[str, ...]
    partial: tuple[str, ...]
    centre: np.ndarray
    freedom: float

    def __init__(
        self, deviations: Sequence[str], partial: Sequence[str], centre: Any, freedom: float
    ) -> None:
        size = len(deviations)
        where = f"inverse Wishart prior of {', '.join(deviations)}"
        if len(partial) != size * (size - 1) // 2:
            what = f"{len(partial)} partial correlations"
            raise PkpdError(where=where, what=what, allowed=f"{size * (size - 1) // 2}")
        if not 0 < freedom < np.inf:
            what = f"{freedom:g} degrees of freedom"
            raise PkpdError(where=where, what=what, allowed="more than 0")
        object.__setattr__(self, "deviations", tuple(deviations))
        object.__setattr__(self, "partial", tuple(partial))
        object.__setattr__(self, "centre", _symmetric(centre, size, where))
        object.__setattr__(self, "freedom", float(freedom))

    def __repr__(self) -> str:
        """Tell the standard deviations of its centre and the degrees of freedom."""
        sd = np.sqrt(np.diag(self.centre))
        told = [f"{n} {s:g}" for n, s in zip(self.deviations, sd, strict=True)]
        return f"inverse Wishart about {', '.join(told)}, {self.freedom:g} degrees of freedom"

    @property
    def constant(self) -> float:
        """``-2 log`` of the density's constant; NaN where it has none (``freedom <= p - 1``)."""
        size, freedom = len(self.deviations), self.freedom
        if freedom <= size - 1:
            return float("nan")
        scale = np.linalg.slogdet(freedom * self.centre).logabsdet
        gamma = 0.25 * size * (size - 1) * np.log(np.pi)  # logarithm of the multivariate one
        gamma += np.sum(gammaln(0.5 * (freedom - np.arange(size))))
        return float(freedom * (size * np.log(2.0) - scale) + 2.0 * gamma)

    def _lower(self, values: Mapping[str, Any], xp: Any) -> list[list[Any]]:
        """Cholesky factor of the covariance, row by row."""
        rows: list[list[Any]] = []
        names = iter(self.partial)
        for i, deviation in enumerate(self.deviations):
            row, rest = [], 1.0
            for _ in range(i):
                partial = values[next(names)]
                row.append(values[deviation] * partial * xp.sqrt(rest))
                rest = rest * (1.0 - partial**2)
            row.append(values[deviation] * xp.sqrt(rest))
            rows.append(row)
        return rows

    def _parts(self, values: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """Log determinant of the covariance, and trace of the centre over it."""
        lower, trace = self._lower(values, xp), 0.0
        for column in np.linalg.cholesky(self.centre).T:
            solved: list[Any] = []
            for i, row in enumerate(lower):
                left = column[i] - sum(row[j] * solved[j] for j in range(i))
                solved.append(left / row[i])
                trace = trace + solved[-1] ** 2
        return 2.0 * sum(xp.log(row[-1]) for row in lower), trace

    def penalty(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Give what NONMEM's methods of maximum add to ``-2 log L``."""
        determinant, trace = self._parts(values, xp)
        return self.freedom * (determinant + trace)

    def log_density(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Log density of standard deviations and partial correlations together."""
        determinant, trace = self._parts(values, xp)
        size = len(self.deviations)
        out = -0.5 * (
            (self.freedom + size + 1) * determinant + self.freedom * trace + self.constant
        )
        # the Jacobian of the covariance by standard deviations and partial correlations
        out = out + size * (np.log(2.0) + sum(xp.log(values[name]) for name in self.deviations))
        names = iter(self.partial)
        for i in range(1, size):
            for j in range(i):
                out = out + 0.5 * (size - 2 - j) * xp.log(1.0 - values[next(names)] ** 2)
        return out


@dataclass(frozen=True, eq=False)
class JointPrior:
    """Independent priors of several parameters each.

    Parameters
    ----------
    parts
        `JointNormal` and `InverseWishart`.

    Examples
    --------
    >>> prior = JointPrior([InverseWishart(("omega_CL",), (), [[0.09]], 20.0)])
    >>> round(float(prior.penalty({"omega_CL": 0.3}, np)), 3)  # 20 (log 0.09 + 1)
    -28.159
    """

    parts: tuple[JointNormal | InverseWishart, ...]

    def __init__(self, parts: Sequence[JointNormal | InverseWishart]) -> None:
        object.__setattr__(self, "parts", tuple(parts))

    def __repr__(self) -> str:
        """Tell its parts."""
        return "; ".join(repr(part) for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters that have their prior here."""
        out: list[str] = []
        for part in self.parts:
            out += (
                part.names if isinstance(part, JointNormal) else (*part.deviations, *part.partial)
            )
        return tuple(out)

    @property
    def constant(self) -> float:
        """NONMEM's PRIOR CONSTANT TO OBJECTIVE FUNCTION; NaN where a part has none."""
        return float(sum(part.constant for part in self.parts))

    def penalty(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Give what is added to ``-2 log L``, without the constant.

        Parameters
        ----------
        values
            Population parameters by name, on their natural scale.
        xp
            ``jax.numpy``, ``numpy`` or ``pytensor.tensor``.
        """
        return sum(part.penalty(values, xp) for part in self.parts)

    def log_density(self, values: Mapping[str, Any], xp: Any = jnp) -> Any:
        """Log density of the parameters on their natural scale, bounds left out.

        Raises
        ------
        PkpdError
            If a part has no density.
        """
        out: Any = 0.0
        for part in self.parts:
            _refuse_improper(part)
            if isinstance(part, JointNormal):
                out = out - 0.5 * (part.penalty(values, xp) + part.constant)
            else:
                out = out + part.log_density(values, xp)
        return out

    def draws(
        self, n: int, rng: np.random.Generator, bounds: Mapping[str, tuple[float, float]]
    ) -> dict[str, np.ndarray]:
        """Draw the parameters, within bounds: ``[n]`` by name.

        Raises
        ------
        PkpdError
            If a part has no density, or lies outside the bounds.
        """
        from scipy.stats import invwishart

        out: dict[str, np.ndarray] = {}
        for part in self.parts:
            _refuse_improper(part)
            if isinstance(part, JointNormal):
                out |= _within(part, n, rng, bounds)
                continue
            drawn = invwishart.rvs(
                part.freedom, part.freedom * part.centre, size=n, random_state=rng
            )
            lower = np.linalg.cholesky(np.reshape(drawn, (n, *part.centre.shape)))
            sd = np.linalg.norm(lower, axis=2)
            out |= {name: sd[:, i] for i, name in enumerate(part.deviations)}
            names = iter(part.partial)
            for i in range(1, len(part.deviations)):
                rest = np.ones(n)
                for j in range(i):
                    here = lower[:, i, j] / sd[:, i]
                    out[next(names)] = here / np.sqrt(rest)
                    rest = rest - here**2
        return out


def _refuse_improper(part: JointNormal | InverseWishart) -> None:
    """Refuse a part that has no density."""
    if not np.isfinite(part.constant):
        raise PkpdError(
            where=repr(part),
            what="so few degrees of freedom make no distribution to sample from",
            allowed="more than the number of random effects less one",
            remedy='give more, or fit by method="focei"',
        )


def _within(
    part: JointNormal,
    n: int,
    rng: np.random.Generator,
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, np.ndarray]:
    """Draws of a normal whose parameters lie within their bounds."""
    limits = np.array([bounds.get(name, (-np.inf, np.inf)) for name in part.names]).T
    kept = np.zeros((0, len(part.names)))
    for _ in range(_TRIES):
        more = rng.multivariate_normal(part.mean, part.covariance, size=n)
        inside = np.all((more > limits[0]) & (more < limits[1]), axis=1)
        kept = np.concatenate([kept, more[inside]])
        if len(kept) >= n:
            return {name: kept[:n, i] for i, name in enumerate(part.names)}
    raise PkpdError(
        where=repr(part), what="lies outside the bounds of its parameters", remedy="widen"
    )


def check_joint(joint: JointPrior | None, known: Mapping[str, bool]) -> None:
    """Refuse parameters that a model lacks, that come twice, or that have a prior of their own.

    Parameters
    ----------
    joint
        The prior.
    known
        Whether a parameter has a prior of its own, by name, for all parameters of the model.
    """
    names = () if joint is None else joint.names
    for name in names:
        if name not in known:
            what, allowed = "is no parameter of the model", ", ".join(known)
        elif names.count(name) > 1:
            what, allowed = "has two joint priors", "one"
        elif known[name]:
            what, allowed = "has a prior of its own, too", "one prior of each parameter"
        else:
            continue
        raise PkpdError(where=f"joint prior of {name!r}", what=what, allowed=allowed)
