"""Published landmarks beside their predictive intervals under a posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pkpd.evidence.criticism.row_predictions import observed_number, predicted_logits
from pkpd.evidence.likelihood.drawn_rows import RowDrawer
from pkpd.evidence.likelihood.simulator import MarrowSimulator
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.table.schedule import parse_schedule
from pkpd.evidence.table.table import EvidenceRow, EvidenceTable
from pkpd.marrow.variants import Variant

Floats = NDArray[np.float64]

#: Row of the evidence table -> landmark in words.
ROWS: Mapping[str, str] = {
    "CIFTCILER2020.anc500_recovery_day_median": "7+3, neutrophils 0.5, day",
    "CIFTCILER2020.plt20_recovery_day_median": "7+3, platelets 20, day",
    "ZEIDAN2012.anc500_recovery_day_mean": "clofarabine + cyclophosphamide, neutrophils 0.5, day",
    "RICHARDSON2009.g34_neutropenia": "lenalidomide 30 mg, myeloma, grade 3-4 neutropenia",
    "RICHARDSON2009.g34_thrombocytopenia": (
        "lenalidomide 30 mg, myeloma, grade 3-4 thrombocytopenia"
    ),
    "MDS002.g34_neutropenia": "lenalidomide 10 mg, MDS without del(5q), grade 3-4 neutropenia",
    "MDS002.g34_thrombocytopenia": (
        "lenalidomide 10 mg, MDS without del(5q), grade 3-4 thrombocytopenia"
    ),
}
#: Row of a declared tolerated dose -> landmark in words.
TOLERATED: Mapping[str, str] = {
    "KANTARJIAN2003A.mtd_mgm2.2": "clofarabine x5, solid tumours, tolerated dose, mg/m2",
    "GANDHI2006.mtd_mgm2": "clofarabine x5, CLL, tolerated dose, mg/m2",
    "NABHAN2010.mtd_mgm2": "clofarabine x5, lymphoma, tolerated dose, mg/m2",
}
#: Doses of the trials of the tolerated dose that are simulated, mg/m2 on each of five days.
LADDER = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.25, 15.0)


@dataclass(frozen=True)
class Landmark:
    """One published number and its prediction.

    Attributes
    ----------
    name
        In words, with what is compared.
    row
        Id of the row.
    published
        As printed.
    lower, median, upper
        Of the predictive distribution of what the trial would print.
    """

    name: str
    row: str
    published: float
    lower: float
    median: float
    upper: float

    @property
    def inside(self) -> bool:
        """Whether the printed number is in the interval, ends included."""
        return self.lower - 1e-9 <= self.published <= self.upper + 1e-9


def landmarks(
    table: EvidenceTable,
    draws: Sequence[Mapping[str, float]],
    *,
    variant: Variant,
    patients: int = 512,
    repeats: int = 8,
    level: float = 0.90,
    seed: int = 1,
) -> tuple[Landmark, ...]:
    """Predict the landmarks as their trials would have printed them.

    Parameters
    ----------
    table
        Evidence with the rows of :data:`ROWS` and :data:`TOLERATED`.
    draws
        Posterior draws.
    variant
        Mechanisms of the marrow that they were learned with.
    patients
        Simulated patients of an arm.
    repeats
        Replicates of a trial for each draw; each has an offset of its study, and a reading of
        definitions that are not stated, of its own.
    level
        Of the intervals.
    seed
        Of the replicates.
    """
    rows = tuple(table.row(name) for name in ROWS)
    likelihood = EvidenceLikelihood(replace(table, rows=rows))
    drawer = RowDrawer(likelihood.terms, likelihood.cells)
    rng = np.random.default_rng(seed)
    values: dict[tuple[str, str], list[float]] = {}
    for theta, (logits, days) in _simulated(likelihood, draws, patients, seed, variant):
        for _ in range(repeats):
            for name, row in drawer(logits, days, theta, rng).items():
                for what, value in _printed(row):
                    values.setdefault((name, what), []).append(value)
    found = []
    for row in rows:
        for what, published in _printed(row):
            simulated = np.array(values[row.id, what])
            found.append(_landmark(f"{ROWS[row.id]}: {what}", row.id, published, simulated, level))
    for name, words in TOLERATED.items():
        row = table.row(name)
        simulated = tolerated_doses(row, draws, variant=variant, patients=patients, seed=seed)
        found.append(_landmark(words, name, observed_number(row), simulated, level))
    return tuple(found)


def tolerated_doses(
    row: EvidenceRow,
    draws: Sequence[Mapping[str, float]],
    *,
    ladder: Sequence[float] = LADDER,
    variant: Variant,
    patients: int = 512,
    repeats: int = 8,
    seed: int = 1,
) -> Floats:
    """Doses of clofarabine on five days that a 3 + 3 trial would declare tolerated.

    Parameters
    ----------
    row
        Row of a declared dose: its population is simulated, and the readings of its rule.
    ladder
        Doses tried, rising, mg/m2; the first is where the trial starts.

    Returns
    -------
    float[draws x repeats]
        The highest dose below the first that failed; 0 if the first failed, and the highest of the
        ladder if none did.
    """
    levels = {dose: parse_schedule(f"clofarabine:{dose:g} mg/m2:IV1h:1-5") for dose in ladder}
    rows = tuple(
        replace(row, id=f"{dose:g}", schedule=schedule, other_schedule=levels[after], value=1.0)
        for (dose, schedule), after in zip(levels.items(), [*ladder[1:], ladder[-1]], strict=True)
    )
    likelihood = EvidenceLikelihood(EvidenceTable(rows, "ladder"))
    places = [
        [cell.first for cell in likelihood.cells.cells if cell.term == term]
        for term in range(len(likelihood.terms))
    ]
    readings = np.exp(likelihood.terms[0].log_priors)
    rng = np.random.default_rng(seed)
    declared = []
    for theta, (logits, _) in _simulated(likelihood, draws, patients, seed, variant):
        for _ in range(repeats):
            reading = int(rng.choice(readings.size, p=readings / readings.sum()))
            offset = theta["between.low"] * float(rng.standard_normal())
            tolerated = 0.0
            for dose, own in zip(ladder, places, strict=True):
                risk = float(expit(logits[own[reading]] + offset))
                first, second = rng.binomial(3, risk, size=2)
                if not (first == 0 or (first == 1 and second == 0)):
                    break
                tolerated = dose
            declared.append(tolerated)
    return np.array(declared)


def _simulated(
    likelihood: EvidenceLikelihood,
    draws: Sequence[Mapping[str, float]],
    patients: int,
    seed: int,
    variant: Variant,
) -> list[tuple[Mapping[str, float], tuple[Floats, Floats]]]:
    """Each draw with what its arms show; every draw has patients of its own."""
    found = []
    for index, theta in enumerate(draws):
        seen = MarrowSimulator(likelihood.arms, patients, seed + index, variant)(theta)
        found.append(likelihood.summaries(theta, seen))
    return list(zip(draws, predicted_logits(found), strict=True))


def landmark_table(found: Sequence[Landmark], level: float = 0.90) -> str:
    """Print landmarks, their intervals and whether they are inside."""
    lines = [f"{'landmark':78} {'published':>9} {'median':>7}  {level:.0%} interval"]
    for entry in found:
        verdict = "inside" if entry.inside else "OUTSIDE"
        lines.append(
            f"{entry.name:78} {entry.published:9.3g} {entry.median:7.3g}  "
            f"{entry.lower:.3g} to {entry.upper:.3g}  {verdict}"
        )
    inside = sum(entry.inside for entry in found)
    lines.append(f"{inside} of {len(found)} inside")
    return "\n".join(lines)


def _printed(row: EvidenceRow) -> list[tuple[str, float]]:
    """Numbers that a row prints: its value, and a range if there is one."""
    kind = row.endpoint.kind
    value = {"quantiles": "median", "mean": "mean"}.get(kind, "share")
    printed = [(value, observed_number(row))]
    if row.limits == "range" and row.lower is not None and row.upper is not None:
        printed += [("earliest", row.lower), ("latest", row.upper)]
    return printed


def _landmark(name: str, row: str, published: float, simulated: Floats, level: float) -> Landmark:
    tail = 0.5 * (1.0 - level)
    usable = simulated[np.isfinite(simulated)]
    # a printed number is one of the simulated ones, not between two
    low, middle, high = np.quantile(usable, (tail, 0.5, 1.0 - tail), method="inverted_cdf")
    return Landmark(name, row, published, float(low), float(middle), float(high))
