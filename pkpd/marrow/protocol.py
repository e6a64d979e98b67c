"""What a marrow is to the rest of the package: all lines of blood cells of one patient together.

A marrow is written once, for one patient and in JAX, with numbers as arguments: what it observes,
how drugs act on it, and how it goes through a cell, an interval in which doses and inputs hold
still. From that come the reference by JAX, the kernels for many patients and their derivatives
(`pkpd.solve.bridge`), and reference solutions by any solver of differential equations.

Time is in days, counts in 10^9/L, concentrations in umol/L.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

Numbers = Mapping[str, Any]
"""Values by name, each a number of one patient or an array over patients."""


@runtime_checkable
class Marrow(Protocol):
    """All lines of blood cells of a patient."""

    @property
    def name(self) -> str:
        """What cards, messages and results call it."""
        ...

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of one patient that the methods read."""
        ...

    @property
    def may_be_zero(self) -> frozenset[str]:
        """Parameters that may be zero; the others are above it."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """What drugs and care do to it in a cell: rates, shares and switches."""
        ...

    @property
    def first_moments(self) -> tuple[tuple[str, str], ...]:
        """Inputs that may change within a cell, and the inputs that tell how.

        The second of a pair gets the first Legendre moment of the first over the cell, times the
        length of the cell: the rise, from start to end, of the straight line closest to it.
        """
        ...

    @property
    def observed(self) -> tuple[str, ...]:
        """What `observe` gives; ``neutrophils`` and ``platelets`` are among it."""
        ...

    def start(self, p: Numbers) -> dict[str, Any]:
        """State before any drug."""
        ...

    def rest(self) -> dict[str, float]:
        """Return the inputs when no drug acts."""
        ...

    def derivative(self, y: Numbers, p: Numbers, u: Numbers) -> dict[str, Any]:
        """Time derivative per day of every state under inputs ``u``."""
        ...

    def step(self, y: Numbers, p: Numbers, u: Numbers, h: Any) -> dict[str, Any]:
        """State ``h`` days later under inputs that hold still."""
        ...

    def observe(self, y: Numbers, p: Numbers) -> dict[str, Any]:
        """Return what a laboratory reports."""
        ...
