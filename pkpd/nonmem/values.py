"""Parameters of a stream at other values: those of a listing, or the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pkpd.fitting.model.own_error import own
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.specification import PopulationModel
from pkpd.nonmem.effects import effects
from pkpd.nonmem.estimates import Block
from pkpd.nonmem.listing import Estimates
from pkpd.nonmem.prior import joint_prior
from pkpd.nonmem.program import Program
from pkpd.nonmem.structure import LINE, StreamStructure, with_start

if TYPE_CHECKING:
    from pkpd.nonmem.stream import ControlStream


def population_model(program: Program) -> PopulationModel:
    """Make the population model of a program."""
    made = effects(program.thetas, program.omegas, program.sigmas)
    start = {p.name: p.typical.value for p in made.parameters}
    prior = program.prior
    joint = None
    if prior is not None:
        joint = joint_prior(prior, program.thetas, program.omegas, program.sigmas)
    return PopulationModel(
        StreamStructure(program, made, start),
        made.parameters,
        {LINE: own()},
        correlated=made.correlated,
        partial=made.partial,
        joint=joint,
    )


def _blocks(blocks: Sequence[Block], matrix: np.ndarray) -> tuple[Block, ...]:
    out, at = [], 0
    for block in blocks:
        part = matrix[at : at + block.size, at : at + block.size]
        # a variance that is 0 stays out; one that came to 0 is kept barely above
        free = np.diag(block.covariance) > 0
        part = np.where(np.eye(block.size, dtype=bool) & free & (part <= 0), 1e-12, part)
        out.append(replace(block, covariance=part if not block.held else block.covariance))
        at += block.size
    return tuple(out)


def at_estimates(program: Program, found: Estimates) -> dict[str, float]:
    """Values of all population parameters by name at printed estimates; held ones stay.

    Raises
    ------
    ValueError
        If the estimates are not those of a program of this size.
    """
    sizes = (
        len(program.thetas),
        *(sum(b.size for b in x) for x in (program.omegas, program.sigmas)),
    )
    if program.prior is not None:
        found = _without_hyperparameters(found, sizes, program.prior.sizes)
    if (len(found.theta), len(found.omega), len(found.sigma)) != sizes:
        given = (len(found.theta), len(found.omega), len(found.sigma))
        msg = f"{given} fixed effects, random effects and residuals, and the stream has {sizes}"
        raise ValueError(msg)
    thetas = tuple(
        t if t.held else replace(t, value=float(np.clip(v, t.low, t.high)))
        for t, v in zip(program.thetas, found.theta, strict=True)
    )
    new = replace(
        program,
        prior=None,  # of the starting blocks
        thetas=thetas,
        omegas=_blocks(program.omegas, found.omega),
        sigmas=_blocks(program.sigmas, found.sigma),
    )
    return start_values(population_model(new))


def _without_hyperparameters(
    found: Estimates, sizes: tuple[int, ...], more: tuple[int, int, int]
) -> Estimates:
    """Cut off what older versions print after the model's own parameters."""
    given = (len(found.theta), len(found.omega), len(found.sigma))
    if given != tuple(a + b for a, b in zip(sizes, more, strict=True)):
        return found
    t, o, s = sizes
    return replace(
        found, theta=found.theta[:t], omega=found.omega[:o, :o], sigma=found.sigma[:s, :s]
    )


def renewed(stream: ControlStream, values: Mapping[str, float]) -> ControlStream:
    """See `pkpd.nonmem.stream.ControlStream.with_values`."""
    model = stream.model.with_values(values)
    mine = {name: value for name, value in values.items() if name in stream.structure.start}
    structure = with_start(stream.structure, mine)
    return replace(stream, model=model.replace(structure=structure))
