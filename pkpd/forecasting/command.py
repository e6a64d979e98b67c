"""What ``pkpd forecast`` and ``pkpd visits`` do, from files to sentences, tables and figures."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.cards.rule_cards import changed_rule, load_rule, load_rules
from pkpd.cards.trial_cards import (
    beside,
    drug_card_of,
    load_trial,
    patients_of_cohort,
    population_of,
)
from pkpd.cards.trial_drugs import without_card
from pkpd.endpoints.definitions import last_morning
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.fitted_drugs import drugs_of_fit
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.ensemble.source import source
from pkpd.errors import PkpdError
from pkpd.files import frame_text, together, unguarded, write_text
from pkpd.fitting.draws import Fitted
from pkpd.forecasting.bank import BASELINE, OF_LOW_COUNTS, Level, tells_recovery, usual_back
from pkpd.forecasting.forecast import DRAWS, forecast
from pkpd.forecasting.result import Forecast
from pkpd.forecasting.visits import choose_visits
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.model.joint import load_model
from pkpd.schedule import parse_days
from pkpd.trials import Cohort, DLTRule, Trial

AFTER_THE_LOOK = 6
"""Days simulated after the last morning that a rule needs."""

_TABLE = "forecast.csv"
_FORMATS = ("svg", "png", "pdf")


def forecast_lines(
    patient: Path,
    schedule: str,
    out: Path,
    *,
    cohort: str | None = None,
    by_day: int | None = None,
    until_day: int | None = None,
    rule: str | None = None,
    marrow: str | None = None,
    posterior: Path | Fitted | None = None,
    draws: int = DRAWS,
    alternatives: Sequence[str] = (),
    back: Sequence[str] = (),
    units: Sequence[str] = (),
    formats: Sequence[str] = ("svg",),
    **how: Any,
) -> Iterator[str]:
    """Forecast the patients of a table under a schedule file.

    Parameters
    ----------
    patient
        Table of counts so far.
    schedule
        Trial or schedule of one's own, by name or file.
    out
        Folder of the figures and the table.
    cohort
        Which of its cohorts; needed where there are several.
    by_day
        Protocol day that the sentences name.
    until_day
        Last day of the forecast; that of the file, or a week after the rule's if that is later.
    rule, marrow, posterior, draws
        In place of the file's rule; as of `pkpd.source`.
    alternatives
        Further cycles, ``"29"`` or ``"29 at 0.75"``.
    back
        Counts from which lines are back, ``"platelets 50"``; those of the rule where none is
        given.
    units
        Unit of all counts, or ``"ANC cells/uL"`` of a line.
    formats
        Of the figures.
    **how
        Further arguments of `pkpd.forecast`.

    Yields
    ------
    str
        A line.

    Raises
    ------
    PkpdError
        If an input cannot be used.
    """
    with without_card(drugs_of_fit(posterior)):
        trial = load_trial(schedule)
    chosen = _cohort(trial, cohort)
    wanted = rule_of(trial, chosen, rule)
    last = last_day_of(trial, chosen, wanted) if until_day is None else until_day
    found = forecast(
        source_of_cohort(trial, chosen, marrow, posterior, draws, how.get("seed", 1)),
        patient,
        chosen.regimen,
        last,
        rule=wanted,
        alternatives=alternatives,
        back=back_of(back),
        units=units_of(units),
        **how,
    )
    yield f"{trial.name}, {chosen.label}; {_marrow_words(found.forecaster.ensemble)}"
    yield ""
    yield from found.summary(by_day).splitlines()
    yield ""
    yield f"written: {', '.join(str(path) for path in write(found, out, formats))}"


def back_of(texts: Sequence[str]) -> dict[str, Level] | None:
    """Read counts from which lines are back, as the command line has them.

    Examples
    --------
    >>> back_of(["neutrophils 0.5", "platelets >= 50"])
    {'neutrophils': 0.5, 'platelets': 50.0}

    Raises
    ------
    PkpdError
        If a text means nothing, or names a line twice.
    """
    found: dict[str, Level] = {}
    for text in texts:
        read = re.fullmatch(r"\s*([a-z]+)\s*(?:>=|=|:)?\s*(\d+\.?\d*|\.\d+|baseline)\s*", text)
        if read is None or read[1] in found:
            what = f"{text!r} names a line twice" if read else f"{text!r} is no line with a count"
            allowed = '"neutrophils 0.5", "platelets 50" or "neutrophils baseline", each once'
            raise PkpdError(where="--back", what=what, allowed=allowed)
        found[read[1]] = read[2] if read[2] == BASELINE else float(read[2])
    return found or None


def units_of(texts: Sequence[str]) -> dict[str, str] | str | None:
    """Read units of counts, as the command line has them: one of all, or one by line.

    Examples
    --------
    >>> units_of(["cells / uL"]), units_of(["ANC cells/uL", "PLT 10^9/L"])
    ('cells/uL', {'ANC': 'cells/uL', 'PLT': '10^9/L'})

    Raises
    ------
    PkpdError
        If a line has two units, or one of all stands beside those of lines.
    """
    words = [re.sub(r"\s*([*/^])\s*", r"\1", text.replace("=", " ")).split() for text in texts]
    if len(words) == 1 and len(words[0]) == 1:
        return words[0][0]
    pairs = dict(two for two in words if len(two) == 2)
    if len(pairs) < len(words):
        raise PkpdError(
            where="--units",
            what=f"{', '.join(map(repr, texts))} are not units of lines",
            allowed='one unit of all counts, "cells/uL", or one of each line, "ANC cells/uL"',
        )
    return pairs or None


def write(found: Forecast, out: Path, formats: Sequence[str] = ("svg",)) -> list[Path]:
    """Write the table and the figures of a forecast.

    Parameters
    ----------
    found
        The forecast.
    out
        Folder; made if need be. Figures of the patients of an earlier ``forecast.csv`` that are not
        written again go.
    formats
        ``svg``, ``png``, ``pdf``.

    Returns
    -------
    list of Path
        The files: ``forecast.csv`` and a figure of each patient, in the order of the patients.
    """
    for kind in formats:
        if kind not in _FORMATS:
            raise PkpdError(where="figure format", what=f"{kind!r}", allowed=", ".join(_FORMATS))
    names = [_TABLE]
    with together(out, last=_TABLE, earlier=_figures_before) as stage:
        write_text(stage / _TABLE, frame_text(found.table()))
        for label, stem in zip(found.patients, _stems(found.patients), strict=True):
            figure = found.plot(label)
            for kind in formats:
                names.append(f"{stem}.{kind}")
                figure.savefig(stage / names[-1], dpi=200)
    return [out / name for name in names]


def _stems(labels: Iterable[Any]) -> list[str]:
    """Names of the figures of patients, without their endings."""
    taken: dict[str, str] = {}
    for label in labels:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(label))
        while name.casefold() in taken:  # A/1 and A_1
            name += "_"
        taken[name.casefold()] = f"forecast_{name}"
    return list(taken.values())


def _figures_before(folder: Path) -> set[str]:
    """Figures that an earlier forecast may have written here, by the patients of its table."""
    try:
        with (folder / _TABLE).open(encoding="utf-8", newline="") as file:
            labels = dict.fromkeys(unguarded(row["patient"]) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return set()
    return {f"{stem}.{kind}" for stem in _stems(labels) for kind in _FORMATS}


def _cohort(trial: Trial, name: str | None) -> Cohort:
    if name is not None:
        return trial.cohort(name)
    if len(trial.cohorts) > 1:
        raise PkpdError(
            where=f"trial {trial.id}",
            what="it has several cohorts, and the patient got one schedule",
            allowed=", ".join(cohort.id for cohort in trial.cohorts),
            remedy="name one: --cohort",
        )
    return next(iter(trial.cohorts))


def last_day_of(trial: Trial, cohort: Cohort, rule: DLTRule | None) -> int:
    """Last day of a forecast: that of the file, or a week after the rule's if that is later."""
    if rule is None or rule.by_day is None:
        return trial.horizon_days
    return max(trial.horizon_days, last_morning(cohort.regimen, rule) + AFTER_THE_LOOK)


def rule_of(trial: Trial, cohort: Cohort, name: str | None = None) -> DLTRule | None:
    """Rule of a cohort, none if it cannot be simulated; or another by name, which must be able to.

    Raises
    ------
    PkpdError
        If the one named has no counts.
    """
    card = name or cohort.rule or trial.rule
    if card is None:
        return None
    found = load_rule(card if name else beside(card, Path(trial.path)))
    if not name:
        found = changed_rule(found, trial.rule_change)
    if not found.can_be_simulated:
        if name:
            raise _unfit(found, "it has no counts", lambda other: other.can_be_simulated)
        return None
    return replace(found, clock=cohort.clocks[0])


def _recovery_rule(trial: Trial, cohort: Cohort, name: str | None) -> DLTRule | None:
    """As `rule_of`, for what recovered means: one that is named must say so."""
    found = rule_of(trial, cohort, name)
    if name and found is not None and not tells_recovery(found):
        raise _unfit(found, OF_LOW_COUNTS, tells_recovery)
    return found


def _unfit(rule: DLTRule, what: str, good: Callable[[DLTRule], bool]) -> PkpdError:
    names = (name for name, other in load_rules().items() if good(other))
    return PkpdError(where=f"--rule {rule.name}", what=what, allowed=", ".join(names))


BODIES = 1000
"""Patients whose covariates the virtual patients of a fit take in turn."""


def source_of_cohort(
    trial: Trial,
    cohort: Cohort,
    marrow: str | None,
    posterior: Path | Fitted | None,
    draws: int,
    seed: int,
) -> Ensemble:
    """Patients of a cohort of a schedule file; parameters as of `pkpd.source`."""
    population = patients_of_cohort(cohort, population_of(trial))
    how: dict[str, Any] = {"marrow": marrow, "patients": 1, "draws": draws, "seed": seed}
    made = source(population, posterior=posterior, **how)
    if isinstance(made, LearnedEnsemble):
        return replace(made, arm=arms_of_trial(trial)[cohort.id])
    if isinstance(made, FittedEnsemble):
        if trial.growth_factor.below > 0.0:
            raise PkpdError(
                where=f"schedule {trial.id}, table [growth_factor]",
                what="growth factor is given by need, which no forecast from a fit simulates",
                remedy="leave [growth_factor] out, or forecast without --posterior",
            )
        # bodies of a fit are a sample; those of other sources are drawn for each patient
        how["patients"] = BODIES
        return source(population, posterior=posterior, **how)
    kinetic = [name for name in trial.drugs if drug_card_of(trial, name).pk]
    own = {name: drug_card_of(trial, name).path for name, _ in trial.drug_cards}
    model = load_model(drugs=kinetic, drug_cards={k: v for k, v in own.items() if k in kinetic})
    how["marrow"] = made.marrow
    return source(population, model=model, growth_factor=trial.growth_factor, **how)


def _marrow_words(made: Ensemble) -> str:
    kind = "with" if made.marrow == LEUKAEMIA else "without"
    return f"marrow {kind} leukaemia, {made.draws} parameter draws"


def visits_lines(
    schedule: str,
    budget: int,
    days: str,
    *,
    always: str | None = None,
    cohort: str | None = None,
    until_day: int | None = None,
    rule: str | None = None,
    marrow: str | None = None,
    posterior: Path | Fitted | None = None,
    draws: int = DRAWS,
    **how: Any,
) -> Iterator[str]:
    """Choose visits under a schedule file.

    Parameters
    ----------
    schedule, cohort, until_day, rule, marrow, posterior, draws
        As of `forecast_lines`.
    budget
        Number of visits.
    days, always
        Days that can be chosen, and those on which blood is drawn anyway, as a protocol writes
        them.
    **how
        Further arguments of `pkpd.forecasting.choose_visits`.

    Yields
    ------
    str
        A line.

    Raises
    ------
    PkpdError
        If an input cannot be used.
    """
    with without_card(drugs_of_fit(posterior)):
        trial = load_trial(schedule)
    chosen = _cohort(trial, cohort)
    made = source_of_cohort(trial, chosen, marrow, posterior, draws, how.get("seed", 1))
    last = trial.horizon_days if until_day is None else until_day
    own = _recovery_rule(trial, chosen, rule)
    if own is not None and not tells_recovery(own):  # the file's
        how = {"back": usual_back(made.lines), **how}
    plan = choose_visits(
        made,
        chosen.regimen,
        parse_days(days)[0],
        budget,
        always=parse_days(always)[0] if always else (),
        rule=own,
        until_day=last,
        clock=chosen.clocks[0],
        **how,
    )
    yield f"{trial.name}, {chosen.label}; {_marrow_words(made)}"
    yield ""
    yield plan.sentence()
    yield ""
    heads = {"error": "error of the median day", "crps": "CRPS, days", "entropy": "entropy, bits"}
    yield f"visits  {heads[plan.loss]:<23}  less than evenly spread  days"
    for one in plan.sets:
        yield (
            f"{len(one.days):<6d}  {one.error:11.2f} +- {one.error_se:4.2f}      "
            f"{0.0 - one.less_even:11.2f} +- {one.less_even_se:4.2f}    "
            f"{', '.join(map(str, one.days))}"
        )
    yield ""
    yield f"usual visits  {heads[plan.loss]:<23}  less by the {len(plan.best.days)} chosen  days"
    for one in plan.usual:
        yield (
            f"{one.name:<12}  {one.error:11.2f} +- {one.error_se:4.2f}      "
            f"{-one.best_less:11.2f} +- {one.best_less_se:4.2f}    "
            f"{', '.join(map(str, one.days))}"
        )
    left = plan.patients - plan.denominator
    died = f"; {left} more died before the last day" if left else ""
    yield f"judged in {plan.denominator} virtual patients{died}"
