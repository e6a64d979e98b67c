"""What a structural model is to everything above it, and what it gives when bound to data.

A `Structure` knows its individual parameters and the lines it predicts. Bound to a
`pkpd.data.dataset.Dataset` it becomes a `Predictor`: a function from individual parameters to one
prediction for each observation, which JAX can trace and differentiate. All that does not depend on
parameters (doses, grids, places of the observations) is worked out once, in ``bind``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.dataset import Dataset
from pkpd.errors import DataError, PkpdError
from pkpd.kinetics.compartments import LinearSystem
from pkpd.solve.events.advance import DOSING_NAME
from pkpd.solve.events.system import OdeSystem
from pkpd.solve.events.timeline import EventOptions

IndividualParameters = Mapping[str, Any]
"""Values by name: each a scalar, ``[B]`` by subject, or ``[B, N]`` by record."""


class FollowingData(dict[str, Any]):
    """Individual parameters that change in a subject only where its data say so.

    Within a stretch of records of one occasion whose covariates stay the same, each has one value,
    whatever the population parameters are. A predictor may then read it at any record of the
    stretch, and give that record the derivative of all.
    """


CLOSED_FORMS_AT_ONCE, SOLUTIONS_AT_ONCE = 1024, 128
"""Subjects times points that are predicted together: beyond them together costs as much as one by
one. The steps of a solver are all kept, some 0.2 MB for each lane and thousand of them."""


class OfPrograms:
    """What predictors that run nothing but programs of XLA have in common.

    Attributes
    ----------
    concurrent
        Threads may call them at once.
    lanes_at_once
        Subjects times points that are worth taking together.
    """

    concurrent = True
    lanes_at_once = SOLUTIONS_AT_ONCE


@runtime_checkable
class Predictor(Protocol):
    """A structural model bound to a data set of ``B`` subjects and ``M`` observations."""

    @property
    def dataset(self) -> Dataset:
        """What it is bound to."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters read, in natural units."""
        ...

    def __call__(self, parameters: IndividualParameters) -> Any:
        """Predict every observation of the data set, in its order.

        Parameters
        ----------
        parameters
            Values by name: each a scalar, ``[B]`` by subject, or ``[B, N]`` by record where it
            changes between records (covariates over time, occasions). JAX tracers are welcome.

        Returns
        -------
        Array
            float[M] in the unit of the line. A subject that cannot be solved gives NaN in its own
            observations, never an exception and never NaN in those of others.
        """
        ...

    def problems(self, parameters: IndividualParameters) -> dict[int, str]:
        """Say for each subject that cannot be solved (or is over tolerance) why: index to sentence.

        Takes numbers, not tracers. Empty if all is well.
        """
        ...


@runtime_checkable
class Structure(Protocol):
    """A structural model: what its individual parameters are, and what it predicts."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters in natural units (L/h, L, 1/h, h, 10^9/L)."""
        ...

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the lines it can predict: "concentration", "neutrophils", ..."""
        ...

    def bind(self, dataset: Dataset) -> Predictor:
        """Prepare predictions of a data set's observations.

        Raises
        ------
        DataError
            If the data set has a line or a dose that the structure does not know.
        """
        ...


def carries_forward(part: Any) -> bool:
    """Tell whether a structure takes parameters of a record over the interval that begins at it."""
    if isinstance(part, EventOptions):
        return part.carry == "forward"
    if isinstance(part, tuple | list):
        return any(carries_forward(each) for each in part)
    if not is_dataclass(part) or isinstance(part, type):
        return False
    return any(carries_forward(getattr(part, one.name)) for one in fields(part))


def check_lines(dataset: Dataset, lines: Sequence[str], name: str) -> np.ndarray:
    """Return for each line of the data set its place among those of a structure.

    A data set with one unnamed line ("DV") belongs to a structure that has one line.

    Raises
    ------
    DataError
        If a line of the data set is none of the structure's.
    """
    if dataset.lines == ("DV",) and len(lines) == 1:
        return np.zeros(1, dtype=np.int64)
    unknown = [line for line in dataset.lines if line not in lines]
    if unknown:
        free = [line for line in lines if line not in dataset.lines]
        names = [f'"{name}"' for name in free] + ["None"] * len(unknown)
        codes = ", ".join(f"{_code_of(line)}: {n}" for line, n in zip(unknown, names, strict=False))
        spare = " (None leaves a line out)" if len(unknown) > len(free) else ""
        raise DataError(
            where=f"{dataset.events.source}, line {unknown[0]!r}",
            what=f"is not predicted by the model ({name})",
            allowed=", ".join(lines),
            remedy="name the lines of the data by their codes, such as "
            f"read_nonmem(lines={{{codes}}}){spare}",
        )
    return np.array([list(lines).index(line) for line in dataset.lines], dtype=np.int64)


def _code_of(line: str) -> str:
    """Write the code that a line has in the data, as far as its name tells it."""
    number = line.rsplit(" ", 1)[-1] if line.startswith(("DVID ", "CMT ")) else ""
    return number if number.isdigit() else f'"{line}"' if line != "DV" else "1"


def check_dosing(names: Sequence[str], system: LinearSystem | OdeSystem) -> tuple[str, ...]:
    """Return dosing parameters, each once.

    Raises
    ------
    PkpdError
        If one is none of ``ALAGn``, ``Fn``, ``Dn`` and ``Rn`` with a compartment of the system.
    """
    for name in names:
        found = DOSING_NAME.fullmatch(str(name))
        if found is None or int(found[2]) > system.size:
            places = enumerate(system.compartments, start=1)
            raise PkpdError(
                where=system.name,
                what=f"dosing parameter {name!r}",
                allowed="ALAGn, Fn, Dn, Rn with n the number of a compartment: "
                + ", ".join(f"{n} {place}" for n, place in places),
            )
    return tuple(dict.fromkeys(names))


def check_parameters(given: IndividualParameters, wanted: Sequence[str], name: str) -> None:
    """Refuse individual parameters that are missing or that nothing reads.

    Raises
    ------
    PkpdError
        With the parameter's name and those allowed.
    """
    for what, names in (
        ("is missing", [n for n in wanted if n not in given]),
        ("is not a parameter of the model", [n for n in given if n not in wanted]),
    ):
        if names:
            raise PkpdError(
                where=f"{name}, parameter {names[0]!r}", what=what, allowed=", ".join(wanted)
            )


def value_at(value: Any, subject: np.ndarray, record: np.ndarray) -> Array:
    """Values of an individual parameter at records, ``[M]``."""
    array = jnp.asarray(value, dtype=float)
    if array.ndim == 0:
        return jnp.broadcast_to(array, subject.shape)
    rows = subject if array.shape[0] > 1 else np.zeros_like(subject)
    if array.ndim == 1:
        return array[rows]
    return array[rows, record if array.shape[1] > 1 else np.zeros_like(record)]
