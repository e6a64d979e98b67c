"""Predict rows on counts by the marrow without leukaemia, from its cards: a baseline.

A Friberg-type marrow knows nothing of leukaemia, of deaths and of published outcomes. What it can
say of a row (nadirs, low counts, recovery) is what a model has to beat that claims to know more.
Studies deviate as far as the model has learned that they do: without that, this marrow would fall
behind for too narrow intervals alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from judging.scorecard import Predicted, predicted_row
from pkpd.arrays import Floats
from pkpd.course.simulate import Simulator, prepare
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.errors import PkpdError
from pkpd.evidence.criticism.row_predictions import predict_table
from pkpd.evidence.likelihood.cells import CHANNELS
from pkpd.evidence.likelihood.simulator import arm_of, observe
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.evidence.table.arms import ArmSeen, ArmToSimulate, SimulatedArm, pooled
from pkpd.evidence.table.endpoints import Observable
from pkpd.evidence.table.schedule import Schedule
from pkpd.evidence.table.table import EvidenceRow, EvidenceTable
from pkpd.leukaemia.arm_outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import default_theta
from pkpd.leukaemia.schedule import Arm
from pkpd.model.joint import load_model
from pkpd.model.parameters import draw_parameters
from pkpd.subjects import Population, sample_population

FRIBERG = "plain Friberg"
COUNTED = ("recovery_day", "delayed", "grade", "low_days", "low_run")
"""Kinds of observables that need counts alone. Counts at the start are inputs of this marrow, and
its cards say nothing of fever."""
LINES = ("neutrophils", "platelets", "any", "")
LONGEST_STEP_H = 6.0
_DRAW = "draw"


@dataclass(frozen=True)
class _Part:
    """Patients of a dose level: share of the arm, the arm, its simulator and parameters."""

    share: float
    arm: Arm
    simulator: Simulator
    values: Mapping[str, Floats]


class WithoutLeukaemia:
    """Simulate the arms of rows in the marrow without leukaemia.

    Parameters
    ----------
    arms
        Arms by key (`EvidenceLikelihood.arms`). A second course of those with leukaemia is left
        out, since nobody has any.
    patients
        Of an arm, the same in all draws.
    draws
        Of the cards' uncertain parameters.
    seed
        Of both.

    Raises
    ------
    PkpdError
        If a drug is none of this marrow's.
    """

    def __init__(
        self, arms: Mapping[str, ArmToSimulate], patients: int, draws: int, seed: int = 1
    ) -> None:
        self._parts = {
            key: [
                _part(replace(arm, reinduction=None), share, level, patients, draws, seed)
                for share, level in arm.schedule.at_levels()
            ]
            for key, arm in arms.items()
        }

    def __call__(self, theta: Mapping[str, float]) -> dict[str, ArmSeen]:
        """Simulate every arm under the draw that ``theta`` numbers."""
        draw = int(theta[_DRAW])
        return {key: pooled([_seen(p, draw) for p in parts]) for key, parts in self._parts.items()}


def _part(
    arm: ArmToSimulate, share: float, level: Schedule, patients: int, draws: int, seed: int
) -> _Part:
    made = arm_of(arm, level, arm.key)
    regimen = made.schedule.regimen
    if regimen is None:
        raise PkpdError(where=f"arm {arm.key!r}", what="it gives no drug")
    model = load_model(drugs=list(regimen.drugs))
    population = made.who
    assert isinstance(population, Population)
    sample = sample_population(population, patients, seed)
    simulator = prepare(
        model, regimen, sample, made.schedule.horizon_days, max_step_h=LONGEST_STEP_H,
        transfusion=TransfusionPolicy(),
    )  # fmt: skip
    return _Part(share, made, simulator, draw_parameters(model, population, draws, seed))


def _seen(part: _Part, draw: int) -> tuple[float, ArmSeen]:
    course = part.simulator.run(part.values, np.array([draw]))
    outcomes = ArmOutcomes(part.arm, course)
    return part.share, SimulatedArm(np.ones(outcomes.n), lambda what: observe(outcomes, what))


def can_be_counted(row: EvidenceRow) -> bool:
    """Whether a row is about counts of one arm that this marrow has."""
    return row.other_schedule is None and all(
        _counted(a.observable) for a in row.endpoint.alternatives
    )


def _counted(what: Observable) -> bool:
    return what.kind in COUNTED and what.line in LINES


def spread_of_studies(posterior: EvidencePosterior) -> dict[str, float]:
    """Give how far studies deviate, by parameter (``between.days``): posterior medians."""
    medians = posterior.quantiles((0.5,))
    names = [f"between.{channel}" for channel in CHANNELS]
    return {name: float(medians[name][0]) for name in names}


def without_leukaemia(
    rows: Sequence[EvidenceRow],
    spread: Mapping[str, float],
    *,
    patients: int = 256,
    draws: int = 100,
    seed: int = 1,
) -> tuple[dict[str, Predicted], dict[str, str]]:
    """Predict those of rows that are about counts, by id, and say why others are not predicted.

    Parameters
    ----------
    rows
        As `pkpd.evidence.table.learning.refined` gives them.
    spread
        As `spread_of_studies`.
    patients, draws, seed
        As `WithoutLeukaemia`.

    Returns
    -------
    predicted, refused
        What is said of rows; of rows on counts that cannot be simulated the reason.
    """
    said: dict[str, Predicted] = {}
    refused: dict[str, str] = {}
    off = {**spread, "discrepancy": 1e-9, "discrepancy.days": 1e-9}
    for row in rows:
        if not can_be_counted(row):
            continue
        table = EvidenceTable((row,), row.study)
        try:
            bare = EvidenceLikelihood(table)
            simulator = WithoutLeukaemia(bare.arms, patients, draws, seed)
        except PkpdError as error:
            refused[row.id] = str(error)
            continue
        thetas = [{**default_theta(), **off, _DRAW: float(i)} for i in range(draws)]
        found = predict_table(bare, lambda _, run=simulator: run, thetas, repeats=4, seed=seed)
        for name in found.rows:
            said[name] = predicted_row(row, found.values[name], found.chances[name])
    return said, refused
