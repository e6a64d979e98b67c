"""Populations that evidence rows are about (``models/evidence/populations.toml``)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pkpd.cards.tables import read_toml


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
    least_neutrophils, least_platelets
        Counts that entry demanded, 10^9/L; 0: none.
    paediatric
        Children, whom the adult marrow model only approximates.
    source
        Where these numbers come from, and what is assumed.
    """

    name: str
    title: str
    disease: str
    age: float | None = None
    least_neutrophils: float = 0.0
    least_platelets: float = 0.0
    paediatric: bool = False
    source: str = ""


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
            least_neutrophils=entry.number("least_neutrophils", 0.0, minimum=0.0),
            least_platelets=entry.number("least_platelets", 0.0, minimum=0.0),
            paediatric=entry.boolean("paediatric", False),
            source=entry.text("source"),
        )
    table.done()
    return populations
