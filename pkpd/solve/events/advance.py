"""Amounts in a linear system at every event record, with NONMEM's meaning of the events.

What NONMEM does, and this module with it:

* The state is advanced from record to record. The parameters of a record hold over the interval
  that *ends* at it (``carry="backward"``).
* A record at the same time as the one before acts after it, in the order of the data. The amounts
  reported at a dose record include the dose, those at a reset record are zero.
* A lagged or additional dose enters between records; one that enters at the very time of a
  record enters before it. Its lag is that of the dose record; its bioavailability and modelled
  duration are those in force when it enters, i.e. of the record that ends the interval; a modelled
  rate follows the records while the infusion runs, until the amount is given (NONMEM Help Guide,
  "dose event record").
* Bioavailability multiplies the amount, so with RATE > 0 (and -1) it changes the duration of an
  infusion, with RATE -2 its rate. It does not apply to a constant infusion at steady state.
* SS = 1 replaces the amounts and cancels infusions and pending doses, SS = 2 adds to them. With a
  lag the steady state is that of the cycle ``II - lag`` hours after its last dose arrived, and
  infusions of earlier cycles still running go on past the record.
* EVID 3 and 4 clear amounts, infusions and pending doses; time may restart there.

A lag longer than the interval at a steady-state record is the one case with two answers, for the
``lag - II`` hours after the record. ``steady_state_lag="periodic"`` (default) repeats the cycle:
implied doses go on arriving until the record's own dose does. ``"backward"`` is what NONMEM 7.4.3
prints: the state just after an arrival, stepped *back* by ``lag - II`` with that dose's infusion
running, which can give negative amounts. From ``lag - II`` hours on the two agree.

Derivatives are exact with respect to all parameters, lags, durations and rates included: events
are sorted by their current times, and the derivative passes through the times. At the instant a
bolus into the observed compartment crosses an observation the amount jumps, and no derivative
exists there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE, EventTable
from pkpd.data.expand import DoseSchedule, expand
from pkpd.errors import DataError, PkpdError
from pkpd.kinetics.compartments import LinearSystem
from pkpd.solve.events.amounts import record_amounts
from pkpd.solve.events.steady_slots import steady_state_slots, steady_states_left_out
from pkpd.solve.events.timeline import EventOptions, Slots

DOSING_NAME = re.compile(r"(ALAG|F|D|R)([1-9][0-9]*)")
"""A parameter of doses, and the number of its compartment."""


def solve_linear(
    system: LinearSystem,
    events: EventTable,
    parameters: Mapping[str, Any],
    *,
    initial: Any = None,
    options: EventOptions | None = None,
) -> Array:
    """Amounts in each compartment at each record.

    Parameters
    ----------
    system
        The linear system.
    events
        Event records of ``B`` subjects, ``N`` records after padding.
    parameters
        The system's parameters, and dosing parameters named as in NONMEM with the compartment's
        number: ``ALAG1`` (h), ``F1``, ``D1`` (h), ``R1`` (mg/h). Each is a scalar, [B] per
        subject, or [B, N] per record (time-varying covariates, occasions).
    initial
        Amounts at a subject's first record and after EVID 3 and 4, [S], [B, S], or [B, N, S] by
        record; default 0.
    options
        How events are read; default :class:`EventOptions`.

    Returns
    -------
    Array
        Amounts (mg), [B, N, S]; padding repeats the last record.

    Raises
    ------
    DataError
        If a dose goes to a compartment the system lacks, a modelled rate or duration has no
        parameter, or a concrete duration, rate or lag is not possible.
    PkpdError
        If a parameter is missing or unknown, or has a wrong shape.

    Examples
    --------
    >>> from pkpd.data.events import EventTable
    >>> from pkpd.kinetics.compartments import compartment_model
    >>> table = EventTable.from_columns([1, 1], [0.0, 10.0], evid=[1, 0], amt=[100.0, 0.0])
    >>> amounts = solve_linear(compartment_model(1), table, {"CL": 1.0, "V": 10.0})
    >>> round(float(amounts[0, 1, 0]), 6)
    36.787944
    """
    options = options or EventOptions()
    schedule, arrays = _prepared(events, system.dose_compartment)
    values = _checked_parameters(system, events, parameters)
    _check_doses(system, events, schedule, values)
    if initial is not None:
        begun = jnp.asarray(initial, dtype=float)
        begun = begun[:, None] if begun.ndim == 2 else begun
        arrays = {**arrays, "initial": jnp.broadcast_to(begun, (*events.shape, system.size))}
    overlap, pending = steady_state_slots(schedule, values, options)
    slots = Slots(
        infusions=tuple(schedule.infusions.tolist()),
        modelled_rate=bool(np.any(schedule.rate == MODELLED_RATE)),
        overlap=overlap,
        pending=pending,
    )
    return record_amounts(arrays, values, system=system, options=options, slots=slots)


@lru_cache(maxsize=32)
def _prepared(events: EventTable, dose_compartment: int) -> tuple[DoseSchedule, dict[str, Any]]:
    """Expand the doses and collect what the compiled program takes as data."""
    schedule = expand(events, dose_compartment)
    arrays: dict[str, Any] = {
        "time": events.time,
        "segment": events.segment.astype(np.int32),
        "segment_end": events.segment_end,
        "starts": events.starts,
        # an initial amount is put back by a reset, but a replacing steady state leaves none
        "resets": (events.is_reset | (events.starts & (np.arange(events.shape[1]) == 0)))
        & ~(events.is_dose & (events.ss == 1)),
    }
    for name in DoseSchedule.__dataclass_fields__:
        if name != "infusions":
            arrays[name] = getattr(schedule, name)
    return schedule, arrays


def _checked_parameters(
    system: LinearSystem, events: EventTable, parameters: Mapping[str, Any]
) -> dict[str, Array]:
    """Return parameters as [1 or B, 1 or N] arrays."""
    n_subjects, n_records = events.shape
    dosing = {f"{k}{c}" for k in ("ALAG", "F", "D", "R") for c in range(1, system.size + 1)}
    for name in parameters:
        if name not in system.parameters and name not in dosing:
            raise PkpdError(
                where=f"parameter '{name}' of '{system.name}'",
                what="is not known to the system",
                allowed=", ".join([*system.parameters, "ALAGn, Fn, Dn, Rn with n up to "])
                + str(system.size),
                remedy="remove or rename it",
            )
    missing = [name for name in system.parameters if name not in parameters]
    if missing:
        raise PkpdError(
            where=f"system '{system.name}'",
            what=f"parameter '{missing[0]}' is missing",
            allowed=", ".join(system.parameters),
            remedy="give a value",
        )
    out = {}
    for name, value in parameters.items():
        array = jnp.asarray(value, dtype=float)
        if array.ndim < 2:
            array = array.reshape(-1, 1)
        rows, columns = array.shape if array.ndim == 2 else (-1, -1)
        if rows not in (1, n_subjects) or columns not in (1, n_records):
            raise PkpdError(
                where=f"parameter '{name}'",
                what=f"has shape {jnp.shape(value)}",
                allowed=f"a scalar, [{n_subjects}] per subject, "
                f"[{n_subjects}, {n_records}] per record",
            )
        out[name] = array
    return out


def _check_doses(
    system: LinearSystem,
    events: EventTable,
    schedule: DoseSchedule,
    values: Mapping[str, Array],
) -> None:
    """Refuse doses that the system or the parameters cannot take."""
    if np.any(events.valid & (events.cmt > system.size)):
        b, n = np.argwhere(events.valid & (events.cmt > system.size))[0]
        raise DataError(
            where=events.place(b, n, "cmt"),
            what=f"compartment {events.cmt[b, n]} does not exist in '{system.name}'",
            allowed=", ".join(f"{i + 1} {c}" for i, c in enumerate(system.compartments)),
            remedy="correct CMT, or choose a model that has the compartment",
        )
    dose, rate, cmt = events.is_dose, events.rate, events.cmt
    cmt = np.where(cmt > 0, cmt, system.dose_compartment)
    for code, letter, word in (
        (MODELLED_RATE, "R", "rate"),
        (MODELLED_DURATION, "D", "duration"),
    ):
        for b, n in np.argwhere(dose & (rate == code)):
            if f"{letter}{cmt[b, n]}" not in values:
                raise DataError(
                    where=events.place(b, n, "rate"),
                    what=f"RATE {code:g} asks for a modelled {word}, and there is no "
                    f"parameter {letter}{cmt[b, n]}",
                    remedy=f"give {letter}{cmt[b, n]}, or a RATE of 0 or more",
                )
    for name, array in values.items():
        found = DOSING_NAME.fullmatch(name)
        if not found or isinstance(array, Tracer):
            continue
        kind, target = found.group(1), int(found.group(2))
        concerned = dose & (cmt == target)
        if kind in "DR":
            concerned &= rate == (MODELLED_RATE if kind == "R" else MODELLED_DURATION)
        full = np.broadcast_to(np.asarray(array), events.shape)
        bad = concerned & (full <= 0 if kind in "DR" else full < 0)
        if np.any(bad):
            b, n = np.argwhere(bad)[0]
            raise DataError(
                where=events.place(b, n),
                what=f"{name} is {full[b, n]:g} for this dose",
                allowed="more than 0" if kind in "DR" else "0 or more",
                remedy="correct the parameter",
            )


def left_out_when_compiled(
    events: EventTable,
    dose_compartment: int,
    parameters: Mapping[str, Any],
    options: EventOptions,
) -> dict[int, str]:
    """Say which subjects are NaN under tracing for want of room at a steady state.

    See `steady_slots.steady_states_left_out`; ``dose_compartment`` is that of doses
    whose CMT is 0.
    """
    schedule, _ = _prepared(events, dose_compartment)
    return steady_states_left_out(events, schedule, parameters, options)
