"""Equations of the structures that cards name, in LaTeX.

They are written for readers; `docs/equations.md` and the classes of `pkpd.marrow` have the same.
A structure without equations here is an error of the build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

_CENTRAL = r"C = \frac{A_1}{V_1}"
_ONE = r"\frac{dA_1}{dt} = r(t) - \frac{CL}{V_1} A_1"
_TWO = (
    r"\frac{dA_1}{dt} = r(t) - CL\,\frac{A_1}{V_1}"
    r" - Q \left(\frac{A_1}{V_1} - \frac{A_2}{V_2}\right)",
    r"\frac{dA_2}{dt} = Q \left(\frac{A_1}{V_1} - \frac{A_2}{V_2}\right)",
)
_FIRST_ORDER = (r"\frac{dD}{dt} = -k_a D", r"r(t) = k_a D")
_TRANSIT = (
    r"\frac{dD}{dt} = -K_{TR} D",
    r"\frac{dT_i}{dt} = K_{TR} (T_{i-1} - T_i), \quad T_0 = D",
    r"r(t) = K_{TR} T_n",
)
_TRIPHOSPHATE = r"\frac{dTP}{dt} = k_{in} C - k_{out} TP"
_COUNTS = (
    r"\frac{dTr_1}{dt} = k_{tr} (Prol - Tr_1), \quad \frac{dTr_i}{dt} = k_{tr} (Tr_{i-1} - Tr_i)",
    r"k_{tr} = \frac{n + 1}{MTT}",
)
_FEEDBACK = r"F = \left(\frac{1 + a}{Circ / set\_point + a}\right)^{\gamma}"

#: Structure of a card -> its equations.
EQUATIONS: dict[str, tuple[str, ...]] = {
    "iv_1cmt": (_ONE, _CENTRAL),
    "iv_2cmt": (*_TWO, _CENTRAL),
    "oral_first_order_1cmt": (*_FIRST_ORDER, _ONE, _CENTRAL),
    "oral_first_order_2cmt": (*_FIRST_ORDER, *_TWO, _CENTRAL),
    "oral_transit_1cmt": (*_TRANSIT, _ONE, _CENTRAL),
    "oral_transit_2cmt": (*_TRANSIT, *_TWO, _CENTRAL),
    "iv_2cmt_michaelis_menten": (
        r"\frac{dA_1}{dt} = r(t) - \frac{V_{max} C}{K_m + C}"
        r" - Q \left(\frac{A_1}{V_1} - \frac{A_2}{V_2}\right)",
        _TWO[1],
        _CENTRAL,
    ),
    "triphosphate_emax": (
        _TRIPHOSPHATE,
        r"E_{line} = \frac{E_{max,line}\, TP}{EC_{50,line} + TP}",
    ),
    "triphosphate_linear": (_TRIPHOSPHATE, r"E_{line} = slope_{line}\, TP"),
    "plasma_linear": (r"E_{line} = slope_{line}\, C",),
    "kill": (
        r"kill_{line} = \frac{\ln kill_{line}}{spread} \cdot \frac{dose}{reference\ dose}"
        r" \quad \text{for the hours of the spread}",
    ),
    "none": (),
    "friberg": (
        r"\frac{dProl}{dt} = k_{tr} Prol \left((1 - E) F - 1\right) - kill\, Prol",
        *_COUNTS,
        r"\frac{dCirc}{dt} = k_{tr} Tr_n - k_{circ} Circ",
        _FEEDBACK,
    ),
    "platelet_chain": (
        r"\frac{dProl}{dt} = k_{tr} Prol \left((1 - E) F - 1\right) - kill\, Prol",
        *_COUNTS,
        r"\frac{dP_1}{dt} = k_{tr} Tr_n - (k_{tr} + k_s) P_1,"
        r" \quad \frac{dP_i}{dt} = k_{tr} P_{i-1} - (k_{tr} + k_s) P_i",
        r"Circ = P_1 + ... + P_m",
        _FEEDBACK,
    ),
    "stem_cell": (
        r"\frac{dStem}{dt} = k_{stem} Stem \left((1 - E) F - 1\right) - kill\, Stem,"
        r" \quad k_{stem} = (1 - f_{tr}) k_{tr}",
        r"\frac{dProl}{dt} = f_{tr} k_{tr} Prol (1 - E) F + k_{stem} Stem"
        r" - k_{tr} Prol - kill\, Prol",
        *_COUNTS,
        r"\frac{dCirc}{dt} = k_{tr} Tr_n - k_{circ} Circ",
        _FEEDBACK,
    ),
    "gcsf": (
        r"\frac{dProl}{dt} = k_{tr} Prol \left((1 - E) g^{\gamma} - g^{\beta}\right) - kill\, Prol",
        r"\frac{dTr_1}{dt} = k_{tr} g^{\beta} (Prol - Tr_1),"
        r" \quad \frac{dTr_i}{dt} = k_{tr} g^{\beta} (Tr_{i-1} - Tr_i)",
        r"\frac{dCirc}{dt} = k_{tr} g^{\beta} Tr_n - k_{circ} Circ",
        r"g = \frac{k_e + k_{anc} set\_point}{k_e + k_{anc} Circ},"
        r" \quad k_{tr} = \frac{n + 1}{MTT}",
    ),
    "intensity": (
        r"I = intensity \cdot \frac{f(D)}{f(reference)},"
        r" \quad f(D) = \frac{D}{half\_dose + D} \text{ or } D",
        r"\text{kill of early cells} \propto I,"
        r" \quad \text{of others: times committed, blasts, platelet}",
    ),
    "saturable_kill": (
        r"\text{early cells: } \frac{max_{stem}\, L^{n}}{EC_{50,stem}^{n} + L^{n}}",
        r"\text{committed cells: } \frac{max_{committed}\, L^{n}}{EC_{50,committed}^{n} + L^{n}}",
        r"\text{blasts: } \frac{max_{blasts}\, L^{n}}{EC_{50,stem}^{n} + L^{n}}",
    ),
    "maturation_block": (
        r"E = \frac{e_{max} L^{n}}{EC_{50}^{n} + L^{n}},"
        r" \quad \text{of platelets with } \frac{EC_{50}}{platelet\_ratio}",
        r"\text{step into the chains times } (1 - E),"
        r" \quad \text{growth of early cells times } (1 - slow_{stem} E)",
        r"\text{kill of blasts: } kill_{blasts}\, E",
        r"\text{kill of early cells: } kill_{stem}\,"
        r" \frac{e_{max} L^{m}}{(EC_{50} / kill_{potency})^{m} + L^{m}}",
    ),
    "growth_factor": (),
    "graft": (),
    "long_acting_growth_factor": (),
    "nothing": (),
}

#: What the symbols of a structure mean that are no parameters of its card.
SYMBOLS = {
    "pk": "A are amounts in mg, C is the concentration in mg/L, r(t) the rate of infusion.",
    "effect": "C and TP are in umol/L. E slows the division of cells by the factor 1 - E.",
    "marrow": "Prol, Tr and Circ are dividing, maturing and circulating cells; E is the effect "
    "of the drugs and kill a rate of loss; a is the saturation of the feedback.",
    "action": "L is the driver's concentration in umol/L and n the Hill exponent (1 unless given), "
    "m kill_hill (1 unless given; n where kill_potency and it are not); D is the dose of a course "
    "in mg/m^2. Rates are per day.",
}


_WORDS = re.compile(r"\\text\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z]{2,}")


def upright(text: str) -> str:
    """Set names of several letters upright, which LaTeX reads as products of letters."""

    def word(match: re.Match[str]) -> str:
        found = match[0]
        if found.startswith("\\") or found == "dt":
            return found
        if found[0] == "d" and found[1].isupper():
            return rf"d\mathrm{{{found[1:]}}}" if len(found) > 2 else found
        return rf"\mathrm{{{found}}}"

    return _WORDS.sub(word, text)


def relation(name: str, individual: Row, spread: bool, on: Mapping[str, bool]) -> str:
    """How an individual parameter is made from numbers of the card and covariates, in LaTeX.

    Parameters
    ----------
    name
        Name of the parameter.
    individual
        Its table in the card.
    spread
        Whether patients or occasions deviate from it.
    on
        Options of the card; parts that belong to one that is off are left out.
    """
    terms = [_term(term) for term in individual["terms"] if _applies(term, on)]
    text = " + ".join(terms)
    effects = [_effect(e) for e in individual.get("covariates", []) if _applies(e, on)]
    lowest = individual.get("lowest")
    if len(terms) > 1 and (effects or (spread and lowest is None)):
        text = rf"\left({text}\right)"
    text = r" \cdot ".join([text, *effects])
    if lowest is not None:
        text = rf"\max\left({_number(lowest)}, {text}\right)"
    return rf"{_symbol(name, 'i')} = {text}" + (r" \cdot e^{\eta_i}" if spread else "")


def _applies(part: Row, on: Mapping[str, bool]) -> bool:
    option, unless = part.get("option"), part.get("unless")
    return (not option or on[option]) and not (unless and on[unless])


def _symbol(name: str, of: str = "") -> str:
    head, _, tail = name.partition("_")
    below = ", ".join([rf"\text{{{tail.replace('_', ' ')}}}"] * bool(tail) + [of] * bool(of))
    return rf"\text{{{head}}}" + (f"_{{{below}}}" if below else "")


def _term(term: Row) -> str:
    above = [_number(term["number"])] if "number" in term else []
    above += [_symbol(term["parameter"])] if term.get("parameter") else []
    above += [_name(n) for n in term.get("times", [])]
    below = [_name(n) for n in term.get("divided_by", [])]
    top = r"\, ".join(above) or "1"
    return rf"\frac{{{top}}}{{{' '.join(below)}}}" if below else top


def _effect(effect: Row) -> str:
    kind = effect["kind"]
    if kind == "factor":
        text = _symbol(effect["parameter"])
        text = rf"\frac{{1}}{{{text}}}" if effect.get("inverse") else text
    else:
        covariate, reference = _name(effect["covariate"]), _number(effect["reference"])
        if kind == "linear":
            text = rf"\left(1 + {_symbol(effect['parameter'])} ({covariate} - {reference})\right)"
        else:
            exponent = effect["exponent"]
            power = _symbol(exponent) if isinstance(exponent, str) else _number(exponent)
            text = rf"\frac{{{covariate}}}{{{reference}}}"
            text = rf"\left({text}\right)^{{{power}}}" if power != "1" else text
    return text + _when(effect.get("when"))


def _when(limits: Row | None) -> str:
    if not limits:
        return ""
    words = [limits["covariate"]]
    words += [f"from {limits['at_least']}"] if "at_least" in limits else []
    words += [f"below {limits['below']}"] if "below" in limits else []
    return rf"\ \text{{[{' '.join(words)}]}}"


def _name(name: str) -> str:
    """Symbol of a covariate, of a number, or of another individual or population parameter."""
    space, _, own = name.rpartition(".")
    if space:
        return _symbol(own, "i" if space == "individual" else "")
    return rf"\text{{{own.replace('_', ' ')}}}"


def _number(value: float) -> str:
    return f"{value:.4g}"
