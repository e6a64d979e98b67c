"""Questions that a trial card asks of its own cohorts: templates with their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pkpd.cards.files import nearest_of
from pkpd.cards.tables import Table
from pkpd.trials import AskedQuestion, Trial

TEMPLATES = ("schedule_or_dose", "start_of_drug", "one_dose_or_another", "cycle_by_cycle")
"""Kinds of question: is it the schedule or the dose of a drug that delays recovery; which counts
are there when a later drug starts; what does one dose change against another; what happens cycle
by cycle."""

_LINES = ("neutrophils", "platelets")


@dataclass(frozen=True)
class _Reader:
    """One row ``[[question]]`` and the trial whose cohorts, courses and drugs it names."""

    row: Table
    trial: Trial

    def one(self, key: str, what: str, known: tuple[str, ...]) -> str:
        name = self.row.text(key)
        if name not in known:
            self.row.refuse(
                key,
                f"no {what} of this trial is named {name!r}{nearest_of(name, known)}",
                allowed=", ".join(known),
            )
        return name

    def pairs(self, key: str) -> tuple[tuple[float, float], ...]:
        """Rows of counts of neutrophils and platelets, 10^9/L."""
        found = []
        for row in self.row.tables(key):
            found.append(tuple(row.number(line, above=0.0, unit="10^9/L") for line in _LINES))
        if not found:
            self.row.refuse(key, "no counts are given", allowed="neutrophils and platelets")
        return tuple(found)  # type: ignore[return-value]

    def share(self, key: str, default: float) -> float:
        return self.row.number(key, default, above=0.0, maximum=1.0)

    def settings(self, ask: str) -> dict[str, Any]:
        trial, row = self.trial, self.row
        cohorts = tuple(c.id for c in trial.cohorts)
        if ask == "schedule_or_dose":
            return {
                "drug": self.one("drug", "drug", trial.drugs),
                "by_day": row.integer("by_day", minimum=1, maximum=trial.horizon_days),
                "recovered_at": self.pairs("recovered_at"),
                "printed": row.text("printed"),
                "relevant": self.share("relevant", 0.05),
                "sure": self.share("sure", 0.9),
                "evidence_row": row.text("evidence_row", ""),
            }
        if ask == "start_of_drug":
            courses = tuple(
                dict.fromkeys(c.name for cohort in trial.cohorts for c in cohort.regimen.courses)
            )
            low = row.table("low")
            return {
                "drug": self.one("drug", "drug", trial.drugs),
                "course": self.one("course", "course", courses),
                "gates": self.pairs("gates"),
                "most_wait_days": row.integer("most_wait_days", 28, minimum=0),
                "low": tuple(low.number(line, above=0.0) for line in _LINES),
            }
        if ask == "one_dose_or_another":
            return {
                "first": self.one("first", "cohort", cohorts),
                "second": self.one("second", "cohort", cohorts),
                "heads": row.texts("heads", length=2),
                "by_day": row.integer("by_day", minimum=1, maximum=trial.horizon_days),
                "recovered_at": self.pairs("recovered_at"),
            }
        return {
            "criteria": row.text("criteria", "iwg_2006_mds"),
            "improvement_weeks": row.integer("improvement_weeks", 8, minimum=1, maximum=52),
        }


def read_questions(root: Table, trial: Trial) -> tuple[AskedQuestion, ...]:
    """Read the rows ``[[question]]`` of a trial card.

    Raises
    ------
    CardError
        If a template is unknown, or a row names a cohort, course or drug that the trial lacks.
    """
    found = []
    for row in root.tables("question", ()):
        ask = row.one_of("ask", TEMPLATES)
        found.append(
            AskedQuestion(
                ask=ask,
                name=row.text("name", ask),
                title=row.text("title", ""),
                text=row.text("text", ""),
                settings=tuple(_Reader(row, trial).settings(ask).items()),
            )
        )
    return tuple(found)
