"""Fixed and random effects of a stream as parameters of a `PopulationModel`.

``THETA(3)`` is the parameter ``THETA3``, on the log or logit scale where it has bounds. ``ETA(2)``
is the parameter ``ETA2`` with typical value 0, whose ``omega_ETA2`` is the standard deviation.
Where a block is repeated by SAME its standard deviations and correlations are parameters
themselves (``SD_ETA4``, ``RHO_ETA5_ETA4``), and the random effects that they scale are standard
normal. A residual's standard deviation is ``SIGMA1``, a correlation ``RHO_SIGMA2_SIGMA1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.specification import IndividualParameter, parameter
from pkpd.nonmem.estimates import Block, Theta

_INSIDE = 0.9999  # of a correlation that a block of the model may start from


@dataclass(frozen=True)
class Effects:
    """Parameters of a model, and how the code's arrays follow from them.

    Attributes
    ----------
    parameters
        For `PopulationModel`.
    correlated, partial
        Blocks of random effects and their partial correlations, for `PopulationModel`.
    made
        Values of an array element, ``THETA(1)``, from parameters by name.
    sigma
        Entries (i, j) of the residual covariance, i >= j, from parameters by name.
    eps
        Number of residual random effects.
    """

    parameters: tuple[IndividualParameter, ...]
    correlated: tuple[tuple[str, ...], ...]
    partial: Mapping[str, Any]
    made: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(hash=False)
    sigma: Mapping[tuple[int, int], Callable[[Mapping[str, Any]], Any]] = field(hash=False)
    eps: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(p.name for p in self.parameters)


def _reader(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda p: p[name]


def _zero(p: Mapping[str, Any]) -> Any:
    return 0.0


def _theta(i: int, theta: Theta) -> IndividualParameter:
    name, low, high = f"THETA{i}", *theta.bounded
    inside = theta.low < theta.value < theta.high
    if theta.held or not (low or high) or not inside:
        return parameter(name, theta.value, scale="identity", fixed=theta.held)
    if low and theta.low == 0 and not high:
        return parameter(name, theta.value, scale="log")
    return parameter(name, theta.value, scale="logit", bounds=(theta.low, theta.high))


def _deviation(name: str, value: float, held: bool) -> IndividualParameter:
    if held or value == 0:
        return parameter(name, value, scale="identity", fixed=True)
    return parameter(name, value, scale="log")


def _correlation(name: str, value: float, held: bool) -> IndividualParameter:
    if held:
        return parameter(name, value, scale="identity", fixed=True)
    value = float(np.clip(value, -_INSIDE, _INSIDE))
    return parameter(name, value, scale="logit", bounds=(-1.0, 1.0))


def partial_correlations(covariance: np.ndarray) -> np.ndarray:
    """Canonical partial correlations of a covariance, row by row.

    Examples
    --------
    >>> partial_correlations(np.array([[4.0, 1.0], [1.0, 1.0]])).round(6).tolist()
    [0.5]
    """
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / sd[:, None] / sd[None, :]
    lowest = float(np.linalg.eigvalsh(correlation)[0])
    np.fill_diagonal(correlation, 1.0 + max(1e-12, -2.0 * lowest))
    lower, out = np.linalg.cholesky(correlation), []
    for i in range(1, len(sd)):
        rest = 1.0
        for j in range(i):
            out.append(float(np.clip(lower[i, j] / np.sqrt(max(rest, 1e-14)), -_INSIDE, _INSIDE)))
            rest -= lower[i, j] ** 2
    return np.array(out)


class _Maker:
    """Parameters as they are made, block by block."""

    def __init__(self) -> None:
        self.parameters: list[IndividualParameter] = []
        self.correlated: list[tuple[str, ...]] = []
        self.partial: dict[str, Any] = {}
        self.made: dict[str, Callable[[Mapping[str, Any]], Any]] = {}

    def etas(self, blocks: Sequence[Block]) -> None:
        number = 1
        groups: list[list[Block]] = []
        for block in blocks:
            if block.same:
                groups[-1].append(block)
            else:
                groups.append([block])
        for group in groups:
            size = group[0].size
            starts = [number + size * k for k in range(len(group))]
            number += size * len(group)
            if not np.any(np.diag(group[0].covariance) > 0):
                for i in range(starts[0], number):
                    self.made[f"ETA({i})"] = _zero
            elif len(group) > 1:
                self._repeated(group[0], starts)
            else:
                self._plain(group[0], starts[0])

    def _plain(self, block: Block, first: int) -> None:
        deviations = np.sqrt(np.diag(block.covariance))
        names = [f"ETA{first + i}" for i in range(block.size)]
        free = [i for i in range(block.size) if deviations[i] > 0]
        for i, name in enumerate(names):
            if deviations[i] == 0:
                self.made[f"ETA({first + i})"] = _zero
                continue
            sd = float(deviations[i])
            self.parameters.append(
                parameter(
                    name, 0.0, scale="identity", fixed=True, iiv=fixed(sd) if block.held else sd
                )
            )
            self.made[f"ETA({first + i})"] = _reader(name)
        mine = [names[i] for i in free]
        if len(mine) > 1:
            self.correlated.append(tuple(mine))
            values = iter(partial_correlations(block.covariance[np.ix_(free, free)]))
            for i in range(1, len(mine)):
                for j in range(i):
                    value = float(next(values))
                    none = block.apart(free[i], free[j])
                    value = fixed(value if block.held else 0.0) if none else value
                    self.partial[f"partial_{mine[j]}_{mine[i]}"] = value

    def _repeated(self, block: Block, starts: Sequence[int]) -> None:
        """Scale standard normal effects by parameters that all copies of a block share."""
        scale = self.scales(block, "ETA", starts[0])
        n = block.size
        for start in starts:
            names = [f"ETA{start + i}" for i in range(n)]
            for name in names:
                self.parameters.append(
                    parameter(name, 0.0, scale="identity", fixed=True, iiv=fixed(1.0))
                )
            for i in range(n):
                self.made[f"ETA({start + i})"] = _combined(scale, names, i)

    def scales(
        self, block: Block, what: str, first: int
    ) -> Callable[[Mapping[str, Any]], list[list[Any]]]:
        """Add standard deviations and correlations of a block; return its Cholesky factor."""
        sd, n = np.sqrt(np.diag(block.covariance)), block.size
        prefix = "SD_ETA" if what == "ETA" else "SIGMA"
        names = [f"{prefix}{first + i}" for i in range(n)]
        self.parameters += [
            _deviation(name, float(s), block.held) for name, s in zip(names, sd, strict=True)
        ]
        partial: dict[tuple[int, int], str] = {}
        if n > 1:
            values = iter(partial_correlations(block.covariance))
            for i in range(1, n):
                for j in range(i):
                    partial[i, j] = f"RHO_{what}{first + i}_{what}{first + j}"
                    value, none = float(next(values)), block.apart(i, j)
                    value = value if block.held or not none else 0.0
                    self.parameters.append(_correlation(partial[i, j], value, none))

        def factor(p: Mapping[str, Any]) -> list[list[Any]]:
            rows: list[list[Any]] = []
            for i in range(n):
                row, rest = [], 1.0
                for j in range(i):
                    r = p[partial[i, j]]
                    row.append(p[names[i]] * r * jnp.sqrt(rest))
                    rest = rest * (1.0 - r**2)
                row.append(p[names[i]] * jnp.sqrt(rest) if i else p[names[i]])
                rows.append(row)
            return rows

        return factor


def _combined(
    scale: Callable[[Mapping[str, Any]], list[list[Any]]], names: Sequence[str], i: int
) -> Callable[[Mapping[str, Any]], Any]:
    def value(p: Mapping[str, Any]) -> Any:
        row = scale(p)[i]
        out = row[0] * p[names[0]]
        for j in range(1, i + 1):
            out = out + row[j] * p[names[j]]
        return out

    return value


def _entry(
    scale: Callable[[Mapping[str, Any]], list[list[Any]]], i: int, j: int
) -> Callable[[Mapping[str, Any]], Any]:
    def value(p: Mapping[str, Any]) -> Any:
        rows = scale(p)
        out = rows[i][0] * rows[j][0]
        for k in range(1, j + 1):
            out = out + rows[i][k] * rows[j][k]
        return out

    return value


def effects(thetas: Sequence[Theta], omegas: Sequence[Block], sigmas: Sequence[Block]) -> Effects:
    """Make the parameters of a model from starting values.

    Examples
    --------
    >>> made = effects([Theta(2.0, low=0.0)], [Block(np.array([[0.09]]), False)], [])
    >>> [(p.name, p.scale) for p in made.parameters]
    [('THETA1', 'log'), ('ETA1', 'identity')]
    """
    maker = _Maker()
    for i, theta in enumerate(thetas, start=1):
        maker.parameters.append(_theta(i, theta))
        maker.made[f"THETA({i})"] = _reader(f"THETA{i}")
    maker.etas(omegas)
    entries: dict[tuple[int, int], Callable[[Mapping[str, Any]], Any]] = {}
    number, factor = 1, None
    for block in sigmas:
        if not block.same or factor is None:
            factor = maker.scales(block, "SIGMA", number)
        for i in range(block.size):
            for j in range(i + 1):
                entries[number + i, number + j] = _entry(factor, i, j)
        number += block.size
    for (i, j), value in entries.items():
        maker.made[f"SIGMA({i},{j})"] = maker.made[f"SIGMA({j},{i})"] = value
        if i == j:
            maker.made[f"SIGMA({i})"] = value
    return Effects(
        tuple(maker.parameters),
        tuple(maker.correlated),
        maker.partial,
        maker.made,
        entries,
        number - 1,
    )
