"""Where the simulations of a run are kept, and of which cards they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pkpd.cards.contents import contents
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.files import find_card
from pkpd.errors import PkpdError
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.likelihood.total import EvidenceLikelihood
from pkpd.evidence.posterior.stored import evidence_hash
from pkpd.evidence.sampling.simulations import digits_of
from pkpd.files import write_text
from pkpd.leukaemia.parameters import response_criteria
from pkpd.marrow.variants import Variant

CARDS = "cards.json"
_ACTS = ("pk", "effect", "parameters", "by_mouth", "holds", "leukaemia")
_WORDS = ("assumptions", "citation", "description", "disagreement", "doi", "limits", "note",
          "pmid", "range_means", "read_as", "source", "status", "text", "title", "url",
          "words")  # fmt: skip


def place_of(
    folder: str | Path,
    prior: Prior,
    likelihood: EvidenceLikelihood,
    variant: Variant,
    patients: int,
    steps_per_day: int,
) -> Path:
    """Give the folder of a run's simulations, named by evidence, prior, structure and sizes."""
    people = {key: arm.population for key, arm in likelihood.arms.items()}
    who = {key: repr(replace(one, title="", source="")) for key, one in people.items()}
    label = digits_of(
        json.dumps([evidence_hash(likelihood), prior.names, prior.fixed, repr(prior.entries),
                    asdict(variant), patients, steps_per_day, who])
    )  # fmt: skip
    return Path(folder) / f"simulations_{label}"


def refuse_other_cards(place: Path, likelihood: EvidenceLikelihood) -> None:
    """Refuse simulations under other kinetics, effects or holds of a drug, or other responses.

    A folder that is made here keeps what cards say of the drugs and the responses of its arms; one
    that does not tell is taken as it is.

    Raises
    ------
    PkpdError
        If the folder's simulations are of other cards.
    """
    arms = likelihood.arms.values()
    courses = [c for arm in arms for c in (arm.schedule, arm.reinduction) if c is not None]
    now = _cards(frozenset().union(*(course.names for course in courses)))
    for disease in sorted({arm.population.disease for arm in arms}):
        card, improvements = response_criteria(disease)
        told = [_read(find_card("rules", card)), *improvements]
        now[f"responses in {disease}"] = digits_of(json.dumps(told, sort_keys=True, default=str))
    file = place / CARDS
    if not place.exists():
        place.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(now, indent=1))
    elif file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        other = [name for name, digits in now.items() if kept.get(name) != digits]
        if other:
            raise PkpdError(
                where=str(place),
                what=f"its simulations are of other cards of {', '.join(other)}",
                remedy="name another folder",
            )


def _cards(drugs: Iterable[str]) -> dict[str, str]:
    """Drug -> digits of all that its cards say but words."""
    found = {}
    for drug in sorted(drugs):
        card = load_drug_card(drug)
        files = [find_card(kind, name) for kind, name in (("pk", card.pk), ("effects", card.effect))
                 if name]  # fmt: skip
        own = {key: value for key, value in _read(Path(card.path)).items() if key in _ACTS}
        told = [own, *map(_read, files)]
        found[drug] = digits_of(json.dumps(told, sort_keys=True, default=str))
    return found


def _read(file: Any) -> dict[str, Any]:
    # where a card is from stands at its top; other references are doses and sizes of bodies
    found = contents(file, str(file))
    return _without_words({key: value for key, value in found.items() if key != "reference"})


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_words(one) for key, one in value.items() if key not in _WORDS}
    return [_without_words(one) for one in value] if isinstance(value, list) else value
