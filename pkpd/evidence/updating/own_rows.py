"""Rows of one's own: what a posterior says once it has learned from them, too.

A sponsor with outcomes of an own trial need not learn everything anew. The arms of the trial are
simulated under every draw of the posterior, the draws are weighted by how well each explains the
rows (`pkpd.evidence.updating.reweight`), and what moved is told: parameters, and the shares and
days that a typical study of these arms shows, before and after. Where the draws cannot follow the
rows (Pareto k-hat above its limit) nothing is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pkpd.arrays import Floats
from pkpd.cards.files import card_hash
from pkpd.cluster import Workers, workers
from pkpd.errors import DataError, PkpdError
from pkpd.evidence.criticism.psis import LIMIT
from pkpd.evidence.likelihood.summaries import Days, Share, summarise, weighted_quantiles
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.likelihood.use import RowUse, how_used
from pkpd.evidence.posterior.shipped import HOW_TO_GET_ONE, shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.sampling.simulations import BLOCK, MarrowMaker
from pkpd.evidence.table.arms import arms_of
from pkpd.evidence.table.learning import joined, published_rows, refined
from pkpd.evidence.table.rows import EvidenceRow
from pkpd.evidence.table.table import EvidenceTable
from pkpd.evidence.updating.nested import counted_beside, read_once
from pkpd.evidence.updating.reweight import Reweighted, Said, reweighted, study_of_term, thetas_of
from pkpd.machine import cores

T = TypeVar("T")
PATIENTS = 256
"""Simulated patients of an arm under each draw."""
MORE = 16
"""Times as many, under draws in which too few of them have a day that a row is about."""
FEW_PATIENTS = 4  # of a printed trial for one simulated: beyond, simulation errs as much as it
_ANY_LINE = ("untreated", "in remission", "relapsed or refractory")
"""Lines of treatment that ask for no population of their own."""
_SHOWN = 5  # parameters that move most
_MOVED = 0.005  # SDs that are shown


@dataclass(frozen=True)
class OwnRow:
    """A row that was learned from.

    Attributes
    ----------
    row
        As it was read.
    printed
        What it says: a share, or days.
    before, after : float[3]
        5 %, 50 % and 95 % over draws of the same of a typical study of this arm; NaN for tolerated
        doses, ratios and differences.
    """

    row: EvidenceRow
    printed: float
    before: Floats
    after: Floats


@dataclass(frozen=True)
class LearnedRows:
    """A posterior that has learned from rows of one's own.

    Attributes
    ----------
    change
        The posterior, Pareto's k-hat, draws that count, and how far parameters moved.
    rows
        Rows that were learned from.
    left_out
        Rows that have no likelihood, each with the reason.
    replaced
        Published rows that they stand in for.
    notes
        What a reader should know besides.
    """

    change: Reweighted
    rows: tuple[OwnRow, ...]
    left_out: tuple[RowUse, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Tell how many rows were learned from, and how far the posterior moved."""
        return (
            f"LearnedRows({len(self.rows)} rows, {len(self.left_out)} left out; "
            f"Pareto k-hat {self.change.khat:.2f}, {self.change.ess:.0f} draws count)"
        )

    @property
    def posterior(self) -> EvidencePosterior:
        """The posterior; `pkpd.compare` takes it, and its ``save`` writes it."""
        return self.change.posterior

    def lines(self) -> list[str]:
        """All of it in words."""
        change, draws = self.change, self.posterior.weights.size
        told = [
            f"learned from {_count(len(self.rows), 'row')} of "
            f"{', '.join(dict.fromkeys(one.row.study for one in self.rows))}; {draws} draws are "
            f"worth {change.ess:.0f} (Pareto k-hat {change.khat:.2f}, allowed up to {LIMIT:g})"
        ]
        told += [f"row {use.row.line}, {use.row.id}: not used, {use.why}" for use in self.left_out]
        if self.replaced:
            told.append(f"in place of the published {', '.join(self.replaced)}")
        told += self.notes
        told.append("")
        told.append("what a typical study of the arm shows: median, and 90 % of the draws")
        told.append(f"{'row':42} {'printed':>8}  {'before':>20}  after")
        told += [_beside(one) for one in self.rows]
        most = sorted(change.shift.items(), key=lambda item: -abs(item[1]))[:_SHOWN]
        moved = ", ".join(f"{name} {by:+.2f}" for name, by in most if abs(by) >= _MOVED)
        told += ["", f"parameters that moved most, in posterior SDs: {moved or 'none'}"]
        return told


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _beside(one: OwnRow) -> str:
    form, printed = ".3g" if one.row.endpoint.at_start else ".1f", f"{one.printed:g}"
    if one.row.endpoint.kind == "count":
        form, printed = ".2f", f"{one.row.numerator}/{one.row.denominator}"
    told = ["-", "-"]
    if not np.isnan(one.before).any():
        told = [
            f"{middle:{form}} ({low:{form}} to {high:{form}})"
            for low, middle, high in (one.before, one.after)
        ]
    return f"{one.row.id[:42]:42} {printed:>8}  {told[0]:>20}  {told[1]}"


def learn_rows(
    path: str | Path,
    posterior: EvidencePosterior | None = None,
    *,
    patients: int = PATIENTS,
    seed: int = 1,
    jobs: int | None = None,
    cluster: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LearnedRows:
    """Let a posterior learn from a table of one's own; half a minute for two arms.

    Rows are read as the product's own: at the median age and line of treatment of their patients
    (``age_median``, ``line``), and in place of published ones that they name (``replaces``). A
    study that the posterior knows is replaced by its rows here and those published of it. A note
    names each published row that stays beside an own row of the same arm.

    Parameters
    ----------
    path
        CSV file (`load_evidence`).
    posterior
        What is known before; the shipped one if omitted.
    patients
        Simulated patients of an arm under each draw; at least a quarter of those of the largest
        printed number should be simulated, or chance in them adds to that of the trial.
    seed
        Of the simulated patients.
    jobs
        Threads; all cores by default.
    cluster
        Address of a Dask scheduler whose workers simulate (``"tcp://host:8786"``), or ``"local"``
        for as many processes of this machine as ``jobs`` says. What is learned is the same.
    on_progress
        Called with the number of draws that are done, and of all.

    Returns
    -------
    LearnedRows
        The posterior, and what moved.

    Raises
    ------
    DataError
        If a row has a mistake, no row has a likelihood, or a row replaces one that is not there.
    PkpdError
        If no posterior is shipped, its chains did not converge, or its draws cannot follow.
    """
    known = posterior if posterior is not None else shipped_posterior()
    if known is None:
        raise PkpdError(where="rows", what="no posterior is shipped", remedy=HOW_TO_GET_ONE)
    known.require_converged("learning from rows")
    (read, own, apart), published = read_once(path), published_rows()
    table, studies = _with_published(own, published)
    # own rows come after the published ones, whose ids they may have taken
    every = list(how_used(table))
    beside, uses = every[: -len(own)], every[-len(own) :]
    if not any(use.kind for use in uses):
        why = "; ".join(f"row {use.row.line}: {use.why}" for use in uses[:3])
        raise DataError(where=str(path), what=f"no row can be learned from ({why})")
    likelihood = EvidenceLikelihood(table)
    rows = [use.row for use in uses if use.kind]
    with workers(cluster, jobs or cores()) as spread:
        said, shown = _said(known, likelihood, rows, patients, seed, spread or jobs, on_progress)
    lost = int(np.isneginf(said.by_study).any(axis=1).sum())
    if lost == len(shown):
        raise PkpdError(
            where=str(path),
            what="under no draw do enough simulated patients have a day to compare",
            remedy=f"take more patients than {patients}, or leave rows of days out",
        )
    again = studies & set(known.studies)
    file = Path(path)
    source = {"file": file.name, "sha256": card_hash(file), "patients": patients, "seed": seed}
    change = reweighted(known, again, said, source=source)
    twice = counted_beside(
        [row for row, use in zip(read, uses, strict=True) if use.kind],
        [published.row(use.row.id) for use in beside if use.kind],
    )
    notes = [*apart, *twice, *_lines_in_words(own), *_notes(known, rows, patients)]
    own_again = sorted(again & {row.study for row in own})
    if own_again:
        notes.append(f"in place of what was learned of {', '.join(own_again)} before")
    notes += _earlier_tables(known, likelihood, own, published, studies)
    if lost:
        notes.append(
            f"{lost} of {len(shown)} draws show too few patients with a day to compare, of "
            f"{MORE * patients} simulated, and count nothing"
        )
    return LearnedRows(
        change,
        tuple(_own_rows(rows, shown, known.weights.ravel(), change.posterior.weights.ravel())),
        tuple(use for use in uses if not use.kind),
        tuple(name for row in own for name in row.replaces),
        tuple(notes),
    )


def _with_published(own: EvidenceTable, published: EvidenceTable) -> tuple[EvidenceTable, set[str]]:
    """Own rows with the published ones of the studies they change, and these studies."""
    study_of = {row.id: row.study for row in published}
    table = joined(published, own)
    studies = {row.study for row in own}
    studies |= {study_of[name] for row in own for name in row.replaces}
    changed = replace(table, rows=tuple(row for row in table if row.study in studies))
    return refined(replace(changed, file=own.file)), studies


def _earlier_tables(
    known: EvidencePosterior,
    likelihood: EvidenceLikelihood,
    own: EvidenceTable,
    published: EvidenceTable,
    studies: set[str],
) -> list[str]:
    """Say what an earlier table of one's own did that this one undoes.

    A study that changes is learned anew from its published rows and those of this table: rows that
    an earlier table added to it are lost, and published ones that it replaced come back.
    """

    def among(terms: Iterable[str], row: str) -> bool:
        return any(re.search(rf"(^|\+){re.escape(row)}(\+|$)", term) for term in terms)

    new = [term.name for term in likelihood.terms]
    here = {row.id for row in own}
    of_studies = [row.id for row in published if row.study in studies and row.id not in here]
    earlier: Any = known.record.get("reweighted", [])
    changes = earlier if isinstance(earlier, list) else [earlier]
    changed = {study for change in changes for study in change.get("removed", ())}
    back = [
        row.id
        for row in published
        if row.study in studies & changed and row.id in of_studies
        and among(new, row.id) and not among(known.terms, row.id)
    ]  # fmt: skip
    own_terms = {
        term
        for term in known.terms
        if study_of_term(term, known.studies) in studies and term not in new
        and not any(among([term], row) for row in (*of_studies, *here))
    }  # fmt: skip
    replaced = {name for row in own for name in row.replaces}
    told = []
    if lost := sorted(own_terms - replaced):
        told.append(
            f"no longer learned from: {', '.join(lost)}; give the rows here, too, to keep them"
        )
    if back:
        told.append(
            f"learned from again, though an earlier table replaced them: {', '.join(back)}; name "
            "them in replaces, or their patients count twice"
        )
    return told


def _said(
    posterior: EvidencePosterior,
    likelihood: EvidenceLikelihood,
    rows: Sequence[EvidenceRow],
    patients: int,
    seed: int,
    by: Workers | int | None,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Said, Floats]:
    """Simulate every draw: what studies say, and what each row's arm shows, ``[N, rows]``."""
    thetas = thetas_of(posterior)
    make = MarrowMaker(likelihood.arms, patients, posterior.variant)
    many = MarrowMaker(likelihood.arms, MORE * patients, posterior.variant)
    shares, days = _asked(rows)
    every = [thetas[first : first + BLOCK] for first in range(0, len(thetas), BLOCK)]

    def block(number: int) -> list[tuple[Floats, Floats, Floats]]:
        run, found = make(seed + number), []  # every block has patients of its own
        of_many = None
        for theta in every[number]:
            seen = run(theta)
            one = likelihood.evaluate(theta, seen)
            if np.isneginf(one.total):
                # few have a day, such as responders where responses are rare: more are simulated
                of_many = of_many or many(seed + number)
                seen = of_many(theta)
                one = likelihood.evaluate(theta, seen)
            told = summarise(list(shares.values()), list(days.values()), seen, theta)
            values = np.full(len(rows), np.nan)
            values[list(shares)] = told.share
            # a mean beside a mean: column 3 is its logarithm, column 0 that of the median
            column = [3 if rows[place].endpoint.kind == "mean" else 0 for place in days]
            values[list(days)] = np.exp(told.days[np.arange(len(column)), column])
            found.append((one.by_study, one.by_term, values))
        return found

    found: list[tuple[Floats, Floats, Floats]] = []
    for part in _each(block, range(len(every)), by):
        found += part
        if on_progress is not None:
            on_progress(len(found), len(thetas))
    terms = tuple(term.name for term in likelihood.terms)
    by_study, by_term, values = (np.array(column) for column in zip(*found, strict=True))
    return Said(likelihood.studies, terms, by_study, by_term), values


def _each(
    block: Callable[[int], T], numbers: Sequence[int], by: Workers | int | None
) -> Iterator[T]:
    """Blocks in their order, by workers of a cluster or so many threads."""
    if isinstance(by, Workers):
        yield from by.in_turn(block, numbers)
        return
    with ThreadPoolExecutor(by or cores()) as pool:
        yield from pool.map(block, numbers)


def _asked(rows: Sequence[EvidenceRow]) -> tuple[dict[int, Share], dict[int, Days]]:
    """Place of a row -> the share or the days of its arm, by the first reading of its endpoint."""
    shares: dict[int, Share] = {}
    days: dict[int, Days] = {}
    for place, row in enumerate(rows):
        (arm,) = list(arms_of([row]))[:1]
        what = row.endpoint.alternatives[0].observable
        if row.endpoint.kind == "count":
            shares[place] = Share(arm, (what,))
        elif row.endpoint.kind in ("quantiles", "mean"):
            days[place] = Days(arm, what)
    return shares, days


def _own_rows(
    rows: Sequence[EvidenceRow], shown: Floats, before: Floats, after: Floats
) -> list[OwnRow]:
    found = []
    for place, row in enumerate(rows):
        values = shown[:, place]
        printed = row.value
        if row.endpoint.kind == "count" and row.numerator is not None and row.denominator:
            printed = row.numerator / row.denominator
        told = (_quantiles(values, weights) for weights in (before, after))
        found.append(OwnRow(row, np.nan if printed is None else float(printed), *told))
    return found


def _quantiles(values: Floats, weights: Floats) -> Floats:
    known = ~np.isnan(values)
    if not known.any():
        return np.full(3, np.nan)
    share = weights[known] / weights[known].sum()
    return weighted_quantiles(values[known], share, (0.05, 0.5, 0.95))


def _lines_in_words(own: EvidenceTable) -> list[str]:
    """Name rows whose line of treatment no population of their disease stands for."""
    return [
        f"row {row.line}: population {row.population.name} has no line {row.treatment_line!r}; it "
        "is simulated as it is without"
        for row in own
        if not _has_line(row)
    ]


def _has_line(row: EvidenceRow) -> bool:
    """Whether patients of a row's line are those that its population stands for."""
    who = row.population
    return row.treatment_line in ("", *(who.lines or _ANY_LINE), *dict(who.by_line))


def _notes(posterior: EvidencePosterior, rows: Sequence[EvidenceRow], patients: int) -> list[str]:
    """Name drugs that have no number of their own, and rows of more patients than are simulated."""
    learned = {part for name in posterior.names for part in name.split(".")[1:]}
    drugs = dict.fromkeys(drug for row in rows for drug in sorted(row.drugs))
    notes = [
        f"{drug} has no number among the parameters that were learned: it stays at its card's "
        "values, and these rows move what else acts on the patients"
        for drug in drugs
        if drug not in learned
    ]
    most = max((row.denominator or row.n or 0 for row in rows), default=0)
    if (least := -(-most // FEW_PATIENTS)) > patients:
        notes.append(
            f"a row is of {most} patients and {patients} are simulated under each draw: chance in "
            f"these adds to that of the row; take patients = {least} or more"
        )
    return notes
