"""What the compiled kernels leave for each other: layout of the store, work space, blocks of lanes.

A block of `pkpd.solve.bridge.lanes.WIDTH` lanes has one row in the store: coefficients and
drivers of its drugs, and if derivatives are wanted the states at all cells, the derivatives by
drivers and rates, and for every marrow line the moments of its effect and the tape of its march.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Numba gives these functions their types)
from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from pkpd.solve.bridge.lanes import WIDTH, splat, store
from pkpd.solve.bridge.linking import allocating, inner

# entries of ``sizes``, in vectors: lengths of parts, where they begin in a row, lengths of rows;
# last the rows of ``theta`` without further versions, and those of the drugs
(
    WORK,
    COEF,
    DRIVERS,
    N_RATES_OF_DRUG,
    LEVEL,
    STATES,
    TAPE,
    MOMENTS_OF_LINE,
    AT_STATES,
    AT_DRIVERS_BAR,
    AT_RATE_BAR,
    AT_LINES,
    LINE_SIZE,
    ROW_VALUE,
    ROW_ONE_LINE,
    ROW_KEPT,
    ROWS,
    KINETIC,
    N_SIZES,
) = range(19)

_SOURCES = (
    *(
        f"{name}.py"
        for name in (
            "chain",
            "coefficients",
            "course",
            "kinetics",
            "lines",
            "marrow",
            "nodes",
            "transitions",
            "program",
            "store",
            "whole",
        )
    ),
    "../bridge/lanes.py",
    "../bridge/linking.py",
    "../../kinetics/pattern.py",
    "../../kinetics/quadrature.py",
)


def source_stamp() -> int:
    """Checksum of the kernel sources: Numba's cache only looks at the file of the entry point."""
    here = Path(__file__).parent
    files = [here / name for name in _SOURCES]
    return zlib.crc32(b"".join(path.read_bytes() for path in files)) | 1


def layout(
    work: int, coef: int, drivers: int, rates: int, level: int, states: int, tape: int,
    last_state: int, cells: int, gaps: int, drugs: int, lines: int,
) -> np.ndarray:  # fmt: skip
    """Sizes and places, in vectors, of all parts of a row; see the names above."""
    sizes = np.zeros(N_SIZES, dtype=np.int64)
    sizes[[WORK, COEF, DRIVERS, N_RATES_OF_DRUG]] = work, coef, drivers, rates
    sizes[[LEVEL, STATES, TAPE, MOMENTS_OF_LINE]] = level, states, tape, 3 * cells
    sizes[ROW_VALUE] = coef + drivers
    sizes[AT_STATES] = coef + drivers
    sizes[AT_DRIVERS_BAR] = sizes[AT_STATES] + states
    sizes[AT_RATE_BAR] = sizes[AT_DRIVERS_BAR] + drivers
    sizes[AT_LINES] = sizes[AT_RATE_BAR] + gaps * drugs
    sizes[LINE_SIZE] = 3 * cells + tape + last_state
    sizes[ROW_ONE_LINE] = sizes[AT_LINES] + sizes[LINE_SIZE]
    sizes[ROW_KEPT] = sizes[AT_LINES] + lines * sizes[LINE_SIZE]
    return sizes


def scratch_size(sizes, sets: int, lengths: int, cells: int, gaps: int, drugs: int) -> int:
    """Numbers of scratch that any one kernel takes."""
    values = max(int(sizes[ROWS]), sets * int(sizes[KINETIC]))
    vectors = (
        2 * (values + sets)
        + lengths
        + 5 * gaps * drugs
        + int(sizes[WORK] + sizes[LEVEL] + sizes[COEF])
    )
    vectors += (drugs + 1) * int(sizes[N_RATES_OF_DRUG]) + 3 * cells + 4 * (cells + 1) + 32
    return vectors * WIDTH


@allocating
def take_places():
    """Lanes and schedules of a block."""
    return np.empty(WIDTH, dtype=np.int64), np.empty(WIDTH, dtype=np.int64)


@inner
def block_of(block, n_lanes, schedule, last_of, lanes, groups):
    """Lanes and schedules of a block; returns how many lanes are real and the cells to solve."""
    last = 0
    count = 0
    for j in range(WIDTH):
        lane = block * WIDTH + j
        if lane < n_lanes:
            count += 1
        else:
            lane = n_lanes - 1
        lanes[j] = lane
        groups[j] = schedule[lane]
        last = max(last, last_of[groups[j]])
    return count, last


@inner
def clear(pointer, size):
    """Set ``size`` vectors to zero."""
    for i in range(size):
        store(pointer, i, splat(0.0))
