"""Normal and leukaemic blood formation together, for one patient; the unit of time is the day.

All pools of normal cells are scaled to 1 in health. The terms and where they come from::

    G   = (1 + g N0)/(1 + g N) (1 + (gx - 1) on)      G-CSF in balance (Quartino 2014); g = kANC/ke
    h   = ((a + 1)/(a + P/P0))^gamma_platelet         thrombopoietin in balance
    B   = 1/(1 + b L)                                 reversible block of differentiation
    dS  = rho rest S (1 - S/K - c L) - (kill + injury) S + reserve max(1 - S/K - c L, 0) + graft
    dC  = k S B G^gamma (1 - E) - (k G^beta + kill) C                 committed neutrophils
    dTi = k G^beta (T(i-1) - Ti),  i = 1..n,  T0 = C                  maturation (Friberg 2002)
    dN  = k_circ (G^beta Tn - N)
    dSm = as dS, with a rate of its own;  dM0, dM1, dM2 as the chain above, without G
    dP  = P0 loss(P0) M2 - loss(P) P,  loss(P) = ageing + fixed/(P + 5)    Hanson, Slichter 1985
    dL  = growth L (1 - L) - kill L                                   blasts (logistic; Jost 2020)
    dJ1 = injury dose - kJ J1,  dJi = kJ (J(i-1) - Ji),  injury = loss J5
    dX  = - k_X X,  and + increment on mornings with P + X below the trigger   transfused platelets

The chain of maturation has n = 3 stages, or as many as the variant says. Where the variant lets
growth factor drive regrowth, rho of S is rho G^a.

The step of a cell is exponential. Blasts and early pools follow a logistic (Riccati) equation,
which is solved exactly with what else they depend on held at its mean; every pool of the chains
decays exactly and is fed by the mean content of the pool before it, which its own balance of mass
gives; feedback is taken at counts predicted for the middle of the cell from its start. All factors
are positive, so no pool turns negative whatever the kill. A step depends on nothing before it, so
cells may have any length.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax.numpy as jnp

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.marrow.pools import (
    falling_root,
    fed,
    logistic,
    mean_decay,
    passed,
    riccati,
    staged,
)
from pkpd.marrow.protocol import Numbers
from pkpd.marrow.variants import FULL, Variant

HAZARD_COUNT = 0.1
"""Neutrophils (10^9/L) at which the hazard of deep neutropenia is half of its largest."""

ROOM_FOR_HAZARD, MOST_HAZARD = 0.3, 2.0
"""Share of blasts for which their hazard is 1, and its largest multiple."""

PEG_HALF = 0.1
"""Doses of pegfilgrastim in the body at which it is half on."""

_FEW_STAGES = 3
"""Stages of a chain whose pools are each fed by the mean of the one before, within 0.01 at 4 h."""
_NO_BLASTS = 1e-8
_ROOM = ("capacity", "capacity_platelet", "crowding")
_INJURIES = tuple(f"injury_{i}" for i in range(1, 6))
_PLATELET_CHAIN = ("megakaryocyte_0", "megakaryocyte_1", "megakaryocyte_2")


def room_of_start(stem: Any, relief: Any, blasts: Any) -> tuple[Any, Any]:
    """Capacity and crowding with which a marrow starts in balance, by what the disease takes.

    Parameters
    ----------
    stem
        Early pool at start, share of the normal one, at most 1.
    relief
        Share of its log deficit that is the disease's doing: the marrow regrows to
        ``stem^(1 - relief)``, and the blasts at start take the rest of that room.
    blasts
        Blasts at start, share of a full marrow; as good as none take nothing.
    """
    capacity = stem ** (1.0 - relief)
    return capacity, (1.0 - stem / capacity) / blasts * (blasts > _NO_BLASTS)


@dataclass(frozen=True)
class LeukaemicMarrow:
    """The marrow with leukaemia in it.

    Parameters
    ----------
    variant
        Mechanisms that are on.
    injury, pegfilgrastim, care
        Whether a drug of the schedule causes late injury, whether pegfilgrastim is given, and
        whether transfused platelets and the hazard of early death are followed. What is not is no
        state and costs nothing.

    Notes
    -----
    Inputs of a cell, rates per day: ``loss_*``, the loss of early, early platelet, committed and
    committed platelet cells by drugs; ``kill_blasts``; ``rest_*`` and ``excess_*``, what a drug
    leaves of the step into the chains and what it takes beyond; ``growth_factor``, filgrastim on
    (0 to 1); ``injury``, intensity of late injury; ``graft``, early cells given, shares of a normal
    pool.
    """

    variant: Variant = FULL
    injury: bool = True
    pegfilgrastim: bool = True
    care: bool = True
    tied: bool = False

    name = "leukaemia"
    _parameters = (
        "rho", "rho_platelet", "capacity", "capacity_platelet", "crowding", "block", "reserve",
        "k_neutrophil", "k_circulation", "neutrophils_normal", "gamma", "beta", "clearance_ratio",
        "k_platelet", "platelets_normal", "gamma_platelet", "tpo_saturation",
        "platelet_ageing", "platelet_fixed_loss", "self_renewal",
        "injury_rate", "injury_loss", "growth", "blood_per_blast", "leukaemic_neutrophils",
        "neutrophil_share", "other_cells", "filgrastim", "peg_loss_own", "peg_loss_neutrophil",
        "transfused_loss", "hazard_base", "hazard_neutropenia", "hazard_blasts",
        "stem_start", "stem_platelet_start", "blasts_start",
    )  # fmt: skip
    may_be_zero = frozenset({
        "crowding", "block", "reserve", "gamma", "beta", "clearance_ratio", "gamma_platelet",
        "platelet_ageing", "platelet_fixed_loss", "self_renewal", "injury_loss", "growth",
        "blood_per_blast", "leukaemic_neutrophils", "other_cells", "peg_loss_own",
        "peg_loss_neutrophil", "transfused_loss", "hazard_base", "hazard_neutropenia",
        "hazard_blasts", "rho_growth", "relief",
    })  # fmt: skip
    inputs = (
        "loss_early", "loss_early_platelet", "loss_committed", "loss_committed_platelet",
        "kill_blasts", "rest_early", "rest_neutrophil", "rest_platelet", "excess_neutrophil",
        "excess_platelet", "growth_factor", "injury", "graft",
    )  # fmt: skip
    first_moments = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of one patient that the methods read."""
        own = self._parameters
        if self.tied:
            own = (*(name for name in own if name not in _ROOM), "relief")
        return (*own, "rho_growth") if self._driven else own

    @property
    def _driven(self) -> bool:
        """Whether growth factor drives the regrowth of early cells."""
        return self.variant.regrowth == "growth_factor"

    @property
    def _chain(self) -> tuple[str, ...]:
        """Committed cells and the stages of their maturation."""
        stages = range(1, self.variant.transit_stages + 1)
        return ("committed", *(f"transit_{i}" for i in stages))

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return (
            *("stem", "stem_platelet", *self._chain, "neutrophils", *_PLATELET_CHAIN, "platelets"),
            "blasts",
            *(("transfused", "hazard") if self.care else ()),
            *(("pegfilgrastim",) if self.pegfilgrastim else ()),
            *(_INJURIES if self.injury else ()),
        )

    @property
    def observed(self) -> tuple[str, ...]:
        """Counts in 10^9/L, marrow blasts in percent, cellularity relative to health."""
        own = ("neutrophils", "platelets", "wbc", "marrow_blasts", "blood_blasts", "marrow_cells")
        return (*own, *(("platelets_with_transfused", "cumulative_hazard") if self.care else ()))

    def rest(self) -> dict[str, float]:
        """Return the inputs when no drug acts."""
        return {name: float(name.startswith("rest_")) for name in self.inputs}

    def _with_room(self, p: Numbers) -> Numbers:
        """Parameters with the capacities and the crowding."""
        if not self.tied:
            return p
        stem, ratio = p["stem_start"], p["stem_platelet_start"] / p["stem_start"]
        low = jnp.minimum(stem, 1.0)
        capacity, crowding = room_of_start(low, p["relief"], p["blasts_start"])
        capacity = capacity * (stem / low)
        crowding = crowding if self.variant.crowding else 0.0 * crowding
        return {**p, **dict(zip(_ROOM, (capacity, capacity * ratio, crowding), strict=True))}

    # -- terms ---------------------------------------------------------------------------------

    def _log_level(self, p: Numbers, neutrophils: Any, on: Any) -> Any:
        """Logarithm of G-CSF relative to health, at relative neutrophils."""
        given = 1.0 + (p["filgrastim"] - 1.0) * on
        rule = self.variant.growth_factor
        if rule == "off":
            return jnp.log(given)
        if rule == "count":
            return jnp.log(given) - jnp.log(jnp.maximum(neutrophils, 1e-12))
        g = p["clearance_ratio"] * p["neutrophils_normal"]
        # the first does not depend on counts
        return jnp.log(given * (1.0 + g)) - jnp.log(1.0 + g * neutrophils)

    def growth_factor(self, p: Numbers, neutrophils: Any, on: Any) -> tuple[Any, Any]:
        """Factors on the step into the chain and on its transit, at relative neutrophils."""
        log_level = self._log_level(p, neutrophils, on)
        g_in = jnp.exp(p["gamma"] * log_level)
        if self.variant.growth_factor != "algebraic":
            return g_in, jnp.ones_like(g_in)
        return g_in, jnp.exp(p["beta"] * log_level)

    def _regrowth(self, p: Numbers, neutrophils: Any, on: Any) -> Any:
        """Regrowth rate of early neutrophil cells in room of their own, at relative neutrophils."""
        if not self._driven:
            return p["rho"]
        return p["rho"] * jnp.exp(p["rho_growth"] * self._log_level(p, neutrophils, on))

    @staticmethod
    def platelet_loss(p: Numbers, platelets: Any) -> Any:
        """Loss rate of own platelets per day at relative platelets."""
        count = platelets * p["platelets_normal"]
        return p["platelet_ageing"] + p["platelet_fixed_loss"] / (count + 5.0)

    @staticmethod
    def _thrombopoietin(p: Numbers, platelets: Any) -> Any:
        a = p["tpo_saturation"]
        return jnp.exp(p["gamma_platelet"] * (jnp.log(a + 1.0) - jnp.log(a + platelets)))

    def _on(self, y: Numbers, u: Numbers) -> Any:
        if not self.pegfilgrastim:
            return u["growth_factor"]
        level = y["pegfilgrastim"]
        return jnp.maximum(u["growth_factor"], level / (level + PEG_HALF))

    # -- what the protocol asks ----------------------------------------------------------------

    def start(self, p: Numbers) -> dict[str, Any]:
        """Chains in balance with the early pools, which need not be in balance themselves."""
        block = 1.0 / (1.0 + p["block"] * p["blasts_start"])
        stem, stem_platelet = p["stem_start"], p["stem_platelet_start"]
        neutrophils, platelets = self._steady(p, stem * block, stem_platelet * block)
        transit = neutrophils / self.growth_factor(p, neutrophils, 0.0)[1]
        if self.variant.proliferation == "self_renewing":
            neutrophils = transit = stem
        made = self.platelet_loss(p, platelets) * platelets / self.platelet_loss(p, 1.0)
        zero = jnp.zeros_like(stem * block)
        known = {
            **dict.fromkeys(self.states, zero),
            **dict.fromkeys(self._chain, transit + zero),
            **dict.fromkeys(_PLATELET_CHAIN, made + zero),
            "stem": stem + zero,
            "stem_platelet": stem_platelet + zero,
            "neutrophils": neutrophils + zero,
            "platelets": platelets + zero,
            "blasts": p["blasts_start"] + zero,
        }
        return {name: known[name] for name in self.states}

    def _steady(self, p: Numbers, stem: Any, stem_platelet: Any) -> tuple[Any, Any]:
        """Relative counts in balance with what the early pools give, by Newton on logarithms.

        Both balances have one solution, since production falls and loss rises with the count;
        their slopes lie between -2.5 and -0.05 and change slowly, so that a dozen steps suffice.
        """
        clearance = p["clearance_ratio"] * p["neutrophils_normal"]
        a, gamma = p["tpo_saturation"], p["gamma_platelet"]
        made_n = jnp.log(stem)
        made_p = jnp.log(stem_platelet * self.platelet_loss(p, 1.0)) + gamma * jnp.log(a + 1.0)
        rule = self.variant.growth_factor

        def neutrophils(u: Any) -> tuple[Any, Any]:
            if rule == "algebraic":
                g = clearance * jnp.exp(u)
                made = made_n + p["gamma"] * (jnp.log1p(clearance) - jnp.log1p(g))
                return made - u, -1.0 - p["gamma"] * (g / (1.0 + g))
            if rule == "count":
                return made_n - p["gamma"] * u - u, -1.0 - p["gamma"]
            return made_n - u, -jnp.ones_like(u)

        def platelets(u: Any) -> tuple[Any, Any]:
            x = jnp.exp(u)
            count = x * p["platelets_normal"]
            loss = self.platelet_loss(p, x)
            steep = -p["platelet_fixed_loss"] * count / (count + 5.0) ** 2 / loss
            made = made_p - gamma * jnp.log(a + x)
            return made - jnp.log(loss) - u, -1.0 - steep - gamma * x / (a + x)

        return falling_root(neutrophils, made_n), falling_root(platelets, jnp.log(stem_platelet))

    def derivative(self, y: Numbers, p: Numbers, u: Numbers) -> dict[str, Any]:
        """Time derivative per day of every state."""
        p = self._with_room(p)
        on = self._on(y, u)
        g_in, g_out = self.growth_factor(p, y["neutrophils"], on)
        tpo = self._thrombopoietin(p, y["platelets"])
        blasts = y["blasts"]
        block = 1.0 / (1.0 + p["block"] * blasts)
        room = 1.0 - p["crowding"] * blasts
        injured = p["injury_loss"] * y["injury_5"] if self.injury else 0.0

        def early(pool: Any, rho: Any, capacity: Any, loss: Any) -> Any:
            free = room - pool / capacity
            rho = rho * u["rest_early"]
            gained = p["reserve"] * jnp.maximum(free, 0.0) + u["graft"]
            return rho * pool * free - (loss + injured) * pool + gained

        k, km, kc = p["k_neutrophil"], p["k_platelet"], p["k_circulation"]
        kept = self.variant.effect_above_one == "kept"
        mix = p["self_renewal"]
        source = (1.0 - mix) * y["stem"] + mix * y["committed"]
        anc = y["neutrophils"] * p["neutrophils_normal"]
        excess_n = u["excess_neutrophil"] * (g_in if kept else 1.0)
        excess_p = u["excess_platelet"] * (tpo if kept else 1.0)
        zero = 0.0 * blasts
        out = dict.fromkeys(self.states, zero)
        for before, name in pairwise(self._chain):
            out[name] = k * g_out * (y[before] - y[name])
        if self.injury:
            rate, before = p["injury_rate"], u["injury"] / p["injury_rate"]
            for name in _INJURIES:
                out[name] = rate * (before - y[name])
                before = y[name]
        if self.pegfilgrastim:
            loss = p["peg_loss_own"] + p["peg_loss_neutrophil"] * y["neutrophils"]
            out["pegfilgrastim"] = -loss * y["pegfilgrastim"]
        if self.care:
            out["transfused"] = -p["transfused_loss"] * y["transfused"]
            out["hazard"] = (
                p["hazard_base"]
                + p["hazard_neutropenia"] / (1.0 + (anc / HAZARD_COUNT) ** 2)
                + p["hazard_blasts"] * jnp.minimum(blasts / ROOM_FOR_HAZARD, MOST_HAZARD)
            )
        return out | {
            "stem": early(
                y["stem"],
                self._regrowth(p, y["neutrophils"], on),
                p["capacity"],
                u["loss_early"],
            ),
            "stem_platelet": early(
                y["stem_platelet"],
                p["rho_platelet"],
                p["capacity_platelet"],
                u["loss_early_platelet"],
            ),
            "committed": k * source * block * g_in * u["rest_neutrophil"]
            - (k * g_out + u["loss_committed"] + k * excess_n) * y["committed"],
            "neutrophils": kc * (g_out * y[self._chain[-1]] - y["neutrophils"]),
            "megakaryocyte_0": km * y["stem_platelet"] * block * tpo * u["rest_platelet"]
            - (km + u["loss_committed_platelet"] + km * excess_p) * y["megakaryocyte_0"],
            "megakaryocyte_1": km * (y["megakaryocyte_0"] - y["megakaryocyte_1"]),
            "megakaryocyte_2": km * (y["megakaryocyte_1"] - y["megakaryocyte_2"]),
            "platelets": self.platelet_loss(p, 1.0) * y["megakaryocyte_2"]
            - self.platelet_loss(p, y["platelets"]) * y["platelets"],
            "blasts": (p["growth"] * (1.0 - blasts) - u["kill_blasts"]) * blasts,
        }

    def step(self, y: Numbers, p: Numbers, u: Numbers, h: Any) -> dict[str, Any]:
        """State ``h`` days later under inputs that hold still; see the top of this module."""
        p = self._with_room(p)
        out = dict(y)
        # blasts
        growth = p["growth"]
        out["blasts"], blasts = logistic(y["blasts"], growth - u["kill_blasts"], growth, h)
        room = 1.0 - p["crowding"] * blasts

        # late injury
        injured: Any = 0.0
        if self.injury:
            x = p["injury_rate"] * h
            inflow = u["injury"] * h
            for name in _INJURIES:
                out[name], mean = fed(y[name], inflow, x)
                inflow = x * mean
                injured = p["injury_loss"] * mean

        # feedback at counts predicted for the middle of the cell
        on = self._on(y, u)
        n, k, kc = y["neutrophils"], p["k_neutrophil"], p["k_circulation"]
        decay = jnp.exp(-0.5 * kc * h)
        g_start = self.growth_factor(p, n, on)[1]
        n_mid = n * decay + (1.0 - decay) * g_start * y[self._chain[-1]]
        if self.pegfilgrastim:
            loss = p["peg_loss_own"] + p["peg_loss_neutrophil"] * n_mid
            half = jnp.exp(-0.5 * loss * h)
            out["pegfilgrastim"] = y["pegfilgrastim"] * half * half
            on = self._on({"pegfilgrastim": y["pegfilgrastim"] * half}, u)

        # early pools
        def early(pool: Any, rho: Any, capacity: Any, loss: Any) -> tuple[Any, Any]:
            per, rho = 1.0 / capacity, rho * u["rest_early"]
            reserve = jnp.where(room > pool * per, p["reserve"], 0.0)
            b = rho * room - loss - injured - reserve * per
            return riccati(pool, reserve * room + u["graft"], b, rho * per, h)

        out["stem"], stem = early(
            y["stem"], self._regrowth(p, n_mid, on), p["capacity"], u["loss_early"]
        )
        out["stem_platelet"], stem_p = early(
            y["stem_platelet"], p["rho_platelet"], p["capacity_platelet"], u["loss_early_platelet"]
        )

        g_in, g_out = self.growth_factor(p, n_mid, on)
        plt = y["platelets"]
        at_normal = self.platelet_loss(p, 1.0)
        change = at_normal * y["megakaryocyte_2"] - self.platelet_loss(p, plt) * plt
        p_mid = jnp.maximum(plt + 0.5 * h * change, 0.5 * plt)
        tpo = self._thrombopoietin(p, p_mid)
        block = 1.0 / (1.0 + p["block"] * blasts)

        # neutrophil chain
        kept = self.variant.effect_above_one == "kept"
        mix = p["self_renewal"]
        made = k * block * g_in * u["rest_neutrophil"]
        excess = u["excess_neutrophil"] * (g_in if kept else 1.0)
        x = (k * (g_out + excess) + u["loss_committed"]) * h
        if self.variant.proliferation == "self_renewing":
            e = jnp.exp((made - k * (g_out + excess) - u["loss_committed"]) * h)
            out["committed"] = y["committed"] * e
            mean = y["committed"] * mean_decay((k * (g_out + excess) - made) * h
                                               + u["loss_committed"] * h, e)  # fmt: skip
        else:
            out["committed"], mean = fed(y["committed"], (1.0 - mix) * made * stem * h, x)
        x = k * g_out * h
        e = jnp.exp(-x)
        stages = self._chain[1:]
        if len(stages) > _FEW_STAGES:
            after, mean = staged([y[name] for name in stages], mean, x)
            out |= zip(stages, after, strict=True)
        else:
            for name in stages:
                out[name], mean = passed(y[name], mean, x, e)
        decay = decay * decay
        out["neutrophils"] = n * decay + (1.0 - decay) * g_out * mean

        # platelet chain
        km = p["k_platelet"]
        excess = u["excess_platelet"] * (tpo if kept else 1.0)
        x = (km * (1.0 + excess) + u["loss_committed_platelet"]) * h
        inflow = km * block * tpo * u["rest_platelet"] * stem_p * h
        out["megakaryocyte_0"], mean = fed(y["megakaryocyte_0"], inflow, x)
        x = km * h
        e = jnp.exp(-x)
        for name in _PLATELET_CHAIN[1:]:
            out[name], mean = passed(y[name], mean, x, e)
        x = self.platelet_loss(p, p_mid) * h
        e = jnp.exp(-x)
        out["platelets"] = plt * e + at_normal * mean * h * mean_decay(x, e)

        if not self.care:
            return out
        # transfused platelets, hazard of death
        out["transfused"] = y["transfused"] * jnp.exp(-p["transfused_loss"] * h)

        def beyond(count: Any) -> Any:
            v = count * (p["neutrophils_normal"] / HAZARD_COUNT)
            return 1.0 + v * v

        # Simpson's mean of 1/(1 + v^2), with one division
        first, mid, last = beyond(n), beyond(n_mid), beyond(out["neutrophils"])
        low = (mid * (first + last) + 4.0 * first * last) / (6.0 * first * mid * last)
        many = jnp.minimum(blasts * (1.0 / ROOM_FOR_HAZARD), MOST_HAZARD)
        rate = p["hazard_base"] + p["hazard_neutropenia"] * low + p["hazard_blasts"] * many
        out["hazard"] = y["hazard"] + h * rate
        return out

    def observe(self, y: Numbers, p: Numbers) -> dict[str, Any]:
        """Return counts in 10^9/L; marrow blasts in percent; cellularity relative to health."""
        leukaemic = p["blood_per_blast"] * y["blasts"] ** 2  # a full marrow lets more of them go
        own = y["neutrophils"] * p["neutrophils_normal"]
        chain = [y[name] for name in self._chain]
        normal = sum(chain[1:], start=chain[0]) * (1.0 / len(chain))
        cells = normal + p["other_cells"]
        platelets = y["platelets"] * p["platelets_normal"]
        seen = {
            "neutrophils": own + p["leukaemic_neutrophils"] * leukaemic,
            "platelets": platelets,
            "wbc": own / p["neutrophil_share"] + leukaemic,
            "marrow_blasts": 100.0 * y["blasts"] / (y["blasts"] + cells),
            "blood_blasts": leukaemic * (1.0 - p["leukaemic_neutrophils"]),
            "marrow_cells": y["blasts"] + normal,
        }
        if self.care:
            seen["platelets_with_transfused"] = platelets + y["transfused"]
            seen["cumulative_hazard"] = y["hazard"]
        return seen
