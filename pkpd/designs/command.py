"""What ``pkpd design FILE`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pkpd.cards.tables import read_toml
from pkpd.designs.design_card import DesignFile, Scenario, load_design, responses_of
from pkpd.designs.exact.characteristics import characteristics
from pkpd.designs.exact.courses import Courses, enumerate_courses
from pkpd.designs.exact.pathways import pathways
from pkpd.designs.kinds import check_risks
from pkpd.designs.predicted import Predicted, by_dose, over_draws, predicted_lines
from pkpd.designs.rules.crm import TiteCRM
from pkpd.designs.rules.three_plus_three import RollingSix
from pkpd.designs.rules.tite_boin import TiteBOIN
from pkpd.designs.simulate.trials import simulate_trials
from pkpd.designs.tables import has_decision_table, pending_table
from pkpd.designs.text import (
    characteristics_lines,
    days_line,
    heading,
    pathway_lines,
    pending_lines,
    replay,
    table_lines,
)
from pkpd.errors import PkpdError


def design_lines(
    path: Path,
    *,
    table: bool = False,
    ahead: int = 0,
    operating: bool = False,
    risks: str | None = None,
    trials: int = 2000,
    seed: int = 1,
    cluster: str | None = None,
    jobs: int | None = None,
    predict: Callable[..., Predicted] | None = None,
) -> Iterator[str]:
    """Replay a trial and tell its next dose; print tables and characteristics as asked.

    Parameters
    ----------
    path
        Design file.
    table
        Print the decision table; of designs without one, the pathways of the next two cohorts.
    ahead
        Print the pathways of so many cohorts.
    operating
        Print the operating characteristics under the scenarios of the file.
    risks
        True risks instead of the file's scenarios, as ``"0.05,0.15,0.3"``.
    trials, seed, cluster, jobs
        Of simulations; see `pkpd.designs.simulate_trials`.
    predict
        Gives the risks of a schedule file, for files with ``schedules``.

    Yields
    ------
    str
        A line.
    """
    file = load_design(path)
    asked = None if risks is None else _asked(file, risks)
    predicts = bool(file.schedules) and asked is None and predict is not None
    scenarios = file.scenarios if asked is None else (asked,)
    if operating or asked is not None:
        _check_operating(file, path, bool(scenarios) or predicts)
    how = {"trials": trials, "seed": seed, "cluster": cluster, "jobs": jobs}
    _check_cluster(file, cluster if operating or asked is not None else None)
    instead, has_table = "pathways: they", has_decision_table(file.design)
    if table and not has_table and not ahead:
        ahead, instead = 2, "table: this design has none, and pathways in its place"
    waits = bool(file.data().pending)
    # before anything is told: there may be too many
    paths = pathways(file.design, ahead, file.data()) if ahead and not waits else None
    yield from heading(file)
    yield ""
    yield from replay(file)
    if table and has_table:
        yield ""
        yield from table_lines(file.design)
        if isinstance(file.design, TiteBOIN | RollingSix):
            yield ""
            every = 3 if isinstance(file.design, TiteBOIN) else 1
            most = 12 if isinstance(file.design, TiteBOIN) else file.design.enrolled_most
            yield from pending_lines(pending_table(file.design, most, every))
            if weight := getattr(file.design, "least_weight_to_escalate", 0.0):
                yield f"E with patients pending is W until each of them has a weight of {weight:g}."
    if ahead and waits:
        yield ""
        yield f"No {instead} wait until pending patients are assessed."
    elif paths is not None:
        yield ""
        yield from pathway_lines(paths, file.doses)
    if operating or asked is not None:
        if file.seen:
            yield ""
            yield _from_the_start(file)
        if predicts and predict is not None:
            schedules = path.parent / file.schedules
            found = by_dose(file, predict(schedules, seed=seed, jobs=jobs, design=file))
            yield from _under_prediction(file, found, how)
        if scenarios:
            yield from _operating(file, scenarios, how)


def _from_the_start(file: DesignFile) -> str:
    """Say what the patients of the file have to do with the characteristics."""
    weighs = isinstance(file.design, TiteBOIN | TiteCRM) and file.weighs_by_seen
    but = ", but that the weights of pending ones come from the days of their DLTs" * weighs
    return (
        "Operating characteristics are those of the design from its first patient on: the patients "
        f"entered above take no part in them{but}."
    )


def _check_operating(file: DesignFile, path: Path, risks: bool) -> None:
    """Refuse what lacks true risks, or what its simulation needs, before anything is told."""
    if not risks:
        raise PkpdError(
            where=read_toml(path).file,
            what="no true risks are given",
            remedy="add [[scenario]] with name and risks, or schedules = with a schedule file, or "
            "give --risks 0.05,0.15,0.3",
        )
    for key, value, example in (
        ("accrual", file.accrual, "every_days = 14"),
        ("window", file.times, "days = 28"),
    ):
        if value is None and not _is_exact(file):
            what = f"{file.design.name} is simulated in calendar time and [{key}] is missing"
            remedy = f"add [{key}] with {example}"
            where = read_toml(path).file
            raise PkpdError(where=where, what=what, remedy=remedy)


def _check_cluster(file: DesignFile, cluster: str | None) -> None:
    """Refuse a cluster for characteristics of which nothing is simulated."""
    if cluster is not None and _is_exact(file) and (file.accrual is None or file.times is None):
        what = f"characteristics of {file.design.name} are exact, and no trial is simulated"
        remedy = "leave it out, or add [accrual] and [window] to the file for how long trials take"
        raise PkpdError(where="--cluster", what=what, remedy=remedy)


def _is_exact(file: DesignFile) -> bool:
    return not file.design.uses_pending and not file.design.backfills


def _under_prediction(file: DesignFile, found: Predicted, how: Mapping[str, Any]) -> Iterator[str]:
    exact = _is_exact(file)
    mean = Scenario("predicted", tuple(float(risk) for risk in found.risks.mean(axis=0)))
    yield ""
    kind = "exact for simulated risks" if exact else "simulated, as the risks are"
    yield f"Operating characteristics, {kind}: predicted from {file.schedules}."
    if exact:
        courses = enumerate_courses(file.design)
        made = characteristics(file.design, found.risks, courses=courses)
        yield from predicted_lines(file, found, made)
        yield from _days_beside(file, found.risks, how)
        return
    assert file.accrual is not None
    made = simulate_trials(
        file.design, found.risks, accrual=file.accrual, times=file.times, weight=file.weight,
        responses=responses_of(file, mean), **_of_each(found.risks, how),
    )  # fmt: skip
    yield from predicted_lines(file, found, made)
    yield from _who_is_not_backfilled(file, mean)


def _of_each(risks: np.ndarray, how: Mapping[str, Any]) -> dict[str, Any]:
    """Share the trials out among the draws of the risks, two at least to each."""
    return {**how, "trials": max(2, -(-how["trials"] // len(risks)))}


def _operating(
    file: DesignFile, scenarios: Sequence[Scenario], how: Mapping[str, Any]
) -> Iterator[str]:
    exact = _is_exact(file)
    courses = enumerate_courses(file.design) if exact else None
    for scenario in scenarios:
        yield ""
        yield f"Operating characteristics, {'exact' if exact else 'simulated'}: {scenario.name}."
        found = _characteristics(file, scenario, courses, how)
        yield from characteristics_lines(found, file.doses)
        yield from _who_is_not_backfilled(file, scenario)
        if exact:
            yield from _days_beside(file, np.array([scenario.risks]), how)


def _who_is_not_backfilled(file: DesignFile, scenario: Scenario) -> Iterator[str]:
    if file.design.backfills and not scenario.responses:
        yield "No rates of response are given: nobody is backfilled."


def _days_beside(file: DesignFile, risks: np.ndarray, how: Mapping[str, Any]) -> Iterator[str]:
    """Say how long trials take that are exact but for their days, where the file tells enough.

    Over the draws of the risks, ``[draws, levels]``.
    """
    if file.accrual is None and file.times is None:
        return
    if file.accrual is None or file.times is None:
        missing = "accrual" if file.accrual is None else "window"
        yield f"How long trials take is simulated where there is a table [{missing}], too."
        return
    found = simulate_trials(
        file.design, risks, accrual=file.accrual, times=file.times, weight=file.weight,
        **_of_each(risks, how),
    )  # fmt: skip
    yield days_line(over_draws(found))


def _characteristics(
    file: DesignFile, scenario: Scenario, courses: Courses | None, how: Mapping[str, Any]
) -> xr.Dataset:
    if courses is not None:
        return characteristics(file.design, scenario.risks, courses=courses)
    assert file.accrual is not None
    return simulate_trials(
        file.design,
        scenario.risks,
        accrual=file.accrual,
        times=file.times,
        weight=file.weight,
        responses=responses_of(file, scenario),
        **how,
    )


def _asked(file: DesignFile, risks: str) -> Scenario:
    try:
        values = tuple(float(word) for word in risks.split(","))
    except ValueError:
        what, allowed = f"{risks!r} are no risks", "numbers with commas, such as 0.05,0.15,0.3"
        raise PkpdError(where="--risks", what=what, allowed=allowed) from None
    check_risks(values, len(file.doses))
    return Scenario("risks as asked for", values)
