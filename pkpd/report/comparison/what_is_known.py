"""A page in plain words: what is known, assumed and unknown behind the marrow with leukaemia."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pkpd.cards.diseases import disease_in_words
from pkpd.comparison.marrow_words import LEAST_SLOPE, differences_come_true
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.report import wording

if TYPE_CHECKING:
    from pkpd.comparison.results import ComparisonResult, TrialResult
    from pkpd.evidence.posterior.learned import Learned

_WORDS = {
    "resistance": "resistance of blasts, centre of the diseases",
    "resistance.between": "how much diseases differ in resistance",
    "between.response": "how much studies differ in responses",
    "between.death": "how much studies differ in early deaths",
    "between.days": "how much studies differ in days of recovery and response",
    "between.low": "how much studies differ in low counts and delays",
    "between.start": "how much studies differ in counts before treatment",
    "fever_hazard": "risk of fever for a day of neutrophils below 0.5",
    "discrepancy": "how far shares of an arm are from the model",
    "discrepancy.days": "how far days of an arm are from the model",
}
"""Of what only a calibration has; the other parameters have their words on their cards."""

_STATUS = {
    "read": "read in a source",
    "transcribed": "taken over from published code or tables",
    "derived": "worked out from what a source prints",
    "fitted": "set by an earlier fit",
    "assumed": "assumed",
    "memory": "remembered, not verified",
}
_NOMINAL = 0.9
_ORDER = ("learned from the data", "the data say a little", "the data say nothing about this")


def page(result: ComparisonResult) -> str:
    """Markdown page on the posterior of a comparison.

    Parameters
    ----------
    result
        With what was learned, and the posterior in its record.
    """
    marrow = result.record["marrow"]
    lines = [
        "# What is known, what is assumed, what is unknown",
        "",
        f"This page belongs to the comparison beside it: {marrow['posterior']}. Its numbers are "
        "worked out from that posterior.",
        "",
        *_tested(marrow.get("tested") or {}, marrow.get("tested_before") or {}),
        "",
    ]
    if not marrow["converged"]:
        lines += [
            f"**The calculation did not converge** ({'; '.join(marrow['problems'])}). Read the "
            "numbers as a preview: they may change with a longer run.",
            "",
        ]
    lines += _known(marrow, result.learned)
    lines += _unknown(result.learned)
    lines += _assumed(result.learned, marrow["structure"])
    lines += _answers(result.trials)
    lines += _not_in_it()
    return "\n".join(lines).rstrip() + "\n"


def _tested(tested: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Say how the posterior predicted outcomes that it had not learned, and what an average does.

    Coverage alone says little: wide intervals hold everything.
    """
    if before and not tested:
        told = "**Not tested since rows were added or left out.** Of the posterior before:"
        return [told, "", *_tested(before, {})]
    if not tested:
        return [
            "**Not tested**: this posterior has predicted no published outcome that it did not "
            "learn from."
        ]
    rows, inside = tested["rows"], tested["inside"]
    share = inside / rows
    said = (
        f"Of {rows} published outcomes of {tested['studies']} studies that this posterior did not "
        f"learn from, {inside} ({share:.0%}) lay inside its 90 % intervals"
    )
    # what chance explains in rows that are independent, two standard errors
    if share < _NOMINAL - 2.0 * math.sqrt(_NOMINAL * (1.0 - _NOMINAL) / rows):
        lines = [
            f"**Intervals of 90 % are too narrow.** {said}. The true uncertainty is wider than "
            "what stands below."
        ]
    else:
        lines = [f"**Tested on other trials.** {said}."]
    average = tested.get("average")
    if average:
        lines += ["", _beside_average(tested, average)]
    if tested.get("mixture"):
        lines += ["", _mixture(tested["mixture"])]
    if tested.get("left_out"):
        lines += ["", _left_out(tested["left_out"], tested.get("pairs"))]
    return lines


def _beside_average(tested: Mapping[str, Any], average: Mapping[str, Any]) -> str:
    """Say whether the model knows more than an average of similar trials."""
    about = ", ".join(f"{number} {kind}" for kind, number in tested.get("about", {}).items())
    return (
        f"The outcomes: {about}. Half of its intervals of shares are wider than "
        f"{100 * tested['width']:.0f} points. The average of trials with the same endpoint in the "
        f"same population, whatever was given, holds {average['inside']} of {average['rows']} in "
        f"intervals of {100 * average['width']:.0f} points. By the continuous ranked probability "
        f"score of these {average['rows']}, {tested['crps']:.3f} against {average['crps']:.3f} "
        f"({_difference(average)}, less is better), {_verdict(average)}."
    )


def _verdict(average: Mapping[str, Any]) -> str:
    if average["difference"] < -2.0 * average["error"]:
        return "it scores better than that average"
    if average["difference"] > 2.0 * average["error"]:
        return "that average scores better than it"
    return "over all of them it scores no better than that average"


def _difference(average: Mapping[str, Any]) -> str:
    error = "not known" if average["error"] is None else f"{average['error']:.3f}"
    return f"difference {average['difference']:+.3f}, standard error {error}"


def _and_verdict(average: Mapping[str, Any]) -> str:
    return "" if average["error"] is None else f"; {_verdict(average)}"


def _left_out(scores: Mapping[str, Any], never: Mapping[str, Any] | None) -> str:
    """Say how rows of left-out studies were predicted, and whether differences came true."""
    average, pairs = scores["average"], scores["pairs"]
    slopes = [one["slope"] for one in (pairs, never) if one]
    shown = "differences come true" if differences_come_true(pairs, never) else (
        "**it is not shown that differences between schedules come true**: read those below as "
        "what the mechanism says, the larger ones as too large"
        if min(slopes) < LEAST_SLOPE
        else "**it is not shown that differences between schedules come true**"
    )  # fmt: skip
    beside = f"; in {_pairs(never)}" if never else ""
    return (
        f"Of the {scores['rows']} outcomes of {scores['studies']} studies that it learned from, "
        f"{scores['inside']} ({scores['inside'] / scores['rows']:.0%}; 90 % or more would if the "
        "model were true, as counts are whole) lay inside 90 % intervals of posteriors learned "
        f"without their studies: score over {average['rows']} of them "
        f"{scores['crps']:.3f} against {average['crps']:.3f} of the average of similar trials "
        f"({_difference(average)}){_and_verdict(average)}. The printed difference over the "
        "predicted one, on the logit scale, and mean squared errors: in "
        f"{_pairs(pairs, 'left out')}{beside}: {shown}."
    )


def _pairs(pairs: Mapping[str, Any], whose: str = "that nothing was learned from") -> str:
    return (
        f"{pairs['pairs']} pairs of arms of {pairs['studies']} studies {whose} "
        f"{pairs['slope']:.2f} (standard error {pairs['slope_error']:.2f}), {pairs['error']:.3f} "
        f"where no difference has {pairs['of_none']:.3f} ({pairs['less']:+.3f}, standard error "
        f"{pairs['less_error']:.3f})"
    )


def _mixture(mixture: Mapping[str, Mapping[str, float]]) -> str:
    """Say what to expect of a new study: the model mixed with what it must beat."""
    others = " and ".join(
        f"{one['difference']:+.3f} (standard error {one['error']:.3f}) beside the {name}"
        for name, one in mixture.items()
    )
    score = next(iter(mixture.values()))["crps"]
    return (
        "Of a new study in a setting that others have published, expect what a mixture of this "
        f"model with the {' and the '.join(mixture)} says (`fits/evidence/predict_rows.py`; its "
        f"weights are learned from studies left out): score {score:.3f}, {others}. The mixture "
        "hardly sees schedules: differences between cohorts "
        "are this model's alone."
    )


def name_in_words(name: str) -> str:
    """Name a parameter as a haematologist would, its short name in brackets."""
    cards = leukaemia_cards()
    base, _, last = name.rpartition(".")
    words = _WORDS.get(name) or cards.words.get(name)
    if words is None and last in cards.populations and base in cards.words:
        words = f"{cards.words[base]}: {disease_in_words(last)}"
    return f"{words} (`{name}`)" if words else f"`{name}`"


def _known(marrow: dict, learned: Sequence[Learned]) -> list[str]:
    sure = _with_verdict(learned, _ORDER[0])
    lines = [
        "## What published trials say",
        "",
        f"Published outcomes used: {marrow['rows']}, of {marrow['studies']} studies: remission "
        "rates, early deaths, days to recovery, shares of patients with grade 3 or 4 counts, "
        "tolerated doses. No counts of single patients under clofarabine or lenalidomide are "
        "public. Of "
        f"{len(learned)} unknown quantities, {len(sure)} lost half or more of their uncertainty:",
        "",
    ]
    lines += _table(sure) if sure else ["None.", ""]
    little = _with_verdict(learned, _ORDER[1])
    lines += [f"## What they say a little about ({len(little)})", ""]
    if not little:
        return [*lines, "Nothing.", ""]
    lines += [
        "They lost a fifth or more of their uncertainty, or moved by half a standard deviation of "
        "what was believed before, or more:",
        "",
        *_table(little),
    ]
    return lines


def _unknown(learned: Sequence[Learned]) -> list[str]:
    silent = _with_verdict(learned, _ORDER[2])
    title = f"## What they say nothing about ({len(silent)})"
    if not silent:
        return [title, "", "Nothing.", ""]
    lines = [
        title,
        "",
        "They lost less than a fifth of their uncertainty and hardly moved: the interval is about "
        "what was believed before looking at any trial, and every prediction that hangs on it "
        "rests on that belief. Only new data can change it.",
        "",
    ]
    return lines + _table(silent)


def _assumed(learned: Sequence[Learned], structure: str) -> list[str]:
    asked = {entry.name for entry in learned}
    held = [p for n, p in leukaemia_cards(structure).parameters.items() if n not in asked]
    counts = {status: sum(p.status == status for p in held) for status in _STATUS}
    lines = [
        "## What was held at one value",
        "",
        f"{len(held)} further numbers of the model were not asked of the data. Their uncertainty "
        "is in no interval of the report:",
        "",
    ]
    lines += [f"- {n}: {_STATUS[status]}" for status, n in counts.items() if n]
    return [*lines, "", "The report lists the assumed ones that each figure rests on.", ""]


def _answers(trials: Iterable[TrialResult]) -> list[str]:
    lines = ["## What follows for the trials", ""]
    for trial in trials:
        lines += [f"### {trial.trial.name}", ""]
        for row in wording.dlt_rows(trial):
            told = wording.published_text(row)
            lines.append(
                f"- {wording.cohort_title(trial.trial, row.cohort)}: "
                f"{wording.risk_name(trial)} {wording.risk_text(row)}"
                + (f"; published {told}" if told else "")
            )
        for question in trial.questions:
            lines += [f"- {text}" for text in question.answer]
        lines.append("")
        if trial.limits:
            told = (f"- {text}" for text in trial.limits)
            lines += ["What the model cannot do for this trial, or guesses:", "", *told, ""]
    return lines


def _not_in_it() -> list[str]:
    return [
        "## What the model leaves out",
        "",
        "- red cells, and so transfusions of red cells and the haemoglobin of response criteria",
        "- infections themselves: early death is a risk that rises with deep neutropenia, blasts "
        "and age",
        "- toxicity other than low counts (liver, capillary leak), which limits clofarabine at "
        "high doses",
        "- interactions of drugs other than the sum of their kills",
        "- subclones of a leukaemia that resist; disease outside of marrow and blood",
        "- long-term survival, and what is done after the trial's treatment",
        "",
    ]


def _with_verdict(learned: Sequence[Learned], verdict: str) -> list[Learned]:
    found = [entry for entry in learned if entry.verdict == verdict]
    return sorted(found, key=lambda entry: -entry.contraction)


def _table(entries: Sequence[Learned]) -> list[str]:
    lines = [
        "| quantity | median | 90 % interval | uncertainty removed | moved, prior SDs |",
        "|---|---|---|---|---|",
    ]
    for entry in entries:
        # variance of the score: its SD is what a reader calls the width
        removed = 1.0 - math.sqrt(max(1.0 - entry.contraction, 0.0))
        lines.append(
            f"| {name_in_words(entry.name)} | {entry.median:.3g} | {entry.lower:.3g} to "
            f"{entry.upper:.3g} | {max(removed, 0.0):.0%} | {entry.shift:+.1f} |"
        )
    return [*lines, ""]
