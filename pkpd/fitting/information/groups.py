"""Groups of subjects of a sampling design, and the data set that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.data.nonmem import read_nonmem
from pkpd.errors import PkpdError
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.structure import carries_forward

Doses = Mapping[str, float] | Sequence[Mapping[str, float]] | None

_DOSE = ("TIME", "AMT", "CMT", "RATE", "II", "ADDL", "SS")
_BREAK, _GIVEN, _SEEN = 0, 1, 2  # at the same hour: the end of an occasion, a dose, a sample


@dataclass(frozen=True)
class SamplingGroup:
    """Subjects with the same doses, covariates and sampling times; made by `group`.

    Attributes
    ----------
    subjects
        How many there are.
    times
        Hour of each sample.
    of
        Lines that each sample measures; empty for all of the model's.
    doses
        Doses as rows of a NONMEM table.
    covariates
        Values by name.
    occasions
        Hours at which another occasion begins.
    name
        What messages call it.
    """

    subjects: float
    times: tuple[float, ...]
    of: tuple[tuple[str, ...], ...]
    doses: tuple[Mapping[str, float], ...]
    covariates: Mapping[str, float] = field(default_factory=dict)
    occasions: tuple[float, ...] = ()
    name: str = "group"

    def at(self, times: Sequence[float]) -> SamplingGroup:
        """Return the group with other hours, sample by sample."""
        return SamplingGroup(
            self.subjects, tuple(float(t) for t in times), self.of, self.doses, self.covariates,
            self.occasions, self.name,
        )  # fmt: skip

    def lines_of(self, model: PopulationModel) -> tuple[tuple[str, ...], ...]:
        """Lines that each sample measures, by name.

        Raises
        ------
        PkpdError
            If the model has no residual error of a line.
        """
        known = tuple(name for name in model.structure.lines if name in model.residual)
        for name in {one for some in self.of for one in some}:
            if name not in known:
                what = f"{name!r} is measured, and the model has no residual error of it"
                raise PkpdError(where=self.name, what=what, allowed=", ".join(known))
        return tuple(some or known for some in self.of)

    def words(self) -> str:
        """Tell subjects and times in a line."""
        several = {some for some in self.of if some}
        if len(several) < 2:
            return f"{self.name} ({self.subjects:g} subjects): {_hours(self.times)} h"
        parts = []
        for some in dict.fromkeys(self.of):
            mine = [t for t, lines in zip(self.times, self.of, strict=True) if lines == some]
            parts.append(f"{' and '.join(some)} {_hours(mine)} h")
        return f"{self.name} ({self.subjects:g} subjects): {'; '.join(parts)}"


def _hours(times: Sequence[float]) -> str:
    return ", ".join(f"{t:.4g}" for t in sorted(times))


def group(
    subjects: float,
    times: Sequence[float] | Mapping[str, Sequence[float]],
    doses: Doses,
    *,
    covariates: Mapping[str, float] | None = None,
    occasions: Sequence[float] = (),
    name: str = "group",
) -> SamplingGroup:
    """Describe subjects who are sampled at the same times.

    Parameters
    ----------
    subjects
        How many there are.
    times
        Hours of the samples. Each measures all lines of the model; a mapping from lines to hours
        gives each line its own. The prediction at the time of a dose is the one after it.
    doses
        One dose or several, each with ``AMT`` (mg) and, where they differ from 0, ``TIME`` (h),
        ``CMT``, ``RATE``, ``II``, ``ADDL``, ``SS`` as in NONMEM. ``None`` for a group that gets
        nothing.
    covariates
        Values by name.
    occasions
        Hours at which another occasion begins, for parameters that vary between occasions.
    name
        What messages call it.

    Raises
    ------
    PkpdError
        If there is no subject, no dose, or no time, or one of them cannot be.

    Examples
    --------
    >>> warfarin = group(32, [0.5, 1, 2, 6, 24, 36, 72, 120], {"AMT": 70})
    >>> print(warfarin.words())
    group (32 subjects): 0.5, 1, 2, 6, 24, 36, 72, 120 h
    """
    if not isinstance(subjects, int | float | np.number) or not (0 < subjects < np.inf):
        allowed = "a number above 0"
        raise PkpdError(where=name, what=f"{subjects!r} subjects", allowed=allowed)
    by_line = dict(times) if isinstance(times, Mapping) else {"": times}
    hours, of = [], []
    for line, some in by_line.items():
        for hour in np.atleast_1d(np.asarray(some, dtype=float)):
            hours.append(float(hour))
            of.append((line,) if line else ())
    if not hours:
        raise PkpdError(where=name, what="has no sampling time", remedy="give one")
    bad = [hour for hour in hours if not 0 <= hour < np.inf]
    if bad:
        what = f"a sampling time of {bad[0]:g} h"
        raise PkpdError(where=name, what=what, allowed="hours from 0 on")
    ends = tuple(sorted(float(hour) for hour in occasions))
    return SamplingGroup(
        float(subjects), tuple(hours), tuple(of), _doses(doses, name), dict(covariates or {}), ends,
        name,
    )  # fmt: skip


def _doses(doses: Doses, name: str) -> tuple[Mapping[str, float], ...]:
    if doses is None:
        return ()
    given = [doses] if isinstance(doses, Mapping) else list(doses)
    if not given:
        remedy = 'give one, {"AMT": 70}, or None for a group that gets nothing'
        raise PkpdError(where=name, what="has no dose", remedy=remedy)
    out = []
    for one in given:
        row = {str(key).upper(): float(value) for key, value in dict(one).items()}
        for key in row:
            if key not in _DOSE:
                raise PkpdError(where=f"{name}, dose", what=f"{key!r}", allowed=", ".join(_DOSE))
        if not (row.get("AMT", 0.0) > 0 or row.get("RATE", 0.0) > 0):
            what = f"AMT of {row.get('AMT', 0.0):g}"
            raise PkpdError(where=f"{name}, dose", what=what, allowed="more than 0")
        out.append(row)
    return tuple(out)


def checked(groups: SamplingGroup | Sequence[SamplingGroup]) -> tuple[SamplingGroup, ...]:
    """Take one group or several; those of the same name are numbered.

    Raises
    ------
    PkpdError
        If there is none, or one is of another kind.
    """
    found = [groups] if isinstance(groups, SamplingGroup) else list(groups)
    if not found or not all(isinstance(one, SamplingGroup) for one in found):
        allowed = "what pkpd.sampling.group(...) gives, one or several"
        raise PkpdError(where="sampling design", what="there is no group", allowed=allowed)
    names = [one.name for one in found]
    if len(set(names)) == len(names):
        return tuple(found)
    return tuple(
        SamplingGroup(
            one.subjects, one.times, one.of, one.doses, one.covariates, one.occasions,
            f"{one.name} {k + 1}",
        )
        for k, one in enumerate(found)
    )  # fmt: skip


def dataset_of(
    model: PopulationModel,
    groups: Sequence[SamplingGroup],
    times: Sequence[Sequence[float]] | None = None,
) -> tuple[Dataset, list[np.ndarray]]:
    """Make a data set with one subject for each group.

    Parameters
    ----------
    model
        Model whose lines are measured.
    groups
        Who they are.
    times
        Candidate hours of each group at which every line is measured, in the place of its own.

    Returns
    -------
    data
        Measured values are 1.
    places
        For each group its observations: ``[times, lines]`` of candidates, else by sample, those
        of a sample's lines one after the other.
    """
    import pandas as pd

    lines = tuple(name for name in model.structure.lines if name in model.residual)
    covariates = sorted({name for one in groups for name in one.covariates})
    rows: list[dict[str, Any]] = []
    asked = []
    for g, one in enumerate(groups):
        rows += [
            {"ID": g, "TIME": hour, "EVID": 2, "KIND": _BREAK, "DVID": 0, "AT": -1}
            for hour in one.occasions
        ]
        rows += [
            {"ID": g, "TIME": 0.0, "EVID": 1, "KIND": _GIVEN, "DVID": 0, "AT": -1, **dose}
            for dose in one.doses
        ]
        if times is None:
            samples = [
                (hour, line)
                for hour, some in zip(one.times, one.lines_of(model), strict=True)
                for line in some
            ]
        else:
            samples = [(float(hour), line) for hour in times[g] for line in lines]
        rows += [
            {
                "ID": g,
                "TIME": hour,
                "EVID": 0,
                "KIND": _SEEN,
                "DVID": lines.index(line) + 1,
                "AT": k,
            }
            for k, (hour, line) in enumerate(samples)
        ]
        asked.append(len(samples))
    table = pd.DataFrame(rows)
    for name in covariates:
        table[name] = [groups[g].covariates.get(name, np.nan) for g in table["ID"]]
    if any(one.occasions for one in groups):
        # the record of a break holds the occasion that ends there, or that begins
        ends: Any = "right" if carries_forward(model.structure) else "left"
        table["OCC"] = [
            1 + np.searchsorted(groups[g].occasions, hour, side=ends if kind == _BREAK else "right")
            for g, hour, kind in zip(table["ID"], table["TIME"], table["KIND"], strict=True)
        ]
    table = table.sort_values(["ID", "TIME", "KIND"], kind="stable").reset_index(drop=True)
    seen = table[table["EVID"] == 0]
    # observations of a data set are in the order of the table
    places = [np.empty(n, dtype=int) for n in asked]
    for m, (g, at) in enumerate(zip(seen["ID"], seen["AT"], strict=True)):
        places[g][at] = m
    table["DV"] = np.where(table["EVID"] == 0, 1.0, np.nan)
    for name in _DOSE[1:]:
        if name in table:
            table[name] = table[name].fillna(0.0)
    data = read_nonmem(
        table.drop(columns=["KIND", "AT"]), covariates=covariates,
        lines={k + 1: line for k, line in enumerate(lines)}, allow_replicates=True,
    )  # fmt: skip
    if times is not None:
        places = [p.reshape(-1, len(lines)) for p in places]
    return data, places
