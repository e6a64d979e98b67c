"""Endpoints of the evidence table: what each one means on a simulated patient.

An endpoint is a name such as ``cr_rate``, ``day30_mortality``, ``anc500_recovery_day_median`` or
``g34_neutropenia``. Some numbers in the name vary (the day, the threshold). :func:`endpoint_of`
reads the name and returns the kind of likelihood with what must be observed on each simulated
patient. Where a publication does not state its definition, the alternatives are all given, each
with its probability, and the likelihood is a mixture over them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from pkpd.cards.files import nearest_of
from pkpd.errors import DataError

KINDS = ("count", "quantiles", "mean", "mtd", "ratio", "difference", "context")
RESPONSES = ("CR", "CRi", "CRp", "CRm", "CR_CRi", "ORR", "PR_CR")


@dataclass(frozen=True)
class Observable:
    """A number (or yes/no as 1/0) that every simulated patient of an arm has.

    Attributes
    ----------
    kind
        ``response`` (`code` reached by `day`), ``response_day`` (day `code` was first reached),
        ``death`` (probability to die by `day`), ``died`` (whether the patient does),
        ``recovery_day`` (first day the count of `line` is back at
        `thresholds[0]` after having been below it), ``delayed`` (on `day` neutrophils below
        `thresholds[0]` or untransfused platelets below `thresholds[1]`, without leukaemia),
        ``grade`` (the count of `line` fell below `thresholds[0]` on treatment),
        ``low_days`` (longest run of days with `line` below `thresholds[0]`), ``low_run`` (such a
        run of neutrophils or platelets of at least `day` days), ``baseline`` (count at start),
        ``baseline_grade`` (a count below its grade-3 limit at start), ``fever`` (days of
        neutrophils below `thresholds[0]`, turned into a risk by a hazard).
    line
        ``neutrophils``, ``platelets``, ``wbc``, or empty.
    thresholds
        10^9/L.
    day
        Last day of the window, or day of the look.
    code
        Response code.
    among
        ``all`` patients treated, ``recovered`` (those who reach it), ``responders``, or those
        ``cleared`` of leukaemia on `day`.
    """

    kind: str
    line: str = ""
    thresholds: tuple[float, ...] = ()
    day: float = inf
    code: str = ""
    among: str = "all"


@dataclass(frozen=True)
class Alternative:
    """One reading of an endpoint and the probability that it is the publication's."""

    probability: float
    observable: Observable
    name: str = ""


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint name means.

    Attributes
    ----------
    name
        As in the table.
    kind
        One of :data:`KINDS`; ``context`` rows inform priors or are kept for the record.
    alternatives
        Readings; one if the definition is stated. Rows of a study whose readings have the same
        names share one (unknown) reading.
    proportion
        Whether value is a fraction of patients.
    category
        For counts that exclude one another in one patient: ``response`` or ``death``.
    why_context
        For context rows: why it is no likelihood.
    """

    name: str
    kind: str
    alternatives: tuple[Alternative, ...] = ()
    proportion: bool = False
    category: str = ""
    why_context: str = ""

    @property
    def at_start(self) -> bool:
        """Whether it is about patients before any drug."""
        return bool(self.alternatives) and self.alternatives[0].observable.kind.startswith(
            "baseline"
        )


NEUTROPHIL_GRADES = {3: 1.0, 4: 0.5}  # CTCAE, 10^9/L
PLATELET_GRADES = {3: 50.0, 4: 25.0}

# readings of "delayed recovery" where the paper prints none
DELAY_READINGS = ((0.4, 0.5, 20.0), (0.1, 0.5, 50.0), (0.2, 1.0, 50.0), (0.3, 1.0, 100.0))
# runs of grade 4 that phase-1 trials of cytostatics in near-normal marrow call dose-limiting
LOW_RUN_DAYS = ((0.4, 5.0), (0.4, 7.0), (0.2, 1.0))


def _one(observable: Observable) -> tuple[Alternative, ...]:
    return (Alternative(1.0, observable),)


def _response(code: str) -> Callable[[re.Match[str]], Endpoint]:
    def build(match: re.Match[str]) -> Endpoint:
        return Endpoint(
            match[0], "count", _one(Observable("response", code=code)), True, "response"
        )

    return build


def _death_by(match: re.Match[str]) -> Endpoint:
    day = float(match["day"])
    return Endpoint(match[0], "count", _one(Observable("death", day=day)), True, "death")


def _death_in_induction(match: re.Match[str]) -> Endpoint:
    readings = ((0.4, 30.0), (0.4, 42.0), (0.2, 60.0))
    parts = tuple(
        Alternative(p, Observable("death", day=day), f"death by {day:g}") for p, day in readings
    )
    return Endpoint(match[0], "count", parts, True, "death")


_THRESHOLDS = {"anc": {"500": 0.5, "1000": 1.0}, "plt": {"20": 20, "25": 25, "50": 50, "100": 100}}
_UNSTATED = {"anc": ((0.7, 0.5), (0.3, 1.0)), "plt": ((0.4, 20.0), (0.3, 50.0), (0.3, 100.0))}
_LINES = {"anc": "neutrophils", "plt": "platelets", "wbc": "wbc"}


def _recovery_day(match: re.Match[str]) -> Endpoint:
    short, stated, statistic = match["line"], match["threshold"], match["statistic"]
    line = _LINES[short]
    if stated:
        if stated not in _THRESHOLDS[short]:
            return Endpoint(match[0], "context", why_context=f"threshold {stated} is not simulated")
        parts = _one(_recovery(line, float(_THRESHOLDS[short][stated])))
    else:
        parts = tuple(
            Alternative(p, _recovery(line, t), f"{short} back at {t:g}")
            for p, t in _UNSTATED[short]
        )
    return Endpoint(match[0], "mean" if statistic == "mean" else "quantiles", parts)


def _recovery(line: str, threshold: float) -> Observable:
    return Observable("recovery_day", line, (threshold,), among="responders")


def _response_day(match: re.Match[str]) -> Endpoint:
    code = "CR_CRi" if match["code"] == "crcri" else "CR"
    seen = Observable("response_day", code=code, among="responders")
    kind = "mean" if match["statistic"] == "mean" else "quantiles"
    return Endpoint(match[0], kind, _one(seen))


def _grade(match: re.Match[str]) -> Endpoint:
    lowest = 4 if match["grade"] == "g4" else 3
    neutrophils = match["line"] == "neutropenia"
    limits = NEUTROPHIL_GRADES if neutrophils else PLATELET_GRADES
    line = "neutrophils" if neutrophils else "platelets"
    return Endpoint(match[0], "count", _one(Observable("grade", line, (limits[lowest],))), True)


def _g4_cytopenia(match: re.Match[str]) -> Endpoint:
    limits = (NEUTROPHIL_GRADES[4], PLATELET_GRADES[4])
    return Endpoint(match[0], "count", _one(Observable("grade", "any", limits)), True)


def _delayed(match: re.Match[str]) -> Endpoint:
    day = float(match["day"]) if match["day"] else 42.0
    among = "cleared" if match["cleared"] else "all"
    readings = DELAY_READINGS
    if match["anc"]:
        readings = ((1.0, _THRESHOLDS["anc"][match["anc"]], _THRESHOLDS["plt"][match["plt"]]),)
    parts = tuple(
        Alternative(
            p,
            Observable("delayed", thresholds=(anc, float(plt)), day=day, among=among),
            f"delay {anc:g}/{plt:g}",
        )
        for p, anc, plt in readings
    )
    return Endpoint(match[0], "count", parts, True)


def _low_run_alternatives() -> tuple[Alternative, ...]:
    limits = (NEUTROPHIL_GRADES[4], PLATELET_GRADES[4])
    return tuple(
        Alternative(p, Observable("low_run", thresholds=limits, day=d), f"grade 4 for {d:g} days")
        for p, d in LOW_RUN_DAYS
    )


def _baseline(match: re.Match[str]) -> Endpoint:
    kind = "mean" if match["statistic"] == "mean" else "quantiles"
    return Endpoint(match[0], kind, _one(Observable("baseline", _LINES[match["line"]])))


def _fixed(
    kind: str, alternatives: tuple[Alternative, ...], proportion: bool = False
) -> Callable[[re.Match[str]], Endpoint]:
    return lambda match: Endpoint(match[0], kind, alternatives, proportion)


def _context(why: str, proportion: bool = False) -> Callable[[re.Match[str]], Endpoint]:
    return lambda match: Endpoint(match[0], "context", proportion=proportion, why_context=why)


_FORMS: tuple[tuple[str, Callable[[re.Match[str]], Endpoint]], ...] = (
    (r"cr_rate|cr_after_c1", _response("CR")),
    (r"cri_rate", _response("CRi")),
    (r"crp_rate", _response("CRp")),
    (r"cr_cri_rate", _response("CR_CRi")),
    (r"orr", _response("ORR")),
    (r"pr_cr_rate", _response("PR_CR")),
    (r"day(?P<day>\d+)_mortality", _death_by),
    (r"induction_mortality|salvage_mortality|early_death|death_in_aplasia", _death_in_induction),
    (
        r"(?P<line>anc|plt)(?P<threshold>\d*)_recovery_day_(?P<statistic>median|mean)",
        _recovery_day,
    ),
    (r"time_to_(?P<code>cr|crcri)_(?P<statistic>median|mean)_d", _response_day),
    (r"(?P<grade>g34|g4)_(?P<line>neutropenia|thrombocytopenia)", _grade),
    (r"g4_cytopenia", _g4_cytopenia),
    (
        r"dlt_delayed_recovery(?:_d(?P<day>\d+))?"
        r"(?:_anc(?P<anc>500|1000)_plt(?P<plt>20|25|50|100))?(?P<cleared>_cleared)?",
        _delayed,
    ),
    (r"dlt_low_counts", _fixed("count", _low_run_alternatives(), True)),
    (r"mtd_mgm2|mtd_mg", _fixed("mtd", _low_run_alternatives())),
    (
        r"neutropenia_duration_d",
        _fixed("quantiles", _one(Observable("low_days", "neutrophils", (0.5,)))),
    ),
    (r"anc_recovery_time_ratio", _fixed("ratio", _one(_recovery("neutrophils", 0.5)))),
    (r"anc_recovery_diff_d", _fixed("difference", _one(_recovery("neutrophils", 0.5)))),
    (r"baseline_(?P<line>anc|plt|wbc)_(?P<statistic>median|mean)", _baseline),
    (
        r"g34_cytopenia_baseline",
        _fixed(
            "count",
            _one(Observable("baseline_grade", "any", (NEUTROPHIL_GRADES[3], PLATELET_GRADES[3]))),
            True,
        ),
    ),
    (
        r"g34_febrile_neutropenia|febrile_neutropenia",
        _fixed("count", _one(Observable("fever", "neutrophils", (0.5,))), True),
    ),
    (
        r"febrile_hospitalisation|febrile_or_infection|g34_infection",
        _context("infection, not a count; fever rows carry the same information", True),
    ),
    (
        r"completed_\w+|dlt_any|any_neutropenia|any_thrombocytopenia|post_cr_cytopenia|"
        r"g34_febrile_neutropenia_or_infection_responders|plt_transfusion_free_c1_4|os_1y|"
        r"febrile_episode_per_cycle|g34_neutropenia_per_cycle",
        _context("mixes causes, or a unit (cycle, course) that is no patient", True),
    ),
    (
        r"dlt_any_mtd|dose_reduced_again|final_dose_mg|phase1_n|phase2_dose_mg|n_enrolled|"
        r"n_baseline|n_ipss_int2_high|g34_neutropenia_n|baseline_plt_inclusion",
        _context("a fact on the trial, without a likelihood of its own"),
    ),
    (
        r"plt_increment_1h|plt_transfusion_interval_median_d",
        _context("sets the transfusion model, not the marrow"),
    ),
    (
        r"nadir_wbc_day|plt_recovery_from_g34_median_d|anc500_recovery_duration_median_d",
        _context("its clock or definition cannot be matched to a simulated quantity"),
    ),
)


_PART_OF = {
    "cr_after_c1": ("cr_rate", "cr_cri_rate", "pr_cr_rate", "orr"),
    "cr_rate": ("cr_cri_rate", "pr_cr_rate", "orr"),
    "cri_rate": ("cr_cri_rate", "orr"),
    "crp_rate": ("cr_cri_rate", "orr"),
    "cr_cri_rate": ("orr",),
    "pr_cr_rate": ("orr",),
    "g4_neutropenia": ("g34_neutropenia", "g4_cytopenia"),
    "g4_thrombocytopenia": ("g34_thrombocytopenia", "g4_cytopenia"),
    "g34_febrile_neutropenia": ("febrile_neutropenia",),
}
"""Counts of patients -> counts that contain every one of them."""


def is_part_of(inner: Endpoint, outer: Endpoint) -> bool:
    """Whether every patient that one endpoint counts is counted by another.

    Examples
    --------
    >>> is_part_of(endpoint_of("day30_mortality"), endpoint_of("day60_mortality"))
    True
    """
    first, second = (re.fullmatch(r"day(\d+)_mortality", e.name) for e in (inner, outer))
    if first and second:
        return int(first[1]) < int(second[1])
    return outer.name in _PART_OF.get(inner.name, ())


def endpoint_of(name: str) -> Endpoint:
    """Meaning of an endpoint name.

    Raises
    ------
    DataError
        If the name is unknown; the message has the nearest known one.
    """
    for pattern, build in _FORMS:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return build(match)
    examples = example_names()
    raise DataError(
        where=f"endpoint {name!r}",
        what=f"it is not known{nearest_of(name, examples)}",
        allowed=", ".join(examples),
    )


def example_names() -> tuple[str, ...]:
    """Names that :func:`endpoint_of` knows, with an example where a number varies."""
    return (
        *("cr_rate", "cr_after_c1", "cri_rate", "crp_rate", "cr_cri_rate", "orr", "pr_cr_rate"),
        *("day30_mortality", "induction_mortality", "early_death", "death_in_aplasia"),
        *("anc500_recovery_day_median", "anc1000_recovery_day_median", "anc_recovery_day_mean"),
        *("plt20_recovery_day_median", "plt50_recovery_day_median", "plt100_recovery_day_median"),
        *("time_to_cr_median_d", "time_to_crcri_median_d", "time_to_crcri_mean_d"),
        "neutropenia_duration_d",
        *("g34_neutropenia", "g4_neutropenia", "g34_thrombocytopenia", "g4_thrombocytopenia"),
        *("g4_cytopenia", "g34_cytopenia_baseline", "febrile_neutropenia"),
        *("dlt_delayed_recovery", "dlt_delayed_recovery_d45", "dlt_low_counts", "mtd_mgm2"),
        *("dlt_delayed_recovery_d42_anc500_plt50", "dlt_delayed_recovery_d42_cleared"),
        *("anc_recovery_time_ratio", "anc_recovery_diff_d", "baseline_anc_median"),
        *("baseline_plt_median", "baseline_wbc_median", "baseline_plt_mean"),
    )
