"""Writing a model for another program."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pkpd.arguments import NONE, PATH, a, check_arguments
from pkpd.data.dataset import Dataset, observed_lines
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.export.data_file import between_limits, write_data
from pkpd.export.nonmem_text import nonmem_text
from pkpd.export.parameters import refuse_joint_prior
from pkpd.export.simulators import mrgsolve_text, rxode2_text
from pkpd.files import write_text
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.likelihood import with_numbers
from pkpd.fitting.model.population_likelihood import error_of
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.marrow import MarrowStructure
from pkpd.predict.marrow_events import numbered_through
from pkpd.predict.structure import check_lines

Program = Literal["nonmem", "mrgsolve", "rxode2", "nlmixr2"]


def export_model(
    model: PopulationModel,
    path: str | Path,
    program: Program = "nonmem",
    *,
    data: Dataset | None = None,
) -> Path:
    """Write a population model as text of another program.

    Parameters
    ----------
    model
        Compartments, differential equations (`ode_model` and its kin) or a marrow model, with its
        parameters, covariates, random effects and residual errors.
    path
        File to write.
    program
        ``"nonmem"``: a control stream for ADVAN13. ``"mrgsolve"``: a model file. ``"rxode2"`` and
        ``"nlmixr2"``: a function of R. For NONMEM and nlmixr2, which hold a covariance that starts
        from 0, a free correlation that starts from 0 starts from 0.1.
    data
        For NONMEM: written beside the stream as CSV; without it the stream reads a file of that
        name that you put there, and a warning says if one is there already. Values of lines with a
        log-normal error are written as logarithms, so NONMEM's objective lacks twice the sum of
        these logarithms. For other programs only looked at: whether they take such data as the
        model does.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PkpdError
        If the model has a part that the program's language lacks; nothing is left out in silence.

    Examples
    --------
    >>> import tempfile
    >>> from pkpd.models import PopulationModel, compartments, parameter, residual
    >>> model = PopulationModel(
    ...     compartments(1), [parameter("CL", 2.7, iiv=0.3), parameter("V", 32)],
    ...     residual.additive(0.7))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = export_model(model, f"{folder}/run1.mod").read_text()
    >>> "CL = THETA(1)*EXP(ETA(1))" in text
    True
    """
    check_arguments(
        "export_model",
        model=(model, a(PopulationModel)),
        path=(path, PATH),
        data=(data, a(Dataset) | NONE),
    )
    path = Path(path)
    refuse_joint_prior(model)
    if program not in get_args(Program):
        raise PkpdError(
            where="export_model", what=f"program {program!r}", allowed=", ".join(get_args(Program))
        )
    if data is not None:
        model = with_numbers(model, data, estimated=False)
    data = None if data is None else _with_lines_of(model, data)
    logarithmic = tuple(n for n, e in model.residual.items() if e.logarithmic)
    if program == "nonmem":
        beside = path.with_suffix(".csv")
        text = nonmem_text(model, data, beside.name)
        if data is not None:
            for line in np.unique(data.observations.line):
                error_of(model, data.lines[line], data.events.source)
            write_data(data, beside, covariates_read(model), logarithmic)
        elif beside.exists():
            warnings.warn(
                f"export_model, {path}: the stream reads {beside.name}, which lies there from "
                "before and may have other columns: give data=, or put there what $INPUT names",
                PkpdWarning,
                stacklevel=2,
            )
    else:
        if program == "nlmixr2":
            _refuse_between(data, logarithmic)
        written = mrgsolve_text(model, data) if program == "mrgsolve" else None
        text = rxode2_text(model, program) if written is None else written
    write_text(path, text)
    return path


def _with_lines_of(model: PopulationModel, data: Dataset) -> Dataset:
    """Name and number lines and compartments of a data set as the model does."""
    data, structure = observed_lines(data), model.structure
    names = structure.lines
    places = check_lines(data, names, type(structure).__name__)
    if isinstance(structure, MarrowStructure) and structure.whole is None:
        data = replace(data, events=numbered_through(structure, data.events))
    seen = replace(data.observations, line=places[data.observations.line])
    return replace(data, observations=seen, lines=tuple(names))


def _refuse_between(data: Dataset | None, logarithmic: tuple[str, ...]) -> None:
    if np.any(between_limits(data, logarithmic)):
        raise PkpdError(
            where="export_model, data",
            what="has values between LIMIT and a limit of quantification, which nlmixr2 fits "
            "otherwise: it divides their probability by that of lying above LIMIT",
            remedy="export to NONMEM, or leave LIMIT out (method M3)",
        )
