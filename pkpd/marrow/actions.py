"""What drugs do to a marrow as a whole: from concentrations and dose rates to the inputs of a cell.

An action of one drug gives its share of every input of the marrow (`pkpd.marrow.protocol`) at one
instant. Shares of losses and switches add; what drugs leave of a step (``rest_...``) multiplies.
Over a cell the mean of four Gauss-Legendre nodes is taken and, for the inputs that a marrow asks it
for, the first moment.

Parameters carry the prefix of the drug, so that several drugs may act in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax.numpy as jnp

from pkpd.marrow.effects import Effect, NoEffect, left_and_beyond, quadrature
from pkpd.marrow.protocol import Marrow, Numbers

NO_LEVEL = 1e-30
"""Concentration that stands for none: a power of zero has no derivative by its exponent."""

_, _MEAN, _FIRST = quadrature()

CHANNELS = ("early", "committed", "blasts", "injury", "early_platelet", "committed_platelet")
"""What chemotherapy known by its intensity does, each a rate of intensity per day."""


Driver = Literal["level", "moments", "rate", "rates"]
"""A concentration at the four nodes of a cell; its mean and first moment (times the length of the
cell), for actions in proportion to it; a rate of dosing; or a rate for each of `CHANNELS`."""


class Action(Protocol):
    """How one drug acts on a marrow."""

    @property
    def driver(self) -> Driver:
        """What it is driven by."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of one patient that it reads."""
        ...

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """Its part of the marrow's inputs, for one value of the driver."""
        ...


def may_be_zero(action: Action) -> frozenset[str]:
    """Parameters of an action that may be zero: all but what it divides by or raises to."""
    above = ("ec50_stem", "ec50_committed", "ec50_neutrophil", "ec50_platelet", "ec50_kill",
             "hill", "hill_kill")  # fmt: skip
    of_lines = ("EC50_", "hill_")
    return frozenset(
        name
        for name in action.parameters
        if not name.endswith(above) and not name.rpartition(".")[2].startswith(of_lines)
    )


def _hill(level: Any, ec50: Any, hill: Any) -> Any:
    log_ratio = jnp.log(jnp.maximum(level, NO_LEVEL)) - jnp.log(ec50)
    ratio = jnp.exp(hill * log_ratio)
    return ratio / (1.0 + ratio)


@dataclass(frozen=True)
class SaturableKill:
    """Kill of early cells, committed cells and blasts by a concentration, with a Hill exponent.

    Early cells and blasts die at ``max C^n / (EC50^n + C^n)``, committed cells at a rate with an
    EC50 of their own.
    """

    prefix: str
    driver: Literal["level"] = "level"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        names = ("max_stem", "ec50_stem", "max_committed", "ec50_committed", "platelet_ratio",
                 "max_blasts", "hill")  # fmt: skip
        return tuple(f"{self.prefix}{name}" for name in names)

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        of = {name.removeprefix(self.prefix): p[name] for name in self.parameters}
        dividing = _hill(driver, of["ec50_stem"], of["hill"])
        committed = of["max_committed"] * _hill(driver, of["ec50_committed"], of["hill"])
        early = of["max_stem"] * dividing
        return {
            "loss_early": early,
            "loss_early_platelet": early,
            "loss_committed": committed,
            "loss_committed_platelet": of["platelet_ratio"] * committed,
            "kill_blasts": of["max_blasts"] * dividing,
        }


@dataclass(frozen=True)
class MaturationBlock:
    """A concentration slows the step into the chains, and kills early cells and blasts a little.

    The effect on neutrophils is ``emax C / (EC50 + C)``, with an exponent of both concentrations if
    wanted, or ``C / EC50`` if linear; platelets have an EC50 of their own. Both kills are at a rate
    times the effect on neutrophils, up to 1; the growth of early cells is slowed by a share
    ``slow_stem`` times the same. The kill of early cells may have an EC50 and an exponent of its
    own, ``kill_stem emax C^n / (EC50^n + C^n)``.

    Parameters
    ----------
    prefix
        Of its parameters.
    linear
        Whether the effect is linear.
    excess
        Whether what a linear effect exceeds 1 by removes committed cells.
    steep
        Whether there is an exponent ``hill``.
    own_kill
        Whether the kill of early cells has ``ec50_kill`` and ``hill_kill``; a linear effect has
        neither.
    """

    prefix: str
    linear: bool = False
    excess: bool = False
    steep: bool = False
    own_kill: bool = False
    driver: Literal["level"] = "level"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        names = ("ec50_neutrophil", "ec50_platelet", "kill_stem", "slow_stem", "kill_blasts")
        names = names if self.linear else ("emax", *names)
        names = ("hill", *names) if self.steep and not self.linear else names
        names = (*names, "ec50_kill", "hill_kill") if self.own_kill and not self.linear else names
        return tuple(f"{self.prefix}{name}" for name in names)

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        of = {name.removeprefix(self.prefix): p[name] for name in self.parameters}
        out = {}
        spared: Any = 0.0
        for line in ("neutrophil", "platelet"):
            ec50 = of[f"ec50_{line}"]
            if self.linear:
                effect = driver / ec50
            elif self.steep:
                effect = of["emax"] * _hill(driver, ec50, of["hill"])
            else:
                effect = of["emax"] * driver / (ec50 + driver)
            out[f"rest_{line}"] = jnp.maximum(1.0 - effect, 0.0)
            if self.excess:
                out[f"excess_{line}"] = jnp.maximum(effect - 1.0, 0.0)
            if line == "neutrophil":
                spared = jnp.minimum(effect, 1.0)
        early = of["kill_stem"] * spared
        if self.own_kill and not self.linear:
            killing = of["emax"] * _hill(driver, of["ec50_kill"], of["hill_kill"])
            early = of["kill_stem"] * killing
        return out | {
            "loss_early": early,
            "loss_early_platelet": early,
            "kill_blasts": of["kill_blasts"] * spared,
            "rest_early": 1.0 - of["slow_stem"] * spared,
        }


_INTENSITY = (
    "kill_stem", "kill_stem_platelet", "committed_neutrophil", "committed_platelet", "kill_blasts",
)  # fmt: skip


@dataclass(frozen=True)
class Intensity:
    """Chemotherapy known only by its intensity: 1 is the kill of one course of 7+3.

    Driven by six rates, one for each of `CHANNELS`.
    """

    driver: Literal["rates"] = "rates"
    parameters: tuple[str, ...] = _INTENSITY

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        rate: Mapping[str, Any] = dict(zip(CHANNELS, driver, strict=True))
        return {
            "loss_early": p["kill_stem"] * rate["early"],
            "loss_early_platelet": p["kill_stem_platelet"] * rate["early_platelet"],
            "loss_committed": p["committed_neutrophil"] * p["kill_stem"] * rate["committed"],
            "loss_committed_platelet": p["committed_platelet"]
            * p["kill_stem"]
            * rate["committed_platelet"],
            "kill_blasts": p["kill_blasts"] * rate["blasts"],
            "injury": rate["injury"],
        }


@dataclass(frozen=True)
class DoseKill:
    """A drug without kinetics whose dose rate times ``<prefix>intensity`` is an intensity."""

    prefix: str
    driver: Literal["rate"] = "rate"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        return (f"{self.prefix}intensity", *_INTENSITY)

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        rate = p[f"{self.prefix}intensity"] * driver
        by_channel = [jnp.zeros_like(rate) if c == "injury" else rate for c in CHANNELS]
        return Intensity().shares(by_channel, p)


@dataclass(frozen=True)
class GrowthFactor:
    """Filgrastim, on (1) or off (0) by its rate; a rate above 1 a day is no more than on."""

    driver: Literal["rate"] = "rate"
    parameters: tuple[str, ...] = ()

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        return {"growth_factor": jnp.minimum(driver, 1.0)}


@dataclass(frozen=True)
class Graft:
    """Cells given by vein that settle in the marrow and join its early cells.

    A dose adds ``<prefix>seeding`` of a normal early pool for each of its units, in the time in
    which it is given.
    """

    prefix: str
    driver: Literal["rate"] = "rate"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        return (f"{self.prefix}seeding",)

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        return {"graft": p[f"{self.prefix}seeding"] * driver}


@dataclass(frozen=True)
class LineEffects:
    """A concentration slows the proliferation of lines (`pkpd.marrow.line_marrow`).

    Parameters
    ----------
    prefix
        Of its parameters, ``<prefix><parameter>_<line>``.
    effects
        Shape of the effect on each line.
    combination
        That of the marrow. Additive effects in proportion to the concentration take its moments,
        which are exact; others its values at the nodes of the cell.
    """

    prefix: str
    effects: tuple[tuple[str, Effect], ...]
    combination: str = "additive"

    @property
    def driver(self) -> Driver:
        """See `Action`."""
        nodes = any(shape.uses_nodes for _, shape in self.effects)
        return "level" if nodes or self.combination == "bliss" else "moments"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        return tuple(
            f"{self.prefix}{name}_{line}"
            for line, shape in self.effects
            for name in shape.parameters
        )

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        out = {}
        for line, shape in self.effects:
            if isinstance(shape, NoEffect):
                continue
            own = {name: p[f"{self.prefix}{name}_{line}"] for name in shape.parameters}
            effect = shape.at_nodes(own, driver)
            if self.combination == "additive":
                out[f"effect_{line}"] = effect
            else:
                out[f"rest_{line}"], out[f"excess_{line}"] = left_and_beyond(effect)
        return out


@dataclass(frozen=True)
class LineKill:
    """Doses remove proliferating cells of lines, evenly over the day on which they are given.

    The day begins at its midnight, before a dose at a later hour. A dose of 1 mg/m² removes
    ``<prefix>ln_kill_<line>`` natural-log units.
    """

    prefix: str
    lines: tuple[str, ...]
    driver: Literal["rate"] = "rate"

    @property
    def parameters(self) -> tuple[str, ...]:
        """See `Action`."""
        return tuple(f"{self.prefix}ln_kill_{line}" for line in self.lines)

    def shares(self, driver: Any, p: Numbers) -> dict[str, Any]:
        """See `Action`."""
        return {f"kill_{line}": p[f"{self.prefix}ln_kill_{line}"] * driver for line in self.lines}


def combined(
    marrow: Marrow,
    actions: Sequence[Action],
    drivers: Sequence[Any],
    p: Numbers,
) -> dict[str, Any]:
    """Form the inputs of a marrow over one cell.

    Parameters
    ----------
    marrow
        The marrow.
    actions
        Of the drugs that are there.
    drivers
        Of each: four values at the nodes of the cell, mean and first moment, a rate per day, or six
        of them.
    p
        Parameters of the patient.

    Returns
    -------
    dict
        The marrow's inputs; an input that the marrow does not have is left out.
    """
    rest = marrow.rest()
    firsts = dict(marrow.first_moments)

    def at(node: int) -> dict[str, Any]:
        out: dict[str, Any] = {k: v for k, v in rest.items() if k not in firsts.values()}
        for action, driver in zip(actions, drivers, strict=True):
            value = {"level": node, "moments": 0}.get(action.driver)
            for name, share in action.shares(driver if value is None else driver[value], p).items():
                if name in out:
                    out[name] = out[name] * share if name.startswith("rest_") else out[name] + share
        return out

    by_node = any(action.driver == "level" for action in actions)
    nodes = [at(i) for i in range(len(_MEAN) if by_node else 1)]
    if by_node:
        means = {
            name: sum(float(w) * here[name] for w, here in zip(_MEAN, nodes, strict=True))
            for name in nodes[0]
        }
    else:
        means = nodes[0]
    out = {name: means.get(name, 0.0) for name in rest}
    for name, first in firsts.items():
        if by_node:
            values = [here[name] for here in nodes]
            out[first] = sum(float(w) * x for w, x in zip(_FIRST, values, strict=True))
        for action, driver in zip(actions, drivers, strict=True):
            if action.driver == "moments":
                out[first] = out[first] + action.shares(driver[1], p).get(name, 0.0)
    return out
