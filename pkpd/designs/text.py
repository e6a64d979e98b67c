"""Decisions, tables and characteristics as lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import xarray as xr

from pkpd.designs.data import Action, Decision, Why
from pkpd.designs.design_card import DesignFile
from pkpd.designs.exact.characteristics import sides_of
from pkpd.designs.exact.pathways import Pathways
from pkpd.designs.rules.interval import IntervalDesign
from pkpd.designs.rules.three_plus_three import RollingSix, ThreePlusThree
from pkpd.designs.seen_card import SeenCohort
from pkpd.designs.tables import DecisionTable, PendingRow, decision_table

_DOSE = re.compile(r"\bdose (\d+)\b")
_FAR = 1.4  # times the target: the lowest risk that BOIN takes as too high
LEGEND = "E escalate, S stay, D de-escalate, W wait, X drop the dose and all higher ones"


def named(text: str, doses: Sequence[str]) -> str:
    """Put the names of doses in the place of their numbers.

    Examples
    --------
    >>> named("Stay at dose 2.", ["5 mg", "10 mg"])
    'Stay at 10 mg.'
    """
    return _DOSE.sub(lambda found: doses[int(found[1]) - 1], text)


def columns(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows of cells as lines with aligned columns, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    right = [
        all(re.fullmatch(r"[-+0-9.% ]*|never", cell) for cell in column[1:])
        for column in zip(*cells, strict=True)
    ]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def heading(file: DesignFile) -> list[str]:
    """Title, design and doses."""
    design = file.design
    start = file.doses[design.start - 1]
    size = f"cohorts of {design.cohort_size}" if design.cohort_size > 1 else "one by one"
    if design.cohort_size > 1 and getattr(design, "titrate", False):
        size = f"one by one up to the first DLT or the highest dose, then {size}"
    most = f", at most {design.most_patients}" if design.most_patients is not None else ""
    most += " and those who are backfilled" if most and design.backfills else ""
    lines = [file.title]
    if file.note:
        lines.append(file.note)
    lines.append(f"{design.name}: {', '.join(file.doses)}; start at {start}; {size}{most}.")
    return lines


def next_step(decision: Decision, doses: Sequence[str]) -> str:
    """Say what happens next, in a few words.

    Examples
    --------
    >>> next_step(Decision(Action.ESCALATE, 2, "None of 3."), ["5 mg", "10 mg"])
    'escalate to 10 mg'
    """
    if decision.action == Action.STOP:
        if decision.mtd is None:
            return "stop, no dose is selected"
        return f"stop, {doses[decision.mtd - 1]} is selected"
    dose = doses[(decision.level or 1) - 1]
    words = {
        Action.START: f"start at {dose}",
        Action.ESCALATE: f"escalate to {dose}",
        Action.STAY: f"stay at {dose}",
        Action.DEESCALATE: f"de-escalate to {dose}",
        Action.SUSPEND: "suspend accrual",
    }
    return words[decision.action]


def replay(file: DesignFile) -> list[str]:
    """Tell what was seen and what the design said after each cohort, then the next dose."""
    lines = []
    if file.seen and not file.by_patient:
        rows: list[Sequence[object]] = [("cohort", "dose", "patients", "DLTs", "the design says")]
        for k, row in enumerate(file.seen, start=1):
            said = next_step(file.design.next_dose(file.data(k)), file.doses)
            if k < len(file.seen):
                said += _departed(file, k)
            name = file.doses[row.level - 1] + (" (backfilled)" if row.backfilled else "")
            rows.append((k, name, row.treated, row.dlts, said))
        lines += [*columns(rows), ""]
    elif file.seen:
        lines += [*columns(_by_dose(file.doses, file.seen)), ""]
    if file.not_judged:
        lines += [left_out(file), ""]
    return lines + verdict(file.design.next_dose(file.data()), file.doses)


def left_out(file: DesignFile) -> str:
    """Say how many patients cannot be judged, and that they do not count."""
    count = len(file.not_judged)
    by_dose = [
        f"{name} {file.not_judged.count(level)}"
        for level, name in enumerate(file.doses, start=1)
        if level in file.not_judged
    ]
    who = "1 patient who" if count == 1 else f"{count} patients who"
    return f"Left out: {who} cannot be judged ({', '.join(by_dose)})."


def _departed(file: DesignFile, k: int) -> str:
    """Say where the trial went if the design said otherwise."""
    found, after = file.design.next_dose(file.data(k)), file.seen[k]
    level = found.level
    if after.backfilled or (level == after.level and found.action != Action.STOP):
        return ""
    return f" (the trial went to {file.doses[after.level - 1]})"


def _by_dose(doses: Sequence[str], seen: Sequence[SeenCohort]) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = [("dose", "patients", "DLTs", "pending", "weight")]
    for level, name in enumerate(doses, start=1):
        here = [one for one in seen if one.level == level]
        weights = [weight for one in here for weight in one.pending]
        parts = [part for one in here for part in one.fractions]
        total = f"{sum(weights):.2f}" if weights else ""
        total += f"{', ' if weights and parts else ''}{sum(parts):.2f} DLTs" if parts else ""
        treated, dlts = sum(one.treated for one in here), sum(one.dlts for one in here)
        rows.append((name, treated, dlts, len(weights) + len(parts), total))
    return rows


def verdict(decision: Decision, doses: Sequence[str]) -> list[str]:
    """Next dose and its reason."""
    step = next_step(decision, doses)
    lines = [f"Next: {step}. {named(decision.reason, doses)}"]
    if decision.backfill:
        lines.append(f"Backfill: {doses[decision.backfill - 1]}.")
    if decision.eliminated and decision.action != Action.STOP:
        out = ", ".join(doses[level - 1] for level in decision.eliminated)
        lines.append(f"Not to be given: {out}.")
    return lines


# -- tables ---------------------------------------------------------------------------------------


def boundary_lines(design: IntervalDesign, most: int) -> list[str]:
    """Boundaries of an interval design, a row for each number of patients."""
    table, lowest = design.boundaries(most), design.lowest_boundary(most)
    parts = [table.escalate, table.de_escalate, table.eliminate]
    titles = ["patients", "escalate at", "de-escalate at", "drop at"]
    head = "DLTs at one dose: escalate at so many or fewer, de-escalate or drop at so many or more."
    if (lowest != table.eliminate).any():
        parts.append(lowest)
        titles.append("drop lowest at")
        head += " The lowest dose is dropped, and the trial stops, by the last column."
    rows: list[Sequence[object]] = [titles]
    for n in range(most):
        counts = (int(part[n]) for part in parts)
        rows.append((n + 1, *(count if count >= 0 else "never" for count in counts)))
    return [head, *columns(rows)]


def letter_lines(table: DecisionTable) -> list[str]:
    """Lay a decision table out, patients across and DLTs down."""
    rows: list[Sequence[object]] = [("DLTs", *table.patients.tolist())]
    for y in range(table.letters.shape[1]):
        rows.append((y, *table.letters[:, y].tolist()))
    return [f"Decision by patients (across) and DLTs: {LEGEND}.", *columns(rows)]


def pending_lines(rows: Sequence[PendingRow]) -> list[str]:
    """Decisions with pending patients; equal ones of neighbouring counts in one row."""
    made: list[Sequence[object]] = [("patients", "DLTs", "pending", "decision")]

    def words(row: PendingRow) -> str:
        parts = [row.letters[0]]
        parts += [
            f"{letter} from weight {cut:.2f}"
            for letter, cut in zip(row.letters[1:], row.at_least, strict=True)
        ]
        return ", ".join(parts)

    keyed = groupby(rows, key=lambda row: (row.patients, row.dlts, words(row)))
    for (n, y, text), group in keyed:
        pending = [row.pending for row in group]
        span = f"{pending[0]}-{pending[-1]}" if len(pending) > 1 else str(pending[0])
        made.append((n, y, span, text))
    return [f"Decision with patients pending, by their total weight: {LEGEND}.", *columns(made)]


def table_lines(design: object) -> list[str]:
    """Decision table of 3+3, rolling six or an interval design."""
    if isinstance(design, IntervalDesign):
        return boundary_lines(design, min(30, design.most_patients or 30))
    lines = letter_lines(decision_table(design))  # type: ignore[arg-type]
    if isinstance(design, ThreePlusThree):
        lines.append(_at_the_ends(design))
    if isinstance(design, RollingSix) and design.enrolled_most > 3:
        seen, known = {
            4: ("3", "4 are assessed"),
            5: ("3 and 4", "5 are assessed"),
        }.get(design.enrolled_most, ("3 and 4", "5 are assessed without a DLT, or 6"))
        lines.append(
            f"At the highest dose, and below one with D, E at {seen} patients is S: such a dose is "
            f"selected once {known}."
        )
    return lines


def _at_the_ends(design: ThreePlusThree) -> str:
    """Say what 3+3 does at the highest dose and below an exceeded one."""
    top = "six patients are needed too: S at 3 patients without a DLT, then it is selected at E"
    if not design.six_at_top:
        top = "it is selected at E, of three patients without a DLT too"
    below = "filled up to six patients" if design.de_escalate else "selected as it stands"
    return f"At the highest dose {top}. The dose below one with D is {below}."


def pathway_lines(paths: Pathways, doses: Sequence[str]) -> list[str]:
    """Dose-transition pathways, a line for each."""
    cohorts = paths.dlts.shape[1]
    head: list[object] = []
    for k in range(1, cohorts + 1):
        head += [f"dose {k}", "DLTs of"]
    rows: list[Sequence[object]] = [(*head, "then")]
    parts = (paths.levels, paths.dlts, paths.sizes, paths.why, paths.mtd)
    for level, dlts, size, why, mtd in zip(*parts, strict=True):
        cells: list[object] = []
        for k in range(cohorts):
            cells += [doses[level[k] - 1], f"{dlts[k]}/{size[k]}"] if dlts[k] >= 0 else ["", ""]
        if why == Why.GOES_ON:
            then = doses[level[-1] - 1]
        else:
            picked = doses[mtd - 1] if mtd else "no dose"
            then = f"stop ({Why(int(why)).words}): {picked}"
        rows.append((*cells, then))
    title = f"Doses after every outcome of the next {cohorts} cohorts."
    return [
        title if cohorts > 1 else "Doses after every outcome of the next cohort.",
        *columns(rows),
    ]


# -- characteristics ------------------------------------------------------------------------------


def characteristics_lines(
    found: xr.Dataset,
    doses: Sequence[str],
    risk: str = "true risk",
    errors: Sequence[float] = (),
) -> list[str]:
    """Operating characteristics under one scenario.

    Parameters
    ----------
    found
        As `characteristics` or `simulate_trials` gives them.
    doses
        Their names.
    risk, errors
        Heading of the risks, and their Monte Carlo errors where they were simulated.
    """
    simulated = "selected_se" in found
    rows: list[Sequence[object]] = [("dose", risk, "selected", "patients", "DLTs")]

    def share(name: str, j: int | None = None) -> str:
        value = float(found[name] if j is None else found[name][j])
        if not simulated:
            return f"{100 * value:.{1 if errors else 2}f} %"
        error = float(found[f"{name}_se"] if j is None else found[f"{name}_se"][j])
        return f"{100 * value:.1f} +- {100 * error:.1f} %"

    for j, name in enumerate(doses):
        p, n, y = (float(found[key][j]) for key in ("risk", "treated", "dlts"))
        of_risk = f"{p:.3f} +- {errors[j]:.3f}" if errors else f"{p:.3f}"
        rows.append((name, of_risk, share("selected", j), f"{n:.2f}", f"{y:.2f}"))
    total, dlts = float(found.patients), float(found.all_dlts)
    rows.append(("none / all", "", share("none"), f"{total:.2f}", f"{dlts:.2f}"))
    lines = columns(rows)
    risks = found.risk.values
    falls = [j for j in range(1, len(doses)) if risks[j] < risks[j - 1]]
    if falls:
        j = falls[0]
        lines.append(
            f"True risks fall from {doses[j - 1]} ({risks[j - 1]:g}) to {doses[j]} ({risks[j]:g}): "
            "designs take risks to rise with the dose."
        )
    if "correct" in found and float(risks.min()) > _FAR * found.attrs["target"]:
        least = "the dose of the least risk" if falls else doses[0]
        lines.append(
            f"Even {least} is far above the target {found.attrs['target']:g}: no dose is selected "
            f"with probability {float(found.none):.3f}."
        )
    elif "correct" in found:
        lines.append(_closest_line(found, doses, rising=not falls))
    stops = [
        f"{why} {100 * float(share_):.1f} %"
        for why, share_ in zip(found["why"].values, found.stopped.values, strict=True)
        if share_ > 5e-4
    ]
    lines.append(f"The trial ends: {', '.join(stops)}.")
    if "duration" in found:
        lines.append(days_line(found))
    return lines


def _closest_line(found: xr.Dataset, doses: Sequence[str], rising: bool) -> str:
    """Say how often the doses closest to the target are selected, and those of a higher risk."""
    target = found.attrs["target"]
    sides = sides_of(found.risk.values[None], target)[0]
    right = [name for name, side in zip(doses, sides, strict=True) if side == 0]
    one = len(right) == 1
    if one:
        text = f"The dose closest to the target {target:g} is {right[0]}: selected"
    else:
        names = f"{', '.join(right[:-1])} and {right[-1]}"
        text = f"The doses closest to the target {target:g} are {names}: one of them is selected"
    higher, above = ("a higher one", f"above {'it' if one else 'them'}")
    if not rising:
        higher, above = ("one of a higher risk", "at such a risk")
    return (
        f"{text} with probability {float(found.correct):.3f}, {higher} with "
        f"{float(found.too_high):.3f}; {100 * float(found.overdosed):.1f} % of patients are "
        f"treated {above}."
    )


def days_line(found: xr.Dataset) -> str:
    """Say how long trials take that `simulate_trials` ran."""
    days, error = float(found.duration), float(found.duration_se)
    wait = float(found.suspended)
    backfilled = float(np.sum(found.backfilled))
    text = f"It takes {days:.0f} days (+- {error:.1f}), accrual suspended for {wait:.0f}"
    text += f"; {backfilled:.1f} patients are backfilled" if backfilled else ""
    text += "; patients who cannot be judged, and their places, take no time here"
    return f"{text}; {found.attrs['trials']} trials simulated."
