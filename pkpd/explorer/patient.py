"""One patient of a page: counts as pasted, and what comes next under one of its schedules.

Counts of a patient are never part of a page's address, which people share.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from pkpd.cards.tables import Table
from pkpd.data.dataset import BELOW
from pkpd.data.sheets import ISO_DATE, open_sheet, read_stamp
from pkpd.errors import CardError, DataError, PkpdError
from pkpd.explorer.script import patient_script
from pkpd.explorer.state import MOST_DAYS, BadStateError, State
from pkpd.files import frame_text
from pkpd.forecasting.bank import Level, criterion
from pkpd.forecasting.command import last_day_of, rule_of, source_of_cohort
from pkpd.forecasting.doses import how_given
from pkpd.forecasting.forecast import DRAWS, Forecaster, forecaster
from pkpd.forecasting.remarks import as_sentence, remarks
from pkpd.forecasting.result import Forecast
from pkpd.forecasting.seen import Seen, chosen, labels_of, read_seen
from pkpd.forecasting.words import (
    BY_SMC,
    days_in_words,
    facts_of,
    last_known,
    planned_sentences,
    size_in_words,
    table_of,
    warnings,
    why_not_known,
)

BANK = 4_000
"""Virtual patients of a page; `pkpd forecast` takes more."""
MOST_TEXT = 20_000
"""Characters of a table of counts."""
MOST_COUNTS = 400
SOURCE = "the table of counts"
"""How errors name it."""
SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)

_KEPT, _MOST_BANKS = 3, 3
_MADE: OrderedDict[Hashable, Forecaster] = OrderedDict()
_LOCK = threading.Lock()


def one_patient(state: State, asked: Any) -> dict[str, Any]:
    """Forecast a patient under a schedule of a page.

    Parameters
    ----------
    state
        The page's.
    asked
        ``schedule`` (its number, from 0), ``text`` (table of counts as `pkpd.forecast` reads it),
        ``until`` (protocol day; what was counted or given later is not used), ``patient`` (one of
        the table's), and ``careful`` (whether virtual patients are made to be like this one).

    Raises
    ------
    BadStateError
        Its place begins with ``patient``.
    """
    page = Table(asked if isinstance(asked, dict) else {}, SOURCE, keys=("patient",))
    most = len(state.trial.cohorts) - 1
    try:
        row = page.integer("schedule", 0, minimum=0, maximum=most)
        text = page.text("text", "")
        until = page.integer("until", None, minimum=1, maximum=MOST_DAYS)
        label = page.text("patient", "")
        careful = page.boolean("careful", False)
    except PkpdError as error:
        raise BadStateError([error]) from error
    try:
        made = _made(state, row)
        every, notes = _read(text, made)
        seen = chosen(every, label) if label else every[0]
        found = _forecast(made, state, row, _until(seen, until), careful, notes)
    except DataError as error:
        raise BadStateError([_placed(error)]) from error
    names = [str(one.label) for one in every]
    return {
        **_content(found, seen, careful),
        "patients": names,
        "python": patient_script(
            state,
            state.trial.cohorts[row].id,
            _lines_until(text, found.seen(), until),
            found.engine,
            BANK,
        ),
    }


def _made(state: State, row: int) -> Forecaster:
    """Give the source of a schedule with its bank, as long as few others have been asked for."""
    cohort = state.trial.cohorts[row]
    # the other schedules of the page do not matter
    told = repr(vars(replace(state.trial, arms=())))
    key = told, repr(cohort), state.source
    with _LOCK:
        made = _MADE.pop(key, None)
        if made is None or made.banks > _MOST_BANKS:
            rule = rule_of(state.trial, cohort)
            source = source_of_cohort(
                state.trial, cohort, state.marrow, state.posterior, DRAWS, state.seed
            )
            last = min(last_day_of(state.trial, cohort, rule), MOST_DAYS)
            made = forecaster(source, last, rule=rule, bank=BANK, seed=state.seed)
        _MADE[key] = made
        while len(_MADE) > _KEPT:
            _MADE.popitem(last=False)
        return made


def _read(text: str, made: Forecaster) -> tuple[tuple[Seen, ...], tuple[str, ...]]:
    if len(text) > MOST_TEXT:
        what = f"it has {len(text):,} characters"
        raise DataError(where=SOURCE, what=what, allowed=f"at most {MOST_TEXT:,}")
    if not text.strip():
        what, remedy = "it is empty", "give a line with DAY, ANC, PLT and a line for each day"
        raise DataError(where=SOURCE, what=what, remedy=remedy)
    try:
        frame = _table(text)
    except (ValueError, OSError) as error:
        remedy = "give a line with DAY, ANC, PLT and a line for each day"
        raise DataError(where=SOURCE, what="it is no table", remedy=remedy) from error
    if len(frame) > MOST_COUNTS:
        what = f"it has {len(frame):,} lines"
        raise DataError(where=SOURCE, what=what, allowed=f"at most {MOST_COUNTS}")
    frame.attrs |= {"name": SOURCE, "first_line": 2}
    return read_seen(frame, limits=made.measurement.limits)


def _table(text: str) -> Any:
    import pandas as pd

    mark = max("\t;,", key=text.partition("\n")[0].count)
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, sep=mark)
    frame.attrs |= {"mark": mark, "decimal_comma": mark != ","}  # as of a file
    return frame


def _lines_until(text: str, seen: Seen, until: int | None) -> str:
    """Table of the counts and doses that were used, of the patient who was asked for."""
    frame = _table(text)
    sheet = open_sheet(frame, {}, ("ID", "DAY", "DATE"))
    rows = np.arange(len(frame))
    if {"ID", "SUBJECT", "PATIENT", "USUBJID"} & set(sheet.at):
        rows = rows[[str(label) == str(seen.label) for label in labels_of(sheet)]]
    if "DAY" in sheet.at:
        day = sheet.numbers("DAY")[rows]
    else:
        dates = [read_stamp(sheet, row, ISO_DATE).date() for row in rows.tolist()]
        day = np.array([1.0 + (date - dates[0]).days for date in dates])
    if until is not None:
        rows = rows[day < until + 1]
    return frame.iloc[rows].to_csv(index=False, sep=frame.attrs["mark"])


def _until(seen: Seen, day: int | None) -> Seen:
    kept = seen if day is None else seen.until(day)
    if not len(kept) or not (kept.time > 0).any():
        days = ", ".join(map(str, _days(seen)[:12]))
        raise DataError(
            where=SOURCE,
            what=f"patient {seen.label} has no count on treatment by day {day or seen.last_day}",
            allowed=f"days {days}",
        )
    doses = tuple(dose for dose in kept.doses if day is None or dose.day <= day)
    return replace(kept, doses=doses)


def _forecast(
    made: Forecaster, state: State, row: int, seen: Seen, careful: bool, notes: tuple[str, ...]
) -> Forecast:
    engine = "smc" if careful else "importance"
    regimen = state.trial.cohorts[row].regimen
    weighed = {seen.label: made.weighed(seen, regimen, engine)}
    notes = (*notes, *how_given(regimen, seen.doses, seen.last_day))
    return Forecast(made, weighed, engine, notes, planned={seen.label: regimen})


DOUBTED = "Not to be trusted, for the reason below: "
"""What a forecast with other warnings begins with: its sentence is read before they are."""


def _content(found: Forecast, whole: Seen, careful: bool) -> dict[str, Any]:
    """Everything that is shown."""
    label = found.patients[0]
    weighed, one = found.weighed[label], found.dataset.sel(patient=label)
    seen, back = weighed.seen, dict(weighed.bank.asked.back or {})
    heads, *rows = table_of(weighed, one)
    last = int(one["day"].values[-1])
    within, known = whole.until(last), one["day"] <= last_known(one)
    doubts = warnings(weighed)
    told = [f"{note}." for note in found.notes_of_all]
    told += [*map(as_sentence, remarks(weighed, found.forecaster.measurement)), *doubts]
    if not careful:
        told = [text.replace(BY_SMC, "others are made now") for text in told]
    if len(within) < len(whole):
        told.append(f"Counts after day {last}, the last that is simulated, are not shown.")
    shown = [str(line) for line in one["line"].values if str(line) in {*back, *whole.line}]
    return {
        "sentence": f"{DOUBTED if doubts and weighed.trusted else ''}{found.sentence()}",
        "trusted": weighed.trusted,
        "again": not (weighed.trusted or weighed.unheard) and weighed.used > 0,
        "why": why_not_known(weighed.used),
        "how": size_in_words(weighed),
        "patient": str(label),
        "days": _days(within),
        "until": seen.last_day,
        "last": last,
        "facts": [
            *planned_sentences(weighed, one),
            days_in_words(weighed),
            *facts_of(weighed, one),
        ],
        "warnings": told,
        "lines": {
            line: _line(one, line, within, seen.last_day, back.get(line), weighed.trusted)
            for line in shown
        },
        "recovered": {
            name: _numbers(one["recovered_after"].where(known).sel(criterion=name).values)
            for name in map(str, one["criterion"].values)
            if weighed.trusted and name in {criterion(*item) for item in back.items()}
        },
        "table": {"heads": list(heads), "rows": [list(row) for row in rows]},
        "csv": frame_text(found.table()),
    }


def _line(
    one: Any, line: str, seen: Seen, until: int, back: Level | None, trusted: bool
) -> dict[str, Any]:
    counts = one["count"].sel(line=line)
    mine = [k for k, name in enumerate(seen.line) if name == line]
    return {
        "unit": "%" if line == "marrow_blasts" else "10⁹/L",
        # a few virtual patients would give narrow bands
        "bands": [_numbers(counts.sel(quantile=q).values) for q in SHOWN if trusted],
        # a share of the patient's own baseline is not drawn
        "back": None if isinstance(back, str) else back,
        "seen": [
            {
                "day": float(seen.time[k]) + 1.0,
                "value": float(seen.value[k]),
                "below": bool(seen.censored[k] == BELOW),
                "known": bool(seen.time[k] < until),
            }
            for k in mine
        ],
    }


def _days(seen: Seen) -> list[int]:
    """Protocol days of counts on treatment."""
    return sorted({int(day) + 1 for day in np.floor(seen.time[seen.time > 0])})


def _numbers(values: Any) -> list[float | None]:
    return [None if not np.isfinite(v) else float(f"{v:.4g}") for v in values]


def _placed(error: PkpdError) -> CardError:
    placed = CardError(str(error))
    placed.keys, placed.key = ("patient",), "text"
    return placed
