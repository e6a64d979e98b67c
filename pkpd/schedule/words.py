"""A regimen in the words of a protocol, for reports."""

from __future__ import annotations

from pkpd.schedule.amounts import show_amount, show_days, show_hours
from pkpd.schedule.regimen import Course, Regimen
from pkpd.schedule.rules import Criterion, DoseModification, DoseRule, Gate

_ROUTE_WORDS = {"iv": "IV", "oral": "by mouth", "sc": "under the skin"}


def describe(regimen: Regimen) -> str:
    """Schedule in plain protocol words, one line for each course and each of its rules.

    Examples
    --------
    >>> from pkpd.schedule import on_off
    >>> print(describe(on_off("lenalidomide", "25 mg", on=21, off=7, cycles=2)))
    From day 1, 2 cycles of 28 days (lenalidomide):
      lenalidomide 25 mg by mouth on days 1-21
    """
    lines: list[str] = []
    for n, (course, start) in enumerate(zip(regimen.courses, regimen.start_days, strict=True)):
        cycles = f"{course.cycles} cycles" if course.cycles > 1 else "1 cycle"
        opening = f"From day {start}" if n == 0 else f"Then from day {start}"
        if n and course.start_day is None:
            opening += " (right after the course before)"
        lines.append(f"{opening}, {cycles} of {course.cycle_days} days ({course.name}):")
        lines += [f"  {_dose(rule)}" for rule in course.doses]
        lines += [f"  {text}" for text in _rules(course)]
    return "\n".join(lines)


def describe_criteria(criteria: tuple[Criterion, ...], join: str = "all") -> str:
    """Write counts in words: ``neutrophils >= 0.5 and platelets >= 20 x 10^9/L``.

    Examples
    --------
    >>> describe_criteria((Criterion("neutrophils", 0.5), Criterion("platelets", 20)))
    'neutrophils >= 0.5 and platelets >= 20 x 10^9/L'
    """
    word = " or " if join == "any" else " and "
    return word.join(f"{c.line} >= {c.at_least:g}" for c in criteria) + " x 10^9/L"


def _dose(rule: DoseRule) -> str:
    text = f"{rule.drug} {show_amount(rule.amount, rule.unit)} {_ROUTE_WORDS[rule.route]}"
    if rule.duration_h:
        text += f" over {show_hours(rule.duration_h)}"
    text += f" on day{'s' if len(rule.days) > 1 else ''} {show_days(rule.days)}"
    if rule.hour:
        text += f" at hour {rule.hour:g}"
    if rule.cap_mg is not None:
        text += f", at most {rule.cap_mg:g} mg"
    if rule.strengths_mg:
        text += f", rounded to {rule.strengths_mg[0]:g} mg"
    return text


def _rules(course: Course) -> list[str]:
    texts = []
    if course.gate:
        texts.append(f"starts {_gate(course.gate)}")
    if course.between:
        texts.append(f"each later cycle starts {_gate(course.between)}")
    texts += [_modification(change, course) for change in course.modifications]
    return texts


def _gate(gate: Gate) -> str:
    every = "daily" if gate.check_every_days == 1 else f"every {gate.check_every_days} days"
    end = "anyway" if gate.if_not_met == "start" else "never, and all treatment stops"
    return (
        f"once {describe_criteria(gate.criteria, gate.join)} (looked at {every}; "
        f"after {gate.max_wait_days} days {end})"
    )


def _modification(change: DoseModification, course: Course) -> str:
    below = " or ".join(f"{c.line} < {c.at_least:g}" for c in change.hold_below)
    visits = "daily" if change.visit_every_days == 1 else f"every {change.visit_every_days} days"
    text = (
        f"{change.drug} is held at {below} x 10^9/L (visits {visits}) and resumed at "
        f"{describe_criteria(change.resume_at)}"
    )
    if change.reduce_on_resume:
        unit = next(rule.unit for rule in course.doses if rule.drug == change.drug)
        levels = " mg, then ".join(f"{level:.10g}" for level in change.levels_mg)
        text += f", each time at the next lower dose: {levels.replace(' mg', f' {unit}')} {unit}"
    return text
