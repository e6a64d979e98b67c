"""One row of an evidence table, and the key of the arm that it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from pkpd.evidence.table.endpoints import Endpoint
from pkpd.evidence.table.populations import Population
from pkpd.evidence.table.schedule import Schedule

REINDUCTION_DAY = 29  # marrow is looked at four weeks after the first course began


@dataclass(frozen=True)
class EvidenceRow:
    """One published outcome.

    Attributes
    ----------
    line
        Line in the file (the header is line 1).
    id
        Short name; made from study and endpoint if the file has none.
    study
        Rows of one study share its deviation from other studies.
    reference, patients, definition, source, assumed
        Text: citation, patients in the paper's words, definition, where it was read, and what had
        to be assumed to simulate it.
    population, schedule, cycles, cycle_days
        What to simulate.
    other_schedule
        For a declared tolerated dose, the schedule that was too toxic; for a ratio or a difference
        between arms, the one compared with.
    endpoint
        What is published.
    n
        Patients; the denominator if there is one.
    value, lower, upper, limits
        As printed; `limits` says what lower and upper are.
    numerator, denominator
        Patients with the event, and patients. `derived`: made from a share and `n`.
    mark
        ``READ`` in the source, ``DERIVED`` by arithmetic, or from ``MEMORY``.
    via
        ``direct``: from the paper, its registry entry or the publisher's page; ``mirror``: from a
        copy of it.
    unused
        Why the row is kept but is no likelihood; empty if it may be used.
    reinduction, reinduction_day
        Course given from this day to those whose marrow still has 5 % blasts, if the outcome is the
        best of up to two courses.
    age_median
        Median age of these patients (years), as printed.
    treatment_line
        What they had had before, one of :data:`LINES`; empty if unknown. Column ``line``.
    creatinine_limit
        Limit of creatinine or its clearance at entry, in the source's words.
    replaces
        Ids of rows of the table it is added to, which it stands in for.
    """

    line: int
    id: str
    study: str
    population: Population
    schedule: Schedule
    endpoint: Endpoint
    mark: str
    n: int | None = None
    cycles: int = 1
    cycle_days: int = 28
    other_schedule: Schedule | None = None
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    limits: str = ""
    numerator: int | None = None
    denominator: int | None = None
    derived: bool = False
    via: str = "direct"
    reference: str = ""
    patients: str = ""
    definition: str = ""
    source: str = ""
    assumed: str = ""
    unused: str = ""
    reinduction: Schedule | None = None
    reinduction_day: int = REINDUCTION_DAY
    age_median: float | None = None
    treatment_line: str = ""
    creatinine_limit: str = ""
    replaces: tuple[str, ...] = ()

    @property
    def arm(self) -> str:
        """Key of what is simulated: rows with the same key share one simulation."""
        if self.endpoint.at_start:
            return arm_key(self.population.key, self.simulated, 1, self.cycle_days)
        key = arm_key(self.population.key, self.schedule, self.cycles, self.cycle_days)
        return key + again(self.reinduction, self.reinduction_day)

    @property
    def given(self) -> tuple[str, str]:
        """Keys of what is given to these patients, also of counts at the start, and compared."""
        key = arm_key(self.population.key, self.schedule, self.cycles, self.cycle_days)
        other = "" if self.other_schedule is None else "".join(self.other_schedule.text.split())
        return key + again(self.reinduction, self.reinduction_day), other

    @property
    def simulated(self) -> Schedule:
        """What is simulated: no drug for counts at start, else the schedule."""
        return Schedule("none", ()) if self.endpoint.at_start else self.schedule

    @property
    def drugs(self) -> frozenset[str]:
        """Drugs of all courses and arms that are simulated."""
        all_of = (self.simulated, self.other_schedule, self.reinduction)
        return frozenset() if self.endpoint.at_start else frozenset().union(
            *(schedule.names for schedule in all_of if schedule is not None)
        )  # fmt: skip

    @property
    def other_arm(self) -> str | None:
        """Key of the arm of `other_schedule`."""
        if self.other_schedule is None:
            return None
        return arm_key(self.population.key, self.other_schedule, self.cycles, self.cycle_days)


def arm_key(population: str, schedule: Schedule, cycles: int, cycle_days: int) -> str:
    """Key of an arm: population, schedule, and cycles if there are several."""
    text = "".join(schedule.text.split())
    many = f" x{cycles}/{cycle_days}" if cycles > 1 else ""
    return f"{population} {text}{many}"


def again(reinduction: Schedule | None, day: int) -> str:
    """Add to the key of an arm that it has a second induction."""
    if reinduction is None:
        return ""
    return f" again {''.join(reinduction.text.split())} d{day}"
