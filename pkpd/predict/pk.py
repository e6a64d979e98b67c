"""Concentrations in linear compartments, exact at every record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE
from pkpd.errors import DataError, PkpdError, sentence
from pkpd.kinetics.compartments import LinearSystem, compartment_model
from pkpd.predict.structure import IndividualParameters, check_lines, check_parameters
from pkpd.solve.events.advance import EventOptions, solve_linear

_CODES = {"R": MODELLED_RATE, "D": MODELLED_DURATION}


@dataclass(frozen=True)
class LinearStructure:
    """Amounts in a linear system, divided by a volume, at the observations.

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
    """

    system: LinearSystem
    volume: str | None
    line: str = "concentration"
    dosing: tuple[str, ...] = ()
    options: EventOptions = field(default_factory=EventOptions)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The system's parameters, then those of dosing."""
        return (*self.system.parameters, *self.dosing)

    @property
    def lines(self) -> tuple[str, ...]:
        """The one line."""
        return (self.line,)

    def bind(self, dataset: Dataset) -> LinearPredictor:
        """Prepare predictions of a data set's observations."""
        check_lines(dataset, self.lines, self.system.name)
        for letter, code in _CODES.items():
            asked = dataset.events.is_dose & (dataset.events.rate == code)
            if np.any(asked) and not any(name.startswith(letter) for name in self.dosing):
                b, n = np.argwhere(asked)[0]
                raise DataError(
                    sentence(
                        where=dataset.events.place(b, n, "rate"),
                        what=f"RATE {code:g} asks for a parameter {letter}n that the model lacks",
                        remedy=f'build the model with dosing=("{letter}1",) or the like',
                    )
                )
        return LinearPredictor(self, dataset)


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """`LinearStructure` bound to a data set."""

    structure: LinearStructure
    dataset: Dataset

    @property
    def parameters(self) -> tuple[str, ...]:
        """Individual parameters read."""
        return self.structure.parameters

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        seen = self.dataset.observations
        return seen.subject, seen.record

    def __call__(self, parameters: IndividualParameters) -> Any:
        """Predict every observation; see `pkpd.predict.structure.Predictor`."""
        shape = self.structure
        check_parameters(parameters, shape.parameters, shape.system.name)
        amounts = solve_linear(shape.system, self.dataset.events, parameters, options=shape.options)
        subject, record = self._places
        amount = amounts[subject, record, shape.system.observed - 1]
        if shape.volume is None:
            return amount
        volume = jnp.asarray(parameters[shape.volume])
        if volume.ndim == 2:
            columns = record if volume.shape[1] > 1 else jnp.zeros_like(record)
            volume = volume[subject if volume.shape[0] > 1 else 0, columns]
        elif volume.ndim == 1 and volume.size > 1:
            volume = volume[subject]
        return amount / volume

    def problems(self, parameters: IndividualParameters) -> dict[int, str]:
        """Say which subjects have predictions that are not finite."""
        predicted = np.asarray(jax.device_get(self(parameters)))
        bad = np.unique(self.dataset.observations.subject[~np.isfinite(predicted)])
        return {
            int(b): sentence(
                where=f"subject {self.dataset.subjects[b]}",
                what="a predicted concentration is not finite",
                remedy="look at the parameters of this subject",
            )
            for b in bad
        }


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
    system = compartment_model(n, absorption, transits)
    for name in dosing:
        if name.rstrip("0123456789") not in ("ALAG", "F", "D", "R"):
            raise PkpdError(
                sentence(
                    where="compartments",
                    what=f"dosing parameter {name!r}",
                    allowed="ALAGn, Fn, Dn, Rn with n the number of a compartment",
                )
            )
    return LinearStructure(
        system, "V" if n == 1 else "V1", line, tuple(dosing), options or EventOptions()
    )
