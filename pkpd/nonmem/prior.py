"""``$PRIOR NWPRI``: normal priors of THETA, inverse Wishart priors of OMEGA and SIGMA.

Hyperparameters stand in records of their own (``$THETAP``, ``$THETAPV``, ``$OMEGAP``, ``$OMEGAPD``,
``$SIGMAP``, ``$SIGMAPD``), or are the THETAs and OMEGAs after the first NTHETA and NETA.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NoReturn

import numpy as np

from pkpd.fitting.model.joint_prior import InverseWishart, JointNormal, JointPrior
from pkpd.nonmem.estimates import Block, Theta, read_blocks, read_thetas
from pkpd.nonmem.options import ESTIMATION, read_options
from pkpd.nonmem.records import PRIORS, Problem, Record

_SIZES = ("NTHETA", "NETA", "NEPS", "NTHP", "NETP", "NEPP", "NPEXP")
_DRAWN = ("PLEV", "ITYP", "NSAM", "ISS")  # act in a simulation alone
_OTHER = ("PRIORC", "WISHTYPE", "TTDF", "OLKJDF", "SLKJDF")  # of $ESTIMATION: another prior
_OPTION = re.compile(r"([A-Za-z]\w*)\s*(?:=\s*([^\s,()=]+))?|(\S)")


@dataclass(frozen=True)
class Spread:
    """Hyperparameters of a covariance matrix.

    Attributes
    ----------
    centre : float[N, N]
        Centre of the first N random effects.
    freedom
        Degrees of freedom of each block set.
    """

    centre: np.ndarray
    freedom: tuple[float, ...]


@dataclass(frozen=True)
class WrittenPrior:
    """Hyperparameters as a stream gives them.

    Attributes
    ----------
    record
        ``$PRIOR``, for messages.
    mean, covariance
        Of the first THETAs.
    omega, sigma
        Of the random effects and of the residuals.
    """

    record: Record
    mean: tuple[float, ...]
    covariance: np.ndarray
    omega: Spread
    sigma: Spread

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Hyperparameters among THETA, OMEGA and SIGMA, where NONMEM counts them there."""
        thetas, omegas, sigmas = len(self.mean), len(self.omega.centre), len(self.sigma.centre)
        degrees = len(self.omega.freedom) + len(self.sigma.freedom)
        return thetas + degrees, thetas + omegas, sigmas


@dataclass(frozen=True)
class StartingValues:
    """THETA, OMEGA and SIGMA of a problem, and what ``$PRIOR`` says on them."""

    thetas: tuple[Theta, ...]
    omegas: tuple[Block, ...]
    sigmas: tuple[Block, ...]
    prior: WrittenPrior | None = None


def read_starting_values(problem: Problem, told: list[str] | None = None) -> StartingValues:
    """Read THETA, OMEGA and SIGMA of a problem, with its priors.

    Parameters
    ----------
    problem
        The problem.
    told
        See `pkpd.nonmem.estimates.read_thetas`.

    Raises
    ------
    PkpdError
        For a prior that is not read; the message names record and line.
    """
    own = StartingValues(
        tuple(read_thetas(problem.all("THETA"), told)),
        tuple(read_blocks(problem.all("OMEGA"))),
        tuple(read_blocks(problem.all("SIGMA"))),
    )
    records, named = problem.all("PRIOR"), problem.all(*PRIORS)
    if not records:
        if named:
            remedy = "write $PRIOR NWPRI, or leave the record out"
            named[0].refuse("there is no $PRIOR record", remedy=remedy)
        return own
    if len(records) > 1:
        records[1].refuse("a second $PRIOR record", allowed="one")
    sizes = _arguments(records[0])
    _check_steps(problem)
    read = _named if named else _positional
    return read(problem, records[0], sizes, own)


def _arguments(record: Record) -> dict[str, int]:
    """Sizes that ``$PRIOR`` gives."""
    out: dict[str, int] = {}
    names: list[str] = []
    for line in record.lines:
        for found in _OPTION.finditer(line.text):
            word, value, mark = (found.group(1) or "").upper(), found.group(2), found.group(3)
            if mark == ",":
                continue
            if mark or word in ("ESTIMATION", "SIMULATION", "PROBLEM", "ICALL", "IPROB"):
                record.refuse(
                    "a condition on when the prior acts is not read",
                    line,
                    remedy="leave out what stands in brackets; the prior acts on every fit",
                )
            if word in ("NWPRI", "TNPRI"):
                names.append(word)
            elif word in _SIZES and re.fullmatch(r"\d{1,9}", value or ""):
                out[word] = int(value)
            elif word in _DRAWN and value is not None:
                if value.strip("0."):
                    record.refuse(
                        f"{word}={value} draws parameters in a simulation",
                        line,
                        remedy=f"leave {word} out",
                    )
            elif word not in ("DISPLAY", "ICMAX"):
                allowed = ", ".join(f"{name}=n" for name in _SIZES)
                record.refuse(f"{found.group().strip()[:40]!r} is not read", line, allowed=allowed)
    if names != ["NWPRI"]:
        what = " and ".join(names) or "no subroutine"
        remedy = "give the earlier fit as $THETAP, $THETAPV, $OMEGAP, $OMEGAPD"
        record.refuse(f"{what} is not read", allowed="NWPRI, once", remedy=remedy)
    if out.get("NPEXP", 1) > 1:
        record.refuse(
            f"NPEXP={out['NPEXP']}: several prior experiments are not read",
            allowed="NPEXP=1",
            remedy="pool them to one mean, covariance and number of degrees of freedom",
        )
    return out


def _check_steps(problem: Problem) -> None:
    for record in problem.all("ESTIMATION"):
        for option in read_options(record, ESTIMATION):
            if option.name in _OTHER and (option.value or "").strip("0."):
                record.refuse(
                    f"{option.name}={option.value} changes the prior or adds its constant",
                    option.line,
                    remedy="leave it out",
                )


def without_prior(problem: Problem) -> bool:
    """Whether the last estimation step says NOPRIOR=1; steps keep what the one before said."""
    found = [
        option.value
        for record in problem.all("ESTIMATION")
        for option in read_options(record, ESTIMATION)
        if option.name == "NOPRIOR"
    ]
    return bool(found) and found[-1] != "0"


def _named(
    problem: Problem, record: Record, sizes: dict[str, int], own: StartingValues
) -> StartingValues:
    """Hyperparameters in records of their own."""
    mean, degrees, sigma_degrees = (
        _numbers(problem.all(name)) for name in ("THETAP", "OMEGAPD", "SIGMAPD")
    )
    covariance, omega, sigma = (
        _matrix(problem.all(name)) for name in ("THETAPV", "OMEGAP", "SIGMAP")
    )
    counts = {
        "NTHETA": len(own.thetas),
        "NETA": sum(b.size for b in own.omegas),
        "NEPS": sum(b.size for b in own.sigmas),
        "NTHP": len(mean),
        "NETP": len(omega),
        "NEPP": len(sigma),
    }
    for name, count in counts.items():
        if sizes.get(name, count) != count:
            record.refuse(
                f"{name}={sizes[name]}, and the records have {count}",
                remedy=f"leave {name} out, or write all hyperparameters as $THETAP, $OMEGAP, ...",
            )
    prior = WrittenPrior(
        record, mean, covariance, Spread(omega, degrees), Spread(sigma, sigma_degrees)
    )
    return replace(own, prior=prior)


def _numbers(records: Sequence[Record]) -> tuple[float, ...]:
    out: list[float] = []
    for record in records:
        for theta in read_thetas([record]):
            if not theta.held:
                record.refuse(f"{theta.value:g} is not FIX", remedy="write FIX after it")
            out.append(theta.value)
    return tuple(out)


def _matrix(records: Sequence[Record]) -> np.ndarray:
    blocks: list[Block] = []
    for count, record in enumerate(records, start=1):
        found = read_blocks(records[:count])
        if not all(block.held for block in found[len(blocks) :]):
            record.refuse("its values are not FIX", remedy="write FIX after them")
        blocks = found
    return _joined(blocks)


def _joined(blocks: Sequence[Block]) -> np.ndarray:
    size = sum(block.size for block in blocks)
    out, at = np.zeros((size, size)), 0
    for block in blocks:
        out[at : at + block.size, at : at + block.size] = block.covariance
        at += block.size
    return out


def _positional(
    problem: Problem, record: Record, sizes: dict[str, int], own: StartingValues
) -> StartingValues:
    """Hyperparameters among THETA, OMEGA and SIGMA, after those of the model."""
    if not sizes.get("NTHETA"):
        record.refuse("has no NTHETA", remedy="give NTHETA, NETA, NTHP and NETP, or $THETAP, ...")
    nthp, netp, nepp = (sizes.get(name, 0) for name in ("NTHP", "NETP", "NEPP"))
    omegas, covariance, omega = _cut(
        record, "OMEGA", own.omegas, (("NETA", sizes.get("NETA", 0)), ("NTHP", nthp)), netp
    )
    neps = sizes.get("NEPS", 0) if nepp else sum(b.size for b in own.sigmas)
    sigmas, _, sigma = _cut(record, "SIGMA", own.sigmas, (("NEPS", neps), ("", 0)), nepp)
    sets = (len(_sets(omegas, netp, record)), len(_sets(sigmas, nepp, record)))
    counts = (sizes["NTHETA"], nthp, *sets)
    if sum(counts) != len(own.thetas):
        record.refuse(
            f"{len(own.thetas)} THETAs",
            allowed=f"{sum(counts)}: NTHETA={counts[0]}, NTHP={nthp}, and degrees of freedom of "
            f"{sum(sets)} blocks",
            remedy="give every hyperparameter, or use $THETAP, $OMEGAPD, ...",
        )
    ends = np.cumsum((0, *counts)).tolist()
    parts = [own.thetas[a:b] for a, b in pairwise(ends)]
    for theta in (one for part in parts[1:] for one in part):
        if not theta.held:
            record.refuse(
                f"THETA {theta.value:g} is a hyperparameter, and not FIX", remedy="write FIX"
            )
    mean, first, second = (tuple(one.value for one in part) for part in parts[1:])
    prior = WrittenPrior(record, mean, covariance, Spread(omega, first), Spread(sigma, second))
    return StartingValues(parts[0], omegas, sigmas, prior)


def _cut(
    record: Record,
    what: str,
    blocks: Sequence[Block],
    first: tuple[tuple[str, int], tuple[str, int]],
    last: int,
) -> tuple[tuple[Block, ...], np.ndarray, np.ndarray]:
    """Blocks of the model, and the matrices of the two groups of hyperparameters after them."""
    out: list[list[Block]] = []
    left = list(blocks)
    for _, size in (*first, ("", last)):
        part: list[Block] = []
        while sum(b.size for b in part) < size and left:
            part.append(left.pop(0))
        if sum(b.size for b in part) != size:
            _no_such_size(record, what, first, last)
        out.append(part)
    if left:
        _no_such_size(record, what, first, last)
    if any(not block.held for part in out[1:] for block in part):
        record.refuse(f"hyperparameters among ${what} are not FIX", remedy="write FIX")
    return tuple(out[0]), _joined(out[1]), _joined(out[2])


def _no_such_size(
    record: Record, what: str, first: tuple[tuple[str, int], tuple[str, int]], last: int
) -> NoReturn:
    sizes = [f"{size} ({name})" for name, size in first if name]
    name = "NETP" if what == "OMEGA" else "NEPP"
    record.refuse(
        f"the blocks of ${what} are not those of its sizes",
        allowed=" + ".join([*sizes, f"{last} ({name})"]) + " rows",
        remedy="correct the sizes, or use $THETAPV, $OMEGAP, ...",
    )


@dataclass(frozen=True)
class _Set:
    """A block and its copies: the first's place from 0, and how many there are."""

    block: Block
    at: int
    copies: int


def _sets(blocks: Sequence[Block], size: int, record: Record) -> list[_Set]:
    """Block sets of the first ``size`` random effects."""
    out: list[_Set] = []
    at = 0
    for block in blocks:
        if at >= size:
            break
        if block.same and out:
            out[-1] = replace(out[-1], copies=out[-1].copies + 1)
        else:
            out.append(_Set(block, at, 1))
        at += block.size
    if at != size:
        record.refuse(
            f"a prior of {size} random effects ends within a block", allowed=f"{at}, its end"
        )
    return out


def joint_prior(
    prior: WrittenPrior, thetas: Sequence[Theta], omegas: Sequence[Block], sigmas: Sequence[Block]
) -> JointPrior | None:
    """Make the prior of a model's parameters; None if everything that it is on is fixed.

    Parameters
    ----------
    prior
        As it is written.
    thetas, omegas, sigmas
        Of the model, hyperparameters left out.

    Raises
    ------
    PkpdError
        If it does not fit the model.
    """
    record = prior.record
    parts: list[JointNormal | InverseWishart] = []
    count = len(prior.mean)
    if count > len(thetas) or prior.covariance.shape != (count, count):
        record.refuse(
            f"{count} prior means of THETA and a covariance of {len(prior.covariance)}",
            allowed=f"as many of both, {len(thetas)} at most",
        )
    free = [i for i in range(count) if not thetas[i].held]
    for i in free:
        if prior.covariance[i, i] <= 0:
            record.refuse(
                f"the prior variance of THETA({i + 1}) is {prior.covariance[i, i]:g}",
                allowed="more than 0; 1000000 says next to nothing",
                remedy=f"write a variance, or FIX after THETA({i + 1})",
            )
    if free:
        names = [f"THETA{i + 1}" for i in free]
        parts.append(
            JointNormal(names, np.array(prior.mean)[free], prior.covariance[np.ix_(free, free)])
        )
    parts += _spreads(record, "OMEGA", prior.omega, omegas)
    parts += _spreads(record, "SIGMA", prior.sigma, sigmas)
    return JointPrior(parts) if parts else None


def _spreads(
    record: Record, what: str, spread: Spread, blocks: Sequence[Block]
) -> list[InverseWishart]:
    sets, size = _sets(blocks, len(spread.centre), record), len(spread.centre)
    if len(spread.freedom) != len(sets):
        record.refuse(
            f"{len(spread.freedom)} degrees of freedom of ${what}",
            allowed=f"{len(sets)}, one of each block (SAME not counted)",
        )
    inside = np.zeros((size, size), bool)
    out = []
    for one, freedom in zip(sets, spread.freedom, strict=True):
        n = one.block.size
        for k in range(one.copies):
            inside[one.at + k * n : one.at + (k + 1) * n, one.at + k * n : one.at + (k + 1) * n] = 1
        centre = spread.centre[one.at : one.at + n, one.at : one.at + n]
        if one.block.held or freedom == -(n + 1):  # ignored, or flat by NONMEM's own convention
            continue
        where = f"${what} block from {one.at + 1}"
        if freedom <= 0:
            record.refuse(
                f"{freedom:g} degrees of freedom of {where}",
                allowed=f"more than 0, or {-(n + 1)} for none",
            )
        if any(one.block.apart(i, j) for i in range(n) for j in range(i)):
            record.refuse(
                f"{where} has a prior, and covariances of 0, which are held at 0",
                remedy="write small numbers in their place, or one block for each part",
            )
        if np.linalg.eigvalsh(centre)[0] <= 0 or np.any(np.diag(one.block.covariance) <= 0):
            record.refuse(
                f"the prior of {where} is not positive definite, or a variance of it is 0",
                allowed="variances above 0",
                remedy="correct it, or fix the block",
            )
        out.append(InverseWishart(*_names(what, one), centre, freedom))
    if np.any(spread.centre[~inside] != 0):
        record.refuse(
            f"the prior of ${what} has covariances where ${what} has none",
            allowed=f"the blocks of ${what}",
        )
    return out


def _names(what: str, one: _Set) -> tuple[list[str], list[str]]:
    """Names of standard deviations and partial correlations, as `pkpd.nonmem.effects` gives."""
    numbers = [one.at + 1 + i for i in range(one.block.size)]
    pairs = [(i, j) for k, i in enumerate(numbers) for j in numbers[:k]]
    if what == "SIGMA":
        return [f"SIGMA{i}" for i in numbers], [f"RHO_SIGMA{i}_SIGMA{j}" for i, j in pairs]
    if one.copies > 1:
        return [f"SD_ETA{i}" for i in numbers], [f"RHO_ETA{i}_ETA{j}" for i, j in pairs]
    return [f"omega_ETA{i}" for i in numbers], [f"partial_ETA{j}_ETA{i}" for i, j in pairs]
