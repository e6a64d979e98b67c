"""What ``pkpd forecast`` does: a table of counts and a schedule file to sentence, table, figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pkpd.cards.drug_actions import LEUKAEMIA
from pkpd.cards.rule_cards import load_rule
from pkpd.cards.trial_cards import beside, drug_card_of, load_trial, population_of
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted import FittedEnsemble
from pkpd.ensemble.learned import LearnedEnsemble
from pkpd.ensemble.source import source
from pkpd.errors import PkpdError, sentence
from pkpd.fitting.draws import Fitted
from pkpd.forecasting.forecast import forecast
from pkpd.forecasting.result import Forecast
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.model.joint import load_model
from pkpd.trials import Cohort, DLTRule, Trial

AFTER_THE_LOOK = 7
"""Days simulated after a rule's day, so that a recovery that begins on it is confirmed."""


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
    draws: int = 200,
    alternatives: Sequence[str] = (),
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
    trial = load_trial(schedule)
    chosen = _cohort(trial, cohort)
    wanted = rule_of(trial, chosen, rule)
    last = last_day_of(trial, wanted) if until_day is None else until_day
    found = forecast(
        source_of_cohort(trial, chosen, marrow, posterior, draws, how.get("seed", 1)),
        patient,
        chosen.regimen,
        last,
        rule=wanted,
        alternatives=alternatives,
        **how,
    )
    yield f"{trial.name}, {chosen.label}; {_words(found)}"
    yield ""
    yield from found.summary(by_day).splitlines()
    yield ""
    yield f"written: {', '.join(str(path) for path in write(found, out, formats))}"


def write(found: Forecast, out: Path, formats: Sequence[str] = ("svg",)) -> list[Path]:
    """Write the table and the figures of a forecast.

    Parameters
    ----------
    found
        The forecast.
    out
        Folder; made if need be.
    formats
        ``svg``, ``png``, ``pdf``.

    Returns
    -------
    list of Path
        The files: ``forecast.csv`` and a figure of each patient.
    """
    for kind in formats:
        if kind not in ("svg", "png", "pdf"):
            raise PkpdError(
                sentence(where="figure format", what=f"{kind!r}", allowed="svg, png, pdf")
            )
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "forecast.csv"]
    found.table().to_csv(paths[0], index=False)
    for label in found.patients:
        figure = found.plot(label)
        for kind in formats:
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(label))
            paths.append(out / f"forecast_{name}.{kind}")
            figure.savefig(paths[-1], dpi=200)
    return paths


def _cohort(trial: Trial, name: str | None) -> Cohort:
    if name is not None:
        return trial.cohort(name)
    if len(trial.cohorts) > 1:
        msg = sentence(
            where=f"trial {trial.id}",
            what="it has several cohorts, and the patient got one schedule",
            allowed=", ".join(cohort.id for cohort in trial.cohorts),
            remedy="name one: --cohort",
        )
        raise PkpdError(msg)
    return next(iter(trial.cohorts))


def last_day_of(trial: Trial, rule: DLTRule | None) -> int:
    """Last day of a forecast: that of the file, or a week after the rule's if that is later."""
    if rule is None or rule.by_day is None:
        return trial.horizon_days
    return max(trial.horizon_days, rule.by_day + AFTER_THE_LOOK)


def rule_of(trial: Trial, cohort: Cohort, name: str | None = None) -> DLTRule | None:
    """Rule of a cohort, or another; none if it cannot be simulated."""
    card = name or cohort.rule or trial.rule
    if card is None:
        return None
    found = load_rule(card if name else beside(card, Path(trial.path)))
    if not found.can_be_simulated:
        return None
    return replace(found, clock=cohort.clocks[0])


def source_of_cohort(
    trial: Trial,
    cohort: Cohort,
    marrow: str | None,
    posterior: Path | Fitted | None,
    draws: int,
    seed: int,
) -> Ensemble:
    """Patients of a cohort of a schedule file; parameters as of `pkpd.source`."""
    population = population_of(trial)
    how: dict[str, Any] = {"marrow": marrow, "patients": 1, "draws": draws, "seed": seed}
    made = source(population, posterior=posterior, **how)
    if isinstance(made, LearnedEnsemble):
        return replace(made, arm=arms_of_trial(trial)[cohort.id])
    if isinstance(made, FittedEnsemble):
        return made
    kinetic = [name for name in trial.drugs if drug_card_of(trial, name).pk]
    own = {name: drug_card_of(trial, name).path for name, _ in trial.drug_cards}
    model = load_model(drugs=kinetic, drug_cards={k: v for k, v in own.items() if k in kinetic})
    how["marrow"] = made.marrow
    return source(population, model=model, growth_factor=trial.growth_factor, **how)


def _words(found: Forecast) -> str:
    made = found.forecaster.ensemble
    kind = "with" if made.marrow == LEUKAEMIA else "without"
    return f"marrow {kind} leukaemia, {made.draws} parameter draws"
