"""Individual parameters as statements: typical values, covariates, random effects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.export.tracing import Statements, simple, trace
from pkpd.fitting.model.covariate_effects import CovariateEffect
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.specification import IndividualParameter, PopulationModel
from pkpd.nonmem.tree import Assign, Binary, Expression, If, Item, Name, Number, Unary

Of = Callable[[str], Expression]


_INTERMEDIATE = re.compile(r"(PK|DE|E\d+|[MDO]_)\d+")
"""Names that `pkpd.export.tracing.Statements` gives to intermediate values of a text."""


def plain_names(
    wanted: Iterable[str], taken: Iterable[str], *, capitals: bool, most: int = 20
) -> dict[str, str]:
    """Names that a program takes: letters, digits and underscores, none of them taken.

    Examples
    --------
    >>> plain_names(["CL", "k e", "F"], ["F"], capitals=True)
    {'CL': 'CL', 'k e': 'K_E', 'F': 'F_'}
    """
    used, out = {name.upper() for name in taken}, {}
    for name in wanted:
        text = re.sub(r"\W", "_", name, flags=re.ASCII)
        text = text if text[:1].isalpha() else f"P{text}"
        text = (text.upper() if capitals else text)[: most - 2]
        new, number = text, 1
        while new.upper() in used or _INTERMEDIATE.fullmatch(new.upper()):
            new = f"{text}_" if number == 1 else f"{text}{number}"
            new += "_" * bool(_INTERMEDIATE.fullmatch(new.upper()))
            number += 1
        used.add(new.upper())
        out[name] = new
    return out


def check_covariates(names: Iterable[str], taken: Iterable[str], program: str, most: int) -> None:
    """Refuse covariates whose names a program cannot take, or takes for something of its own.

    Raises
    ------
    PkpdError
        If there is one.
    """
    taken = tuple(taken)
    for name in names:
        if plain_names([name], taken, capitals=False, most=most + 2)[name] != name:
            raise PkpdError(
                where=f"export, covariate {name!r}",
                what=f"is no name for {program}, or one of its own words",
                allowed=f"letters, digits and underscores, {most} at most",
                remedy=f"read the data with columns={{'WT': {name!r}}}, or another name for WT",
            )


def individual_statements(
    model: PopulationModel,
    names: Mapping[str, str],
    fixed: Of,
    eta: Of,
    kappa: Callable[[str, int], Expression],
    occasions: int,
    into: Statements,
) -> None:
    """Add statements that set every individual parameter.

    Parameters
    ----------
    model
        The model.
    names
        Names of its parameters in the text.
    fixed, eta
        Expression of a fixed effect, and of a patient's random effect of a parameter.
    kappa
        Expression of the random effect of a parameter on an occasion (from 1).
    occasions
        Number of occasions.
    into
        Statements are added here.
    """
    if model.occasional and not occasions:
        raise PkpdError(
            where="export",
            what=f"{model.occasional[0]!r} varies between occasions, whose number is not known",
            remedy="give the data set",
        )
    for p in model.parameters:
        if p.column is not None:
            into.lines.append(Assign(names[p.name], Name(p.column), 0))
        if p.has_typical:
            _plain(model, p, names, fixed, eta, kappa, occasions, into)
    for p in model.parameters:
        if p.function is not None:
            function = p.function
            given = {name: Name(names[name]) for name in p.reads}
            (value,) = trace(
                lambda v, f=function, p=p: [f(*(v[name] for name in p.reads))],
                given,
                into,
                f"derived parameter {p.name!r}",
            )
            into.lines.append(Assign(names[p.name], value, 0))


def _plain(
    model: PopulationModel,
    p: IndividualParameter,
    names: Mapping[str, str],
    fixed: Of,
    eta: Of,
    kappa: Callable[[str, int], Expression],
    occasions: int,
    into: Statements,
) -> None:
    added: Expression = Number(0.0)
    for effect in p.effects:
        added = simple("+", added, _effect(p, effect, fixed, into))
    if p.iiv is not None:
        own = eta(p.name)
        if p.boxcox is not None:
            shape = fixed(f"boxcox_{p.name}")
            grown = simple("-", Item("EXP", (simple("*", own, shape),)), Number(1.0))
            none = Binary("==", shape, Number(0.0))
            own = into.chosen(none, own, simple("/", grown, shape))
        added = simple("+", added, own)
    if p.iov is not None:
        visit = into.fresh()
        branches = [
            (Binary("==", Name("OCC"), Number(float(o))), (Assign(visit, kappa(p.name, o), 0),))
            for o in range(1, occasions + 1)
        ]
        into.lines += [Assign(visit, Number(0.0), 0)]
        into.lines += [If((branch,), 0) for branch in branches]
        added = simple("+", added, Name(visit))
    typical = fixed(p.name)
    if p.scale == "log":
        value = typical if added == Number(0.0) else simple("*", typical, Item("EXP", (added,)))
    elif p.scale == "logit" and added != Number(0.0):
        low, high = map(Number, p.bounds)
        odds = simple("/", simple("-", typical, low), simple("-", high, typical))
        place = into.named(simple("+", Item("LOG", (odds,)), added))
        whole = simple("+", Number(1.0), Item("EXP", (Unary("-", place),)))
        value = simple("+", low, simple("/", simple("-", high, low), whole))
    else:
        value = simple("+", typical, added)
    into.lines.append(Assign(names[p.name], value, 0))


def _effect(
    p: IndividualParameter, effect: CovariateEffect, fixed: Of, into: Statements
) -> Expression:
    if np.isnan(effect.centre):
        raise PkpdError(
            where=f"export_model, {p.name}",
            what=f"category {effect.word!r} of {effect.covariate} is a word, without data",
            remedy="give the data, which number it (data=), or name its number in the model",
        )
    coefficient, x = fixed(effect.name(p.name)), Name(effect.covariate)
    centre = Number(effect.centre)
    if effect.kind == "power":
        return simple("*", coefficient, Item("LOG", (simple("/", x, centre),)))
    if effect.kind == "category":
        return into.chosen(Binary("==", x, centre), coefficient, Number(0.0))
    away = simple("*", coefficient, simple("-", x, centre))
    if effect.kind == "linear" and p.scale == "log":
        return Item("LOG", (simple("+", Number(1.0), away),))
    return away


def bounds_of(model: PopulationModel, name: str) -> tuple[float | None, float | None]:
    """Bounds of a fixed effect where its parameter's scale gives it some; None for none."""
    p = next((one for one in model.parameters if one.name == name), None)
    if p is not None and p.scale == "logit":
        return p.bounds
    positive = name.startswith("sigma_") if p is None else p.scale == "log"
    return (0.0 if positive else None), None


def covariate_defaults(
    model: PopulationModel, data: Dataset | None
) -> dict[str, tuple[float, str]]:
    """Values of covariates where no data give them, with words on what each is.

    The centre of the first effect that has one, a category that has no effect, and where there is
    neither the median of the data; 0 without data.
    """
    out: dict[str, tuple[float, str]] = {}
    for name in covariates_read(model):
        effects = [e for p in model.parameters for e in p.effects if e.covariate == name]
        centres = [e.centre for e in effects if e.kind != "category"]
        levels = {e.centre for e in effects}
        seen = data.covariates.get(name) if data is not None else None
        first = np.array([]) if seen is None else seen[:, 0]
        if centres:
            out[name] = centres[0], "centre of its effect"
        elif levels:
            found, times = np.unique(first[~np.isin(first, list(levels))], return_counts=True)
            other = next(float(k) for k in range(len(levels) + 1) if k not in levels)
            value = float(found[np.argmax(times)]) if len(found) else other
            out[name] = value, "category without an effect"
        elif len(first):
            out[name] = float(np.median(first)), "median of the data"
        else:
            out[name] = 0.0, "no default: give it with the data"
    return out


def refuse_joint_prior(model: PopulationModel) -> None:
    """Refuse a model whose prior would be left out.

    Raises
    ------
    PkpdError
        If it has a prior of several parameters.
    """
    if model.joint is not None:
        raise PkpdError(
            where="model to write",
            what="it has a prior of several parameters, which is not written",
            remedy="write model.replace(joint=None), and add $PRIOR to the text by hand",
        )
