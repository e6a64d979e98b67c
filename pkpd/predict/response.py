"""Ready models: responses to a concentration, and nonlinear pharmacokinetics.

Equations of direct and indirect response: Dayneka NL, Garg V, Jusko WJ, J Pharmacokinet Biopharm
1993;21:457-478. Effect compartment: Sheiner LB et al., Clin Pharmacol Ther 1979;25:358-371.
Target-mediated disposition: Gibiansky L et al., J Pharmacokinet Pharmacodyn 2008;35:573-591.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from pkpd.arguments import NONE, NUMBER, check_arguments
from pkpd.errors import PkpdError
from pkpd.predict.ode import OdeStructure, ode_model
from pkpd.predict.pk import LinearStructure

Effect = Literal["linear", "emax", "sigmoid"]
Baseline = Literal["none", "additive", "proportional"]
Turnover = Literal["inhibits_input", "inhibits_loss", "stimulates_input", "stimulates_loss"]

_EFFECTS = ("linear", "emax", "sigmoid")
_TURNOVERS = ("inhibits_input", "inhibits_loss", "stimulates_input", "stimulates_loss")


def _one_of(where: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PkpdError(where=where, what=f"{value!r}", allowed=", ".join(allowed))


def power(base: Any, exponent: Any) -> Any:
    """Raise a base of 0 or more to a power; 0 below, with a derivative of 0 there."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1.0) ** exponent, 0.0)


@dataclass(frozen=True)
class ConcentrationEffect:
    """Effect of a concentration: ``slope C``, or ``Emax C^hill / (EC50^hill + C^hill)``.

    Attributes
    ----------
    kind
        ``"linear"``, ``"emax"`` (hill 1) or ``"sigmoid"``.
    largest, half
        Names of the parameters of the largest effect and of the concentration of half of it.
    fixed
        The largest effect if it is not a parameter.
    """

    kind: str = "emax"
    largest: str = "Emax"
    half: str = "EC50"
    fixed: float | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        if self.kind == "linear":
            return ("slope",)
        own = (self.half,) if self.fixed is not None else (self.largest, self.half)
        return (*own, "hill") if self.kind == "sigmoid" else own

    def __call__(self, c: Any, p: Mapping[str, Any]) -> Any:
        """Effect of concentration ``c``."""
        if self.kind == "linear":
            return p["slope"] * c
        largest = p[self.largest] if self.fixed is None else self.fixed
        if self.kind == "emax":
            # rounding can leave a concentration just below 0
            c = jnp.maximum(c, 0.0)
            return largest * c / (p[self.half] + c)
        ratio = power(c / p[self.half], p["hill"])
        return largest * ratio / (1.0 + ratio)


@dataclass(frozen=True)
class _Response:
    """Output: baseline and effect of a concentration, or of that in the effect compartment."""

    effect: ConcentrationEffect
    baseline: str
    line: str
    site: bool

    def __call__(self, y: Any, p: Any, c: Any) -> Any:
        change = self.effect(y["effect_site"] if self.site else c[self.line], p)
        if self.baseline == "none":
            return change
        return p["E0"] + change if self.baseline == "additive" else p["E0"] * (1.0 + change)


def _nothing(t: Any, y: Any, p: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class _EffectSite:
    line: str

    def __call__(self, t: Any, y: Any, p: Any, c: Any) -> dict[str, Any]:
        return {"effect_site": p["ke0"] * (c[self.line] - y["effect_site"])}


def direct_effect(
    pk: LinearStructure,
    effect: Effect = "emax",
    *,
    baseline: Baseline = "additive",
    response: str = "effect",
    **options: Any,
) -> OdeStructure:
    """Response that follows the concentration at once.

    Parameters
    ----------
    pk
        Linear structure.
    effect
        ``"linear"`` (parameter ``slope``), ``"emax"`` (``Emax``, ``EC50``) or ``"sigmoid"`` (also
        ``hill``).
    baseline
        ``"additive"``: ``E0 + effect``; ``"proportional"``: ``E0 (1 + effect)``; ``"none"``.
    response
        Name of the line.
    **options
        Passed on to `pkpd.predict.ode.ode_model`.

    Examples
    --------
    >>> from pkpd.predict.pk import compartments
    >>> direct_effect(compartments(1)).parameters
    ('CL', 'V', 'Emax', 'EC50', 'E0')
    """
    return _driven(pk, effect, baseline, response, site=False, options=options)


def effect_compartment(
    pk: LinearStructure,
    effect: Effect = "emax",
    *,
    baseline: Baseline = "additive",
    response: str = "effect",
    **options: Any,
) -> OdeStructure:
    """Response to the concentration in an effect compartment, ``dCe/dt = ke0 (C - Ce)``.

    Parameters as `direct_effect`; ``ke0`` (1/h) comes before those of the effect.

    Examples
    --------
    >>> from pkpd.predict.pk import compartments
    >>> effect_compartment(compartments(1)).parameters
    ('CL', 'V', 'ke0', 'Emax', 'EC50', 'E0')
    """
    return _driven(pk, effect, baseline, response, site=True, options=options)


def _driven(
    pk: LinearStructure,
    effect: str,
    baseline: str,
    response: str,
    *,
    site: bool,
    options: dict[str, Any],
) -> OdeStructure:
    _one_of("effect", effect, _EFFECTS)
    _one_of("baseline", baseline, ("none", "additive", "proportional"))
    shape = ConcentrationEffect(effect)
    names = (("ke0",) if site else ()) + shape.parameters
    names += () if baseline == "none" else ("E0",)
    return ode_model(
        _EffectSite(pk.line) if site else _nothing,
        states=("effect_site",) if site else (),
        parameters=names,
        outputs={response: _Response(shape, baseline, pk.line, site)},
        pk=pk,
        **{"name": "effect compartment" if site else "direct effect", **options},
    )


@dataclass(frozen=True)
class _Turnover:
    kind: str
    effect: ConcentrationEffect
    line: str
    state: str

    def __call__(self, t: Any, y: Any, p: Any, c: Any) -> dict[str, Any]:
        change = self.effect(c[self.line], p)
        factor = 1.0 - change if self.kind.startswith("inhibits") else 1.0 + change
        on_input = factor if self.kind.endswith("input") else 1.0
        on_loss = factor if self.kind.endswith("loss") else 1.0
        return {self.state: p["kout"] * (p["R0"] * on_input - y[self.state] * on_loss)}


@dataclass(frozen=True)
class _Baseline:
    state: str
    parameter: str = "R0"

    def __call__(self, p: Any) -> dict[str, Any]:
        return {self.state: p[self.parameter]}


@dataclass(frozen=True)
class _State:
    state: str

    def __call__(self, y: Any, p: Any) -> Any:
        return y[self.state]


def turnover(
    pk: LinearStructure,
    kind: Turnover = "inhibits_input",
    *,
    effect: Effect = "emax",
    largest: float | None = None,
    response: str = "response",
    **options: Any,
) -> OdeStructure:
    """Indirect response: a pool with zero-order input and first-order loss, one of them changed.

    ::

        dR/dt = kin (1 -+ effect) - kout R        inhibits_input (I), stimulates_input (III)
        dR/dt = kin - kout (1 -+ effect) R        inhibits_loss (II), stimulates_loss (IV)
        kin = R0 kout,  R(0) = R0

    Parameters
    ----------
    pk
        Linear structure.
    kind
        Which process the drug changes, and how.
    effect
        ``"emax"``, ``"sigmoid"`` (with ``hill``) or ``"linear"`` (``slope``).
    largest
        Largest effect if it is known (1: complete inhibition); default: a parameter.
    response
        Name of the line.
    **options
        Passed on to `pkpd.predict.ode.ode_model`, e.g. ``typical``.

    Returns
    -------
    OdeStructure
        Parameters: those of ``pk``; ``R0``, ``kout`` (1/h); ``Imax, IC50`` for inhibition,
        ``Emax, EC50`` for stimulation (mg/L).

    Examples
    --------
    Warfarin and prothrombin activity, from a table with DVID 1 and 2:

    >>> from pkpd.predict.pk import compartments
    >>> pk = compartments(1, absorption="first_order", dosing=("ALAG1",))
    >>> model = turnover(pk, "inhibits_input", largest=1.0, response="pca")
    >>> model.lines, model.parameters
    (('concentration', 'pca'), ('ka', 'CL', 'V', 'R0', 'kout', 'IC50', 'ALAG1'))
    """
    _one_of("kind", kind, _TURNOVERS)
    _one_of("effect", effect, _EFFECTS)
    check_arguments("turnover", largest=(largest, NUMBER | NONE))
    if effect == "linear" and largest is not None:
        raise PkpdError(
            where="turnover, largest",
            what=f"{largest!r} with a linear effect, which has no largest",
            allowed="effect='emax' or 'sigmoid'",
            remedy="leave it out",
        )
    names = ("Imax", "IC50") if kind.startswith("inhibits") else ("Emax", "EC50")
    shape = ConcentrationEffect(effect, *names, fixed=largest)
    return ode_model(
        _Turnover(kind, shape, pk.line, response),
        states=(response,),
        parameters=("R0", "kout", *shape.parameters),
        outputs={response: _State(response)},
        initial=_Baseline(response),
        pk=pk,
        **{"name": "turnover", **options},
    )


@dataclass(frozen=True)
class _Disposition:
    """Absorption and exchange around a central compartment, shared by the nonlinear PK models."""

    n: int
    absorption: str

    @property
    def states(self) -> tuple[str, ...]:
        before = ("depot",) if self.absorption == "first_order" else ()
        return (*before, *("central", "peripheral")[: self.n])

    @property
    def volumes(self) -> tuple[str, ...]:
        return ("V",) if self.n == 1 else ("V1", "V2")

    @property
    def parameters(self) -> tuple[str, ...]:
        before = ("ka",) if self.absorption == "first_order" else ()
        return (*before, *self.volumes, *(("Q",) if self.n == 2 else ()))

    def slopes(self, y: Any, p: Any, c: Any, lost: Any) -> dict[str, Any]:
        """Return derivatives when ``lost`` (mg/h) leaves the central compartment at ``c``."""
        out, change = {}, -lost
        if self.absorption == "first_order":
            absorbed = p["ka"] * y["depot"]
            out["depot"], change = -absorbed, change + absorbed
        if self.n == 2:
            exchange = p["Q"] * (c - y["peripheral"] / p["V2"])
            out["peripheral"], change = exchange, change - exchange
        return {**out, "central": change}

    def check(self, where: str) -> None:
        if self.n not in (1, 2):
            raise PkpdError(where=where, what=f"n = {self.n}", allowed="1 or 2")
        _one_of(f"{where}, absorption", self.absorption, ("none", "first_order"))


@dataclass(frozen=True)
class _MichaelisMenten:
    disposition: _Disposition
    linear: bool

    def __call__(self, t: Any, y: Any, p: Any) -> dict[str, Any]:
        c = y["central"] / p[self.disposition.volumes[0]]
        lost = p["Vmax"] * c / (p["Km"] + c)
        if self.linear:
            lost = lost + p["CL"] * c
        return self.disposition.slopes(y, p, c, lost)


@dataclass(frozen=True)
class _Over:
    state: str
    volume: str

    def __call__(self, y: Any, p: Any) -> Any:
        return y[self.state] / p[self.volume]


def michaelis_menten(
    n: int = 1,
    *,
    absorption: Literal["none", "first_order"] = "none",
    linear: bool = False,
    line: str = "concentration",
    **options: Any,
) -> OdeStructure:
    """One or two compartments with saturable elimination, ``Vmax C / (Km + C)``.

    Parameters
    ----------
    n
        1 (parameter ``V``) or 2 (``V1, V2, Q``).
    absorption
        ``"none"`` or ``"first_order"`` (``ka``, 1/h; the depot is compartment 1).
    linear
        A linear clearance ``CL`` (L/h) besides.
    line
        Name of the line.
    **options
        Passed on to `pkpd.predict.ode.ode_model`, e.g. ``dosing``, ``typical``.

    Returns
    -------
    OdeStructure
        Parameters ``Vmax`` (mg/h), ``Km`` (mg/L) after those of disposition.

    Examples
    --------
    >>> michaelis_menten(2, absorption="first_order").parameters
    ('ka', 'V1', 'V2', 'Q', 'Vmax', 'Km')
    """
    disposition = _Disposition(n, absorption)
    disposition.check("michaelis_menten")
    return ode_model(
        _MichaelisMenten(disposition, linear),
        states=disposition.states,
        parameters=(*disposition.parameters, "Vmax", "Km", *(("CL",) if linear else ())),
        outputs={line: _Over("central", disposition.volumes[0])},
        **{"name": "Michaelis-Menten elimination", **options},
    )


def _free(total: Any, target: Any, kss: Any) -> Any:
    """Free concentration from totals, without loss of digits where nearly all is bound."""
    b = total - target - kss
    root = jnp.sqrt(b * b + 4.0 * kss * total)
    bound = b < 0
    return jnp.where(bound, 2.0 * kss * total / jnp.where(bound, root - b, 1.0), 0.5 * (b + root))


@dataclass(frozen=True)
class _QuasiSteadyState:
    disposition: _Disposition

    def __call__(self, t: Any, y: Any, p: Any) -> dict[str, Any]:
        volume, target = p[self.disposition.volumes[0]], y["target"]
        c = _free(y["central"] / volume, target, p["Kss"])
        bound = target * c / (p["Kss"] + c)
        lost = p["CL"] * c + p["kint"] * bound * volume
        made = p["kdeg"] * (p["R0"] - target)
        return {
            **self.disposition.slopes(y, p, c, lost),
            "target": made - (p["kint"] - p["kdeg"]) * bound,
        }


@dataclass(frozen=True)
class _FreeConcentration:
    volume: str

    def __call__(self, y: Any, p: Any) -> Any:
        return _free(y["central"] / p[self.volume], y["target"], p["Kss"])


def target_mediated(
    n: int = 2,
    *,
    absorption: Literal["none", "first_order"] = "none",
    line: str = "concentration",
    total: str = "total_concentration",
    target: str = "total_target",
    **options: Any,
) -> OdeStructure:
    """Target-mediated drug disposition at quasi steady state, as for antibodies.

    With total drug ``Ct = A / V`` and total target ``R`` in the central compartment::

        C     = ((Ct - R - Kss) + sqrt((Ct - R - Kss)^2 + 4 Kss Ct)) / 2
        dA/dt = input - (CL + kint R V / (Kss + C)) C - Q (C - Cp)
        dR/dt = kdeg (R0 - R) - (kint - kdeg) R C / (Kss + C),     R(0) = R0

    Parameters
    ----------
    n
        1 (parameter ``V``) or 2 (``V1, V2, Q``) compartments.
    absorption
        ``"none"`` or ``"first_order"`` (``ka``; the depot is compartment 1).
    line, total, target
        Names of the lines: free drug, total drug, total target.
    **options
        Passed on to `pkpd.predict.ode.ode_model`.

    Returns
    -------
    OdeStructure
        Parameters ``CL`` (L/h), ``R0``, ``Kss`` (amount/L), ``kdeg``, ``kint`` (1/h) after those of
        disposition. Doses, ``R0`` and ``Kss`` share one unit of amount: nmol, or mg of drug that
        the target binds.

    Examples
    --------
    >>> target_mediated(2).parameters
    ('V1', 'V2', 'Q', 'CL', 'R0', 'Kss', 'kdeg', 'kint')
    """
    disposition = _Disposition(n, absorption)
    disposition.check("target_mediated")
    volume = disposition.volumes[0]
    lines: dict[str, Callable[..., Any]] = {
        line: _FreeConcentration(volume),
        total: _Over("central", volume),
        target: _State("target"),
    }
    return ode_model(
        _QuasiSteadyState(disposition),
        states=(*disposition.states, "target"),
        parameters=(*disposition.parameters, "CL", "R0", "Kss", "kdeg", "kint"),
        outputs=lines,
        initial=_Baseline("target"),
        **{"name": "target-mediated disposition", **options},
    )
