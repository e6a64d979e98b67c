"""A search in words and tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pkpd.cards.menus import DOSE, OBJECTIVES, Measure
from pkpd.comparison.rows import UNDER_TREATMENT
from pkpd.comparison.uncertainty import fewest_draws
from pkpd.endpoints.clock import treatment_runs
from pkpd.endpoints.starts import planned_starts
from pkpd.forecasting.command import rule_of
from pkpd.forecasting.words import aligned
from pkpd.report.wording import no_interval
from pkpd.schedule import plan
from pkpd.search.measures import Contrast, Figure

if TYPE_CHECKING:
    import pandas as pd

    from pkpd.search.result import SearchResult
    from pkpd.search.simulate import Answer

IN_WORDS = {
    "posterior": "under the learned posterior",
    "prior": "under the prior, before any published outcome",
    "without leukaemia": "in the marrow without leukaemia",
    "fit": "in the marrow that was fitted",
}
_SURE = 1.96
"""Standard errors within which a difference may be none."""
MOST_REFUSED = 6
"""So many schedules that do not keep a limit are named."""
HEADS = {
    "dlt": "DLT",
    "remission": "remission",
    "death": "death",
    "days_low": "days low",
    "nadir_neutrophils": "nadir ANC",
    "nadir_platelets": "nadir PLT",
    "grade_4_neutrophils": "grade 4 ANC",
    "grade_4_platelets": "grade 4 PLT",
    "late_start": "cycle late",
}


def shown(measure: Measure, value: float, *, sign: bool = False) -> str:
    """Figure of a measure as text; a difference with ``sign=True``, without its unit."""
    if np.isnan(value):
        return "-"
    if measure.ratio:
        return f"x {value:.2f}" if sign else f"{value:.2g}"
    plus = "+" if sign else ""
    if measure.unit == "probability":
        return f"{100.0 * value:{plus}.0f}" + ("" if sign else " %")
    return f"{value:{plus}.1f}"


def head(measure: Measure) -> str:
    """Short name of a measure, for a column."""
    return HEADS.get(measure.name, measure.words)


def with_error(measure: Measure, figure: Figure) -> str:
    """Figure of a measure; a risk with its Monte Carlo standard error.

    Examples
    --------
    >>> from pkpd.search import MEASURES
    >>> with_error(MEASURES["dlt"], Figure(0.13, 0.07, 0.25, 0.0184, np.zeros(2), 1.0))
    '13 +/- 1.8 %'
    """
    text = shown(measure, figure.mean)
    if measure.unit != "probability" or not figure.mc_error > 0.0:
        return text
    return f"{text.removesuffix(' %')} +/- {100.0 * figure.mc_error:.1f} %"


def interval(measure: Measure, figure: Figure) -> str:
    """Figure with its 90 % interval over draws, where it has one."""
    low, high = shown(measure, figure.lower), shown(measure, figure.upper)
    text = with_error(measure, figure)
    if not _has_interval(figure):
        return text
    return f"{text} ({low.removesuffix(' %')} to {high.removesuffix(' %')})"


def _has_interval(figure: Figure) -> bool:
    return not no_interval(figure.lower, figure.upper)


def first_sentence(found: SearchResult) -> str:
    """Tell the answer in one sentence."""
    if not found.short_list:
        told = " and ".join(limit.words for limit in found.menu.limits)
        return f"None of {len(found.members)} schedules keeps {told}."
    names = "; ".join(found.short_list)
    return f"{_kept(found)}; worth comparing: {names}."


def _kept(found: SearchResult) -> str:
    """Say how many schedules keep the limits."""
    limits = found.menu.limits
    if not limits:
        many = f"{(number := len(found.members))} schedule{'s' * (number != 1)}"
        return f"{many}, without a limit, {IN_WORDS[found.view]}"
    kept = int(found.answers[found.view].allowed(limits).sum())
    told = " and ".join(limit.words for limit in limits)
    verb = "keeps" if kept == 1 else "keep"
    return f"{kept} of {len(found.members)} schedules {verb} {told} {IN_WORDS[found.view]}"


def summary_of(found: SearchResult) -> str:
    """Tell the answer: short list, what separates its members, what other views say of them."""
    parts = [f"{_kept(found)}.", "", *_schedules(found)]
    if found.short_list:
        parts += ["", *_separated(found), "", *_elsewhere(found)]
    parts += ["", *(f"! {text}" for text in notes(found))]
    return "\n".join(parts).rstrip()


def _schedules(found: SearchResult) -> list[str]:
    """Table of the listed schedules; of those nearest to the limit where none is allowed."""
    one, limits = found.answers[found.view], found.menu.limits
    names = _columns(found)
    nearest = [one.members[i] for i in np.argsort(one.over(limits), kind="stable")]
    members = list(found.short_list) or nearest[: found.menu.keep]
    last = ("beyond limit",) if limits else ()
    rows = [("   schedule", *(head(one.measures[n]) for n in names), *last)]
    for number, member in enumerate(members, start=1):
        figures = one.figures[member]
        texts = (
            interval(one.measures[n], figures[n]) if n == names[0] else
            with_error(one.measures[n], figures[n])
            for n in names
        )  # fmt: skip
        beyond = (" ".join(_probability(*one.beyond(member, limit)) for limit in limits),)
        place = f"{number}." if found.short_list else "-"
        rows.append((f"{place:2} {member}", *texts, *(beyond if limits else ())))
    lines = aligned(rows)
    front = one.pareto(found.objectives[found.view], limits)
    others = [m for m, good in zip(one.members, front, strict=True) if good and m not in members]
    key = "+/-: Monte Carlo standard error, of so many patients and draws"
    if any(_has_interval(one.figures[m][names[0]]) for m in members):
        key += "; in brackets the 90 % interval over draws"
    if limits:
        key += "; beyond limit: probability that it is not kept"
    if "remission" in names:
        key += "; remission: with or without full counts"
    lines.append(f"{key}; the first is the compromise." if found.short_list else f"{key}.")
    lines += _refused(found) if found.short_list else []
    if others:
        kind = "allowed schedule" if limits else "schedule"
        more = f"1 more {kind} is" if len(others) == 1 else f"{len(others)} more {kind}s are"
        lines.append(
            f"{more} surpassed by none (as good in everything, better in something): "
            "schedules.csv has all."
        )
    for number, member in enumerate(found.short_list, start=1):
        near = found.stands_for(member)
        if near:
            lines.append(f"{number} stands for {'; '.join(near)}, which differ by no margin.")
    return lines


def _refused(found: SearchResult) -> list[str]:
    """Name the schedules that do not keep a limit, nearest first, with the largest probability."""
    one, limits = found.answers[found.view], found.menu.limits
    kept = one.allowed(limits)
    order = [one.members[i] for i in np.argsort(one.over(limits), kind="stable") if not kept[i]]
    if not order:
        return []
    beyond = {m: np.fmax.reduce([one.beyond(m, limit)[0] for limit in limits]) for m in order}
    told = [f"{member} ({_probability(beyond[member], 0.0)})" for member in order[:MOST_REFUSED]]
    more = len(order) - len(told)
    return [
        f"Beyond a limit: {'; '.join(told)}" + (f"; {more} more in schedules.csv." if more else ".")
    ]


def _columns(found: SearchResult) -> list[str]:
    """Measures of the table: those compared by, the limited first, and death where there is any."""
    one = found.answers[found.view]
    limited = [limit.of for limit in found.menu.limits if limit.of in one.measures]
    names = [*limited, *found.objectives[found.view]]
    return list(dict.fromkeys([*names, *(n for n in ("death",) if n in one.measures)]))


def _probability(share: float, error: float) -> str:
    return "-" if np.isnan(share) else f"{share:.2f}" + (f" +/- {error:.2f}" if error > 0 else "")


def _separated(found: SearchResult) -> list[str]:
    one, columns = found.answers[found.view], _columns(found)
    if len(found.short_list) < 2:
        return []
    few = found.menu.draws < fewest_draws()
    lines = ["What separates them (same patients and draws; 90 % interval over draws):"]
    if few:
        lines = [
            "What separates them (same patients and draws):",
            f"  {found.menu.draws} draws tell no intervals ({fewest_draws()} or more would), so "
            "that no figure that varies between draws is said to differ; differences.csv has all.",
        ]
    numbered = list(enumerate(found.short_list, start=1))
    for (i, first), (k, second) in itertools.combinations(numbered, 2):
        told = [
            in_words(one.measures[name], each)
            for name, each in found.separates(first, second).items()
            if name in columns
        ]
        told += not_told_apart(one, first, second, columns)
        nothing = "nothing told" if few else "nothing that matters"
        lines.append(f"  {i} against {k}: {'; '.join(told) or nothing}.")
    return lines


def not_told_apart(one: Answer, first: str, second: str, names: Sequence[str]) -> list[str]:
    """Name the risks in which two schedules differ by no more than Monte Carlo error."""
    found = []
    for name in names:
        measure, each = one.measures[name], one.contrast(first, second, name)
        if measure.unit != "probability" or each is None or not each.mc_error > 0.0:
            continue
        if abs(each.difference) < _SURE * each.mc_error:
            points = f"{100.0 * each.difference:+.1f} +/- {100.0 * each.mc_error:.1f}"
            found.append(f"{head(measure)} ({points})")
    if not found:
        return []
    return [f"not told apart by so many patients and draws: {', '.join(found)}"]


def in_words(measure: Measure, each: Contrast) -> str:
    """Difference of a measure in words.

    Examples
    --------
    >>> from pkpd.search import MEASURES
    >>> in_words(MEASURES["dlt"], Contrast(0.05, 0.02, 0.09, 0.01, 0.1))
    'DLT +5 points (+2 to +9)'
    """
    low, high = (shown(measure, v, sign=True) for v in (each.lower, each.upper))
    unit = "" if measure.ratio else {"probability": " points", "day": " days"}.get(
        measure.unit, f" {measure.unit}"
    )  # fmt: skip
    middle = shown(measure, each.difference, sign=True)
    if low == high:
        return f"{head(measure)} {middle}{unit}"
    return f"{head(measure)} {middle}{unit} ({low} to {high})"


def _elsewhere(found: SearchResult) -> list[str]:
    """Tell what the other views say of the listed schedules."""
    others = list(found.answers.items())[1:]
    if not (others or found.not_asked):
        return []
    rows = [("", *(f"{n}" for n in range(1, len(found.short_list) + 1)))]
    for name, one in found.answers.items():
        allowed = dict(zip(one.members, one.allowed(found.menu.limits), strict=True))
        cells = []
        for member in found.short_list:
            figure = one.figures.get(member, {}).get("dlt")
            risk = "-" if figure is None else shown(one.measures["dlt"], figure.mean)
            cells.append(risk + ("" if allowed.get(member, True) else " x"))
        rows.append((name, *cells))
    lines = ["Risk of a DLT under other views (x: not allowed there):", *aligned(rows)]
    for name, one in others:
        own = found.lists[name]
        kept = int(one.allowed(found.menu.limits).sum())
        text = f"{IN_WORDS[name].capitalize()}: {kept} of {len(one.members)} schedules allowed"
        same = [str(found.short_list.index(m) + 1) for m in own if m in found.short_list]
        new = [m for m in own if m not in found.short_list]
        lost = dict.fromkeys(x.of for x in found.menu.limits if x.of not in one.measures)
        if lost:
            text += f" (without figures of {', '.join(lost)}, whose limits are not asked there)"
        if own:
            text += f"; its own short list: {', '.join(same)}{'; ' if same and new else ''}"
            text += "; ".join(new)
        lines += [f"{text}.", *_turned(found, name)]
    for name, why in found.not_asked.items():
        some = "for some schedules " if name in found.answers else ""
        lines.append(f"{IN_WORDS[name].capitalize()} there is {some}no answer: {why}")
    return lines


def _turned(found: SearchResult, view: str) -> list[str]:
    """Differences that matter and that another view turns round."""
    one, lines = found.answers[view], []
    numbered = list(enumerate(found.short_list, start=1))
    for (i, first), (k, second) in itertools.combinations(numbered, 2):
        if first not in one.lanes or second not in one.lanes:
            continue
        for name, each in found.separates(first, second).items():
            other = one.contrast(first, second, name) if name in one.measures else None
            if other is None or not other.matters(one.measures[name]):
                continue
            none = 1.0 if one.measures[name].ratio else 0.0
            if (each.difference - none) * (other.difference - none) < 0.0:
                words = in_words(one.measures[name], other)
                lines.append(f"  There {i} against {k} has {words}, the other way round.")
    return lines


def notes(found: SearchResult) -> list[str]:
    """Tell what deserves attention, one sentence each."""
    one, told = found.answers[found.view], []
    for limit in found.menu.limits:
        unsure = 0
        for member in one.members:
            share, error = one.beyond(member, limit)
            unsure += abs(share - limit.probability) < _SURE * error
        if unsure:
            told.append(
                f"Whether {limit.words} is within Monte Carlo error for {unsure} of "
                f"{len(one.members)} schedules: more draws or patients would tell."
            )
    judged = [one.figures[m]["dlt"].judged for m in one.members if "dlt" in one.measures]
    if judged and min(judged) < 0.95:
        told.append(
            f"The risk of a DLT is that of the {min(judged):.0%} to {max(judged):.0%} of patients "
            "whom the rule can judge: who died before its day (under a rule of low counts: without "
            "the event), or has leukaemia on it, is not."
        )
    silent = [
        float(np.isnan(one.figures[m]["dlt"].by_draw).mean())
        for m in one.members
        if "dlt" in one.measures
    ]
    if silent and max(silent) > 0.05:
        told.append(
            f"In up to {max(silent):.0%} of the draws nobody under a schedule can be judged: "
            "limits of the risk hold of the other draws."
        )
    told += _dropped(found)
    told += _late_starts(found) if "late_start" in _columns(found) else []
    told += _under_treatment(found)
    return told + [
        f"{text.rstrip('.')}." for text in found.menu.notes[:1] if "combinations" in text
    ]


def _dropped(found: SearchResult) -> list[str]:
    """Name the objectives that were asked for and that tell no schedule from another."""
    if found.menu.objectives == OBJECTIVES:
        return []
    one, used = found.answers[found.view], found.objectives[found.view]
    dropped = [name for name in found.menu.objectives if name not in (DOSE, *used)]
    why = {name: "is the same in all schedules" for name in dropped if name in one.measures}
    lacks = "is not of the marrow that answers, or of no schedule"
    return [f"Objective {name} is left out: it {why.get(name, lacks)}." for name in dropped]


def _late_starts(found: SearchResult) -> list[str]:
    """Say of which start "cycle late" is, where it is not of the same in all schedules."""
    of: dict[str, list[str]] = {}
    for trial in found.menu.trials:
        for cohort in trial.cohorts:
            days = trial.horizon_days
            for name, morning, *_ in planned_starts(plan(cohort.regimen, days), days)[:1]:
                of.setdefault(f"{name} (day {morning + 1})", []).append(cohort.id)
    if len(of) < 2:
        return []
    told = "; ".join(f"{start} of {', '.join(members)}" for start, members in of.items())
    return [f"Cycle late is of the first start that waits for counts, not of the same one: {told}."]


def _under_treatment(found: SearchResult) -> list[str]:
    """Say of which schedules the rule looks at counts under treatment, and which treatment."""
    running: dict[str, int] = {}
    for trial in found.menu.trials:
        for cohort in trial.cohorts:
            rule = rule_of(trial, cohort)
            if rule is None:
                continue
            since = treatment_runs(plan(cohort.regimen, trial.horizon_days), rule)
            if since:
                words = UNDER_TREATMENT.format(day=rule.by_day, running=since)
                running[words] = running.get(words, 0) + 1
    return [
        f"{words[0].upper()}{words[1:]} ({number} of {len(found.members)} schedules)."
        for words, number in running.items()
    ]


def frame_of(found: SearchResult) -> pd.DataFrame:
    """One row for each view, schedule and measure."""
    import pandas as pd

    rows = []
    for view, one in found.answers.items():
        allowed = one.allowed(found.menu.limits)
        front = one.pareto(found.objectives[view], found.menu.limits)
        for i, member in enumerate(one.members):
            place = found.lists[view].index(member) + 1 if member in found.lists[view] else 0
            limits = [(limit, *one.beyond(member, limit)) for limit in found.menu.limits]
            beyond = {limit.words: share for limit, share, _ in limits}
            beyond |= {f"{limit.words}, mc_error": error for limit, _, error in limits}
            about = {
                "view": view,
                "schedule": member,
                "allowed": bool(allowed[i]),
                "pareto": bool(front[i]),
                "listed": place,
                **beyond,
            }
            for name, figure in one.figures[member].items():
                measure = one.measures[name]
                about_measure = {"measure": name, "unit": measure.unit, "better": measure.better}
                numbers = {
                    "estimate": figure.mean,
                    "lower": figure.lower,
                    "upper": figure.upper,
                    "mc_error": figure.mc_error,
                    "judged": figure.judged,
                }
                rows.append({**about, **about_measure, **numbers})
    return pd.DataFrame(rows)


def differences_of(found: SearchResult) -> pd.DataFrame:
    """One row for each view, pair of listed schedules and measure."""
    import pandas as pd

    rows = []
    pairs: Sequence[tuple[str, str]] = list(itertools.combinations(found.short_list, 2))
    for view, one in found.answers.items():
        for (first, second), name in itertools.product(pairs, one.measures):
            each = one.contrast(first, second, name)
            if each is None:
                continue
            measure = one.measures[name]
            about = {"view": view, "first": first, "second": second, "measure": name}
            kind = "ratio" if measure.ratio else "difference"
            rows.append({**about, "unit": measure.unit, "kind": kind, **vars(each),
                         "matters": each.matters(measure)})  # fmt: skip
    columns = ("view", "first", "second", "measure", "unit", "kind", "difference", "lower",
               "upper", "mc_error", "p_first_better", "matters")  # fmt: skip
    return pd.DataFrame(rows, columns=pd.Index(columns))
