"""Endpoint rows of a cohort: predictions with their uncertainty, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.cards.trial_cards import FIRST_DOSE
from pkpd.comparison.curves import CohortCurves
from pkpd.comparison.lanes import can_be_judged, evaluable, judged
from pkpd.comparison.published import clopper_pearson
from pkpd.comparison.results import EndpointRow
from pkpd.comparison.uncertainty import crossed, quantiles_with_uncertainty, risk
from pkpd.endpoints.definitions import clock_words, failure_words
from pkpd.endpoints.dlt import REASONS
from pkpd.trials import Cohort, DLTRule, PublishedOutcome, Trial

UNITS = {
    "nadir": "10^9/L",
    "nadir_day": "day",
    "days_below": "day",
    "recovery_day": "day",
    "sustained_recovery_day": "day",
    "recovery_day_on_visits": "day",
    "never_low": "probability",
    "back_before_last_dose": "probability",
    "not_before_next_cycle": "probability",
    "count_at_clock": "10^9/L",
    "platelet_transfusions": "number",
    "grade_3_4": "probability",
    "grade_4": "probability",
    "dlt_on_visits": "probability",
    "dlt_at_any_dose": "probability",
    "split": "probability",
    "starts_on_time": "probability",
    "starts_late": "probability",
    "starts_never": "probability",
    "days_late": "day",
    "cycles_started": "probability",
    "relative_dose_intensity": "fraction",
    # of the marrow with leukaemia
    "count_at_start": "10^9/L",
    "recovery_day_in_remission": "day",
    "remission_day": "day",
    "complete_remission": "probability",
    "remission_any_counts": "probability",
    "response": "probability",
    "early_death": "probability",
    "grade_3_4_at_start": "probability",
}

PREDICTED = {
    "dlt_delayed_recovery": ("dlt", ""),
    "g34_neutropenia": ("grade_3_4", "neutrophils"),
    "g4_neutropenia": ("grade_4", "neutrophils"),
    "g34_thrombocytopenia": ("grade_3_4", "platelets"),
    "g4_thrombocytopenia": ("grade_4", "platelets"),
}
"""Published endpoint → endpoint and line of the prediction it stands beside."""

UNDER_TREATMENT = (
    "on day {day} {running}: the verdict is of counts under treatment, and who was never low, or "
    "was back, before it is judged by that alone"
)


@dataclass(frozen=True)
class CohortLanes:
    """Everything kept of a cohort's lanes; matrices are [draws, patients].

    ``running`` has what `pkpd.endpoints.clock.treatment_runs` says, by the name of the clock.
    """

    values: Mapping[tuple[str, str, str], Floats]
    recovered_on: Mapping[tuple[str, float], Floats]
    dlt: Mapping[str, Floats]
    reasons: Mapping[str, Floats]
    sensitivity: NDArray[np.float32]
    curves: CohortCurves
    running: Mapping[str, str]


def cohort_rows(
    trial: Trial,
    cohort: Cohort,
    rules: tuple[DLTRule, ...],
    lanes: CohortLanes,
    assumed: str,
    predicted: Mapping[str, tuple[str, str]] = PREDICTED,
) -> list[EndpointRow]:
    """Rows of a cohort: DLT first, then each endpoint; published figures without a prediction last.

    Parameters
    ----------
    trial, cohort
        Whose rows.
    rules
        The count rule, once for each clock.
    lanes
        Outcomes of all lanes.
    assumed
        Assumed inputs of drugs, marrow and patients.
    predicted
        Published endpoint -> endpoint and line of the prediction it stands beside.
    """
    common: dict[str, Any] = {"trial": trial.id, "cohort": cohort.id, "label": cohort.label}
    published = {predicted[p.endpoint]: p for p in cohort.published if p.endpoint in predicted}
    rows = []
    for number, rule in enumerate(rules):
        if rule.clock not in lanes.dlt:
            continue
        name = rule.name if number == 0 else f"{rule.name}, days from {clock_words(rule.clock)}"
        of_rule = f"rule {rule.name}: {rule.status}" if rule.status == "assumed" else ""
        running = lanes.running.get(rule.clock, "")
        under = UNDER_TREATMENT.format(day=rule.by_day, running=running)
        verdicts = lanes.dlt[rule.clock]
        common_dlt = {
            **common,
            "evaluable": judged(verdicts),
            "not_judged": not_judged(lanes.reasons[rule.clock]),
            "under_treatment": under if running else "",
        }
        rows.append(
            _probability(
                verdicts,
                endpoint="dlt",
                line="",
                rule=name,
                assumed="; ".join(filter(None, (assumed, of_rule))),
                published=published.get(("dlt", "")) if number == 0 else None,
                common=common_dlt,
            )
        )
    for (endpoint, line, rule_text), matrix in lanes.values.items():
        unit = UNITS[endpoint]
        inputs = _for_line(assumed, line)
        about = {**common, "evaluable": judged(matrix)}
        if unit == "probability":
            rows.append(
                _probability(
                    matrix,
                    endpoint=endpoint,
                    line=line,
                    rule=rule_text,
                    assumed=inputs,
                    published=published.get((endpoint, line)),
                    common=about,
                )
            )
        else:
            rows.append(_median(matrix, endpoint, line, rule_text, unit, inputs, about))
    made = {(row.endpoint, row.line) for row in rows}
    for outcome in cohort.published:
        key = predicted.get(outcome.endpoint)
        if key not in made or published[key] is not outcome:
            rows.append(
                EndpointRow(
                    **common,
                    endpoint=outcome.endpoint,
                    line="",
                    rule="published only",
                    unit="probability" if outcome.denominator else "",
                    estimate=np.nan,
                    lower=np.nan,
                    upper=np.nan,
                    mc_error=np.nan,
                    **published_figures(outcome),
                )
            )
    return rows


def not_judged(reasons: Floats) -> str:
    """Say for which share of the lanes a rule gives no verdict, and why; empty if for none."""
    told = []
    for status, words in REASONS.items():
        share = float(np.mean(reasons == status))
        if share > 0.0:
            told.append(f"{share:.1%} {words}")
    return "; ".join(told)


def _for_line(assumed: str, line: str) -> str:
    """Leave out inputs that belong to the other line's marrow."""
    other = {"neutrophils": "platelets ", "platelets": "neutrophils "}.get(line)
    if other is None:
        return assumed
    return "; ".join(text for text in assumed.split("; ") if not text.startswith(other))


def _probability(
    matrix: Floats,
    *,
    endpoint: str,
    line: str,
    rule: str,
    assumed: str,
    published: PublishedOutcome | None,
    common: Mapping[str, Any],
) -> EndpointRow:
    beside: dict[str, Any] = {} if published is None else published_figures(published)
    figures: dict[str, Any] = dict.fromkeys(("estimate", "lower", "upper", "mc_error"), np.nan)
    if can_be_judged(matrix):
        found = risk(evaluable(matrix))
        figures = {
            "estimate": found.estimate,
            "lower": found.lower,
            "upper": found.upper,
            "mc_error": found.mc_error,
            "share_patients": found.share_patients,
            "share_parameters": found.share_parameters,
        }
    return EndpointRow(
        **common,
        endpoint=endpoint,
        line=line,
        rule=rule,
        unit="probability",
        assumed=assumed,
        **figures,
        **beside,
    )


def _median(
    matrix: Floats,
    endpoint: str,
    line: str,
    rule: str,
    unit: str,
    assumed: str,
    common: Mapping[str, Any],
) -> EndpointRow:
    matrix = evaluable(matrix)
    if not matrix.size:
        missing = np.full(3, np.nan)
        value = lower = upper = error = missing
        censored = np.nan
    else:
        found = quantiles_with_uncertainty(matrix, (0.05, 0.5, 0.95))
        value, lower, upper, error = found.value, found.lower, found.upper, found.mc_error
        censored = found.censored_share
    # shares on ranks: they exist for censored times, and no long tail decides them
    shares = _shares_of_ranks(matrix)
    return EndpointRow(
        **common,
        endpoint=endpoint,
        line=line,
        rule=rule,
        unit=unit,
        estimate=float(value[1]),
        lower=float(lower[1]),
        upper=float(upper[1]),
        mc_error=float(error[1]),
        patients_lower=float(value[0]),
        patients_upper=float(value[2]),
        share_patients=shares[0],
        share_parameters=shares[1],
        censored=float(censored),
        assumed=assumed,
    )


def _shares_of_ranks(matrix: Floats) -> tuple[float, float]:
    """Shares of patients and parameters in the variance of the ranks of all lanes."""
    flat = matrix.ravel()
    known = ~np.isnan(flat)
    if known.sum() < 2:
        return np.nan, np.nan
    unique, place, number = np.unique(flat[known], return_inverse=True, return_counts=True)
    if unique.size < 2:
        return np.nan, np.nan
    middle = np.cumsum(number) - 0.5 * (number - 1)
    ranks = np.full(flat.size, np.nan)
    ranks[known] = middle[place] / known.sum()
    found = crossed(ranks.reshape(matrix.shape))
    parameters = 0.0 if np.isnan(found.draws) else found.draws
    total = parameters + np.nan_to_num(found.patients) + found.residual
    if total <= 0.0:
        return np.nan, np.nan
    return float(1.0 - parameters / total), float(parameters / total)


def published_figures(outcome: PublishedOutcome) -> dict[str, Any]:
    """Give the fields of a row that tell what was published; a count has its exact interval."""
    value = np.nan if outcome.value is None else float(outcome.value)
    lower = np.nan if outcome.lower is None else float(outcome.lower)
    upper = np.nan if outcome.upper is None else float(outcome.upper)
    k, n = outcome.numerator, outcome.denominator
    if k is not None and n:
        value = k / n if np.isnan(value) else value
        if np.isnan(lower):
            interval = clopper_pearson(k, n)
            lower, upper = float(interval.lower), float(interval.upper)
    return {
        "published": value,
        "published_lower": lower,
        "published_upper": upper,
        "published_numerator": np.nan if k is None else float(k),
        "published_denominator": np.nan if n is None else float(n),
        "published_source": f"{outcome.source} ({outcome.status})",
    }


def rule_attributes(
    rule: DLTRule,
    running: Mapping[str, Mapping[str, str]] | None = None,
    of_cohorts: Mapping[str, DLTRule] | None = None,
    first_days: Iterable[int] = (1,),
) -> dict[str, Any]:
    """Describe the rule for figures: one sentence or two, its thresholds and its day.

    ``running`` says in which cohorts treatment goes on when the rule looks by a clock, and what
    since when; ``of_cohorts`` are the rules of the cohorts, of which some may have another one:
    thresholds, a day and a kind that differ are left out, so that no figure marks one for all, and
    of clocks that differ it is told that each cohort has its own. ``treatment_running`` counts the
    cohorts of :func:`treated`. ``first_days`` are the protocol days of the cohorts' first doses,
    from which rules count: ``rule_protocol_day`` is NaN where they differ.
    """
    if not rule.can_be_simulated:
        return {"rule_text": f"{rule.name} has no count thresholds and is not simulated"}
    by_cohort = of_cohorts or {"": rule}
    every = tuple(by_cohort.values())
    rule = every[0]
    text = f"{rule.name}: {failure_words(rule)}"
    by_words: dict[str, list[str]] = {}
    for cohort, other in by_cohort.items():
        if other != rule:
            by_words.setdefault(f"{other.name}: {failure_words(other)}", []).append(cohort)
    for words, cohorts in by_words.items():
        text += f". In {', '.join(cohorts)} {words}"
    by_day: dict[tuple[str, str], list[str]] = {}
    for cohort, of_clocks in (running or {}).items():
        main = by_cohort.get(cohort, rule)
        for clock, words in of_clocks.items():
            since = "" if clock == main.clock else f" from {clock_words(clock)}"
            by_day.setdefault((f"{main.by_day}{since}", words), []).append(cohort)
    for (day, words), cohorts in by_day.items():
        told = UNDER_TREATMENT.format(day=day, running=f"{words} in {', '.join(cohorts)}")
        text += f". {told[0].upper()}{told[1:]}"
    found: dict[str, Any] = {
        "rule_text": text,
        "rule_clock": rule.clock if len({one.clock for one in every}) == 1 else "each cohort's own",
        "treatment_running": len(treated(running or {}, by_cohort)),
    }
    marks = [_marks(one) for one in every]
    found |= {k: v for k, v in marks[0].items() if all(m.get(k) == v for m in marks)}
    if "rule_by_day" in found and found["rule_clock"] == FIRST_DOSE:
        first, *others = set(first_days)
        found["rule_protocol_day"] = np.nan if others else first - 1 + found["rule_by_day"]
    return found


def treated(
    running: Mapping[str, Mapping[str, str]], rules: Mapping[str, DLTRule]
) -> tuple[str, ...]:
    """Cohorts in which treatment goes on when their rule looks by its own clock, the main one."""
    return tuple(cohort for cohort, rule in rules.items() if rule.clock in running.get(cohort, {}))


def _marks(rule: DLTRule) -> dict[str, Any]:
    """Kind, thresholds and day of a rule that figures mark."""
    found: dict[str, Any] = {"rule_kind": rule.kind}
    found |= {f"rule_{c.line}": c.at_least for c in rule.criteria}
    return found if rule.by_day is None else {**found, "rule_by_day": rule.by_day}
