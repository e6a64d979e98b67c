"""Order of operations in which a processor need not wait.

A processor looks some hundred instructions ahead for one that can begin. As they are traced, the
operations of a pool follow each other, each waits for the one before, and the next pool is out of
sight. Here those that can begin are done in turn, first the one with the longest way to the end
(list scheduling: Graham, SIAM J Appl Math 1969;17:416). No number changes.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import replace

from pkpd.solve.bridge.operations import Atom, Operation, Operations, is_value

_LATENCY = {"exp": 60, "log": 75, "log1p": 80, "div": 24, "sqrt": 32, "pow": 140}
"""Cycles after which the result of an operation is there; of others `_USUAL_LATENCY`. About those
of Intel's processors with AVX-512 (a division 24, a sum or product 4)."""
_WORK = {"exp": 30, "log": 37, "log1p": 38, "div": 24, "sqrt": 30, "pow": 69}
"""Cycles for which it keeps the processor busy; others `_USUAL_WORK`. Chosen by trial on one
processor: of factors .5 to 4 on all of them, those from 1 to 2.5 gave the fastest courses."""
_USUAL_LATENCY, _USUAL_WORK = 4, 1.5


def in_turn(ops: Operations) -> Operations:
    """Put operations into the order in which they can begin, those with a long way to go first."""
    steps = {step.made: step for step in ops.steps}
    users: dict[Atom, list[int]] = defaultdict(list)
    missing: dict[int, int] = {}
    for made, step in steps.items():
        values = {atom for atom in step.taken if is_value(atom) and atom in steps}
        missing[made] = len(values)
        for atom in values:
            users[atom].append(made)
    way = _ways(ops, users)
    ready = [(-way[made], made) for made, count in missing.items() if count == 0]
    heapq.heapify(ready)
    later: list[tuple[float, int]] = []  # and when
    done: list[Operation] = []
    now = 0.0
    while ready or later:
        while later and (later[0][0] <= now or not ready):
            begins, made = heapq.heappop(later)
            now = max(now, begins)
            heapq.heappush(ready, (-way[made], made))
        _, made = heapq.heappop(ready)
        done.append(steps[made])
        now += _WORK.get(steps[made].name, _USUAL_WORK)
        for user in users[made]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(later, (now + _latency(steps[made]), user))
    return replace(ops, steps=tuple(done))


def _ways(ops: Operations, users: dict[Atom, list[int]]) -> dict[int, int]:
    """Cycles from the beginning of each operation to the end of all that waits for it."""
    way: dict[int, int] = {}
    for step in reversed(ops.steps):
        way[step.made] = _latency(step) + max((way[user] for user in users[step.made]), default=0)
    return way


def _latency(step: Operation) -> int:
    return _LATENCY.get(step.name, _USUAL_LATENCY)
