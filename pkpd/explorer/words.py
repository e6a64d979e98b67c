"""What a page says of a state: a sentence and a table under each picture, and the numbers drawn.

Sentences are those of the report where it has them (`pkpd.report`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pkpd.cards.trial_cards import FIRST_DOSE, clock_day_1
from pkpd.comparison.results import EndpointRow, PairRow, row_kind
from pkpd.endpoints.starts import STARTS
from pkpd.explorer.script import command_line, script
from pkpd.explorer.simulation import Explored
from pkpd.explorer.toml import write_toml
from pkpd.report import wording
from pkpd.report.comparison.answer import answer_sentence
from pkpd.report.comparison.beside_tables import rule_protocol_day
from pkpd.report.comparison.split_words import COLOURS, of_100, split_sentence, split_states
from pkpd.report.comparison.tables import csv_text
from pkpd.schedule import describe
from pkpd.trials import Cohort, DLTRule

Table = dict[str, list[Any]]
_DIGITS = 4


def page_content(found: Explored) -> dict[str, Any]:
    """Everything a page shows of a state, ready for JSON."""
    state, result = found.state, found.result
    trial = result.trial
    lanes = state.patients * state.draws
    return {
        "toml": write_toml(state.data),
        "python": script(state),
        "command": command_line(state),
        "title": trial.title,
        "size": f"{lanes:,} virtual patients on each schedule: {state.draws} draws of what is not "
        f"known times the same {state.patients} patients",
        "simulated": found.simulated,
        "answer": answer_sentence(result),
        **_drawn(found),
        "differences": [_difference(found, row) for row in _from_first(found)],
        "sections": {
            "counts": {"sentence": _counts_sentence(found), "table": _counts_table(found)},
            "recovery": {"sentence": _recovery_sentence(found), "table": _recovery_table(found)},
            "split": {"sentence": split_sentence(result), "table": _split_table(found)},
            "dlt": {"sentence": _dlt_sentence(found), "table": _dlt_table(found)},
            "differences": {
                "sentence": _differences_sentence(found),
                "table": _differences_table(found),
            },
        },
        "assumed": {key: list(texts) for key, texts in found.assumed.items()},
        "assumptions": list(result.assumptions),
        "limits": list(result.limits),
    }


def sketch_content(found: Explored) -> dict[str, Any]:
    """Give what a page draws of a sketch, and say of how many draws it is."""
    of = f"{found.draws} of {found.state.draws} draws"
    return {"sketch": f"Curves of {of}; figures and words follow.", **_drawn(found)}


def csv_of(found: Explored) -> str:
    """Rows of the tables as CSV, with the columns of ``results.csv``."""
    rows = found.result.rows
    columns = list(row_kind(rows).__dataclass_fields__)
    return csv_text(columns, ([getattr(row, c) for c in columns] for row in rows))


# -- numbers of the pictures ------------------------------------------------------------------


def _drawn(found: Explored) -> dict[str, Any]:
    result = found.result
    states = split_states(result)
    return {
        "rule": _rule(found),
        "days": result.trial.horizon_days,
        "quantiles": result.curves["quantile"].values.tolist(),
        "states": states,
        "colours": {state: COLOURS[state] for state in states},
        "schedules": [_schedule(found, cohort) for cohort in result.trial.cohorts],
    }


def _rule(found: Explored) -> dict[str, Any]:
    rule, attrs = found.rule, found.result.curves.attrs
    return {
        "name": rule.name,
        "text": wording.rule_text(found.result),
        "by_day": rule_protocol_day(found.result),
        "at": _thresholds(rule),
        "risk": wording.risk_name(found.result),
        "clock": str(attrs.get("rule_clock", "first_dose")),
    }


def _thresholds(rule: DLTRule) -> dict[str, float]:
    return {c.line: c.at_least for c in rule.criteria}


def _schedule(found: Explored, cohort: Cohort) -> dict[str, Any]:
    number = _cohorts(found).index(cohort)
    states = [found.states.index(state) for state in split_states(found.result)]
    row = _row(found, cohort, "dlt")
    published = None if row is None else wording.published(row)
    own = found.rules[cohort.id]
    return {
        "id": cohort.id,
        "label": cohort.label,
        **({"at": _thresholds(own)} if own.criteria != found.rule.criteria else {}),
        "words": describe(cohort.regimen),
        "counts": _by(found, "line", "counts", number),
        "dosed": _by(found, "drug", "dose_given", number),
        "recovered": _by(found, "criterion", "recovered_interval", number),
        "split": _plain(found.result.curves["split"].values[number, states]),
        "dlt": None
        if row is None
        else {
            "estimate": _number(row.estimate),
            "lower": _number(row.lower),
            "upper": _number(row.upper),
            "judged": _number(row.evaluable),
            "not_judged": row.not_judged,
        },
        "published": None
        if published is None
        else {
            "value": _number(published.value),
            "lower": _number(published.lower),
            "upper": _number(published.upper),
            "interval": published.interval,
            "text": "" if row is None else wording.published_text(row),
            "source": "" if row is None else row.published_source,
        },
    }


def _by(found: Explored, dimension: str, name: str, number: int) -> dict[str, list[Any]]:
    """Curves of one schedule by line, drug or criterion."""
    curves = found.result.curves
    values = curves[name].values[number]
    return {str(key): _plain(v) for key, v in zip(curves[dimension].values, values, strict=True)}


def _difference(found: Explored, row: PairRow) -> dict[str, Any]:
    return {
        "first": _label(found, row.first),
        "second": _label(found, row.second),
        "what": _what(found, row),
        "estimate": _number(row.difference),
        "lower": _number(row.lower),
        "upper": _number(row.upper),
        "text": _points(row),
    }


def _plain(values: Any) -> list[Any]:
    """Numbers with four digits, none where there is none."""
    array = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = _DIGITS - 1 - np.floor(np.log10(np.abs(array)))
        scale = 10.0 ** np.where(np.isfinite(places), np.clip(places, 0, 8), 0)
    told = np.round(array * scale) / scale
    return np.where(np.isfinite(array), told, np.array(None, dtype=object)).tolist()


def _number(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


# -- sentences --------------------------------------------------------------------------------


def _counts_sentence(found: Explored) -> str:
    parts = []
    for cohort in _cohorts(found):
        told = []
        for line in map(str, found.result.curves["line"].values):
            low, day = _row(found, cohort, "nadir", line), _row(found, cohort, "nadir_day", line)
            if low is not None and day is not None:
                on = day.estimate + clock_day_1(cohort.regimen, FIRST_DOSE)  # a protocol day
                at = "" if math.isnan(on) else f" on day {on:.0f}"
                told.append(f"{line} {wording.estimate_text(low)}{at}")
        if told:
            parts.append(f"{cohort.label}: {' and '.join(told)}")
    if not parts:
        return ""
    return f"Lowest count of each patient, median (10^9/L) and day. {'; '.join(parts)}."


def _recovery_sentence(found: Explored) -> str:
    """Say how many have recovered by the rule's day, line by line."""
    curves, day = found.result.curves, _look_day(found)
    bands, names = curves["recovered_interval"].values, list(map(str, curves["criterion"].values))
    parts = []
    for number, cohort in enumerate(_cohorts(found)):
        told = []
        for name in names:
            middle = float(bands[number, names.index(name), 1, day - 1])
            if not math.isnan(middle):
                told.append(f"{name} in {wording.percent(middle)}")
        if told:
            parts.append(f"{cohort.label}: {', '.join(told)}")
    if not parts:
        return ""
    return f"Recovered by the end of day {day - 1} (10^9/L). {'; '.join(parts)}."


def _dlt_sentence(found: Explored) -> str:
    name = found.result.trial.rule_is_protocols
    parts = []
    for cohort in _cohorts(found):
        row = _row(found, cohort, "dlt")
        if row is None:
            continue
        if math.isnan(row.estimate):
            parts.append(f"{cohort.label}: too few patients can be judged ({row.not_judged})")
            continue
        text = f"{cohort.label}: {wording.risk_text(row)}"
        judged = wording.judged_text(row)
        parts.append(text + (f", {judged}" if judged else "") + _published_words(row))
    kind = wording.risk_name(found.result).capitalize()
    custom = "" if name else ", under a customary rule"
    return f"{kind}{custom}. {'; '.join(parts)}." if parts else ""


def _published_words(row: EndpointRow) -> str:
    text = wording.published_text(row)
    return f"; published {text}" if text else ""


def _differences_sentence(found: Explored) -> str:
    rows = [row for row in _from_first(found) if row.rule.startswith(found.rule.name)]
    if not found.differences:
        return "With one schedule there is nothing to compare." if len(_cohorts(found)) == 1 else ""
    texts = []
    for row in rows:
        size = abs(row.difference)
        few = math.isfinite(row.mc_error) and size < 2.0 * row.mc_error
        tie = " (no more than chance)" if few else ""
        texts.append(
            f"{_label(found, row.first)} minus {_label(found, row.second)}: {_points(row)}{tie}; "
            f"the first has the lower risk in {wording.percent(row.p_first_safer)} of the draws"
        )
    head = "Differences in the same patients and draws, in percentage points"
    if len(_cohorts(found)) > 2:
        head += f", from {_cohorts(found)[0].label} (all pairs are in the table)"
    return f"{head}. {'. '.join(texts)}." if texts else f"{head}: the rule cannot judge enough."


# -- tables -----------------------------------------------------------------------------------


def _counts_table(found: Explored) -> Table:
    rows = []
    for cohort in _cohorts(found):
        for line in map(str, found.result.curves["line"].values):
            for endpoint in ("nadir", "grade_4"):
                rows += _cells(found, cohort, endpoint, line)
        rows += _cells(found, cohort, "platelet_transfusions", "platelets")
    return table_of(("Schedule", "Endpoint", "Median or share", "90 % interval"), rows)


def _recovery_table(found: Explored) -> Table:
    rows = []
    for cohort in _cohorts(found):
        for line in map(str, found.result.curves["line"].values):
            for endpoint in ("recovery_day", *wording.OTHERWISE):
                rows += _cells(found, cohort, endpoint, line)
        for endpoint in (*STARTS, "days_late"):
            rows += _cells(found, cohort, endpoint, None)
        rows += _cells(found, cohort, "relative_dose_intensity", None)
    return table_of(("Schedule", "Endpoint", "Median", "90 % interval"), rows)


def _split_table(found: Explored) -> Table:
    split, states = found.result.curves["split"].values, split_states(found.result)
    chosen, last = [found.states.index(state) for state in states], split.shape[-1]
    days = {day for day in (29, _look_day(found), 61, last) if day <= last}
    rows = []
    for number, cohort in enumerate(_cohorts(found)):
        for day in sorted(days):
            numbers = of_100(split[number, chosen, day - 1])
            rows.append([cohort.label, day - 1, *(f"{n} %" for n in numbers)])
        for endpoint in ("complete_remission", "early_death"):
            rows += [
                [label, name, f"{share} ({span})", *[""] * (len(states) - 1)]
                for label, name, share, span in _cells(found, cohort, endpoint, None)
            ]
    return table_of(("Schedule", "End of day", *states), rows)


def _dlt_table(found: Explored) -> Table:
    rows = []
    for cohort in _cohorts(found):
        row = _row(found, cohort, "dlt")
        if row is None:
            continue
        risk, span = wording.estimate_text(row), _span(row)
        judged = wording.percent(row.evaluable) if math.isfinite(row.evaluable) else "-"
        published = wording.published_text(row) or "nothing published"
        rows.append([cohort.label, risk, span, judged, row.not_judged, published])
    heads = ("Schedule", "Risk", "90 % interval", "Can be judged", "Cannot, because", "Published")
    return table_of(heads, rows)


def _differences_table(found: Explored) -> Table:
    rows = [
        [
            f"{_label(found, row.first)} minus {_label(found, row.second)}",
            _what(found, row),
            wording.percent(row.difference, row.mc_error, sign=True),
            wording.difference_range(row.lower, row.upper, row.mc_error),
            wording.percent(row.p_first_safer),
        ]
        for row in found.differences
    ]
    heads = ("Schedules", "Share of patients", "Points", "90 % interval", "First is lower")
    return table_of(heads, rows)


def _cells(found: Explored, cohort: Cohort, endpoint: str, line: str | None) -> list[list[str]]:
    return [
        [
            cohort.label,
            wording.endpoint_name(row),
            wording.estimate_text(row),
            _span(row),
        ]
        for row in found.result.rows
        if row.cohort == cohort.id and row.endpoint == endpoint and line in (None, row.line)
        if endpoint not in wording.OTHERWISE or wording.is_headline(row)
    ]


def table_of(heads: Iterable[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Heads and rows as the page draws them."""
    return {"heads": list(heads), "rows": [list(row) for row in rows]}


def _span(row: EndpointRow) -> str:
    return wording.number_range(row.lower, row.upper, row.unit, row.estimate, row.mc_error)


def _points(row: PairRow) -> str:
    middle = wording.percent(row.difference, row.mc_error, sign=True)
    span = wording.difference_range(row.lower, row.upper, row.mc_error)
    return f"{middle} points" + (f" ({span})" if span != "-" else "")


def _from_first(found: Explored) -> list[PairRow]:
    """Differences of the first schedule from the others: of three and more, all would not fit."""
    first = _cohorts(found)[0].id
    return [row for row in found.differences if row.first == first]


def _label(found: Explored, cohort: str) -> str:
    return found.result.trial.cohort(cohort).label


def _what(found: Explored, row: PairRow) -> str:
    """Share of patients that a difference is of."""
    rules = tuple(r.rule for r in found.result.rows if r.endpoint == "dlt")
    return wording.risk_name(found.result) if row.rule.startswith(rules) else row.rule


def _cohorts(found: Explored) -> tuple[Cohort, ...]:
    return found.result.trial.cohorts


def _row(found: Explored, cohort: Cohort, endpoint: str, line: str = "") -> EndpointRow | None:
    for row in found.result.rows:
        if row.cohort == cohort.id and row.endpoint == endpoint and row.line in (line, ""):
            return row
    return None


def _look_day(found: Explored) -> int:
    """Morning on which shares are told: after the rule's day, or the last one."""
    last = int(found.result.curves["day"].values[-1])
    by_day = rule_protocol_day(found.result)
    return by_day + 1 if by_day is not None and by_day < last else last
