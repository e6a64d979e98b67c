"""What stands beside the tables of a comparison: the rule's mark, what was published, words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pkpd.comparison.leukaemia_lanes import OF_ANOTHER_TRIAL, stands_beside
from pkpd.comparison.rows import published_figures
from pkpd.comparison.what_it_rests_on import NAME as WHAT_IT_RESTS_ON
from pkpd.report import wording
from pkpd.report.wording import dlt_rows

if TYPE_CHECKING:
    from pkpd.comparison.results import EndpointRow, TrialResult


_AXES = {
    "rule_neutrophils": "neutrophil_threshold",
    "rule_platelets": "platelet_threshold",
    "rule_by_day": "by_day",
}


def own_cell(result: TrialResult) -> tuple[int, int, int] | None:
    """Place of the rule as run among other rules: of neutrophils, platelets and day, if any."""
    curves, attrs = result.curves, result.curves.attrs
    if attrs.get("rule_kind") != "not_recovered":
        return None
    places = [
        np.flatnonzero(np.isclose(curves[axis].values, float(attrs.get(name, np.nan))))
        for name, axis in _AXES.items()
    ]
    if not all(place.size for place in places):
        return None
    neutrophils, platelets, day = (int(place[0]) for place in places)
    return neutrophils, platelets, day


def rule_protocol_day(result: TrialResult) -> int | None:
    """Protocol day on which the rule looks; None where its clock, or cohorts, have several.

    A rule counts from the first dose of a treatment, which a prephase may come before.
    """
    attrs = result.curves.attrs
    if attrs.get("rule_clock", "first_dose") != "first_dose":
        return None
    day = float(attrs.get("rule_protocol_day", attrs.get("rule_by_day", np.nan)))
    return int(day) if np.isfinite(day) else None


def rule_as_run(result: TrialResult) -> str:
    """How the rule as run is marked among other rules, or that it is not among them."""
    if own_cell(result) is not None:
        return "Outlined: the rule as run."
    kind = str(result.curves.attrs.get("rule_kind", "not_recovered"))
    if kind != "not_recovered":
        of = "counts that fell low" if kind.startswith("not_recovered") else "low counts"
        return f"Shares not recovered by a day: the rule as run is of {of}, and not among them."
    if len({row.rule for row in dlt_rows(result)}) > 1:
        return "Rules of the cohorts differ: none is outlined."
    return "The rule as run is not among them."


_SHOWN = 0.0005
"""Of a risk: what is less rounds to the same share."""

BOTH = (
    "The difference is the first schedule's risk minus the second's, of the patients who can be "
    "judged under both: the risks of the table are each of its own patients."
)
"""Beside differences of risks between two schedules."""

TIES = (
    "Draws in which both risks are the same count half for each schedule. Few simulated patients "
    "make many such draws, and bring the share to 50 %: the interval of the difference does not "
    "have that."
)
"""Beside shares of draws in which one schedule has the lower risk."""


def other_way(result: TrialResult) -> str:
    """Name pairs whose risks in the table differ the other way; empty where there are none.

    A risk is of those who can be judged: who dies or keeps leukaemia under the stronger schedule
    leaves the others with less risk.
    """
    risks = {(row.cohort, row.rule): row.estimate for row in result.rows if row.endpoint == "dlt"}
    found = []
    for pair in result.pairs:
        told = pair.rule.removesuffix(", treatment running")  # the rule, or those of both cohorts
        firsts = (v for (c, rule), v in risks.items()
                  if c == pair.first and f"{told} and ".startswith(f"{rule} and "))  # fmt: skip
        seconds = (v for (c, rule), v in risks.items()
                   if c == pair.second and f" and {told}".endswith(f" and {rule}"))  # fmt: skip
        first, second = next(firsts, np.nan), next(seconds, np.nan)
        apart = abs(pair.difference) > pair.mc_error and abs(first - second) >= _SHOWN
        if apart and (first - second) * pair.difference < 0.0:
            lower, higher = (
                (pair.first, pair.second) if pair.difference < 0.0 else (pair.second, pair.first)
            )
            found.append(f"{lower} has less risk than {higher}")
    if not found:
        return ""
    return (
        f"In the same patients {' and '.join(dict.fromkeys(found))}, although the table has it the "
        "other way: others can be judged under each."
    )


def published_beside(result: TrialResult) -> list[dict[str, str]]:
    """Rows of what was published beside what was predicted: of cohorts, and of all together."""
    own = ((row, wording.published(row)) for row in result.rows)
    return [*(_published(row, told) for row, told in own if told), *_of_all_cohorts(result)]


def _published(row: EndpointRow, figure: wording.Published) -> dict[str, str]:
    span = wording.number_range(row.lower, row.upper, row.unit, row.estimate, row.mc_error)
    return {
        "cohort": row.cohort,
        "endpoint": wording.endpoint_name(row),
        "predicted": f"{wording.number(row.estimate, row.unit, row.mc_error)} ({span})"
        if not math.isnan(row.estimate)
        else "-",
        "published": wording.published_text(row),
        "interval": figure.interval or "none",
        "agreement": _agreement(row, figure),
        "source": row.published_source,
    }


def _of_all_cohorts(result: TrialResult) -> list[dict[str, str]]:
    """Set what a trial published of all its cohorts together beside the range over them."""
    lines = []
    for outcome in result.trial.published:
        found = (
            row
            for row in reversed(result.rows)
            if stands_beside(outcome.endpoint, row) and math.isfinite(row.estimate)
        )
        # a cohort counts once, by its first rule
        rows = list({row.cohort: row for row in found}.values())[::-1]
        if not rows or outcome.definition.startswith(OF_ANOTHER_TRIAL):
            continue
        pooled = replace(rows[0], evaluable=math.nan, **published_figures(outcome))
        told = wording.published(pooled)
        if told is None:
            continue
        ends = [pick(rows, key=lambda row: row.estimate) for pick in (min, max)]
        texts = dict.fromkeys(wording.number(r.estimate, r.unit, r.mc_error) for r in ends)
        inside = sum(told.lower <= row.estimate <= told.upper for row in rows)
        lies = "" if wording.no_interval(told.lower, told.upper) else (
            f"predicted lies in the published interval in {inside} of {len(rows)} cohorts"
        )  # fmt: skip
        lines.append(
            {
                "cohort": "all cohorts",
                "endpoint": wording.endpoint_name(pooled),
                "predicted": f"{' to '.join(texts).replace(' % to', ' to')} in its cohorts",
                "published": wording.published_text(pooled),
                "interval": told.interval or "none",
                "agreement": lies or "no interval",
                "source": pooled.published_source,
            }
        )
    return lines


def _agreement(row: EndpointRow, figure: wording.Published) -> str:
    """Say which of the predicted and the published figure lies in the interval of the other."""
    if math.isnan(row.estimate):
        return "not predicted"
    told = []
    for name, value, other, lower, upper in (
        ("published", figure.value, "predicted", row.lower, row.upper),
        ("predicted", row.estimate, "published", figure.lower, figure.upper),
    ):
        if not wording.no_interval(lower, upper):
            told.append((lower <= value <= upper, f"in the {other} interval", name))
    inside = [one for one in told if one[0]]
    if len(told) == 2 and len(inside) != 1:
        return f"{'each' if inside else 'neither'} lies in the other's interval"
    for lies, where, name in inside or told:
        return f"{name} {'lies' if lies else 'does not lie'} {where}"
    return "no interval"


def learned_from(result: TrialResult) -> str:
    """Say whether a trial's own rows are among those learned from; empty where nobody asked."""
    asked = next((q for q in result.questions if q.name == WHAT_IT_RESTS_ON), None)
    return f"{asked.answer[0][0].upper()}{asked.answer[0][1:]}." if asked else ""
