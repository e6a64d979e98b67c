"""A trial or a card in plain words, for reading before a comparison is run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkpd.cards.diseases import disease_in_words
from pkpd.endpoints.definitions import death_words, failure_words
from pkpd.report.wording import counted
from pkpd.schedule import describe, describe_criteria

if TYPE_CHECKING:
    from pkpd.trials import DLTRule, PublishedOutcome, Trial

_FIRST = ("title", "disease", "drug", "structure", "phase")
_PLAIN_KEYS = ("value", "unit", "status", "source", "note")


def trial_in_words(trial: Trial, rules: Mapping[str, DLTRule] | None = None) -> list[str]:
    """Lines that tell a trial: who, what, on which days, the rule, what is published, assumed.

    Parameters
    ----------
    trial
        The trial.
    rules
        Rules by name; those that the trial names are told in full.
    """
    rules = rules or {}
    lines = [
        f"{trial.name} ({trial.id})",
        trial.title,
        "",
        f"Patients: {trial.condition or disease_in_words(trial.disease) or 'not told'}",
        f"Disease in the marrow with leukaemia: {disease_in_words(trial.disease) or 'none'}",
        f"Phase: {trial.phase or 'not given'}",
        f"Population: {Path(trial.population).name}" + _moved(trial.medians),
        f"Followed to day {trial.horizon_days}; day 1 is the day of the first dose",
    ]
    if trial.visit_days:
        lines.append(f"Visits: days {', '.join(map(str, trial.visit_days))}")
    if trial.growth_factor.words:
        lines.append(f"Growth factor: {trial.growth_factor.words}")
    names = dict.fromkeys(name for c in trial.cohorts if (name := c.rule or trial.rule))
    for name in names:
        used = [c.clocks for c in trial.cohorts if (c.rule or trial.rule) == name]
        for number, clock in enumerate(dict.fromkeys(itertools.chain(*used))):
            told = rule_in_words(replace(rules[name], clock=clock)) if name in rules else ""
            lines.append(
                f"{'Also' if number else 'DLT'} rule {name}" + (f": {told}" if told else "")
            )
    if not names:
        lines.append("DLT rule: none")
    elif not trial.rule_is_protocols:
        lines.append("  (this package's rule; the protocol's own is not known)")
    if trial.rule_change:
        lines.append(f"  (changed: {'; '.join(_changed(*one) for one in trial.rule_change)})")
    for arm in trial.arms:
        lines += ["", f"Arm {arm.name}"]
        for cohort in arm.cohorts:
            size = f", {counted(cohort.n, 'patient')}" if cohort.n else ""
            lines.append(f"  {cohort.id}: {cohort.label}{size}{_moved(cohort.medians)}")
            lines += [f"    {line}" for line in describe(cohort.regimen).splitlines()]
            lines += [f"    published: {outcome_in_words(o)}" for o in cohort.published]
            if cohort.note:
                lines.append(f"    note: {cohort.note}")
    if trial.published:
        lines += ["", "Published for the trial"]
        lines += [f"  - {outcome_in_words(o)}" for o in trial.published]
    for head, items in (("Assumed", trial.assumptions), ("References", trial.references)):
        if items:
            lines += ["", head, *(f"  - {item}" for item in items)]
    return lines


def _moved(medians: Sequence[tuple[str, float]]) -> str:
    return "".join(f", median {name} moved to {value:g}" for name, value in medians)


def rule_in_words(rule: DLTRule) -> str:
    """One sentence for a rule, with the reading status of its numbers."""
    if not rule.can_be_simulated:
        return f"not defined by counts ({rule.quote or rule.note or 'no wording known'})"
    text = f"a DLT if {failure_words(rule)}"
    extra = []
    if rule.sustained_days:
        extra.append(f"recovery must last {rule.sustained_days:g} days")
    if rule.consecutive_visits > 1:
        extra.append(f"seen at {rule.consecutive_visits} visits in a row")
    if any(c.line == "platelets" for c in rule.criteria) and rule.untransfused_days:
        extra.append(f"platelets without transfusion for {rule.untransfused_days} days")
    if rule.no_leukaemia:
        extra.append("marrow without leukaemia")
    extra.append(death_words(rule))
    return "; ".join([text, *extra]) + f" ({rule.status})"


def _changed(key: str, value: Any) -> str:
    """Tell what a schedule file changes in its rule."""
    return f"{_words(key)} {describe_criteria(value) if key == 'criteria' else value}"


def outcome_in_words(outcome: PublishedOutcome) -> str:
    """One published outcome: ``dlt 2/6, 0.33 (0.04 to 0.78); table 2; read``."""
    figures = []
    if outcome.numerator is not None:
        figures.append(f"{outcome.numerator}/{outcome.denominator}")
    if outcome.value is not None:
        span = (
            f" ({outcome.lower:g} to {outcome.upper:g})"
            if outcome.lower is not None and outcome.upper is not None
            else ""
        )
        figures.append(f"{outcome.value:.3g}{span}")
    parts = [f"{outcome.endpoint} {', '.join(figures)}", outcome.definition, outcome.source]
    return "; ".join(part for part in [*parts, outcome.status] if part)


def card_in_words(name: str, data: Mapping[str, Any]) -> list[str]:
    """Lines that tell any card: its texts first, then its numbers with unit, status and source."""
    lines = [name]
    texts = {k: v for k, v in data.items() if not _is_table(v)}
    first = [k for k in _FIRST if k in texts]
    for key in [*first, *(k for k in texts if k not in first)]:
        lines.append(f"{_words(key)}: {_value(texts[key])}")
    for key, value in data.items():
        if _is_table(value):
            lines += ["", _words(key).capitalize(), *_table(value, "  ")]
    return lines


def _table(value: Any, indent: str) -> list[str]:
    if isinstance(value, Sequence):
        lines = []
        for i, row in enumerate(value, start=1):
            lines += [f"{indent}{i}.", *_table(row, indent + "  ")]
        return lines
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping) and "value" in item:
            lines.append(f"{indent}{key} = {_number(item)}")
        elif _is_table(item):
            lines += [f"{indent}{_words(key)}", *_table(item, indent + "  ")]
        else:
            lines.append(f"{indent}{_words(key)}: {_value(item)}")
    return lines


def _number(item: Mapping[str, Any]) -> str:
    unit = item.get("unit", "")
    text = _value(item["value"]) + (f" {unit}" if unit not in ("", "1") else "")
    others = {k: v for k, v in item.items() if k not in _PLAIN_KEYS}
    if others:
        told = ", ".join(f"{_words(k)} {_value(v)}" for k, v in others.items())
        text += f" ({told})"
    for key in ("status", "source", "note"):
        if item.get(key):
            text += f"; {item[key]}"
    return text


def _is_table(value: Any) -> bool:
    rows = value if isinstance(value, list) else [value]
    return bool(rows) and all(isinstance(row, Mapping) for row in rows)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(k)} {_value(v)}" for k, v in value.items())
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(v, (int, float)) for v in value):
            return f"{_value(float(value[0]))} to {_value(float(value[1]))}"
        return ", ".join(_value(v) for v in value)
    return str(value).strip()


def _words(key: str) -> str:
    return key.replace("_", " ")
