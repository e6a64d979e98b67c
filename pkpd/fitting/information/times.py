"""The best sampling times within windows: D and Ds criteria, over draws of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import MAPPING, check_arguments, from_to
from pkpd.arrays import FloatArray
from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.fitting.draws import Fitted
from pkpd.fitting.information.candidates import Belief
from pkpd.fitting.information.exchange import Found, Scene, search
from pkpd.fitting.information.expected import (
    ExpectedInformation,
    Matrix,
    Scale,
    check_size,
    check_word,
    expected_information,
    model_of,
)
from pkpd.fitting.information.groups import SamplingGroup, checked, dataset_of
from pkpd.fitting.information.quantities import refuse_what_has_no_moments
from pkpd.fitting.information.scales import change_to
from pkpd.fitting.information.windows import Windows, spaces_of
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.parameter_draws import parameter_draws

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class OptimalTimes:
    """Sampling times that tell most; made by `optimal_times`.

    Attributes
    ----------
    groups
        The groups with these times.
    given
        The groups as they were.
    information, before
        Expected information of both, at the values of the model or the estimates of the fit.
    interest
        Parameters of interest; all for the D criterion.
    criteria, criteria_before : float[D]
        ``ln det`` (of the parameters of interest) of both at each value of the parameters; the
        search raised the mean.
    windows : float[S, 2]
        Window of each sample of each group.
    starts
        Mean criterion on the grid that each start came to.
    """

    groups: tuple[SamplingGroup, ...]
    given: tuple[SamplingGroup, ...]
    information: ExpectedInformation
    before: ExpectedInformation
    interest: tuple[str, ...]
    criteria: FloatArray
    criteria_before: FloatArray
    windows: tuple[FloatArray, ...]
    starts: tuple[float, ...]

    @property
    def efficiency(self) -> float:
        """Of the given design beside the best one: with 0.8, it needs 25 % more subjects.

        ``exp((mean ln det - best mean ln det) / p)``; 0 if it does not tell everything.
        """
        return float(np.exp(self._gap.mean()))

    @property
    def efficiencies(self) -> FloatArray:
        """Efficiency of the given design beside this one at each value of the parameters, ``[D]``.

        Above 1 where this one, chosen for all values, is the worse.
        """
        return np.exp(self._gap)

    @property
    def _gap(self) -> FloatArray:
        return (self.criteria_before - self.criteria) / len(self.interest)

    def table(self) -> pd.DataFrame:
        """One row for each sample: its lines, the given hour, its window and the best hour."""
        import pandas as pd

        rows = []
        for one, old, window in zip(self.groups, self.given, self.windows, strict=True):
            for k in np.argsort(one.times, kind="stable"):
                rows.append(
                    {
                        "group": one.name,
                        "lines": " ".join(one.of[k]) or "all",
                        "given": old.times[k],
                        "low": window[k, 0],
                        "high": window[k, 1],
                        "best": one.times[k],
                    }
                )
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """Tell the times, how much they are worth, and the expected errors."""
        what = "D" if len(self.interest) == len(self.information.names) else "Ds"
        over = f", mean of {len(self.criteria)} draws" if len(self.criteria) > 1 else ""
        best = max(self.starts)
        same = sum(best - one < 0.01 * len(self.interest) for one in self.starts)
        both: Any = self.information.table()[["value"]]
        both["rse_given"] = self.before.table()["expected_rse"]
        both["rse_best"] = self.information.table()["expected_rse"]
        lines = [
            f"{what}-optimal times{over}: ln det {self.criteria.mean():.4f}; the given ones "
            f"{self.criteria_before.mean():.4f}, efficiency {100 * self.efficiency:.1f} %",
            *(one.words() for one in self.groups),
            *both.to_string(float_format="{:.4g}".format).splitlines(),
            f"- {same} of {len(self.starts)} starts came within 1 % of efficiency of the best.",
        ]
        return "\n".join([*lines, *(f"- {text}" for text in self.information.messages())])

    __repr__ = summary


def optimal_times(
    model: PopulationModel | Fitted,
    design: SamplingGroup | Sequence[SamplingGroup],
    windows: Windows | None = None,
    *,
    candidates: Sequence[float] | None = None,
    apart: float = 0.0,
    interest: Sequence[str] | None = None,
    draws: int | Mapping[str, Sequence[float]] = 1,
    prior: ExpectedInformation | None = None,
    matrix: Matrix = "reduced",
    scale: Scale = "deviation",
    points: int = 0,
    starts: int = 5,
    seed: int = 1,
) -> OptimalTimes:
    """Find the sampling times that tell most about a model's parameters.

    Parameters
    ----------
    model, matrix, scale, points
        As of `expected_information`.
    design
        Groups of subjects, one or several, with as many samples as can be taken; their times are
        where one search begins.
    windows
        Hours between which samples may lie: one pair ``(low, high)`` for all, one for each sample
        of a group, or a mapping from the names of groups to such. A window without width holds a
        sample.
    candidates
        Hours among which to choose. Without them any hour in a window can be.
    apart
        Least hours between two samples of a line in a group; 0 allows replicates.
    interest
        Parameters of interest (Ds criterion); all if left out (D criterion).
    draws
        More than 1: of the parameters of a fit, over which the criterion is averaged, or values of
        population parameters by name, of one length; those that are not named stay.
    prior
        Information of an earlier study of the same model, on the same scale.
    starts
        Random designs from which searches begin, besides the given one and an early one.
    seed
        Of starts, draws and points.

    Raises
    ------
    PkpdError
        If an input cannot be used, samples do not fit into their windows, there are fewer samples
        than parameters, or no times tell all parameters.

    Notes
    -----
    The mean over draws of ``ln det`` is the robust criterion of Pronzato and Walter (1985, Math
    Biosci 75:103-20) and is often called ELD or API. Exchange and gradients take turns until
    neither raises the criterion, which no search of this kind can tell from the best of all: the
    summary says how many starts came to the same value.

    Examples
    --------
    >>> from pkpd.models import PopulationModel, compartments, fixed, parameter, residual
    >>> from pkpd.sampling import group, optimal_times
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 4.0), parameter("V", 20.0)],
    ...     residual.additive(fixed(1.0)),
    ... )
    >>> best = optimal_times(model, group(10, [1, 2], {"AMT": 1000}), (0.5, 48))
    >>> [round(t, 2) for t in best.groups[0].times]  # half an hour, and V / CL later
    [0.5, 5.5]
    """
    where = "optimal_times"
    check_word(f"{where}, matrix", matrix, Matrix)
    check_word(f"{where}, scale", scale, Scale)
    check_arguments(
        where,
        starts=(starts, from_to(0)),
        points=(points, from_to(0)),
        seed=(seed, from_to(0)),
        draws=(draws, from_to(1) | MAPPING),
    )
    made, groups = model_of(model), checked(design)
    spaces = spaces_of(made, groups, windows, candidates, apart)
    likelihood = bind(made, dataset_of(made, groups)[0])
    refuse_what_has_no_moments(likelihood)
    free = FreeParameters(likelihood)
    samples = sum(one.subjects * sum(map(len, one.lines_of(made))) for one in groups)
    check_size("optimal times", samples, free.names)
    names = change_to(free, free.start(), scale)[0]
    how: dict[str, Any] = {"matrix": matrix, "scale": scale, "points": points, "seed": seed}
    before = _joined(expected_information(made, groups, **how), prior)
    places = before.places(interest)
    belief = Belief(
        _values(model, free, draws, seed), tuple(places.tolist()), scale, matrix == "full", points,
        seed, np.zeros((len(names),) * 2) if prior is None else prior.matrix,
    )  # fmt: skip
    scene = Scene(made, spaces, belief, np.random.default_rng(seed))
    old, new = search(scene, [np.array(one.times) for one in groups], starts)
    best = tuple(
        one.at(space.ordered(times).tolist())
        for one, space, times in zip(groups, spaces, new.times, strict=True)
    )
    after = _joined(expected_information(made, best, **how), prior)
    reached = _criteria(after, new, interest)
    if not np.isfinite(reached).all():
        what = f"no times were found that tell {', '.join(after.flat) or 'all parameters'}"
        remedy = "take more samples or groups, or hold parameters with fixed(...)"
        raise PkpdError(where="optimal times", what=what, remedy=remedy)
    return OptimalTimes(
        best, groups, after, before, tuple(names[i] for i in places),
        reached, _criteria(after, old, interest),
        tuple(np.stack([one.low, one.high], axis=1) for one in spaces), new.starts,
    )  # fmt: skip


def _joined(
    information: ExpectedInformation, prior: ExpectedInformation | None
) -> ExpectedInformation:
    return information if prior is None else information + prior


def _criteria(
    like: ExpectedInformation, found: Found, interest: Sequence[str] | None
) -> FloatArray:
    return np.array([replace(like, matrix=one).log_det(interest) for one in found.matrices])


def _values(
    model: PopulationModel | Fitted, free: FreeParameters, draws: Any, seed: int
) -> FloatArray:
    """Values of the parameters on the scale of the search, ``[D, P]``."""
    where = "optimal times, draws"
    if not isinstance(draws, Mapping):
        if draws == 1:
            return free.start()[None]
        if isinstance(model, PopulationModel):
            what = f"{draws} draws are asked of a model, which has one value of each parameter"
            remedy = "give a fit, or draws={'CL': [3, 4, 5]}"
            raise PkpdError(where=where, what=what, remedy=remedy)
        values = parameter_draws(model, draws, seed).values
    else:
        values = {str(name): np.atleast_1d(np.asarray(v, float)) for name, v in draws.items()}
        for name in values:
            if name not in free.names:
                what = f"{name!r} is not estimated{nearest_of(name, free.names)}"
                raise PkpdError(where=where, what=what, allowed=", ".join(free.names))
    sizes = sorted({len(v) for v in values.values()})
    if len(sizes) != 1 or sizes[0] == 0:
        what = f"the parameters have {' and '.join(map(str, sizes)) or 'no'} values"
        raise PkpdError(where=where, what=what, allowed="as many values of each parameter")
    middle = free.values(free.start())
    found = np.stack(
        [free.of(middle | {name: v[d] for name, v in values.items()}) for d in range(sizes[0])]
    )
    if not np.all(np.isfinite(found)):
        name = free.names[int(np.flatnonzero(~np.isfinite(found).all(axis=0))[0])]
        raise PkpdError(where=where, what=f"a value of {name} is outside of what it can be")
    return found
