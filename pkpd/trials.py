"""Trials: arms and cohorts, their schedules, their count rules and what was published.

Counts are in 10^9/L; haemoglobin, where a criterion names it, is in g/dL and marrow and blood
blasts in percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pkpd.errors import PkpdError
from pkpd.schedule import LINES, NEVER, STATUSES, Criterion, GrowthFactorPolicy, Regimen

RULE_KINDS = (
    "not_recovered",
    "not_recovered_from_nadir",
    "low_count_duration",
    "low_count_or_transfusion",
    "not_count_based",
)


@dataclass(frozen=True)
class DLTRule:
    """A dose-limiting toxicity (or another event) defined by blood counts.

    Attributes
    ----------
    name
        Name of its card.
    kind
        ``not_recovered``: on day `by_day` the lines of `criteria` are not at their thresholds.
        ``not_recovered_from_nadir``: the same, only for lines that fell below `nadir_below`.
        ``low_count_duration``: a line is below its threshold for `duration_days` on end, within
        `by_day` days. ``low_count_or_transfusion``: the same, or platelets are transfused on
        `transfusion_days` of any `transfusion_window_days`. ``not_count_based``: the published
        rule has no count threshold, so it cannot be simulated; it is kept for the record.
    criteria
        Thresholds, at most one for each line.
    join
        ``any``: a DLT if any line fails its criterion; ``all``: only if all do.
    by_day
        Day of the look, or last day of the window; day 1 is set by `clock`. ``None`` if no day is
        published.
    clock
        ``first_dose``, or the name of a course: day 1 is the day of that first dose.
    sustained_days
        A recovery counts if the count stays at the threshold for this many days.
    consecutive_visits
        On how many visits in a row the count must be seen recovered.
    untransfused_days
        Platelets count as recovered only if none were transfused in this many days before.
    no_leukaemia
        Whether the rule applies only to a marrow without leukaemia.
    duration_days
        For each criterion, how long a low count must last; 0 is any time.
    nadir_below
        For each criterion, the count below which it applies to the line, since the last such count.
    transfusion_days, transfusion_window_days
        For ``low_count_or_transfusion``.
    disease
        Where the rule was used.
    quote
        Wording of the source, or its paraphrase.
    source, status, note
        Origin, and how well the wording and the numbers are known; what is assumed.
    """

    name: str
    criteria: tuple[Criterion, ...] = ()
    join: str = "any"
    by_day: int | None = None
    clock: str = "first_dose"
    sustained_days: float = 0.0
    consecutive_visits: int = 1
    untransfused_days: int = 7
    no_leukaemia: bool = True
    kind: str = "not_recovered"
    duration_days: tuple[float, ...] = ()
    nadir_below: tuple[float, ...] = ()
    transfusion_days: int = 0
    transfusion_window_days: int = 0
    disease: str = ""
    quote: str = ""
    source: str = ""
    status: str = "assumed"
    note: str = ""

    def __post_init__(self) -> None:
        where = f"rule {self.name}"
        _one_of(where, "kind", self.kind, RULE_KINDS)
        _one_of(where, "join", self.join, ("any", "all"))
        _one_of(where, "status", self.status, STATUSES)
        if not self.can_be_simulated:
            if self.criteria:
                raise _wrong(where, "it has counts but its kind is not_count_based", "change kind")
            return
        if not self.criteria:
            raise _wrong(where, "it names no count", "give neutrophils or platelets")
        lines = [criterion.line for criterion in self.criteria]
        for line in LINES:
            if lines.count(line) > 1:
                raise _wrong(where, f"two thresholds for {line}", "keep one")
        if self.by_day is None or self.by_day < 1:
            raise _wrong(where, f"by_day is {self.by_day}", "give the day of the look, from 1")
        for name in ("sustained_days", "untransfused_days"):
            if getattr(self, name) < 0:
                raise _wrong(where, f"{name} is {getattr(self, name)}", "give 0 or more")
        if self.consecutive_visits < 1:
            raise _wrong(
                where, f"consecutive_visits is {self.consecutive_visits}", "give 1 or more"
            )
        self._check_per_line(where, "duration_days", self.kind.startswith("low_count"))
        self._check_per_line(where, "nadir_below", self.kind == "not_recovered_from_nadir")
        transfusion = self.kind == "low_count_or_transfusion"
        if transfusion != (0 < self.transfusion_days <= self.transfusion_window_days):
            raise _wrong(
                where,
                f"{self.transfusion_days} transfusion days of {self.transfusion_window_days}",
                "give both for kind low_count_or_transfusion, and only for it",
            )

    def _check_per_line(self, where: str, name: str, needed: bool) -> None:
        values = getattr(self, name)
        if len(values) != (len(self.criteria) if needed else 0):
            raise _wrong(
                where,
                f"{len(values)} values of {name} for {len(self.criteria)} counts",
                f"give one for each count for kind {self.kind}" if needed else f"remove {name}",
            )
        if any(not math.isfinite(value) or value < 0 for value in values):
            raise _wrong(where, f"{name} is {values}", "give numbers of 0 or more")

    @property
    def can_be_simulated(self) -> bool:
        """Whether the rule has count thresholds."""
        return self.kind != "not_count_based"


@dataclass(frozen=True)
class GradeScale:
    """Limits of the grades of one blood count.

    Attributes
    ----------
    line
        Line of :data:`pkpd.schedule.LINES`.
    below
        Limits of grades 1 to 4: a count below ``below[g - 1]`` is of grade `g` or higher.
    relative
        Whether the limits are fractions of the baseline count.
    always_grade_4_below, evaluable_from
        Absolute count (10^9/L) that is grade 4 whatever its baseline, and the lowest baseline of
        patients who are graded; 0 is none.
    source, status, note
        Origin of the limits.
    """

    line: str
    below: tuple[float, float, float, float]
    relative: bool = False
    always_grade_4_below: float = 0.0
    evaluable_from: float = 0.0
    source: str = ""
    status: str = "assumed"
    note: str = ""

    def __post_init__(self) -> None:
        where = f"grades of {self.line}"
        _one_of(where, "line", self.line, LINES)
        _one_of(where, "status", self.status, STATUSES)
        if len(self.below) != 4 or any(
            not lower < upper for upper, lower in zip(self.below, self.below[1:], strict=False)
        ):
            raise _wrong(where, f"limits {self.below}", "give four limits that decrease")
        if self.below[3] <= 0:
            raise _wrong(where, f"grade 4 below {self.below[3]:g}", "give positive limits")
        if self.relative and self.below[0] > 1.0:
            raise _wrong(where, f"grade 1 below {self.below[0]:g} of baseline", "use fractions")


@dataclass(frozen=True)
class Grades:
    """Grades of toxicity of a system such as CTCAE."""

    name: str
    title: str
    scales: tuple[GradeScale, ...]
    note: str = ""

    def scale(self, line: str) -> GradeScale:
        """Scale of one line."""
        for scale in self.scales:
            if scale.line == line:
                return scale
        lines = ", ".join(scale.line for scale in self.scales)
        raise PkpdError(where=f"grades {self.name}", what=f"no scale for {line!r}", allowed=lines)


@dataclass(frozen=True)
class Response:
    """One response category, met if all its parts are.

    Attributes
    ----------
    code
        ``CR``, ``CRh``, ...
    criteria, join
        Counts needed; ``join="any"``: one of them is enough.
    marrow_blasts_below
        Upper limit of marrow blasts (percent), itself included if `marrow_limit_included`;
        ``None``: no limit.
    marrow_blasts_from
        Lower limit of marrow blasts (percent).
    marrow_blasts_fall
        Fraction by which marrow blasts must have fallen.
    no_circulating_blasts, no_extramedullary, marrow_not_aplastic
        Other conditions.
    haemoglobin_at_least
        g/dL; recorded, not simulated. ``None``: no condition.
    for_weeks
        How long it must last.
    text, source, status
        Wording and origin.
    """

    code: str
    criteria: tuple[Criterion, ...] = ()
    join: str = "all"
    marrow_blasts_below: float | None = None
    marrow_limit_included: bool = False
    marrow_blasts_from: float = 0.0
    marrow_blasts_fall: float = 0.0
    no_circulating_blasts: bool = False
    no_extramedullary: bool = False
    marrow_not_aplastic: bool = False
    haemoglobin_at_least: float | None = None
    for_weeks: float = 0.0
    text: str = ""
    source: str = ""
    status: str = "assumed"


@dataclass(frozen=True)
class ImprovementStep:
    """Rise needed from baselines in a range.

    A baseline above `baseline_above` (10^9/L) must rise by at least `rise` (10^9/L) and by the
    fraction `rise_fraction` of itself, and end above `end_above`.
    """

    baseline_above: float = 0.0
    rise: float = 0.0
    rise_fraction: float = 0.0
    end_above: float = 0.0


@dataclass(frozen=True)
class Improvement:
    """Haematologic improvement of one line, for baselines below `baseline_below`.

    The step with the highest `baseline_above` under the patient's baseline applies.
    """

    code: str
    line: str
    baseline_below: float
    steps: tuple[ImprovementStep, ...]
    for_weeks: float = 0.0
    text: str = ""
    source: str = ""
    status: str = "assumed"


@dataclass(frozen=True)
class ResponseCriteria:
    """Response criteria of a system such as ELN 2022: the first response met is the response."""

    name: str
    title: str
    disease: str
    responses: tuple[Response, ...]
    improvements: tuple[Improvement, ...] = ()
    unsupported: tuple[str, ...] = ()
    note: str = ""

    def response(self, code: str) -> Response:
        """Response category by its code."""
        for response in self.responses:
            if response.code == code:
                return response
        codes = ", ".join(response.code for response in self.responses)
        raise PkpdError(where=f"criteria {self.name}", what=f"no response {code!r}", allowed=codes)


@dataclass(frozen=True)
class PublishedOutcome:
    """One aggregated result of a trial.

    Attributes
    ----------
    endpoint
        Short name, such as ``dlt_delayed_recovery`` or ``cr_rate``.
    value, lower, upper
        As printed (range or confidence limits, as `definition` says); ``None`` if not printed.
    numerator, denominator
        Patients with the event, and patients.
    definition, source, status
        What it is and where it is from.
    """

    endpoint: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    numerator: int | None = None
    denominator: int | None = None
    definition: str = ""
    source: str = ""
    status: str = "assumed"

    def __post_init__(self) -> None:
        where = f"published {self.endpoint}"
        _one_of(where, "status", self.status, STATUSES)
        k, n = self.numerator, self.denominator
        if self.value is None and k is None:
            raise _wrong(where, "it has neither value nor numerator", "give one")
        if k is not None and (n is None or not 0 <= k <= n):
            raise _wrong(where, f"{k} of {n} patients", "give 0 <= numerator <= denominator")
        # a printed share is rounded to a percent or finer
        if k is not None and n and self.value is not None and abs(self.value - k / n) > 0.006:
            raise _wrong(
                where,
                f"the value {self.value:g} is not {k}/{n} = {k / n:.3f}",
                "correct one of them",
            )
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise _wrong(where, f"the range {self.lower:g} to {self.upper:g}", "swap the limits")


@dataclass(frozen=True)
class Cohort:
    """Patients on one schedule.

    Attributes
    ----------
    id, label
        Short name within the trial, and the name for tables.
    regimen
        What they get.
    n
        Patients treated; ``None`` if not published.
    published
        Results of this cohort.
    level
        Dose level in the trial's escalation (0 and below: de-escalated); ``None``: none.
    note, medians
        Anything a reader needs to know; medians that its patients are moved to, beyond the trial's.
    rule, clocks
        Count rule, and the courses its days are counted from (the first is the main one).
    """

    id: str
    label: str
    regimen: Regimen
    n: int | None = None
    published: tuple[PublishedOutcome, ...] = ()
    level: int | None = None
    note: str = ""
    rule: str | None = None
    clocks: tuple[str, ...] = ("first_dose",)
    medians: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Arm:
    """Cohorts that differ in dose level."""

    name: str
    cohorts: tuple[Cohort, ...]


@dataclass(frozen=True)
class AskedQuestion:
    """A question that a trial asks of its cohorts.

    `ask` is its template (`pkpd.cards.question_cards.TEMPLATES`), `settings` are what that needs by
    name; `title` and `text` are the template's own if empty; `name` is for files.
    """

    ask: str
    name: str
    title: str = ""
    text: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, key: str) -> Any:
        """Look up a setting of the template."""
        return dict(self.settings)[key]


@dataclass(frozen=True)
class Trial:
    """A trial, or a schedule of the user's own in the same form.

    Attributes
    ----------
    id, name, title, phase
        Identity; `id` is the card's name.
    disease
        Name of a disease of the marrow with leukaemia, as the population's; "" for none.
    condition
        Who the trial is for, in its own words.
    population
        Name of a population card, or of a file beside the trial's.
    arms
        Arms with their cohorts.
    rule
        Name of the rule card of the trial; a cohort can have its own.
    rule_is_protocols, rule_note
        Whether the protocol itself defines the rule, and not this package; why this rule.
    grades, horizon_days
        Name of the grade card whose grades 3 and 4 are reported; days to simulate.
    visit_days
        Protocol days on which counts are taken.
    references, questions
        Papers and registry entries; what is asked beyond every comparison.
    drug_cards
        Drugs whose cards are files of the user: name, and file beside the trial's.
    growth_factor, evidence_studies
        Growth factor by need; names of the trial in the table of published outcomes.
    medians, rule_change, unnamed
        Medians its patients are moved to (`pkpd.subjects.with_medians`); what differs from `rule`;
        doses, modifications, gates and courses that nothing uses, which do nothing, in words.
    published
        Results of the trial as a whole, and figures of other trials its design rests on.
    assumptions
        One sentence for each part of the card that no source gives.
    """

    id: str
    name: str
    title: str
    disease: str
    population: str
    arms: tuple[Arm, ...]
    rule: str | None
    horizon_days: int
    visit_days: tuple[int, ...]
    phase: str = ""
    condition: str = ""
    references: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    rule_is_protocols: bool = True
    rule_note: str = ""
    grades: str = "ctcae_v5"
    published: tuple[PublishedOutcome, ...] = ()
    questions: tuple[AskedQuestion, ...] = ()
    drug_cards: tuple[tuple[str, str], ...] = ()
    growth_factor: GrowthFactorPolicy = NEVER
    medians: tuple[tuple[str, float], ...] = ()
    rule_change: tuple[tuple[str, Any], ...] = ()
    evidence_studies: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    path: str = field(default="", compare=False)

    def __repr__(self) -> str:
        """Tell identity and cohorts in a line."""
        return f"Trial({self.id!r}, {self.population}: {', '.join(c.id for c in self.cohorts)})"

    @property
    def cohorts(self) -> tuple[Cohort, ...]:
        """All cohorts, arm by arm."""
        return tuple(cohort for arm in self.arms for cohort in arm.cohorts)

    @property
    def drugs(self) -> tuple[str, ...]:
        """Drugs of all cohorts, in the order they are first named."""
        return tuple(dict.fromkeys(d for cohort in self.cohorts for d in cohort.regimen.drugs))

    def cohort(self, cohort_id: str) -> Cohort:
        """Cohort by its id."""
        for cohort in self.cohorts:
            if cohort.id == cohort_id:
                return cohort
        allowed = ", ".join(cohort.id for cohort in self.cohorts)
        what = f"there is no cohort {cohort_id!r}"
        raise PkpdError(where=f"trial {self.id}", what=what, allowed=allowed)


def _one_of(where: str, noun: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        what = f"{noun} is {value!r}"
        raise PkpdError(where=where, what=what, allowed=", ".join(allowed))


def _wrong(where: str, what: str, remedy: str) -> PkpdError:
    return PkpdError(where=where, what=what, remedy=remedy)
