"""Likelihood with residuals that are correlated in time, or have a scale of each subject's own.

In the place of predictions it works with ``2 M`` quantities: for each observation the location of
its density given the observations of its line before, and the logarithm of its scale
(`pkpd.fitting.model.processes`). Given these, observations are independent; first-order conditional
estimation needs no more than their slopes by the random effects
(`pkpd.fitting.maximum.serial`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arrays import FloatArray
from pkpd.data.dataset import NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.fitting.model.population_likelihood import Observed, PopulationLikelihood
from pkpd.fitting.model.processes import NO_PAST_H, Series, Spread, ahead, filtered, scatter
from pkpd.fitting.model.residual import ResidualError
from pkpd.predict.structure import FollowingData
from pkpd.solve.events.guard import finite_derivative

_LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class SerialLikelihood(PopulationLikelihood):
    """Likelihood of data under a model with such a residual error in one of its lines."""

    quantities_read_data: ClassVar[bool] = True

    @cached_property
    def _places(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Of every line: observations by order and subject ``[T, B]`` (-1 padding), and hours.

        Hours are those since the observation before, `NO_PAST_H` at a subject's first and after a
        reset.
        """
        seen, events, out = self.dataset.observations, self.dataset.events, []
        part = events.period[seen.subject, seen.record]
        for _, _, mine in self._lines:
            rows = [mine[seen.subject[mine] == b] for b in range(self.n_subjects)]
            rows = [m[np.lexsort((m, seen.time[m], part[m]))] for m in rows]
            place = np.full((max(len(m) for m in rows), self.n_subjects), -1)
            since = np.full(place.shape, NO_PAST_H)
            for b, m in enumerate(rows):
                place[: len(m), b] = m
                hours = np.where(np.diff(part[m]) == 0, np.diff(seen.time[m]), NO_PAST_H)
                since[1 : len(m), b] = hours
            out.append((place, since))
        return tuple(out)

    def quantities(self, fixed: Array, random: Array) -> Array:
        """Locations given the past, then logarithms of the scales, ``[2 M]``."""
        return self.located(fixed, random, None)

    def predictions_of(self, quantities: FloatArray) -> FloatArray:
        """Predictions given the past, ``[M]``."""
        out = np.array(quantities.reshape(2, -1)[0])
        for _, error, mine in self._lines:
            out[mine] = np.exp(out[mine]) if error.logarithmic else out[mine]
        return out

    def located(self, fixed: Array, random: Array, observed: Observed | None) -> Array:
        """`quantities` for other measurements."""
        values = self._by_name(fixed)
        everything = self.individuals.all(values, random, finite_derivative)
        names = self.model.structure.parameters
        predicted = self.predictor(FollowingData({name: everything[name] for name in names}))
        scales = {
            error.scale: self._by_subject(error.scale, everything)
            for _, error, _ in self._lines
            if error.scale is not None
        }
        return self.of_predictions(fixed, predicted, scales, observed or self.observed)

    def of_predictions(
        self, fixed: Array, predictions: Array, scales: Mapping[str, Array], seen: Observed
    ) -> Array:
        """Quantities ``[2 M]`` from predictions ``[M]`` and scales of subjects ``[B]`` by name."""
        values, m = self._by_name(fixed), len(self.dataset.observations)
        location, log_scale = jnp.zeros(m), jnp.zeros(m)
        for (name, error, mine), (place, since) in zip(self._lines, self._places, strict=True):
            usable = jnp.abs(predictions) < _LARGEST
            if error.logarithmic:
                usable = usable & (predictions > 0)
            safe = jnp.where(usable, predictions, 1.0)
            coefficients, nu, sd, tau = error.read(name, values)
            white = error.sd(safe, coefficients)
            centre = jnp.log(safe) if error.logarithmic else safe
            centre = jnp.where(usable, centre, jnp.nan)
            own = jnp.ones(self.n_subjects) if error.scale is None else scales[error.scale]
            if not error.processes:
                subject = self.dataset.observations.subject[mine]
                location = location.at[mine].set(centre[mine])
                log_scale = log_scale.at[mine].set(jnp.log(white[mine] * own[subject]))
                continue
            given = place >= 0
            at = np.maximum(place, 0)
            series = Series(
                since,
                jnp.where(given, _on_scale(error, seen.value)[at], 0.0),
                np.where(given, seen.censored[at], 0)
                if isinstance(seen.censored, np.ndarray)
                else jnp.where(given, seen.censored[at], 0),
                np.where(given, _on_scale(error, seen.lower)[at], -np.inf),
                given,
            )
            # padding has the prediction of somebody, who must not get its derivatives
            middle = jnp.where(given, centre[at], 0.0)
            spread = Spread(jnp.where(given, white[at], 1.0), sd, tau, own, nu)
            found = filtered(error, series, middle, spread)
            order = place[given]
            location = location.at[order].set((middle + found.shift)[given])
            log_scale = log_scale.at[order].set(jnp.log(found.scale)[given])
        return jnp.concatenate([location, log_scale])

    def _by_subject(self, name: str, values: Mapping[str, Array]) -> Array:
        """Scale of each subject ``[B]``; refuses one that changes within a subject."""
        value = jnp.asarray(values[name])
        if value.ndim > 1:
            raise PkpdError(
                where=f"residual error, scale {name!r}",
                what="changes within a subject",
                allowed="a parameter without variability between occasions and without "
                "covariates that change",
            )
        return jnp.broadcast_to(value, (self.n_subjects,))

    def by_observation(
        self, fixed: Array, random: Array, observed: Observed | None = None
    ) -> Array:
        """Log density of every observation given those of its line before, ``[M]``."""
        return self.density_of(fixed, self.located(fixed, random, observed), observed)

    def density_of(
        self, fixed: Array, predictions: Array, observed: Observed | None = None
    ) -> Array:
        """Log density of every observation from quantities ``[2 M]``, ``[M]``."""
        values, seen = self._by_name(fixed), observed or self.observed
        location, log_scale = predictions.reshape(2, -1)
        out = jnp.zeros(len(self.dataset.observations))
        for name, error, mine in self._lines:
            _, nu, _, _ = error.read(name, values)
            scale, centre = jnp.exp(log_scale[mine]), location[mine]
            usable = jnp.isfinite(centre) & jnp.isfinite(scale)
            scale, centre = jnp.where(usable, scale, 1.0), jnp.where(usable, centre, 0.0)
            value, lower = (_on_scale(error, v)[mine] for v in (seen.value, seen.lower))
            low = (jnp.where(np.isfinite(lower), lower, value - 1.0) - centre) / scale
            codes = seen.censored[mine]
            each = error.standardised((value - centre) / scale, low, nu, codes, lower)
            jacobian = jnp.log(scale) + (value if error.logarithmic else 0.0)
            each = each - jnp.where(codes == NOT_CENSORED, jacobian, 0.0)
            out = out.at[mine].set(jnp.where(usable, each, jnp.nan))
        return out

    def residual_sd(self, fixed: Any, predictions: Any) -> Any:
        """Scale of every observation without knowledge of others, subjects' own scale left out."""
        xp: Any = jnp if isinstance(fixed, Array) or isinstance(predictions, Array) else np
        values, parts = self._by_name(fixed), []
        for name, error, mine in self._lines:
            coefficients, _, sd, _ = error.read(name, values)
            white = error.sd(predictions[mine], coefficients, xp)
            total = white**2 + sum((one**2 for one in sd), start=xp.zeros_like(white))
            parts.append((mine, xp.sqrt(total)))
        return self._placed(parts, xp)

    def residual_deviation(
        self, values: Mapping[str, float], random: np.ndarray, predictions: np.ndarray
    ) -> np.ndarray:
        """Return the standard deviation of every residual with its subject's own scale, ``[M]``."""
        sd = super().residual_deviation(values, random, predictions)
        everything = self.individuals.all(values, jnp.asarray(random))
        for _, error, mine in self._lines:
            if error.scale is not None:
                own = np.asarray(self._by_subject(error.scale, everything))
                sd[mine] *= own[self.dataset.observations.subject[mine]]
        return sd

    def residual_correlation(self, values: Mapping[str, float], mine: np.ndarray) -> np.ndarray:
        """Correlation of the residuals of some observations of one subject, ``[k, k]``.

        For a proportional part the scale of the independent error is that of a prediction of 1.
        """
        seen, out = self.dataset.observations, np.eye(len(mine))
        part = self.dataset.events.period[seen.subject, seen.record]
        for name, error, rows in self._lines:
            own = np.flatnonzero(np.isin(mine, rows))
            if not error.processes or not own.size:
                continue
            coefficients, _, sd, tau = error.read(name, values)
            time, segment = seen.time[mine[own]], part[mine[own]]
            apart = np.abs(time[:, None] - time[None, :])
            apart = np.where(segment[:, None] == segment[None, :], apart, NO_PAST_H)
            covariance = sum(s**2 * np.exp(-apart / t) for s, t in zip(sd, tau, strict=True))
            covariance = covariance + coefficients[0] ** 2 * np.eye(len(own))
            out[np.ix_(own, own)] = covariance / covariance[0, 0]
        return out

    def simulate(
        self,
        fixed: np.ndarray,
        predictions: np.ndarray,
        rng: np.random.Generator,
        random: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw measurements of one data set around predictions ``[M]``, limits not applied.

        ``random [B, R]`` are the random effects of the predictions: without them every subject has
        the typical scale.
        """
        values = {name: fixed[i] for i, name in enumerate(self.fixed_names)}
        none = np.zeros((self.n_subjects, self.random_effects.size))
        everything = self.individuals.all(values, jnp.asarray(none if random is None else random))
        out = np.array(predictions, dtype=float)
        subject = self.dataset.observations.subject
        for (name, error, mine), (place, since) in zip(self._lines, self._places, strict=True):
            coefficients, nu, sd, tau = error.read(name, values)
            own = np.ones(self.n_subjects)
            if error.scale is not None:
                own = np.asarray(self._by_subject(error.scale, everything))
            white = error.sd(out[mine], coefficients, np) * own[subject[mine]]
            moved = _noise(error, nu, mine.shape, rng) * white
            if error.processes:
                moved = _drawn(
                    error, place, since, out, mine, coefficients, (sd, tau, nu), own, rng
                )
            out[mine] = out[mine] * np.exp(moved) if error.logarithmic else out[mine] + moved
        return out


def _on_scale(error: ResidualError, value: Any) -> Any:
    """Values on the scale of the error."""
    if not error.logarithmic:
        return value
    xp: Any = np if isinstance(value, np.ndarray) else jnp
    with np.errstate(divide="ignore", invalid="ignore"):
        return xp.log(xp.maximum(value, 0.0))


def _noise(error: ResidualError, nu: Any, shape: Any, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape) if error.nu is None else rng.standard_t(float(nu), shape)


def _drawn(
    error: ResidualError,
    place: np.ndarray,
    since: np.ndarray,
    predicted: np.ndarray,
    mine: np.ndarray,
    coefficients: Any,
    numbers: tuple[Any, Any, Any],
    own: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw residuals one after the other, each given those before, in the order of ``mine``."""
    sd, tau, nu = numbers
    at = np.maximum(place, 0)
    white = np.asarray(error.sd(predicted[at], coefficients, np))
    spread = Spread(white, sd, tau, own, nu)
    size = len(sd)
    mean = np.zeros((place.shape[1], size))
    covariance = np.zeros((place.shape[1], size, size))
    out = np.zeros(len(predicted))
    for t in range(len(place)):
        mean, covariance = (np.asarray(a) for a in ahead(mean, covariance, since[t], spread))
        scale = np.asarray(scatter(covariance, white[t], spread))
        z = _noise(error, nu, scale.shape, rng)
        given = place[t] >= 0
        out[place[t][given]] = (mean.sum(axis=1) + scale * z)[given]
        student = error.nu is not None
        slope = (nu + 1.0) / (nu + z**2) * z if student else z
        fall = np.where(given, (nu + 1.0) / (nu + 3.0) if student else 1.0, 0.0) / scale**2
        through = covariance.sum(axis=2)
        mean = mean + through * np.where(given, slope / scale, 0.0)[:, None]
        outer = through[:, :, None] * through[:, None, :]
        covariance = covariance - outer * fall[:, None, None]
    return out[mine]
