"""A fit read back from the file that its ``save`` wrote, whatever method made it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os.path import isfile  # also for a name longer than the system takes
from pathlib import Path
from typing import Any, NoReturn

from pkpd.arguments import PATH, a, check_arguments
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.files import read_netcdf
from pkpd.fitting.maximum.result import KIND, MaximumLikelihood, result_of
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.fitting.sampled import Fit


def load_fit(path: str | Path, model: PopulationModel, data: Dataset) -> Fit | MaximumLikelihood:
    """Read a fit back.

    Parameters
    ----------
    path
        File written by ``save`` of what `pkpd.fit` gave.
    model, data
        The model and data it was made with.

    Returns
    -------
    Fit or MaximumLikelihood
        What was saved.

    Raises
    ------
    PkpdError
        If there is no such file, it holds no fit, or it is one of other subjects or parameters.
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
    likelihood = bind(model, data)
    subjects = [str(s) for s in likelihood.dataset.subjects]
    try:
        found: Any = read_netcdf(path)
        made: Any = found if found.attrs.get("kind") == KIND else None
        names = _groups(path) if made is None else []
        groups: dict[str, Any] = {name: read_netcdf(path, name) for name in names}
        idata: Any = az.InferenceData(**groups)
        group = idata.posterior if made is None else made
        theirs = group.coords["subject"].values
        record = json.loads(group.attrs.get("record", "{}"))
        known = list(record["estimates"] if made is not None else group.data_vars)
        result = None if made is None else result_of(made, likelihood)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        _refuse(path, f"is no saved fit ({error})", "name the file that fit.save(...) wrote")
    if result is not None:
        _check(path, start_values(model), known, subjects, theirs)
        return result
    names = [name for name in start_values(model) if name not in held(model)]
    _check(path, names, known, subjects, theirs)
    return Fit(likelihood, idata, None, None, record)


def _groups(path: Path) -> list[str]:
    import h5py

    with h5py.File(path, "r") as file:
        return [str(name) for name, one in file.items() if isinstance(one, h5py.Group)]


def _check(
    path: Path, wanted: Any, there: Sequence[str], subjects: Sequence[str], theirs: Any
) -> None:
    """Refuse a fit of other parameters or subjects."""
    missing = sorted(set(wanted) - set(there))
    if missing or subjects != [str(s) for s in theirs]:
        what = f"has no parameter {missing[0]!r}" if missing else "was made with other subjects"
        _refuse(path, what, "load it with the model and data it is of")


def _refuse(path: Path, what: str, remedy: str) -> NoReturn:
    raise PkpdError(where=str(path), what=what, remedy=remedy)
