"""How many infusions of earlier cycles, and doses still to come, a steady-state record may need.

These numbers shape the compiled program, so they are fixed before the dosing parameters are known
to it: with numbers they follow from the parameters, under tracing from what
`pkpd.solve.events.timeline.EventOptions` assumes. A subject that needs more is NaN there, and
`steady_states_left_out` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.core import Tracer

from pkpd.arrays import Floats
from pkpd.data.events import MODELLED_DURATION, EventTable
from pkpd.data.expand import DoseSchedule
from pkpd.errors import sentence
from pkpd.solve.events.timeline import EventOptions

_SLACK = 1.0 + 1e-9


def steady_state_slots(
    schedule: DoseSchedule, values: Mapping[str, Any], options: EventOptions
) -> tuple[int, int]:
    """Return how many running infusions and pending doses a steady-state record may need.

    ``values`` are dosing parameters of shape [1 or B, 1 or N], by name; others are not looked at.
    """
    regular = schedule.ss_valid & ~schedule.ss_constant
    if not np.any(regular):
        return 0, 0
    running, waiting = _cycles(schedule, values)
    overlap = options.overlap
    if overlap is None:
        overlap = int(np.ceil(np.max(running) - 1e-9)) + 1 if np.any(running) else 0
    pending = options.pending
    if pending is None:
        pending = max(0, int(np.ceil(np.max(waiting) - 1e-9)) - 1)
    return overlap, 0 if options.steady_state_lag == "backward" else pending


def steady_states_left_out(
    events: EventTable,
    schedule: DoseSchedule,
    parameters: Mapping[str, Any],
    options: EventOptions,
) -> dict[int, str]:
    """Say which subjects the compiled program cannot solve for want of room, and what gives room.

    Parameters
    ----------
    events, schedule
        The records, and their doses written out.
    parameters
        Numbers: scalars, [B] or [B, N], by name; dosing parameters named by compartment.
    options
        How events are read.

    Returns
    -------
    dict
        Subject (from 0) to a sentence; empty if the program holds all.
    """
    regular = schedule.ss_valid & ~schedule.ss_constant
    if not np.any(regular):
        return {}
    values = {name: np.asarray(value, dtype=float) for name, value in parameters.items()}
    values = {
        name: value.reshape(-1, 1) if value.ndim < 2 else value for name, value in values.items()
    }
    overlap, pending = steady_state_slots(schedule, dict.fromkeys(values), options)
    out: dict[int, str] = {}
    kinds = [("infusions", "overlap", overlap, 0)]
    if options.steady_state_lag == "periodic":
        kinds.append(("lags", "pending", pending, 1))
    for (word, option, room, more), cycles in zip(kinds, _cycles(schedule, values), strict=False):
        short = regular & (cycles > (room + more) * _SLACK)
        for b in np.flatnonzero(short.any(axis=1)).tolist():
            q = int(np.argmax(np.where(short[b], cycles[b], 0.0)))
            needed = int(np.ceil(cycles[b, q])) - more
            out.setdefault(
                b,
                sentence(
                    where=events.place(b, int(schedule.ss_record[b, q])),
                    what=f"{word} of {cycles[b, q]:.3g} dosing intervals at steady state, and the "
                    f"compiled program has room for {room + more}",
                    remedy=f"build the structure with EventOptions({option}={needed}) or more",
                ),
            )
    return out


def _cycles(schedule: DoseSchedule, values: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """How many dosing intervals infusions and lags last at steady-state records, [B, Q].

    A value that is a tracer or None is not known: modelled rates, durations and lags then count as
    two intervals, bioavailability as 1.
    """
    regular = schedule.ss_valid & ~schedule.ss_constant

    def at_records(kind: str, default: float, unknown: float) -> Floats:
        out = np.full(regular.shape, default)
        for c in range(int(schedule.ss_cmt.max()) + 1):
            name = f"{kind}{c + 1}"
            if name not in values:
                continue
            value = values[name]
            if value is None or isinstance(value, Tracer):
                theirs = np.full(regular.shape, unknown)
            else:
                full = np.broadcast_to(np.asarray(value), schedule.dose_of_record.shape)
                theirs = np.take_along_axis(full, schedule.ss_record, axis=1)
            out = np.where(schedule.ss_cmt == c, theirs, out)
        return out

    interval = np.where(regular, schedule.ss_ii, 1.0)
    rate = schedule.ss_rate
    amount = schedule.ss_amt * at_records("F", 1.0, 1.0)
    given_rate = np.where(rate > 0, rate, at_records("R", 1.0, 0.0))
    slow = given_rate <= 0
    length = np.where(slow, 2.0 * interval, amount / np.where(slow, 1.0, given_rate))
    duration = at_records("D", 0.0, np.inf)
    duration = np.where(np.isinf(duration), 2.0 * interval, duration)
    length = np.where(rate == MODELLED_DURATION, duration, length)
    length = np.where(regular & (rate != 0), length, 0.0)
    cycles = np.where(regular, at_records("ALAG", 0.0, np.inf) / interval, 0.0)
    return length / interval, np.where(np.isinf(cycles), 2.0, cycles)
