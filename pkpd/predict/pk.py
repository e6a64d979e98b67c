"""Concentrations in linear compartments, exact at every record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.arguments import NAMES, TEXT, Kind, check_arguments, from_to
from pkpd.data.dataset import Dataset
from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE
from pkpd.errors import DataError, PkpdError, sentence
from pkpd.kinetics.compartments import LinearSystem, compartment_model
from pkpd.predict.structure import (
    CLOSED_FORMS_AT_ONCE,
    IndividualParameters,
    check_dosing,
    check_lines,
    check_parameters,
    value_at,
)
from pkpd.solve.events.advance import left_out_when_compiled, solve_linear
from pkpd.solve.events.timeline import EventOptions

Others = tuple[tuple[str, str, str | None], ...]
"""Line, compartment and volume of what is observed besides."""

_CODES = {"R": MODELLED_RATE, "D": MODELLED_DURATION}


@dataclass(frozen=True)
class LinearStructure:
    """Amounts in a linear system, divided by volumes, at the observations.

    Attributes
    ----------
    system
        Compartments and flows.
    volume
        Name of the parameter that turns the observed amount into a concentration; ``None`` for the
        amount itself.
    line
        Name of what is predicted.
    dosing
        Dosing parameters estimated or given: ``ALAG1``, ``F2``, ``D1``, ``R2``, ...
    options
        How events are read.
    others
        Further lines, each with the name of its compartment and of its volume (or ``None``); may be
        given as a mapping.

    Raises
    ------
    PkpdError
        If a line is named twice, or a compartment, or that of a dosing parameter, is none of the
        system's.

    Examples
    --------
    >>> from pkpd.kinetics.compartments import linear_system
    >>> system = linear_system(
    ...     "drug and metabolite", ["drug", "metabolite"], ["CL", "V", "CLm", "Vm"],
    ...     lambda p: {(0, 1): p["CL"] / p["V"], (1, None): p["CLm"] / p["Vm"]})
    >>> both = LinearStructure(system, "V", others={"metabolite": ("metabolite", "Vm")})
    >>> both.lines
    ('concentration', 'metabolite')
    """

    system: LinearSystem
    volume: str | None
    line: str = "concentration"
    dosing: tuple[str, ...] = ()
    options: EventOptions = field(default_factory=EventOptions)
    others: Others | Mapping[str, tuple[str, str | None]] = ()

    def __post_init__(self) -> None:
        """Put further lines in one form, and refuse what they cannot be."""
        others = self.others
        if isinstance(others, Mapping):
            others = tuple((name, *where) for name, where in others.items())
        object.__setattr__(self, "others", tuple(others))
        check_dosing(self.dosing, self.system)
        names = self.lines
        for name, compartment, _ in self._others:
            what, allowed = None, None
            if names.count(name) > 1:
                what = "is there twice"
            elif compartment not in self.system.compartments:
                what = f"is of {compartment!r}, which is no compartment"
                allowed = ", ".join(self.system.compartments)
            if what:
                where = f"{self.system.name}, line {name!r}"
                raise PkpdError(where=where, what=what, allowed=allowed)

    @property
    def _others(self) -> Others:
        return tuple(self.others)  # pyright: ignore[reportReturnType]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The system's parameters, volumes that are not among them, then those of dosing."""
        volumes = [volume for _, volume in self.observed if volume is not None]
        return tuple(dict.fromkeys((*self.system.parameters, *volumes, *self.dosing)))

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the lines it predicts."""
        return (self.line, *(name for name, _, _ in self._others))

    @property
    def observed(self) -> tuple[tuple[int, str | None], ...]:
        """Compartment (from 0) and volume of each line."""
        places = self.system.compartments
        more = ((places.index(where), volume) for _, where, volume in self._others)
        return ((self.system.observed - 1, self.volume), *more)

    def bind(self, dataset: Dataset) -> LinearPredictor:
        """Prepare predictions of a data set's observations.

        Raises
        ------
        DataError
            If the data have a line that the structure lacks, or a modelled rate or duration without
            its parameter.
        """
        check_lines(dataset, self.lines, self.system.name)
        events = dataset.events
        cmt = np.where(events.cmt > 0, events.cmt, self.system.dose_compartment)
        for letter, code in _CODES.items():
            known = [int(name[1:]) for name in self.dosing if name.startswith(letter)]
            asked = events.is_dose & (events.rate == code) & ~np.isin(cmt, known)
            if np.any(asked):
                b, n = np.argwhere(asked)[0]
                raise DataError(
                    where=events.place(b, n, "rate"),
                    what=f"RATE {code:g} asks for a parameter {letter}n that the model lacks, "
                    f"with n = {cmt[b, n]}",
                    remedy=f'build the model with dosing=("{letter}{cmt[b, n]}",)',
                )
        return LinearPredictor(self, dataset)


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """`LinearStructure` bound to a data set.

    Attributes
    ----------
    lanes_at_once
        Subjects times points that are worth taking together.
    """

    structure: LinearStructure
    dataset: Dataset
    lanes_at_once = CLOSED_FORMS_AT_ONCE

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters read."""
        return self.structure.parameters

    @cached_property
    def _lines(self) -> list[tuple[int, str | None, np.ndarray]]:
        """Compartment and volume of each observed line, and which observations are of it."""
        shape, seen = self.structure, self.dataset.observations
        of = check_lines(self.dataset, shape.lines, shape.system.name)[seen.line]
        return [
            (compartment, volume, np.flatnonzero(of == place))
            for place, (compartment, volume) in enumerate(shape.observed)
            if np.any(of == place)
        ]

    def __call__(self, parameters: IndividualParameters) -> Any:
        """Predict every observation; see `pkpd.predict.structure.Predictor`."""
        shape, seen = self.structure, self.dataset.observations
        check_parameters(parameters, shape.parameters, shape.system.name)
        read = (*shape.system.parameters, *shape.dosing)
        amounts = solve_linear(
            shape.system,
            self.dataset.events,
            {name: parameters[name] for name in read},
            options=shape.options,
        )
        if len(self._lines) == 1:
            ((compartment, volume, _),) = self._lines
            amount = amounts[seen.subject, seen.record, compartment]
            return _divided(amount, volume, parameters, seen.subject, seen.record)
        out = jnp.zeros(len(seen))
        for compartment, volume, mine in self._lines:
            subject, record = seen.subject[mine], seen.record[mine]
            amount = amounts[subject, record, compartment]
            out = out.at[mine].set(_divided(amount, volume, parameters, subject, record))
        return out

    def problems(self, parameters: IndividualParameters) -> dict[int, str]:
        """Say which subjects have predictions that are not finite, with numbers or compiled."""
        shape = self.structure
        out = left_out_when_compiled(
            self.dataset.events, shape.system.dose_compartment, parameters, shape.options
        )
        predicted = np.asarray(jax.device_get(self(parameters)))
        bad = np.unique(self.dataset.observations.subject[~np.isfinite(predicted)])
        for b in bad.tolist():
            out.setdefault(
                b,
                sentence(
                    where=f"subject {self.dataset.subjects[b]}",
                    what="a predicted concentration is not finite",
                    remedy="look at the parameters of this subject",
                ),
            )
        return out


def _divided(
    amount: Array,
    name: str | None,
    parameters: IndividualParameters,
    subject: np.ndarray,
    record: np.ndarray,
) -> Array:
    """Amounts at records over the volume of this name there."""
    return amount if name is None else amount / value_at(parameters[name], subject, record)


def compartments(
    n: int = 1,
    *,
    absorption: str = "none",
    transits: int = 0,
    dosing: Sequence[str] = (),
    line: str = "concentration",
    options: EventOptions | None = None,
) -> LinearStructure:
    """One to three compartments, as a structural model to fit.

    Parameters
    ----------
    n
        Number of disposition compartments. Parameters (L/h, L): ``CL, V``; ``CL, V1, V2, Q``;
        ``CL, V1, V2, V3, Q2, Q3``.
    absorption, transits
        ``"none"``, ``"first_order"`` (``ka``, 1/h), ``"transit"`` (``ktr``) or
        ``"transit_first_order"``; see `pkpd.kinetics.compartments.compartment_model`.
    dosing
        Parameters of the doses by compartment, as in NONMEM: ``("ALAG1",)`` for a lag of doses into
        compartment 1 (h), ``F1``, ``D1`` (h), ``R1`` (mg/h).
    line
        Name of the predicted line.
    options
        How events are read.

    Examples
    --------
    >>> compartments(1, absorption="first_order").parameters
    ('ka', 'CL', 'V')
    """
    check_arguments(
        "compartments",
        n=(n, Kind("the number 1, 2 or 3", from_to(0).holds)),
        absorption=(absorption, TEXT),
        transits=(transits, from_to(0)),
        dosing=(dosing, NAMES),
    )
    system = compartment_model(n, absorption, transits)
    return LinearStructure(
        system, "V" if n == 1 else "V1", line, tuple(dosing), options or EventOptions()
    )
