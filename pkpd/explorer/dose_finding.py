"""A dose-finding design over the schedules of a page: next dose, and what to expect of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.cards.every_problem import problems_of
from pkpd.cards.tables import Table
from pkpd.comparison.lanes import can_be_judged
from pkpd.comparison.results import EndpointRow
from pkpd.comparison.uncertainty import Risk, risk
from pkpd.designs.design_card import DesignFile, design_of
from pkpd.designs.exact.characteristics import characteristics
from pkpd.designs.exact.courses import Courses, enumerate_courses
from pkpd.designs.protocol import Design
from pkpd.designs.text import heading, verdict
from pkpd.errors import CardError, PkpdError
from pkpd.explorer.choices import OFFERED, WITH_TARGET
from pkpd.explorer.simulation import Explored
from pkpd.explorer.state import BadStateError
from pkpd.explorer.toml import write_toml
from pkpd.report import wording

FILE_NAME = "design.toml"
MOST_PATIENTS = 36
_FALLS = 0.9  # share of draws: chosen
_ERRORS = 2.0  # Monte Carlo standard errors: chosen


def dose_finding(found: Explored, asked: Any) -> dict[str, Any]:
    """Next dose of a trial whose doses are the schedules of a page, and its characteristics.

    Parameters
    ----------
    found
        The schedules, from the lowest dose to the highest.
    asked
        ``name``, ``target``, ``most_patients``, ``current`` (number of the schedule of the last
        cohort) and ``seen``: for each schedule ``treated`` and ``dlts``.

    Raises
    ------
    BadStateError
        With one error for each problem; its place begins with ``design``.
    """
    data, rows = _file(found, asked)
    problems = [_placed(error, rows) for error in problems_of(data, _design)]
    if problems:
        raise BadStateError(problems)
    file = _design(data)
    content = {
        "sentence": " ".join(verdict(file.design.next_dose(file.data()), file.doses)),
        "heading": heading(file)[-1],
        "toml": write_toml(data),
    }
    judged = _risks(found)
    if judged is None:
        what = "The rule judges too few patients of a schedule, so that its risk is not known."
        return {**content, "expected": what, "doses": [], "table": {"heads": [], "rows": []}}
    _check_order(judged, file.doses)
    risks = np.clip(np.array([one.by_draw for one in judged]).T, 0.0, 1.0)
    told = {row.cohort: row for row in reversed(found.result.rows) if row.endpoint == "dlt"}
    shown = [told[cohort.id] for cohort in found.result.trial.cohorts]
    return {**content, **_expected(file, risks, shown)}


def _design(data: Mapping[str, Any]) -> DesignFile:
    return design_of(data, FILE_NAME)


def _file(found: Explored, asked: Any) -> tuple[dict[str, Any], list[int]]:
    """Design file of what was asked for, and the schedule of each of its cohorts."""
    page = Table(asked if isinstance(asked, dict) else {}, FILE_NAME, keys=("design",))
    labels = [cohort.label for cohort in found.result.trial.cohorts]
    try:
        settings = _settings(page)
        current = page.integer("current", 0, minimum=0, maximum=len(labels))
    except PkpdError as error:
        raise BadStateError([error]) from error
    seen = page.data.get("seen")
    seen = seen if isinstance(seen, list) else []
    treated = [n for n, one in enumerate(seen[: len(labels)]) if _treated(one)]
    if current and current - 1 not in treated:
        what, remedy = f"{labels[current - 1]} has no patients", "give them, or another schedule"
        raise BadStateError([page.error("current", what, remedy=remedy)])
    rows = [n for n in treated if n + 1 != current] + [n for n in treated if n + 1 == current]
    cohorts = [
        {"dose": labels[n], "treated": seen[n].get("treated", 0), "dlts": seen[n].get("dlts", 0)}
        for n in rows
    ]
    data = {
        "kind": "design",
        "title": found.result.trial.title,
        "doses": labels,
        "design": settings,
        **({"cohort": cohorts} if cohorts else {}),
    }
    return data, rows


def _settings(page: Table) -> dict[str, Any]:
    name = page.one_of("name", OFFERED, "3+3")
    if name not in WITH_TARGET:
        return {"name": name}
    return {
        "name": name,
        "target": page.number("target", 0.25, minimum=0.05, maximum=0.6),
        "most_patients": page.integer("most_patients", 30, minimum=3, maximum=MOST_PATIENTS),
    }


def _treated(one: Any) -> bool:
    return isinstance(one, dict) and any(
        one.get(k) not in (None, "", 0) for k in ("treated", "dlts")
    )


def _placed(error: PkpdError, rows: list[int]) -> PkpdError:
    """Error with the place of its control: the schedule in place of the cohort of the file."""
    if not isinstance(error, CardError):
        return error
    keys = error.keys
    if keys[:1] == ("cohort",) and len(keys) > 1:
        keys = ("seen", rows[keys[1]], *keys[2:])
    elif keys[:1] == ("design",):
        keys = keys[1:]
    error.keys = ("design", *keys)
    return error


def _risks(found: Explored) -> list[Risk] | None:
    """Risk of each schedule under the same draws; none where too few can be judged."""
    cohorts = [cohort.id for cohort in found.result.trial.cohorts]
    if any(c not in found.dlt or not can_be_judged(found.dlt[c]) for c in cohorts):
        return None
    matrices = [found.dlt[c] for c in cohorts]
    known = ~np.any([np.isnan(m).all(axis=1) for m in matrices], axis=0)
    if not known.any():
        return None
    return [risk(m[known]) for m in matrices]


def _check_order(risks: Sequence[Risk], labels: Sequence[str]) -> None:
    """Refuse schedules in another order than that of their risks: a design would go up to less."""
    for (before, label), (after, higher) in pairwise(zip(risks, labels, strict=True)):
        falls = float((after.by_draw < before.by_draw).mean())
        error = float(np.hypot(before.mc_error, after.mc_error))
        # few patients, who are the same in all draws, can make it fall in each
        if falls > _FALLS and before.estimate - after.estimate > _ERRORS * error:
            what = f"the risk of {higher} is below that of {label}, which stands before it, in "
            what += f"{wording.percent(falls)} of the draws"
            remedy = "put the schedules in the order of their risks: the design escalates in it"
            place = Table({}, FILE_NAME, keys=("design",))
            raise BadStateError([place.error(None, what, remedy=remedy)])


@lru_cache(maxsize=16)
def _courses(design: Design) -> Courses:
    return enumerate_courses(design)


def _expected(
    file: DesignFile, risks: NDArray[np.float64], shown: Sequence[EndpointRow]
) -> dict[str, Any]:
    """Characteristics under every draw of the posterior, and their mean; risks as on the page."""
    design = file.design
    made = characteristics(design, risks, courses=_courses(design))
    chosen, treated, dlts = (made[name].values for name in ("selected", "treated", "dlts"))
    rows, doses = [], []
    for n, label in enumerate(file.doses):
        mean, low, high = shown[n].estimate, shown[n].lower, shown[n].upper
        doses.append(
            {
                "label": label,
                "risk": mean,
                "lower": None if np.isnan(low) else float(low),
                "upper": None if np.isnan(high) else float(high),
                "selected": float(chosen[:, n].mean()),
            }
        )
        rows.append(
            [
                label,
                wording.percent(mean),
                wording.percent_range(low, high, mean),
                wording.percent(float(chosen[:, n].mean())),
                f"{treated[:, n].mean():.1f}",
                f"{dlts[:, n].mean():.1f}",
            ]
        )
    none = float(made["none"].values.mean())
    rows.append(["none", "", "", wording.percent(none), "", ""])
    most = max(doses, key=lambda dose: dose["selected"])
    patients, all_dlts = (float(made[name].values.mean()) for name in ("patients", "all_dlts"))
    told = (
        f"A new trial of this design selects {most['label']} most often, in "
        f"{wording.percent(most['selected'])} of trials, and no dose in {wording.percent(none)}; "
        f"it treats {patients:.0f} patients, {all_dlts:.1f} of them with a DLT (exact under each "
        f"of {len(risks)} draws of the posterior, and averaged; a patient whom the rule cannot "
        "judge is replaced)."
    )
    heads = ["Dose", "Risk", "90 % interval", "Selected", "Patients", "DLTs"]
    return {
        "expected": told,
        "doses": doses,
        "none": none,
        "table": {"heads": heads, "rows": rows},
    }
