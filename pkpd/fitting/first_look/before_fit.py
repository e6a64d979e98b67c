"""A look at data and model together before a fit: what no search could mend, and what it may hide.

The typical patient's predictions at the model's starting values are compared with the measurements;
nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pkpd.arguments import a, check_arguments
from pkpd.arrays import FloatArray
from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.data.declared_units import DeclaredUnits
from pkpd.errors import PkpdError
from pkpd.fitting.first_look.doses import doubtful_doses
from pkpd.fitting.judge.ended import constant_covariates
from pkpd.fitting.judge.far import far_values
from pkpd.fitting.judge.findings import Finding, findings_table, in_order
from pkpd.fitting.model.impossible import observed_at, refuse_impossible
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.own_error import OwnErrorLikelihood
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel

if TYPE_CHECKING:
    import pandas as pd

Predict = Callable[[dict[str, float]], FloatArray]

TOO_FEW = "too few observations"
"""Kind of the finding that maximum likelihood refuses."""
_COLLINEAR = 0.98  # correlation of what two covariates of one parameter are on its scale
_TIMES = 1000.0  # of units
_CLOCKS = {"min": 1 / 60.0, "h": 1.0, "day": 24.0}  # hours in units taken for each other
_DOUBTFUL, _NEAR, _FITS = np.log(3.0), np.log(4.0), np.log(2.0)  # of logarithms of ratios
_CLIPPED, _GAIN = np.log(1e260), 0.3  # share of a misfit that other units may leave
_SPREADS, _JUMP = 8.0, np.log(8.0)  # of an outlier, robust standard deviations and a factor
_FEW = 12  # measurements below which no outlier is looked for
_MEANINGLESS = np.log(30.0)  # a start so far off that its residuals show nothing
_INSENSITIVE = 5e-3  # relative change of all predictions where a parameter is doubled
_MOST, _CHANGE = 0.1, 1.3  # share of subjects whose covariate changes, and by what factor


@dataclass(frozen=True, eq=False)
class LookBeforeFit:
    """What was found before a fit.

    Attributes
    ----------
    findings
        The gravest first; each prints as a sentence.
    """

    findings: tuple[Finding, ...]

    @property
    def judged(self) -> pd.DataFrame:
        """The findings as a table, see `pkpd.fitting.judge.findings.findings_table`."""
        return findings_table(self.findings)

    def summary(self) -> str:
        """Tell the findings in text."""
        return "\n".join(f"- {one}" for one in self.findings) or "Nothing speaks against a fit."

    __repr__ = summary


def look_before_fit(data: Dataset, model: PopulationModel) -> LookBeforeFit:
    """Look at data and model before a fit; `pkpd.fit` begins with it.

    What is doubtful there is a `pkpd.errors.PkpdWarning` of `pkpd.fit`. It refuses values to which
    the model gives no chance and, without priors, fewer observations than parameters.

    Parameters
    ----------
    data
        The data.
    model
        The model; its values are the start.

    Returns
    -------
    LookBeforeFit

    Raises
    ------
    DataError
        If the model cannot take the data.

    Examples
    --------
    >>> import pandas as pd, pkpd
    >>> from pkpd.checks import look_before_fit
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> table = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2], "AMT": [10, 0, 0], "DV": [0, 900, 800]})
    >>> model = PopulationModel(
    ...     compartments(1), [parameter("CL", 1.0), parameter("V", 10.0)], residual.additive(0.1))
    >>> print(look_before_fit(pkpd.read_nonmem(table), model).findings[0].kind)
    too few observations
    """
    check_arguments("look_before_fit", data=(data, a(Dataset)), model=(model, a(PopulationModel)))
    likelihood = bind(model, data)
    none = jnp.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    predictions: Any = jax.jit(lambda fixed: likelihood.quantities(fixed, none))
    return LookBeforeFit(
        before_fit(likelihood, lambda values: np.asarray(predictions(likelihood.fixed(values))))
    )


def before_fit(likelihood: PopulationLikelihood, predict: Predict) -> tuple[Finding, ...]:
    """Return what is found, the gravest first.

    Parameters
    ----------
    likelihood
        Model bound to data.
    predict
        Quantities of the typical patient, as `PopulationLikelihood.quantities` gives them, at
        values of the population parameters.
    """
    data = likelihood.dataset
    values = start_values(likelihood.model)
    found = [*_counts(likelihood), *_covariates(likelihood), *_bodies(data), *_copies(data)]
    found += doubtful_doses(data)
    far = far_values(data)
    found += far
    if not isinstance(likelihood, OwnErrorLikelihood):
        predicted = predict(values)
        if np.all(np.isfinite(predicted)):
            found += _impossible(likelihood, values, predicted)
            found += _insensitive(likelihood, values, predicted, predict)
            units = _units(likelihood, predicted)
            told = {m for one in far for m in one.subjects}
            outliers = [] if units else _outliers(likelihood, predicted)
            found += [*units, *(f for f in outliers if f.subjects[0] not in told)]
    return in_order(found)


# Numbers of things ----------------------------------------------------------------------------


def _counts(likelihood: PopulationLikelihood) -> list[Finding]:
    model, data = likelihood.model, likelihood.dataset
    free = [name for name in start_values(model) if name not in held(model)]
    n, out = len(data.observations), []
    if n < len(free):
        out.append(
            Finding(
                TOO_FEW,
                "wrong",
                f"{data.events.source}: there are fewer observations ({n}) than parameters to "
                f"estimate ({len(free)}).",
                "Hold some, or give priors and fit with method='map' or 'nuts'.",
                tuple(free),
            )
        )
    per = np.bincount(data.observations.subject, minlength=likelihood.n_subjects)
    spreads = [name for name in free if name.startswith("omega_")]
    scatter = [name for name in free if name.startswith("sigma_")]
    if spreads and scatter and per.max(initial=0) < 2:
        what = "No subject has two observations"
        what = f"{what}: spread between subjects and residual error are hardly told apart."
        out.append(
            Finding("one observation each", "doubtful", what, "Hold one of them.", (*spreads,))
        )
    effects = np.full(len(per), len(model.varying))
    if model.occasional and data.occasion is not None:
        own = zip(data.occasion, data.events.valid, strict=True)
        effects += len(model.occasional) * np.array([len(np.unique(o[v])) for o, v in own])
    few = np.flatnonzero(per < effects)
    if len(few):
        labels = tuple(str(data.subjects[b]) for b in few)
        what = f"{len(few)} of {len(per)} subjects have fewer observations than random effects."
        out.append(Finding("few observations", "note", what, subjects=labels))
    if model.occasional and data.occasion is not None:
        seen = data.observations
        visits = {*zip(seen.subject, data.occasion[seen.subject, seen.record], strict=True)}
        if len(visits) == len({b for b, _ in visits}):
            names = tuple(f"omega_occasion_{name}" for name in model.occasional)
            what = (
                "Every subject was observed on one occasion: spread between occasions cannot be "
                "told from that between subjects."
            )
            remedy = f"Leave iov out, or look at the column of occasions ({', '.join(names)})."
            out.append(Finding("one occasion", "doubtful", what, remedy, names))
    return out


# Covariates and subjects ----------------------------------------------------------------------


def _covariates(likelihood: PopulationLikelihood) -> list[Finding]:
    data, out = likelihood.dataset, []
    fixed = held(likelihood.model)
    constant = constant_covariates(likelihood)
    for name, words in constant.items():
        if name not in fixed:
            what = f"{words} in all subjects: {name} cannot be told from the typical value."
            remedy = "Leave the effect out, or hold it."
            out.append(Finding("constant covariate", "doubtful", what, remedy, (name,)))
    for p in likelihood.model.parameters:
        effects = [(e.name(p.name), e) for e in p.effects]
        effects = [(n, e) for n, e in effects if n not in constant and n not in fixed]
        for i, (name, effect) in enumerate(effects):
            for other, second in effects[:i]:
                one, two = (e.design(data.covariates[e.covariate][:, 0]) for e in (effect, second))
                with np.errstate(invalid="ignore", divide="ignore"):
                    r = float(np.corrcoef(one, two)[0, 1])
                if effect.covariate == second.covariate or not abs(r) > _COLLINEAR:
                    continue
                what = (
                    f"{second.covariate} and {effect.covariate} go together (correlation {r:.3f}): "
                    f"{other} and {name} are hardly told apart."
                )
                remedy = "Keep one of them."
                out.append(Finding("collinear covariates", "doubtful", what, remedy, (other, name)))
    return out


def _bodies(data: Dataset) -> list[Finding]:
    """Find covariates that change within few subjects and keep their value in all others."""
    out, valid = [], data.events.valid
    for name, given in data.covariates.items():
        values = np.where(valid, given, np.nan)
        low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
        levels = len(np.unique(values[valid])) <= 2
        wide = (low < high) if levels else (low > 0) & (high > _CHANGE * low)
        changes = low < high
        if not (wide.any() and changes.sum() <= max(1, _MOST * len(low)) and len(low) > 3):
            continue
        places = np.flatnonzero(wide)
        told = [f"{data.subjects[b]} ({low[b]:g} and {high[b]:g})" for b in places[:3]]
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        out.append(
            Finding(
                "two bodies",
                "doubtful",
                f"{name} changes within subject {', '.join(told)}{more} and keeps its value in "
                f"{len(low) - int(changes.sum())} others: are there two patients under one ID?",
                "Give each an ID of its own, or correct the covariate.",
                subjects=tuple(str(data.subjects[b]) for b in places),
            )
        )
    return out


def _copies(data: Dataset) -> list[Finding]:
    """Find subjects with the same measurements at the same times, at least three of them."""
    seen, known = data.observations, dict[bytes, int]()
    pairs = []
    for b in range(len(data.subjects)):
        mine = np.flatnonzero((seen.subject == b) & (seen.censored == NOT_CENSORED))
        if len(np.unique(seen.value[mine])) < 3:
            continue
        rows = np.stack([seen.time[mine], seen.value[mine], seen.line[mine]]).astype(float)
        first = known.setdefault(rows.tobytes(), b)
        if first != b:
            pairs.append((first, b))
    if not pairs:
        return []
    told = ", ".join(f"{data.subjects[one]} and {data.subjects[b]}" for one, b in pairs[:3])
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    what = f"The same values at the same times stand under two IDs ({told}{more})"
    what = f"{what}: copies count as information that they are not."
    labels = tuple(str(data.subjects[b]) for _, b in pairs)
    return [Finding("copies", "doubtful", what, "Leave out the copies.", subjects=labels)]


# Measurements beside the start ----------------------------------------------------------------


def _impossible(
    likelihood: PopulationLikelihood, values: dict[str, float], predicted: FloatArray
) -> list[Finding]:
    try:
        refuse_impossible(likelihood, likelihood.fixed(values), predicted)
    except PkpdError as error:
        return [Finding("no chance", "wrong", str(error))]
    return []


def _insensitive(
    likelihood: PopulationLikelihood,
    values: dict[str, float],
    predicted: FloatArray,
    predict: Predict,
) -> list[Finding]:
    """Find parameters that no prediction depends on, at the start."""
    model, out = likelihood.model, []
    size = np.maximum(np.abs(predicted), 1e-6 * np.max(np.abs(predicted), initial=0.0))
    for p in model.parameters:
        if not p.has_typical or p.name in held(model) or p.scale != "log":
            continue
        moved = predict(values | {p.name: 2.0 * values[p.name]})
        with np.errstate(invalid="ignore", divide="ignore"):
            change = np.abs(moved - predicted) / size
        if np.all(np.isfinite(moved)) and np.nanmax(change, initial=0.0) < _INSENSITIVE:
            what = (
                f"No observation depends on {p.name} at the start: doubled, it changes no "
                f"prediction by {_INSENSITIVE:.1%}."
            )
            remedy = "Hold it, give it a prior, or simplify the structure."
            out.append(Finding("no data", "doubtful", what, remedy, (p.name,)))
    return out


def _ratios(
    likelihood: PopulationLikelihood, predicted: FloatArray
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Measured positive values, and the logarithms of their ratios to what is predicted."""
    seen, f = likelihood.dataset.observations, likelihood.predictions_of(predicted)
    used = (seen.censored == NOT_CENSORED) & (seen.value > 0)
    positive = np.where(used & (f > 0), f, 1.0)
    ratio = np.log(np.where(used, seen.value, 1.0)) - np.log(positive)
    ratio = np.where(f > 0, np.clip(ratio, -_CLIPPED, _CLIPPED), _CLIPPED)
    return used, ratio


def _units(likelihood: PopulationLikelihood, predicted: FloatArray) -> list[Finding]:
    """Find values a thousand times off the start, and times read in a wrong unit."""
    data, out = likelihood.dataset, []
    used, ratio = _ratios(likelihood, predicted)
    for k, line in enumerate(data.lines):
        mine = used & (data.observations.line == k)
        if mine.sum() < 3:
            continue
        own = ratio[mine]
        middle = float(np.median(own))
        apart = float(np.median(np.abs(own - middle)))
        if apart < _DOUBTFUL and abs(abs(middle) - np.log(_TIMES)) < _NEAR:
            many, way = float(np.exp(abs(middle))), "above" if middle > 0 else "below"
            what = (
                f"The {line} lies {many:,.0f} times {way} what the model predicts at its start: "
                "amounts, values and volumes seem not to be in units that go together."
            )
            remedy = "Declare them with units={'AMT': ..., 'DV': ...}, or start elsewhere."
            out.append(Finding("units", "doubtful", what, remedy))
    if used.sum() <= 3 or out:
        return out
    return _clocks(likelihood, used, ratio)


def _clocks(
    likelihood: PopulationLikelihood, used: NDArray[np.bool_], ratio: FloatArray
) -> list[Finding]:
    """Find times that fit the start in another unit than that which they are read in."""
    before = float(np.median(np.abs(ratio[used])))
    scaled = float(np.median(np.abs(ratio[used] - np.median(ratio[used]))))
    if before < _DOUBTFUL or scaled < _FITS:
        return []
    data, fits = likelihood.dataset, []
    read = DeclaredUnits(data.events.source).hours(data.time_unit)
    for other, hours in _CLOCKS.items():
        times = hours / read
        again = _with_times(likelihood, times) if hours != read else None
        if again is None or not np.all(np.isfinite(again)):
            continue
        ratio = _ratios(likelihood, again)[1][used]
        after = float(np.median(np.abs(ratio)))
        shape = float(np.median(np.abs(ratio - np.median(ratio))))
        if after < min(_DOUBTFUL, _GAIN * before) and shape < min(_FITS, _GAIN * scaled):
            fits.append((after, times, other))
    if not fits:
        return []
    after, times, other = min(fits)
    told = f"multiplied by {times:g}" if times > 1 else f"divided by {1 / times:g}"
    names = {"min": "minutes", "h": "hours", "day": "days"}
    wrong = "that are read as hours" if data.time_unit is None else "and not in the declared unit, "
    wrong += "" if data.time_unit is None else data.time_unit
    what = (
        f"With all times {told} the model's start fits, half of the values within a factor of "
        f"{np.exp(after):.2g}: times seem to be {names[other]} {wrong}."
    )
    remedy = f"Declare units={{'TIME': '{other}'}}."
    return [Finding("time unit", "doubtful", what, remedy)]


def _with_times(likelihood: PopulationLikelihood, times: float) -> FloatArray | None:
    """Predictions at the start if all times were so many times as long."""
    data = likelihood.dataset
    events = data.events
    changed = replace(
        events,
        time=events.time * times,
        ii=events.ii * times,
        rate=np.where(events.rate > 0, events.rate / times, events.rate),
    )
    seen = replace(data.observations, time=data.observations.time * times)
    try:
        again = bind(likelihood.model, replace(data, events=changed, observations=seen))
        none: Any = np.zeros((again.n_subjects, again.random_effects.size))
        return np.asarray(again.quantities(again.fixed(start_values(again.model)), none))
    except PkpdError:
        return None


def _outliers(likelihood: PopulationLikelihood, predicted: FloatArray) -> list[Finding]:
    """Find values that stand out of the start's residuals: from the subject's own, and by time."""
    data, out = likelihood.dataset, []
    used, ratio = _ratios(likelihood, predicted)
    f = likelihood.predictions_of(predicted)
    for name, error, mine in likelihood._lines:
        mine = mine[used[mine] & (f[mine] > 0)]
        if len(mine) < _FEW or np.median(np.abs(ratio[mine])) > _MEANINGLESS:
            continue
        seen, period = data.observations, data.events.period
        time = seen.time[mine]
        course = seen.subject * (period.max() + 1) + period[seen.subject, seen.record]
        left, spread = _spikes(_by_time(ratio[mine], time), course[mine], time)
        limit = max(_SPREADS * spread, _JUMP)
        far = np.abs(left) > limit
        if not (error.logarithmic or error.form == "proportional"):
            far &= left > 0  # small values of an error that adds are no outliers
        for m, by in sorted(zip(mine[far], left[far], strict=True), key=lambda p: -abs(p[1]))[:3]:
            way, times = "above" if by > 0 else "below", float(np.exp(abs(by)))
            what = (
                f"The {name} at {observed_at(data, int(m))} lies {times:,.3g} times {way} the "
                "values before and after it, beside other subjects at these times."
            )
            who = (str(data.subjects[data.observations.subject[m]]),)
            out.append(Finding("outlier", "doubtful", what, "Look at the record.", subjects=who))
    return out


def _by_time(ratio: FloatArray, time: FloatArray) -> FloatArray:
    """Take out the medians of all values at about a time."""
    left = ratio.astype(float)
    rank = np.argsort(np.argsort(time, kind="stable"), kind="stable")
    bins = rank // max(8, len(rank) // 8)
    for one in np.unique(bins):
        left[bins == one] -= np.median(left[bins == one])
    return left


def _spikes(left: FloatArray, course: NDArray[Any], time: FloatArray) -> tuple[FloatArray, float]:
    """How far each value stands out from both its neighbours in its course, and the usual step.

    A course is a subject's, from one reset to the next. Values that rise or fall steadily do not
    stand out, nor do the first and the last of a course: curves of subjects part there.
    """
    out, order = np.zeros(len(left)), np.lexsort((time, course))
    step = np.diff(left[order])
    same = np.diff(course[order]) == 0
    up, down = step[:-1], -step[1:]
    inside = same[:-1] & same[1:] & (up * down > 0)
    out[order[1:-1]] = np.where(inside, np.sign(up) * np.minimum(np.abs(up), np.abs(down)), 0.0)
    usual = 1.4826 * float(np.median(np.abs(step[same]))) if same.any() else 0.0
    return out, usual
