"""Every import is checked: the objective here, and the one that NONMEM printed."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from pkpd.errors import PkpdError
from pkpd.fitting.maximum.marginal import Evaluated, MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_likelihood import PopulationLikelihood
from pkpd.nonmem.inspect_code import same_code
from pkpd.nonmem.listing import (
    METHODS,
    OWN,
    Estimates,
    Listing,
    read_estimates,
    read_listing,
    read_table,
)
from pkpd.nonmem.prior import read_starting_values, without_prior
from pkpd.nonmem.program import Program
from pkpd.nonmem.records import Problem, read_records, stream_text
from pkpd.nonmem.structure import StreamPredictor
from pkpd.nonmem.values import at_estimates, population_model

if TYPE_CHECKING:
    from pkpd.nonmem.stream import ControlStream

CLOSE = 0.1
"""Difference of objectives below which two are called the same."""
_OF_DIGITS = 20.0
"""Difference that three digits of estimates may explain (chosen): more, or none, they do not."""
NONMEM, WRITTEN = "NONMEM", "as written"
COLUMN = 5e-3
"""Relative difference below which a column of a table is called the same."""
_LISTINGS = (".lst", ".res", ".out")
_FILE = r"\bFILE\s*=?\s*[\"']?([^\s\"',]+)"


@dataclass(frozen=True)
class Compared:
    """One comparison.

    Attributes
    ----------
    what
        What was compared, and at which values.
    ours, nonmem
        The two numbers; NaN where there is none.
    agrees
        Whether they are the same; None where they cannot be compared.
    words
        Why not, or with what.
    seconds
        Time that ours took.
    whose
        Whose the other number is: NONMEM's, or that of a listing which pkpd wrote.
    """

    what: str
    ours: float
    nonmem: float
    agrees: bool | None
    words: str = ""
    seconds: float = 0.0
    whose: str = NONMEM

    def __str__(self) -> str:
        """Tell it in a line."""
        if np.isnan(self.nonmem):
            numbers = f": {self.ours:.3f}" if np.isfinite(self.ours) else ": no finite number"
        else:
            numbers = f": {self.ours:.3f}, {self.whose} {self.nonmem:.3f}"
        verdict = {True: "", False: " (DIFFERS)", None: ""}[self.agrees]
        return f"{self.what}{numbers}{verdict}" + (f"; {self.words}" if self.words else "")


@dataclass(frozen=True)
class Verification:
    """What came of checking a stream.

    Attributes
    ----------
    compared
        Comparisons.
    notes
        What could not be compared, and why.
    """

    compared: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether something was compared and everything that was agrees."""
        judged = [one.agrees for one in self.compared if one.agrees is not None]
        return bool(judged) and all(judged)

    def __str__(self) -> str:
        """Tell it in lines."""
        last = "verified" if self.verified else "NOT verified"
        if self.verified and all(one.whose != NONMEM for one in self.compared):
            last = "reads back as pkpd wrote it; nothing of NONMEM's was there to compare with"
        return "\n".join([*(str(one) for one in self.compared), *self.notes, last])


def verify(stream: ControlStream, beside: Sequence[str | Path] | None = None) -> Verification:
    """Compare a stream with what NONMEM printed.

    Parameters
    ----------
    stream
        What was read.
    beside
        Listings (``.lst``), files of iterations (``.ext``) and tables; default those beside the
        stream that bear its name, or the stream itself if it is a listing.

    Returns
    -------
    Verification
        The objective at the starting values, and, with a listing, at those of the listing and at
        its estimates.
    """
    paths = [Path(p) for p in beside] if beside is not None else _beside(stream.path)
    compared: list[Compared] = []
    notes: list[str] = []
    listings = [p for p in paths if p.suffix.lower() in _LISTINGS]
    step = stream.steps[-1] if stream.steps else None
    method = step.method if step is not None else "focei"
    if step is not None and not method:
        notes.append(f"NONMEM's objective is that of {step.words}, which pkpd does not have")
    if step is not None and step.digits < 3:
        notes.append(
            f"NONMEM's modes of random effects have {step.digits} digits (SIGDIGITS), so its "
            "objective may be higher than ours"
        )
    others: set[str] = set()  # runs by another method
    foreign: set[Path] = set()  # runs of another stream or other data
    for path in listings:
        found = _read(read_listing, path, notes)
        if found is None:
            continue
        strange = _of_another(stream, found)
        if strange:
            foreign |= {_run(path)} if found.problem is not None else set()
            notes.append(f"{path.name} {strange}, so it was not compared")
        elif method and _by_another(path, found, method):
            others.add(path.stem)
            notes.append(
                f"{path.name} is by {found.method}, the stream asks for "
                f"{step.words if step else method}, so it was not compared"
            )
        else:
            every = _with_listing(stream, found, method, notes)
            compared += [replace(one, whose=_whose(path)) for one in every]
    for path in paths:
        if _run(path) in foreign:
            continue
        if path.suffix.lower() == ".ext" and method and path.stem not in others:
            given = _read(read_estimates, path, notes)
            if given is not None:
                every = _at_final(stream, given[0], given[1], method, path.name, notes)
                compared += [replace(one, whose=_whose(path.with_suffix(".lst"))) for one in every]
    known = [p for p in _estimates(paths, stream.path) if _run(p) not in foreign]
    for path in paths:
        if path.suffix.lower() in (*_LISTINGS, ".ext"):
            continue
        if _run(path) not in foreign and (known or not foreign):
            compared += _with_table(stream, path, known, notes)
        else:
            notes.append(f"{path.name} is not compared: the estimates beside it are of another run")
    if not compared:
        compared.append(_alone(stream, method or "focei"))
        notes.append(
            "nothing of what NONMEM wrote was compared"
            if paths
            else "nothing of NONMEM's to compare with lies beside the stream"
        )
    return Verification(tuple(compared), tuple(dict.fromkeys(notes)))


def _read(reader: Callable[[Path], Any], path: Path, notes: list[str]) -> Any:
    """Give what a reader makes of a file; None and a note where it refuses it."""
    try:
        return reader(path)
    except PkpdError as error:
        notes.append(f"not compared: {str(error).rstrip('.')}")
        return None


def _by_another(path: Path, found: Listing, method: str) -> bool:
    """Whether a listing has the Laplacian objective where the stream asks for FOCE's, or FOCE's.

    Of one that pkpd wrote, whether it is by any other method: a fit need not be by the stream's.
    """
    if _whose(path) == WRITTEN:
        return found.method != METHODS[method]
    laplacian = "laplacian" in found.method.lower()
    return bool(found.method) and laplacian != method.startswith("laplace")


def _whose(listing: Path) -> str:
    """Say whose the numbers of a listing are, and of the files that were written with it."""
    if not listing.is_file():
        return NONMEM
    with listing.open(encoding="utf-8", errors="replace") as lines:
        return WRITTEN if lines.readline().strip() == OWN else NONMEM


def _run(path: Path) -> Path:
    """Name of the run that wrote a file, however the file is named."""
    return path.resolve().with_suffix("")


def _beside(path: Path) -> list[Path]:
    if path.suffix.lower() in _LISTINGS:
        return [path]
    out = [path.with_suffix(suffix) for suffix in (*_LISTINGS, ".ext")]
    # tables of other runs lie in the same folder: a stream that names its own has no others
    records = [r for one in read_records(stream_text(path), path.name) for r in one.all("TABLE")]
    named = [name for r in records for name in re.findall(_FILE, r.text, re.IGNORECASE)]
    tables = [path.parent / Path(name).name for name in named] or [
        p
        for p in path.parent.glob("*tab*")
        if p.suffix.lower() not in (".csv", ".mod", ".ctl", *_LISTINGS, ".ext")
    ]
    return [p for p in (*out, *sorted(set(tables))) if p.is_file()]


def _evaluate(
    likelihood: PopulationLikelihood, method: Any, values: Mapping[str, float] | None
) -> tuple[Evaluated, float]:
    began = time.monotonic()
    marginal = MarginalLikelihood(likelihood, method)
    x = marginal.free.start() if values is None else marginal.free.of(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = marginal.evaluate(x, restarts=2)
    return found, time.monotonic() - began


def _alone(stream: ControlStream, method: str) -> Compared:
    likelihood = bind(stream.model, stream.data)
    found, seconds = _evaluate(likelihood, method, None)
    lost = np.flatnonzero(~np.isfinite(found.by_subject))
    labels = ", ".join(str(stream.data.subjects[b]) for b in lost[:5])
    words = f"individuals {labels}{' and others' if lost.size > 5 else ''} have no likelihood"
    words += _why(likelihood, found, lost.tolist())
    what = f"objective ({method}) at the starting values"
    return Compared(what, found.value, np.nan, None, words if lost.size else "", seconds)


def _why(likelihood: PopulationLikelihood, at: Evaluated, lost: Sequence[int]) -> str:
    """Say in brackets why the first of some individuals has no likelihood."""
    if not lost:
        return ""
    fixed = MarginalLikelihood(likelihood, "focei").free.fixed(at.x)
    random = jnp.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    values = likelihood.individual_parameters(fixed, random)
    problems = likelihood.predictor.problems({n: np.asarray(v) for n, v in values.items()})
    return next((f" ({problems[b].rstrip('.')})" for b in lost if b in problems), "")


def _judged(
    what: str, ours: Evaluated, nonmem: float, seconds: float, notes: list[str]
) -> Compared:
    lost = int(np.sum(~ours.modes.converged))
    words = f"{lost} individuals without a mode" if lost else ""
    difference = ours.value - nonmem
    if not abs(difference) < CLOSE:
        words = (words + "; " if words else "") + f"ours is {difference:+.3f}"
    return Compared(what, ours.value, nonmem, bool(abs(difference) < CLOSE), words, seconds)


def _with_listing(
    stream: ControlStream, found: Listing, method: str, notes: list[str]
) -> list[Compared]:
    if not method:
        if found.last is not None:
            notes.append(f"{found.path.name}: {found.last:.3f} by {found.method}, not compared")
        return []
    assert found.problem is not None
    try:
        program = _of_listing(stream.structure.program, found.problem)
    except (PkpdError, ValueError) as error:
        notes.append(f"{found.path.name}: {error}")
        return []
    # the last of several steps begins where the one before ended, the first may be another method
    several = len(stream.steps) > 1
    evaluation = found.evaluation and not several
    first = found.last if evaluation else found.first
    if first is not None and several and stream.steps[0].method != method:
        notes.append(
            f"{found.path.name}: the objective at the starting values is that of "
            f"{stream.steps[0].words}, the last step is {stream.steps[-1].words}; not compared"
        )
        first = None
    out: list[Compared] = []
    model = population_model(program)
    likelihood = bind(model, stream.data)
    name = found.path.name
    if first is not None:
        ours, seconds = _evaluate(likelihood, method, None)
        out.append(
            _judged(f"objective at the starting values of {name}", ours, first, seconds, notes)
        )
    if not evaluation and found.final is not None and found.last is not None:
        try:
            values = at_estimates(program, found.final)
        except ValueError as error:
            notes.append(f"{name}: {error}")
            return out
        ours, seconds = _evaluate(likelihood, method, values)
        one = _judged(
            f"objective at the estimates of {name}, three digits each",
            ours,
            found.last,
            seconds,
            notes,
        )
        # near a minimum three digits move an objective by little
        small = bool(abs(ours.value - found.last) < _OF_DIGITS)
        if one.agrees is False and small and out and out[0].agrees:
            one = Compared(
                one.what,
                one.ours,
                one.nonmem,
                None,
                f"{one.words}, which the digits may explain",
                seconds,
            )
        out.append(one)
    return out


def _of_another(stream: ControlStream, found: Listing) -> str:
    """Say in which way a listing is of another stream or of other data; empty if it is not."""
    if found.problem is None:
        return "holds no copy of its stream, so what it is of is not known"
    own = _own_problem(stream)
    other = "" if own is None else same_code(own, found.problem)
    if other:
        return f"is of another stream: its ${other} differs"
    events, seen = stream.data.events, stream.data.observations
    mine = {
        "records": int(events.valid.sum()),
        "observations": len(seen),
        "individuals": len(stream.data.subjects),
    }
    for word, count in found.counts.items():
        if count != mine[word]:
            return f"is of other data ({count} {word}, here {mine[word]})"
    return ""


def _own_problem(stream: ControlStream) -> Problem | None:
    found = read_records(stream_text(stream.path), stream.path.name)
    return found[0] if len(found) == 1 else None


def _of_listing(program: Program, problem: Problem) -> Program:
    """Program with the starting values that a listing began from."""
    found = read_starting_values(problem)
    prior = None if without_prior(problem) else found.prior
    return replace(
        program, thetas=found.thetas, omegas=found.omegas, sigmas=found.sigmas, prior=prior
    )


def _at_final(
    stream: ControlStream,
    found: Estimates,
    objective: float,
    method: str,
    name: str,
    notes: list[str],
) -> list[Compared]:
    try:
        values = at_estimates(stream.structure.program, found)
    except ValueError as error:
        notes.append(f"{name}: {error}")
        return []
    ours, seconds = _evaluate(bind(stream.model, stream.data), method, values)
    return [_judged(f"objective at the estimates of {name}", ours, objective, seconds, notes)]


def _estimates(named: Sequence[Path], stream: Path) -> list[Path]:
    """Files of estimates in the order in which a table takes them.

    Those that are named and those of a named listing come before those beside the stream, and of
    the same place the ones with all digits first.
    """
    digits = (".ext", *_LISTINGS)
    out: list[Path] = []
    for place in ([*named, *(p.with_suffix(".ext") for p in named)], _beside(stream)):
        mine = [p for p in place if p.suffix.lower() in digits and p.is_file()]
        out += sorted(mine, key=lambda p: digits.index(p.suffix.lower()))
    return out


def _with_table(
    stream: ControlStream, path: Path, known: Sequence[Path], notes: list[str]
) -> list[Compared]:
    """Compare PRED and IPRED of a table with one row for each record, at estimates that are known.

    Without any, at the starting values.
    """
    table = _read(read_table, path, notes)
    wanted = [] if table is None else [n for n in ("PRED", "IPRED") if n in table]
    if table is None or not wanted:
        return []
    events = stream.data.events
    if len(table) != int(events.valid.sum()):
        notes.append(
            f"{path.name} has {len(table)} rows for {int(events.valid.sum())} records, not compared"
        )
        return []
    likelihood = bind(stream.model, stream.data)
    values = None
    for estimates in known:
        if estimates.suffix.lower() == ".ext":
            given = _read(read_estimates, estimates, notes)
            final = None if given is None else given[0]
        else:
            listing = _read(read_listing, estimates, notes)
            final = None if listing is None else listing.final
        if final is None:
            continue
        try:
            values = at_estimates(stream.structure.program, final)
        except ValueError as error:
            notes.append(f"{path.name} is not compared: {estimates.name} has {error}")
            return []
        break
    ours, _ = _evaluate(likelihood, "focei", values)
    marginal = MarginalLikelihood(likelihood, "focei")
    fixed, lower = marginal.free.fixed(ours.x), np.asarray(marginal.free.cholesky(ours.x))
    seen = stream.data.observations
    out = []
    for name in wanted:
        random = jnp.asarray(ours.modes.u @ lower.T * (0.0 if name == "PRED" else 1.0))
        parameters = likelihood.individual_parameters(fixed, random)
        predictor = likelihood.predictor
        assert isinstance(predictor, StreamPredictor)
        if name == "PRED":
            mine = np.asarray(predictor(parameters))
        else:
            computed = predictor.values(parameters, "IPRED")
            if "IPRED" not in computed:
                continue
            mine = computed["IPRED"]
        theirs = table[name].to_numpy()[events.row[seen.subject, seen.record]]
        scale = np.abs(theirs) + 1e-2 * np.max(np.abs(theirs))
        worst = float(np.max(np.abs(mine - theirs) / np.where(scale > 0, scale, 1.0)))
        words = f"largest relative difference {worst:.1e}"
        words += ", at the starting values, as there are no estimates" if values is None else ""
        out.append(
            Compared(
                f"{name} of {path.name}",
                float(np.mean(mine)),
                float(np.mean(theirs)),
                worst < COLUMN,
                words,
            )
        )
    return out
