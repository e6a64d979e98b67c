"""Random effects as blocks of a covariance that programs estimate or hold as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pkpd.errors import PkpdError
from pkpd.fitting.model.correlations import partial_names
from pkpd.fitting.model.population_parameters import RandomEffects, start_values
from pkpd.fitting.model.specification import PopulationModel

NEARLY_NONE = 0.1
"""Start of a free correlation that starts from 0 in a model: programs hold a covariance of 0."""


@dataclass(frozen=True)
class OmegaBlock:
    """Effects of patients that belong together.

    Attributes
    ----------
    names
        Parameters that they are of.
    covariance : float[K, K]
        Where it starts.
    held
        Whether all of it is.
    moved
        Whether a correlation starts from `NEARLY_NONE` in the place of 0.
    """

    names: tuple[str, ...]
    covariance: np.ndarray
    held: bool
    moved: bool = False

    @property
    def rows(self) -> list[np.ndarray]:
        """Lower triangle, row by row."""
        return [row[: i + 1] for i, row in enumerate(self.covariance)]


def omega_blocks(
    model: PopulationModel, program: str, *, bands: bool = False, estimated: bool = True
) -> list[OmegaBlock]:
    """Return the effects of patients block by block, in the order of ``model.varying``.

    Effects whose correlations are all held at 0 stand alone.

    Parameters
    ----------
    model
        The model.
    program
        Name of the program, for messages.
    bands
        Whether it holds the zeros of a band matrix.
    estimated
        Whether it estimates blocks, rather than draw from them.

    Raises
    ------
    PkpdError
        If part of a block is held and part is not.
    """
    values, moved = start_values(model), set[str]()
    for block in model.correlated if estimated else ():
        for name in _free_of_zero(model, block, program, bands):
            values[name] = NEARLY_NONE
            moved.add(block[0])
    covariance = np.asarray(RandomEffects(model, 0).covariance(values, np))
    out, at = [], 0
    for names in _groups(model):
        mine = slice(at, at + len(names))
        at += len(names)
        held = all(_held(model, name) for name in names)
        held = held and all(model.partial[n].fixed for n in partial_names([names]))
        out.append(OmegaBlock(names, covariance[mine, mine], held, names[0] in moved))
    return out


def _held(model: PopulationModel, name: str) -> bool:
    iiv = model[name].iiv
    return iiv is not None and iiv.fixed


def _apart(model: PopulationModel, block: tuple[str, ...]) -> bool:
    """Whether all correlations of a block are held at 0."""
    every = [model.partial[name] for name in partial_names([block])]
    return all(one.fixed and one.value == 0 for one in every)


def _groups(model: PopulationModel) -> Iterator[tuple[str, ...]]:
    blocked = [name for block in model.correlated for name in block]
    for block in model.correlated:
        yield from ((name,) for name in block) if _apart(model, block) else (block,)
    yield from ((name,) for name in model.varying if name not in blocked)


def _free_of_zero(
    model: PopulationModel, block: tuple[str, ...], program: str, bands: bool
) -> list[str]:
    """Free partial correlations of a block that start from 0."""
    if _apart(model, block):
        return []
    names = partial_names([block])
    places = [(i, j) for i in range(1, len(block)) for j in range(i)]
    fixed = {place for place, name in zip(places, names, strict=True) if model.partial[name].fixed}
    none = all(model.partial[names[places.index(place)]].value == 0 for place in fixed)
    spreads = {_held(model, name) for name in block}
    outside = {(i, j) for i, j in places if fixed and i - j >= min(i - j for i, j in fixed)}
    band = bands and none and fixed == outside and spreads == {False}
    if spreads == {True} and len(fixed) == len(places):
        return []
    if len(spreads) > 1 or True in spreads or (fixed and not band):
        raise PkpdError(
            where=f"export, correlated parameters {', '.join(block)}",
            what=f"part of their covariance is held, and {program} holds a block as a whole",
            allowed="all standard deviations and correlations of a block held, or none",
            remedy="hold all of them, or none, or leave the parameter that is held out of "
            "correlated=",
        )
    return [
        name for name in names if not model.partial[name].fixed and not model.partial[name].value
    ]
