"""Exposures of the patients of a comparison: areas, peaks and troughs in a drug's first cycle.

Patients and draws are those whose counts are compared, every k-th pair of them; doses are as
planned, which they are in a first cycle unless counts hold them back. Areas are exact
(`pkpd.exposure.levels`), so steps are as long as a peak within 0.1 % allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pkpd.arrays import Floats, Indices
from pkpd.cards.drug_cards import DrugCard, drug_names, load_drug_card
from pkpd.cards.published_exposures import PublishedExposure
from pkpd.cards.trial_cards import drug_card_of
from pkpd.comparison.ready import Ready
from pkpd.comparison.results import ExposureRatio, ExposureRow
from pkpd.errors import PkpdError
from pkpd.exposure.exposures import factor_of
from pkpd.exposure.levels import LevelDose, doses_of, levels
from pkpd.exposure.sources import DrugLanes, drugs_of
from pkpd.schedule import Regimen
from pkpd.trials import Cohort, Trial

MOST_LANES, MOST_DRAWS = 512, 64
FEWEST = 20
"""Lanes of a range of creatinine clearance with which a ratio is told."""
UNITS = {"auc": "ng/mL h", "auc_dose": "ng/mL h", "cmax": "ng/mL", "tmax": "h", "ctrough": "ng/mL"}
COMPARED = ("auc", "cmax", "ctrough")
_AFTER_H = (
    *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.05, 1.2, 1.4, 1.6, 1.8, 2.1, 2.5, 3.0),
    *(4.0, 5.0, 6.5, 8.0, 10.5, 14.0, 18.0, 24.0, 36.0),
)
NO_KINETICS = "no linear kinetics in this marrow"


@dataclass(frozen=True, eq=False)
class CohortExposures:
    """Exposures of a cohort.

    Attributes
    ----------
    rows
        Summaries.
    lanes
        Drug and measure -> every lane, ``[L]``, the same patients and draws in all cohorts.
    left_out
        Drug -> why it has none.
    cycles
        What was given of each other drug.
    """

    rows: tuple[ExposureRow, ...]
    lanes: Mapping[tuple[str, str], Floats]
    left_out: Mapping[str, str]
    cycles: tuple[FirstCycle, ...]


@dataclass(frozen=True, eq=False)
class FirstCycle:
    """The first cycle that gives a drug.

    Attributes
    ----------
    drug, doses
        The drug in the lanes that are looked at, and its doses of the cycle, in order.
    first, last
        Protocol days of the cycle, within the horizon.
    factor
        From concentrations of the source to ng/mL.
    """

    drug: DrugLanes
    doses: Sequence[LevelDose]
    first: int
    last: int
    factor: float


def cohort_exposures(item: Ready, cohort: Cohort) -> CohortExposures:
    """Summarise the exposures of a cohort, each drug in the first cycle that gives it."""
    trial, left_out = item.trial, dict[str, str]()
    cycles = _first_cycles(item, cohort, left_out)
    rows: list[ExposureRow] = []
    lanes: dict[tuple[str, str], Floats] = {}
    for one in cycles:
        mine, doses = one.drug, one.doses
        found = measured(mine, doses, 24.0 * (one.first - 1), 24.0 * one.last, one.factor)
        lanes |= {(mine.name, measure): values for measure, values in found.items()}
        card = _card(trial, mine.name)
        about = _About(trial.id, cohort.id, mine.name, float(mine.surface.size))
        given = _given(mine, doses, cohort.regimen)
        for measure, values in found.items():
            beside = None if card is None else _printed(card, measure, given)
            rows.append(about.row(measure, f"days {one.first} to {one.last}", values, beside))
        if card is not None:
            amount = np.mean([d.amount for d in doses], axis=0)
            rows += about.by_kidneys(card, found["auc_dose"] / amount, mine.crcl)
    with_rows = {one.drug.name for one in cycles}
    for name in cohort.regimen.drugs:
        if name not in with_rows:
            left_out.setdefault(name, NO_KINETICS)
    return CohortExposures(tuple(rows), lanes, left_out, tuple(cycles))


def without_exposure(cohorts: Mapping[str, CohortExposures]) -> dict[str, str]:
    """Drug -> why it has no exposures, and in which cohorts if others have them."""
    found: dict[str, str] = {}
    having = {cycle.drug.name for one in cohorts.values() for cycle in one.cycles}
    for drug in dict.fromkeys(name for one in cohorts.values() for name in one.left_out):
        lacking = {c: one.left_out[drug] for c, one in cohorts.items() if drug in one.left_out}
        why = "; ".join(dict.fromkeys(lacking.values()))
        found[drug] = f"in {', '.join(lacking)}: {why}" if drug in having else why
    return found


def _first_cycles(item: Ready, cohort: Cohort, left_out: dict[str, str]) -> list[FirstCycle]:
    """First cycle of each drug of a cohort; ``left_out`` takes the others, and why."""
    ensemble, regimen, horizon = item.ensemble_of(cohort), cohort.regimen, item.trial.horizon_days
    draws, chosen = lanes_of(ensemble.draws, ensemble.patients)
    cycles = []
    for drug in drugs_of(ensemble, regimen, horizon, draws, left_out):
        first, last = first_cycle(regimen, drug.name, horizon)
        try:
            factor = factor_of(drug, "ng/mL")
        except PkpdError as error:
            left_out[drug.name] = str(error)
            continue
        mine = drug.only(chosen)
        doses = doses_of(regimen, mine, last)
        if doses:
            cycles.append(FirstCycle(mine, doses, first, last, factor))
        else:
            left_out[drug.name] = f"not given by day {horizon}"
    return cycles


def lanes_of(draws: int, patients: int) -> tuple[Indices, Indices]:
    """Draws that are looked at, and which of their lanes: no more than `MOST_LANES`.

    Every draw takes other patients than the one before it.
    """
    which = np.unique(np.linspace(0, draws - 1, min(draws, MOST_DRAWS)).round().astype(np.int64))
    step = -(-which.size * patients // MOST_LANES)
    place = np.add.outer(np.arange(which.size), np.arange(patients))
    return which, np.flatnonzero(place.ravel() % step == 0)


def first_cycle(regimen: Regimen, drug: str, horizon: int) -> tuple[int, int]:
    """First and last protocol day of the first cycle that gives a drug, within the horizon."""
    found = [
        (start, start + course.cycle_days - 1)
        for course, start in zip(regimen.courses, regimen.start_days, strict=True)
        if any(rule.drug == drug for rule in course.doses)
    ]
    first, last = min(found)
    return first, min(last, horizon)


def measured(
    drug: DrugLanes, doses: Sequence[LevelDose], begin: float, end: float, factor: float
) -> dict[str, Floats]:
    """Each measure in every lane, ``[L]``.

    Parameters
    ----------
    drug, doses
        The drug and its doses of the cycle, in order.
    begin, end
        Of the cycle, h since the start of day 1.
    factor
        From concentrations of the source to ng/mL.
    """
    starts = np.unique([d.start for d in doses])
    turns = np.unique([t for d in doses for t in (d.start, d.start + d.duration)])
    after = np.add.outer(turns, (0.0, *_AFTER_H)).ravel()
    # what lies behind the next dose is covered by the steps after that one
    upper = np.append(turns, np.inf)[np.searchsorted(turns, after - 1e-9, side="left").clip(1)]
    kept = after[after <= upper]
    low = starts[-1] if starts.size > 1 else min(starts[0] + 24.0, end)
    turns = np.concatenate([kept, turns, [d.midnight for d in doses]])
    edges = np.concatenate([[0.0, begin, low, end], turns[turns <= end]])
    found = levels(drug, doses, np.unique(np.round(edges, 9)).astype(np.float64))
    peak, when = found.highest(begin, end)
    latest = starts[np.searchsorted(starts, when + 1e-9) - 1]
    return {
        "auc": factor * found.between(begin, end),
        "auc_dose": factor * (found.area[-1] + found.rest) / len(doses),
        "cmax": factor * peak,
        "tmax": when - latest,
        "ctrough": factor * found.at(np.array([low]))[0],
    }


def exposure_ratios(
    trial: Trial, pairs: Sequence[tuple[str, str]], cohorts: Mapping[str, CohortExposures]
) -> tuple[ExposureRatio, ...]:
    """Ratios of exposures between cohorts, in the same patients and draws.

    Parameters
    ----------
    trial, cohorts
        The trial and its exposures.
    pairs
        Pairs of cohort ids; all pairs if there is none.
    """
    found = []
    for first, second in pairs or itertools.combinations(cohorts, 2):
        if not {first, second} <= cohorts.keys():
            continue
        one, other = cohorts[first].lanes, cohorts[second].lanes
        for drug, measure in one:
            if measure not in COMPARED or (drug, measure) not in other:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = one[drug, measure] / other[drug, measure]
            low, middle, high = _quantiles(ratio)
            found.append(ExposureRatio(trial.id, first, second, drug, measure, middle, low, high))
    return tuple(found)


@dataclass(frozen=True)
class _About:
    """Whose rows."""

    trial: str
    cohort: str
    drug: str
    lanes: float

    def row(
        self,
        measure: str,
        when: str,
        values: Floats,
        printed: tuple[PublishedExposure, float] | None,
    ) -> ExposureRow:
        low, middle, high = _quantiles(values)
        whose = (self.trial, self.cohort, self.drug, measure, UNITS[measure], when)
        figures = (middle, low, high, self.lanes)
        if printed is None:
            return ExposureRow(*whose, *figures)
        known, factor = printed
        spread = f"{known.value:g}"
        spread += f", {known.spread}" if known.spread else ""
        spread += f", after {known.dose:g} {known.dose_unit} in {known.patients}"
        source = f"{known.source} ({known.status})"
        return ExposureRow(*whose, *figures, known.value * factor, spread, source)

    def by_kidneys(self, card: DrugCard, area: Floats, crcl: Floats) -> list[ExposureRow]:
        """Areas by dose of patients with reduced kidneys by those of others."""
        rows = []
        for known in card.exposures:
            if not known.crcl:
                continue
            mine, others = (area[(crcl >= a) & (crcl < b)] for a, b in (known.crcl, known.against))
            enough = min(mine.size, others.size) >= FEWEST
            ratio = float(np.median(mine) / np.median(others)) if enough else np.nan
            rows.append(
                ExposureRow(
                    *(self.trial, self.cohort, self.drug, known.measure, "1"),
                    f"creatinine clearance {_range(known.crcl)} by {_range(known.against)} mL/min",
                    *(ratio, np.nan, np.nan, float(mine.size + others.size), known.value),
                    f"{known.value:g}, {known.patients}",
                    f"{known.source} ({known.status})",
                )
            )
        return rows


def _range(ends: Sequence[float]) -> str:
    low, high = ends
    if high >= 1000.0:
        return f"{low:g} or more"
    return f"below {high:g}" if low == 0.0 else f"{low:g} to {high:g}"


def _quantiles(values: Floats) -> tuple[float, float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return np.nan, np.nan, np.nan
    low, middle, high = np.quantile(known, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def _card(trial: Trial, drug: str) -> DrugCard | None:
    """Card of a drug: the trial's own, else the shipped one; ``None`` for a drug of a fit alone."""
    if any(name == drug for name, _ in trial.drug_cards):
        return drug_card_of(trial, drug)
    return load_drug_card(drug) if drug.casefold() in drug_names() else None


def _given(drug: DrugLanes, doses: Sequence[LevelDose], regimen: Regimen) -> dict[str, float]:
    """Dose unit and route -> median dose; empty where amounts are umol or routes differ."""
    routes = {r.route for c in regimen.courses for r in c.doses if r.drug == drug.name}
    if drug.in_umol or len(routes) != 1:
        return {}
    amount = np.mean([d.amount for d in doses], axis=0)
    sizes = {"mg": 1.0, "mg/m^2": drug.surface, "mg/kg": drug.weight}
    (route,) = routes
    return {f"{unit} {route}": float(np.median(amount / size)) for unit, size in sizes.items()}


def _printed(
    card: DrugCard, measure: str, given: Mapping[str, float]
) -> tuple[PublishedExposure, float] | None:
    """Find the published figure of a measure, and the factor to the dose that is given."""
    name = {"auc_dose": "auc", "cmax": "cmax"}.get(measure)
    for known in card.exposures:
        dose = given.get(f"{known.dose_unit} {known.route}")
        if known.measure == name and dose is not None:
            return known, dose / known.dose
    return None
