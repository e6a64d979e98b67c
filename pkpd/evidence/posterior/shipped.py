"""The posterior that predictions use by default: where it lies and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.parameters import marrow_prior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.evidence.table.populations import evidence_folder
from pkpd.leukaemia.parameters import leukaemia_cards

FILE_NAME = "posterior.nc"
HOW_TO_GET_ONE = (
    "run `python fits/evidence/learn.py --full --out build/evidence` in a checkout and name "
    "build/evidence/posterior_full.nc with --posterior, or leave out --marrow"
)
_DIGITS = 12
_NAMED = 3  # studies that are named; of more the number is told


@dataclass(frozen=True)
class PosteriorLabel:
    """What a reader needs to tell one posterior from another.

    Attributes
    ----------
    structure
        Name of the structure of the marrow (`pkpd.marrow.variants`).
    digits
        First hexadecimal digits of the SHA-256 of its draws.
    written
        When it was made (UTC), or empty.
    converged
        Whether its record says that the sampler converged.
    problems
        Why it did not; empty if it did.
    evidence
        Hash of the evidence it was learned from, or empty.
    rows, studies
        Published rows and studies it was learned from.
    draws, learned
        Numbers of draws, and of parameters that were learned.
    tested
        Published rows that it was tested on without having learned from them: ``rows``, ``studies``
        and ``inside``, the rows inside their 90 % intervals; empty if it was not.
    tested_before
        The same of the posterior before its draws were weighted anew.
    added, removed
        Studies that its draws were weighted by, or without, after they were sampled.
    """

    digits: str
    structure: str
    written: str
    converged: bool
    problems: tuple[str, ...]
    evidence: str
    rows: int
    studies: int
    draws: int
    learned: int
    tested: Mapping[str, Any] = field(default_factory=dict)
    tested_before: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One phrase: ``posterior 1a2b3c4d5e6f of 2026-01-31, ten_stages, converged``.

        After `pkpd.evidence.reweight`, ``, weighted with mine`` and ``, without theirs``.
        """
        date = f" of {self.written[:10]}" if self.written else ""
        verdict = "converged" if self.converged else "NOT CONVERGED"
        changed = [
            f", {word} {', '.join(each[:_NAMED])}"
            + (f" and {len(each) - _NAMED} more" if len(each) > _NAMED else "")
            for word, each in (("weighted with", self.added), ("without", self.removed))
            if each
        ]
        return f"posterior {self.digits}{date}, {self.structure}, {verdict}{''.join(changed)}"


def check_names(posterior: EvidencePosterior, where: str) -> None:
    """Refuse a posterior of parameters that the marrow does not have: they would change nothing.

    Raises
    ------
    PkpdError
        Naming the first of them.
    """
    known = {*marrow_prior().names, *leukaemia_cards().parameters}
    strange = [name for name in posterior.names if name not in known]
    if strange:
        raise PkpdError(
            where=where,
            what=f"{len(strange)} of its parameters are none of the marrow with leukaemia, "
            f"such as {strange[0]!r}{nearest_of(strange[0], known)}",
            remedy=HOW_TO_GET_ONE,
        )


def label_of(posterior: EvidencePosterior) -> PosteriorLabel:
    """Name a posterior by its draws and its record."""
    record = posterior.record
    rows = record.get("rows", 0)
    tested, before = (
        dict(found) if isinstance(found := record.get(key), Mapping) else {}
        for key in ("tested", "tested_before")
    )
    changes: Any = record.get("reweighted", [])
    changes = changes if isinstance(changes, list) else [changes]
    return PosteriorLabel(
        digits=posterior.digits[:_DIGITS],
        structure=posterior.structure,
        written=str(record.get("written", "")),
        converged=posterior.converged,
        problems=posterior.problems,
        evidence=str(record.get("evidence", "")),
        rows=rows if isinstance(rows, int) else 0,
        studies=len(posterior.studies),
        draws=int(posterior.weights.size),
        learned=len(posterior.names),
        tested=tested,
        tested_before=before,
        added=tuple(study for change in changes for study in change.get("added", ())),
        removed=tuple(study for change in changes for study in change.get("removed", ())),
    )


def shipped_file() -> Path | None:
    """File of the shipped posterior, in a checkout or inside a wheel; ``None`` if there is none."""
    path = Path(str(evidence_folder() / FILE_NAME))
    return path if path.is_file() else None


def shipped_posterior() -> EvidencePosterior | None:
    """Read the shipped posterior, converged or not; ``None`` if none is shipped.

    Raises
    ------
    PkpdError
        If there is a file that is no posterior.

    Examples
    --------
    >>> posterior = shipped_posterior()
    >>> posterior.converged
    True
    """
    path = shipped_file()
    return None if path is None else _read(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: str, changed: int) -> EvidencePosterior:
    return load_posterior(path)
