"""Non-compartmental analysis of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pkpd.arguments import (
    MAPPING,
    NONE,
    NUMBER,
    TEXT,
    Kind,
    check_arguments,
    from_to,
    one_of,
    several,
)
from pkpd.arrays import Floats
from pkpd.data.dataset import Dataset
from pkpd.data.nonmem import read_nonmem
from pkpd.data.sheets import TableSource
from pkpd.errors import DataError, PkpdError, PkpdWarning
from pkpd.exposure.areas import area_between, areas, level_at, terminal_slope
from pkpd.exposure.profiles import BELOW_LIMIT, VALUES, Profile, profiles

if TYPE_CHECKING:
    import pandas as pd


EXTRAPOLATED = 20.0
"""Percent of the area beyond the last sample from which a remark is made."""

LOOSE = 0.85
"""Adjusted R^2 of a terminal slope below which a remark is made; the number is chosen.

The R package IQnca calls a slope below it not reliable, PKNCA's rule of exclusion begins at 0.9
(``exclude_nca_min.hl.adj.r.squared``), and Phoenix WinNonlin has no limit of its own.
"""

LOG_DOWN, LINEAR = "linear_up_log_down", "linear"
_TOLD = 3  # negative values of a remark
_ANY = Kind("anything", lambda v: True)
_SWITCH = Kind("True or False", lambda v: isinstance(v, bool))


def nca(
    data: Dataset | TableSource,
    *,
    line: str | None = None,
    route: Literal["extravascular", "iv"] = "extravascular",
    method: Literal["linear_up_log_down", "linear"] = LOG_DOWN,
    extrapolate: Literal["observed", "predicted"] = "observed",
    intervals: Sequence[tuple[float, float]] = (),
    tau_h: float | None = None,
    steady_state: bool = False,
    below: Mapping[str, str] | None = None,
    least_points: int = 3,
) -> pd.DataFrame:
    """Non-compartmental analysis: peaks, areas and half-lives by subject and profile.

    A profile is what follows a dose, to the next one. Times are hours, areas are in the unit of the
    line times hours, clearances in that of the dose by that of the area.

    Parameters
    ----------
    data
        A data set (`pkpd.read_nonmem`), or what `pkpd.read_nonmem` reads: a file, a data frame.
    line
        Which line, if the data set has several.
    route
        Of the doses: ``"extravascular"``, or ``"iv"``, infusions where they have a rate and
        boluses else.
    method
        Between samples: ``"linear_up_log_down"``, a straight line where the curve rises and an
        exponential where it falls, or ``"linear"``.
    extrapolate
        Beyond the last measurable sample: from its ``"observed"`` concentration, or from the one
        ``"predicted"`` by the terminal slope; in intervals and ``auc_tau``, too.
    intervals
        Hours since the dose between which areas are given: ``[(0, 12), (0, 24)]``. After the last
        sample the terminal slope goes on.
    tau_h
        Dosing interval in hours, for ``auc_tau`` and what belongs to it; that of the data (II) for
        doses at steady state (SS).
    steady_state
        Whether all profiles are at steady state; those whose dose record says so (SS) always are.
    below
        What becomes of values below the limit and of zeros: ``{"first": "zero", "middle": "drop",
        "last": "drop"}``, before the first measurable sample, between, and after the last. Besides
        ``zero`` and ``drop`` there are ``half`` and ``limit``, that share of the limit.
    least_points
        Fewest points of the terminal slope, 3 or more.

    Returns
    -------
    pandas.DataFrame
        One row for each profile: ``subject``, where there are resets (EVID 3 or 4) ``period``
        between them, ``profile`` (number of the dose), ``start``,
        ``dose``, ``samples``, ``cmax``, ``tmax``, ``clast``, ``tlast``, ``auc_last``,
        ``lambda_z`` (1/h), ``points``, ``r2_adjusted``, ``slope_from``, ``half_life``,
        ``auc_inf``, ``extrapolated`` (percent of ``auc_inf``), ``cl_f``, ``vz_f``, ``mrt`` (F
        is 1 in a vein), ``vss`` (only in a vein), an ``auc_<from>_<to>`` for each interval, and
        with a dosing interval ``auc_tau``, ``cavg``, ``cmin``, ``ctrough``, ``fluctuation`` and
        ``swing`` (percent). ``remark`` says what to look at: more than 20 % extrapolated, no
        terminal slope or one of an adjusted R^2 below 0.85, doses before, a concentration before
        the first dose, values below 0, a steady state that cannot be one or has other doses within
        the interval. What cannot be told is NaN. ``attrs["units"]`` has units that the data
        declare.

    Raises
    ------
    PkpdError
        If an argument or a value cannot be used, or no profile is found.

    Notes
    -----
    The rules are those of Phoenix WinNonlin and PKNCA. The terminal slope is that of the best
    adjusted R^2 of the last points after the peak (a bolus: from it), and of those within 1e-4 the
    one with the most points. At the time of the dose, without a sample, the concentration is 0
    before a first dose, the lowest of the profile after earlier doses, and after a bolus that of
    the line through the logarithms of the first two; a sample at the time of a bolus that is 0 or
    below the limit was taken before it, wherever its row stands. One at the time of an infusion is
    the trough before it, and of both profiles. At steady state clearance is
    ``dose / auc_tau`` and the mean residence time
    ``(aumc_tau + tau (auc_inf - auc_tau)) / auc_tau``; half an infusion is taken off, of several
    doses at one time the mean by their amounts.
    ``fluctuation`` is ``(cmax - cmin) / cavg``, ``swing`` ``(cmax - cmin) / cmin``. Where other
    doses are given within the interval (100 mg in the morning and 50 mg in the evening: SS 1 and 2,
    or doses less than 90 % of ``tau_h`` apart with ``steady_state=True``) nothing is told over it.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"ID": 1, "TIME": [0, 1, 2, 4, 8], "AMT": [100, 0, 0, 0, 0],
    ...         "DV": [None, 8, 4, 1, 1 / 16]}
    >>> found = nca(pd.DataFrame(rows), route="iv").iloc[0]
    >>> print(round(found.half_life, 6), round(found.auc_inf * found.lambda_z, 6))
    1.0 16.0
    """
    check_arguments(
        "nca",
        line=(line, TEXT | NONE),
        route=(route, one_of("extravascular", "iv")),
        method=(method, one_of(LOG_DOWN, LINEAR)),
        extrapolate=(extrapolate, one_of("observed", "predicted")),
        tau_h=(tau_h, NUMBER | NONE),
        intervals=(intervals, several(_ANY, "pairs of hours since the dose, such as (0, 24)")),
        steady_state=(steady_state, _SWITCH),
        below=(below, MAPPING | NONE),
        least_points=(least_points, from_to(3)),
    )
    rules = _rules(below)
    spans = _spans(intervals)
    if tau_h is not None and not 0.0 < tau_h < np.inf:
        _refuse("tau_h", f"{tau_h:g} h", "more than 0")
    if not isinstance(data, Dataset):
        data = read_nonmem(data)
    chosen = _line(data, line)
    infused = data.events.is_dose & (data.events.rate > 0)
    if route == "extravascular" and infused.any():
        many = "1 dose has" if infused.sum() == 1 else f"{int(infused.sum())} doses have"
        warnings.warn(
            f"{data.events.source}: {many} a rate, as infusions into a vein have, and the analysis "
            'is extravascular: give route="iv" if they are infusions',
            PkpdWarning,
            stacklevel=2,
        )
    elif route == "iv":
        _refuse_modelled(data)
    import pandas as pd

    rows, resets = [], bool(data.events.is_reset.any())
    for profile in profiles(data, chosen, into_vein=route == "iv"):
        steady = profile.steady or steady_state
        tau = tau_h or (profile.interval if profile.steady else 0.0)
        if steady and not tau:
            _refuse("tau_h", "a profile at steady state has no dosing interval", "its hours")
        analysis = _Analysis(profile, rules, route, method == LOG_DOWN, steady, tau)
        row = analysis.row(extrapolate == "predicted", spans, least_points)
        if resets:
            head = {"subject": row.pop("subject"), "period": profile.period + 1}
            row = head | row
        rows.append(row)
    if not rows:
        raise DataError(
            where=data.events.source,
            what="no dose is followed by samples",
            remedy="give a dose record (AMT) to each subject, before its samples",
        )
    _tell_left_out(data, chosen, {str(row["subject"]) for row in rows})
    table = pd.DataFrame(rows)
    table.attrs["units"] = _units(data, data.lines[chosen], table.columns)
    return table


class _Analysis:
    """One profile: its points, and the row they give."""

    def __init__(
        self,
        profile: Profile,
        rules: Mapping[str, str],
        route: str,
        log_down: bool,
        steady: bool,
        tau: float,
    ) -> None:
        self.profile, self.log_down, self.steady, self.tau = profile, log_down, steady, tau
        self.into_vein = route == "iv"
        self.shared = steady and profile.shared(tau)
        self.bolus = self.into_vein and profile.duration == 0.0
        self.time, self.level, self.measurable = profile.points(rules)

    def row(
        self, predicted: bool, intervals: Sequence[tuple[float, float]], least: int
    ) -> dict[str, Any]:
        """Everything of the profile by name."""
        profile, time, level = self.profile, self.time, self.level
        row: dict[str, Any] = {
            "subject": profile.subject,
            "profile": profile.number,
            "start": profile.start,
            "dose": profile.dose,
            "samples": len(profile.time),
        }
        if not self.measurable.any():
            none = dict.fromkeys(("cmax", "auc_last"), 0.0)
            remark = "; ".join(["nothing measurable", *self._negative()])
            return {**row, **none, "points": 0, "remark": remark}
        within = self.measurable & ((time <= self.tau) | (not self.tau) | (not self.steady))
        top = int(np.argmax(np.where(within, level, -np.inf)))
        last = int(np.flatnonzero(self.measurable)[-1])
        usable = self.measurable & (np.arange(len(time)) >= top + (not self.bolus))
        slope = terminal_slope(time[usable], level[usable], least)
        begun, levels = self._with_start()
        to_last = begun <= time[last]
        area, moment = (
            float(np.sum(parts))
            for parts in areas(begun[to_last], levels[to_last], log_down=self.log_down)
        )
        end = slope.at(time[last]) if predicted else float(level[last])
        tail = end / slope.rate
        auc_inf = area + tail
        aumc_inf = moment + tail * time[last] + tail / slope.rate
        row |= {
            "cmax": level[top],
            "tmax": time[top],
            "clast": level[last],
            "tlast": time[last],
            "auc_last": area,
            "lambda_z": slope.rate,
            "points": slope.points,
            "r2_adjusted": slope.r2_adjusted,
            "slope_from": slope.begin,
            "half_life": np.log(2.0) / slope.rate,
            "auc_inf": auc_inf,
            "extrapolated": 100.0 * tail / auc_inf,
        }

        onward = slope.at(begun[-1]) if predicted and levels[-1] else float(levels[-1])

        def between(begin: float, stop: float) -> tuple[float, float]:
            how = {"log_down": self.log_down, "onward": onward}
            return area_between(begun, levels, begin, stop, slope, **how)

        whole, residence = auc_inf, aumc_inf / auc_inf
        tau = self.tau
        if tau:
            auc_tau, aumc_tau = between(0.0, tau)
            trough = level_at(begun, levels, tau, slope, log_down=self.log_down, onward=onward)
            row |= self._over_interval(auc_tau, trough)
            if self.steady:
                whole = auc_tau
                residence = (aumc_tau + tau * (auc_inf - auc_tau)) / auc_tau
        if self.shared or (not self.steady and profile.order > 1):
            whole = residence = np.nan
        clearance = profile.dose / whole
        mrt = residence - profile.input_time * self.into_vein
        row |= {"cl_f": clearance, "vz_f": clearance / slope.rate, "mrt": mrt}
        if self.into_vein:
            row["vss"] = clearance * mrt
        for begin, stop in intervals:
            row[f"auc_{begin:g}_{stop:g}"] = between(begin, stop)[0]
        beyond = between(time[-1], tau)[0] if 0.0 <= time[-1] < tau else 0.0
        return {**row, "remark": "; ".join(self._remarks(row, beyond))}

    def _over_interval(self, area: float, trough: float) -> dict[str, float]:
        """Give what belongs to the dosing interval; NaN where other doses are given within it."""
        names = ("auc_tau", "cavg", "cmin", "ctrough", "fluctuation", "swing")
        if self.shared:
            return dict.fromkeys(names, np.nan)
        time, tau = self.time, self.tau
        cycle = self.level[time <= tau] if time[0] <= tau else np.array([np.nan])
        lowest, peak, cavg = float(cycle.min()), float(cycle.max()), area / tau
        swing = 100.0 * (peak - lowest) / lowest if lowest else np.nan
        values = (area, cavg, lowest, trough, 100.0 * (peak - lowest) / cavg, swing)
        return dict(zip(names, values, strict=True))

    def _remarks(self, row: Mapping[str, Any], beyond: float) -> list[str]:
        """Say what to look at; ``beyond`` is the part of ``auc_tau`` after the last sample."""
        profile, out = self.profile, []
        if not row["points"]:
            out.append("no terminal slope")
        elif row["r2_adjusted"] < LOOSE:
            out.append(
                f"the terminal slope rests on {row['points']} points of adjusted R² "
                f"{row['r2_adjusted']:.2f}"
            )
        # a clearance at steady state is the dose by auc_tau
        name, share = "auc_inf", row["extrapolated"]
        if self.steady:
            name, share = "auc_tau", 100.0 * beyond / row["auc_tau"]
        if share > EXTRAPOLATED:
            out.append(f"{share:.0f} % of {name} is extrapolated")
        if self.into_vein and profile.mixed and profile.time[0] > 0.0:
            out.append(
                "a bolus is given with an infusion and no sample with them: the concentration at "
                f"the dose counts as {self._with_start()[1][0]:.3g}, and areas are too small"
            )
        if self.shared:
            out.append("other doses are given within the interval: nothing over it, no clearance")
        elif self.steady:
            out += self._unsteady()
        elif profile.order > 1:
            out.append("earlier doses are in it: no clearance without a steady state")
        elif profile.predose > 0:
            part = 100.0 * profile.predose / row["cmax"]
            out.append(f"{profile.predose:g} measured before the first dose ({part:.0f} % of cmax)")
        samples = int(np.sum(self.time <= self.tau)) if self.tau else 3
        if samples < 3 and not self.shared:
            count = ("no sample", "one sample", "two samples")[samples]
            out.append(f"auc_tau rests on {count}")
        return out + self._negative()

    def _unsteady(self) -> list[str]:
        """Words on a steady state that has nothing at the dose and something at its end."""
        cycle = self.profile.time <= self.tau
        below, level = self.profile.below[cycle], self.profile.level[cycle]
        if not below.size or self.profile.time[0] > 0 or not below[0] or below[-1]:
            return []
        begins = "below the limit" if level[0] > 0 else "at 0"
        return [f"begins {begins} and ends at {level[-1]:.3g}: not at steady state"]

    def _negative(self) -> list[str]:
        """Words on values below 0."""
        profile = self.profile
        places = np.flatnonzero(profile.level < 0)
        if not places.size:
            return []
        told = [
            f"{profile.level[k]:g} at {profile.time[k]:g} h (row {profile.row[k]})"
            for k in places[:_TOLD]
        ]
        more = f" and {len(places) - _TOLD} more" if len(places) > _TOLD else ""
        return [f"{', '.join(told)}{more} taken as below the limit"]

    def _with_start(self) -> tuple[Floats, Floats]:
        """Points with one at the time of the dose."""
        time, level = self.time, self.level
        if time[0] == 0.0:
            return time, level
        start = 0.0
        if self.bolus:
            at = np.unique(time)[:2]  # samples may be replicates
            first, *second = (float(level[time == one].mean()) for one in at)
            start = first
            if second and first > second[0] > 0.0:
                start = first * (first / second[0]) ** (time[0] / (at[1] - at[0]))
        elif self.steady or self.profile.order > 1:
            cycle = (time <= self.tau) | (self.tau == 0.0)
            start = level[cycle].min() if cycle.any() else level[0]
        return np.append(0.0, time), np.append(start, level)


def _refuse_modelled(data: Dataset) -> None:
    """Refuse infusions whose length is a parameter of a model."""
    events = data.events
    for b, n in np.argwhere(events.is_dose & (events.rate < 0)).tolist():
        raise DataError(
            where=events.place(b, n, "RATE"),
            what=f"RATE {events.rate[b, n]:g} does not say how long the infusion lasts",
            remedy="write its rate, 0 for a bolus, or its duration (TINF)",
        )


def _tell_left_out(data: Dataset, line: int, known: set[str]) -> None:
    """Warn of subjects with samples and no profile."""
    seen = data.observations
    sampled = data.subjects[np.unique(seen.subject[seen.line == line])]
    lost = [str(label) for label in sampled if str(label) not in known]
    if lost:
        named = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        warnings.warn(
            f"{data.events.source}: no dose of subject{'s'[: len(lost) > 1]} {named} is followed "
            "by samples, and nothing is told of them",
            PkpdWarning,
            stacklevel=3,
        )


def _line(data: Dataset, line: str | None) -> int:
    """Place of the line that is meant."""
    if line is None and len(data.lines) == 1:
        return 0
    if line in data.lines:
        return data.lines.index(line)
    raise PkpdError(
        where=f"nca of {data.events.source}, line",
        what=f"{line!r} is none of its lines" if line else "the data have several lines",
        allowed=", ".join(data.lines),
    )


def _units(data: Dataset, line: str, columns: Iterable[str]) -> dict[str, str]:
    """Units of the columns, as far as the data declare them."""
    units: dict[str, str] = dict.fromkeys(("start", "tmax", "tlast", "half_life", "mrt"), "h")
    units["lambda_z"] = "1/h"
    level, dose = data.units.get(line), data.units.get("AMT")
    if level:
        units |= dict.fromkeys(("cmax", "clast", "cavg", "cmin", "ctrough"), level)
        units |= dict.fromkeys((c for c in columns if c.startswith("auc_")), f"{level} h")
    if dose:
        units["dose"] = dose
    if level and dose and level == f"{dose}/L":
        units |= {"cl_f": "L/h", "vz_f": "L", "vss": "L"}
    return units


def _rules(below: Mapping[str, str] | None) -> dict[str, str]:
    for where, rule in (below or {}).items():
        allowed = (*VALUES, "drop")
        if where not in BELOW_LIMIT:
            _refuse("below", f"{where!r} is no place of a value", ", ".join(BELOW_LIMIT))
        if rule not in allowed:
            _refuse(f"below, {where}", f"{rule!r}", ", ".join(allowed))
    return {**BELOW_LIMIT, **(below or {})}


def _spans(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    spans = []
    for pair in intervals:
        try:
            begin, end = (float(t) for t in pair)
        except (TypeError, ValueError):
            begin, end = np.nan, np.nan
        if not 0.0 <= begin < end < np.inf:
            _refuse("intervals", f"{pair!r}", "pairs of hours since the dose, such as (0, 24)")
        spans.append((begin, end))
    return spans


def _refuse(argument: str, what: str, allowed: str) -> None:
    raise PkpdError(where=f"nca, {argument}", what=what, allowed=allowed)
