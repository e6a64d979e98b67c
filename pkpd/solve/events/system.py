"""Nonlinear systems that take doses: differential equations, optionally driven by linear PK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from jax import Array

from pkpd.kinetics.compartments import LinearSystem

Numbers = Mapping[str, Array]
OdeRhs = Callable[[Array, tuple[Array, ...], Array, Numbers], Sequence[Array]]
OdeInitial = Callable[[Numbers], Sequence[Array]]


@dataclass(frozen=True)
class OdeSystem:
    """A system ``dy/dt = rhs(t, y, u, p)`` whose states receive doses and infusions.

    Attributes
    ----------
    name
        For messages.
    states
        Names of the integrated states.
    parameters
        Names of all parameters, those of ``pk`` included.
    rhs
        ``rhs(t, y, u, p)`` of one subject: ``t`` (h, on the clock of the data), ``y`` the states,
        ``u`` the concentration in the observed compartment of ``pk`` (0 without one), ``p`` the
        parameters by name, all scalars; the derivatives per hour, without infusions.
    initial
        Parameters to the states at a subject's first record and after EVID 3 and 4; default 0.
    pk
        Linear system that is solved exactly and drives the states; its compartments come first.
    pk_volume
        Parameter that turns its observed amount into ``u``; None for the amount.
    dose_compartment
        Compartment (from 1) of doses whose CMT is 0.
    """

    name: str
    states: tuple[str, ...]
    parameters: tuple[str, ...]
    rhs: OdeRhs
    initial: OdeInitial | None = None
    pk: LinearSystem | None = None
    pk_volume: str | None = None
    dose_compartment: int = 1

    @property
    def n_linear(self) -> int:
        """Number of compartments solved exactly."""
        return self.pk.size if self.pk else 0

    @property
    def size(self) -> int:
        """Number of compartments and states."""
        return self.n_linear + len(self.states)

    @property
    def compartments(self) -> tuple[str, ...]:
        """Names in the order of CMT."""
        return (*(self.pk.compartments if self.pk else ()), *self.states)

    @cached_property
    def layout(self) -> LinearSystem:
        """Names alone, as the reading of events wants them; it has no flows."""
        return LinearSystem(
            self.name,
            self.compartments,
            self.parameters,
            lambda p: {},
            dose_compartment=self.dose_compartment,
        )
