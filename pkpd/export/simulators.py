"""A population model as text of mrgsolve, and of rxode2 and nlmixr2."""

from __future__ import annotations

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.export.blocks import NEARLY_NONE, omega_blocks
from pkpd.export.carried import refuse_forward
from pkpd.export.dialects import MRGSOLVE, RXODE2, Dialect, number
from pkpd.export.equations import Equations, equations_of
from pkpd.export.nonmem_text import deviation
from pkpd.export.parameters import (
    bounds_of,
    check_covariates,
    covariate_defaults,
    individual_statements,
    plain_names,
)
from pkpd.export.tracing import Statements, trace
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.population_parameters import RandomEffects, fixed_effects, start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.nonmem.tree import Assign, Expression, Name, Number
from pkpd.predict.structure import carries_forward

# what the languages know, and functions of C
_WORDS = """
T SOLVERTIME TIME ID EVID CMT AMT RATE II ADDL SS DV SELF ETA EPS THETA PI IF ELSE F DUR LAG ALAG
NEWIND E LINCMT POW EXP LOG SQRT C D R IPRED PRED GAMMA LGAMMA J0 J1 JN Y0 Y1 YN ERF ABS FLOOR CEIL
ROUND SIGN INDEX
"""
_TAKEN = tuple(_WORDS.split())


class _Parts:
    """What both languages are made of."""

    def __init__(self, model: PopulationModel, eta: str, time: str) -> None:
        if model.occasional:
            raise PkpdError(
                where="export",
                what=f"{model.occasional[0]!r} varies between occasions",
                remedy="export to NONMEM, whose text has one effect for each occasion",
            )
        self.model, self.equations = model, equations_of(model.structure)
        system: Equations = self.equations
        self.covariates = covariates_read(model)
        check_covariates(self.covariates, _TAKEN, "the program", 38)
        own = [p.name for p in model.parameters]
        self.fixed_names = list(fixed_effects(model))
        every = [
            *(("c", name) for name in system.compartments),
            *(("i", name) for name in own),
            *(("t", name) for name in self.fixed_names),
            *(("l", name) for name in model.structure.lines),
        ]
        wanted = [f"tv_{name}" if kind == "t" and name in own else name for kind, name in every]
        # one name after another, so that none comes twice
        made: dict[str, str] = {}
        taken = [*_TAKEN, *self.covariates]
        self.names: dict[tuple[str, str], str] = {}
        for key, want in zip(every, wanted, strict=True):
            made = plain_names([want], taken, capitals=False, most=40)
            self.names[key] = made[want]
            taken.append(made[want])
        self.states = [self.names["c", name] for name in system.compartments]
        self.own = {name: Name(self.names["i", name]) for name in own}

        def fixed(name: str) -> Expression:
            return Name(self.names["t", name])

        def random(name: str) -> Expression:
            number_ = model.varying.index(name) + 1
            return Name(eta.format(number_, self.names["i", name]))

        self.fixed = fixed
        self.main = Statements("m_")
        individual_statements(
            model,
            {name: self.names["i", name] for name in own},
            fixed,
            random,
            lambda name, o: Number(0.0),
            0,
            self.main,
        )
        amounts = tuple(Name(state) for state in self.states)
        self.starts: list[tuple[str, Expression]] = []
        if system.starts(dict.fromkeys(self.own, 0.5)) is not None:
            found = trace(
                lambda v: system.starts(v) or [], self.own, self.main, "the initial states"
            )
            self.starts = [
                (s, v) for s, v in zip(self.states, found, strict=True) if v != Number(0.0)
            ]
        self.ode = Statements("d_")
        self.slopes = trace(
            lambda v: system.slopes(v["t"], v["y"], v["own"]),
            {"t": Name(time), "y": amounts, "own": self.own},
            self.ode,
            "the right side",
        )
        self.table = Statements("o_")
        self.lines: list[str] = []
        for line in model.structure.lines:
            (value,) = trace(
                lambda v, line=line: [system.outputs[line](v["y"], v["own"])],
                {"y": amounts, "own": self.own},
                self.table,
                f"line {line!r}",
            )
            self.table.lines.append(Assign(self.names["l", line], value, 0))
            self.lines.append(self.names["l", line])
        self.values = start_values(model)
        self.covariance = np.asarray(RandomEffects(model, 0).covariance(self.values, np))

    def blocks(self) -> list[tuple[str, ...]]:
        """Parameters whose random effects belong together."""
        blocked = [name for block in self.model.correlated for name in block]
        return [*self.model.correlated, *((n,) for n in self.model.varying if n not in blocked)]

    def doses_need(self) -> list[str]:
        """Say which compartment doses need: where none is named these programs take the first."""
        place = self.equations.system.dose_compartment
        if place == 1:
            return []
        return [
            f"doses go into compartment {place}, {self.states[place - 1]}: give them CMT {place}"
        ]

    def dosing(self) -> list[tuple[str, str, str]]:
        """Letter, state and expression of every parameter of doses."""
        out = []
        for target, name in self.equations.dosing.items():
            letter = target.rstrip("0123456789")
            out.append((letter, self.states[int(target[len(letter) :]) - 1], self.own[name].name))
        return out


def _text(dialect: Dialect, lines: Statements, indent: str = "") -> list[str]:
    return dialect.statements(lines.lines, indent)


def mrgsolve_text(model: PopulationModel, data: Dataset | None = None) -> str:
    """Text of a model file of mrgsolve; every line of the model is captured."""
    refuse_forward(model, data, "mrgsolve")
    parts = _Parts(model, "ETA({0})", "SOLVERTIME")
    out = [f"[PROB] {parts.equations.system.name}, written by pkpd", "", "[PARAM]"]
    out += [f"{parts.names['t', n]} = {number(parts.values[n])}" for n in parts.fixed_names]
    defaults = covariate_defaults(model, data)
    out += ["// covariates; columns of the data take the place of these values"] * bool(defaults)
    out += [f"{name} = {number(value)} // {words}" for name, (value, words) in defaults.items()]
    out += ["", *(f"// {told}" for told in parts.doses_need()), "[CMT] " + " ".join(parts.states)]
    at = 0
    for block in parts.blocks():
        out += ["", "[OMEGA] @block" if len(block) > 1 else "[OMEGA]"]
        for i in range(len(block)):
            out.append(" ".join(number(v) for v in parts.covariance[at + i, at : at + i + 1]))
        at += len(block)
    out += ["", "[MAIN]", *_text(MRGSOLVE, parts.main)]
    words = {"F": "F", "ALAG": "ALAG", "D": "D", "R": "R"}
    out += [f"{words[letter]}_{state} = {name};" for letter, state, name in parts.dosing()]
    out += [f"{state}_0 = {MRGSOLVE.expression(v)};" for state, v in parts.starts]
    out += ["", "[ODE]", *_text(MRGSOLVE, parts.ode)]
    out += [
        f"dxdt_{state} = {MRGSOLVE.expression(slope)};"
        for state, slope in zip(parts.states, parts.slopes, strict=True)
    ]
    out += ["", "[TABLE]", *_text(MRGSOLVE, parts.table)]
    out += ["", "[CAPTURE] " + " ".join(parts.lines), ""]
    return "\n".join(out)


def rxode2_text(model: PopulationModel, program: str = "nlmixr2") -> str:
    """Text of a model function of rxode2, which draws, or nlmixr2, which estimates."""
    parts = _Parts(model, "eta_{1}", "t")
    out = ["model <- function() {", "  ini({"]
    for name, one in fixed_effects(model).items():
        mine, (low, high) = parts.names["t", name], bounds_of(model, name)
        if one.fixed:
            out.append(f"    {mine} <- fix({number(one.value)})")
            continue
        values = ", ".join(number(v) for v in (low, one.value, high) if v is not None)
        out.append(f"    {mine} <- {values if low is None else f'c({values})'}")
    for block in omega_blocks(model, program, estimated=program == "nlmixr2"):
        names = " + ".join(f"eta_{parts.names['i', name]}" for name in block.names)
        numbers = ", ".join(number(v) for row in block.rows for v in row)
        numbers = f"c({numbers})" if len(block.names) > 1 else numbers
        if block.moved:
            out.append(
                f"    # a correlation that starts from 0 in the model starts from {NEARLY_NONE:g} "
                "here: a covariance of 0 is not estimated"
            )
        out.append(f"    {names} ~ " + (f"fix({numbers})" if block.held else numbers))
    carried = "locf" if carries_forward(model.structure) else "nocb"
    out += ["  })", "  model({", *(f"    {carried}({name})" for name in parts.covariates)]
    out += _text(RXODE2, parts.main, "    ")
    words = {"F": "f", "ALAG": "alag", "D": "dur", "R": "rate"}
    out += [f"    {words[letter]}({state}) = {name}" for letter, state, name in parts.dosing()]
    out += [f"    {state}(0) = {RXODE2.expression(value)}" for state, value in parts.starts]
    out += [f"    # {told}" for told in parts.doses_need()]
    out += _text(RXODE2, parts.ode, "    ")
    out += [
        f"    d/dt({state}) = {RXODE2.expression(slope)}"
        for state, slope in zip(parts.states, parts.slopes, strict=True)
    ]
    out += _text(RXODE2, parts.table, "    ")
    for line, error in model.residual.items():
        deviation(model, line, Number(1.0), parts.fixed)  # refuses Student's t
        mine = parts.names["l", line]
        values = [parts.names["t", name] for name in error.estimates(line)]
        out.append(
            f"    {mine} ~ {_ERRORS[error.form].format(*values)}" + _which(model, line, mine)
        )
    return "\n".join([*out, "  })", "}", ""])


_ERRORS = {
    "additive": "add({0})",
    "proportional": "prop({0})",
    "combined": "add({0}) + prop({1}) + combined2()",
    "combined_linear": "add({0}) + prop({1}) + combined1()",
    "lognormal": "lnorm({0})",
}


def _which(model: PopulationModel, line: str, mine: str) -> str:
    """Name the line where data have several."""
    return f" | {mine}" if len(model.residual) > 1 else ""
