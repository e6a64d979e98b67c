"""The report of a comparison: one HTML page that holds its figures and needs nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pkpd.cards.diseases import disease_in_words
from pkpd.report import wording
from pkpd.report.comparison import beside_tables, exposure_words
from pkpd.report.comparison.answer import answer_sentence, recovery_row, recovery_thresholds

if TYPE_CHECKING:
    from pkpd.comparison.results import ComparisonResult, EndpointRow, PairRow, TrialResult
    from pkpd.report.comparison.pages import Drawing
    from pkpd.trials import Trial

_TEMPLATE = "comparison.html.j2"
_SHORT_HASH = 12


def render(result: ComparisonResult, pages: Mapping[str, Sequence[Drawing]]) -> str:
    """HTML page of a comparison.

    Parameters
    ----------
    result
        The comparison and its run record.
    pages
        Figures by trial identifier; a trial may have none.

    Returns
    -------
    str
        The page. It loads nothing from elsewhere and prints on A4.
    """
    record = result.record
    return rendered(
        _TEMPLATE,
        title=_heading(result),
        question=record.get("question") or _question(result),
        trials=[_trial(t, pages.get(t.trial.id, ()), record) for t in result.trials],
        assumed=wording.assumed_inputs(row for t in result.trials for row in t.rows),
        marrow=_marrow(record),
        both=beside_tables.BOTH,
        ties=beside_tables.TIES,
        record=_record_rows(record),
        cards=sorted((str(k), str(v)[:_SHORT_HASH]) for k, v in record.get("cards", {}).items()),
    )


def rendered(template: str, **values: Any) -> str:
    """Fill in a template of a page; a value that is not given is an error."""
    folder = resources.files("pkpd.report") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _marrow(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the marrow at the head of the page; empty for the marrow without leukaemia."""
    known = record.get("marrow")
    if not known:
        return {}
    if "posterior" not in known:
        return {"text": wording.other_marrow_text(record), "known": "", "problems": []}
    rows, studies = known.get("rows", 0), known.get("studies", 0)
    return {
        "text": f"Marrow with leukaemia, {known['posterior']}: {known['learned']} parameters "
        f"learned from {rows} published outcomes of {studies} studies.",
        "known": "what_is_known.md",
        "problems": known.get("problems", []),
    }


def _heading(result: ComparisonResult) -> str:
    """Heading of the page: of one trial its title, of several their names."""
    told = result.trials[0].trial.title if len(result.trials) == 1 else _names(result)
    return f"Blood counts and dose-limiting toxicity: {told}"


def _names(result: ComparisonResult) -> str:
    return ", ".join(t.trial.name for t in result.trials)


def _question(result: ComparisonResult) -> str:
    lines = dict.fromkeys(row.line for t in result.trials for row in t.rows if row.line)
    of = f" of {_names(result)}" if len(result.trials) > 1 else ""
    return (
        f"How deep do {' and '.join(lines)} fall under each schedule{of}, when do they recover, "
        "and how large is the risk of a dose-limiting toxicity?"
    )


def _trial(
    result: TrialResult, pages: Sequence[Drawing], record: Mapping[str, Any]
) -> dict[str, Any]:
    trial = result.trial
    rows = result.rows
    ids = list(dict.fromkeys(row.cohort for row in rows))
    known = wording.cohorts(trial)
    sizes = {i: known[i].n for i in ids if i in known}
    return {
        "id": trial.id,
        "name": trial.name,
        "title": trial.title,
        "answer": answer_sentence(result),
        "other_way": beside_tables.other_way(result),
        "facts": [
            ("Simulated", record.get("simulated", {}).get(trial.id, "")),
            ("Patients", trial.condition or disease_in_words(trial.disease)),
            ("Phase", trial.phase),
            ("Population", Path(trial.population).name),
            ("DLT rule", wording.rule_text(result)),
            ("Followed to", f"day {trial.horizon_days}"),
            ("Size", wording.size_text(result, record)),
            ("Marrow", wording.marrow_text(result.curves.attrs)),
        ],
        "questions": [
            {
                "title": question.title,
                "text": question.text,
                "columns": question.columns,
                "rows": [[wording.cell_text(cell) for cell in row] for row in question.rows],
                "answer": [f"{text[0].upper()}{text[1:]}." for text in question.answer],
            }
            for question in result.questions
        ],
        "cohorts": [
            {
                "title": _title(trial, i),
                "size": f"{wording.counted(n, 'patient')} in the trial"
                if (n := sizes.get(i))
                else "",
                "rows": [_row(row) for row in rows if row.cohort == i],
            }
            for i in ids
        ],
        "summary": [_summary(result, i) for i in ids],
        "summary_heads": _summary_heads(result),
        "not_judged": _not_judged(result),
        "published": beside_tables.published_beside(result),
        "learned_from": beside_tables.learned_from(result),
        "exposures": {
            "title": exposure_words.TITLE,
            "text": exposure_words.text(result),
            "tables": [
                (heads, cells)
                for heads, cells in (
                    (exposure_words.HEADS, exposure_words.cells(result)),
                    (exposure_words.RATIO_HEADS, exposure_words.ratio_cells(result)),
                )
                if cells
            ],
            "sources": exposure_words.sources(result.exposures),
        },
        "pairs": [_pair(pair) for pair in result.pairs],
        # the first figure stands with the answer; what a drawing says is escaped in it
        "pages": [{"name": p.name, "caption": p.caption, "svg": Markup(p.svg)} for p in pages],
        "assumptions": result.assumptions,
        "references": trial.references,
    }


def _title(trial: Trial, cohort: str) -> str:
    """Title of a cohort in which ranges such as 1-14 do not break over lines."""
    return re.sub(r"(?<=\d)-(?=\d)", "\N{NON-BREAKING HYPHEN}", wording.cohort_title(trial, cohort))


def _summary_heads(result: TrialResult) -> list[str]:
    lines = recovery_thresholds(result)
    return [
        "DLT risk, predicted (90 % interval)",
        "DLT, published (interval)",
        *(f"{line.capitalize()}: nadir, 10^9/L" for line in lines),
        *(f"{line.capitalize()} >= {at:g}, days" for line, at in lines.items()),
    ]


def _summary(result: TrialResult, cohort: str) -> dict[str, Any]:
    """One row of the answer table: the DLT risk, and medians with the 90 % range of patients."""
    mine = [row for row in result.rows if row.cohort == cohort]
    lines = recovery_thresholds(result)
    chosen = [_first(mine, "nadir", line) for line in lines]
    for line, at in lines.items():
        chosen.append(recovery_row(mine, line, at))
    cells = _dlt_cells(next((r for r in wording.dlt_rows(result) if r.cohort == cohort), None))
    for row in chosen:
        span = (
            ""
            if row is None
            else wording.number_range(
                row.patients_lower, row.patients_upper, row.unit, row.estimate
            )
        )
        middle = "-"
        if row is not None:
            days = wording.number(row.estimate, row.unit, row.mc_error)
            middle = "not low" if wording.is_not_low(row) else days
        cells.append((middle, span))
    return {"title": _title(result.trial, cohort), "cells": cells}


def _not_judged(result: TrialResult) -> str:
    """Say who has no verdict of the DLT rule, and why, cohort by cohort."""
    told = [
        f"{_title(result.trial, row.cohort)}: {row.not_judged}{_of_everybody(row)}"
        for row in wording.dlt_rows(result)
        if row.not_judged and wording.judged_text(row)
    ]
    return f"Who cannot be judged. {'. '.join(told)}." if told else ""


def _of_everybody(row: EndpointRow) -> str:
    """Say what share of all patients has the event, whether or not the others can be judged."""
    if math.isnan(row.estimate):
        return ""
    share = wording.percent(row.estimate * row.evaluable, row.mc_error)
    return f" (the event is seen in {share} of all)"


def _dlt_cells(dlt: EndpointRow | None) -> list[tuple[str, str]]:
    """Risk of a DLT with its interval, and what was published of it."""
    if dlt is None:
        return [("-", ""), ("-", "")]
    span = wording.percent_range(dlt.lower, dlt.upper, dlt.estimate, dlt.mc_error)
    if judged := wording.judged_text(dlt):
        span = f"{span}, {judged}"
    known = not math.isnan(dlt.estimate)
    middle = wording.percent(dlt.estimate, dlt.mc_error) if known else wording.NOT_JUDGED
    told = wording.published_text(dlt, separator="\n").split("\n")
    return [(middle, span), (told[0] or "-", told[1].strip("()") if len(told) > 1 else "")]


def _first(rows: Sequence[EndpointRow], endpoint: str, line: str) -> EndpointRow | None:
    return next((r for r in rows if r.endpoint == endpoint and r.line == line), None)


def _row(row: EndpointRow) -> dict[str, str]:
    unit = row.unit
    return {
        "endpoint": wording.endpoint_name(row),
        "key": row.endpoint,
        "estimate": wording.NOT_JUDGED
        if wording.estimate_text(row) == wording.NOT_JUDGED
        else "not low"
        if wording.is_not_low(row)
        else wording.number(row.estimate, unit, row.mc_error),
        "patients": wording.number_range(
            row.patients_lower, row.patients_upper, unit, row.estimate
        ),
        "interval": wording.number_range(row.lower, row.upper, unit, row.estimate, row.mc_error),
        "shares": wording.shares(row),
        "error": wording.error_text(row.mc_error, unit),
        "censored": wording.percent(row.censored) if row.censored > 0.0 else "",
        "published": wording.published_text(row),
        "assumed": str(len(wording.assumed_inputs([row])) or ""),
    }


def _pair(pair: PairRow) -> dict[str, str]:
    mc = pair.mc_error
    return {
        "first": pair.first,
        "second": pair.second,
        "rule": pair.rule,
        "difference": wording.percent(pair.difference, mc, sign=True),
        "span": wording.difference_range(pair.lower, pair.upper, mc),
        "error": wording.error_text(mc, "probability"),
        "safer": wording.percent(pair.p_first_safer),
    }


def _record_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in record.items():
        if key in ("cards", "question", "simulated") or not _says_something(value):
            continue
        name = {"wall_s": "wall time (s)", "git_commit": "git commit"}.get(key, key)
        rows.append((name, value_text(value)))
    return rows


def value_text(value: Any) -> str:
    """Write a value of a run record."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {value_text(v)}" for k, v in value.items() if _says_something(v))
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_says_something, value.values()))
    return not isinstance(value, str | list | tuple) or len(value) > 0
