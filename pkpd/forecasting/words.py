"""A forecast in words: one sentence, and a table of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.data.dataset import BELOW
from pkpd.endpoints.clock import treatment_runs
from pkpd.endpoints.definitions import recovery_words
from pkpd.endpoints.starts import STARTS
from pkpd.forecasting.bank import BASELINE, BOTH, criterion
from pkpd.forecasting.doses import gives_from
from pkpd.forecasting.remarks import as_sentence, set_aside
from pkpd.forecasting.summaries import start_shares, waiting_share
from pkpd.forecasting.weighing import FEWEST, Weighed

if TYPE_CHECKING:
    import xarray as xr

NOT_KNOWN = "not known"
"""What a table says where too few virtual patients are like the one who is forecast."""
BY_SMC = 'take --engine smc, in Python engine="smc"'
"""Remedy where hardly any virtual patient is like the one who is forecast."""
COMPLETE = "CR"
"""Beginning of the codes of complete remission, with or without full recovery of counts."""


def main_criterion(one: Weighed) -> str:
    """Criterion that the sentence tells: neutrophils, or the only line that is asked for."""
    back = one.bank.asked.back or {}
    line = "neutrophils" if "neutrophils" in back else next(iter(back))
    return criterion(line, back[line])


def in_words(name: str) -> str:
    """Tell a criterion in words.

    Examples
    --------
    >>> in_words("neutrophils >= 0.5")
    'neutrophils of 0.5 or more'
    """
    line, _, level = name.partition(" >= ")
    if level == BASELINE:
        return f"{line} back at their {BASELINE}"
    return f"{line} of {level} or more" if level else "both counts back"


def last_known(one: xr.Dataset) -> int:
    """Last protocol day whose share of recoveries is known, not before that of the last count."""
    return max(int(one["known_until"]), int(one["last_day_seen"]))


def telling_day(one: xr.Dataset, name: str, of: str = "recovered_after") -> int:
    """End of the week in which half of such patients have recovered, or the last known day."""
    recovered = one[of].sel(criterion=name)
    there = np.flatnonzero(recovered.values >= 0.5)
    last = last_known(one)
    first = int(one["last_day_seen"]) + 1
    day = int(recovered["day"].values[there[0]]) if there.size else last
    return min(7 * int(np.ceil(max(day, first) / 7)), last)


def first_sentence(weighed: Weighed, one: xr.Dataset, by_day: int | None = None) -> str:
    """Tell when counts are back after the last one, or that the forecast cannot tell.

    Parameters
    ----------
    weighed, one
        The forecast, and its numbers without the dimension ``patient``.
    by_day
        Protocol day that the sentence names; the end of the telling week if not given.
    """
    if not weighed.trusted:
        return _cannot_tell(weighed)
    name, last = main_criterion(weighed), int(one["last_day_seen"])
    low = float(one["low_after"].sel(criterion=name))
    already = _already(weighed)
    stay = f"{_hundred(1.0 - low)} of 100 such patients are not below it again"
    share, middle, between = _when(one, name, "recovered_after", "day_after", by_day)
    if already and middle == 0:
        return f"{already}; without further doses, {stay}."
    text = (
        f"{share} of 100 such patients have {in_words(name)} after the last count (day {last}), "
        "without further doses"
    )
    if middle == 0:
        return f"{text}; {_half_or_most(low)} of them are not below it again."
    if middle is None:
        return f"{text}; fewer than half of them do {_in_time(one)}."
    text = f"{text}; half of them by day {middle}, {between}"
    if already:
        return f"{text}; {already[0].lower()}{already[1:]}, and {stay}."
    return f"{text}."


def rule_sentence(weighed: Weighed, one: xr.Dataset, by_day: int | None = None) -> str:
    """Tell when counts are back by the clock of the rule, as planned; parameters as above."""
    if not weighed.trusted:
        return _cannot_tell(weighed)
    name = main_criterion(weighed)
    clock = weighed.bank.asked.clock
    cycle = "cycle" if clock == "first_dose" else f"cycle of {clock}"
    head = f"As planned, from the last dose of the first {cycle} on"
    if weighed.bank.has_further_cycle:
        head = f"As planned, from the last dose of the first {cycle} to the next cycle"
    share, middle, between = _when(one, name, "recovered", "recovery_day", by_day)
    text = f"{head}: {share[0].lower()}{share[1:]} of 100 have {in_words(name)}"
    if middle == 0:
        some = _half_or_most(float(one["low"].sel(criterion=name)))
        return f"{text}; {some} of them are not low after the last dose."
    if middle is None:
        if weighed.bank.has_further_cycle:
            return f"{text}; fewer than half of them do before the next cycle."
        return f"{text}; fewer than half of them do {_in_time(one)}."
    return f"{text}; half of them by day {middle}, {between}."


def planned_sentences(weighed: Weighed, one: xr.Dataset, by_day: int | None = None) -> list[str]:
    """Tell what `rule_sentence` does where it is known, and says more than that of today."""
    told = weighed.trusted and not _repeats_today(weighed, one, main_criterion(weighed))
    return [rule_sentence(weighed, one, by_day)] if told else []


def by_need_sentences(weighed: Weighed) -> list[str]:
    """Tell which of the clocks has growth factor by need."""
    policy = weighed.bank.lanes.ensemble.growth_factor
    if not (weighed.trusted and policy.words):
        return []
    return [
        f'Planned is {policy.words}: "without further doses" has none of it after the last count, '
        '"as planned" has it.'
    ]


def _repeats_today(weighed: Weighed, one: xr.Dataset, name: str) -> bool:
    """Whether all doses are over, and both clocks say the same, within a point and a day."""
    last = int(one["last_day_seen"])
    if not weighed.trusted or gives_from(weighed.bank.lanes.regimen, last + 1):
        return False
    ahead = one.sel(day=slice(last + 1, None), criterion=name)
    after, planned = (ahead[name].values for name in ("recovered_after", "recovered"))
    days, planned_days = (
        np.ceil(ahead[name].sel(quantile=[0.1, 0.5, 0.9]).values)
        for name in ("day_after", "recovery_day")
    )
    alike = np.allclose(after, planned, rtol=0.0, atol=0.01)
    return alike and np.allclose(days, planned_days, rtol=0.0, atol=1.0)


def days_in_words(weighed: Weighed) -> str:
    """Say when a count is back, and what a day means, by both clocks."""
    return (
        f"Back, by both clocks: on {recovery_words(weighed.bank.asked.rule)}; by day N means by "
        "the end of day N, the count of the next morning included."
    )


def _in_time(one: xr.Dataset) -> str:
    end = int(one["day"].values[-1])
    return f"by day {last_known(one)}, the last of which the {end} days forecast can tell"


def _half_or_most(low: float) -> str:
    return "half" if round(low, 9) == 0.5 else "most"


def _when(
    one: xr.Dataset, name: str, shares: str, quantiles: str, by_day: int | None
) -> tuple[str, int | None, str]:
    """Beginning of a sentence with day and share, the median day, and the days of most."""
    day = telling_day(one, name, shares) if by_day is None else by_day
    share = float(one[shares].sel(criterion=name, day=day))
    low, middle, high = (
        protocol_day(one[quantiles].sel(criterion=name, quantile=q)) for q in (0.1, 0.5, 0.9)
    )
    if low == 0:
        where = f"9 of 10 by day {high}, those who are not low then among them"
        if not high:
            where = "one in ten or more are not low then, and as many are not seen back"
    else:
        where = (
            f"8 of 10 between day {low} and day {high}" if high else f"8 of 10 from day {low} on"
        )
    return f"By day {day}, {_hundred(share)}", middle, where


def _cannot_tell(weighed: Weighed) -> str:
    if not weighed.used:
        return (
            f"This forecast cannot tell when counts are back: none of the patient's counts "
            f"({weighed.counted}) could be used, and without them it is that of the population; "
            "correct values or units."
        )
    if line := weighed.unheard:
        return (
            f"This forecast cannot tell when counts are back: none of the patient's {line} "
            f"({weighed.seen.line.count(line)} counts) could be used; correct values or units, or "
            f"leave {line} out."
        )
    why = f"its weights rest on too few virtual patients (Pareto k {weighed.k:.2f})"
    if weighed.effective < FEWEST:
        why = (
            f"{weighed.effective:.0f} of {len(weighed.bank):,} virtual patients are like this "
            f"one, and {FEWEST:.0f} have to be"
        )
    return f"This forecast cannot tell when counts are back: {why}."


def _already(weighed: Weighed) -> str:
    """Say that the last count of the line is at its threshold; empty if it is not."""
    seen, back = weighed.heard, weighed.bank.asked.back or {}
    line = main_criterion(weighed).partition(" >= ")[0]
    mine = [k for k in range(len(seen)) if seen.line[k] == line]
    if not mine or isinstance(back[line], str):
        return ""
    last = max(mine, key=lambda k: float(seen.time[k]))
    if seen.censored[last] == BELOW or seen.value[last] < back[line]:
        return ""
    return (
        f"{line.capitalize()} of day {int(seen.time[last]) + 1} are at {back[line]:g} or more "
        f"already ({seen.value[last]:g})"
    )


def protocol_day(value: Any) -> int | None:
    """Protocol day in which a time since the start of day 1 lies; ``None`` if it is not seen.

    Examples
    --------
    >>> protocol_day(27.3), protocol_day(float("inf"))
    (28, None)
    """
    time = float(value)
    return int(np.ceil(time)) if np.isfinite(time) else None


def warnings(weighed: Weighed) -> list[str]:
    """Tell what deserves attention, one sentence each."""
    told = [as_sentence(text) for text in set_aside(weighed)]
    if not weighed.used or weighed.unheard:
        return told
    if not np.isfinite(weighed.log_likelihood).any():
        told.append("All virtual patients have died before the last count: nothing was learned.")
    elif not weighed.trusted and weighed.engine == "importance":
        told.append(
            f"Hardly any virtual patient is like this one (Pareto k {weighed.k:.2f}, "
            f"{weighed.effective:.0f} of {len(weighed.bank):,} count): {BY_SMC}."
        )
    elif not weighed.trusted:
        told.append(
            f"The weights are not to be trusted (Pareto k {weighed.k:.2f}, "
            f"{weighed.effective:.0f} of {len(weighed.bank):,} count)."
        )
    return told


def why_not_known(used: int) -> str:
    """Say in place of a curve why there is none, by the number of counts used."""
    why = "too few virtual patients have such counts" if used else "no count could be used"
    return f"{NOT_KNOWN}: {why}"


def size_in_words(weighed: Weighed) -> str:
    """Tell how many virtual patients speak, and of how many parameter draws they are."""
    words = f"{len(weighed.bank):,} virtual patients"
    if not weighed.used:
        return f"{words} of the population"
    words = f"{words}, worth {weighed.effective:,.0f}"
    if weighed.bank.lanes.draws == 1:
        return words
    worth = weighed.effective_draws
    coarse = ", which is few: percentages are rough" if worth < FEWEST else ""
    return f"{words}, of parameter draws worth {worth:,.0f}{coarse}"


def days_shown(one: xr.Dataset) -> list[int]:
    """Protocol days of the table of recovery: the next five whole weeks, or the last known day."""
    last, seen = last_known(one), int(one["last_day_seen"])
    return [d for d in range(7, last + 1, 7) if d > seen][:5] or [last]


def table_of(weighed: Weighed, one: xr.Dataset) -> list[tuple[str, ...]]:
    """Rows of the table of recovery: name, median day, interval, shares by days.

    A forecast that cannot tell has no numbers there: a few virtual patients give narrow intervals.
    """
    last, seen = last_known(one), int(one["last_day_seen"])
    days = days_shown(one)
    rows: list[tuple[str, ...]] = [
        ("", "median day", "80 % interval", *(f"by day {d}" for d in days))
    ]
    wanted = [criterion(*item) for item in (weighed.bank.asked.back or {}).items()]
    wanted += [BOTH] if BOTH in weighed.bank.criteria else []
    planned = [name for name in wanted if not _repeats_today(weighed, one, name)]
    for share, day, told, missed, names in (
        ("recovered_after", "day_after", f" after day {seen}", f"> {last}", wanted),
        ("recovered", "recovery_day", ", as planned", _never(weighed, last), planned),
    ):
        for name in names:
            if not weighed.trusted:
                rows.append((name + told, *[NOT_KNOWN] * (2 + len(days))))
                continue
            at = one[day].sel(criterion=name)
            ends = [protocol_day(at.sel(quantile=q)) for q in (0.1, 0.5, 0.9)]
            low, middle, high = ("not low" if d == 0 else f"{d or missed}" for d in ends)
            shares = one[share].sel(criterion=name)
            rows.append(
                (
                    name + told,
                    middle,
                    f"{low} to {high}",
                    *(percent(float(shares.sel(day=d))) for d in days),
                )
            )
    return rows


def facts_of(weighed: Weighed, one: xr.Dataset) -> list[str]:
    """Nadir, grade 4, toxicity, remission and death in lines, or that they are not known."""
    if not weighed.trusted:
        also = ", remission and death" if weighed.bank.mortal else ""
        parts = f"Nadir, toxicity{also}" if also else "Nadir and toxicity"
        return [f"{parts} are {NOT_KNOWN} for the same reason."]
    lines = []
    for line in one["graded"].values:
        low, middle, high = (
            float(one["nadir_ahead"].sel(graded=line, quantile=q)) for q in (0.1, 0.5, 0.9)
        )
        if np.isfinite(middle):
            lines.append(
                f"lowest {line} still ahead: {_count(middle)} ({_count(low)} to {_count(high)}) x "
                f"10^9/L; "
                f"grade 4 ahead in {percent(float(one['grade_4_ahead'].sel(graded=line)))}, at any "
                f"time in {percent(float(one['grade_4'].sel(graded=line)))}"
            )
    lines += starts_ahead(weighed)
    rule = weighed.bank.asked.rule
    if rule is not None:
        running = treatment_runs(weighed.bank.lanes.plan, rule)
        if running:
            running = f"; on day {rule.by_day} {running}: the verdict is of counts under treatment"
        lines.append(
            f"dose-limiting toxicity by {rule.name}: {percent(float(one['dlt']))} of the "
            f"{percent(float(one['dlt_judged']))} who can be judged "
            f"(before treatment {percent(float(one['dlt_before']))} of those judged then){running}"
        )
    if "response" in one:
        codes = [str(c) for c in one["response_code"].values]
        complete = [c for c in codes if c.startswith(COMPLETE)]
        share = float(one["response"].sel(response_code=complete).sum())
        marrow = "marrow_blasts" in weighed.seen.line
        rests = "" if marrow else "; from counts in blood alone, no blasts of the marrow are given"
        lines.append(f"remission ({', '.join(complete)}): {percent(share)}{rests}")
        lines.append(f"death within the days forecast: {percent(float(one['death']))}")
    return lines


def _count(value: float) -> str:
    """Tell a count with two digits, and never as a power of ten."""
    return f"{float(f'{value:.2g}'):g}"


def starts_ahead(weighed: Weighed) -> list[str]:
    """Tell whether cycles and courses still ahead that counts can delay start on their days."""
    lines = []
    for start in weighed.bank.starts:
        share = start_shares(start.late, weighed.weights)
        if not share["alive"]:
            continue
        if start.planned_day <= weighed.seen.last_day:
            over = weighed.seen.last_day - start.planned_day
            waits = waiting_share(start.late, weighed.weights, over)
            if waits > 0.0:
                lines.append(
                    f"{start.name}, planned for day {start.planned_day}, still waits for counts "
                    f"after day {weighed.seen.last_day} in {percent(waits)}"
                )
            continue
        days = f" (median {share['days_late']:.0f} days)" if share["starts_late"] else ""
        on_time, late, never = (percent(share[name]) for name in STARTS)
        lines.append(
            f"{start.name} starts on its planned day ({start.planned_day}) in "
            f"{on_time} of the {percent(share['alive'])} alive then, later in {late}{days}, "
            f"never in {never}"
        )
    return lines


def continued_lines(weighed: Weighed, data: xr.Dataset) -> list[str]:
    """Tell what other continuations come to, a row for each.

    Parameters
    ----------
    weighed, data
        The forecast, and the numbers of one patient by ``continuation``.
    """
    name = main_criterion(weighed)
    last, known = int(data["day"].values[-1]), int(data["known_until"].values.max())
    rows: list[tuple[str, ...]] = [
        ("", *(f"grade 4 {line} ahead" for line in data["graded"].values),
         *(["death"] if "death" in data else []), f"{name}: median day", f"by day {known}")
    ]  # fmt: skip
    for other in data["continuation"].values:
        mine = data.sel(continuation=other)
        day = protocol_day(mine["recovery_day"].sel(criterion=name, quantile=0.5))
        never = _never(weighed, known) if str(other) == "as planned" else f"> {known}"
        rows.append(
            (
                str(other),
                *(percent(float(v)) for v in mine["grade_4_ahead"].values),
                *([percent(float(mine["death"]))] if "death" in mine else []),
                "not low" if day == 0 else f"{day or never}",
                percent(float(mine["recovered"].sel(criterion=name, day=known))),
            )
        )
    key = (
        f"{name} is looked for from the last dose on, where a further cycle is given from that of "
        f"the further cycle; figures are up to day {last}."
    )
    return [*aligned(rows), key]


def _never(weighed: Weighed, last: int) -> str:
    return "not in this cycle" if weighed.bank.has_further_cycle else f"> {last}"


def percent(share: float) -> str:
    """Write a share as a percentage.

    Examples
    --------
    >>> percent(0.624), percent(0.0004), percent(0.9996)
    ('62 %', '< 1 %', '> 99 %')
    """
    if not np.isfinite(share):
        return "-"
    share = round(share, 9)  # weights sum to one but for rounding
    if 0 < share <= 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns side by side, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _hundred(share: float) -> str:
    share = round(share, 9)
    number = round(100 * share)
    if number == 0 and share > 0:
        return "fewer than 1"
    if number == 100 and share < 1:
        return "more than 99"
    return str(number)
