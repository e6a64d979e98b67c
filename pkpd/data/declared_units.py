"""Units declared once for a data file, checked, and converted to those used inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pkpd.arguments import MAPPING, TEXT, check_arguments
from pkpd.errors import DataError, UnitError
from pkpd.units import INTERNAL_UNITS, dimension_of, normal_unit, unit_factor

HOURS = {"h": 1.0, "hour": 1.0, "day": 24.0, "d": 24.0, "min": 1.0 / 60.0, "week": 168.0}

#: Lines that count cells: their unit is a count, and they cannot be negative.
COUNTED = (
    "neutrophils",
    "platelets",
    "leukocytes",
    "lymphocytes",
    "monocytes",
    "erythrocytes",
    "blasts",
)

#: Typical counts above these (10^9/L) are counts per microlitre that nobody declared.
MOST_TYPICAL: Mapping[str, float] = {
    "neutrophils": 100.0,
    "platelets": 3000.0,
    "leukocytes": 1000.0,
}

_DOSES = ("mass", "amount")
_MEASURED = ("count", "concentration", "molar concentration", "percent", "fraction")
_COVARIATES = (
    "weight",
    "height",
    "age",
    "area",
    "body mass index",
    "creatinine clearance",
    "creatinine",
    "percent",
    "fraction",
)
_OF_OTHERS = {
    **dict.fromkeys(("II", "TINF", "DOSEDUR"), "the unit of TIME"),
    "RATE": "those of AMT and TIME",
    **dict.fromkeys(("LIMIT", "LLOQ", "ALLOQ", "AULOQ"), "the unit of DV"),
}
_MOLAR = {"concentration": "mass", "molar concentration": "amount"}


@dataclass(frozen=True)
class DeclaredUnits:
    """What the columns of a file are in.

    Attributes
    ----------
    source
        Name of the file, for messages.
    given
        Column to unit; ``DV`` to one unit or to a mapping by line.
    """

    source: str
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Spell the columns in capitals."""
        for name, value in self.given.items():
            check_arguments(f"{self.source}, units", column=(name, TEXT))
            kind = TEXT | MAPPING if str(name).upper() in ("DV", "AVAL") else TEXT
            check_arguments(f"{self.source}, units", **{str(name): (value, kind)})
        object.__setattr__(self, "given", {k.upper(): v for k, v in self.given.items()})

    def check_columns(self, known: Sequence[str]) -> None:
        """Refuse units of columns that are not there, or whose unit is that of others."""
        lost = [name for name in self.given if name not in known]
        if lost:
            raise DataError(
                where=f"{self.source}, units",
                what=f"there is no column {' and no '.join(lost)}",
                allowed=", ".join(known),
                remedy="correct units=",
            )
        for name in self.given:
            if name in _OF_OTHERS:
                raise DataError(
                    where=f"{self.source}, units",
                    what=f"{name} has no unit of its own: it is in {_OF_OTHERS[name]}",
                    remedy=f"leave {name} out of units=, and convert the column if it is not so",
                )

    def hours(self, time_unit: str | None) -> float:
        """Hours in a unit of TIME."""
        unit: str = self.given.get("TIME", time_unit) or "h"
        if time_unit is not None and unit != time_unit:
            raise DataError(
                where=self.source,
                what=f"time_unit is {time_unit} and units say TIME is in {unit}",
                remedy="give one of them",
            )
        if unit in HOURS:
            return HOURS[unit]
        try:
            return unit_factor(unit, "time")
        except UnitError:
            raise DataError(
                where=self.source, what=f"time unit '{unit}'", allowed=", ".join(HOURS)
            ) from None

    def amount(self) -> tuple[float, str | None]:
        """Factor of AMT, and the unit it is in afterwards (None if not declared)."""
        if "AMT" not in self.given:
            return 1.0, None
        return self._factor("AMT", str(self.given["AMT"]), _DOSES, only=True)

    def covariate(self, name: str) -> tuple[float, str | None]:
        """Factor of a covariate, and the unit it is in afterwards."""
        if name.upper() not in self.given:
            return 1.0, None
        return self._factor(name, str(self.given[name.upper()]), _COVARIATES)

    def lines(self, names: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
        """Factors of the measured lines, [lines], and the units they are in afterwards."""
        given = self.given.get("DV", {})
        by_line = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
        for line in by_line:
            if line not in names:
                raise DataError(
                    where=f"{self.source}, units of DV",
                    what=f"there is no line {line!r}",
                    allowed=", ".join(names),
                    remedy="correct units=",
                )
        factors, units = np.ones(len(names)), {}
        for i, line in enumerate(names):
            if line in by_line:
                cells = line.casefold() in COUNTED
                factors[i], units[line] = self._factor(
                    f"DV ({line})", str(by_line[line]), ("count",) if cells else _MEASURED, cells
                )
        self._check_molar(units)
        return factors, units

    def _check_molar(self, units: Mapping[str, str]) -> None:
        """Refuse doses in mass with molar concentrations, and the reverse."""
        _, dose = self.amount()
        if dose is None:
            return
        for line, unit in units.items():
            wanted = _MOLAR.get(dimension_of(unit))
            if wanted is not None and INTERNAL_UNITS[wanted] != dose:
                raise DataError(
                    where=f"{self.source}, units",
                    what=f"AMT is in {self.given['AMT']} and {line} in {self._written(line)}: "
                    "one is in mass, the other molar",
                    remedy="convert one of the columns with the molar mass",
                )

    def _written(self, line: str) -> str:
        given = self.given["DV"]
        return given[line] if isinstance(given, Mapping) else given

    def _factor(
        self, column: str, unit: str, dimensions: Sequence[str], only: bool = False
    ) -> tuple[float, str]:
        spelled = normal_unit(unit)
        for dimension in dimensions:
            if INTERNAL_UNITS[dimension] == spelled:
                return 1.0, spelled
        for dimension in dimensions:
            try:
                return unit_factor(unit, dimension), INTERNAL_UNITS[dimension]
            except UnitError:
                continue
        if only:
            raise DataError(
                where=f"{self.source}, unit of {column}",
                what=f"'{unit}' is not a unit of {' or '.join(dimensions)}",
                allowed=", ".join(f"{INTERNAL_UNITS[d]}" for d in dimensions) + " and the like",
                remedy="correct units=; doses per size are to be multiplied by it first"
                if dimensions == _DOSES
                else "correct units=",
            )
        dimension = dimension_of(unit)
        return unit_factor(unit, dimension), INTERNAL_UNITS[dimension]


def check_typical(source: str, line: str, values: np.ndarray) -> None:
    """Refuse counts of a line whose median no blood has: they are per microlitre.

    Parameters
    ----------
    source
        Name of the file.
    line
        Name of the line; one that is not in :data:`MOST_TYPICAL` is not looked at.
    values : float[n]
        Its counts, taken as 10^9/L.

    Raises
    ------
    DataError
        Naming file, line, median and remedy.
    """
    most = MOST_TYPICAL.get(line.casefold())
    if most is None or not len(values) or (middle := float(np.median(values))) <= most:
        return
    declared = f'units={{"DV": {{"{line}": "cells/uL"}}}}'
    raise DataError(
        where=f"{source}, {line}",
        what=f"the median count is {middle:.4g} x 10^9/L, which no blood has: it looks like "
        "cells/uL",
        allowed=f"a median up to {most:g} x 10^9/L",
        remedy=f"say so, and the counts are converted: {declared}",
    )


def undeclared(time: bool, doses: bool, lines: Sequence[str]) -> list[str]:
    """Say what is taken for units that nobody declared, in at most one sentence.

    Parameters
    ----------
    time, doses
        Whether the units of TIME and AMT were not declared.
    lines
        Lines whose unit was not.
    """
    parts = ["TIME as hours"] * time + ["AMT as mg"] * doses
    for name in lines:
        unit = "10^9/L" if name.casefold() in COUNTED else "mg/L if it is a concentration"
        parts.append(f"{name} as {unit}")
    return [f"units not declared, read as they stand: {', '.join(parts)}"] if parts else []
