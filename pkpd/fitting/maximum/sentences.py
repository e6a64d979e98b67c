"""Sentences of a maximum likelihood fit on what deserves attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood
from pkpd.fitting.maximum.modes import Modes
from pkpd.fitting.maximum.search import SearchResult
from pkpd.fitting.maximum.standard_errors import Uncertainty
from pkpd.fitting.model.impossible import observed_at
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.specification import PopulationModel

_AT_BOUND = 1e-3  # of the distance between bounds
_VANISHED = 1e-5  # residual standard deviation as a share of the size of the observations
_ILL_CONDITIONED = 1e4  # on correlations of estimates; 1000 is a common rule for concern
_FAR, _NEAREST = 30, 5  # times the largest of as many values of others, nearest in time
NOTABLE = 0.1
"""Difference of objectives worth a sentence."""


def messages(
    marginal: MarginalLikelihood,
    end: SearchResult,
    modes: Modes,
    found: Uncertainty | None,
    estimates: dict[str, float],
    vanished: dict[str, float],
) -> list[str]:
    """Sentences on what deserves attention."""
    free = marginal.free
    out = [_no_maximum(marginal, *one) for one in vanished.items()]
    found = None if vanished else found  # there is no curvature to speak of
    edge, constant = free.at_edge(end.point.x), constant_covariates(marginal)
    if not end.converged:
        out.append(
            f"The search did not converge: {end.expected_fall:.2g} of the objective may be left. "
            "Start it again from these estimates, or simplify the model."
        )
    lost = np.flatnonzero(~modes.converged)
    if lost.size:
        labels = ", ".join(str(marginal.likelihood.dataset.subjects[b]) for b in lost[:5])
        have = "has" if lost.size == 1 else "have"
        who = _count(lost.size, "subject")
        out.append(f"{who} {have} no converged mode of random effects: {labels}.")
    for i, (name, kind) in enumerate(zip(free.names, free.kinds, strict=True)):
        if kind == "deviation" and edge[i]:
            out.append(f"{name} is estimated at zero ({estimates[name]:.2g}).")
        elif kind == "correlation" and edge[i]:
            out.append(
                f"{name} is estimated at its limit of {estimates[name]:.4f}: the two random "
                "effects move as one. Let one random effect act on both parameters, or hold it."
            )
        elif name in constant:
            out.append(
                f"{constant[name]} in all subjects, so that {name} cannot be told from the typical "
                f"value: it stays at {estimates[name]:.3g}, and standard errors hold it there. "
                "Leave the effect out, or hold it."
            )
        elif found is not None and not found.used[i]:
            bound = _bound(marginal.likelihood.model, name, estimates[name])
            why = (
                f"The data do not inform {name}: the objective hardly changes with it."
                if bound is None
                else f"{name} is estimated at its bound of {bound:g}."
            )
            out.append(f"{why} Hold it, or give it a prior.")
    if found is not None and not found.positive:
        out.append(
            "The Hessian is not positive definite: no standard errors. The estimate is not a clean "
            "minimum, or parameters are not identified."
        )
    elif found is not None and len(found.flat):
        *first, last = [name for name, lost in zip(free.names, found.not_told, strict=True) if lost]
        out.append(
            f"{', '.join(first)} and {last} are told only together: the objective is flat along "
            f"{_count(len(found.flat), 'combination')} of them, as far as its curvature can be "
            f"known, and they have no standard errors. Hold {len(found.flat)} of them, or give a "
            "prior."
        )
    elif found is not None and found.condition > _ILL_CONDITIONED:
        pair = _most_correlated(found)
        named = f" ({free.names[pair[0]]} and {free.names[pair[1]]} most)" if pair else ""
        out.append(
            f"The estimates are nearly dependent{named}: condition number {found.condition:.3g}."
        )
    return out


def vanished(marginal: MarginalLikelihood, at: Evaluated) -> dict[str, float]:
    """Residual errors that have run to zero, where no likelihood has a maximum, by name."""
    likelihood, free = marginal.likelihood, marginal.free
    value = likelihood.dataset.observations.value
    if isinstance(likelihood, OwnErrorLikelihood):
        normal = likelihood.normal
        sd = np.exp(at.predictions[0].reshape(2, -1)[1])[normal]
        typical = float(np.median(sd)) if normal.any() else np.inf
        gone = typical < _VANISHED * np.sqrt(np.sum(value[normal] ** 2) / max(1, normal.sum()))
        return {"The residual error": typical} if gone else {}
    sd = np.asarray(likelihood.residual_sd(free.fixed(at.x), at.predictions[0]))
    values, out = free.values(at.x), dict[str, float]()
    for line, error, mine in likelihood._lines:
        # the error of logarithms is a share of the value already
        size = 1.0 if error.logarithmic else np.sqrt(np.mean(value[mine] ** 2)) or 1.0
        if np.median(sd[mine]) < _VANISHED * size:
            out |= {n: values[n] for n in error.estimates(line) if n in free.names}
    return {name: one for name, one in out.items() if not name.startswith("nu_")}


def _no_maximum(marginal: MarginalLikelihood, name: str, value: float) -> str:
    """Sentence on a residual error that has run to zero."""
    subjects, rows = marginal.likelihood.n_subjects, len(marginal.likelihood.dataset.observations)
    return (
        f"{name} has run to zero ({value:.2g}): {_count(subjects, 'subject')} with "
        f"{_count(rows, 'observation')} cannot tell it, and the likelihood has no maximum. "
        "Hold it, give it a prior, or simplify the model."
    )


def constant_covariates(marginal: MarginalLikelihood) -> dict[str, str]:
    """Coefficients of covariates that never change, and in words what each covariate is."""
    data, out = marginal.likelihood.dataset, dict[str, str]()
    for parameter in marginal.likelihood.model.parameters:
        for effect in parameter.effects:
            values = np.unique(np.asarray(data.covariates[effect.covariate])[data.events.valid])
            if len(values) == 1:
                name = effect.name(parameter.name)
                out[name] = f"{effect.covariate} is {values[0]:g}"
    return out


def told_far(data: Dataset) -> list[str]:
    """Name values far above all that other subjects have at about that time, by dose and as such.

    The values are compared with each other: a fit that follows such a value does not show it.
    """
    seen, out = data.observations, list[str]()
    given = np.where(data.events.is_dose, data.events.amt * (1 + data.events.addl), 0.0).sum(axis=1)
    by_dose = seen.value / np.where(given > 0, given, 1.0)[seen.subject]
    for k, line in enumerate(data.lines):
        mine = np.flatnonzero((seen.line == k) & (seen.censored == NOT_CENSORED))
        high = mine[seen.value[mine] > _FAR * np.median(seen.value[mine])] if len(mine) else mine
        for m in high:
            others = mine[seen.subject[mine] != seen.subject[m]]
            apart = np.abs(seen.time[others] - seen.time[m])
            near = others[np.argsort(apart, kind="stable")[:_NEAREST]]
            if len(near) < _NEAREST or any(
                v[m] <= _FAR * v[near].max() for v in (seen.value, by_dose)
            ):
                continue
            times = seen.value[m] / seen.value[near].max()
            out.append(
                f"The {line} at {observed_at(data, int(m))} is {times:,.0f} times as high "
                "as any other subject's at about that time, and moves the "
                "estimates. Is it in their unit?"
            )
    return out[:3]


def told_absurd(marginal: MarginalLikelihood, at: Evaluated, absurd: NDArray[np.intp]) -> list[str]:
    """Say which observation is all but impossible, if one is."""
    if not absurd.size:
        return []
    each = np.asarray(marginal.density.by_observation(at.x, at.predictions[0], at.predictions[-1]))
    worst = int(np.nanargmin(each))
    return [
        f"The model gives {_count(absurd.size, 'subject')} no chance, least the observation at "
        f"{observed_at(marginal.likelihood.dataset, worst)}, where it predicts "
        f"{at.predictions[0][worst]:.4g}: the objective means nothing. Look at these records, or "
        "give the residual error an additive part."
    ]


def _bound(model: PopulationModel, name: str, value: float) -> float | None:
    """Bound that an estimate on the logit scale has run into."""
    for one in model.parameters:
        if one.name == name and one.scale == "logit":
            low, high = one.bounds
            for bound in (low, high):
                if abs(value - bound) < _AT_BOUND * (high - low):
                    return bound
    return None


def _most_correlated(found: Uncertainty) -> tuple[int, int] | None:
    places = np.flatnonzero(found.used)
    if len(places) < 2:
        return None
    part: Any = found.covariance[np.ix_(places, places)]
    sd = np.sqrt(np.diag(part))
    off = np.abs(part / np.outer(sd, sd)) - np.eye(len(places))
    i, j = np.unravel_index(int(np.argmax(off)), off.shape)
    return int(places[min(i, j)]), int(places[max(i, j)])


def told_starts(values: list[float]) -> list[str]:
    """Say how many starts agree on the lowest objective."""
    agree = sum(value < min(values) + NOTABLE for value in values)
    if len(values) == 1:
        return []
    told = ", ".join(f"{v:.2f}" for v in sorted(values))
    return [f"{agree} of {len(values)} starts agree on the lowest objective ({told})."]


def told_exchange(fall: float, values: Mapping[str, float] | None = None) -> list[str]:
    """Say that absorption and elimination exchanged end lower: kept, or at which ``values``."""
    if fall < NOTABLE:
        return []
    kept = "the lower is kept."
    if values is not None:
        names = ("ka", "CL", "V" if "V" in values else "V1")
        place = ", ".join(f"{name}={values[name]:.3g}" for name in names)
        kept = (
            f"begin at {place} for the lower, or let starts=2 keep it, if what is known of the "
            "drug does not speak for this one."
        )
    return [
        f"With absorption and elimination exchanged the objective is lower by {fall:.1f}: "
        f"there are two minima (flip-flop); {kept}"
    ]


def told_modes(marginal: MarginalLikelihood, fallen: Mapping[int, float]) -> list[str]:
    """Say whose modes were found anew on the way, if that changed the objective."""
    fall = sum(fallen.values())
    if fall < NOTABLE:
        return []
    names = marginal.likelihood.dataset.subjects
    labels = [str(names[b]) for b, one in sorted(fallen.items()) if one > 0.1 * NOTABLE]
    who = f"subject{'s' if len(labels) > 1 else ''} {', '.join(labels)}"
    return [
        f"Random effects have more than one mode in {who}: better than those followed were found "
        f"on the way, by {fall:.1f} of the objective in all. Start from other values too, and see "
        "whether the end is the same."
    ]


def _count(number: int, thing: str) -> str:
    """Return a number of things in words, ``2 subjects``."""
    return f"{number} {thing}{'s' * (number != 1)}"
