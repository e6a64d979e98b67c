"""Index programs of the compiled pharmacokinetics: which product is added to which entry.

One kernel runs every linear structure; what differs between structures is data. A program lists,
for a structure, its rates as products of powers of parameters, where they enter the rate matrix,
and the index triples of the matrix products of `pkpd.kinetics.uniformisation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pkpd.arrays import Integers32
from pkpd.kinetics.pattern import pattern_of

if TYPE_CHECKING:
    from pkpd.kinetics.linear import LinearPK


# columns of a drug's header: sizes, then (offset, count) of its lists in the shared code array
(
    KIND,
    N,
    SLOTS,
    OUTPUT,
    EDGES,
    RATES,
    TERMS,
    N_TERMS,
    POWER,
    N_POWER,
    COMPOSE,
    N_COMPOSE,
    ENTRIES,
    N_ENTRIES,
    ROW,
    COLUMN,
    ONES,
    N_ONES,
    OUTFLOW,
    N_OUTFLOW,
    FACTORS,
    N_FACTORS,
    F_ROW,
    MOMENTS,
    AT_NODES,
    DEGREE,
    COEF_SIZE,
    COEF_START,
    DRIVER_SIZE,
    DRIVER_START,
    STATE_START,
    CHAIN,
    CENTRAL,
    PARAMETERS,
    HEADER,
) = range(35)

LINEAR_PK, DIRECT_KILL, SATURABLE, INTO_STATE = range(4)
DOUBLINGS = 24
NODE_DEGREE = 40


@dataclass(frozen=True, eq=False)
class KineticProgram:
    """Index lists of one drug."""

    header: Integers32
    code: Integers32


def _rate_table(pk: LinearPK):
    """Rates as products of powers of parameters, and where each enters the rate matrix."""
    # here, since a process that only compiles must not wait for JAX
    from pkpd.kinetics.flows import FlowPK

    if isinstance(pk, FlowPK):
        return pk.rate_table()
    central = pk.n_absorption
    rates: list[dict[str, int]] = []
    inflow: list[tuple[int, int, int]] = []  # (target, source, rate)
    outflow: list[tuple[int, int]] = []  # (state, rate)

    def add(powers: dict[str, int], source: int, targets: tuple[int, ...], leaves: bool = True):
        rates.append(powers)
        inflow.extend((target, source, len(rates) - 1) for target in targets)
        if leaves:
            outflow.append((source, len(rates) - 1))

    if pk.absorption is not None:
        rates.append({"KTR" if pk.absorption else "ka": 1})
        for i in range(central):
            inflow.append((i + 1, i, 0))
            outflow.append((i, 0))
    add({"CL": 1, "V1": -1}, central, ())
    for i, (flow, volume) in enumerate((("Q", "V2"), ("Q3", "V3"))[: pk.compartments - 1], start=1):
        add({flow: 1, "V1": -1}, central, (central + i,))
        add({flow: 1, volume: -1}, central + i, (central,))
    if pk.effect_site:
        site = pk.n_states - 1
        add({"k_in": 1, "per_umol": 1, "V1": -1}, central, (site,), leaves=False)
        add({"k_out": 1}, site, ())
    scale: dict[str, int] = {}
    if not pk.effect_site:
        scale = {"per_umol": 1, "V1": -1} if pk.unit == "umol/L" else {"V1": -1}
    return rates, inflow, sorted(outflow), scale


def program(pk: LinearPK, row: dict[str, int]) -> KineticProgram:
    """Index lists of a linear structure.

    Parameters
    ----------
    pk
        The structure.
    row
        Row of ``theta`` of each parameter, ``"F"`` among them.
    """
    rates, inflow, outflow, scale = _rate_table(pk)
    n, central = pk.n_states, pk.n_absorption
    output = pk._output
    edges = tuple(sorted({(source, target) for target, source, _ in inflow}))
    pattern = pattern_of(n, edges, central)
    slot, representative = pattern.slot, pattern.representative
    matrix = sorted({(t, s) for t, s, _ in inflow} | {(i, i) for i in range(n)})
    edge = {place: e for e, place in enumerate(matrix)}
    terms = [(edge[(t, s)], r, 1) for t, s, r in inflow]
    terms += [(edge[(i, i)], r, -1) for i, r in outflow]
    # the shift goes on the diagonal; rate -1 stands for it
    terms += [(edge[(i, i)], -1, 1) for i in range(n)]
    power = [
        (o, slot[i][m], edge[(m, k)])
        for o, (i, k) in enumerate(representative)
        for m in range(n)
        if (m, k) in edge and slot[i][m] >= 0
    ]
    products = [
        (o, slot[i][j], slot[j][k])
        for o, (i, k) in enumerate(representative)
        for j in range(n)
        if slot[i][j] >= 0 and slot[j][k] >= 0
    ]
    entries = [(i, j, slot[i][j]) for i in range(n) for j in range(n) if slot[i][j] >= 0]
    factors = [
        (r, row[name], sign)
        for r, powers in enumerate([*rates, scale])
        for name, sign in powers.items()
    ]
    header = np.zeros(HEADER, dtype=np.int32)
    header[[KIND, N, SLOTS, OUTPUT, EDGES, RATES]] = (
        LINEAR_PK,
        n,
        len(representative),
        output,
        len(matrix),
        len(rates),
    )
    header[F_ROW] = row["F"]
    header[DEGREE] = max(12, n + 9)
    header[CENTRAL] = central
    if central and pk.compartments == 1 and not pk.effect_site:
        header[CHAIN] = central
    code: list[int] = []

    def put(offset: int, rows, count: int | None = None) -> None:
        header[offset] = len(code)
        if count is not None:
            header[count] = len(rows)
        code.extend(int(v) for item in rows for v in (item if isinstance(item, tuple) else (item,)))

    put(TERMS, terms, N_TERMS)
    put(POWER, power, N_POWER)
    put(COMPOSE, products, N_COMPOSE)
    put(ENTRIES, entries, N_ENTRIES)
    put(ROW, [slot[output][j] for j in range(n)])
    put(COLUMN, [slot[i][0] for i in range(n)])
    put(ONES, list(pattern.diagonal), N_ONES)
    put(OUTFLOW, outflow, N_OUTFLOW)
    put(FACTORS, factors, N_FACTORS)
    return KineticProgram(header, np.array(code, dtype=np.int32))


def direct_kill_program(row: dict[str, int]) -> KineticProgram:
    """Header of a drug without pharmacokinetics."""
    header = np.zeros(HEADER, dtype=np.int32)
    header[KIND], header[F_ROW] = DIRECT_KILL, row["F"]
    return KineticProgram(header, np.zeros(0, dtype=np.int32))


def saturable_program(row: dict[str, int], states: int) -> KineticProgram:
    """Header of a drug whose kinetics are a program of their own (`pkpd.kinetics.saturable`).

    Its parameters are rows beside each other, the bioavailability last.
    """
    header = np.zeros(HEADER, dtype=np.int32)
    header[KIND], header[N], header[F_ROW] = SATURABLE, states, row["F"]
    header[PARAMETERS] = min(row.values())
    return KineticProgram(header, np.zeros(0, dtype=np.int32))


def into_state_program(row: dict[str, int], state: int) -> KineticProgram:
    """Header of a drug whose doses are added to a state of the marrow."""
    header = np.zeros(HEADER, dtype=np.int32)
    header[KIND], header[F_ROW], header[OUTPUT] = INTO_STATE, row["F"], state
    return KineticProgram(header, np.zeros(0, dtype=np.int32))


def shift_code(header: Integers32, by: int) -> Integers32:
    """Header for a program whose code starts at ``by`` in a joint code array."""
    out = header.copy()
    out[[TERMS, POWER, COMPOSE, ENTRIES, ROW, COLUMN, ONES, OUTFLOW, FACTORS]] += by
    return out


def tape_size(header: Integers32) -> int:
    """Vectors of scratch that `evaluate` and its adjoint need together."""
    n, slots, edges, degree = (int(header[c]) for c in (N, SLOTS, EDGES, DEGREE))
    level = slots + 4 * n
    forward = edges + degree + 3 + (degree + 1) * slots + (DOUBLINGS + 1) * level
    nodes = 2 * edges + (NODE_DEGREE + 3) * slots
    return max(forward + 2 * level + edges + 2 * slots, nodes)
