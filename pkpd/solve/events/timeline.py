"""Events of subjects in time order, collected and sorted while a program is traced.

Events of a subject are its records, the arrivals of its doses, the ends of its infusions, and what
a steady state leaves behind (infusions still running, implied doses still to come). Their times
depend on parameters, so they are sorted inside the compiled program; the order itself carries no
derivative, the times do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from pkpd.data.events import MODELLED_DURATION, MODELLED_RATE
from pkpd.kinetics.compartments import LinearSystem
from pkpd.kinetics.steady_state import phase

_NO_RECORD = np.iinfo(np.int32).max


def _just_before(time: Array) -> Array:
    """Sort key of an event between records: 0.1 + 0.2 must come before a record at 0.3."""
    return time - (1e-9 + 1e-12 * jnp.abs(time))


@dataclass(frozen=True)
class EventOptions:
    """How events are read.

    Attributes
    ----------
    carry
        ``"backward"``: a record's parameters hold over the interval ending at it (NONMEM);
        ``"forward"``: over the interval that begins at it.
    steady_state_lag
        For a lag of one interval or more at a steady-state record: ``"periodic"`` or
        ``"backward"`` (NONMEM 7.4.3), see :mod:`pkpd.solve.events.advance`.
    overlap
        Most infusions of earlier cycles that can still run at a steady-state record. None: from
        the data and the parameters given; under ``jit`` from the data, with bioavailability
        at most 1, and 2 for modelled rates and durations. Too small a number gives NaN.
    pending
        Most implied doses still to arrive at a steady-state record (``lag / II`` rounded up, less
        one) for ``"periodic"``. None: from the parameters; 1 under ``jit``. Too small gives NaN.
    """

    carry: Literal["backward", "forward"] = "backward"
    steady_state_lag: Literal["periodic", "backward"] = "periodic"
    overlap: int | None = None
    pending: int | None = None


class Slots(NamedTuple):
    """What fixes the compiled program besides array shapes.

    ``infusions`` are the dose columns that hold an infusion for some subject, ``overlap`` and
    ``pending`` as in :class:`EventOptions`.
    """

    infusions: tuple[int, ...]
    modelled_rate: bool
    overlap: int
    pending: int


class EventBlock(NamedTuple):
    """Events, [B, K], before sorting."""

    time: Array
    key: Array
    order: Array
    segment: Array
    end: Array
    jump: Array


class _Infusions(NamedTuple):
    """Infusions, [B, K]: numbers of the events that start and end them, rate, compartment."""

    on: Array
    off: Array
    rate: Array
    modelled: Array
    cmt: Array


class Timeline:
    """Collects events and infusions while the program is traced."""

    def __init__(
        self,
        data: dict[str, Array],
        values: dict[str, Array],
        system: LinearSystem,
        options: EventOptions,
    ) -> None:
        self.data = data
        self.values = values
        self.system = system
        self.n_subjects, self.n_records = data["time"].shape
        self.subject = jnp.arange(self.n_subjects)[:, None]
        numbers = np.arange(self.n_records, dtype=np.int32)
        # the record whose parameters hold over the interval that ends at record n
        holder = numbers if options.carry == "backward" else np.maximum(numbers - 1, 0)
        self.holder = jnp.asarray(holder)
        # subjects with a negative lag, or a modelled rate or duration that is not positive
        self.refused = jnp.zeros(self.n_subjects, dtype=bool)
        self.blocks: list[EventBlock] = []
        self.infusions: list[_Infusions] = []

    def at_record(self, name: str, record: Array) -> Array:
        """Value of a data column at records [B, K]."""
        return jnp.asarray(self.data[name])[self.subject, record]

    def dosing(self, kind: str, default: float) -> Array | None:
        """Values of ALAG, F, D or R by record and compartment, [B, N, S]; None if not given."""
        names = [f"{kind}{c + 1}" for c in range(self.system.size)]
        if not any(name in self.values for name in names):
            return None
        per = [self.values.get(name, jnp.full((1, 1), default)) for name in names]
        shape = (self.n_subjects, self.n_records)
        return jnp.stack([jnp.broadcast_to(value, shape) for value in per], axis=-1)

    def dosing_at(self, kind: str, default: float, record: Array, cmt: Array) -> Array:
        """Value of a dosing parameter at records for compartments, [B, K]."""
        per = self.dosing(kind, default)
        if per is None:
            return jnp.full(record.shape, default)
        return per[self.subject, record, cmt]

    def parameters(self, record: Array) -> dict[str, Array]:
        """Parameters of the system at records [B, K], or [1 or B, 1] where they do not change."""
        return {
            name: value
            if value.shape[1] == 1
            else jnp.broadcast_to(value, (self.n_subjects, self.n_records))[self.subject, record]
            for name, value in self.values.items()
            if name in self.system.parameters
        }

    def into(self, cmt: Array, amount: Array) -> Array:
        """Amounts [B, K] as vectors over compartments, [B, K, S]."""
        return amount[..., None] * jax.nn.one_hot(cmt, self.system.size)

    def governing(self, ordered_by: Array, time: Array) -> Array:
        """Record whose parameters hold at times between records, [B, K]."""
        segment = self.at_record("segment", ordered_by)
        key = _just_before(time)
        theirs, time = self.data["segment"][:, None, :], self.data["time"][:, None, :]
        before = (theirs < segment[..., None]) | (
            (theirs == segment[..., None]) & (time < key[..., None])
        )
        return self.holder[jnp.minimum(jnp.sum(before, axis=-1), self.n_records - 1)]

    def add(self, time: Array, after: Array, record: Array, jump: Array) -> Array:
        """Append events of records' segments that do not come before time ``after``.

        Returns the events' numbers, [B, K].
        """
        key = _just_before(time)
        own = key <= after
        first = sum(block.time.shape[1] for block in self.blocks)
        self.blocks.append(
            EventBlock(
                time=time,
                key=jnp.where(own, after, key),
                # before records at the same time, but after the record that ordered the event
                order=jnp.where(own, 2 * record + 1, -1).astype(jnp.int32),
                segment=self.at_record("segment", record),
                end=self.at_record("segment_end", record),
                jump=jump,
            )
        )
        return jnp.broadcast_to(first + jnp.arange(time.shape[1]), time.shape)

    def add_infusions(
        self,
        on: Array,
        start: Array,
        length: Array,
        amount: Array,
        rate: Array,
        dose: _Given | Cycle,
        follow_rate: bool,
    ) -> None:
        """Append infusions that start at events ``on`` and last ``length`` hours."""
        stop = start + length
        modelled = dose.code == MODELLED_RATE
        if follow_rate:
            stop = jnp.where(modelled, self.modelled_end(start, amount, dose), stop)
        off = self.add(stop, start, dose.record, jnp.zeros((*stop.shape, self.system.size)))
        self.infusions.append(_Infusions(on, off, rate, modelled, dose.cmt))

    def modelled_end(self, start: Array, amount: Array, dose: _Given | Cycle) -> Array:
        """Time at which a modelled rate that follows the records has given ``amount``, [B, K]."""
        per = self.dosing("R", 1.0)
        if per is None:
            return start + amount
        rates = jnp.swapaxes(per[:, self.holder], 1, 2)[self.subject, dose.cmt]
        time = self.data["time"][:, None, :]
        theirs = self.at_record("segment", dose.record)[..., None]
        previous = jnp.concatenate([time[..., :1], time[..., :-1]], axis=-1)
        length = jnp.maximum(time - jnp.maximum(previous, start[..., None]), 0.0)
        length = jnp.where(self.data["segment"][:, None, :] == theirs, length, 0.0)
        given = jnp.cumsum(rates * length, axis=-1)
        remaining = jnp.maximum(amount[..., None] - (given - rates * length), 0.0)
        longest = jnp.where(rates > 0, remaining / jnp.where(rates > 0, rates, 1.0), length)
        stop = start + jnp.sum(jnp.minimum(longest, length), axis=-1)
        # unfinished at the segment's last record: no record sees the end, any later time will do
        later = jnp.maximum(start, self.at_record("segment_end", dose.record)) + 1.0
        return jnp.where(given[..., -1] >= amount, stop, later)

    def rates(self, position: Array, governs: Array) -> Array:
        """Input into each compartment over the interval before each sorted event, [B, E, S]."""
        n_subjects, total = position.shape
        size = self.system.size
        place = jnp.arange(total)[None, :, None]
        rates = jnp.zeros((n_subjects, total, size))
        counts = jnp.zeros((n_subjects, total, size))
        for each in self.infusions:
            active = (position[self.subject, each.on][:, None, :] < place) & (
                place <= position[self.subject, each.off][:, None, :]
            )
            target = jax.nn.one_hot(each.cmt, size)
            fixed = jnp.where(each.modelled, 0.0, each.rate)[..., None] * target
            rates = rates + jnp.einsum("bei,bis->bes", active.astype(float), fixed)
            counts = counts + jnp.einsum(
                "bei,bis->bes", active.astype(float), each.modelled[..., None] * target
            )
        modelled = self.dosing("R", 0.0)
        if modelled is None or not self.infusions:
            return rates
        # where no infusion runs the parameter must not matter, not even as 0 * inf
        return rates + jnp.where(counts > 0, counts * modelled[self.subject, governs], 0.0)


class Events(NamedTuple):
    """Events in time order, [B, E].

    ``joined`` are the events before sorting; ``permutation`` and ``position`` lead there and back.
    ``own`` is the record that an event is (``is_record``), ``governs`` the one whose parameters
    hold before it, ``starts`` whether it begins a segment. ``seen``, [B, N], is the event, before
    sorting, after which a record is read.
    """

    joined: EventBlock
    permutation: Array
    position: Array
    is_record: Array
    own: Array
    governs: Array
    starts: Array
    time: Array
    length: Array
    seen: Array


def sorted_events(line: Timeline, slots: Slots, cycle: Cycle | None, at_records: Array) -> Events:
    """Collect records, doses and what steady states leave behind, and sort them by time.

    Parameters
    ----------
    line
        Has no events yet.
    slots
        What fixes the program.
    cycle
        Dosing behind the steady-state records, if there are any.
    at_records
        What is added at each record, [B, N, S].
    """
    data, subject, n_records = line.data, line.subject, line.n_records
    numbers = jnp.broadcast_to(jnp.arange(n_records, dtype=jnp.int32), data["time"].shape)
    segment, end = jnp.asarray(data["segment"]), jnp.asarray(data["segment_end"])
    time = data["time"]
    line.blocks.append(EventBlock(time, time, 2 * numbers, segment, end, at_records))
    immediate = _add_doses(line, slots)
    if cycle is not None:
        _add_steady_state(line, cycle, slots)

    joined = EventBlock(*(jnp.concatenate(p, axis=1) for p in zip(*line.blocks, strict=True)))
    index = jnp.broadcast_to(jnp.arange(joined.time.shape[1], dtype=jnp.int32), joined.time.shape)
    *_, permutation = jax.lax.sort(
        (joined.segment, jax.lax.stop_gradient(joined.key), joined.order, index),
        dimension=1,
        num_keys=3,
    )
    is_record = permutation < n_records
    ending = jax.lax.cummin(jnp.where(is_record, permutation, _NO_RECORD), axis=1, reverse=True)
    own = jnp.minimum(permutation, n_records - 1)
    starts = is_record & line.at_record("starts", own)
    # an event after its segment's last record is seen by no record: it stays at that time
    time = jnp.minimum(joined.time, joined.end)[subject, permutation]
    seen = numbers
    if immediate is not None:
        # a dose record is read after its dose if that enters at once
        its = jnp.maximum(data["dose_of_record"], 0)
        at_once = (data["dose_of_record"] >= 0) & immediate[subject, its]
        seen = jnp.where(at_once, n_records + its, numbers)
    return Events(
        joined=joined,
        permutation=permutation,
        position=jnp.argsort(permutation, axis=1),
        is_record=is_record,
        own=own,
        governs=line.holder[jnp.minimum(ending, n_records - 1)],
        starts=starts,
        time=time,
        length=jnp.where(starts, 0.0, jnp.diff(time, axis=1, prepend=time[:, :1])),
        seen=seen,
    )


class _Given(NamedTuple):
    """Doses: the record that ordered each, its compartment (from 0) and RATE, [B, K]."""

    record: Array
    cmt: Array
    code: Array


def _add_doses(line: Timeline, slots: Slots) -> Array | None:
    """Append arrivals and infusions of all doses; return which enter at their record, [B, D]."""
    data = line.data
    record, cmt = data["record"], data["cmt"]
    if not record.shape[1]:
        return None
    lag = line.dosing_at("ALAG", 0.0, record, cmt)
    code = data["rate"]
    recorded = line.at_record("time", record)
    arrival = recorded + data["shift"] + lag
    immediate = data["first"] & (lag == 0)
    enters = jnp.where(immediate, record, line.governing(record, arrival))
    impossible = (
        (lag < 0)
        | ((code == MODELLED_DURATION) & (line.dosing_at("D", 1.0, enters, cmt) <= 0))
        | ((code == MODELLED_RATE) & (line.dosing_at("R", 1.0, record, cmt) <= 0))
    )
    line.refused = jnp.any(impossible & data["valid"], axis=1)
    amount = data["valid"] * data["amt"] * line.dosing_at("F", 1.0, enters, cmt)
    bolus = jnp.where(data["rate"] == 0, amount, 0.0)
    numbers = line.add(arrival, recorded, record, line.into(cmt, bolus))
    if slots.infusions:
        at = np.asarray(slots.infusions)
        dose = _Given(record[:, at], cmt[:, at], data["rate"][:, at])
        given = jnp.where(dose.code != 0, amount[:, at], 0.0)
        rate, length = _rate_and_length(line, dose, given, enters[:, at])
        line.add_infusions(
            numbers[:, at], arrival[:, at], length, given, rate, dose, slots.modelled_rate
        )
    return immediate


def _rate_and_length(
    line: Timeline, dose: _Given | Cycle, amount: Array, enters: Array
) -> tuple[Array, Array]:
    """Rate (mg/h) and duration (h) of infusions of ``amount``, from RATE and D or R, [B, K].

    A duration is that of the record in force when the dose enters, ``enters``.
    """
    code = dose.code
    by_duration = code == MODELLED_DURATION
    duration = jnp.where(by_duration, line.dosing_at("D", 1.0, enters, dose.cmt), 1.0)
    rate = jnp.where(code == MODELLED_RATE, line.dosing_at("R", 1.0, dose.record, dose.cmt), code)
    rate = jnp.where(by_duration, amount / duration, rate)
    divisor = jnp.where(by_duration | (code == 0), 1.0, rate)
    length = jnp.where(by_duration, duration, amount / divisor)
    return jnp.where(code == 0, 0.0, rate), jnp.where(code == 0, 0.0, length)


class Cycle(NamedTuple):
    """Regular dosing behind each steady-state record, [B, Q]."""

    record: Array
    cmt: Array
    code: Array
    ordered: Array
    interval: Array
    lag: Array
    since: Array
    amount: Array
    rate: Array
    length: Array
    regular: Array
    infused: Array


def cycle_of(line: Timeline, options: EventOptions) -> Cycle:
    """Collect the dosing behind steady-state records, with parameters of those records."""
    data = line.data
    record, cmt, code = data["ss_record"], data["ss_cmt"], data["ss_rate"]
    regular = data["ss_valid"] & ~data["ss_constant"]
    interval = jnp.where(regular, data["ss_ii"], 1.0)
    lag = jnp.where(regular, line.dosing_at("ALAG", 0.0, record, cmt), 0.0)
    amount = jnp.where(regular, data["ss_amt"] * line.dosing_at("F", 1.0, record, cmt), 0.0)
    since = phase(lag, interval, wrap=options.steady_state_lag == "periodic")
    cycle = Cycle(
        record,
        cmt,
        code,
        data["ss_amt"],
        interval,
        lag,
        since,
        amount,
        amount,
        amount,
        regular,
        regular & (code != 0),
    )
    rate, length = _rate_and_length(line, cycle, amount, record)
    return cycle._replace(rate=rate, length=jnp.where(regular, length, 0.0))


def _add_steady_state(line: Timeline, cycle: Cycle, slots: Slots) -> None:
    """Append infusions of earlier cycles still running, and implied doses still to arrive."""
    if slots.overlap:
        each = _repeated(cycle, slots.overlap)
        j = jnp.tile(jnp.arange(slots.overlap), cycle.record.shape[1])
        left = each.length - each.since - j * each.interval
        # stepping back past the cycle's beginning starts no earlier infusion
        begun = each.infused & (each.length > j * each.interval)
        left = jnp.where(begun, jnp.maximum(left, 0.0), 0.0)
        line.add_infusions(
            each.record,
            line.at_record("time", each.record),
            left,
            left * each.rate,
            jnp.where(each.infused, each.rate, 0.0),
            each,
            slots.modelled_rate,
        )
    if slots.pending:
        each = _repeated(cycle, slots.pending)
        j = jnp.tile(jnp.arange(1, slots.pending + 1), cycle.record.shape[1])
        wait = each.lag - j * each.interval
        comes = each.regular & (wait > 0)
        recorded = line.at_record("time", each.record)
        arrival = recorded + jnp.where(comes, wait, 0.0)
        enters = line.governing(each.record, arrival)
        amount = each.ordered * line.dosing_at("F", 1.0, enters, each.cmt)
        amount = jnp.where(comes, amount, 0.0)
        bolus = jnp.where(each.code == 0, amount, 0.0)
        numbers = line.add(arrival, recorded, each.record, line.into(each.cmt, bolus))
        if slots.overlap:
            given = jnp.where(each.infused, amount, 0.0)
            rate, length = _rate_and_length(line, each, given, enters)
            line.add_infusions(numbers, arrival, length, given, rate, each, slots.modelled_rate)


def _repeated(cycle: Cycle, times: int) -> Cycle:
    """Repeat each steady-state record ``times`` times, [B, Q * times]."""
    return Cycle(*(jnp.repeat(jnp.asarray(part), times, axis=1) for part in cycle))
