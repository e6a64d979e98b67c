"""Rules in words, by their kind."""

from __future__ import annotations

import pytest

from pkpd.endpoints.definitions import death_words, failure_words
from pkpd.schedule import Criterion
from pkpd.trials import DLTRule

COUNTS = (Criterion("neutrophils", 0.5), Criterion("platelets", 25))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {},
            "by day 21 from the first dose not all of these have recovered: neutrophils >= 0.5 and "
            "platelets >= 25 x 10^9/L",
        ),
        (
            {"kind": "low_count_duration", "duration_days": (7.0, 0.0)},
            "within 21 days of the first dose neutrophils < 0.5 for 7 days or longer or "
            "platelets < 25 at any time",
        ),
        (
            {
                "kind": "low_count_or_transfusion",
                "duration_days": (7.0, 1.0),
                "join": "all",
                "transfusion_days": 3,
                "transfusion_window_days": 7,
                "clock": "both",
            },
            "within 21 days of both day 1 neutrophils < 0.5 for 7 days or longer and platelets "
            "< 25 for 1 day or longer, or platelets transfused on 3 of any 7 days",
        ),
        (
            {"kind": "not_recovered_from_nadir", "nadir_below": (0.2, 10.0)},
            "by day 21 from the first dose not all of these have recovered: neutrophils >= 0.5 and "
            "platelets >= 25 x 10^9/L, if below 0.2 (neutrophils) and 10 (platelets)",
        ),
    ],
)
def test_a_rule_is_told_as_its_kind_judges(more, text):
    assert failure_words(DLTRule("rule", COUNTS, by_day=21, **more)) == text


@pytest.mark.parametrize("kind", ["low_count_duration", "low_count_or_transfusion"])
def test_a_rule_tells_whether_a_death_after_its_event_counts(kind):
    low = DLTRule(
        "rule", COUNTS, by_day=21, kind=kind, duration_days=(7.0, 7.0),
        transfusion_days=3 * (kind == "low_count_or_transfusion"),
        transfusion_window_days=7 * (kind == "low_count_or_transfusion"),
    )  # fmt: skip
    assert "with the event already there has a DLT" in death_words(low)
    assert "without it cannot be judged" in death_words(low)
    assert (
        death_words(DLTRule("rule", COUNTS, by_day=21))
        == "a patient who dies before the day of the rule cannot be judged"
    )
