"""Counts under a regimen as a labelled data set, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pkpd.cards.population_cards import load_population
from pkpd.course.simulate import prepare
from pkpd.course.transfusion import TransfusionPolicy
from pkpd.endpoints.curve import log_count_at
from pkpd.errors import PkpdError, sentence
from pkpd.model.joint import JointModel, load_model
from pkpd.model.parameters import draw_parameters, typical
from pkpd.schedule import Regimen
from pkpd.subjects import PatientSample, Population, sample_population

if TYPE_CHECKING:
    import xarray as xr

LANES_AT_ONCE = 2000
MOST_VALUES = 200_000_000


def simulate(
    regimen: Regimen,
    population: str | Population | PatientSample,
    *,
    model: JointModel | None = None,
    patients: int = 200,
    draws: int = 1,
    until_day: int = 90,
    days: Sequence[float] | None = None,
    seed: int = 1,
    transfusion: TransfusionPolicy | None = TransfusionPolicy(),  # noqa: B008 (frozen)
) -> xr.Dataset:
    """Simulate neutrophil and platelet counts of patients under a regimen.

    Parameters
    ----------
    regimen
        What is given; gates and modifications are followed on each patient's own counts.
    population
        Name of a population card, a `Population`, or patients of your own
        (`pkpd.patients`, `pkpd.sample_population`).
    model
        Joint model; the usual one with the regimen's drugs if omitted.
    patients
        Number of patients; ignored when ``population`` is a sample.
    draws
        Draws of the uncertain parameters; 1 uses their central values.
    until_day
        Last protocol day; day 1 begins with the first dose.
    days
        Times in days since the start of day 1 at which counts are given; the start of every
        protocol day if omitted.
    seed
        Seed of all random numbers.
    transfusion
        Platelet transfusion policy; ``None`` for none.

    Returns
    -------
    xarray.Dataset
        ``count`` (draw, patient, line, time) in 10^9/L, platelets without transfused ones;
        ``transfused`` (draw, patient, day); ``amount`` (draw, patient, day, slot) in the unit of
        the coordinate ``unit`` (slot).

    Raises
    ------
    PkpdError
        If an input cannot be used, or the result would hold more than 2e8 counts.

    Examples
    --------
    >>> import pkpd
    >>> regimen = pkpd.daily("lenalidomide", "10 mg", days="1-21", route="oral")
    >>> counts = pkpd.simulate(regimen, "mds_post_hma", patients=3, until_day=28)
    >>> dict(counts["count"].sizes)
    {'draw': 1, 'patient': 3, 'line': 2, 'time': 28}
    """
    import xarray as xr

    if isinstance(population, str):
        population = load_population(population)
    source = population if isinstance(population, Population) else None
    if isinstance(population, PatientSample):
        sample = population
    else:
        sample = sample_population(population, patients, seed)
    model = model or load_model(drugs=regimen.drugs)
    times = np.arange(until_day, dtype=float) if days is None else np.asarray(days, dtype=float)
    if times.ndim != 1 or times.size == 0 or not np.all((times >= 0) & (times <= until_day)):
        msg = sentence(
            where="simulate",
            what="days holds a time outside the simulation",
            allowed=f"0 to {until_day} days since the start of day 1",
        )
        raise PkpdError(msg)
    whole = isinstance(draws, int | np.integer) and draws >= 1
    if not whole or draws * sample.n * times.size * 2 > MOST_VALUES:
        msg = sentence(
            where="simulate",
            what=f"{draws!r} draws of {sample.n} patients at {times.size} times",
            allowed="at least one draw, and at most 2e8 counts",
            remedy="use fewer, or pkpd.compare, which keeps summaries only",
        )
        raise PkpdError(msg)
    simulator = prepare(
        model, regimen, sample, until_day, population=source, transfusion=transfusion
    )
    values = typical(model, source) if draws == 1 else draw_parameters(model, source, draws, seed)
    lines = [name for name, _ in simulator.structure.lines]
    count = np.empty((draws, sample.n, len(lines), times.size))
    transfused = np.empty((draws, sample.n, until_day), dtype=bool)
    amount = np.empty((draws, sample.n, until_day, len(simulator.plan.slots)))
    for chunk in simulator.chunks(values, LANES_AT_ONCE):
        course = simulator.run(values, chunk)
        curve = course.curve
        assert curve is not None
        assert course.amount is not None
        for k, line in enumerate(lines):
            logs = log_count_at(
                curve.time_h, curve.log_count[line], curve.slope[line], 24.0 * times
            )
            count[chunk, :, k] = np.exp(logs).reshape(chunk.size, sample.n, -1)
        transfused[chunk] = course.transfused.reshape(chunk.size, sample.n, -1)
        amount[chunk] = course.amount.reshape(chunk.size, sample.n, until_day, -1)
    slots = simulator.plan.slots
    data = xr.Dataset(
        {
            "count": (("draw", "patient", "line", "time"), count),
            "transfused": (("draw", "patient", "day"), transfused),
            "amount": (("draw", "patient", "day", "slot"), amount),
        },
        coords={
            "draw": np.arange(draws),
            "patient": np.arange(sample.n),
            "line": lines,
            "time": times,
            "day": np.arange(1, until_day + 1),
            "drug": ("slot", [slot.drug for slot in slots]),
            "unit": ("slot", [slot.unit for slot in slots]),
        },
        attrs={"model": model.name, "seed": seed},
    )
    data["count"].attrs["units"] = "10^9/L"
    data["time"].attrs["units"] = "days since the start of protocol day 1"
    return data
