"""Linear kinetics inside ``$DES``: compartments that can be solved exactly and drive the others.

A control stream writes all its equations in one block. Where some compartments are linear among
themselves and the others read one of their amounts only, as in kinetics that drive an effect, the
former have a closed form; only the others are integrated, on steps as long as they allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pkpd.kinetics.closed_form import mammillary_step
from pkpd.kinetics.compartments import LinearSystem
from pkpd.nonmem.code import element
from pkpd.nonmem.evaluate import Evaluator
from pkpd.nonmem.inspect_code import assigned, assignments, reads
from pkpd.nonmem.program import degree, kept_statements, used_names
from pkpd.nonmem.tree import If, Statement

Place = tuple[int, int | None]


@dataclass(frozen=True)
class Split:
    """Compartments (from 1) that are solved exactly, and how.

    Attributes
    ----------
    order
        Compartments in the order of the solver: depot if any, central, peripheral ones, then those
        that are integrated.
    exact
        Number of those solved exactly.
    observed
        Compartment that the others read.
    statements
        Equations of the exact ones.
    edges
        Flows by place in ``order``.
    depot
        Whether the first empties into the second.
    """

    order: tuple[int, ...]
    exact: int
    observed: int
    statements: tuple[Statement, ...]
    edges: tuple[Place, ...]
    depot: bool

    def flows(self, values: Mapping[str, Any]) -> dict[Place, Any]:
        """Rate constants by (from, to) in the order of the solver."""
        found = rate_constants(self.statements, self.order[: self.exact], values)
        return {edge: found.get(edge, 0.0) for edge in self.edges}

    def system(self, name: str, parameters: Sequence[str]) -> LinearSystem:
        """Linear system with its closed form."""
        at = 1 if self.depot else 0

        def step(p: Mapping[str, Any], rate: Any, dt: Any) -> tuple[Any, Any]:
            k = self.flows(p)
            around = [(k[at, i], k[i, at]) for i in range(at + 1, self.exact)]
            return mammillary_step(
                k.get((at, None), 0.0 * dt), around, k[0, 1] if at else None, rate, dt
            )

        return LinearSystem(
            name,
            tuple(f"compartment {n}" for n in self.order[: self.exact]),
            tuple(parameters),
            self.flows,
            observed=self.order.index(self.observed) + 1,
            closed_form=step,
        )


def rate_constants(
    statements: Sequence[Statement], compartments: Sequence[int], values: Mapping[str, Any]
) -> dict[Place, Any]:
    """Rate constants of linear equations: one compartment filled at a time."""
    columns = []
    for j in compartments:
        given = {**values, **{element("A", n): float(n == j) for n in compartments}}
        run = Evaluator(given)
        run.run(statements)
        columns.append([run.values.get(f"DADT({n})", 0.0) for n in compartments])
    out: dict[Place, Any] = {}
    for j, column in enumerate(columns):
        left: Any = 0.0
        for i, entry in enumerate(column):
            left = left - entry
            if i != j:
                out[j, i] = entry
        out[j, None] = left
    return out


def _linear_ones(statements: Sequence[Statement], size: int) -> set[int]:
    """Compartments whose equations are linear in amounts of one another."""
    linear: set[str] = set()
    known: dict[str, set[str]] = {}
    good: set[int] = set()
    for statement in statements:
        if isinstance(statement, If):
            for one, conditions in assignments([statement]):
                used = set().union(reads(one.value), *map(reads, conditions))
                plain = not any(n.startswith("A(") or n == "T" or n in known for n in used)
                if not plain or one.target in known or one.target.startswith("DADT("):
                    known[one.target] = {"nonlinear"}
                    linear.discard(one.target)
            continue
        names = reads(statement.value)
        amounts = {n for n in names if n.startswith("A(")}
        amounts |= set().union(set(), *(known.get(n, set()) for n in names))
        if "T" in names:
            amounts.add("nonlinear")
        found = degree(statement.value, linear, set())
        target = statement.target
        if found is None or "nonlinear" in amounts:
            amounts.add("nonlinear")
        known[target] = amounts
        linear.discard(target)
        if found == 1:
            linear.add(target)
            if target.startswith("DADT("):
                good.add(int(target[5:-1]))
        if not amounts:
            known.pop(target)
    while True:
        allowed = {f"A({n})" for n in good}
        bad = {n for n in good if not known[f"DADT({n})"] <= allowed}
        if not bad:
            return good
        good -= bad


def find_split(
    statements: Sequence[Statement],
    size: int,
    values: Sequence[Mapping[str, Any]],
    keep: set[int],
) -> Split | None:
    """Find linear compartments with a closed form that drive the others, or None.

    Parameters
    ----------
    statements
        Equations.
    size
        Number of compartments.
    values
        Values of what the equations read, as numbers; a flow is there if any of them has it.
    keep
        Compartments that must be integrated, because they start with an amount or are switched.
    """
    good = _linear_ones(statements, size) - keep
    while good:
        rest = [n for n in range(1, size + 1) if n not in good]
        wanted = _closure(statements, {f"DADT({n})" for n in rest})
        driving = sorted(n for n in good if f"A({n})" in wanted)
        found = _arranged(statements, sorted(good), values)
        if found is not None and len(driving) <= 1:
            order, edges, depot, mine = found
            return Split(
                (*order, *rest), len(order), driving[0] if driving else order[0], mine, edges, depot
            )
        # without those that only collect from the others it may have a closed form
        mine = kept_statements(statements, _closure(statements, {f"DADT({n})" for n in good}))
        sources = {a for a, _ in _there(mine, sorted(good), values)}
        ends = {n for i, n in enumerate(sorted(good)) if i not in sources}
        if not ends:
            return None
        good -= ends
    return None


def needed_statements(
    statements: Sequence[Statement], compartments: Sequence[int]
) -> tuple[Statement, ...]:
    """Return the statements that the equations of some compartments need."""
    return kept_statements(statements, _closure(statements, {f"DADT({n})" for n in compartments}))


def _closure(statements: Sequence[Statement], wanted: set[str]) -> set[str]:
    while True:
        more = used_names(statements, wanted)
        if more <= wanted:
            return wanted
        wanted = wanted | more


def _there(
    statements: Sequence[Statement], good: list[int], values: Sequence[Mapping[str, Any]]
) -> set[Place]:
    """Flows that are more than rounding at any of the values."""
    found: set[Place] = set()
    for one in values:
        flows = rate_constants(statements, good, one)
        largest = max((float(np.max(np.abs(np.asarray(v)))) for v in flows.values()), default=0.0)
        found |= {
            place
            for place, value in flows.items()
            if np.any(np.abs(np.asarray(value)) > 1e-12 * largest)
        }
    return found


def _arranged(
    statements: Sequence[Statement], good: list[int], values: Sequence[Mapping[str, Any]]
) -> tuple[tuple[int, ...], tuple[Place, ...], bool, tuple[Statement, ...]] | None:
    """Order with a closed form: depot, central, peripheral; None if there is none."""
    mine = kept_statements(statements, _closure(statements, {f"DADT({n})" for n in good}))
    if any(name.startswith("MPAST(") for one, _ in assignments(mine) for name in reads(one.value)):
        return None
    there = _there(mine, good, values)
    count = len(good)
    for central in range(count):
        depots = [i for i in range(count) if (i, central) in there and (central, i) not in there]
        around = [i for i in range(count) if i != central and i not in depots]
        wanted = {(i, central) for i in (*depots, *around)} | {(central, i) for i in around}
        if len(depots) > 1 or len(around) > 2 or there - {(central, None)} != wanted:
            continue
        places = [*depots, central, *around]
        number = {old: new for new, old in enumerate(places)}
        edges = [(number[a], None if b is None else number[b]) for a, b in wanted]
        at = len(depots)
        if (central, None) in there:
            edges.append((at, None))
        ordered = tuple(sorted(edges, key=str))
        return tuple(good[i] for i in places), ordered, bool(depots), mine
    return None


def refers_to(statements: Sequence[Statement]) -> set[str]:
    """Names that statements read and do not set."""
    used: set[str] = set()
    for one, conditions in assignments(statements):
        used |= set().union(reads(one.value), *map(reads, conditions))
    return {n for n in used - assigned(statements) if not n.startswith("A(") and n != "T"}
