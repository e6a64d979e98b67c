"""What the marrows assume, in the sentences that a report prints: how its figures are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pkpd.course.transfusion import TRIGGER
from pkpd.endpoints.definitions import death_words, recovery_words
from pkpd.schedule.growth_factor import NEVER, GrowthFactorPolicy
from pkpd.trials import DLTRule

NOT_LEARNED = "assumed: this marrow has not been tested on pairs of arms"
"""What is known of differences between cohorts in a marrow with published parameters."""

NOT_TESTED = "not known: the fitted model has not been tested on pairs of arms"
"""The same in a marrow that a user fitted."""

LEAST_SLOPE = 0.7
"""Of printed on predicted differences, for these to have come true."""


def differences_come_true(
    pairs: Mapping[str, float], never: Mapping[str, float] | None = None
) -> bool:
    """Whether predicted differences between arms came true.

    In studies left out their squared error is below that of no difference by more than a standard
    error, and printed differences are 0.7 to 1.3 of them; in studies never learned from they may
    be 0.7 of them, too, within two standard errors.

    Parameters
    ----------
    pairs, never
        Scores of pairs of arms of studies left out and never learned from, as the record of a
        posterior has them.
    """
    came = pairs["less"] < -pairs["less_error"] and LEAST_SLOPE <= pairs["slope"] <= 1.3
    return came and (never is None or never["slope"] + 2.0 * never["slope_error"] >= LEAST_SLOPE)


def differences_in_words(tested: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str:
    """Say whether differences between cohorts are learned, assumed or not known.

    Parameters
    ----------
    tested
        Tests of a posterior, as its record has them.
    before
        Those of the posterior before its draws were weighted anew, told where it has none.
    """
    found = tested or before or {}
    pairs, never = found.get("left_out", {}).get("pairs"), found.get("pairs")
    if not pairs:
        return NOT_LEARNED
    known = differences_come_true(pairs, never)
    whose = "" if tested else "before rows were added or left out, "
    words = (
        f"{'learned' if known else 'not known'}: {whose}between {pairs['pairs']} pairs of arms of "
        f"{pairs['studies']} studies that the model had not seen, differences were "
        f"{pairs['slope']:.2f} (standard error {pairs['slope_error']:.2f}) of those it predicted, "
        f"and a forecast of no difference was {_none(pairs)}"
    )
    if never:
        words += (
            f"; between {never['pairs']} of {never['studies']} studies that nothing was learned "
            f"from, {never['slope']:.2f} ({never['slope_error']:.2f}), and it was {_none(never)}"
        )
    return words


def _none(pairs: Mapping[str, float]) -> str:
    """How a forecast of no difference was beside that of the model."""
    if abs(pairs["less"]) <= pairs["less_error"]:
        return "as good"
    return "worse" if pairs["less"] < 0.0 else "better"


def reading(rule: DLTRule | None, transfused: bool, platelets: bool = True) -> tuple[str, ...]:
    """Sentences on how counts are read, the same in every marrow.

    Parameters
    ----------
    rule
        The count rule, which may define recovery.
    transfused
        Whether platelets are.
    platelets
        Whether there are any.
    """
    whose = "with transfused platelets; low" if transfused else "without transfusion; low"
    care = (
        f"platelets are transfused on mornings with a count below {TRIGGER:g}"
        if transfused
        else "platelets are not transfused"
    )
    return (
        "counts are taken every morning, except where a row says on visits; nadirs and grades are "
        f"those of the laboratory, {whose} counts and recovery are those of the patient's own "
        "cells",
        f"a count is recovered on {recovery_words(rule)}; this is looked for from the planned "
        "last dose of the first cycle, given or held, until the first dose of the next, in "
        "verdicts, tables and curves alike",
        "by day N means by the end of that day, the next morning's count included; a threshold is "
        "met at the count itself",
        *([care] if platelets else []),
    )


def marrow_assumptions(
    rule: DLTRule | None, transfused: bool, growth_factors: Sequence[str] = ()
) -> tuple[str, ...]:
    """Sentences on the marrow without leukaemia, whose lines are simulated one by one.

    Parameters
    ----------
    rule, transfused
        As of :func:`reading`.
    growth_factors
        Which are given, and how.
    """
    given = "neutrophil counts are without growth factors"
    if growth_factors:
        given = f"growth factors act on neutrophils by their amount: {', '.join(growth_factors)}"
    return (
        "this first marrow has no leukaemic cells: a rule that asks for a marrow without leukaemia "
        "is taken as applying to every patient, and early death is not simulated",
        "the marrow is released from leukaemia at the first dose, before any drug has cleared it: "
        "counts that start low rise until the drugs act",
        given,
        *reading(rule, transfused),
    )


def leukaemia_assumptions(
    rule: DLTRule | None, transfused: bool, growth_factor: GrowthFactorPolicy = NEVER
) -> tuple[str, ...]:
    """Sentences on the marrow with leukaemia."""
    by_need = "no growth factor is given but those of the schedule"
    if growth_factor.words:
        by_need += f" and {growth_factor.words} (given or not: its amount does not act)"
    judged = "" if rule is None else death_words(rule)
    if rule is not None and rule.no_leukaemia:
        judged += (
            ", nor can one with leukaemia in the marrow on that day or at death: the risk is that "
            "of the patients who can be judged"
        )
    return (
        "the trial is taken as a new one that deviates from the typical study as the studies of "
        "the evidence do, also where its own outcomes are among the evidence",
        *reading(rule, transfused),
        "recovery days of all patients count a patient who dies as not recovered; recovery days in "
        "remission are those of patients who were low and became free of leukaemia, read as trials "
        "print them: the first of three mornings in a row, whatever was transfused",
        *([judged] if judged else []),
        "curves of counts follow every patient as if none died",
        f"{by_need}; deaths by infection are a hazard "
        "that rises with neutropenia, and deaths after the last simulated day are not counted",
    )


def fit_assumptions(
    rule: DLTRule | None,
    words: str,
    with_leukaemia: bool,
    transfused: bool,
    lacking: Sequence[str] = (),
) -> tuple[str, ...]:
    """Sentences on the marrow of a fit.

    Parameters
    ----------
    rule
        The count rule.
    words
        What was fitted, and how its parameters are drawn.
    with_leukaemia
        Whether the marrow has leukaemia.
    transfused
        Whether platelets are.
    lacking
        Lines that the fit does not have.
    """
    own = (
        "deaths by infection are a hazard that rises with neutropenia, by the cards",
        "curves of counts follow every patient as if none died",
    )
    if not with_leukaemia:
        own = (
            "the marrow that was fitted has no leukaemic cells: a rule that asks for a marrow "
            "without leukaemia is taken as applying to every patient, and early death is not "
            "simulated",
        )
    return (
        f"parameters are those of the {words}; patients are new ones of its distributions, with "
        "the covariates of the population",
        "amounts of the data that were fitted are mg, counts 10^9/L; a dosing day is an occasion",
        *own,
        *(
            f"the fit has no {line}: nothing is said of them, and a rule, a gate or a hold that "
            "needs them is refused"
            for line in lacking
        ),
        *reading(rule, transfused and "platelets" not in lacking, "platelets" not in lacking),
    )
