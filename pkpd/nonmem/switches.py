"""Compartments that records switch off and on: a negative CMT, and EVID 2 with a positive one.

A compartment that is off has no amount. Two cases are read. One that is never switched on again
simply ceases: its amount and its rates are 0 from then on. One that only collects (urine), that no
other compartment reads, may be switched at will: what is in it is the difference of what had come
since it was last switched on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from pkpd.data.events import OTHER, EventTable
from pkpd.errors import DataError, sentence


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
    """

    running: Mapping[int, np.ndarray]
    since: Mapping[int, np.ndarray]
    on: Mapping[int, np.ndarray]

    def amounts(self, states: Any) -> Any:
        """Amounts as the code sees them, [B, N, S]."""
        rows = np.arange(states.shape[0])[:, None]
        for c, factor in self.running.items():
            states = states.at[..., c - 1].multiply(factor)
        for c, since in self.since.items():
            mine = states[..., c - 1]
            before = jnp.where(since >= 0, mine[rows, np.maximum(since, 0)], 0.0)
            states = states.at[..., c - 1].set(jnp.where(self.on[c], mine - before, 0.0))
        return states


def read_switches(
    events: EventTable, code: np.ndarray, collecting: frozenset[int], off: frozenset[int]
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

    Raises
    ------
    DataError
        If a compartment that acts on others comes back.
    """
    running, since, is_on = {}, {}, {}
    size = events.shape
    switched = set(np.unique(-code[events.valid & (code < 0)]).astype(int).tolist()) | off
    for c in sorted(switched):
        state = np.ones(size, bool)
        last = np.full(size, -1)
        back = None
        for b in range(size[0]):
            now, at = c not in off, -1
            for n in range(size[1]):
                if not events.valid[b, n]:
                    break
                state[b, n], last[b, n] = now, at
                if code[b, n] == -c:
                    now, at = False, n
                elif (
                    code[b, n] == c
                    and not now
                    and (events.is_dose[b, n] or events.evid[b, n] == OTHER)
                ):
                    now, at = True, n
                    back = back or (b, n)
                if events.is_reset[b, n]:
                    now, at = c not in off, -1
        if c in collecting:
            since[c], is_on[c] = last, state
        elif back is not None:
            raise DataError(
                sentence(
                    where=events.place(*back, "cmt"),
                    what=f"compartment {c}, which acts on others, is switched on again",
                    allowed="switching on again compartments that only collect",
                    remedy="reset the individual with EVID 3 or 4",
                )
            )
        else:
            running[c] = state.astype(float)
    return Switches(running, since, is_on)
