"""Figures and endpoints in words: the same in the terminal, in the figures and in the report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pkpd.cards.drug_actions import FRIBERG
from pkpd.comparison.published import clopper_pearson
from pkpd.endpoints.definitions import THRESHOLDS

if TYPE_CHECKING:
    from pkpd.comparison.results import EndpointRow, Figure, TrialResult
    from pkpd.trials import Cohort, Trial

NOT_REACHED = "not reached"
UNITS = {"probability": "%", "fraction": "%", "day": "day", "10^9/L": "10^9/L"}
_IN_PERCENT = ("probability", "fraction")
_SINGULAR = {"neutrophils": "neutrophil", "platelets": "platelet"}
_CRITERION = re.compile(r"^\s*(?:(?P<line>[A-Za-z_]+)\s*)?>=\s*(?P<at>[0-9.]+)\s*$")


# -- single figures -------------------------------------------------------------------------


def percent(p: float, mc_error: float = float("nan"), *, sign: bool = False) -> str:
    """Probability in per cent, with no more digits than its Monte Carlo error supports.

    Parameters
    ----------
    p
        Probability, or a difference of two with ``sign=True``.
    mc_error
        Monte Carlo standard error of `p`, as a probability. The last printed digit is never
        finer than the first digit of the error. Without an error whole per cents are printed.
    sign
        Write ``+`` before a positive figure and leave out the unit.

    Returns
    -------
    str
        Such as ``"17 %"``, ``"0.4 %"``, ``"<1 %"`` (a probability above 0 that rounds to 0),
        ``">99 %"``, or ``"-"`` for NaN. Decimals appear below 10 % and above 90 % only.
    """
    if math.isnan(p):
        return "-"
    decimals = _percent_decimals(p, mc_error)
    step = 10.0**-decimals
    value = round(100.0 * p, decimals)
    places = max(decimals, 0)
    if sign:
        # a difference that rounds to nothing has no sign
        return f"{value:+.{places}f}" if value != 0 else f"{0:.{places}f}"
    if value <= 0.0 and p > 0.0:
        return f"<{step:.{places}f} %"
    if value >= 100.0 and p < 1.0:
        return f">{100.0 - step:.{places}f} %"
    return f"{value:.{places}f} %"


def percent_range(lower: float, upper: float, p: float, mc_error: float = float("nan")) -> str:
    """Interval of a probability, with the digits that its estimate `p` is printed with.

    It holds the estimate as printed: one that is rounded to tens may lie beyond an end.
    """
    if math.isnan(lower) or math.isnan(upper):
        return "-"
    decimals = _percent_decimals(p, mc_error)
    places = max(decimals, 0)
    step = 10.0**-places
    low, high = round(100.0 * lower, places), round(100.0 * upper, places)
    if lower <= p <= upper:
        told = round(100.0 * p, decimals)
        low, high = min(low, told), max(high, told)
    ends = [f"{low:.{places}f}", f"{high:.{places}f}"]
    if high <= 0.0 < upper:
        ends[1] = f"<{step:.{places}f}"
    if low >= 100.0 and lower < 1.0:
        ends[0] = f">{100.0 - step:.{places}f}"
    return f"{ends[0]} to {ends[1]} %"


def _percent_decimals(p: float, mc_error: float) -> int:
    most = 1 if min(abs(p), abs(1.0 - p)) < 0.1 else 0
    error = 100.0 * mc_error
    if not math.isfinite(error) or error <= 0.0:
        return 0
    return max(-1, min(most, -math.floor(math.log10(error))))


def number(value: float, unit: str, mc_error: float = float("nan")) -> str:
    """One figure of an endpoint without its unit.

    Parameters
    ----------
    value
        The figure; ``inf`` is printed as ``not reached``, NaN as ``-``.
    unit
        ``"probability"`` and ``"fraction"`` give per cent, ``"day"`` whole days, anything else two
        significant digits and at most two decimals, as a laboratory reports counts.
    mc_error
        Monte Carlo standard error in the same unit.
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return NOT_REACHED if value > 0 else "before"
    if unit in _IN_PERCENT:
        return percent(value, mc_error)
    if unit == "day":
        return f"{value:.0f}"
    if 0.0 < value < 0.005:
        return "<0.01"
    return f"{value:.{_decimals(value, mc_error)}f}"


def _decimals(value: float, mc_error: float) -> int:
    places = 0 if value == 0.0 else 1 - math.floor(math.log10(abs(value)))
    if math.isfinite(mc_error) and mc_error > 0.0:
        places = min(places, -math.floor(math.log10(mc_error)))
    return max(0, min(places, 2))


NO_INTERVAL = "an interval cannot be told from so few"


def no_interval(lower: float, upper: float) -> bool:
    """Whether an interval is not given: see `pkpd.comparison.uncertainty`."""
    return math.isnan(lower) or math.isnan(upper)


def number_range(
    lower: float, upper: float, unit: str, value: float, mc_error: float = float("nan")
) -> str:
    """Interval of an endpoint without its unit; ``-`` if there is none."""
    if no_interval(lower, upper):
        return "-"
    if unit in _IN_PERCENT:
        return percent_range(lower, upper, value, mc_error)
    if math.isinf(lower):
        return NOT_REACHED
    low = number(lower, unit)
    high = number(upper, unit)
    if lower <= value <= upper and math.isfinite(value):
        # the estimate as printed, with fewer digits where its error is large
        told = number(value, unit, mc_error)
        low = told if _printed(told) < _printed(low) else low
        high = told if _printed(told) > _printed(high) else high
    return low if low == high else f"{low} to {high}"


def _printed(text: str) -> float:
    """Read a number as printed; what is below the last digit counts as that digit's half."""
    if text in (NOT_REACHED, "before"):
        return math.inf if text == NOT_REACHED else -math.inf
    return 0.5 * float(text[1:]) if text.startswith("<") else float(text)


def difference_range(lower: float, upper: float, mc_error: float) -> str:
    """Interval of a difference of risks in points; ``-`` if the draws tell nothing."""
    if no_interval(lower, upper):
        return "-"
    low, high = (percent(value, mc_error, sign=True) for value in (lower, upper))
    return f"{low} to {high}"


NOT_JUDGED = "not judged"
"""In place of a risk that too few patients can be judged for."""
NOT_LOW = "not low after the planned last dose"
"""In place of a day of recovery: never low, or back before the planned last dose of the cycle."""


def is_not_low(row: EndpointRow) -> bool:
    """Whether a row is a day of recovery, with its patient not low after that dose."""
    return "recovery_day" in row.endpoint and row.estimate == 0.0


def judged_text(row: EndpointRow) -> str:
    """Tell of which share of the patients a row is, such as ``of 64 % judged``; empty if of all.

    Patients have no verdict who died before the rule's day, or have leukaemia on it; a death after
    the event of a rule of low counts has one.
    """
    if math.isnan(row.evaluable) or row.evaluable > 0.995:
        return ""
    usual = "judged" if row.endpoint.startswith(("dlt", "grade")) else "whose clock starts"
    return f"of {percent(row.evaluable)} {_OF_WHOM.get(row.endpoint, usual)}"


def estimate_text(row: EndpointRow) -> str:
    """Estimate of a row; a recovery day of 0 is told in words."""
    if row.endpoint == "dlt" and math.isnan(row.estimate) and not math.isnan(row.evaluable):
        return NOT_JUDGED
    if is_not_low(row):
        return NOT_LOW
    return number(row.estimate, row.unit, row.mc_error)


def error_text(mc_error: float, unit: str) -> str:
    """Monte Carlo standard error, one significant digit; percentage points for a probability."""
    if not math.isfinite(mc_error):
        return "-"
    value = 100.0 * mc_error if unit in _IN_PERCENT else mc_error
    if value <= 0.0:
        return "±0"
    if value < 0.005:
        return "<0.01"
    return f"±{value:.{max(0, min(2, -math.floor(math.log10(value))))}f}"


def shares(row: EndpointRow) -> str:
    """Shares of the variance of one new patient's outcome: patients / parameters, in per cent."""
    if math.isnan(row.share_patients) or math.isnan(row.share_parameters):
        return "-"
    patients = round(100.0 * row.share_patients)
    return f"{patients}/{100 - patients}"


# -- endpoints ------------------------------------------------------------------------------


HEADLINES = (
    *("dlt", "dlt_at_any_dose", "nadir", "recovery_day", "grade_4", "count_at_clock"),
    *("complete_remission", "response", "early_death"),
    *("starts_on_time", "starts_late", "starts_never", "days_late"),
    *("cycles_started", "relative_dose_intensity"),
)
"""Endpoints a table for reading shows; the files hold all of them."""

OTHERWISE = ("never_low", "back_before_last_dose", "not_before_next_cycle")
"""Shares of those who have no day of recovery; with those who have one they are all who started."""

_OF_WHOM = {
    **dict.fromkeys(("starts_on_time", "starts_late", "starts_never"), "alive then"),
    "days_late": "who start late",
    **dict.fromkeys(("cycles_started", "relative_dose_intensity"), "alive at the end"),
    "remission_day": "in it",
    "recovery_day_in_remission": "in it after low counts",
}

_NAMED = {
    "starts_on_time": "{rule}: on time",
    "starts_late": "{rule}: later",
    "starts_never": "{rule}: never",
    "days_late": "{rule}: late by",
    "cycles_started": "{rule}: cycles started, of those planned",
    "relative_dose_intensity": "{rule}: dose intensity",
    "count_at_clock": "{line} on {rule} day 1",
    "sustained_recovery_day": "{line} {rule} for 7 days",
    "recovery_day_on_visits": "{line} {rule} on visits",
    "never_low": "{line} {rule} at all times of the cycle",
    "back_before_last_dose": "{line} {rule} before the planned last dose",
    "not_before_next_cycle": "{line} {rule} not before the next cycle",
    "days_below": "{line} {rule}, time",
    "platelet_transfusions": "platelet transfusions",
    "dlt_on_visits": "DLT as visits see it",
    "split": "{rule}",
    "dlt_at_any_dose": "DLT whatever the dose",
    "nadir_day": "{line} nadir {rule}",
    "complete_remission": "complete remission",
    "remission_any_counts": "remission, any counts",
    "response": "response (CR, CRi, PR)",
    "remission_day": "complete remission from day 1",
    "early_death": "death {rule}",
    "count_at_start": "{line} at start",
    "grade_3_4_at_start": "{line} grade 3-4 at start",
    "recovery_day_in_remission": "{line} {rule} from day 1, in remission",
}


def is_headline(row: EndpointRow) -> bool:
    """Whether a row belongs in a table for reading, or was published without a prediction."""
    if row.endpoint == "recovery_day":
        return row.rule != ">= 25"
    if row.endpoint in OTHERWISE:
        return row.estimate >= 0.005 and row.rule == f">= {THRESHOLDS[row.line][0]:g}"
    return row.endpoint in HEADLINES or row.rule == "published only"


def endpoint_name(row: EndpointRow, *, unit: bool = True) -> str:
    """Name the endpoint as a reader does, with its unit: ``platelets >= 20, day``."""
    line = row.line or "counts"
    told = judged_text(row) if unit else ""
    if row.endpoint in _NAMED:
        rule = row.rule or "from the first dose"  # of nadirs' days; no other without a rule asks
        name = _NAMED[row.endpoint].format(line=line, rule=rule)
        shown = unit and row.unit not in (*_IN_PERCENT, "number", "")
        return ", ".join(filter(None, (name, row.unit if shown else "", told)))
    if row.rule == "published only":
        return f"{row.endpoint.replace('_', ' ')} (published)"
    if row.endpoint == "nadir":
        name = f"{_SINGULAR.get(row.line, line)} nadir {row.rule}".rstrip()
    elif row.endpoint == "recovery_day":
        name = f"{line} {row.rule}".strip() if row.line not in row.rule else row.rule
    elif row.endpoint == "dlt":
        name = ", ".join(filter(None, ("DLT", row.rule)))
    elif grade := re.fullmatch(r"grade_(\d)(?:_(\d))?", row.endpoint):
        low, high = grade.groups()
        name = f"{line} grade {low}" + (f"-{high}" if high else "")
    else:
        words = row.endpoint.replace("_", " ")
        name = " ".join(part for part in (row.line, words, row.rule) if part)
    if not unit:
        return name
    if row.endpoint == "recovery_day":
        name = f"{name}, day"
    elif row.unit != "probability":
        name = f"{name} {row.unit}"
    return ", ".join(filter(None, (name, told)))


@dataclass(frozen=True)
class Published:
    """A published figure and its interval.

    Attributes
    ----------
    value, lower, upper
        In the unit of the endpoint; NaN where nothing was published.
    count
        ``"2/6"``, or an empty string if no count was published.
    interval
        What the interval is: ``"95 % Clopper-Pearson"``, ``"as published"``, or empty.
    """

    value: float
    lower: float
    upper: float
    count: str
    interval: str


def published(row: EndpointRow) -> Published | None:
    """Return the published figure of a row, or None if nothing was published.

    An interval in the row is kept. Without one, a count k/n gets its exact 95 % interval
    (Clopper and Pearson 1934), so that small cohorts show how little they say.
    """
    k, n = row.published_numerator, row.published_denominator
    has_count = math.isfinite(k) and math.isfinite(n) and n > 0
    value = row.published
    if math.isnan(value) and has_count:
        value = k / n
    if math.isnan(value):
        return None
    lower, upper, kind = row.published_lower, row.published_upper, ""
    exact = _exact(k, n) if has_count else None
    if math.isfinite(lower) and math.isfinite(upper):
        same = exact is not None and max(abs(lower - exact[0]), abs(upper - exact[1])) < 0.006
        kind = "95 % Clopper-Pearson" if same else "as published"
    elif exact is not None and row.unit == "probability":
        lower, upper = exact
        kind = "95 % Clopper-Pearson"
    return Published(value, lower, upper, f"{k:.0f}/{n:.0f}" if has_count else "", kind)


def _exact(k: float, n: float) -> tuple[float, float]:
    interval = clopper_pearson(k, n)
    return float(interval.lower), float(interval.upper)


def risk_text(row: EndpointRow, words: str = "90 % interval ") -> str:
    """Write a risk with its interval; if there is none, with the words for that after ``words``."""
    span = number_range(row.lower, row.upper, row.unit, row.estimate, row.mc_error)
    if no_interval(row.lower, row.upper):
        words, span = "", NO_INTERVAL if words else ""
    return estimate_text(row) + (f" ({words}{span})" if span else "")


def published_text(row: EndpointRow, *, separator: str = " ") -> str:
    """Write the published figure with its interval: ``2/6 = 33 % (4 to 78 %)``; empty if none."""
    figure = published(row)
    if figure is None:
        return ""
    text = number(figure.value, row.unit)
    if figure.count:
        text = f"{figure.count} = {text}"
    if math.isfinite(figure.lower) and math.isfinite(figure.upper):
        span = number_range(figure.lower, figure.upper, row.unit, figure.value)
        text += f"{separator}({span})"
    return text


# -- pairs, assumptions, footers ------------------------------------------------------------


def assumed_inputs(rows: Iterable[EndpointRow]) -> dict[str, int]:
    """Assumed inputs of some rows, each with the number of rows that rest on it."""
    resting: dict[str, int] = {}
    for row in rows:
        for name in dict.fromkeys(part.strip() for part in row.assumed.split(";")):
            if name:
                resting[name] = resting.get(name, 0) + 1
    return resting


def counted(number: int, noun: str) -> str:
    """Write ``1 patient`` or ``2 patients``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def cohorts(trial: Trial) -> dict[str, Cohort]:
    """Cohorts of all arms of a trial by identifier, in protocol order."""
    return {cohort.id: cohort for cohort in trial.cohorts}


def cohort_title(trial: Trial, cohort_id: str) -> str:
    """``14d-10: lenalidomide 10 mg, days 1-14``; the identifier alone if the label adds nothing."""
    cohort = cohorts(trial).get(cohort_id)
    label = cohort.label if cohort is not None else ""
    return cohort_id if label in ("", cohort_id) else f"{cohort_id}: {label}"


def dlt_rows(result: TrialResult, rule: str | None = None) -> list[EndpointRow]:
    """Rows of the DLT risk, one for each cohort, in the order of the cohorts.

    Without `rule`, a cohort's own rule is taken, else the trial's, else its first row.
    """
    known = cohorts(result.trial)
    chosen: dict[str, EndpointRow] = {}
    for row in result.rows:
        if row.endpoint != "dlt" or (rule is not None and row.rule != rule):
            continue
        cohort = known.get(row.cohort)
        own = (cohort.rule if cohort is not None else None) or result.trial.rule
        if row.cohort not in chosen or (row.rule == own and chosen[row.cohort].rule != own):
            chosen[row.cohort] = row
    return list(chosen.values())


def criterion(name: str) -> tuple[str, float]:
    """Line and threshold (10^9/L) of a criterion's name, such as ``neutrophils >= 0.5``."""
    found = _CRITERION.match(str(name))
    if found is None:
        return "", float("nan")
    return found["line"] or "", float(found["at"])


def size_text(trial: TrialResult, record: Mapping[str, Any] | None = None) -> str:
    """``1000 patients x 200 parameter draws``, as far as it is known."""
    settings = (record or {}).get("settings", {})
    attrs = trial.curves.attrs
    patients = attrs.get("patients", settings.get("patients"))
    draws = attrs.get("draws", settings.get("draws", trial.curves.sizes.get("draw")))
    parts = [counted(int(patients), "patient")] if patients is not None else []
    parts += [counted(int(draws), "parameter draw")] if draws is not None else []
    return " x ".join(parts)


def risk_name(trial: TrialResult) -> str:
    """Name what the rule's share of patients measures: toxicity, or low counts on treatment."""
    attrs = trial.curves.attrs
    running = int(attrs.get("treatment_running", 0))
    if not running:
        return "risk of a dose-limiting toxicity"
    if running < len(trial.trial.cohorts):
        return "risk of toxicity, or of low counts on treatment"
    recovery = str(attrs.get("rule_kind", "")).startswith("not_recovered")
    told = "not recovered on the rule's day" if recovery else "low counts by the rule"
    return f"{told}, on treatment"


def rule_text(trial: TrialResult) -> str:
    """Tell the DLT rule in words, or at least by name."""
    text = trial.curves.attrs.get("rule_text")
    if text:
        return str(text)
    names = dict.fromkeys(r.rule for r in trial.rows if r.endpoint == "dlt" and r.rule)
    return ", ".join(names) or (trial.trial.rule or "no DLT rule")


def marrow_text(known: Mapping[str, Any]) -> str:
    """Name the marrow of a trial or row and its posterior or fit; empty for one of cards alone."""
    posterior, kind = known.get("posterior"), known.get("marrow")
    without = "without" if kind == FRIBERG else "with"
    return f"Marrow {without} leukaemia, {posterior}" if posterior else ""


def other_marrow_text(record: Mapping[str, Any]) -> str:
    """Tell that the marrow is that without leukaemia, and why; empty where no other was there."""
    known = record.get("marrow", {})
    if not known or "posterior" in known:
        return ""
    return f"Marrow without leukaemia ({known['chosen']})."


def cell_text(cell: str | Figure) -> str:
    """Write a cell of a question's table: ``15 % (4 to 38 %)``, or its words."""
    if isinstance(cell, str):
        return cell
    if cell.unit == "difference":
        middle, low, high = (percent(v, sign=True) for v in (cell.value, cell.lower, cell.upper))
        middle, span = f"{middle} points", f"{low} to {high}"
    else:
        middle = number(cell.value, cell.unit)
        span = number_range(cell.lower, cell.upper, cell.unit, cell.value)
    return middle if math.isnan(cell.lower) else f"{middle} ({span})"
