"""The rows of a table as cells of its likelihood: which summary each is compared with, and how.

Rows that count the same patients are taken apart into counts that do not overlap, each given the
one before: responders of all, complete responders of the responders, deaths of those without a
response. A row whose definition is not stated has one cell for each reading. Cells of a study that
deviate from other studies together are a group: a study and a channel (responses, deaths, days, low
counts, counts at the start).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.errors import DataError
from pkpd.evidence.likelihood.summaries import Days, Share
from pkpd.evidence.likelihood.terms import Reading, Term, cell, standard_error
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.table import EvidenceRow

Ints = NDArray[np.int64]

CHANNELS = ("response", "death", "days", "low", "start")
"""What studies deviate in, each by an offset of its own, in logits or log days."""

_CHANNEL = {
    "response": "response",
    "death": "death",
    "died": "death",
    "recovery_day": "days",
    "response_day": "days",
    "low_days": "days",
    "grade": "low",
    "delayed": "low",
    "low_run": "low",
    "fever": "low",
    "baseline": "start",
    "baseline_grade": "start",
}

DOUBT = (0.04, 0.15)
"""What doubtful rows (children, rows read in a copy) err by besides: variance of a share in units
of its binomial one (a standard deviation of 10 points at a half), standard deviation of the log of
a median day. Assumed."""


def channel_of(what: Observable) -> str:
    """Channel in which studies deviate for an observable."""
    return _CHANNEL[what.kind]


@dataclass(frozen=True)
class Cell:
    """One factor of the likelihood.

    Attributes
    ----------
    kind
        ``count``, ``median``, ``quartiles``, ``mean``, ``range``, ``tolerated``, ``ratio`` or
        ``difference``.
    first, second
        Places of its summaries among the shares (counts, tolerated doses) or the days.
    numbers
        What is printed: ``count`` (k, n), ``median`` (low, high, n) of the log, ``quartiles`` the
        ends of the lower and of the upper quartile's cells and n, ``mean`` (low, high, n),
        ``range`` the ends of the smallest and of the largest number's cells and n, ``tolerated``
        (1 if declared), ``ratio`` and ``difference`` (value, standard error or 0, n).
    term
        Place of its term.
    study, channel
        Its group.
    reading
        Place among the readings of its family.
    doubtful
        Whether its source is.
    sign
        0: the offset of the study does not move it.
    """

    kind: str
    first: int
    second: int
    numbers: tuple[float, ...]
    term: int
    study: str
    channel: str
    reading: int
    doubtful: bool
    sign: float = 1.0


class _Asked:
    """Summaries asked for, each once."""

    def __init__(self) -> None:
        self.shares: dict[Share, int] = {}
        self.days: dict[Days, int] = {}

    def share(self, *ask: Hashable, **more: Hashable) -> int:
        return self.shares.setdefault(Share(*ask, **more), len(self.shares))  # pyright: ignore

    def day(self, arm: str, what: Observable) -> int:
        return self.days.setdefault(Days(arm, what), len(self.days))


@dataclass(frozen=True)
class Cells:
    """All cells of a table.

    Attributes
    ----------
    cells
        Cells.
    shares, days
        Summaries they are compared with.
    groups
        Study and channel of each group.
    group : int[C]
        Group of each cell.
    option : int[C]
        Family and reading of each cell: those of one option are multiplied.
    family_of, log_prior : [O]
        Family of each option, and the log probability of its reading.
    group_of : int[F]
        Group of each family.
    """

    cells: tuple[Cell, ...]
    shares: tuple[Share, ...]
    days: tuple[Days, ...]
    groups: tuple[tuple[str, str], ...]
    group: Ints
    option: Ints
    family_of: Ints
    log_prior: Floats
    group_of: Ints


def cells_of(terms: Sequence[Term], *, alone: bool = False) -> Cells:
    """Cells of the terms of a table.

    Parameters
    ----------
    terms
        Terms (`pkpd.evidence.likelihood.use.terms_of`).
    alone
        Each term by itself, as that of a study of its own.
    """
    asked = _Asked()
    made: list[Cell] = []
    for place, term in enumerate(terms):
        own = _cells(term, place, asked)
        made += [replace(c, study=f"{place}") for c in own] if alone else own
    groups = tuple(dict.fromkeys((c.study, c.channel) for c in made))
    group = np.array([groups.index((c.study, c.channel)) for c in made])
    families: dict[Hashable, int] = {}
    options: dict[Hashable, int] = {}
    option = np.empty(len(made), dtype=np.int64)
    log_prior: list[float] = []
    family_of: list[int] = []
    group_of: list[int] = []
    for index, one in enumerate(made):
        term = terms[one.term]
        shared = term.family if one.reading >= 0 else ()
        name: Hashable = (one.study, one.channel, shared) if shared else (index,)
        if name not in families:
            families[name] = len(families)
            group_of.append(int(group[index]))
        key = (name, one.reading)
        if key not in options:
            options[key] = len(options)
            family_of.append(families[name])
            log_prior.append(float(term.log_priors[one.reading]) if shared else 0.0)
        option[index] = options[key]
    return Cells(
        tuple(made), tuple(asked.shares), tuple(asked.days), groups, group, option,
        np.array(family_of), np.array(log_prior), np.array(group_of),
    )  # fmt: skip


def _cells(term: Term, place: int, asked: _Asked) -> list[Cell]:
    if term.kind == "Dirichlet-multinomial":
        return _joint(term, place, asked)
    several = len(term.readings) > 1
    return [
        made
        for index, reading in enumerate(term.readings)
        for made in _single(term, place, reading, index if several else -1, asked)
    ]


def _joint(term: Term, place: int, asked: _Asked) -> list[Cell]:
    """Responses, then their kinds, then deaths of those without a response."""
    arm, patients = term.arm_keys[0], _patients(term.rows[0])
    doubtful = term.power < 1.0
    whats = term.readings[0].observables
    responses = [
        (row, what) for row, what in zip(term.rows, whats, strict=True) if what.kind == "response"
    ]
    events = tuple(what for _, what in responses)
    made: list[Cell] = []

    def count(share: int, k: int, n: int, channel: str, reading: int = -1, sign: float = 1.0):
        numbers = (float(k), float(n))
        made.append(
            Cell("count", share, -1, numbers, place, term.study, channel, reading, doubtful, sign)
        )

    responders = sum(_events(row) for row, _ in responses)
    if responses:
        count(asked.share(arm, events), responders, patients, "response")
    left, rest = responders, list(responses)
    while len(rest) > 1:
        (row, what), *rest = rest
        given = (what, *(w for _, w in rest))
        count(asked.share(arm, (what,), given), _events(row), left, "response", sign=0.0)
        left -= _events(row)
    for row, what in zip(term.rows, whats, strict=True):
        if what.kind != "death":
            continue
        k, n = _events(row), patients - responders
        place_of = term.rows.index(row)
        for index, reading in enumerate(term.readings):
            # fates, as those of responders are: many of these have no response since they died
            seen = replace(reading.observables[place_of], kind="died")
            share = asked.share(arm, (seen,), events, having=False)
            count(share, k, n, "death", index if len(term.readings) > 1 else -1)
    return made


def _single(term: Term, place: int, reading: Reading, index: int, asked: _Asked) -> list[Cell]:
    row, what = term.rows[0], reading.observables[0]
    arm, channel, doubtful = term.arm_keys[0], channel_of(what), term.power < 1.0

    def made(kind: str, first: int, second: int, *numbers: float, sign: float = 1.0) -> Cell:
        return Cell(kind, first, second, numbers, place, term.study, channel, index, doubtful, sign)

    if term.kind == "beta-binomial":
        share = asked.share(arm, (what,))
        return [made("count", share, -1, float(_events(row)), float(_patients(row)))]
    if term.kind == "tolerated dose":
        first = asked.share(arm, (what,))
        second = asked.share(term.arm_keys[1], (what,))
        return [made("tolerated", first, second, float(row.value != 0.0))]
    first, n = asked.day(arm, what), float(row.n or 1)
    value = float("nan") if row.value is None else row.value
    if term.kind in ("ratio", "difference"):
        second = asked.day(term.arm_keys[1], what)
        sd = standard_error(row) or 0.0
        return [made(term.kind, first, second, value, sd, n, sign=0.0)]
    counts = what.kind == "baseline"
    found = [made("mean" if term.kind.startswith("mean") else "median", first, -1,
                  *cell(value, counts), n)]  # fmt: skip
    if term.kind.endswith("range") or term.kind == "quartiles":
        if row.lower is None or row.upper is None:
            raise DataError(where=f"row {row.id}", what="it has no limits")
        ends = (*cell(row.lower, counts), *cell(row.upper, counts))
        kind = "quartiles" if term.kind == "quartiles" else "range"
        found.append(made(kind, first, -1, *ends, n))
    return found


def _events(row: EvidenceRow) -> int:
    return row.numerator or 0


def _patients(row: EvidenceRow) -> int:
    return row.denominator or 0
