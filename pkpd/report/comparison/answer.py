"""The answer of a trial in one sentence: risk with its denominator, and when counts recover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pkpd.comparison.delivery import start_name
from pkpd.endpoints.starts import STARTS
from pkpd.report import wording
from pkpd.report.comparison.split_words import of_100_patients

if TYPE_CHECKING:
    from pkpd.comparison.results import EndpointRow, TrialResult


def answer_sentence(result: TrialResult, *, everybody: bool = True) -> str:
    """Say what the simulation answers, over all cohorts; empty without risk and recovery.

    First whether differences between cohorts are learned, then what becomes of 100 patients, the
    risk of those who can be judged, the days of recovery, and whether what counts can delay starts
    in time.

    Parameters
    ----------
    result
        The trial.
    everybody
        Whether the 100 patients are told, how differences were tested, and the usual units.
    """
    recovery = _recovery(result, whole=everybody)
    parts = [part for part in (_risk(result), recovery, *_starts(result)) if part]
    if not parts:
        return ""
    known = differences_sentence(result) if everybody else ""
    of_100 = of_100_patients(result) if everybody and "split" in result.curves else ""
    return " ".join(filter(None, (known, of_100, f"In this model {'; '.join(parts)}.")))


def differences_sentence(result: TrialResult, *, whole: bool = True) -> str:
    """Say whether differences between cohorts are learned, assumed or not known.

    Parameters
    ----------
    result
        The trial; empty for one cohort, and where nothing is known of its marrow.
    whole
        Whether it says how that was tested.
    """
    told = str(result.curves.attrs.get("differences", ""))
    if not told or len({row.cohort for row in result.rows}) < 2:
        return ""
    return f"Differences between cohorts are {told if whole else told.partition(':')[0]}."


def recovery_thresholds(result: TrialResult) -> dict[str, float]:
    """Threshold of recovery of each line for short answers, 10^9/L: the rule's, else the lowest."""
    names = [str(c) for c in result.curves["criterion"].values]
    chosen = {}
    for line in ("neutrophils", "platelets"):
        known = sorted(at for name, at in map(wording.criterion, names) if name == line)
        own = result.curves.attrs.get(f"rule_{line}")
        if own is not None and float(own) in known:
            chosen[line] = float(own)
        elif known:
            chosen[line] = known[0]
    return chosen


def recovery_row(rows: Sequence[EndpointRow], line: str, at: float) -> EndpointRow | None:
    """Row of the day on which a line recovers to a threshold."""
    days = [r for r in rows if r.endpoint == "recovery_day" and r.line == line]
    return next((r for r in days if wording.criterion(r.rule)[1] == at), None)


def _risk(result: TrialResult) -> str:
    rows = wording.dlt_rows(result)
    known = [row for row in rows if math.isfinite(row.estimate)]
    if not rows:
        return ""
    customary = not result.trial.rule_is_protocols
    name, rule = wording.risk_name(result), "a customary rule" if customary else "the rule"
    if name.startswith("not recovered"):
        name = f"share of patients not recovered on the day of {rule}, on treatment,"
    elif name.startswith("low counts"):
        name = f"share of patients with low counts by {rule}, on treatment,"
    else:
        name += "," * ("," in name) + f" under {rule}" * customary
        assumed = any(f"rule {row.rule}: assumed" in row.assumed for row in rows)
        name += " with recovery at assumed counts" * (assumed and not customary)
    if not known:
        return f"too few patients can be judged for the {name.rstrip(',')}"
    low, high = (pick(known, key=lambda row: row.estimate) for pick in (min, max))
    texts = [wording.percent(row.estimate, row.mc_error) for row in (low, high)]
    spread = [r for r in known if not wording.no_interval(r.lower, r.upper)]
    if spread:
        ends = min(row.lower for row in spread), max(row.upper for row in spread)
        span = wording.percent_range(*ends, low.estimate, low.mc_error)
    else:
        span = ""
    if len(known) == 1:
        told = texts[0] + (f" (90 % interval {span})" if span else f" ({wording.NO_INTERVAL})")
    else:
        told = f"{_range(texts)} in {len(known)} cohorts"
        told += f" (90 % intervals within {span})" if span else f" ({wording.NO_INTERVAL})"
    shares = [row.evaluable for row in known if math.isfinite(row.evaluable)]
    if all(share > 0.995 for share in shares):
        return f"the {name} is {told}"
    of = _range([wording.percent(end) for end in (min(shares), max(shares))])
    return f"the {name} is {told}, of the {of} of patients who can be judged"


def _recovery(result: TrialResult, *, whole: bool) -> str:
    clock = str(result.curves.attrs.get("rule_clock", "first_dose"))
    units = ["10^9/L"] if whole else []
    if clock != "first_dose":
        units.append(f"days since {clock} day 1")
    elif whole:
        units.append("days since the first dose")
    parts = []
    for line, at in recovery_thresholds(result).items():
        found = (
            recovery_row([r for r in result.rows if r.cohort == c], line, at)
            for c in dict.fromkeys(row.cohort for row in result.rows)
        )
        days = [row.estimate for row in found if row and not math.isnan(row.estimate)]
        if not days:
            continue
        ends = any(
            r.endpoint == "not_before_next_cycle" and r.line == line and r.estimate > 0
            for r in result.rows
        )
        if max(days) == 0.0:
            rule = f">= {at:g}"
            never = [
                r for r in result.rows if (r.endpoint, r.line, r.rule) == ("never_low", line, rule)
            ]
            if never and min(row.estimate for row in never) > 0.5:
                parts.append(f"{line} never below {at:g}")
            else:
                parts.append(f"{line} not below {at:g} after the planned last dose")
        elif math.isinf(min(days)):
            last = int(result.curves["day"].values[-1])
            until = "when the next cycle begins" if ends else f"up to day {last}"
            parts.append(f"{line} below {at:g} {until}")
        elif ends and math.isinf(max(days)):
            seen = [_day(day) for day in sorted(days) if not math.isinf(day)]
            never = sum(map(math.isinf, days))
            parts.append(
                f"{line} >= {at:g} after {_range(seen)} days ({never} of {len(days)} cohorts: not "
                "before the next cycle)"
            )
        else:
            texts = [_day(day) for day in (min(days), max(days))]
            parts.append(f"{line} >= {at:g} after {_range(texts)} days")
    if not parts:
        return ""
    told = f" ({'; '.join(units)})" if units else ""
    return f"the median patient has {' and '.join(parts)}{told}"


def _starts(result: TrialResult) -> list[str]:
    """Whether cycles and courses that counts can delay start on their planned days."""
    rows: dict[str, dict[str, list[EndpointRow]]] = {}
    for row in result.rows:
        if row.endpoint in (*STARTS, "days_late"):
            rows.setdefault(row.rule, {}).setdefault(row.endpoint, []).append(row)
    return [_start(rule, of) for rule, of in rows.items()]


def _start(rule: str, rows: Mapping[str, Sequence[EndpointRow]]) -> str:
    shares = []
    for endpoint in STARTS:
        known = [row for row in rows[endpoint] if math.isfinite(row.estimate)]
        ends = [pick(known, key=lambda row: row.estimate) for pick in (min, max) if known]
        shares.append(
            _range([wording.percent(row.estimate, row.mc_error) for row in ends] or ["-"])
        )
    days = sorted(row.estimate for row in rows["days_late"] if math.isfinite(row.estimate))
    median = f" (median {_range([f'{day:.0f}' for day in days])} days)" if days else ""
    return (
        f"{start_name(rule)} starts on its planned day{rule.removeprefix(start_name(rule))} in "
        f"{shares[0]} of those alive then, later in {shares[1]}{median}, never in {shares[2]}"
    )


def _day(day: float) -> str:
    if math.isinf(day):
        return "more than the simulated"
    return f"0 ({wording.NOT_LOW})" if day == 0.0 else f"{day:.0f}"


def _range(texts: Sequence[str]) -> str:
    """Two ends as one text: ``27 %``, ``27 to 28 %``, ``32 to 33``."""
    low, high = texts[0], texts[-1]
    if low == high:
        return low
    return f"{low.removesuffix(' %')} to {high}"
