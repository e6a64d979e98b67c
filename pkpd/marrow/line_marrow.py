"""A marrow of lines that share nothing but drugs, for one patient; the unit of time is the day.

The lines are those of `pkpd.marrow.friberg`, whose equations are per hour. A cell is one
Runge-Kutta step (`pkpd.marrow.step`) in which the effect of the drugs is the straight line of the
same mean and first moment. Transfused platelets are a pool beside them that decays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.errors import PkpdError
from pkpd.marrow.effects import COMBINATIONS
from pkpd.marrow.friberg import MarrowLine
from pkpd.marrow.protocol import Numbers
from pkpd.marrow.step import rk4_stages

_HOURS = 24.0
_MAY_BE_ZERO = ("gamma", "beta", "ks")


def first_moment_of(name: str) -> str:
    """Input that holds the first moment of an input, times the length of the cell."""
    return f"{name}_first"


@dataclass(frozen=True)
class LineMarrow:
    """Lines of blood cells side by side.

    Parameters
    ----------
    lines
        Name and equations of each; platelets are among them if transfused ones are followed.
    care
        Whether transfused platelets are followed.
    combination
        ``"additive"``: effects of drugs add. ``"bliss"``: what each leaves of proliferation
        multiplies, and what each exceeds 1 by adds, ``E = 1 - prod(1 - min(E_d, 1)) +
        sum(max(E_d - 1, 0))``.

    Notes
    -----
    States ``<line>.<state>`` and ``transfused`` (10^9/L); parameters ``<line>.<parameter>`` and
    ``transfused_loss`` (1/day). Inputs of a cell, for each line: ``kill_<line>``, the loss rate of
    proliferating cells per day, and ``effect_<line>`` or, under Bliss independence,
    ``rest_<line>`` and ``excess_<line>``; these with their first moments times the length of the
    cell, ``..._first``.
    """

    lines: tuple[tuple[str, MarrowLine], ...]
    care: bool = True
    combination: str = "additive"

    name = "lines"

    def __post_init__(self) -> None:
        """Refuse a marrow without lines, or without those it transfuses, and unknown rules."""
        needed = "platelets" if self.care else next(iter(dict(self.lines)), "neutrophils")
        if needed not in dict(self.lines):
            raise PkpdError(where="marrow of lines", what=f"there is no line {needed!r}")
        if self.combination not in COMBINATIONS:
            raise PkpdError(
                where="combination of effects",
                what=f"rule {self.combination!r}",
                allowed=", ".join(COMBINATIONS),
            )

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        own = tuple(f"{name}.{state}" for name, line in self.lines for state in line.states)
        return (*own, *(("transfused",) if self.care else ()))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of one patient."""
        own = tuple(f"{name}.{p}" for name, line in self.lines for p in line.parameters)
        return (*own, *(("transfused_loss",) if self.care else ()))

    @property
    def may_be_zero(self) -> frozenset[str]:
        """Parameters that may be zero."""
        names = (f"{name}.{p}" for name, line in self.lines for p in line.parameters)
        return frozenset(p for p in names if p.endswith(_MAY_BE_ZERO)) | {"transfused_loss"}

    def _effects(self, line: str) -> tuple[str, ...]:
        if self.combination == "additive":
            return (f"effect_{line}",)
        return (f"rest_{line}", f"excess_{line}")

    @property
    def first_moments(self) -> tuple[tuple[str, str], ...]:
        """Inputs whose first moment is wanted, and the inputs that it becomes."""
        names = (name for line, _ in self.lines for name in self._effects(line))
        return tuple((name, first_moment_of(name)) for name in names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs of a cell."""
        kills = (f"kill_{line}" for line, _ in self.lines)
        return (*(name for pair in self.first_moments for name in pair), *kills)

    @property
    def observed(self) -> tuple[str, ...]:
        """Count of each line in 10^9/L, and platelets with transfused ones."""
        own = tuple(name for name, _ in self.lines)
        return (*own, *(("platelets_with_transfused",) if self.care else ()))

    def rest(self) -> dict[str, float]:
        """Return the inputs when no drug acts."""
        wholes = {f"rest_{line}" for line, _ in self.lines}
        return {name: float(name in wholes) for name in self.inputs}

    def _of(self, line: str, p: Numbers) -> dict[str, Any]:
        return {name: p[f"{line}.{name}"] for name in dict(self.lines)[line].parameters}

    def _states(self, line: str, y: Numbers) -> list[Any]:
        return [y[f"{line}.{state}"] for state in dict(self.lines)[line].states]

    def _effect(self, line: str, u: Numbers) -> tuple[Any, Any]:
        """Mean of the effect in a cell, and its first moment times the length of the cell."""
        effect, *excess = self._effects(line)
        mean, first = u[effect], u[first_moment_of(effect)]
        if not excess:
            return mean, first
        return 1.0 - mean + u[excess[0]], u[first_moment_of(excess[0])] - first

    def start(self, p: Numbers) -> dict[str, Any]:
        """Every line as it is before any drug; no transfused platelets."""
        out: dict[str, Any] = {}
        for name, line in self.lines:
            own = line.start(self._of(name, p))
            out |= dict(zip((f"{name}.{state}" for state in line.states), own, strict=True))
        if self.care:
            out["transfused"] = jnp.zeros_like(next(iter(out.values())))
        return out

    def derivative(self, y: Numbers, p: Numbers, u: Numbers) -> dict[str, Any]:
        """Time derivative per day of every state, under the mean effect of the cell."""
        out: dict[str, Any] = {}
        for name, line in self.lines:
            effect, kill = self._effect(name, u)[0], u[f"kill_{name}"] / _HOURS
            rates = line.rates(self._states(name, y), effect, kill, self._of(name, p))
            names = (f"{name}.{state}" for state in line.states)
            out |= {state: _HOURS * rate for state, rate in zip(names, rates, strict=True)}
        if self.care:
            out["transfused"] = -p["transfused_loss"] * y["transfused"]
        return out

    def step(self, y: Numbers, p: Numbers, u: Numbers, h: Any) -> dict[str, Any]:
        """State ``h`` days later."""
        out: dict[str, Any] = {}
        for name, line in self.lines:
            mean, first = self._effect(name, u)
            effects = mean - 0.5 * first, mean, mean + 0.5 * first
            kill = u[f"kill_{name}"] / _HOURS
            own = self._of(name, p)
            new = rk4_stages(line.rates, self._states(name, y), effects, kill, _HOURS * h, own)
            out |= dict(zip((f"{name}.{state}" for state in line.states), new, strict=True))
        if self.care:
            out["transfused"] = y["transfused"] * jnp.exp(-p["transfused_loss"] * h)
        return out

    def observe(self, y: Numbers, p: Numbers) -> dict[str, Any]:
        """Return counts in 10^9/L."""
        seen = {
            name: jnp.exp(line.log_count(self._states(name, y), self._of(name, p)))
            for name, line in self.lines
        }
        if self.care:
            seen["platelets_with_transfused"] = seen["platelets"] + y["transfused"]
        return seen
