"""A fit read back from the file that its ``save`` wrote, whatever method made it."""

from __future__ import annotations

import json
import warnings
from os.path import isfile  # also for a name longer than the system takes
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pkpd.arguments import PATH, a, check_arguments
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.files import read_netcdf
from pkpd.fitting.maximum.description import description, differences
from pkpd.fitting.maximum.predicted import predicted, unlike
from pkpd.fitting.maximum.result import KIND, MaximumLikelihood, result_of
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import Fit

_REMEDY = "load it with the model and data it is of"
# what a file that is no fit ends in: a group tree nested too deep, names that run out, odd types
_NO_FIT = (
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    StopIteration,
    RecursionError,
)
_MOST = 3  # differences named


def load_fit(path: str | Path, model: PopulationModel, data: Dataset) -> Fit | MaximumLikelihood:
    """Read a fit back.

    Parameters
    ----------
    path
        File written by ``save`` of what `pkpd.fit` gave.
    model, data
        The model and data it was made with. The model gets the starting values of the fit. What is
        within functions of your own (`derived`, `ode_model`) is compared by the predictions and log
        densities of all observations, at the start and a little away from it.

    Returns
    -------
    Fit or MaximumLikelihood
        What was saved.

    Raises
    ------
    PkpdError
        If there is no such file, it holds no fit, or it is one of another model or other data; the
        message says what differs.

    Warns
    -----
    PkpdWarning
        If the file is of an earlier version, which kept too little of model and data to compare all
        of them.
    """
    import arviz as az

    check_arguments(
        "load_fit",
        path=(path, PATH),
        model=(model, a(PopulationModel)),
        data=(data, a(Dataset)),
    )
    path = Path(path)
    if not isfile(path):
        _refuse(path, "there is no such file", "name the file that fit.save(...) wrote")
    try:
        found: Any = read_netcdf(path)
        made: Any = found if found.attrs.get("kind") == KIND else None
        names = _groups(path) if made is None else []
        groups: dict[str, Any] = {name: read_netcdf(path, name) for name in names}
        idata: Any = az.InferenceData(**groups)
        group = idata.posterior if made is None else made
        theirs = [str(s) for s in group.coords["subject"].values]
        record = json.loads(group.attrs.get("record", "{}"))
        about = json.loads(group.attrs.pop("about", "{}"))
        known = list(record["estimates"] if made is not None else group.data_vars)
    except _NO_FIT as error:
        _refuse(path, f"is no saved fit ({error})", "name the file that fit.save(...) wrote")
    try:
        free = set(start_values(model)) - held(model)
        start = {name: at for name, at in about.get("start", {}).items() if name in free}
        likelihood = bind(model.with_values(start), data)
        if theirs != [str(s) for s in likelihood.dataset.subjects]:
            _refuse(path, "was made with other subjects", _REMEDY)
        _compare(path, about, likelihood, sampled=made is None)
        missing = (free if made is None else set(start_values(model))) - set(known)
        if missing:
            _refuse(path, f"has no parameter {min(missing)!r}", _REMEDY)
        if made is None:
            return Fit(likelihood, idata, None, None, record)
        result, scales = result_of(made, likelihood), FreeParameters(likelihood)
        begun = np.allclose(scales.of(result.estimates), result.x, rtol=1e-6, atol=1e-6)
    except PkpdError:
        raise
    except _NO_FIT as error:
        _refuse(path, f"is no saved fit ({error})", "name the file that fit.save(...) wrote")
    if not begun:  # of an earlier version, which did not keep where the fit began
        _refuse(path, "was begun from other values", "give the model with the values it began from")
    return result


def _groups(path: Path) -> list[str]:
    import h5py

    with h5py.File(path, "r") as file:
        return [str(name) for name, one in file.items() if isinstance(one, h5py.Group)]


def _compare(
    path: Path, about: dict[str, Any], likelihood: PopulationLikelihood, *, sampled: bool
) -> None:
    """Refuse a fit of another model or other data, as far as its file tells."""
    subjects = [str(s) for s in likelihood.dataset.subjects]
    mine = json.loads(json.dumps(description(FreeParameters(likelihood), priors=sampled)))
    found = differences(about, mine, subjects) if about else []
    if not found and "predicted" in about:
        found = unlike(about["predicted"], predicted(likelihood), likelihood)
    if found:
        more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
        what = f"was made with another model or other data ({'; '.join(found[:_MOST])}{more})"
        _refuse(path, what, _REMEDY)
    if "predicted" not in about:
        known, left = "part of its model and data", "whether they are these"
        if not about:
            known = "nothing of its model and data"
        elif "model" in about:
            known, left = "nothing of what its model predicts", "functions of your own in it"
        warnings.warn(
            f"{path}: an earlier version wrote it and kept {known}, so that {left} could not be "
            "checked; save the fit again once you are sure.",
            PkpdWarning,
            stacklevel=3,
        )


def _refuse(path: Path, what: str, remedy: str) -> NoReturn:
    raise PkpdError(where=str(path), what=what, remedy=remedy)
