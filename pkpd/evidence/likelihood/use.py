"""What becomes of every row of an evidence table: its likelihood, or why it has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from math import log

from pkpd.cards import card_names
from pkpd.cards.drug_cards import load_drug_card
from pkpd.errors import DataError
from pkpd.evidence.likelihood.terms import Reading, Term
from pkpd.evidence.table.endpoints import Alternative, Endpoint, Observable
from pkpd.evidence.table.table import EvidenceRow, EvidenceTable

EXCLUSIVE = ({"CR", "CRi"}, {"CR", "CRp"})


@lru_cache(maxsize=1)
def every_drug() -> frozenset[str]:
    """Drugs whose cards say how they act in the marrow with leukaemia."""
    return frozenset(name for name in card_names("drugs") if load_drug_card(name).leukaemia)


@dataclass(frozen=True)
class Switches:
    """Which rows are used and which are doubtful.

    Of the first three 0 leaves rows out, 1 takes them as any other, and what lies between takes
    them as doubtful: they err by more (`pkpd.evidence.likelihood.cells.DOUBT`).

    Attributes
    ----------
    memory
        Rows marked ``MEMORY``.
    mirror
        Rows read in a copy of the source.
    paediatric
        Rows on children.
    fever
        Whether febrile neutropenia is used (needs the parameter ``fever_hazard``).
    baseline
        Whether neutrophils and platelets at start are used.
    white_cells
        Whether white cells at start are used, whose spread no learned parameter moves.
    drugs
        Drugs whose rows are used; without it all whose cards say how they act in the marrow.
    """

    memory: float = 0.0
    mirror: float = 0.5
    paediatric: float = 0.5
    fever: bool = True
    baseline: bool = True
    white_cells: bool = False
    drugs: frozenset[str] = field(default_factory=every_drug)

    def __post_init__(self) -> None:
        for name in ("memory", "mirror", "paediatric"):
            power = getattr(self, name)
            if not 0.0 <= power <= 1.0:
                raise DataError(where=f"switch {name}", what=f"{power:g}", allowed="0 to 1")


@dataclass(frozen=True)
class RowUse:
    """How one row is used.

    Attributes
    ----------
    row
        The row.
    kind
        Kind of likelihood, as in :class:`pkpd.evidence.likelihood.terms.Term`; empty if none.
    power
        1, or less for a doubtful source; 0 if it is not used.
    why
        Why it is not used, or what is special.
    """

    row: EvidenceRow
    kind: str
    power: float
    why: str = ""


def use_of(row: EvidenceRow, switches: Switches) -> RowUse:
    """Kind of likelihood of one row by itself, or why it has none."""
    endpoint = row.endpoint
    if row.unused:
        return RowUse(row, "", 0.0, row.unused)
    if endpoint.kind == "context":
        return RowUse(row, "", 0.0, endpoint.why_context)
    if unknown := sorted(row.drugs - switches.drugs):
        return RowUse(row, "", 0.0, f"{', '.join(unknown)}: not simulated in this marrow")
    if endpoint.at_start and not switches.baseline:
        return RowUse(row, "", 0.0, "counts at start are switched off")
    what = endpoint.alternatives[0].observable
    if what.line == "wbc" and not switches.white_cells:
        return RowUse(row, "", 0.0, "white cells at start are switched off")
    if what.kind == "fever" and not switches.fever:
        return RowUse(row, "", 0.0, "febrile neutropenia is switched off")
    power = 1.0
    notes = []
    if row.mark == "MEMORY":
        power *= switches.memory
        notes.append("from memory")
    if row.via == "mirror":
        power *= switches.mirror
        notes.append("read in a copy")
    if row.population.paediatric:
        power *= switches.paediatric
        notes.append("children")
    why = ", ".join(notes)
    if power == 0.0:
        return RowUse(row, "", 0.0, f"left out: {why}")
    return RowUse(row, _kind(row, endpoint), power, why)


def _kind(row: EvidenceRow, endpoint: Endpoint) -> str:
    if endpoint.kind == "quantiles":
        if row.lower is None or row.upper is None or row.limits.startswith("ci"):
            return "median"
        return "quartiles" if row.limits == "iqr" else "median and range"
    if endpoint.kind == "mean":
        ranged = row.limits == "range" and row.lower is not None
        return "mean and range" if ranged else "mean"
    return {
        "count": "beta-binomial",
        "mtd": "tolerated dose",
        "ratio": "ratio",
        "difference": "difference",
    }[endpoint.kind]


def terms_of(table: EvidenceTable, switches: Switches | None = None) -> tuple[Term, ...]:
    """Terms of the likelihood of a table.

    Rows that count the same patients of an arm in exclusive ways (complete remission, incomplete
    remission, early death) become one Dirichlet-multinomial.
    """
    return _terms([use_of(row, switches or Switches()) for row in table])


def how_used(table: EvidenceTable, switches: Switches | None = None) -> tuple[RowUse, ...]:
    """For every row of the table: its kind of likelihood, or why it has none.

    Examples
    --------
    >>> from pkpd.evidence import load_evidence
    >>> uses = how_used(load_evidence())
    >>> all(use.why for use in uses if use.power == 0.0)
    True
    """
    uses = [use_of(row, switches or Switches()) for row in table]
    kinds = {row.id: term.kind for term in _terms(uses) for row in term.rows}
    return tuple(RowUse(u.row, kinds.get(u.row.id, ""), u.power, u.why) for u in uses)


def use_table(uses: Iterable[RowUse]) -> str:
    """Print the use of rows: line, id, kind, power, reason."""
    lines = [f"{'line':>4}  {'row':58} {'likelihood':21} {'power':>5}  note"]
    lines += [
        f"{u.row.line:>4}  {u.row.id[:58]:58} {u.kind or '-':21} {u.power:5.2f}  {u.why}"
        for u in uses
    ]
    return "\n".join(lines)


def _terms(uses: Iterable[RowUse]) -> tuple[Term, ...]:
    used = [use for use in uses if use.kind]
    groups: dict[tuple[object, ...], list[RowUse]] = defaultdict(list)
    for use in used:
        row = use.row
        key = (row.study, row.arm, row.denominator) if row.endpoint.category else (row.id,)
        groups[key].append(use)
    terms = []
    for group in groups.values():
        joint = _exclusive(group) if len(group) > 1 else []
        if joint:
            terms.append(_joint_term(joint))
        together = {use.row.id for use in joint}
        terms += [_single_term(use) for use in group if use.row.id not in together]
    return tuple(terms)


def _exclusive(group: list[RowUse]) -> list[RowUse]:
    """Rows of a group that count exclusive categories: responses of one list, and one death."""
    code = {u.row.id: u.row.endpoint.alternatives[0].observable.code for u in group}
    responses = [u for u in group if u.row.endpoint.category == "response"]
    deaths = [u for u in group if u.row.endpoint.category == "death"]
    codes = [code[u.row.id] for u in responses]
    fits = len(codes) <= 1 or any(set(codes) <= allowed for allowed in EXCLUSIVE)
    chosen = responses if fits and len(codes) == len(set(codes)) else responses[:1]
    chosen = [*chosen, *deaths[-1:]]
    row = group[0].row
    total = sum(u.row.numerator or 0 for u in chosen)
    return chosen if len(chosen) > 1 and total <= (row.denominator or 0) else []


def _single_term(use: RowUse) -> Term:
    readings = tuple(_reading(a, (a.observable,)) for a in use.row.endpoint.alternatives)
    return Term(use.kind, (use.row,), use.power, readings)


def _joint_term(group: list[RowUse]) -> Term:
    fixed = [u.row.endpoint.alternatives[0].observable for u in group[:-1]]
    last = group[-1].row.endpoint.alternatives
    readings = tuple(_reading(a, (*fixed, a.observable)) for a in last)
    rows = tuple(u.row for u in group)
    return Term("Dirichlet-multinomial", rows, min(u.power for u in group), readings)


def _reading(alternative: Alternative, observables: tuple[Observable, ...]) -> Reading:
    return Reading(log(alternative.probability), alternative.name, observables)
