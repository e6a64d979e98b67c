"""What is found in a maximum likelihood fit that has ended.

Every sentence on a finished fit is made here, from where the search ended and what its curvature
told; `pkpd.fitting.judge.influence` adds the subjects that carry it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import FloatArray
from pkpd.data.dataset import NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.fitting.judge.far import far_values, undosed
from pkpd.fitting.judge.findings import Finding, in_order
from pkpd.fitting.judge.standard_errors import Uncertainty
from pkpd.fitting.model.impossible import observed_at, refuse_impossible
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.specification import PopulationModel
from pkpd.solve.population.status import PENALTY

_AT_BOUND = 1e-3  # of the distance between bounds
_VANISHED = 1e-5  # residual standard deviation as a share of the observation, of most of them
_ILL_CONDITIONED = 1e4  # on correlations of estimates; 1000 is a common rule for concern
_MOSTLY = 0.5  # share of the curvature that comes from the prior
_HARDLY = 1.0  # rise at the end of a 95 % interval that is too little for one
NOTABLE = 0.1
"""Difference of objectives worth a sentence."""
TELLS = 3.84
"""Difference of objectives that tells one parameter: the 95 % limit of chi-squared."""
_TELLS_SPREAD = 2.71  # by a test of one variance, whose zero is an edge (see `ratio_p`)


@dataclass(frozen=True, eq=False)
class Ended:
    """Where a search ended, as the judge looks at it.

    Attributes
    ----------
    likelihood
        Model and data.
    names, kinds
        Estimated parameters: names and kinds (typical, effect, residual, deviation, correlation).
    edge : bool[P]
        Which are at a bound.
    estimates
        All population parameters by name.
    converged, expected_fall
        Of the search, and what of the objective may be left.
    without_mode : int[...]
        Subjects without a converged mode.
    predictions : float[M] or float[2 M]
        At the modes.
    log_densities : float[M]
        Of the observations there.
    by_subject : float[B]
        Contributions to the objective.
    found
        Curvature; ``None`` if it was not asked for, and where there is no maximum.
    penalised
        Whether priors were added.
    prior_share : float[P]
        Share of each parameter's information that its prior gave, zero without priors.
    ends
        Objectives at which starts ended.
    lowest
        Objective here; less than at the ends where the search went on from the lowest of them.
    exchange
        Fall of the objective with absorption and elimination exchanged (negative for a rise), and
        there the parameters if that end was not kept.
    rises
        Rise of the objective, at most, without each random effect that is not well known.
    at_limits
        By parameter that is not well known, the end of its 95 % interval by the curvature at which
        the objective rises less, and how much it rises there, at most.
    fallen
        Fall of the objective by better modes found on the way, by subject.
    """

    likelihood: PopulationLikelihood
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    edge: NDArray[np.bool_]
    estimates: dict[str, float]
    converged: bool
    expected_fall: float
    without_mode: NDArray[np.intp]
    predictions: FloatArray
    log_densities: FloatArray
    by_subject: FloatArray
    found: Uncertainty | None
    penalised: bool
    prior_share: FloatArray
    ends: tuple[float, ...]
    lowest: float = np.inf
    exchange: tuple[float, Mapping[str, float] | None] | None = None
    rises: Mapping[str, float] = field(default_factory=dict)
    at_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fallen: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def gone(self) -> dict[str, float]:
        """Residual errors that have run to zero; a prior would have held them."""
        if self.penalised:
            return {}
        return vanished(self.likelihood, self.estimates, self.predictions, self.names)

    @cached_property
    def absurd(self) -> NDArray[np.intp]:
        """Subjects whose data are all but impossible."""
        return np.flatnonzero(self.by_subject > -2.0 * PENALTY)

    @cached_property
    def without_width(self) -> str:
        """What is said of values where 0 is predicted with an error of no width, as after a lag."""
        try:
            fixed = self.likelihood.fixed(self.estimates)
            refuse_impossible(self.likelihood, fixed, self.predictions)
        except PkpdError as error:
            return str(error)
        return ""

    @property
    def good(self) -> bool:
        """Whether the search ended at a minimum of a likelihood, all subjects at modes."""
        no_minimum = self.gone or self.absurd.size or self.without_width
        return self.converged and not (self.without_mode.size or no_minimum)


def judge(ended: Ended) -> tuple[Finding, ...]:
    """Return what deserves attention, the gravest first."""
    return in_order(
        [
            *_no_maximum(ended),
            *_absurd(ended),
            *_unfinished(ended),
            *undosed(ended.likelihood, ended.predictions),
            *_parameters(ended),
            *_together(ended),
            *_without_spread(ended),
            *_beyond_limits(ended),
            *_from_prior(ended),
            *_starts(ended),
            *_exchanged(ended),
            *_modes(ended),
            *far_values(ended.likelihood.dataset),
        ]
    )


def _unfinished(ended: Ended) -> list[Finding]:
    """Say what of the search did not converge."""
    out = []
    if not ended.converged and not ended.gone:  # what has no maximum is nowhere near one
        out.append(
            Finding(
                "not converged",
                "wrong",
                f"The search did not converge: {ended.expected_fall:.2g} of the objective may be "
                "left.",
                "Start it again from these estimates, or simplify the model.",
            )
        )
    lost = ended.without_mode
    if lost.size:
        labels = [str(ended.likelihood.dataset.subjects[b]) for b in lost[:5]]
        have = "has" if lost.size == 1 else "have"
        what = f"{_count(lost.size, 'subject')} {have} no converged mode of random effects"
        what = f"{what}: {', '.join(labels)}."
        out.append(Finding("no mode", "wrong", what, subjects=tuple(labels)))
    return out


def _parameters(ended: Ended) -> list[Finding]:
    """Name parameters at a bound, and those of which the data tell nothing."""
    out, constant = [], constant_covariates(ended.likelihood)
    found = None if ended.gone else ended.found  # there is no curvature to speak of
    for i, (name, kind) in enumerate(zip(ended.names, ended.kinds, strict=True)):
        value = ended.estimates[name]
        if kind == "deviation" and ended.edge[i]:
            what = f"{name} is estimated at zero ({value:.2g})."
            out.append(Finding("at zero", "doubtful", what, "", (name,)))
        elif kind == "correlation" and ended.edge[i]:
            what = (
                f"{name} is estimated at its limit of {value:.4f}: the two random effects move "
                "as one."
            )
            remedy = "Let one random effect act on both parameters, or hold it."
            out.append(Finding("correlation at its limit", "doubtful", what, remedy, (name,)))
        elif name in constant and not ended.penalised:
            what = (
                f"{constant[name]} in all subjects, so that {name} cannot be told from the typical "
                f"value: it stays at {value:.3g}, and standard errors hold it there."
            )
            remedy = "Leave the effect out, or hold it."
            out.append(Finding("constant covariate", "doubtful", what, remedy, (name,)))
        elif found is not None and not found.used[i]:
            bound = _bound(ended.likelihood.model, name, value)
            what = f"The data do not inform {name}: the objective hardly changes with it."
            told = Finding("not told", "doubtful", what, "Hold it, or give it a prior.", (name,))
            if found.bent[i]:
                what = (
                    f"The objective has no minimum along {name} as far as its curvature can be "
                    "known: it falls away or jumps nearby, so that there is no standard error."
                )
                remedy = "Begin again from these estimates, or take starts=3."
                told = Finding("no minimum along", "doubtful", what, remedy, (name,))
            if bound is not None:
                what = f"{name} is estimated at its bound of {bound:g}."
                told = Finding("at a bound", "doubtful", what, told.remedy, (name,))
            out.append(told)
    return out


def _together(ended: Ended) -> list[Finding]:
    """Name directions along which the objective is flat, or nearly so."""
    found = None if ended.gone else ended.found
    if found is None:
        return []
    if not found.positive:
        what = "The Hessian is not positive definite: no standard errors."
        why = "The estimate is not a clean minimum, or parameters are not identified."
        return [Finding("no minimum", "wrong", f"{what} {why}")]
    if len(found.flat):
        lost = [n for n, one in zip(ended.names, found.not_told, strict=True) if one]
        known = "as far as its curvature can be known"
        if len(lost) == 1:
            what = (
                f"{lost[0]} is not told: the objective is flat along it, {known}, and it has no "
                "standard error."
            )
            remedy = "Hold it, or give it a prior."
            return [Finding("not told", "doubtful", what, remedy, (lost[0],))]
        what = (
            f"{_listed(lost)} are told only together: the objective is flat along "
            f"{_count(len(found.flat), 'combination')} of them, {known}, and they have no standard "
            "errors."
        )
        remedy = f"Hold {len(found.flat)} of them, or give a prior."
        return [Finding("told only together", "doubtful", what, remedy, tuple(lost))]
    if found.condition > _ILL_CONDITIONED:
        pair = _most_correlated(found)
        names = tuple(ended.names[i] for i in pair) if pair else ()
        named = f" ({names[0]} and {names[1]} most)" if names else ""
        what = f"The estimates are nearly dependent{named}: condition number {found.condition:.3g}."
        return [Finding("nearly dependent", "doubtful", what, "", names)]
    return []


def _without_spread(ended: Ended) -> list[Finding]:
    """Name random effects that may be absent."""
    out = []
    for name, rise in ended.rises.items():
        if rise < TELLS:
            word = "cannot" if rise < _TELLS_SPREAD else "can hardly"
            what = (
                f"{name} {word} be told from zero: without it the objective is {rise:.1f} higher "
                f"at most, where a test at 5 % asks for {_TELLS_SPREAD:g} and the end of a 95 % "
                f"interval for {TELLS:g}: its interval by the profile of the likelihood reaches "
                "down to zero, which its standard error does not show."
            )
            out.append(Finding("not told from zero", "doubtful", what, "", (name,)))
    return out


def _beyond_limits(ended: Ended) -> list[Finding]:
    """Name parameters that the data leave freer than their intervals say."""
    out = []
    for name, (limit, rise) in ended.at_limits.items():
        if rise < _HARDLY:
            side = "upper" if limit > ended.estimates[name] else "lower"
            what = (
                f"The 95 % interval of {name} is too short: at its {side} end by the curvature, "
                f"{limit:.3g}, the objective is {max(rise, 0.0):.1f} higher at most, where "
                f"{TELLS:g} is meant."
            )
            remedy = "Take its interval from pkpd.checks.profile_likelihood."
            out.append(Finding("interval too short", "doubtful", what, remedy, (name,)))
    return out


def _from_prior(ended: Ended) -> list[Finding]:
    """Name parameters whose information is the prior's, mostly."""
    names = [n for n, s in zip(ended.names, ended.prior_share, strict=True) if s > _MOSTLY]
    if not names:
        return []
    share = [f"{n} ({s:.0%})" for n, s in zip(ended.names, ended.prior_share, strict=True)]
    told = [text for text, s in zip(share, ended.prior_share, strict=True) if s > _MOSTLY]
    rest = "rests" if len(names) == 1 else "rest"
    what = f"{_listed(told)} {rest} on the prior: that much of what is known comes from it."
    return [Finding("rests on prior", "doubtful", what, "", tuple(names))]


def _starts(ended: Ended) -> list[Finding]:
    """Say how many starts agree on the lowest objective."""
    values = ended.ends
    agree = sum(value < min(values) + NOTABLE for value in values)
    if len(values) == 1:
        return []
    told = ", ".join(f"{v:.2f}" for v in sorted(values))
    what = f"{agree} of {len(values)} starts agree on the lowest objective ({told})"
    on = ended.lowest < min(values) - NOTABLE
    what += f", and from there the search went on to {ended.lowest:.2f}." if on else "."
    if agree > 1:
        return [Finding("starts", "note", what)]
    remedy = "Begin more of them, until two end there."
    return [Finding("rests on start", "doubtful", what, remedy)]


def _exchanged(ended: Ended) -> list[Finding]:
    """Say where absorption and elimination exchanged end, unless the data rule that out."""
    if ended.exchange is None:
        return []
    (fall, values), names = ended.exchange, ("ka", "CL", "V" if "V" in ended.estimates else "V1")
    if values is None and fall < NOTABLE:
        return []
    kept = "the lower is kept."
    if values is not None:
        place = ", ".join(f"{name}={values[name]:.3g}" for name in names)
        kept = f"begin at {place} for the "
        kept += "lower" if fall > 0 else "other"
        kept += ", or let starts=2 keep it" if fall > 0 and not ended.penalised else ""
        kept += ", if what is known of the drug does not speak for this one."
    height = "the same" if abs(fall) < 0.05 else f"higher by {-fall:.1f} only"
    height = f"lower by {fall:.1f}" if fall >= 0.05 else height
    what = (
        f"With absorption and elimination exchanged the objective is {height}: there "
        f"are two minima (flip-flop); {kept}"
    )
    return [Finding("rests on start", "note" if values is None else "doubtful", what, "", names)]


def _modes(ended: Ended) -> list[Finding]:
    """Say whose modes were found anew on the way, if that changed the objective."""
    fall = sum(ended.fallen.values())
    if fall < NOTABLE:
        return []
    names = ended.likelihood.dataset.subjects
    least = 0.1 * min(NOTABLE, max(ended.fallen.values()))
    labels = [str(names[b]) for b, one in sorted(ended.fallen.items()) if one > least]
    who = f"subject{'s' if len(labels) > 1 else ''} {', '.join(labels)}"
    what = (
        f"Random effects have more than one mode in {who}: better than those followed were found "
        f"on the way, by {fall:.1f} of the objective in all."
    )
    remedy = "Start from other values too, and see whether the end is the same."
    return [Finding("other modes", "note", what, remedy, subjects=tuple(labels))]


def _absurd(ended: Ended) -> list[Finding]:
    """Say which observation is all but impossible, if one is."""
    if not ended.absurd.size:
        return []
    data, worst = ended.likelihood.dataset, int(np.nanargmin(ended.log_densities))
    predicted = ended.likelihood.predictions_of(ended.predictions)[worst]
    what = (
        f"The model gives {_count(ended.absurd.size, 'subject')} no chance, least the observation "
        f"at {observed_at(data, worst)}, where it predicts {predicted:.4g}: the objective "
        "means nothing."
    )
    remedy = "Look at these records, or give the residual error an additive part."
    labels = tuple(str(data.subjects[b]) for b in ended.absurd[:5])
    return [Finding("no chance", "wrong", what, remedy, subjects=labels)]


def vanished(
    likelihood: PopulationLikelihood,
    values: Mapping[str, float],
    predictions: FloatArray,
    names: Sequence[str],
    weights: FloatArray | None = None,
) -> dict[str, float]:
    """Residual errors that have run to zero, where no likelihood has a maximum, by name.

    Parameters
    ----------
    likelihood
        Model and data.
    values
        Estimates by name.
    predictions : float[M] or float[2 M]
        Predictions there.
    names
        Parameters that were estimated.
    weights : float[B]
        Of subjects; those of no weight are left out.
    """
    counted = None if weights is None else np.asarray(weights) > 0
    value, predictions = likelihood.dataset.observations.value, np.asarray(predictions)
    if isinstance(likelihood, OwnErrorLikelihood):
        normal = likelihood.normal
        sd = np.exp(predictions.reshape(2, -1)[1])[normal]
        typical = float(np.median(sd)) if normal.any() else np.inf
        gone = typical < _VANISHED * np.sqrt(np.sum(value[normal] ** 2) / max(1, normal.sum()))
        return {"The residual error": typical} if gone else {}
    sd = likelihood.residual_sd(np.asarray(likelihood.fixed(values)), predictions)
    out = dict[str, float]()
    for line, error, every in likelihood._lines:
        subject = likelihood.dataset.observations.subject[every]
        mine = every if counted is None else every[counted[subject]]
        # each value is its own measure: others of a line may be a million times larger
        rows = mine[value[mine] != 0]
        # the error of logarithms is a share of the value already
        share = sd[rows] if error.logarithmic else sd[rows] / np.abs(value[rows])
        if rows.size and np.median(share) < _VANISHED:
            out |= {n: values[n] for n in error.estimates(line) if n in names}
        typical = _VANISHED * float(np.median(np.abs(value[rows]))) if rows.size else 0.0
        if np.any(sd[_hit_zeros(likelihood, predictions, mine)] < typical):
            out |= {n: values[n] for n in error.estimates(line) if values.get(n, 1.0) < typical}
    return {name: one for name, one in out.items() if not name.startswith("nu_") and name in names}


def _hit_zeros(
    likelihood: PopulationLikelihood, predictions: FloatArray, mine: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Observations of 0 among ``mine`` whose prediction is 0, such as those before a lag."""
    seen = likelihood.dataset.observations
    zero = (seen.value[mine] == 0.0) & (seen.censored[mine] == NOT_CENSORED)
    return mine[zero & (predictions[mine] == 0.0)]


def _no_maximum(ended: Ended) -> list[Finding]:
    """Say which residual errors have run to zero."""
    likelihood, out = ended.likelihood, list[Finding]()
    subjects, rows = likelihood.n_subjects, len(likelihood.dataset.observations)
    zeros = np.concatenate(
        [
            _hit_zeros(likelihood, ended.predictions, mine)
            for line, error, mine in likelihood._lines
            if not set(error.estimates(line)).isdisjoint(ended.gone)
        ]
        or [np.zeros(0, dtype=np.intp)]
    )
    why = f"{_count(subjects, 'subject')} with {_count(rows, 'observation')} cannot tell it"
    remedy = "Hold it, give it a prior, or simplify the model."
    if zeros.size:
        first = observed_at(likelihood.dataset, int(zeros[0]))
        more = f" and {zeros.size - 1} more" if zeros.size > 1 else ""
        why = f"the model predicts exactly 0 where 0 was observed ({first}{more})"
        remedy = (
            "Mark them as below a limit (CENS), leave them out, or hold it; a larger start may "
            "end elsewhere, at a maximum of its own."
        )
    for name, value in ended.gone.items():
        text = f"{name} has run to zero ({value:.2g}): {why}, and the likelihood has no maximum."
        out.append(Finding("no maximum", "wrong", text, remedy, (name,)))
    if ended.without_width and not ended.gone:
        out.append(Finding("no maximum", "wrong", ended.without_width))
    return out


def constant_covariates(likelihood: PopulationLikelihood) -> dict[str, str]:
    """Coefficients of covariates that never change, and in words what each covariate is."""
    data, out = likelihood.dataset, dict[str, str]()
    for parameter in likelihood.model.parameters:
        for effect in parameter.effects:
            values = np.unique(np.asarray(data.covariates[effect.covariate])[data.events.valid])
            if len(values) == 1:
                name = effect.name(parameter.name)
                out[name] = f"{effect.covariate} is {values[0]:g}"
    return out


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


def _count(number: int, thing: str) -> str:
    """Return a number of things in words, ``2 subjects``."""
    return f"{number} {thing}{'s' * (number != 1)}"


def _listed(things: list[str]) -> str:
    """Join things as a sentence does."""
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"
