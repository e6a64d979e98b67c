"""Compartments that records switch off and on: a negative CMT, and EVID 2 with a positive one.

A compartment that is off has no amount. Three cases are read. One that is never switched on again,
or by the last record of an individual or before a reset, simply ceases: its amount and its rates
are 0 from then on. One that only collects (urine), that no other compartment reads, may be switched
at will: what is in it is the difference of what had come since it was last switched on. Another one
of linear kinetics that comes back begins anew: a compartment of the same rates takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from pkpd.data.events import OTHER, EventTable
from pkpd.errors import DataError


@dataclass(frozen=True, eq=False)
class Again:
    """A compartment that comes back: each time another one takes its place.

    Attributes
    ----------
    place
        Where it first does, in words.
    turn
        Number of the compartment that is on over the interval that ends at the record, -1 if none,
        [B, N]; the first is 0.
    after
        The same after the record's own switch, [B, N].
    """

    place: str
    turn: np.ndarray
    after: np.ndarray

    @property
    def count(self) -> int:
        """How many compartments take its place after the first."""
        return int(max(self.turn.max(), self.after.max()))


@dataclass(frozen=True, eq=False)
class Switches:
    """Compartments by number (from 1) that records switch.

    Attributes
    ----------
    running
        1 where a compartment is on over the interval that ends at the record, else 0, [B, N]; for
        compartments that never come back.
    since
        Record of the last switch before each, -1 if none, [B, N]; for those that only collect.
    on
        Whether those are on, [B, N].
    again
        Others that come back.
    """

    running: Mapping[int, np.ndarray]
    since: Mapping[int, np.ndarray]
    on: Mapping[int, np.ndarray]
    again: Mapping[int, Again] = field(default_factory=dict)

    @property
    def extra(self) -> int:
        """Number of compartments that take others' places."""
        return sum(one.count for one in self.again.values())

    def places(self, size: int) -> dict[int, tuple[int, ...]]:
        """Compartments (from 1) that stand for each that comes back, beyond the ``size`` given."""
        out, last = {}, size
        for c, one in self.again.items():
            out[c] = (c, *range(last + 1, last + 1 + one.count))
            last += one.count
        return out

    def rates(
        self, rates: Mapping[tuple[int, int | None], Any], size: int
    ) -> dict[tuple[int, int | None], Any]:
        """Rate constants by (from, to), counted from 0: zero where a compartment is off."""
        out = dict(rates)
        for n, on in self.running.items():
            out = {p: value * on if n - 1 in p else value for p, value in out.items()}
        for c, places in self.places(size).items():
            wide: dict[tuple[int, int | None], Any] = {}
            for (source, target), value in out.items():
                if c - 1 not in (source, target):
                    wide[source, target] = value
                    continue
                for turn, n in enumerate(places):
                    on = (self.again[c].turn == turn).astype(float)
                    place = (
                        n - 1 if source == c - 1 else source,
                        n - 1 if target == c - 1 else target,
                    )
                    wide[place] = value * on
            out = wide
        return out

    def dosed(self, events: EventTable, size: int, default: int) -> EventTable:
        """Events whose doses go where a compartment that came back is."""
        cmt = np.where(events.is_dose & (events.cmt == 0), default, events.cmt)
        for c, places in self.places(size).items():
            turn = np.maximum(self.again[c].after, 0)
            cmt = np.where(events.is_dose & (cmt == c), np.array(places)[turn], cmt)
        return replace(events, cmt=cmt) if self.again else events

    def doses(self, values: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Parameters of doses, those of a compartment for all that take its place."""
        out = dict(values)
        for c, places in self.places(size).items():
            out |= {f"F{n}": values[f"F{c}"] for n in places if f"F{c}" in values}
        return out

    def amounts(self, states: Any) -> Any:
        """Amounts as the code sees them, [B, N, S]."""
        rows, size = np.arange(states.shape[0])[:, None], states.shape[2] - self.extra
        for c, factor in self.running.items():
            states = states.at[..., c - 1].multiply(factor)
        for c, since in self.since.items():
            mine = states[..., c - 1]
            before = jnp.where(since >= 0, mine[rows, np.maximum(since, 0)], 0.0)
            states = states.at[..., c - 1].set(jnp.where(self.on[c], mine - before, 0.0))
        for c, places in self.places(size).items():
            one = self.again[c]
            # what a record switches off is still there at the record itself
            turn = np.where(one.after >= 0, one.after, one.turn)
            mine = sum(jnp.where(turn == k, states[..., n - 1], 0.0) for k, n in enumerate(places))
            states = states.at[..., c - 1].set(mine)
        return states[..., :size]


def _matters(events: EventTable, b: int, n: int) -> bool:
    """Whether a record follows this one before the individual ends or is reset."""
    last = n + 1 == events.shape[1] or not events.valid[b, n + 1]
    return not (last or events.is_reset[b, n + 1])


def read_switches(
    events: EventTable,
    code: np.ndarray,
    collecting: frozenset[int],
    off: frozenset[int],
    *,
    default: int = 1,
) -> Switches:
    """Find what records switch.

    Parameters
    ----------
    events
        Events, without negative compartments.
    code
        CMT of the data, [B, N].
    collecting
        Compartments that nothing else reads and whose own amount does not act on them.
    off
        Compartments that are off at the start.
    default
        Compartment of doses without one.

    Raises
    ------
    DataError
        If a compartment that acts on others comes back and takes infusions, additional doses or
        doses to a steady state.
    """
    running, since, is_on, again = {}, {}, {}, {}
    size = events.shape
    switched = set(np.unique(-code[events.valid & (code < 0)]).astype(int).tolist()) | off
    for c in sorted(switched):
        state = np.ones(size, bool)
        last = np.full(size, -1)
        turn, after = np.full(size, -1), np.full(size, -1)
        back = None
        for b in range(size[0]):
            now, at, count = c not in off, -1, 0
            for n in range(size[1]):
                if not events.valid[b, n]:
                    break
                state[b, n], last[b, n] = now, at
                turn[b, n] = count if now else -1
                if code[b, n] == -c:
                    now, at = False, n
                elif (
                    not now
                    and (code[b, n] or default) == c
                    and (events.is_dose[b, n] or (code[b, n] and events.evid[b, n] == OTHER))
                ):
                    now, at, count = True, n, count + 1
                    if back is None and _matters(events, b, n):
                        back = (b, n)
                if events.is_reset[b, n]:
                    now, at, count = c not in off, -1, 0
                after[b, n] = count if now else -1
        if c in collecting:
            since[c], is_on[c] = last, state
        elif back is not None:
            again[c] = Again(events.place(*back, "cmt"), turn, after)
            _refuse_long_doses(events, c, default, again[c].place)
        else:
            running[c] = state.astype(float)
    return Switches(running, since, is_on, again)


def refuse_again(switches: Switches) -> None:
    """Refuse compartments with a lag or of other than linear kinetics that come back."""
    for c, one in switches.again.items():
        raise DataError(
            where=one.place,
            what=f"compartment {c}, which acts on others, is switched on again",
            allowed="switching on again compartments that only collect, or of linear kinetics "
            "without a lag",
            remedy="reset the individual with EVID 3 or 4",
        )


def _refuse_long_doses(events: EventTable, c: int, default: int, place: str) -> None:
    mine = events.is_dose & (np.where(events.cmt == 0, default, events.cmt) == c)
    long = (events.rate != 0) | (events.addl != 0) | (events.ss != 0)
    if np.any(mine & long):
        raise DataError(
            where=place,
            what=f"compartment {c} is switched on again and takes infusions, additional doses "
            "or doses to a steady state",
            allowed="single doses at once into a compartment that comes back",
            remedy="reset the individual with EVID 3 or 4",
        )
