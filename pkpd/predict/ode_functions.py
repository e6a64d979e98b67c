"""A user's functions of states and parameters by name, as the event engine calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jax.numpy as jnp
from jax import Array

from pkpd.errors import PkpdError
from pkpd.predict.pk import LinearStructure


class Named(dict):
    """Numbers by name; a name that is not there is told with those that are."""

    def __init__(self, values: Mapping[str, Any], what: str) -> None:
        super().__init__(values)
        self.what = what

    def __missing__(self, name: str) -> NoReturn:
        raise PkpdError(
            where=f"{self.what} {name!r}",
            what="the model's functions read it, but it was not declared",
            allowed=", ".join(self) or "none",
            remedy=f"add it to {'states' if self.what == 'state' else 'parameters'}",
        )


def count_arguments(function: Callable[..., Any], least: int, what: str) -> int:
    """Count the positional arguments of a user's function."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        count = sum(p.kind in kinds for p in inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        count = least
    if count not in (least, least + 1):
        raise PkpdError(
            where=what,
            what=f"takes {count} arguments",
            allowed="(t, y, p) or (t, y, p, c)" if least == 3 else "(y, p) or (y, p, c)",
        )
    return count


@dataclass(frozen=True)
class RightSide:
    """The user's right side as the engine wants it; equal functions make equal programs."""

    function: Callable[..., Any]
    states: tuple[str, ...]
    line: str | None
    arguments: int
    pk: LinearStructure | None = None  # integrated along with the states

    def __call__(
        self, t: Array, y: tuple[Array, ...], u: Array, p: Mapping[str, Array]
    ) -> tuple[Any, ...]:
        """Give the derivative of every state, those of the linear structure first."""
        linear: list[Any] = []
        if self.pk is not None:
            system = self.pk.system
            x, y = y[: system.size], y[system.size :]
            linear = [jnp.zeros(())] * system.size
            for (source, target), rate in system.flows(p).items():
                linear[source] = linear[source] - rate * x[source]
                if target is not None:
                    linear[target] = linear[target] + rate * x[source]
            u = x[system.observed - 1]
            u = u if self.pk.volume is None else u / p[self.pk.volume]
        given: list[Any] = [
            t,
            Named(dict(zip(self.states, y, strict=True)), "state"),
            Named(p, "parameter"),
        ]
        if self.arguments == 4:
            given.append(Named({self.line: u} if self.line else {}, "concentration"))
        slopes = self.function(*given)
        return (*linear, *in_order(slopes, self.states, "rhs"))


@dataclass(frozen=True)
class InitialStates:
    """The user's initial states as the engine wants them."""

    function: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    states: tuple[str, ...]
    before: int

    def __call__(self, p: Mapping[str, Array]) -> tuple[Any, ...]:
        """Give the initial value of every state, 0 for those of the linear structure."""
        given = self.function(Named(p, "parameter"))
        unknown = [name for name in given if name not in self.states]
        if unknown:
            refuse_states("initial", unknown[0], "is not a state of the model", self.states)
        own = (jnp.asarray(given.get(name, 0.0), dtype=float) for name in self.states)
        return (*(jnp.zeros(()) for _ in range(self.before)), *own)


def refuse_states(where: str, name: str, what: str, states: Sequence[str]) -> NoReturn:
    """Refuse a state that does not belong."""
    raise PkpdError(
        where=f"{where}, state {name!r}", what=what, allowed=", ".join(states) or "no states"
    )


def in_order(slopes: Any, states: tuple[str, ...], where: str) -> tuple[Array, ...]:
    """Return derivatives in the order of the states."""
    if not isinstance(slopes, Mapping):
        raise PkpdError(
            where=where,
            what=f"returns a {type(slopes).__name__}",
            allowed="a dict with the derivative of every state",
        )
    for name in slopes:
        if name not in states:
            refuse_states(where, name, "has a derivative but is not a state of the model", states)
    for name in states:
        if name not in slopes:
            refuse_states(where, name, "has no derivative", states)
    return tuple(jnp.asarray(slopes[name], dtype=float) for name in states)
