"""What a judge finds: sentences in order, each with its kind, its parameters and its subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["wrong", "doubtful", "note"]
"""``wrong``: numbers mean nothing until it is mended. ``doubtful``: some of them rest on something
else than the data, or cannot be had. ``note``: worth knowing."""
_ORDER = ("wrong", "doubtful", "note")
_MOST = 3  # sentences of a summary


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    kind
        What it is, in a few words: ``"at zero"``, ``"told only together"``.
    severity
        ``"wrong"``, ``"doubtful"`` or ``"note"``.
    what
        The sentence.
    remedy
        What to do about it; may be empty.
    parameters
        Names of the population parameters it is about.
    subjects
        Labels of the subjects it is about, with their rows where those are few.
    """

    kind: str
    severity: Severity
    what: str
    remedy: str = ""
    parameters: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Sentence and remedy."""
        return f"{self.what} {self.remedy}".strip()

    def record(self) -> dict[str, Any]:
        """Return it as JSON takes it; `finding_of` reads that."""
        return asdict(self)


def finding_of(record: Mapping[str, Any]) -> Finding:
    """Make a finding of its `Finding.record`."""
    given: dict[str, Any] = dict(record)
    given |= {name: tuple(record[name]) for name in ("parameters", "subjects")}
    return Finding(**given)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Put the gravest first; those alike stay as they were."""
    return tuple(sorted(findings, key=lambda one: _ORDER.index(one.severity)))


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Make a table of findings.

    Returns
    -------
    DataFrame
        ``severity``, ``kind``, ``parameters``, ``subjects`` (comma between several), ``sentence``
        and ``remedy``; a row for each, the gravest first.
    """
    import pandas as pd

    rows = [
        (
            *(one.severity, one.kind, ", ".join(one.parameters), ", ".join(one.subjects)),
            *(one.what, one.remedy),
        )
        for one in findings
    ]
    columns = ["severity", "kind", "parameters", "subjects", "sentence", "remedy"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def told(findings: tuple[Finding, ...]) -> list[str]:
    """Lines of a summary: the gravest findings, and how many more there are."""
    lines = [f"- {one}" for one in findings[:_MOST]]
    more = len(findings) - _MOST
    return [*lines, f"- and {more} more in `judged`"] if more > 0 else lines
