"""The information a sampling design is expected to give: standard errors, criteria, efficiency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pkpd.arguments import check_arguments, from_to
from pkpd.arrays import FloatArray
from pkpd.cards.files import nearest_of
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import draws_of
from pkpd.fitting.draws import Fitted
from pkpd.fitting.information.fisher import informations
from pkpd.fitting.information.groups import SamplingGroup, checked, dataset_of
from pkpd.fitting.information.quantities import Linearised, refuse_what_has_no_moments
from pkpd.fitting.information.scales import on_scale
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.parameter_draws import parameter_draws

if TYPE_CHECKING:
    import pandas as pd

Matrix = Literal["reduced", "full"]
Scale = Literal["deviation", "variance"]
Design = SamplingGroup | Sequence[SamplingGroup] | Dataset

_FLAT = 1e-10  # eigenvalue of the matrix with a unit diagonal below which nothing is told
_PART = 1e-6  # least share of a parameter that lies along such directions: any makes it unknown
_NONE = 1e-12  # of the largest information on a relative change: less is rounding
_SHOWN = 10  # parameters named in a sentence


@dataclass(frozen=True, eq=False)
class ExpectedInformation:
    """Expected information of a sampling design; made by `expected_information`.

    Attributes
    ----------
    names
        The estimated parameters: rows of ``matrix``.
    values : float[P]
        Their values.
    matrix : float[P, P]
        Expected information of the whole design; that of an earlier study is added by ``+``.
    kinds
        Kind of each parameter: typical, effect, deviation, correlation or residual.
    subjects, samples
        Subjects and measured values of the design.
    how
        Words on how it was worked out.
    """

    names: tuple[str, ...]
    values: FloatArray
    matrix: FloatArray
    kinds: tuple[str, ...]
    subjects: float
    samples: float
    how: str

    def __add__(self, other: ExpectedInformation) -> ExpectedInformation:
        """Join the information of two studies of the same parameters."""
        self._check_alike(other, "sum of information")
        return replace(
            self,
            matrix=self.matrix + other.matrix,
            subjects=self.subjects + other.subjects,
            samples=self.samples + other.samples,
            how=self.how if self.how == other.how else f"{self.how}; {other.how}",
        )

    def _check_alike(self, other: Any, where: str) -> None:
        """Refuse what is not the information on the same parameters."""
        if not isinstance(other, ExpectedInformation) or other.names != self.names:
            what = "the other study has other parameters, or is none"
            raise PkpdError(where=where, what=what, allowed=", ".join(self.names))

    @cached_property
    def _scaled(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Roots of the diagonal; eigenvalues and -vectors of the matrix with a unit diagonal."""
        size = np.where(self.values != 0, np.abs(self.values), 1.0)
        own = np.maximum(np.diag(self.matrix), 0.0)
        relative = own * size**2
        some = relative > _NONE * relative.max(initial=0.0)
        scale = np.where(some, np.sqrt(own), 1.0)
        values, axes = np.linalg.eigh(
            np.where(np.outer(some, some), self.matrix, 0.0) / np.outer(scale, scale)
        )
        return scale, values, axes

    @property
    def flat(self) -> tuple[str, ...]:
        """Parameters that the design cannot tell, alone or from one another."""
        _, values, axes = self._scaled
        lost = np.sum(axes[:, values < _FLAT] ** 2, axis=1) > _PART
        return tuple(name for name, gone in zip(self.names, lost, strict=True) if gone)

    @cached_property
    def covariance(self) -> FloatArray:
        """Expected covariance of the estimates, NaN in rows of what cannot be told, ``[P, P]``."""
        scale, values, axes = self._scaled
        told = values >= _FLAT
        inverse = axes[:, told] / values[told] @ axes[:, told].T / np.outer(scale, scale)
        lost = np.isin(self.names, self.flat)
        inverse[lost], inverse[:, lost] = np.nan, np.nan
        return inverse

    @property
    def standard_errors(self) -> dict[str, float]:
        """Expected standard errors by name; NaN where the design does not tell."""
        errors = np.sqrt(np.diag(self.covariance))
        return {name: float(e) for name, e in zip(self.names, errors, strict=True)}

    @property
    def rse(self) -> dict[str, float]:
        """Expected relative standard errors by name, in percent."""
        errors = np.sqrt(np.diag(self.covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = 100.0 * errors / np.abs(self.values)
        return {name: float(e) for name, e in zip(self.names, relative, strict=True)}

    def log_det(self, interest: Sequence[str] | None = None) -> float:
        """Logarithm of the determinant: the D criterion, or Ds for parameters of interest.

        Parameters
        ----------
        interest
            Parameters of interest; the determinant of the others' rows is divided by then, which
            leaves that of the inverse covariance of the parameters of interest.

        Returns
        -------
        float
            Minus infinity where the design does not tell all of them. Of the other parameters it
            need not tell all.
        """
        mine = self.places(interest)
        if len(mine) < len(self.names) and self.flat:
            inverse = self.covariance[np.ix_(mine, mine)]
            return -_log_det(inverse) if np.isfinite(inverse).all() else float("-inf")
        whole = _log_det(self.matrix)
        if len(mine) == len(self.names) or not np.isfinite(whole):
            return whole
        rest = np.setdiff1d(np.arange(len(self.names)), mine)
        return whole - _log_det(self.matrix[np.ix_(rest, rest)])

    def places(self, interest: Sequence[str] | None) -> NDArray[np.int64]:
        """Places of parameters of interest, all of them if none is named.

        Raises
        ------
        PkpdError
            If one is unknown.
        """
        return places_of(self.names, interest)

    def efficiency(
        self, other: ExpectedInformation, interest: Sequence[str] | None = None
    ) -> float:
        """How much the design tells beside another: the ratio of their D criteria.

        ``(det M / det M_other)^(1/p)`` for ``p`` parameters (of interest): with 0.8, the other
        design needs 80 % of the subjects for the same information.
        """
        if interest is None or not isinstance(other, ExpectedInformation):
            self._check_alike(other, "efficiency")
        size = len(self.places(interest))
        return float(np.exp((self.log_det(interest) - other.log_det(interest)) / size))

    def messages(self) -> tuple[str, ...]:
        """Sentences on what deserves attention."""
        if not self.flat:
            return ()
        told = ", ".join(self.flat[:_SHOWN])
        return (
            f"The design cannot tell {told}, alone or from one another: the information is "
            "singular. Sample at more times, give other doses or covariates, or hold one of them.",
        )

    def table(self) -> pd.DataFrame:
        """One row for each parameter: value, expected standard error, relative one in percent."""
        import pandas as pd

        rse, errors = self.rse, self.standard_errors
        return pd.DataFrame(
            {
                "value": self.values,
                "expected_se": [errors[name] for name in self.names],
                "expected_rse": [rse[name] for name in self.names],
            },
            index=pd.Index(self.names, name="parameter"),
        )

    def summary(self) -> str:
        """Tell criterion and expected errors in text."""
        size = len(self.names)
        value = self.log_det()
        head = (
            f"Expected information ({self.how}) of {self.subjects:g} subjects and "
            f"{self.samples:g} samples: ln det {value:.4f}, D criterion {np.exp(value / size):.4g}"
        )
        lines = self.table().to_string(float_format="{:.4g}".format).splitlines()
        return "\n".join([head, *lines, *(f"- {text}" for text in self.messages())])

    __repr__ = summary


def _log_det(matrix: FloatArray) -> float:
    if not len(matrix):
        return 0.0
    sign, value = np.linalg.slogdet(matrix)
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    if sign <= 0 or np.any(scale == 0):
        return float("-inf")
    least = np.linalg.eigvalsh(matrix / np.outer(scale, scale))[0]
    return float(value) if least >= _FLAT else float("-inf")


def places_of(names: Sequence[str], interest: Sequence[str] | None) -> NDArray[np.int64]:
    """Places of parameters of interest among names, all of them if none is named."""
    if interest is None:
        return np.arange(len(names))
    wanted = [interest] if isinstance(interest, str) else list(interest)
    for name in wanted:
        if name not in names:
            what = f"{name!r} is not among the estimated parameters{nearest_of(name, names)}"
            raise PkpdError(where="interest", what=what, allowed=", ".join(names))
    if not wanted:
        raise PkpdError(where="interest", what="no parameter is named")
    return np.array([list(names).index(name) for name in dict.fromkeys(wanted)])


def model_of(source: PopulationModel | Fitted) -> PopulationModel:
    """Take a model at its values, or that of a fit at its estimates (medians of a posterior)."""
    if isinstance(source, PopulationModel):
        return source
    values = parameter_draws(source, 1, 1).values
    model = draws_of(source).likelihood.model
    return model.with_values({name: float(v[0]) for name, v in values.items()})


def random_points(
    linearised: Linearised, x: FloatArray, points: int, seed: int
) -> list[FloatArray | None]:
    """Points at which a model is linearised: 0, or scrambled Sobol points of its effects."""
    if not points:
        return [None]
    from scipy.stats import norm, qmc

    size = linearised.likelihood.random_effects.size
    normal = norm.ppf(qmc.Sobol(size, rng=seed).random(points))
    lower = np.asarray(linearised.free.cholesky(x))
    return list(normal @ lower.T)


def check_size(where: str, samples: float, names: Sequence[str]) -> None:
    """Refuse a design with fewer measured values than parameters.

    Raises
    ------
    PkpdError
        With both numbers.
    """
    if samples < len(names):
        what = f"{samples:g} samples for {len(names)} parameters"
        remedy = "sample more, or hold parameters with fixed(...)"
        raise PkpdError(where=where, what=what, remedy=remedy)


def check_word(where: str, given: Any, kind: Any) -> None:
    """Refuse a word that is none of those allowed."""
    if given not in get_args(kind):
        raise PkpdError(where=where, what=f"{given!r}", allowed=", ".join(get_args(kind)))


def expected_information(
    model: PopulationModel | Fitted,
    design: Design | None = None,
    *,
    matrix: Matrix = "reduced",
    scale: Scale = "deviation",
    points: int = 0,
    seed: int = 1,
) -> ExpectedInformation:
    """Work out the information that a sampling design is expected to give on a model's parameters.

    Parameters
    ----------
    model
        A population model at the values that are believed, or a fit. Held parameters are taken as
        known.
    design
        Groups of subjects (`group`), one or several, or a data set, whose values are not read (one
        below or above a limit counts as if measured, which ``how`` says); of a fit its own data if
        not given.
    matrix
        ``"reduced"``: parameters of the means apart from variances; ``"full"``: with what
        variances tell of the former.
    scale
        ``"deviation"``: the parameters of the package, standard deviations among them, or
        ``"variance"``: variances and covariances in their place (PopED's and NONMEM's).
    points
        0: predictions are linearised at random effects of zero (FO). A number, best a power of 2:
        at so many drawn ones, over which the information is averaged (as FOCE linearises at a
        subject's own).
    seed
        Of those.

    Raises
    ------
    PkpdError
        If the design has fewer samples than the model has parameters, or an input cannot be used.

    Examples
    --------
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> from pkpd.sampling import expected_information, group
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 3.8, iiv=0.22), parameter("V", 20.0, iiv=0.22)],
    ...     residual.proportional(0.12),
    ... )
    >>> found = expected_information(model, group(50, [1, 2, 4, 6, 8, 24], {"AMT": 1000}))
    >>> round(found.rse["CL"], 1)
    3.2
    """
    check_word("expected information, matrix", matrix, Matrix)
    check_word("expected information, scale", scale, Scale)
    check_arguments("expected_information", points=(points, from_to(0)), seed=(seed, from_to(0)))
    data, places, subjects, beyond, model = _bound(model, design)
    likelihood = bind(model, data)
    refuse_what_has_no_moments(likelihood)
    linearised = Linearised(likelihood, bent=matrix == "full" or points > 0)
    free = linearised.free
    samples = float(subjects @ np.array([len(p) for p in places]))
    check_size("expected information", samples, free.names)
    rows, valid = padded(places)
    fixed = np.isin(np.arange(len(free.names)), linearised.located)
    x, total = free.start(), np.zeros((len(free.names),) * 2)
    every = random_points(linearised, x, points, seed)
    for point in every:
        each = informations(linearised.at(x, point), rows, valid, fixed, matrix == "full")
        total += np.einsum("g,gpq->pq", subjects, np.asarray(each)) / len(every)
    names, values, whole = on_scale(free, x, total, scale)
    how = f"{matrix} matrix, " + (f"FOCE at {points} points" if points else "FO")
    if beyond:
        how += f", {beyond} of {len(data.observations)} observations beyond a limit as if measured"
    return ExpectedInformation(
        names, values, whole, free.kinds, float(subjects.sum()), samples, how
    )


def _bound(
    model: PopulationModel | Fitted, design: Design | None
) -> tuple[Dataset, list[NDArray[np.int64]], FloatArray, int, PopulationModel]:
    """Give data, observations and subjects of each group, observations beyond limits, and model."""
    made = model_of(model)
    if design is None:
        if isinstance(model, PopulationModel):
            remedy = "give groups: pkpd.sampling.group(32, [1, 24], {'AMT': 70})"
            raise PkpdError(where="expected information", what="no design is given", remedy=remedy)
        design = draws_of(model).likelihood.dataset
    if not isinstance(design, Dataset):
        groups = checked(design)
        data, places = dataset_of(made, groups)
        return data, places, np.array([one.subjects for one in groups]), 0, made
    subject, beyond = design.observations.subject, np.sum(design.observations.censored != 0)
    places = [np.flatnonzero(subject == b) for b in np.unique(subject)]
    return blank(design), places, np.ones(len(places)), int(beyond), made


def blank(data: Dataset) -> Dataset:
    """Take data without their values, each of which is measured."""
    seen = data.observations
    ones, none = np.ones(len(seen)), np.zeros_like(seen.censored)
    return replace(data, observations=replace(seen, value=ones, censored=none))


def padded(
    places: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Observations of several choices as a table ``[K, N]``, and which of its entries count."""
    width = max(len(p) for p in places)
    rows = np.array([np.resize(p, width) for p in places])
    valid = np.arange(width) < np.array([len(p) for p in places])[:, None]
    return rows, valid
