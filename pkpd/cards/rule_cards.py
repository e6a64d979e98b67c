"""Cards of count rules: dose-limiting toxicities, grades of toxicity, response criteria."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pkpd.cards.files import card_names, find_card
from pkpd.cards.provenance import read_provenance, weakest
from pkpd.cards.schedule_cards import read_criteria
from pkpd.cards.tables import Table, read_toml
from pkpd.errors import CardError
from pkpd.schedule import LINES, STATUSES, Criterion
from pkpd.trials import (
    RULE_KINDS,
    DLTRule,
    Grades,
    GradeScale,
    Improvement,
    ImprovementStep,
    Response,
    ResponseCriteria,
)

_TYPES = {"rule": "a rule", "grades": "grades of toxicity", "response": "response criteria"}


def load_rule(name: str | Path) -> DLTRule:
    """Read a rule by name, such as ``leukemia_d42_generic``, or from a user's own file.

    Raises
    ------
    CardError
        If there is no such card, or it is not a rule, or a value in it cannot be used.

    Examples
    --------
    >>> load_rule("leukemia_d42_generic").by_day
    42
    """
    root, card = _open(name, "rule")
    rule = _read_rule(root, card)
    root.done()
    return rule


def read_rule_change(table: Table) -> tuple[tuple[str, Any], ...]:
    """Read what a schedule file changes in its rule: ``[rule_change]``."""
    found: dict[str, Any] = {}
    if "by_day" in table:
        found["by_day"] = table.integer("by_day", minimum=1)
    if "recovered" in table:
        found["criteria"] = read_criteria(table, "recovered")
    if "join" in table:
        found["join"] = table.one_of("join", ("any", "all"))
    table.done()
    return tuple(found.items())


def changed_rule(rule: DLTRule, change: tuple[tuple[str, Any], ...]) -> DLTRule:
    """Rule with the values that a schedule file has in their place, told as assumed.

    Raises
    ------
    CardError
        If other counts are given for a rule that is not one of recovery.
    """
    if not change:
        return rule
    if rule.kind != "not_recovered" and "criteria" in dict(change):
        raise CardError(
            where=f"rule_change of {rule.name}",
            what=f"counts of recovery are given for a rule of kind {rule.kind}",
            allowed="counts for rules of kind not_recovered",
            remedy="name another rule, or leave recovered out",
        )
    note = f"Changed by the schedule file: {', '.join(key for key, _ in change)}. {rule.note}"
    changed = {"name": f"{rule.name}, changed", "status": "assumed", "note": note.strip()}
    return replace(rule, **changed, **dict(change))


def load_rules() -> dict[str, DLTRule]:
    """Read all shipped rules, by name, including those that have no count threshold."""
    return {name: load_rule(name) for name in names_of("rule")}


def rules_with_counts() -> tuple[str, ...]:
    """Name the shipped rules that can be simulated."""
    return tuple(name for name, rule in load_rules().items() if rule.can_be_simulated)


def load_grades(name: str | Path) -> Grades:
    """Read grades of toxicity, such as ``ctcae_v5``.

    Examples
    --------
    >>> from pkpd.endpoints import grade
    >>> grade(load_grades("ctcae_v5"), "neutrophils", [2.1, 1.2, 0.7, 0.3])
    array([0, 2, 3, 4], dtype=int8)
    """
    root, card = _open(name, "grades")
    scales = []
    for row in root.tables("scale"):
        relative = row.boolean("relative", default=False)
        with row.at():
            scales.append(
                GradeScale(
                    line=row.one_of("line", LINES),
                    below=row.numbers("below", above=0.0, length=4),
                    relative=relative,
                    always_grade_4_below=row.number("always_grade_4_below", 0.0, minimum=0.0),
                    evaluable_from=row.number("evaluable_from", 0.0, minimum=0.0),
                    source=row.text("source"),
                    status=row.one_of("status", STATUSES),
                    note=row.text("note", default=""),
                )
            )
    grades = Grades(card, root.text("title"), tuple(scales), root.text("note", default=""))
    root.done()
    return grades


def load_response_criteria(name: str | Path) -> ResponseCriteria:
    """Read response criteria, such as ``eln_2022``."""
    root, card = _open(name, "response")
    criteria = ResponseCriteria(
        name=card,
        title=root.text("title"),
        disease=root.text("disease"),
        responses=tuple(_read_response(row) for row in root.tables("response")),
        improvements=tuple(_read_improvement(row) for row in root.tables("improvement", ())),
        unsupported=root.texts("unsupported", default=()),
        note=root.text("note", default=""),
    )
    root.done()
    return criteria


def names_of(card_type: str) -> tuple[str, ...]:
    """Names of the shipped cards of one type: ``rule``, ``grades`` or ``response``."""
    found = []
    for name in card_names("rules"):
        root = read_toml(find_card("rules", name))
        if root.one_of("kind", tuple(_TYPES)) == card_type:
            found.append(name)
    return tuple(found)


def _open(name: str | Path, card_type: str) -> tuple[Table, str]:
    names = rules_with_counts if card_type == "rule" else partial(names_of, card_type)
    path = find_card("rules", name, names)
    root = read_toml(path)
    found = root.one_of("kind", tuple(_TYPES))
    if found != card_type:
        root.refuse(
            "kind",
            f"the card holds {_TYPES[found]}, not {_TYPES[card_type]}",
            allowed=", ".join(names()),
            remedy="name one of these",
        )
    return root, Path(path.name).stem


def _read_rule(root: Table, name: str) -> DLTRule:
    kind = root.one_of("event", RULE_KINDS, default="not_recovered")
    described = ("source", "status", "kind", "disease", "note", "event")
    keys = tuple(key for key in root.data if key not in described)
    provenance = read_provenance(root, keys)
    source, status = weakest(provenance)
    assumed = [key for key, entry in provenance.items() if entry.status == "assumed"]
    note = root.text("note", default="")
    if assumed and len(assumed) < len(keys):
        note = f"Assumed: {', '.join(assumed)}. {note}".strip()
    counts: tuple[Criterion, ...] = ()
    more: dict[str, Any] = {}
    needs_day = {} if kind != "not_count_based" else {"default": None}
    by_day = root.integer("by_day", minimum=1, **needs_day)
    if kind.startswith("low_count"):
        counts = read_criteria(root, "low")
        more["duration_days"] = _per_line(root, "for_days", counts)
    elif kind != "not_count_based":
        counts = read_criteria(root, "recovered")
    if kind == "not_recovered_from_nadir":
        more["nadir_below"] = _per_line(root, "nadir_below", counts)
    if kind == "low_count_or_transfusion":
        more["transfusion_days"] = root.integer("transfusion_days", minimum=1)
        more["transfusion_window_days"] = root.integer("transfusion_window_days", minimum=1)
    with root.at():
        return DLTRule(
            name=name,
            kind=kind,
            criteria=counts,
            join=root.one_of("join", ("any", "all"), default="any"),
            by_day=by_day,
            clock=root.text("clock", default="first_dose"),
            sustained_days=root.number("sustained_days", 0.0, minimum=0.0, unit="days"),
            consecutive_visits=root.integer("consecutive_visits", 1, minimum=1),
            untransfused_days=root.integer("untransfused_days", 7, minimum=0),
            no_leukaemia=root.boolean("no_leukaemia", default=True),
            disease=root.text("disease", default=""),
            quote=root.text("quote", default=""),
            source=source,
            status=status,
            note=note,
            **more,
        )


def _per_line(root: Table, key: str, counts: tuple[Criterion, ...]) -> tuple[float, ...]:
    inner = root.table(key)
    values = tuple(inner.number(criterion.line, minimum=0.0) for criterion in counts)
    inner.done()
    return values


def _read_response(row: Table) -> Response:
    with row.at():
        return Response(
            code=row.text("code"),
            criteria=read_criteria(row, "counts") if "counts" in row else (),
            join=row.one_of("join", ("all", "any"), default="all"),
            marrow_blasts_below=row.number("marrow_blasts_below", None, above=0.0, maximum=100.0),
            marrow_limit_included=row.boolean("marrow_limit_included", default=False),
            marrow_blasts_from=row.number("marrow_blasts_from", 0.0, minimum=0.0, maximum=100.0),
            marrow_blasts_fall=row.number("marrow_blasts_fall", 0.0, minimum=0.0, maximum=1.0),
            no_circulating_blasts=row.boolean("no_circulating_blasts", default=False),
            no_extramedullary=row.boolean("no_extramedullary", default=False),
            marrow_not_aplastic=row.boolean("marrow_not_aplastic", default=False),
            haemoglobin_at_least=row.number("haemoglobin_at_least", None, above=0.0, unit="g/dL"),
            for_weeks=row.number("for_weeks", 0.0, minimum=0.0),
            text=row.text("text"),
            source=row.text("source"),
            status=row.one_of("status", STATUSES),
        )


def _read_improvement(row: Table) -> Improvement:
    steps = []
    for step in row.tables("step"):
        steps.append(
            ImprovementStep(
                baseline_above=step.number("baseline_above", 0.0, minimum=0.0),
                rise=step.number("rise", 0.0, minimum=0.0),
                rise_fraction=step.number("rise_fraction", 0.0, minimum=0.0),
                end_above=step.number("end_above", 0.0, minimum=0.0),
            )
        )
    return Improvement(
        code=row.text("code"),
        line=row.one_of("line", LINES),
        baseline_below=row.number("baseline_below", above=0.0, unit="10^9/L"),
        steps=tuple(steps),
        for_weeks=row.number("for_weeks", 0.0, minimum=0.0),
        text=row.text("text"),
        source=row.text("source"),
        status=row.one_of("status", STATUSES),
    )
