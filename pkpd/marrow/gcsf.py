"""Neutrophils with endogenous and given G-CSF (Quartino 2014).

G-CSF drives both the growth of proliferating cells and the speed of maturation, and neutrophils
clear it: few neutrophils, much G-CSF. This takes the place of Friberg's feedback by the count, and
lets filgrastim and pegfilgrastim enter where they act.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import jax.numpy as jnp

from pkpd.errors import PkpdError
from pkpd.marrow.friberg import (
    FLOOR,
    FeedbackRule,
    Line,
    Parameters,
    States,
    check_feedback,
    growth_factor,
    share_of_set_point,
)

#: Given G-CSF: rates per hour, ``k_anc`` per hour and 10^9/L. Absorption of
#: filgrastim and its volume of 14.5 L: lenograstim in Jost 2020 (transcribed). Assumed are:
#: bioavailability 0.6, and for pegfilgrastim an absorption half-life of a day, little elimination
#: of its own and a fifth of the clearance of G-CSF by neutrophils at the same count.
GIVEN = {
    "ka_filgrastim": 3.15 / 24.0,
    "ka_pegfilgrastim": 0.029,
    "ke_pegfilgrastim": 0.006,
    "k_anc_pegfilgrastim": 0.012,
}


GIVEN_INTO = {"filgrastim": "filgrastim_depot", "pegfilgrastim": "pegfilgrastim_depot"}
"""State that a dose under the skin is added to, as a rise in mg/L (`rise_by_dose`)."""


def rise_by_dose(dose_ug: float, volume_L: float = 14.5, bioavailability: float = 0.6) -> float:
    """Rise of the concentration in mg/L by a dose under the skin, if it came at once."""
    return 1e-3 * dose_ug * bioavailability / volume_L


@dataclass(frozen=True)
class GcsfMarrow(Line):
    """Proliferating cells, transits, circulating neutrophils, and G-CSF.

    With ``g = G / G0``, ``ktr = (transits + 1) / MTT``::

        dProl/dt = ktr Prol ((1 - E) g^gamma - g^beta) - kill Prol
        dTr1/dt  = ktr g^beta (Prol - Tr1)   ...
        dCirc/dt = ktr g^beta Trn - k_circ Circ
        dG/dt    = k_in + given - (ke + k_anc Circ) G,   k_in = (ke + k_anc set_point) G0

    Parameters
    ----------
    transits
        4 as published.
    g_csf
        ``"algebraic"``: G-CSF in balance with its production and clearance, ``G = (k_in + given) /
        (ke + k_anc Circ)``; its rate of 0.6 to 26 per hour makes the difference negligible, and the
        equations are not stiff. ``"state"``: as published, with one state more, for solvers of
        stiff equations.
    feedback_rule
        See `pkpd.marrow.friberg.FeedbackRule`: what the factor ``g^gamma`` does when ``E > 1``.

    Notes
    -----
    Parameters: ``baseline``, ``set_point`` (10^9/L), ``MTT`` (h), ``gamma``, ``beta``, ``k_circ``
    (1/h), ``ke`` (1/h), ``k_anc`` (1/h per 10^9/L), ``g0`` (mg/L); and for given G-CSF the rates of
    `GIVEN`, if they are others. Without such doses counts do not depend on ``g0``.

    Published values: baseline 3.53, MTT 133 h, gamma 0.444, beta 0.234, half-life in blood 7 h, ke
    0.592, k_anc 5.64, g0 24.3 ng/L. The corticosteroid term of the paper is left out.

    Filgrastim has the clearance of endogenous G-CSF; pegfilgrastim is a pool of its own that adds
    to ``G``. Both are states in mg/L, and doses are added to the depots of `GIVEN_INTO`.

    References
    ----------
    Quartino AL et al., Pharm Res 2014;31:3390-3403, doi:10.1007/s11095-014-1429-9, as transcribed
    in public code; one transcription multiplies ``ke`` by ``G`` outside of the bracket, against the
    paper.
    """

    transits: int = 4
    g_csf: Literal["algebraic", "state"] = "algebraic"
    feedback_rule: FeedbackRule = "kept"

    def __post_init__(self) -> None:
        """Refuse a chain without transits and unknown rules."""
        where = "marrow with G-CSF"
        if self.transits < 1:
            raise PkpdError(where=where, what=f"transits = {self.transits}", allowed=">= 1")
        if self.g_csf not in ("algebraic", "state"):
            raise PkpdError(where=where, what=f"g_csf {self.g_csf!r}", allowed="algebraic, state")
        check_feedback(self.feedback_rule, 0.0, where)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states; ``g_csf`` is relative to its normal concentration."""
        chain = tuple(f"transit_{i + 1}" for i in range(self.transits))
        given = ("filgrastim_depot", "pegfilgrastim_depot", "pegfilgrastim")
        own = ("g_csf",) if self.g_csf == "state" else ()
        return ("log_proliferating", *chain, "circulating", *given, *own)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters read."""
        return ("baseline", "set_point", "MTT", "gamma", "beta", "k_circ", "ke", "k_anc", "g0")

    def start(self, p: Parameters) -> list[Any]:
        """All pools at ``baseline / set_point`` of their steady state; no G-CSF given."""
        z = share_of_set_point(self, p)
        none = jnp.zeros_like(z)
        own = [self._balance(z, none, p)] if self.g_csf == "state" else []
        return [jnp.log(z), *[z] * (self.transits + 1), *[none] * 3, *own]

    def _balance(self, circulating: Any, filgrastim: Any, p: Parameters) -> Any:
        """Balanced G-CSF relative to normal, without pegfilgrastim."""
        normal = p["ke"] + p["k_anc"] * p["set_point"]
        absorbed = p.get("ka_filgrastim", GIVEN["ka_filgrastim"]) * filgrastim / p["g0"]
        return (normal + absorbed) / (p["ke"] + p["k_anc"] * p["set_point"] * circulating)

    def _level(self, y: States, p: Parameters) -> Any:
        """All G-CSF relative to the normal concentration."""
        n = self.transits
        if self.g_csf == "state":
            own = y[n + 5]
        else:
            own = self._balance(jnp.maximum(y[n + 1], FLOOR), y[n + 2], p)
        return jnp.maximum(own + y[n + 4] / p["g0"], FLOOR)

    def rates(self, y: States, effect: Any, kill: Any, p: Parameters) -> list[Any]:
        """Time derivatives of the states per hour."""
        n = self.transits
        ktr = (n + 1) / p["MTT"]
        level = self._level(y, p)
        speed = level ** p["beta"]
        growth = growth_factor(effect, level ** p["gamma"], self.feedback_rule)
        circulating, filgrastim, depot, pegfilgrastim = y[n + 1 : n + 5]
        pools = [jnp.exp(y[0]), *y[1 : n + 1]]
        of = {name: p.get(name, value) for name, value in GIVEN.items()}
        count = p["set_point"] * circulating
        absorbed = of["ka_pegfilgrastim"] * depot
        loss = of["ke_pegfilgrastim"] + of["k_anc_pegfilgrastim"] * count
        tail = [
            -of["ka_filgrastim"] * filgrastim,
            -absorbed,
            absorbed - loss * pegfilgrastim,
        ]
        if self.g_csf == "state":
            clearance = p["ke"] + p["k_anc"] * count
            tail.append(clearance * (self._balance(circulating, filgrastim, p) - y[n + 5]))
        return [
            ktr * (growth - speed) - kill,
            *(ktr * speed * (before - pool) for before, pool in pairwise(pools)),
            p["k_circ"] * (speed * y[n] - circulating),
            *tail,
        ]

    def log_count(self, y: States, p: Parameters) -> Any:
        """Natural logarithm of the neutrophil count in 10^9/L."""
        return jnp.log(p["set_point"]) + jnp.log(jnp.maximum(y[self.transits + 1], FLOOR))

    def log_count_slope(self, y: States, effect: Any, kill: Any, p: Parameters) -> Any:
        """Time derivative of `log_count` per hour; effect and kill act on other states only."""
        n = self.transits
        speed = self._level(y, p) ** p["beta"]
        return p["k_circ"] * (speed * y[n] / jnp.maximum(y[n + 1], FLOOR) - 1.0)
