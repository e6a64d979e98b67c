"""A population model as a NONMEM control stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.export.blocks import NEARLY_NONE, omega_blocks
from pkpd.export.carried import refuse_forward
from pkpd.export.data_file import BETWEEN, COLUMNS, MORE, data_columns
from pkpd.export.dialects import NONMEM, number
from pkpd.export.equations import Equations, equations_of
from pkpd.export.parameters import (
    bounds_of,
    check_covariates,
    individual_statements,
    plain_names,
    refuse_joint_prior,
)
from pkpd.export.tracing import Statements, simple, trace
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.population_parameters import RandomEffects, fixed_effects
from pkpd.fitting.model.specification import PopulationModel
from pkpd.nonmem.tree import Assign, Expression, Item, Name, Number

_WORDS = """
A T F Y W ID TIME EVID CMT AMT RATE II ADDL SS DV MDV LINE CENS OCC IPRED THETA ETA EPS ERR DADT DA
DP G H MU LOG EXP SQRT PHI IF THEN ELSE ENDIF MAX MIN NEWIND ICALL PRED RES WRES IRES
"""
RESERVED = tuple(_WORDS.split())


def nonmem_text(model: PopulationModel, dataset: Dataset | None, file: str) -> str:
    """Text of a control stream; its data are in ``file``."""
    refuse_joint_prior(model)
    refuse_forward(model, dataset, "NONMEM")
    equations, covariates = equations_of(model.structure), covariates_read(model)
    check_covariates(covariates, (*RESERVED, *COLUMNS, *MORE, "LIMIT"), "NONMEM", 20)
    logarithmic = tuple(name for name, error in model.residual.items() if error.logarithmic)
    columns = data_columns(dataset, covariates, logarithmic)
    names = plain_names(
        [p.name for p in model.parameters], (*RESERVED, *columns, *equations.dosing), capitals=True
    )
    effects = RandomEffects(model, _occasions(model, dataset))
    theta = {name: i for i, name in enumerate(fixed_effects(model), start=1)}

    def fixed(name: str) -> Expression:
        return Name(f"THETA({theta[name]})")

    def eta(name: str) -> Expression:
        return Name(f"ETA({model.varying.index(name) + 1})")

    def kappa(name: str, occasion: int) -> Expression:
        # occasion by occasion within a parameter, as SAME wants it
        first = len(model.varying) + model.occasional.index(name) * effects.n_occasions
        return Name(f"ETA({first + occasion})")

    pk = Statements("PK")
    individual_statements(model, names, fixed, eta, kappa, effects.n_occasions, pk)
    own = {name: Name(names[name]) for name in model.structure.parameters}
    for target, name in equations.dosing.items():
        pk.lines.append(Assign(target, own[name], 0))
    count = len(equations.compartments)
    amounts: list[Expression] = [Name(f"A({i})") for i in range(1, count + 1)]
    _starts(equations, own, pk)
    des = Statements("DE")
    slopes = trace(
        lambda v: equations.slopes(v["t"], v["y"], v["own"]),
        {"t": Name("T"), "y": tuple(amounts), "own": own},
        des,
        "the right side",
    )
    des.lines += [Assign(f"DADT({i})", slope, 0) for i, slope in enumerate(slopes, start=1)]
    lines = [
        f"$PROBLEM {equations.system.name}, written by pkpd",
        "$INPUT " + " ".join(columns),
        f"$DATA {file} IGNORE=@",
        "$SUBROUTINES ADVAN13 TOL=9",
        "$MODEL NCOMPARTMENTS=" + str(count),
        *(
            f"  COMP=({_comp(i)}{' DEFDOSE' if i == equations.system.dose_compartment else ''})"
            f" ; {name}"
            for i, name in enumerate(equations.compartments, start=1)
        ),
        "$PK",
        *NONMEM.statements(pk.lines),
        "$DES",
        *NONMEM.statements(des.lines),
        "$ERROR",
        *_error(model, equations, own, amounts, fixed),
        *_likelihoods(between="LIMIT" in columns),
        *_thetas(model),
        *_omegas(model, effects),
        "$SIGMA 1 FIX",
        "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=9999 NOABORT PRINT=5"
        + (" LAPLACIAN" if _censored(dataset) else ""),
    ]
    return "\n".join(lines) + "\n"


def _comp(i: int) -> str:
    return f"C{i}"


def _occasions(model: PopulationModel, dataset: Dataset | None) -> int:
    if not model.occasional or dataset is None or dataset.occasion is None:
        return 0
    return int(dataset.occasion[dataset.events.valid].max()) + 1


def _censored(dataset: Dataset | None) -> bool:
    """Whether probabilities are asked for, as they may be of data that are not known."""
    return dataset is None or bool(np.any(dataset.observations.censored != 0))


def _starts(equations: Equations, own: Mapping[str, Expression], pk: Statements) -> None:
    if equations.starts(dict.fromkeys(own, 0.5)) is None:
        return
    found = trace(lambda v: equations.starts(v) or [], own, pk, "the initial states")
    for i, value in enumerate(found, start=1):
        if value != Number(0.0):
            pk.lines.append(Assign(f"A_0({i})", value, 0))


def deviation(
    model: PopulationModel, line: str, f: Expression, fixed: Callable[[str], Expression]
) -> Expression:
    """Give the standard deviation of a line's residual, from its prediction."""
    error = model.residual[line]
    if error.nu is not None or error.serial:
        kind = (
            "Student's t" if error.nu is not None else "correlated in time or of a scale of its own"
        )
        raise PkpdError(
            where=f"export, line {line!r}",
            what=f"its error is {kind}",
            allowed="a normal or log-normal error",
        )
    values = [fixed(name) for name in error.estimates(line)]
    if error.form in ("additive", "lognormal"):
        return values[0]
    if error.form == "proportional":
        return simple("*", values[0], f)
    slope = simple("*", values[1], f)
    if error.form == "combined_linear":
        return simple("+", values[0], slope)
    two = Number(2.0)
    return Item("SQRT", (simple("+", simple("**", values[0], two), simple("**", slope, two)),))


def _error(
    model: PopulationModel,
    equations: Equations,
    own: Mapping[str, Expression],
    amounts: list[Expression],
    fixed: Callable[[str], Expression],
) -> list[str]:
    """Text of ``$ERROR``: every line under its number."""
    out = ["IPRED = 0.0", "W = 1.0"]
    known = list(model.structure.lines)
    for line in model.residual:
        at = Statements(f"E{known.index(line) + 1}")
        (value,) = trace(
            lambda v, line=line: [equations.outputs[line](v["y"], v["own"])],
            {"y": tuple(amounts), "own": own},
            at,
            f"line {line!r}",
        )
        prediction = at.named(value)
        spread = deviation(model, line, prediction, fixed)
        if model.residual[line].logarithmic:
            prediction = Item("LOG", (prediction,))
        at.lines += [Assign("IPRED", prediction, 0), Assign("W", spread, 0)]
        out += [
            f"IF (LINE.EQ.{known.index(line) + 1}) THEN ; {line}",
            *NONMEM.statements(at.lines, "  "),
            "ENDIF",
        ]
    return out


def _likelihoods(*, between: bool) -> list[str]:
    """Text of ``Y``: a value, or the probability of lying below, above or between limits."""
    cases = [
        ("CENS.EQ.0", 0, "IPRED + W*EPS(1)"),
        ("CENS.EQ.1", 1, "PHI((DV - IPRED)/W)"),
        ("CENS.LT.0", 1, "PHI((IPRED - DV)/W)"),
    ]
    if between:
        above = "PHI((DV - IPRED)/W) - PHI((LIMIT - IPRED)/W)"
        cases.append((f"CENS.EQ.{BETWEEN}", 1, above))
    out = []
    for condition, flag, value in cases:
        out += [f"IF ({condition}) THEN", f"  F_FLAG = {flag}", f"  Y = {value}", "ENDIF"]
    return out


def _thetas(model: PopulationModel) -> list[str]:
    out = []
    for name, one in fixed_effects(model).items():
        held = " FIX" if one.fixed else ""
        low, high = bounds_of(model, name)
        text = ", ".join(number(v) for v in (low, one.value, high) if v is not None)
        out.append(f"$THETA ({text}){held} ; {name}")
    return out


def _omegas(model: PopulationModel, effects: RandomEffects) -> list[str]:
    out = []
    for block in omega_blocks(model, "NONMEM", bands=True):
        held = " FIX" if block.held else ""
        if len(block.names) == 1:
            out.append(f"$OMEGA {number(block.covariance[0, 0])}{held} ; {block.names[0]}")
            continue
        words = "for each correlation that starts from 0 in the model: NONMEM holds 0"
        told = f" ; {NEARLY_NONE:g} {words}" if block.moved else ""
        out.append(f"$OMEGA BLOCK({len(block.names)}){held}{told}")
        for row, name in zip(block.rows, block.names, strict=True):
            out.append("  " + " ".join(number(v) for v in row) + f" ; {name}")
    for name in model.occasional:
        one = model[name].iov
        assert one is not None
        held = " FIX" if one.fixed else ""
        out.append(f"$OMEGA BLOCK(1){held} {number(one.value**2)} ; {name} between occasions")
        out += ["$OMEGA BLOCK(1) SAME"] * (effects.n_occasions - 1)
    return out
