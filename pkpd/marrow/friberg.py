"""Equations of marrow lines: proliferation, maturation, circulation and feedback.

Every line is a frozen object without numbers; parameters arrive as a mapping of ``[L]`` arrays.
Its equations are written once, on states one by one (`MarrowLine.rates`), so that they serve arrays
of patients and the numbers of one patient.

States are scaled by their steady state at the ``set_point`` (the count the feedback aims at),
with the proliferating pool on a log scale: a heavy kill then neither underflows nor turns a count
negative, and the set point drops out of the equations.

A drug effect ``E >= 0`` slows proliferation, ``1 - E`` in the equations; it may exceed 1
(`FeedbackRule`). ``kill`` is a direct loss rate of proliferating cells, 1/h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.errors import PkpdError

Parameters = Mapping[str, Any]

States = Array | Sequence[Any]
"""States of a line: ``[states, L]``, or one by one, each ``[L]`` or a number."""

FeedbackRule = Literal["kept", "off", "capped"]
"""What the feedback factor does when ``E > 1``.

``kept``
    It multiplies the negative part too: growth factor ``(1 - E) F``. The usual reading of the
    published equation and the default; a deep nadir then also speeds up the kill.
``off``
    It is 1 as soon as ``1 - E < 0`` (model M3 of Jost 2019, PLoS One 14:e0204540).
``capped``
    ``1 - E`` is floored at 0: a drug stops proliferation but removes nothing.
"""

FEEDBACK_RULES: tuple[FeedbackRule, ...] = ("kept", "off", "capped")

FLOOR = 1e-12  # of a scaled count inside powers and logarithms: far below one cell per patient


class MarrowLine(Protocol):
    """What the engines ask of a marrow line; `Line` gives the forms for arrays."""

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        ...

    def start(self, p: Parameters) -> list[Any]:
        """States before any drug, one by one."""
        ...

    def rates(self, y: States, effect: Any, kill: Any, p: Parameters) -> list[Any]:
        """Time derivatives of the states per hour, one by one."""
        ...

    def log_count(self, y: States, p: Parameters) -> Any:
        """Natural logarithm of the circulating count in 10^9/L."""
        ...

    def log_count_slope(self, y: States, effect: Any, kill: Any, p: Parameters) -> Any:
        """Time derivative of `log_count` per hour."""
        ...

    def initial(self, p: Parameters) -> Array:
        """`start` as an array ``[states, L]``."""
        ...

    def derivative(self, y: Array, effect: Array, kill: Array | float, p: Parameters) -> Array:
        """`rates` as an array ``[states, L]``."""
        ...


class Line:
    """Forms for arrays of patients, of lines that give `start` and `rates`."""

    def initial(self: MarrowLine, p: Parameters) -> Array:
        """State ``[states, L]`` before any drug."""
        return jnp.stack(jnp.broadcast_arrays(*self.start(p)))

    def derivative(
        self: MarrowLine, y: Array, effect: Array, kill: Array | float, p: Parameters
    ) -> Array:
        """Time derivative of the state per hour, ``[states, L]``."""
        return jnp.stack(self.rates(jnp.unstack(y), effect, kill, p))


def growth_factor(effect: Array, feedback: Array, rule: FeedbackRule) -> Array:
    """Proliferation relative to the steady state, ``(1 - E) F`` with the rule for ``E > 1``."""
    rest = 1.0 - effect
    if rule == "kept":
        return rest * feedback
    if rule == "off":
        return jnp.where(rest >= 0.0, rest * feedback, rest)
    return jnp.maximum(rest, 0.0) * feedback


def feedback_factor(count: Array, gamma: Array, saturation: float) -> Array:
    """Feedback on proliferation at a scaled count, ``((1 + a) / (count + a))^gamma``.

    With ``a = 0`` this is Friberg's ``(set_point / Circ)^gamma``, which grows without bound. Where
    drugs remove cells for weeks, feedback also drives the removal, and the unbounded form turns a
    deep nadir into a collapse that no marrow shows; with ``a > 0`` it tends to ``((1+a)/a)^gamma``.
    """
    if saturation == 0.0:
        return jnp.exp(-gamma * jnp.log(count))
    return jnp.exp(gamma * (np.log1p(saturation) - jnp.log(count + saturation)))


def share_of_set_point(line: MarrowLine, p: Parameters) -> Any:
    """``baseline / set_point``, of the shape that the parameters of a line have together."""
    shape = jnp.broadcast_shapes(*(jnp.shape(p[name]) for name in line.parameters))
    return jnp.broadcast_to(jnp.asarray(p["baseline"]) / p["set_point"], shape)


def check_feedback(rule: str, saturation: float, where: str) -> None:
    """Refuse a saturation or a feedback rule that has no meaning."""
    if not 0.0 <= saturation < 1.0:
        raise PkpdError(where=where, what=f"saturation = {saturation}", allowed="0 to below 1")
    if rule not in FEEDBACK_RULES:
        raise PkpdError(
            where=where, what=f"feedback rule {rule!r}", allowed=", ".join(FEEDBACK_RULES)
        )


@dataclass(frozen=True)
class Friberg(Line):
    """Proliferating cells, a chain of transits, circulating cells (Friberg 2002).

    With ``F = (set_point / Circ)^gamma`` and ``ktr = (transits + 1) / MTT``::

        dProl/dt = ktr Prol ((1 - E) F - 1) - kill Prol
        dTr1/dt  = ktr (Prol - Tr1)   ...   dTrn/dt = ktr (Tr(n-1) - Trn)
        dCirc/dt = ktr Trn - k_circ Circ

    Parameters
    ----------
    transits
        Number of transit compartments; 3 in Friberg 2002, 1 in Jost 2019, 4 in Quartino 2014.
    circulation
        ``"ktr"``: circulating cells leave at ``ktr`` (Friberg 2002); ``"own"``: at ``k_circ``.
    feedback_rule
        See `FeedbackRule`.
    saturation
        See `feedback_factor`; 0 is the published equation.

    Notes
    -----
    Parameters: ``baseline`` (count at time 0) and ``set_point`` (10^9/L), ``MTT`` (h), ``gamma``,
    and ``k_circ`` (1/h) if circulation is ``"own"``.

    The marrow starts with every pool in proportion to ``baseline``. With ``baseline = set_point``
    and no drug it stays there; below the set point it rises towards it.

    References
    ----------
    Friberg LE et al., J Clin Oncol 2002;20:4713-4721, doi:10.1200/JCO.2002.02.140.
    """

    called: ClassVar = "Friberg marrow"

    transits: int = 3
    circulation: Literal["ktr", "own"] = "ktr"
    feedback_rule: FeedbackRule = "kept"
    saturation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a chain without transits and unknown rules."""
        where = self.called
        if self.transits < 1:
            raise PkpdError(where=where, what=f"transits = {self.transits}", allowed=">= 1")
        if self.circulation not in ("ktr", "own"):
            raise PkpdError(
                where=where, what=f"circulation {self.circulation!r}", allowed="ktr, own"
            )
        check_feedback(self.feedback_rule, self.saturation, where)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        chain = tuple(f"transit_{i + 1}" for i in range(self.transits))
        return ("log_proliferating", *chain, "circulating")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        names = ("baseline", "set_point", "MTT", "gamma")
        return (*names, "k_circ") if self.circulation == "own" else names

    def _ktr(self, p: Parameters) -> Array:
        return (self.transits + 1) / p["MTT"]

    def _k_circ(self, p: Parameters) -> Array:
        return p["k_circ"] if self.circulation == "own" else self._ktr(p)

    def start(self, p: Parameters) -> list[Any]:
        """All pools at ``baseline / set_point`` of their steady state."""
        z = share_of_set_point(self, p)
        return [jnp.log(z)] + [z] * (self.transits + 1)

    def rates(self, y: States, effect: Any, kill: Any, p: Parameters) -> list[Any]:
        """Time derivatives of the scaled states per hour."""
        ktr = self._ktr(p)
        feedback = feedback_factor(jnp.maximum(y[-1], FLOOR), p["gamma"], self.saturation)
        growth = growth_factor(effect, feedback, self.feedback_rule)
        pools = [jnp.exp(y[0]), *y[1:-1]]
        return [
            ktr * (growth - 1.0) - kill,
            *(ktr * (before - pool) for before, pool in pairwise(pools)),
            self._k_circ(p) * (y[-2] - y[-1]),
        ]

    def log_count(self, y: States, p: Parameters) -> Any:
        """Natural logarithm of the circulating count in 10^9/L."""
        return jnp.log(p["set_point"]) + jnp.log(jnp.maximum(y[-1], FLOOR))

    def log_count_slope(self, y: States, effect: Any, kill: Any, p: Parameters) -> Any:
        """Time derivative of `log_count` per hour; effect and kill act on other states only."""
        return self._k_circ(p) * (y[-2] / jnp.maximum(y[-1], FLOOR) - 1.0)


@dataclass(frozen=True)
class PlateletChain(Line):
    """Megakaryocyte maturation, then platelets lost by ageing and by random destruction.

    With ``F = (set_point / PLT)^gamma``, ``ktr = (transits + 1) / MTT``::

        dProl/dt = ktr Prol ((1 - E) F - 1) - kill Prol
        dTr1/dt  = ktr (Prol - Tr1)   ...   dTrn/dt = ktr (Tr(n-1) - Trn)
        dP1/dt   = ktr Trn  - (ktr + ks) P1
        dPi/dt   = ktr P(i-1) - (ktr + ks) Pi        PLT = P1 + ... + Pm

    Parameters
    ----------
    transits
        Maturation compartments after the proliferating pool.
    ageing
        Number ``m`` of age classes of circulating platelets.
    feedback_rule
        See `FeedbackRule`.
    saturation
        See `feedback_factor`; 0 is the published equation.

    Notes
    -----
    Parameters: ``baseline`` and ``set_point`` (10^9/L), ``MTT`` (h) or, as published, ``ktr``
    through ``MTT = (transits + 1) / ktr``, ``gamma``, and ``ks`` (1/h).

    The abstract of Perez-Ruixo 2016 gives ktr ("maturation", 7.09e-3 /h), ks ("random
    destruction", 8.86e-3 /h) and gamma (0.621), not the number of compartments. **Assumed here**:
    one transit, and one class of circulating platelets, which ages at ktr; their mean residence in
    blood is 1 / (ktr + ks), which ``MTT`` moves, too. The shipped card takes the published rate
    for that of the whole way, ``MTT = 1 / 7.09e-3 h``: ktr is twice it, and platelets stay 43 h in
    blood (63 h if each compartment, and ageing, had the published rate). With three transits the
    published gamma would leave the undisturbed count on the verge of a lasting oscillation
    (`relaxation_rate` shows it), which the paper's patients did not have.

    References
    ----------
    Perez-Ruixo C et al., AAPS J 2016;18:239-250, doi:10.1208/s12248-015-9839-0.
    """

    transits: int = 1
    ageing: int = 1
    feedback_rule: FeedbackRule = "kept"
    saturation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse empty chains and unknown rules."""
        for name in ("transits", "ageing"):
            if getattr(self, name) < 1:
                raise PkpdError(
                    where="platelet marrow", what=f"{name} = {getattr(self, name)}", allowed=">= 1"
                )
        check_feedback(self.feedback_rule, self.saturation, "platelet marrow")

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        chain = tuple(f"transit_{i + 1}" for i in range(self.transits))
        return ("log_proliferating", *chain, *(f"platelets_{i + 1}" for i in range(self.ageing)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        return ("baseline", "set_point", "MTT", "gamma", "ks")

    def _ktr(self, p: Parameters) -> Array:
        return (self.transits + 1) / p["MTT"]

    def _sum_of_classes(self, classes: States, p: Parameters) -> Any:
        """Sum over age classes weighted by their share in the steady state."""
        ktr = self._ktr(p)
        ratio = ktr / (ktr + p["ks"])
        share, shares, total = 1.0, 0.0, jnp.zeros_like(classes[0])
        for i in range(self.ageing):
            total = total + share * classes[i]
            shares = shares + share
            share = share * ratio
        return total / shares

    def _total(self, y: States, p: Parameters) -> Any:
        return jnp.maximum(self._sum_of_classes(y[1 + self.transits :], p), FLOOR)

    def start(self, p: Parameters) -> list[Any]:
        """All pools at ``baseline / set_point`` of their steady state."""
        z = share_of_set_point(self, p)
        return [jnp.log(z)] + [z] * (self.transits + self.ageing)

    def _changes(self, y: States, p: Parameters) -> list[Any]:
        """Time derivatives of the age classes per hour."""
        loss = self._ktr(p) + p["ks"]
        return [loss * (before - own) for before, own in pairwise(y[self.transits :])]

    def rates(self, y: States, effect: Any, kill: Any, p: Parameters) -> list[Any]:
        """Time derivatives of the scaled states per hour."""
        ktr = self._ktr(p)
        feedback = feedback_factor(self._total(y, p), p["gamma"], self.saturation)
        growth = growth_factor(effect, feedback, self.feedback_rule)
        pools = [jnp.exp(y[0]), *y[1 : 1 + self.transits]]
        return [
            ktr * (growth - 1.0) - kill,
            *(ktr * (before - pool) for before, pool in pairwise(pools)),
            *self._changes(y, p),
        ]

    def log_count(self, y: States, p: Parameters) -> Any:
        """Natural logarithm of the platelet count in 10^9/L."""
        return jnp.log(p["set_point"]) + jnp.log(self._total(y, p))

    def log_count_slope(self, y: States, effect: Any, kill: Any, p: Parameters) -> Any:
        """Time derivative of `log_count` per hour; effect and kill act on other states only."""
        return self._sum_of_classes(self._changes(y, p), p) / self._total(y, p)


def relaxation_rate(line: MarrowLine, p: Parameters) -> np.ndarray:
    """Rate at which a small disturbance of the steady state grows, 1/h; negative if it dies out.

    A long chain with a steep feedback (large ``gamma``) oscillates for ever. A set of parameters
    with a rate at or above zero has no baseline to recover to.

    Parameters
    ----------
    line
        The marrow line.
    p
        Its parameters; the steady state is that at ``set_point``.

    Returns
    -------
    ndarray
        ``[L]`` largest real part of the eigenvalues of the linearised equations.
    """
    steady = {**p, "baseline": p["set_point"]}
    shape = (*jnp.broadcast_shapes(*(jnp.shape(v) for v in steady.values()), (1,)),)
    lanes = {k: jnp.broadcast_to(v, shape) for k, v in steady.items()}
    y = line.initial(lanes)

    def one(state: Array, q: Parameters) -> Array:
        column = {k: v[None] for k, v in q.items()}
        return line.derivative(state[:, None], jnp.zeros(1), 0.0, column)[:, 0]

    jacobian = jax.vmap(jax.jacfwd(one), in_axes=(1, 0))(y, lanes)
    return np.linalg.eigvals(np.asarray(jacobian)).real.max(axis=-1)
