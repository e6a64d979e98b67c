"""Candidate relations between parameters and covariates, checked against model and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeAlias

import numpy as np

from pkpd.cards.files import nearest_of
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.model.covariate_effects import CovariateEffect, Kind
from pkpd.fitting.model.priors import Estimate
from pkpd.fitting.model.specification import PopulationModel

Candidates: TypeAlias = Mapping[
    str, Sequence["str | CovariateEffect | tuple[CovariateEffect, ...]"]
]
"""Covariates by parameter, each by name or with its form."""

LEVELS = 5
"""A covariate with at most so many values is one of categories, where no form is given."""
_WHERE = "covariate_search"


@dataclass(frozen=True)
class Relation:
    """A relation between a parameter and a covariate.

    Attributes
    ----------
    parameter
        Name of the individual parameter.
    effects
        Its terms: one, or one for each category that is not the reference.
    """

    parameter: str
    effects: tuple[CovariateEffect, ...]

    @property
    def covariate(self) -> str:
        """Name of the covariate."""
        return self.effects[0].covariate

    @property
    def pair(self) -> tuple[str, str]:
        """Parameter and covariate, of which one relation at most is in a model."""
        return self.parameter, self.covariate

    @property
    def name(self) -> str:
        """Name in tables, ``CL ~ WT, power``."""
        return f"{self.parameter} ~ {self.covariate}, {self.effects[0].kind}"


def candidate_relations(
    model: PopulationModel,
    dataset: Dataset,
    candidates: Candidates | None,
    forms: Sequence[Kind],
    least: int = 3,
) -> tuple[list[Relation], list[str]]:
    """Give the relations that a search tries, and sentences on what was left out or replaced.

    Parameters
    ----------
    model, dataset
        Model that the search begins with, and data.
    candidates
        Covariates by parameter; ``None`` for each covariate on each parameter that varies between
        patients or occasions and has no effect of it in the model.
    forms
        Forms of covariates given by name with more than `LEVELS` values, each a relation.
    least
        Subjects that each category must have, the reference among them.

    Raises
    ------
    PkpdError
        For a relation that was named and cannot be tried.
    """
    if candidates is not None:
        made, told = [], list[str]()
        for parameter, given in candidates.items():
            _check_parameter(model, parameter)
            for one in [given] if _is_one(given) else given:
                found, more = _named(model, dataset, parameter, one, forms, least)
                made += found
                told += more
        names = [relation.name for relation in made]
        for name in names:
            if names.count(name) > 1:
                _refuse(name, "is named twice", remedy="name it once")
        if not made:
            _refuse("candidates", "no relation is named")
        return made, list(dict.fromkeys(told))
    made, told = [], []
    changing = [p.name for p in model.parameters if p.has_typical and (p.iiv or p.iov)]
    for covariate in dataset.covariates:
        try:
            known = covariate_values(dataset, covariate)
            relations, more = _by_name(dataset, covariate, known, forms, least)
        except PkpdError as error:
            told.append(f"Left out: {error}")
            continue
        told += more
        for parameter in changing:
            if not any(e.covariate == covariate for e in model[parameter].effects):
                made += [Relation(parameter, effects) for effects in relations]
    if not made:
        _refuse("candidates", "no covariate of the data is left to try" + _because(told))
    order = {name: i for i, name in enumerate(changing)}
    return sorted(made, key=lambda relation: order[relation.parameter]), told


def covariate_values(dataset: Dataset, covariate: str) -> np.ndarray:
    """Value of a covariate at each subject's first record, ``[B]``.

    Raises
    ------
    PkpdError
        If the data lack it, or it has one value in all records.
    """
    known = dataset.covariates
    if covariate not in known:
        _refuse(
            f"covariate {covariate!r}",
            f"is not in the data{nearest_of(covariate, tuple(known))}",
            allowed=", ".join(known) or "none: no covariate was read",
            remedy=f'read it with covariates=["{covariate}"]',
        )
    every = known[covariate][dataset.events.valid]
    if np.all(every == every[0]):
        _refuse(
            f"covariate {covariate}",
            f"has one value, {every[0]:g}, in all subjects",
            remedy="leave it out: nothing can be told of its effect",
        )
    return known[covariate][:, 0]


def _is_one(given: Any) -> bool:
    """Whether candidates of a parameter are a single one: a name, a form, or categories."""
    if isinstance(given, (str, CovariateEffect)):
        return True
    effects = [e for e in given if isinstance(e, CovariateEffect)]
    kinds = {(e.covariate, e.kind) for e in effects}
    one = len(kinds) == 1 and effects[0].kind == "category"
    return isinstance(given, tuple) and len(effects) == len(given) > 1 and one


def _because(told: Sequence[str]) -> str:
    return f" ({told[0].rstrip('.')})" if told else ""


def _refuse(
    place: str, what: str, *, allowed: str | None = None, remedy: str | None = None
) -> NoReturn:
    raise PkpdError(where=f"{_WHERE}, {place}", what=what, allowed=allowed, remedy=remedy)


def _check_parameter(model: PopulationModel, parameter: str) -> None:
    typical = [p.name for p in model.parameters if p.has_typical]
    if parameter not in typical:
        there = parameter in [p.name for p in model.parameters]
        why = "is read from the data or derived from others"
        _refuse(
            f"parameter {parameter!r}",
            why if there else f"is not in the model{nearest_of(parameter, typical)}",
            allowed=", ".join(typical),
        )


def _named(
    model: PopulationModel,
    dataset: Dataset,
    parameter: str,
    given: Any,
    forms: Sequence[Kind],
    least: int,
) -> tuple[list[Relation], list[str]]:
    """Relations of a parameter with a covariate that was named, and sentences."""
    effects = () if isinstance(given, str) else _terms(parameter, given)
    effects = tuple(e.numbered(dataset.words, dataset.events.source) for e in effects)
    covariate = effects[0].covariate if effects else str(given)
    values = covariate_values(dataset, covariate)
    if any(e.covariate == covariate for e in model[parameter].effects):
        _refuse(
            f"{parameter} ~ {covariate}",
            "is in the model already, and stays there",
            remedy="leave it out of the candidates, or begin with a model without it",
        )
    if not effects:
        found, told = _by_name(dataset, covariate, values, forms, least)
        return [Relation(parameter, one) for one in found], told
    for effect in effects:
        effect.check(dataset.covariates[covariate][dataset.events.valid], _WHERE)
        effect.check_estimated(dataset.covariates[covariate][dataset.events.valid], _WHERE)
        if effect.coefficient.fixed:
            what = f"its coefficient is held at {effect.coefficient.value:g}"
            _refuse(effect.name(parameter), what, remedy="give a number to start from")
    if effects[0].kind == "category":
        named = [e.centre for e in effects]
        every, valid = dataset.covariates[covariate], dataset.events.valid
        if np.all(np.isin(every[valid], named)):
            what = "every category has a coefficient, and none is the reference"
            _refuse(f"{parameter} ~ {covariate}", what, remedy="leave one out")
        every = np.where(np.isin(every, named), every, np.inf)
        _check_levels(covariate, every, valid, least)
    made = tuple(replace(e, coefficient=Estimate(0.0, e.coefficient.prior)) for e in effects)
    return [Relation(parameter, made)], []


def _terms(parameter: str, given: Any) -> tuple[CovariateEffect, ...]:
    """Terms of a relation that was given with its form: one, or categories of one covariate."""
    effects: Any = (given,) if isinstance(given, CovariateEffect) else given
    several = isinstance(effects, (tuple, list)) and len(effects) > 0
    if not several or not all(isinstance(e, CovariateEffect) for e in effects):
        allowed = "a name, or what pkpd.models.covariate.power(...) and its like give"
        _refuse(f"candidates of {parameter}", f"{given!r} is no relation", allowed=allowed)
    kinds = {(e.covariate, e.kind) for e in effects}
    alike = len(kinds) == 1 and len({e.level for e in effects}) == len(effects)
    if len(effects) > 1 and not (alike and effects[0].kind == "category"):
        what = "several terms that are not different categories of one covariate"
        _refuse(f"candidates of {parameter}", what, remedy="give each as a candidate")
    return tuple(effects)


def _by_name(
    dataset: Dataset, covariate: str, values: np.ndarray, forms: Sequence[Kind], least: int
) -> tuple[list[tuple[CovariateEffect, ...]], list[str]]:
    """Terms of a covariate without a form, and sentences."""
    given, valid = dataset.covariates[covariate], dataset.events.valid
    every = given[valid]
    levels = np.unique(every)
    if len(levels) <= LEVELS or covariate in dataset.words:  # words have no order
        _check_levels(covariate, given, valid, least)
        counts = [int(np.sum(values == level)) for level in levels]
        others = np.delete(levels, int(np.argmax(counts)))
        blank = Estimate(0.0)
        return [tuple(CovariateEffect(covariate, "category", float(v), blank) for v in others)], []
    centre = float(f"{np.median(values):.4g}")
    used: list[Kind] = list(dict.fromkeys(forms))
    told: list[str] = []
    if "power" in used and (np.any(every <= 0) or centre <= 0):
        used = [k for k in used if k != "power"] or ["exponential"]
        told = [f"{covariate} has values that no power can be taken of: {', '.join(used)} instead."]
    return [(CovariateEffect(covariate, k, centre, Estimate(0.0)),) for k in used], told


def _check_levels(covariate: str, values: np.ndarray, valid: np.ndarray, least: int) -> None:
    """Refuse a category that too few subjects have at any record.

    Values and which of them are of records, ``[B, N]``; infinite ones stand for the reference.
    """
    for level in np.unique(values[valid]):
        count = int(np.any((values == level) & valid, axis=1).sum())
        if count < least:
            which = f"category {level:g}" if np.isfinite(level) else "the reference"
            _refuse(
                f"covariate {covariate}",
                f"{which} has {count} subject{'s' if count > 1 else ''}",
                allowed=f"{least} or more in each",
                remedy="join categories in the data, or leave the covariate out",
            )
