"""Populations that evidence rows are about (``models/evidence/populations.toml``)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pkpd.cards.files import nearest_of
from pkpd.cards.tables import Table, read_toml

LINES = (
    *("untreated", "in remission", "first relapse", "late relapse", "early relapse", "refractory"),
    *("refractory or early relapse", "later relapse or refractory", "relapsed or refractory"),
)
"""What patients had had before, as rows say it in their column ``line``."""


@dataclass(frozen=True)
class Population:
    """A group of patients with one kind of marrow.

    Attributes
    ----------
    name
        Id in the table.
    title
        In words.
    disease
        Population of the marrow model that stands for it.
    age
        Median age (years); ``None``: that of the disease.
    age_sd
        Standard deviation of the ages where no limit is printed (years); ``None``: limits of age in
        the words on patients are ignored (`pkpd.evidence.table.age_limits`).
    least_neutrophils, least_platelets
        Counts that entry demanded, 10^9/L; 0: none.
    paediatric
        Children, whom the adult marrow model only approximates.
    source
        Where these numbers come from, and what is assumed.
    by_line
        Line of treatment, one of :data:`LINES`, and the population that stands for it
        (`pkpd.evidence.table.learning.refined`).
    lines
        Lines of treatment that all its patients have; empty: they may have any.
    aged
        Whether the age is that of a row, in place of the population's.
    """

    name: str
    title: str
    disease: str
    age: float | None = None
    age_sd: float | None = None
    least_neutrophils: float = 0.0
    least_platelets: float = 0.0
    paediatric: bool = False
    source: str = ""
    by_line: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    aged: bool = False

    @property
    def key(self) -> str:
        """Who is simulated, for the key of an arm."""
        return f"{self.name} of {self.age:g} y" if self.aged else self.name


def evidence_folder() -> Path | Traversable:
    """Folder of the product's evidence: inside a wheel, or ``models/evidence`` of a checkout."""
    package = resources.files("pkpd")
    installed = package / "_cards"
    if installed.is_dir():
        return installed / "evidence"
    return Path(str(package)).parent / "models" / "evidence"


def load_populations() -> dict[str, Population]:
    """Read the shipped populations, by name.

    Raises
    ------
    CardError
        If the file has a mistake.
    """
    return read_populations(evidence_folder() / "populations.toml")


def read_populations(path: Path | Traversable) -> dict[str, Population]:
    """Read a file of populations, by name.

    Raises
    ------
    CardError
        If the file has a mistake.
    """
    table = read_toml(path)
    table.one_of("kind", ("evidence_populations",))
    populations = {}
    for name, entry in table.named_tables("population").items():
        populations[name] = Population(
            name=name,
            title=entry.text("title"),
            disease=entry.text("disease"),
            age=entry.number("age", None, minimum=0.0, maximum=110.0),
            age_sd=entry.number("age_sd", None, minimum=1.0, maximum=40.0),
            least_neutrophils=entry.number("least_neutrophils", 0.0, minimum=0.0),
            least_platelets=entry.number("least_platelets", 0.0, minimum=0.0),
            paediatric=entry.boolean("paediatric", False),
            source=entry.text("source"),
            by_line=_by_line(entry),
            lines=_lines(entry),
        )
    for name, population in populations.items():
        for line, other in population.by_line:
            if other not in populations:
                table.refuse(
                    f"population.{name}.by_line",
                    f"{line!r} names {other!r}, which is none{nearest_of(other, populations)}",
                    allowed=", ".join(populations),
                )
    table.done()
    return populations


def _by_line(entry: Table) -> tuple[tuple[str, str], ...]:
    row = entry.table("by_line", None)
    if row is None:
        return ()
    for line in row.data:
        _check_line(row, line, line)
    return tuple((line, row.text(line)) for line in row.data)


def _lines(entry: Table) -> tuple[str, ...]:
    found = entry.texts("lines", ())
    for line in found:
        _check_line(entry, "lines", line)
    return found


def _check_line(table: Table, key: str, line: str) -> None:
    if line not in LINES:
        what = f"{line!r} is no line of treatment{nearest_of(line, LINES)}"
        table.refuse(key, what, allowed=", ".join(LINES))
