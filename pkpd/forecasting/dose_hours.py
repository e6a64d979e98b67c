"""Hours of the day of doses that were given and whose rows tell none: those of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pkpd.errors import PkpdError
from pkpd.forecasting.seen import GivenDose
from pkpd.schedule import DoseRule


def with_hours(
    doses: Sequence[GivenDose], planned: Sequence[tuple[int, DoseRule]]
) -> list[GivenDose]:
    """Give doses without an hour the planned hours of their day, in order.

    Parameters
    ----------
    doses
        Doses that were given.
    planned
        Protocol days and rules of the planned calendar. Of a drug that is not planned on the day of
        a dose, those of the planned day next to it count, of two the earlier.

    Raises
    ------
    PkpdError
        If rows of a drug and day are not as many as their planned doses, and those have several
        hours.
    """
    out = list(doses)
    for drug, day in dict.fromkeys((dose.drug, dose.day) for dose in doses if dose.hour is None):
        mine = [k for k, dose in enumerate(doses) if (dose.drug, dose.day) == (drug, day)]
        open_rows = [k for k in mine if doses[k].hour is None]
        days = [on for on, rule in planned if rule.drug == drug]
        nearest = min(days, key=lambda on: (abs(on - day), on))
        hours = sorted(rule.hour for on, rule in planned if (on, rule.drug) == (nearest, drug))
        for hour in (doses[k].hour for k in mine):
            if hour in hours and len(set(hours)) > 1:
                hours.remove(hour)
        if len(set(hours)) == 1:
            hours = hours[:1] * len(open_rows)
        if len(hours) != len(open_rows):
            told = ", ".join(f"{hour:g}" for hour in hours)
            rows = "1 row" if len(open_rows) == 1 else f"{len(open_rows)} rows"
            raise PkpdError(
                where=doses[open_rows[0]].place or "doses",
                what=f"{rows} of {drug} on day {day} without an hour, and its planned doses are at "
                f"hours {told}",
                remedy="give HOUR in each row, or a row for each planned dose, of 0 mg if left out",
            )
        for k, hour in zip(open_rows, hours, strict=True):
            out[k] = replace(doses[k], hour=hour)
    return out
