"""Schedules as protocols have them: what `simulate` says, against a plain count of its own curves.

Counts, transfusions, deaths and blasts of the mornings are given to the judge in plain loops; last
doses, next cycles and the ends of cycles stand here as numbers read off the schedules by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from plain_judge import judge, recovery_of_cycle

import pkpd
from pkpd.cards import load_rules, load_trial
from pkpd.course.joined import joined
from pkpd.endpoints.clock import clock_days, clock_of
from pkpd.endpoints.definitions import recovery_definition
from pkpd.endpoints.dlt import evaluate_rule
from pkpd.schedule import GrowthFactorPolicy

DAYS = 90
RULES = [rule for rule in load_rules().values() if rule.can_be_simulated]
HEAD = """
title = "a schedule"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 90
[dose.clofarabine]
amount = "15 mg/m^2"
days = "{clofarabine}"
route = "iv"
duration = "1 h"
[dose.lenalidomide]
amount = "25 mg"
days = "{lenalidomide}"
route = "oral"
[dose.filgrastim]
amount = "5 ug/kg"
days = "7-27"
route = "sc"
[course.treatment]
doses = [{doses}]
cycle_days = {length}
cycles = {cycles}
[[cohort]]
id = "all"
"""


@dataclass(frozen=True)
class Schedule:
    """A schedule, and what a reader of it finds; days since the first morning.

    ``last`` is the last dose of treatment of cycle 1, ``following`` the first of cycle 2.
    """

    doses: tuple[str, ...]
    length: int
    cycles: int
    last: int
    following: int | None
    clofarabine: str = "1-5"
    lenalidomide: str = "15-28"
    by_need: bool = False

    def regimen(self, folder):
        text = HEAD.format(
            doses=", ".join(f'"{dose}"' for dose in self.doses), length=self.length,
            cycles=self.cycles, clofarabine=self.clofarabine, lenalidomide=self.lenalidomide,
        )  # fmt: skip
        # doses that no course gives are refused
        head, *parts = text.split("[dose.")
        kept = [p for p in parts[:-1] if p.partition("]")[0] in self.doses]
        last, course = parts[-1].split("[course", 1)
        kept += [last] if last.partition("]")[0] in self.doses else []
        (folder / "s.toml").write_text(
            head + "".join(f"[dose.{part}" for part in kept) + f"[course{course}"
        )
        return load_trial(str(folder / "s.toml")).cohorts[0].regimen


BOTH = ("clofarabine", "lenalidomide")
SCHEDULES = {
    "one cycle": Schedule(BOTH, 35, 1, 27, None),
    "two cycles": Schedule(BOTH, 35, 2, 27, 35),
    "three short cycles": Schedule(("clofarabine",), 28, 3, 4, 28),
    "weekly": Schedule(("clofarabine",), 28, 3, 15, 28, clofarabine="1, 8, 15-16"),
    "continuous": Schedule(("lenalidomide",), 28, 3, 27, 28, lenalidomide="1-28"),
    "from day 3 on": Schedule(("clofarabine",), 30, 2, 6, 32, clofarabine="3-7"),
    "growth factor by dose": Schedule((*BOTH, "filgrastim"), 35, 2, 27, 35),
    "growth factor by need": Schedule(BOTH, 35, 2, 27, 35, by_need=True),
}

# growth factor acts in the marrow with leukaemia
CASES = [
    *((name, "friberg") for name in SCHEDULES if not name.startswith("growth factor")),
    *((name, "leukaemia") for name in SCHEDULES),
]


def outcome(rule, lane, schedule, first):
    """1, 0 or NaN by the plain judge."""
    alive = DAYS if np.isinf(lane["death"]) else int(lane["death"])
    died = None if np.isinf(lane["death"]) else lane["death"]
    if alive <= first:
        return np.nan
    times = [day - first for day in range(first, alive)]
    lines = {name: list(counts[first:alive]) for name, counts in lane["counts"].items()}
    given = [day - first for day in lane["transfused"] if first <= day < alive]
    until = None if schedule.following is None else schedule.following - first
    said = judge(
        rule, times, lines, given, died=None if died is None else died - first,
        search=min(schedule.last, alive - 1) - first, until=until,
    )  # fmt: skip
    look = first + int(rule.by_day)
    if said == "died":
        return np.nan
    blasts = lane["blasts"]
    if rule.no_leukaemia and blasts is not None and blasts[min(look, alive - 1)] >= 5.0:
        return np.nan
    return float(said == "dlt")


def lanes_of(course):
    """Mornings of every lane as plain lists."""
    death = course.death_day
    for lane in range(course.lanes):
        yield {
            "counts": {line: own[lane] for line, own in course.mornings.items()},
            "transfused": np.flatnonzero(course.transfused[lane]).tolist(),
            "death": death[lane],
            "blasts": None if course.marrow_blasts is None else course.marrow_blasts[lane],
        }


def recovery_day(lane, line, at, schedule, first, rule, mornings):
    """Day of recovery by the plain judge; 0 not low in the cycle, infinite not back in it."""
    alive = DAYS if np.isinf(lane["death"]) else int(lane["death"])
    if alive <= first:
        return None
    if alive <= schedule.last:
        return np.inf  # died before the last dose: nothing is seen, and nothing recovers
    times = list(range(alive))
    counts = list(lane["counts"][line][:alive])
    given = [day for day in lane["transfused"] if day < alive]
    how = {
        "mornings": mornings,
        "transfused": given,
        "untransfused": rule.untransfused_days if line == "platelets" else 0,
        "after": schedule.last,
    }
    need, day = recovery_of_cycle(times, counts, at, schedule.following, **how)
    ends = schedule.following
    if ends is None:
        ends = first + max(schedule.length, int(rule.by_day))
    if need is None or need > ends:
        return 0.0
    late = schedule.following is not None and (day is None or day > schedule.following)
    return np.inf if day is None or late else float(day)


@pytest.mark.parametrize(("name", "marrow"), CASES)
def test_verdicts_and_days_are_those_of_a_plain_count(tmp_path, name, marrow):
    schedule = SCHEDULES[name]
    need = GrowthFactorPolicy(below=0.5, from_day=8, amount="5 ug/kg")
    words = {"growth_factor": need} if schedule.by_need else {}
    source = pkpd.source("rr_aml", marrow=marrow, patients=30, draws=2, seed=2, **words)
    treated = source.treated(schedule.regimen(tmp_path), DAYS)
    course = joined([treated.course(chunk) for chunk in treated.chunks()])
    lanes = list(lanes_of(course))
    first = int(schedule.clofarabine[0]) - 1 if "clofarabine" in schedule.doses else 0
    told = set()
    for card in RULES:
        rule = replace(card, clock="first_dose")
        clock = clock_days(course, clock_of(treated.plan, "first_dose", rule.by_day))
        found = evaluate_rule(
            rule, course, start=clock.start, search=clock.search, until=clock.until
        ).outcome
        expected = [outcome(rule, lane, schedule, first) for lane in lanes]
        np.testing.assert_array_equal(found, expected, err_msg=rule.name)
        told |= set(np.asarray(expected)[~np.isnan(expected)])
    assert told == {0.0, 1.0}
    rule = replace(load_rules()["leukemia_d42_generic"], clock="first_dose")
    simulated = pkpd.simulate(schedule.regimen(tmp_path), source, until_day=DAYS, rule=rule)
    expected = [outcome(rule, lane, schedule, first) for lane in lanes]
    np.testing.assert_array_equal(simulated["dlt"].values.ravel(), expected)
    mornings = recovery_definition(rule).mornings
    for criterion in simulated["criterion"].values:
        line, _, at = str(criterion).partition(" >= ")
        days = simulated["recovery_day"].sel(criterion=criterion).values.ravel()
        for lane, day in zip(lanes, days, strict=True):
            wanted = recovery_day(lane, line, float(at), schedule, first, rule, mornings)
            assert wanted is None or day == wanted
