"""What a population model consists of: drugs, marrow lines, and the order of their parameters.

Numbers are kept apart from structure: parameters travel as one array ``theta[P, L]`` (parameters
by lanes), whose rows `PopulationStructure.layout` names. That array is what both engines take and
what derivatives are given for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pkpd.errors import PkpdError
from pkpd.kinetics.linear import LinearPK
from pkpd.marrow.actions import Action, may_be_zero
from pkpd.marrow.protocol import Marrow


@dataclass(frozen=True)
class DirectKill:
    """A drug without pharmacokinetics that removes proliferating cells while it is given.

    The loss rate of a line (1/h) is its parameter ``kill`` times the infusion rate: a dose of
    ``a`` removes ``kill * a`` natural-log units in all, evenly over its duration. Meant for lumped
    companions of a regimen, for which no concentration is modelled.
    """

    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drug:
    """A drug of a population model.

    Parameters
    ----------
    name
        Name of the drug.
    pk
        Pharmacokinetic structure, or `DirectKill`.
    """

    name: str
    pk: LinearPK | DirectKill


@dataclass(frozen=True)
class Line:
    """A marrow line of a population model.

    Parameters
    ----------
    name
        Name of the line.
    marrow
        Equations with the methods of `pkpd.marrow.friberg.MarrowLine`.
    effects
        Shape of each drug's effect (`pkpd.marrow.effects.Effect`), in the order of the drugs; the
        entry of a `DirectKill` drug is not read. Effects of drugs add.
    """

    name: str
    marrow: Any
    effects: tuple[Any, ...]


@dataclass(frozen=True)
class Whole:
    """All lines of a marrow at once, for marrows whose lines share states.

    Parameters
    ----------
    marrow
        The marrow.
    actions
        What each drug does to it, in the order of the drugs; ``None`` for nothing. A `DirectKill`
        drug has an action that is driven by a rate of dosing, any other one by its concentration.
    observed
        Names of what is observed, among those of the marrow.
    """

    marrow: Marrow
    actions: tuple[Action | None, ...]
    observed: tuple[str, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of the marrow and of the actions, each once."""
        acting = (a.parameters for a in self.actions if a is not None)
        names = (*self.marrow.parameters, *(name for own in acting for name in own))
        return tuple(dict.fromkeys(names))

    @property
    def may_be_zero(self) -> frozenset[str]:
        """Parameters that may be zero."""
        acting = (may_be_zero(a) for a in self.actions if a is not None)
        return self.marrow.may_be_zero.union(*acting)


@dataclass(frozen=True)
class PopulationStructure:
    """Drugs and lines, or drugs and a whole marrow.

    Parameters
    ----------
    drugs
        The drugs.
    lines
        Marrow lines that share nothing but drugs.
    whole
        A marrow with all its lines, instead of ``lines``.

    Notes
    -----
    Rows of ``theta``, as tuples: ``("pk", drug, parameter)``, with the bioavailability ``"F"``
    after the parameters of each drug; ``("effect", line, drug, parameter)``;
    ``("marrow", line, parameter)``. Parameters of a whole marrow and of what acts on it are
    ``("marrow", parameter)``.
    """

    drugs: tuple[Drug, ...]
    lines: tuple[Line, ...] = ()
    whole: Whole | None = None

    def __post_init__(self) -> None:
        """Refuse a structure without lines, double names, and effects that do not match."""
        names = [d.name for d in self.drugs]
        lines = [x.name for x in self.lines]
        for what, given in (("drug", names), ("line", lines)):
            if len(set(given)) < len(given):
                raise PkpdError(where="population structure", what=f"two of one {what} in {given}")
        if bool(lines) == (self.whole is not None):
            what = "lines and a whole marrow are given" if lines else "no marrow line is given"
            raise PkpdError(where="population structure", what=what)
        if self.whole is not None:
            _check_whole(self.drugs, self.whole)
        for line in self.lines:
            if len(line.effects) != len(names):
                raise PkpdError(
                    where=f"population structure, line {line.name!r}",
                    what=f"{len(line.effects)} effects for {len(names)} drugs",
                    remedy="give one effect per drug; NoEffect() is one",
                )

    @cached_property
    def layout(self) -> tuple[tuple[str, ...], ...]:
        """Name of every row of ``theta``."""
        rows: list[tuple[str, ...]] = []
        for drug in self.drugs:
            rows += [("pk", drug.name, name) for name in (*drug.pk.parameters, "F")]
        for line in self.lines:
            for drug, effect in zip(self.drugs, line.effects, strict=True):
                direct = isinstance(drug.pk, DirectKill)
                names = ("kill",) if direct else effect.parameters
                rows += [("effect", line.name, drug.name, name) for name in names]
            rows += [("marrow", line.name, name) for name in line.marrow.parameters]
        if self.whole is not None:
            rows += [("marrow", name) for name in self.whole.parameters]
        return tuple(rows)

    @property
    def line_names(self) -> tuple[str, ...]:
        """Names of what is observed."""
        return tuple(x.name for x in self.lines) if self.whole is None else self.whole.observed

    @cached_property
    def row(self) -> dict[tuple[str, ...], int]:
        """Row of ``theta`` by name."""
        return {name: i for i, name in enumerate(self.layout)}

    def values(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Parameters in the order of the rows, from nested mappings.

        Parameters
        ----------
        parameters
            ``{"pk": {drug: {...}}, "effect": {line: {drug: {...}}}, "marrow": {line: {...}}}``;
            a bioavailability ``"F"`` that is not given is 1.

        Raises
        ------
        PkpdError
            If a parameter is missing or one is given that nothing reads.
        """
        given = dict(_flatten(parameters))
        out: list[Any] = []
        for name in self.layout:
            if name in given:
                out.append(given.pop(name))
            elif name[0] == "pk" and name[-1] == "F":
                out.append(1.0)
            else:
                raise PkpdError(
                    where=f"parameters of {' of '.join(reversed(name[1:-1]))}",
                    what=f"{name[-1]!r} is missing",
                    remedy=f"give {_written(name)}",
                )
        if given:
            name = sorted(given)[0]
            allowed = [key[-1] for key in self.layout if key[:-1] == name[:-1]]
            raise PkpdError(
                where=f"parameters {_written(name)}",
                what="nothing in the model reads it",
                allowed=", ".join(allowed) or "no parameter here",
            )
        return out


def _check_whole(drugs: Sequence[Drug], whole: Whole) -> None:
    if len(whole.actions) != len(drugs):
        raise PkpdError(
            where=f"population structure, marrow {whole.marrow.name!r}",
            what=f"{len(whole.actions)} actions for {len(drugs)} drugs",
            remedy="give one action per drug; None is one",
        )
    for drug, action in zip(drugs, whole.actions, strict=True):
        wanted = "rate" if isinstance(drug.pk, DirectKill) else "level"
        if action is not None and action.driver != wanted:
            raise PkpdError(
                where=f"population structure, action of {drug.name}",
                what=f"it is driven by a {action.driver}",
                allowed=f"an action driven by a {wanted}",
            )
    unknown = [name for name in whole.observed if name not in whole.marrow.observed]
    if unknown or not whole.observed:
        raise PkpdError(
            where=f"population structure, marrow {whole.marrow.name!r}",
            what=f"{unknown[0]!r} is not observed" if unknown else "nothing is observed",
            allowed=", ".join(whole.marrow.observed),
        )


def _written(name: Sequence[str]) -> str:
    return "".join(f"[{part!r}]" for part in name)


def _flatten(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[Any, Any]]:
    out: list[tuple[Any, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out += _flatten(value, (*prefix, key))
        else:
            out.append(((*prefix, key), value))
    return out
