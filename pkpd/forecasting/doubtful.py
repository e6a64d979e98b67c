"""Counts of a patient that cannot be, or may be slips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.arrays import Floats
from pkpd.data.dataset import BELOW
from pkpd.errors import DataError
from pkpd.forecasting.measurement import BLASTS
from pkpd.units import INTERNAL_UNITS

_SLIP = 8.0  # times both neighbours, or that part of both: a count to look at
_SLIP_FROM = 1.0  # 10^9/L; lower counts differ as much by chance
_NEIGHBOURS_D = 3.0


def blood_blasts_notes(
    source: str, lines: Sequence[str], names: Sequence[str], units: Mapping[str, str]
) -> tuple[str, ...]:
    """Refuse blasts of the blood in percent; say that they are counts.

    Parameters
    ----------
    source
        Name of the table.
    lines, names
        Lines, and what the table calls them.
    units
        Units that were declared, by name.
    """
    if "blood_blasts" not in lines:
        return ()
    name = names[list(lines).index("blood_blasts")]
    unit = units.get(name, INTERNAL_UNITS["count"])
    if unit != INTERNAL_UNITS["count"]:
        raise DataError(
            where=f"{source}, {name}",
            what=f"blasts of the blood are in {unit}",
            allowed=INTERNAL_UNITS["count"],
            remedy="multiply blasts in percent by WBC / 100",
        )
    return ("blasts of the blood are read as 10^9/L, not as percent",)


def percent_notes(where: str, label: Any, line: Sequence[str], value: Floats) -> tuple[str, ...]:
    """Refuse marrow blasts above 100 percent; ask about those that may be shares of 1."""
    blasts = value[[name == "marrow_blasts" for name in line]]
    if not blasts.size:
        return ()
    if blasts.max() > 100.0:
        raise DataError(
            where=where,
            what=f"marrow blasts are {blasts.max():g} percent",
            allowed="percent of nucleated marrow cells, up to 100",
        )
    if 0.0 < blasts.max() < 1.0:
        return (f"marrow blasts of patient {label} are read as {blasts.max():g} percent, not as a "
                "share",)  # fmt: skip
    return ()


def refuse_more_than_all(
    where: str, line: Sequence[str], time: Floats, value: Floats, censored: NDArray[np.int64]
) -> None:
    """Refuse leukocytes fewer than the neutrophils or blasts among them, beyond rounding."""
    at_most = {
        time[k]: value[k] for k, name in enumerate(line) if name == "wbc" and censored[k] >= 0
    }
    for k, name in enumerate(line):
        all_of_them = at_most.get(time[k], np.inf)
        among = name in ("neutrophils", "blood_blasts") and censored[k] != BELOW
        if among and value[k] > 1.1 * all_of_them + 0.1:
            blasts = name == "blood_blasts"
            raise DataError(
                where=f"{where}, day {int(np.floor(time[k])) + 1}",
                what=f"WBC of {all_of_them:g} are fewer than the {name.replace('_', ' ')} among "
                f"them, {value[k]:g} x 10^9/L",
                remedy="multiply blasts in percent by WBC / 100"
                if blasts
                else "correct them: columns may be swapped, or have different units",
            )


def slips(label: Any, line_of: Sequence[str], time: Floats, value: Floats) -> Iterator[str]:
    """Sentences on counts far above or below both of their neighbours; all of them are kept.

    Of blasts there are none: they do grow and fall that fast, and those of the marrow are percent.
    """
    for line in dict.fromkeys(name for name in line_of if name not in BLASTS):
        at = [k for k, name in enumerate(line_of) if name == line]
        for before, k, after in zip(at, at[1:], at[2:], strict=False):
            days, counts = time[[before, k, after]], value[[before, k, after]]
            low, high = sorted((counts[0], counts[2]))
            above = counts[1] >= _SLIP_FROM and counts[1] >= _SLIP * high
            below = low >= _SLIP_FROM and counts[1] <= low / _SLIP
            if (above or below) and np.diff(days).max() <= _NEIGHBOURS_D:
                first, day, last = np.floor(days).astype(int) + 1
                yield (
                    f"patient {label}: {line.replace('_', ' ')} of {counts[1]:g} on day {day} "
                    f"between {counts[0]:g} on day {first} and {counts[2]:g} on day {last}: "
                    "if it is a slip, correct it"
                )
