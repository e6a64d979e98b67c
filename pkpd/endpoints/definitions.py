"""What criteria leave open, from the card ``models/leukaemia/endpoints.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from pkpd.cards import card_folder, clock_day_1, read_toml
from pkpd.endpoints.recovery import RecoveryDefinition
from pkpd.errors import PkpdError
from pkpd.schedule import Regimen, describe_criteria
from pkpd.trials import DLTRule

THRESHOLDS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"neutrophils": (0.5, 1.0), "platelets": (20.0, 25.0, 50.0, 100.0)}
)
"""Counts (10^9/L) whose recovery is reported."""

FROM_DAY_1: Mapping[str, str] = MappingProxyType(
    {"units": "day", "long_name": "since the start of protocol day 1"}
)
"""Attributes of days in data sets; xarray reads ``days`` as lengths and ``days since`` as dates."""

LEUKAEMIC = 5.0
"""Percent of marrow blasts from which a marrow has leukaemia."""


@lru_cache(maxsize=1)
def _card() -> Mapping[str, float]:
    folder = Path(str(card_folder("rules"))).parent / "leukaemia"
    rows = read_toml(folder / "endpoints.toml").named_tables("parameters", {})
    return MappingProxyType({name: row.number("value") for name, row in rows.items()})


def definition(name: str) -> float:
    """Read one number of the card."""
    return _card()[name]


def recovery_definition(rule: DLTRule | None) -> RecoveryDefinition:
    """Decide when a count has recovered: in the verdict of a rule, in tables and in curves.

    Parameters
    ----------
    rule
        A rule of recovery (``not_recovered``, ``not_recovered_from_nadir``) defines it for the
        whole comparison. Other rules, or none, leave it to the card.
    """
    if rule is not None and rule.kind.startswith("not_recovered"):
        return RecoveryDefinition(
            rule.sustained_days, float(rule.untransfused_days), rule.consecutive_visits
        )
    return RecoveryDefinition(
        definition("recovery_days"), definition("recovery_untransfused_days"), 1
    )


def last_morning(regimen: Regimen, rule: DLTRule, clock: str | None = None) -> int:
    """Protocol day of the last morning that a rule needs when nothing is delayed.

    It is the morning after the rule's day, or of a rule of recovery the last of those that confirm
    one on it; the clock is the rule's own unless another is given.
    """
    first = clock_day_1(regimen, clock or rule.clock)
    of_recovery = rule.kind.startswith("not_recovered")
    mornings = recovery_definition(rule).mornings if of_recovery else 1
    return first - 1 + (rule.by_day or 0) + mornings


def check_last_morning(where: str, until_day: int, regimen: Regimen, rule: DLTRule) -> None:
    """Refuse to end before a rule's last morning: those who recover late would not be judged.

    Raises
    ------
    PkpdError
        Naming the day that is needed.
    """
    last = 0 if rule.by_day is None else last_morning(regimen, rule)
    if until_day < last:
        raise PkpdError(
            where=where,
            what=f"until_day is {until_day}, before day {last}, whose morning rule {rule.name} "
            f"needs (end of day {rule.by_day:g} from {clock_words(rule.clock)})",
            remedy=f"set until_day to at least {last}, or name another rule",
        )


def clock_words(clock: str) -> str:
    """Say from when a rule counts its days."""
    return "the first dose" if clock == "first_dose" else f"{clock} day 1"


def failure_words(rule: DLTRule) -> str:
    """Say in words what of the counts is an event under a rule, and by which day."""
    clock = clock_words(rule.clock)
    if rule.kind.startswith("not_recovered"):
        verb = "none of these has" if rule.join == "all" else "not all of these have"
        text = f"by day {rule.by_day} from {clock} {verb} recovered: "
        text += describe_criteria(rule.criteria)
        if rule.kind == "not_recovered_from_nadir":
            fell = zip(rule.criteria, rule.nadir_below, strict=True)
            text += ", if below " + " and ".join(f"{low:g} ({c.line})" for c, low in fell)
        return text
    lasting = [
        f"{c.line} < {c.at_least:g} "
        + (f"for {days:g} day{'s' * (days != 1)} or longer" if days else "at any time")
        for c, days in zip(rule.criteria, rule.duration_days, strict=True)
    ]
    text = f"within {rule.by_day} days of {clock} "
    text += (" and " if rule.join == "all" else " or ").join(lasting)
    if rule.kind == "low_count_or_transfusion":
        days, window = rule.transfusion_days, rule.transfusion_window_days
        text += f", or platelets transfused on {days} of any {window} days"
    return text


def death_words(rule: DLTRule) -> str:
    """Say in words what a rule makes of a patient who dies before its day: `pkpd.endpoints.dlt`."""
    if rule.kind.startswith("not_recovered"):
        return "a patient who dies before the day of the rule cannot be judged"
    return (
        "a patient who dies before the day of the rule with the event already there has a DLT, one "
        "who dies without it cannot be judged"
    )


def recovery_words(rule: DLTRule | None) -> str:
    """Say in words when a count has recovered, by `recovery_definition`."""
    found = recovery_definition(rule)
    days = found.mornings
    text = (
        "its first morning at the threshold after having been below it"
        if days == 1
        else f"the first of {days} mornings in a row at the threshold after having been below it"
    )
    if found.untransfused_days:
        free = f"{found.untransfused_days:g} days before or earlier"
        text += f", for platelets with the last transfusion {free}"
    return text
