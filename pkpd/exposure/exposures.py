"""Areas, peaks and levels of drugs in simulated patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pkpd.arguments import (
    MAPPING,
    NONE,
    NUMBER,
    NUMBERS,
    TEXT,
    Kind,
    a,
    check_arguments,
    from_to,
    one_of,
    several,
)
from pkpd.arrays import Floats
from pkpd.cards.population_cards import load_population
from pkpd.cards.usual_doses import check_regimen
from pkpd.ensemble.cards import CardsEnsemble
from pkpd.ensemble.ensemble import Ensemble
from pkpd.ensemble.fitted_kinetics import FittedKinetics, fitted_kinetics
from pkpd.ensemble.fitted_patients import FittedDraws
from pkpd.ensemble.source import check_none_beside, in_words, notes_of, source
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.exposure.levels import LevelDose, Levels, doses_of, edges_of, levels
from pkpd.exposure.sources import DrugLanes, drugs_of, molar_mass
from pkpd.fitting.draws import Fitted
from pkpd.fitting.model.specification import PopulationModel
from pkpd.model.joint import JointModel
from pkpd.schedule import Regimen
from pkpd.subjects import PatientSample, Population, sample_population

if TYPE_CHECKING:
    import xarray as xr


MOST_VALUES = 200_000_000
BANDS = (0.05, 0.5, 0.95)
_SOURCE = Kind("an ensemble", lambda v: hasattr(v, "treated"))


def exposures(
    regimen: Regimen,
    population: str | Population | PatientSample | Ensemble,
    *,
    marrow: str | None = None,
    disease: str | None = None,
    posterior: EvidencePosterior | Fitted | PopulationModel | str | Path | None = None,
    model: JointModel | None = None,
    patients: int = 200,
    draws: int = 1,
    seed: int = 1,
    until_day: int | None = None,
    intervals: Sequence[tuple[float, float]] | None = None,
    times_h: Sequence[float] | None = None,
    above: Mapping[str, float] | None = None,
    unit: Literal["mg/L", "ng/mL", "umol/L"] = "mg/L",
    quantiles: Sequence[float] = BANDS,
) -> xr.Dataset:
    """Areas, peaks, troughs and concentrations of the drugs of a regimen in patients.

    Doses are as planned: every gate is met at once, and no dose is held or reduced, since neither
    counts nor deaths are simulated.

    An infusion lasts the hours that the regimen states, whatever the bioavailability, which scales
    its amount. (Event records follow NONMEM: there the rate is kept, and the duration scaled.)

    Parameters
    ----------
    regimen
        What is given.
    population, marrow, disease, posterior, model, patients, draws, seed
        As of `pkpd.simulate`: a population, patients of your own, or an ensemble (`pkpd.source`).
        ``posterior`` may also be a fit of concentrations alone (`pkpd.models.compartments`), or
        such a model with its values: the only drug of the regimen is taken for the one fitted.
    until_day
        Last protocol day; the day of the last planned dose if omitted: give a later one for what
        follows it.
    intervals
        Pairs of hours since the start of day 1; the protocol days if omitted.
    times_h
        Hours at which concentrations are given; every hour if omitted.
    above
        Drug -> level, in ``unit``: the hours above it are counted.
    unit
        Of concentrations. For a fit whose doses are in umol give ``"umol/L"``.
    quantiles
        Shares of patients and draws together for ``band``.

    Returns
    -------
    xarray.Dataset
        By drug, draw and patient: ``auc``, ``cmax``, ``tmax`` (hours since the start of day 1),
        ``ctrough`` (the end of the interval, before a dose there) and, if asked for, ``above`` (h)
        for each interval; ``auc_inf`` (of all doses up to the last day, to infinity),
        ``half_life`` (h, the longest of disposition), ``accumulation`` (area of the last interval
        that begins with or holds a dose, by that of the first), ``dose`` (mg in all);
        ``concentration`` (time), before a dose at that time, and ``band`` (quantile, time). The
        attribute ``notes`` says which parameters of a fit stay at their estimates, or that its
        draws are repeated.

    Raises
    ------
    PkpdError
        If an input cannot be used, kinetics are not linear, or the result would hold more than
        2e8 concentrations.

    Notes
    -----
    Areas are exact: the area is a state of the linear system. The peak and the hours above a level
    come from cubics between exact values and slopes, 3 minutes apart in the hour after a dose. In
    the marrow with leukaemia only drugs that act by their concentration have kinetics.

    Examples
    --------
    >>> import pkpd
    >>> regimen = pkpd.daily("lenalidomide", "10 mg", days="1-3", route="oral")
    >>> found = exposures(regimen, "mds_post_hma", marrow="friberg", patients=4, unit="ng/mL")
    >>> dict(found["auc"].sizes)
    {'drug': 1, 'draw': 1, 'patient': 4, 'interval': 3}
    """
    check_arguments(
        "exposures",
        regimen=(regimen, a(Regimen)),
        population=(population, TEXT | a(Population, PatientSample) | _SOURCE),
        patients=(patients, from_to(1)),
        draws=(draws, from_to(1)),
        seed=(seed, from_to(0)),
        until_day=(until_day, from_to(1) | NONE),
        intervals=(intervals, several(NUMBERS, "pairs of hours") | NONE),
        times_h=(times_h, NUMBERS | NONE),
        above=(above, MAPPING | NONE),
        unit=(unit, one_of("mg/L", "ng/mL", "umol/L")),
        quantiles=(quantiles, NUMBERS),
    )
    days = until_day or _last_day(regimen)
    end = 24.0 * days
    spans = [(24.0 * d, 24.0 * d + 24.0) for d in range(days)]
    if intervals is not None:
        spans = [_span(pair, end) for pair in intervals]
    times = np.arange(0.0, end + 1.0) if times_h is None else np.asarray(times_h, dtype=float)
    allowed = f"0 to {end:g} h; until_day= has later days"
    for name, given in (("times_h", times), ("intervals", spans)):
        if not len(given):
            _refuse(name, "none is given", allowed)
    if not np.all((times >= 0.0) & (times <= end)):
        _refuse("times_h", "a time is outside of the days", allowed)
    shares = np.asarray(quantiles, dtype=float)
    if not np.all((shares >= 0.0) & (shares <= 1.0)):
        _refuse("quantiles", "one is no share", "0 to 1")
    ensemble: Ensemble | FittedKinetics
    if isinstance(population, (str, Population, PatientSample)):
        own = {"marrow": marrow, "disease": disease, "model": model}
        known = _of_concentrations(posterior, population, patients, draws, seed, own)
        ensemble = known or source(
            population, marrow=marrow, disease=disease, posterior=posterior, model=model,
            patients=patients, draws=draws, seed=seed,
        )  # fmt: skip
    else:
        check_none_beside(
            "exposures", marrow=(marrow, None), disease=(disease, None),
            posterior=(posterior, None), model=(model, None), patients=(patients, 200),
            draws=(draws, 1), seed=(seed, 1),
        )  # fmt: skip
        ensemble = population
    size = (ensemble.draws, ensemble.patients)
    if ensemble.draws * ensemble.patients * times.size > MOST_VALUES:
        _refuse("times_h", f"{size[0]} draws of {size[1]} patients at {times.size} times", "2e8")
    listed = ensemble.model.drugs if isinstance(ensemble, CardsEnsemble) else ()
    check_regimen(regimen, {drug.name: drug.card for drug in listed})
    drugs = drugs_of(ensemble, regimen, days)
    names = [drug.name for drug in drugs]
    if not drugs:
        _refuse("regimen", "no drug of it has kinetics in this marrow", "drugs with a level")
    above = above or {}
    for name in above:
        if name not in names:
            _refuse("above", f"{name!r} is no drug with kinetics here", ", ".join(names))
        check_arguments("exposures, above", **{name: (above[name], NUMBER)})
    further = np.concatenate([times, np.ravel(spans)])
    rows = []
    for drug in drugs:
        factor = factor_of(drug, unit)
        doses = doses_of(regimen, drug, days)
        found = levels(drug, doses, edges_of(doses, further, end))
        row = _summary(found, doses, spans, factor)
        row["concentration"] = factor * found.at(times)
        if above:
            level = above.get(drug.name, np.nan) / factor
            row["above"] = np.stack([found.above(level, *span) for span in spans])
        rows.append({name: _by_patient(v, size) for name, v in row.items()})
    words = (in_words(ensemble, regimen),)
    if isinstance(ensemble, FittedDraws):
        words += ensemble.taken_for(names)
    found = _dataset(rows, names, spans, times, shares, unit, "; ".join(words))
    return found.assign_attrs(notes_of(ensemble))


def _of_concentrations(
    posterior: EvidencePosterior | Fitted | PopulationModel | str | Path | None,
    population: str | Population | PatientSample,
    patients: int,
    draws: int,
    seed: int,
    given: Mapping[str, object],
) -> FittedKinetics | None:
    """Patients under a fit of concentrations alone; ``None`` where the source is another."""
    if posterior is None or isinstance(posterior, (EvidencePosterior, str, Path)):
        return None
    if isinstance(population, str):
        population = load_population(population)
    if isinstance(population, Population):
        population = sample_population(population, patients, seed)
    return fitted_kinetics(posterior, population, draws, seed, given)


def _summary(
    found: Levels, doses: Sequence[LevelDose], spans: Sequence[tuple[float, float]], factor: float
) -> dict[str, Floats]:
    """Everything but concentrations over time, lanes last."""
    area = factor * np.stack([found.between(*span) for span in spans])
    peaks = [found.highest(*span) for span in spans]
    treated = [i for i, (t, u) in enumerate(spans) if any(t <= d.start < u for d in doses)]
    lanes = found.rest.size
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = area[treated[-1]] / area[treated[0]] if treated else np.full(lanes, np.nan)
    return {
        "auc": area,
        "cmax": factor * np.stack([value for value, _ in peaks]),
        "tmax": np.stack([when for _, when in peaks]),
        "ctrough": factor * found.at(np.array([u for _, u in spans])),
        "auc_inf": factor * (found.area[-1] + found.rest),
        "half_life": found.half_life,
        "accumulation": ratio,
        "dose": np.sum([d.amount for d in doses], axis=0) if doses else np.zeros(lanes),
    }


def _by_patient(values: Floats, size: tuple[int, int]) -> Floats:
    """Lanes last -> draw, patient, and the rest."""
    return np.moveaxis(values.reshape(*values.shape[:-1], *size), (-2, -1), (0, 1))


def _dataset(
    rows: Sequence[Mapping[str, Floats]],
    names: Sequence[str],
    spans: Sequence[tuple[float, float]],
    times: Floats,
    shares: Floats,
    unit: str,
    words: str,
) -> xr.Dataset:
    """Everything with its names."""
    import xarray as xr

    last = {
        "concentration": ("time",),
        **dict.fromkeys(("auc", "cmax", "tmax", "ctrough"), ("interval",)),
    }
    last["above"] = ("interval",)
    values: dict[str, Any] = {
        name: (("drug", "draw", "patient", *last.get(name, ())), np.stack([r[name] for r in rows]))
        for name in rows[0]
    }
    level = values["concentration"][1]
    band = np.quantile(level, shares, axis=(1, 2))
    values["band"] = (("drug", "quantile", "time"), np.moveaxis(band, 0, 1))
    data = xr.Dataset(
        values,
        coords={
            "drug": list(names),
            "draw": np.arange(level.shape[1]),
            "patient": np.arange(level.shape[2]),
            "begin": ("interval", [t for t, _ in spans]),
            "end": ("interval", [u for _, u in spans]),
            "time": times,
            "quantile": shares,
        },
        attrs={"simulated": words, "doses": "as planned: gates met at once, nothing held"},
    )
    units = dict.fromkeys(("cmax", "ctrough", "concentration", "band"), unit)
    units |= dict.fromkeys(("auc", "auc_inf"), f"{unit} h")
    units |= dict.fromkeys(("tmax", "half_life", "above", "begin", "end", "time"), "h")
    for name, word in {**units, "dose": "mg"}.items():
        if name in data:
            data[name].attrs["units"] = word
    return data


def factor_of(drug: DrugLanes, unit: str) -> float:
    """Give what concentrations of the source are multiplied by."""
    if (unit == "umol/L") == drug.in_umol:
        return 1000.0 if unit == "ng/mL" else 1.0
    per_umol = 1000.0 / molar_mass(drug.card or drug.name)
    return per_umol if unit == "umol/L" else (1000.0 if unit == "ng/mL" else 1.0) / per_umol


def _last_day(regimen: Regimen) -> int:
    """Day of the last planned dose."""
    return max(
        start + (course.cycles - 1) * course.cycle_days + max(rule.days) - 1
        for course, start in zip(regimen.courses, regimen.start_days, strict=True)
        for rule in course.doses
    )


def _span(pair: Sequence[float], end: float) -> tuple[float, float]:
    if len(pair) != 2 or not 0.0 <= pair[0] < pair[1] <= end:
        allowed = f"pairs such as (0, 24), from 0 to {end:g} h; until_day= has later days"
        _refuse("intervals", f"{pair!r}", allowed)
    return float(pair[0]), float(pair[1])


def _refuse(argument: str, what: str, allowed: str) -> None:
    raise PkpdError(where=f"exposures, {argument}", what=what, allowed=allowed)
