"""The family of the compiled engine, and structures in the form its kernels read.

Same scheme as `pkpd.solve.population.scan_engine`, written for processors: sixteen patients in one
vector, few patient blocks at a time in cache, threads over blocks, derivatives by a discrete
adjoint (`pkpd.solve.compiled.run`).

The family: linear PK of `pkpd.kinetics.linear` or direct kill; no, linear or (Hill) Emax effects
that add; `Friberg` and, with one class of platelets, `PlateletChain`; or any whole marrow
(`pkpd.marrow.protocol`). `compile_plan` returns ``None`` for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pkpd.arrays import Integers32
from pkpd.kinetics.flows import FlowPK
from pkpd.kinetics.linear import Disposition, LinearPK, TransitAbsorption
from pkpd.machine import cores
from pkpd.marrow.effects import EmaxEffect, LinearEffect, NoEffect
from pkpd.marrow.friberg import Friberg, PlateletChain
from pkpd.solve.compiled import marrow
from pkpd.solve.compiled import program as pk
from pkpd.solve.compiled.whole_plan import LEVEL_OF_DRUG, WholePlan, whole_plan
from pkpd.solve.grid.structure import DirectKill, Line, PopulationStructure
from pkpd.solve.grid.versions import n_kinetic

_EFFECTS = {NoEffect: marrow.NO_EFFECT, LinearEffect: marrow.LINEAR, EmaxEffect: marrow.EMAX}

CORES = cores()
"""Asked once, at import: a thread that calls back from XLA may be bound to one core."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A structure in the form the kernels read; made by `compile_plan`."""

    code: Integers32
    heads: Integers32
    lines: Integers32
    effects: Integers32
    n_parameters: int
    n_kinetic: int
    whole: WholePlan | None = None

    @property
    def n_lines(self) -> int:
        """Number of observed quantities."""
        return len(self.lines) if self.whole is None else self.whole.n_observed


@lru_cache(maxsize=64)
def compile_plan(structure: PopulationStructure) -> Plan | None:
    """Plan of a structure, or ``None`` if it is outside the compiled family."""
    row = structure.row
    headers, codes, offset = [], [], 0
    for drug in structure.drugs:
        own = {name[-1]: i for name, i in row.items() if name[:2] == ("pk", drug.name)}
        if isinstance(drug.pk, DirectKill):
            made = pk.direct_kill_program(own)
        elif type(drug.pk) in (LinearPK, Disposition, TransitAbsorption, FlowPK):
            made = pk.program(drug.pk, own)
        else:
            return None
        headers.append(pk.shift_code(made.header, offset))
        codes.append(made.code)
        offset += made.code.size
    lines = [_line_header(line, row) for line in structure.lines]
    effects = [_effect_rows(structure, line) for line in structure.lines]
    if any(x is None for x in lines) or any(x is None for x in effects):
        return None
    shape = (len(lines), len(headers), marrow.EFFECT_COLUMNS)
    heads = np.array(headers, dtype=np.int32).reshape(-1, pk.HEADER)
    table = np.array(effects, dtype=np.int32).reshape(shape)
    for k in range(len(headers)):
        kinds = set(table[:, k, 0].tolist())
        heads[k, pk.MOMENTS] = marrow.LINEAR in kinds
        heads[k, pk.AT_NODES] = bool(kinds & {marrow.EMAX, marrow.EMAX_HILL})
    whole = None
    if structure.whole is not None:
        whole = whole_plan(structure, structure.whole)
        heads[:, pk.AT_NODES] = whole.places[:, 0] == LEVEL_OF_DRUG
    code = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
    rows = np.array(lines, dtype=np.int32).reshape(-1, marrow.LINE_HEADER)
    return Plan(code, heads, rows, table, len(structure.layout), n_kinetic(structure), whole)


def _line_header(line: Line, row: dict[tuple[str, ...], int]) -> Integers32 | None:
    kind, chain = type(line.marrow), line.marrow
    header = np.zeros(marrow.LINE_HEADER, dtype=np.int32)
    if kind is Friberg:
        extra = "k_circ" if chain.circulation == "own" else None
        header[marrow.CIRCULATION] = marrow.LEAVES_AT_OWN if extra else marrow.LEAVES_AT_KTR
    elif kind is PlateletChain and chain.ageing == 1:
        extra = "ks"
        header[marrow.CIRCULATION] = marrow.LEAVES_AT_SUM
    else:
        return None
    header[marrow.TRANSITS] = chain.transits
    header[marrow.KEEP] = chain.feedback_rule == "kept"
    header[marrow.OFF] = chain.feedback_rule == "off"
    header[[marrow.SATURATION, marrow.SATURATION_REST]] = marrow.whole_numbers(chain.saturation)
    names = {
        marrow.BASELINE: "baseline",
        marrow.SET_POINT: "set_point",
        marrow.MTT: "MTT",
        marrow.GAMMA: "gamma",
        marrow.EXTRA: extra,
    }
    for column, name in names.items():
        if name is not None:
            header[column] = row[("marrow", line.name, name)]
    return header


def _effect_rows(structure: PopulationStructure, line: Line) -> list[list[int]] | None:
    out = []
    for drug, effect in zip(structure.drugs, line.effects, strict=True):
        if isinstance(drug.pk, DirectKill):
            kind, names = marrow.KILL, ("kill",)
        else:
            known = _EFFECTS.get(type(effect))
            if known is None:
                return None
            kind, names = known, effect.parameters
            if kind == marrow.EMAX and effect.hill:
                kind = marrow.EMAX_HILL
        rows = [structure.row[("effect", line.name, drug.name, name)] for name in names]
        out.append([kind, *rows, *([0] * (marrow.EFFECT_COLUMNS - 1 - len(rows)))])
    return out
