"""The likelihood as a guest in anyone's ``pm.Model``: `predictions` and `observe`.

`predictions` turns a structural model and data into a function from PyTensor expressions
(individual parameters) to a PyTensor vector of predictions, with gradients. `observe` adds the
measurements, with residual error and values below their limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor

from pkpd.data.dataset import ABOVE, BELOW, Dataset
from pkpd.errors import PkpdError, sentence
from pkpd.fitting.bayes.graph import Predictions
from pkpd.fitting.model.residual import Form
from pkpd.predict.structure import Structure, check_parameters

pt: Any = pytensor.tensor

_TINY = 1e-12


def predictions(structure: Structure, data: Dataset) -> Callable[[Mapping[str, Any]], Any]:
    """Bind a structural model to data, as a function of PyTensor expressions.

    Parameters
    ----------
    structure
        Structural model.
    data
        Data set of ``B`` subjects and ``M`` observations.

    Returns
    -------
    callable
        From individual parameters by name (numbers or PyTensor expressions; each a scalar, ``[B]``
        or ``[B, N]`` by record) to predictions ``[M]`` in the order of ``data.observations``. Where
        the first ones evaluated are not finite, a `pkpd.errors.SolverWarning` says why.

    Examples
    --------
    ::

        predict = pkpd.pymc.predictions(pkpd.models.compartments(1), data)
        with pm.Model(coords={"subject": data.subjects}):
            CL = pm.LogNormal("CL", 1.0, 0.3, dims="subject")
            V = pm.LogNormal("V", 3.5, 0.2, dims="subject")
            sigma = pm.HalfNormal("sigma", 1.0)
            pkpd.pymc.observe("concentration", predict({"CL": CL, "V": V}), data, sigma=sigma)
    """
    predictor = structure.bind(data)
    names = predictor.parameters

    def predict(*values: Any) -> Any:
        return predictor(dict(zip(names, values, strict=True)))

    def problems(*values: Any) -> Mapping[int, str]:
        return predictor.problems(dict(zip(names, map(np.asarray, values), strict=True)))

    op = Predictions(predict, len(data.observations), problems)

    def call(parameters: Mapping[str, Any]) -> Any:
        check_parameters(parameters, names, type(structure).__name__)
        return op(*(pt.as_tensor_variable(parameters[name]).astype("float64") for name in names))

    return call


def observe(
    name: str,
    predicted: Any,
    data: Dataset,
    *,
    sigma: Any,
    proportional: Any = None,
    form: Form | None = None,
    nu: Any = None,
    line: str | None = None,
) -> Any:
    """Add measured values to the ``pm.Model`` in context, values below their limit by method M3.

    Parameters
    ----------
    name
        Name of the observed variable.
    predicted
        Predictions of all observations, ``[M]``, from `predictions`.
    data
        The data set.
    sigma
        Residual standard deviation: additive, or of the log for ``form="lognormal"``, or the
        coefficient of variation for ``form="proportional"``.
    proportional
        Second coefficient of the combined forms.
    form
        See `pkpd.fitting.model.residual`; ``"additive"`` by default, ``"combined"`` if
        ``proportional`` is given.
    nu
        Degrees of freedom of Student's t.
    line
        Which line; may be left out if there is one.

    Returns
    -------
    TensorVariable
        The observed variable; `pm.sample_posterior_predictive` draws from it.

    Raises
    ------
    PkpdError
        If the line is not in the data or the form has no meaning.
    """
    if form is None:
        form = "additive" if proportional is None else "combined"
    if form not in ("additive", "proportional", "combined", "combined_linear", "lognormal"):
        raise PkpdError(
            sentence(
                where=f"observe {name!r}",
                what=f"form {form!r}",
                allowed="additive, proportional, combined, combined_linear, lognormal",
            )
        )
    if ("combined" in form) != (proportional is not None):
        raise PkpdError(
            sentence(
                where=f"observe {name!r}, form {form!r}",
                what="takes proportional= with the combined forms, and only with them",
            )
        )
    mine = _observations_of(data, line, name)
    seen = data.observations
    f = predicted[mine]
    log = form == "lognormal"
    value = seen.value[mine]
    lower = seen.lower[mine]
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = np.log(np.maximum(lower, 0.0))
    centre = pt.log(f) if log else f
    scale = _scale(form, f, sigma, proportional)
    censored = seen.censored[mine]
    degrees = () if nu is None else (nu,)

    def base(centre: Any, scale: Any, *degrees: Any) -> Any:
        if degrees:
            return pm.StudentT.dist(nu=degrees[0], mu=centre, sigma=scale)
        return pm.Normal.dist(centre, scale)

    def log_density(y: Any, centre: Any, scale: Any, *degrees: Any) -> Any:
        at = pt.log(y) if log else y
        known = base(centre, scale, *degrees)
        out: Any = pm.logp(known, at)
        out = out - at if log else out
        if np.any(censored == BELOW):
            mass = pm.logcdf(known, at)
            bounded = np.isfinite(lower)
            if np.any(bounded & (censored == BELOW)):
                floor = pt.as_tensor_variable(np.where(bounded, lower, 0.0))
                # taken in the tail where both limits lie, so that the difference keeps its digits
                upper = at + floor > 2.0 * centre
                high = pt.switch(upper, 2.0 * centre - floor, at)
                low = pt.switch(upper, 2.0 * centre - at, floor)
                between = pm.math.logdiffexp(pm.logcdf(known, high), pm.logcdf(known, low))
                mass = pt.switch(bounded, between, mass)
            out = pt.switch(censored == BELOW, mass, out)
        if np.any(censored == ABOVE):
            # the distribution is symmetric: mass above is mass below the mirror image
            mirrored = base(-centre, scale, *degrees)
            out = pt.switch(censored == ABOVE, pm.logcdf(mirrored, -at), out)
        return out

    def draw(centre: Any, scale: Any, *degrees: Any, rng: Any = None, size: Any = None) -> Any:
        shape = np.broadcast_shapes(np.shape(centre), np.shape(scale), tuple(size or ()))
        z = rng.standard_t(degrees[0], shape) if degrees else rng.standard_normal(shape)
        out = centre + scale * z
        return np.exp(out) if log else out

    return pm.CustomDist(
        name,
        centre,
        scale,
        *degrees,
        logp=log_density,
        random=draw,
        observed=value,
        signature="(),(),()->()" if degrees else "(),()->()",
    )


def _observations_of(data: Dataset, line: str | None, name: str) -> np.ndarray:
    if line is None:
        if len(data.lines) > 1:
            raise PkpdError(
                sentence(
                    where=f"observe {name!r}",
                    what="the data have several lines",
                    allowed=", ".join(data.lines),
                    remedy="say which with line=",
                )
            )
        return np.arange(len(data.observations))
    if line not in data.lines:
        raise PkpdError(
            sentence(
                where=f"observe {name!r}, line {line!r}",
                what="is not in the data",
                allowed=", ".join(data.lines),
            )
        )
    return np.flatnonzero(data.observations.line == data.lines.index(line))


def _scale(form: str, f: Any, sigma: Any, proportional: Any) -> Any:
    if form in ("additive", "lognormal"):
        return sigma + 0.0 * f
    if form == "proportional":
        return sigma * pt.abs(f) + _TINY
    if form == "combined":
        return pt.sqrt(sigma**2 + (proportional * f) ** 2)
    return sigma + proportional * pt.abs(f)
