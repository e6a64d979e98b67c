"""Counts of a bank of virtual patients after a graft, from the package's marrow.

A virtual patient has seven parameters, kept as logarithms: the rate of regrowth, the day on which
the early pool would be full if nothing held it back, the time of maturation, the normal count, the
count of the patient's own cells on day 0 with the rate of their loss, and what growth factor adds
to the concentration of G-CSF. The share of a normal pool that is grafted follows from the first
two, exp(-rate day): days of recovery tell the day, and the share lies on a ridge with the rate.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.patients import Who, who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import STEPS_PER_DAY, simulate
from pkpd.marrow.variants import VARIANTS, Variant
from pkpd.schedule import Course, DoseRule, Regimen, parse_days

Floats = NDArray[np.float64]

PARAMETERS = ("rate", "full_day", "maturation", "normal", "own", "own_loss", "rise")
RATE, FULL_DAY, MATURATION, NORMAL, OWN, OWN_LOSS, RISE = range(len(PARAMETERS))
"""1/day, day, day, 10^9/L, 10^9/L, 1/day, 1."""

STRUCTURES = {"ten_stages": "ten_stages", "full": "full", "full_held": "full"}
"""Structure -> variant of the marrow. ``full_held`` keeps the rate learned after chemotherapy."""

_LEARNED_RATE = 0.28
"""1/day, median of an earlier posterior of the three stages (card: 0.251)."""

DAYS = 47
"""Mornings that are simulated: days 0 to 46."""

_DEEPEST = 40.0  # ln of the least share of a pool that is grafted
_FIRST, _ENOUGH, _IN_A_ROW = 6, 2.0, 3
"""Growth factor is given from this day on, until so many mornings in a row are above this count
(10^9/L): the usual practice. It was not recorded."""


class MarrowBank:
    """The package's marrow, emptied by conditioning, with a graft on day 0.

    Parameters
    ----------
    structure
        One of `STRUCTURES`.
    days
        Mornings that are simulated.
    steps_per_day
        Of the marrow's step.
    """

    def __init__(
        self, structure: str = "ten_stages", days: int = DAYS, steps_per_day: int = STEPS_PER_DAY
    ) -> None:
        self.structure, self.days, self.steps_per_day = structure, days, steps_per_day

    @property
    def variant(self) -> Variant:
        """Mechanisms that are on."""
        return VARIANTS[STRUCTURES[self.structure]]

    @cached_property
    def theta(self) -> dict[str, float]:
        """Global parameters: the values of the cards."""
        return dict(leukaemia_cards(STRUCTURES[self.structure]).theta)

    @property
    def held_rate(self) -> tuple[float, float] | None:
        """Median rate of regrowth (1/day) and SD of its logarithm, if they are not learned."""
        if self.structure != "full_held":
            return None
        return _LEARNED_RATE, self.theta["rho.sd"]

    def counts(self, patients: Floats, growth_factor: NDArray[np.bool_]) -> Floats:
        """Neutrophils every morning.

        Parameters
        ----------
        patients : float[N, 7]
            Logarithms of `PARAMETERS`.
        growth_factor : bool[N]
            Who is given growth factor: from day 6 to the third morning in a row above 2.

        Returns
        -------
        float[N, days]
            10^9/L, the patient's own cells, which decay, included.
        """
        counts = np.empty((len(patients), self.days))
        for given in (False, True):
            chosen = np.flatnonzero(growth_factor == given)
            if chosen.size:
                counts[chosen] = self._grafted(np.exp(patients[chosen]), given)
        elapsed = np.arange(self.days)
        own, loss = np.exp(patients[:, [OWN]]), np.exp(patients[:, [OWN_LOSS]])
        return counts + own * np.exp(-loss * elapsed)

    def changes(self, values: Floats) -> dict[str, Floats]:
        """Parameters of the marrow of N patients; ``values`` are not logarithms, ``[N, 7]``."""
        pools = self.variant.transit_stages + 1
        depth = np.minimum(values[:, RATE] * values[:, FULL_DAY], _DEEPEST)
        return {
            "rho": values[:, RATE],
            "graft_seeding": np.exp(-depth),
            "k_neutrophil": pools / values[:, MATURATION],
            "neutrophils_normal": values[:, NORMAL],
            "filgrastim": 1.0 + values[:, RISE],
            "capacity": np.ones(len(values)),  # whatever the age
        }

    def _grafted(self, values: Floats, growth_factor: bool) -> Floats:
        """Simulate N patients, ``[N, days]``, of whom all or none are given growth factor."""
        if not growth_factor:
            return self._simulated(values, 0)
        # until its last day, counts are those under growth factor without an end
        counts = self._simulated(values, self.days)
        last = last_days(counts)
        for day in np.unique(last[last < self.days]):
            own = last == day
            counts[own] = self._simulated(values[own], int(day))
        return counts

    def _simulated(self, values: Floats, last_day: int) -> Floats:
        arm = graft_arm(self.days, last_day)
        course, _ = simulate(
            arm,
            self.theta,
            _candidates(len(values)),
            self.variant,
            steps_per_day=self.steps_per_day,
            changes=self.changes(values),
        )
        return course.neutrophils


def last_days(counts: Floats) -> NDArray[np.int64]:
    """Last protocol days of growth factor, ``[N]``, given counts under it, ``[N, days]``."""
    above = counts[:, _FIRST:] > _ENOUGH
    windows = np.lib.stride_tricks.sliding_window_view(above, _IN_A_ROW, axis=1).all(axis=2)
    third = _FIRST + _IN_A_ROW - 1 + windows.argmax(axis=1)
    # not given on the third morning, which begins protocol day third + 1
    return np.where(windows.any(axis=1), third, counts.shape[1])


@lru_cache(maxsize=128)
def graft_arm(days: int, last_day: int) -> Arm:
    """One unit of cells on protocol day 1, which is day 0, into an emptied marrow.

    Parameters
    ----------
    days
        Mornings that are simulated.
    last_day
        Protocol day on which growth factor is given for the last time; 0: never.
    """
    rules = [DoseRule("graft", 1.0, "10^6/kg", days=parse_days("1")[0], route="iv")]
    if last_day > _FIRST:
        given = parse_days(f"{_FIRST + 1}-{last_day}")[0]
        rules.append(DoseRule("filgrastim", 0.3, "mg", days=given, route="sc"))
    regimen = Regimen((Course("graft", tuple(rules), days + 1, cycles=1),))
    return Arm("graft", ArmSchedule(regimen, days, transfuse_below=0.0), "emptied")


def _candidates(patients: int) -> Who:
    """Bodies and scores of N patients; nothing of them matters that is not changed."""
    power = 1 << max(patients - 1, 1).bit_length()
    many = _many(power)
    return Who(many.scores[:patients], many.sample.taken(np.arange(patients)))


@lru_cache(maxsize=16)
def _many(patients: int) -> Who:
    return who(graft_arm(DAYS, 0), patients, seed=1)
