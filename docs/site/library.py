"""The model library: a page for each drug and each marrow, made from the cards."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docs.site.card_tables import (
    STATUS_WORDS,
    number_rows,
    number_table,
    plain,
    spread_rows,
    statuses,
    table,
)
from docs.site.formulas import EQUATIONS, SYMBOLS, relation, upright
from docs.site.pages import ROOT
from docs.site.profiles import count_profile, kinetic_profile, leukaemia_profile, line_profile
from pkpd.cards import card_names
from pkpd.cards.drug_cards import load_drug_card
from pkpd.cards.model_cards import load_model_card
from pkpd.marrow.variants import VARIANTS

Card = Mapping[str, Any]

_WIDE = "---\nhtml_theme.sidebar_secondary.remove: true\n---"
"""Tables of numbers need the width that a page's contents would take."""

_LEUKAEMIA = ("marrow", "blasts", "drugs", "supportive", "counting", "endpoints")
_DRIVERS = {"plasma": "the concentration in plasma", "effect_site": "the triphosphate"}
_ACTS = {
    "intensity": "It kills by its dose, as a share of one course of 7+3.",
    "saturable_kill": "It kills early cells, committed cells and blasts by a concentration.",
    "maturation_block": "It slows the step into maturation by a concentration, and kills a little.",
    "growth_factor": "It drives neutrophils on the days it is given.",
    "graft": "It adds early cells to the marrow, a share of a normal pool for each unit of dose.",
    "long_acting_growth_factor": "It drives neutrophils until they have cleared it.",
    "nothing": "It changes no count.",
}


def read(kind: str, name: str) -> Card:
    """Read a card as it is written."""
    return tomllib.loads((ROOT / "models" / kind / f"{name}.toml").read_text())


def cards_of_drug(name: str) -> dict[str, list[str]]:
    """Names of the kinetics and effect cards of a drug; those it uses come first."""
    drug = read("drugs", name)
    found = {}
    for key, folder in (("pk", "pk"), ("effect", "effects")):
        own = [n for n in card_names(folder) if read(folder, n).get("drug") == name]
        used = drug.get(key)
        found[key] = sorted({*own, *([used] if used else [])}, key=lambda n: (n != used, n))
    return found


def drug_page(name: str, pictures: Path | None) -> str:
    """Page of a drug; its pictures are drawn into a folder, if one is given."""
    card, loaded = read("drugs", name), load_drug_card(name)
    others = cards_of_drug(name)
    parts = [_WIDE, f"# {plain(card['title'])}", _facts(card, "drugs", name)]
    if others["pk"]:
        parts.append("## Kinetics")
        if pictures:
            words = kinetic_profile(loaded, others["pk"], pictures / f"{name}_kinetics.svg")
            parts.append(_picture(f"{name}_kinetics.svg", words))
        parts += [_model(read("pk", n), "pk", n, _rank(i)) for i, n in enumerate(others["pk"])]
    if others["effect"]:
        parts.append("## Effect in the marrow without leukaemia")
        parts += [
            _model(read("effects", n), "effects", n, _rank(i))
            for i, n in enumerate(others["effect"])
        ]
    if "leukaemia" in card:
        parts.append("## In the marrow with leukaemia")
        parts.append(_action(card["leukaemia"]))
        words = count_profile(loaded, pictures / f"{name}_counts.svg") if pictures else None
        if words:
            parts.append(_picture(f"{name}_counts.svg", words))
    return "\n\n".join(parts) + "\n"


def marrow_page(name: str, pictures: Path | None) -> str:
    """Page of a marrow line."""
    card = read("marrow", name)
    parts = [_WIDE, f"# {plain(card['title'])}"]
    if pictures:
        words = line_profile(load_model_card("marrow", name), pictures / f"{name}.svg")
        parts.append(_picture(f"{name}.svg", words))
    return "\n\n".join([*parts, _model(card, "marrow", name, "", level=2)]) + "\n"


def leukaemia_page(pictures: Path | None) -> str:
    """Page of the marrow with leukaemia: all numbers of its cards."""
    parts = [
        _WIDE,
        "# The marrow with leukaemia",
        "Its equations, and what they reproduce, are on [a page of their own]"
        "(../../marrow_with_leukaemia.md). These are the numbers of its cards. Those marked "
        "*learned* are medians and limits of priors, from which published outcomes were "
        "[learned](../../evidence.md); simulations take them from the posterior.",
    ]
    if pictures:
        words = leukaemia_profile(pictures / "leukaemia.svg")
        parts.append(_picture("leukaemia.svg", words))
    for name in _LEUKAEMIA:
        card = read("leukaemia", name)
        parts += [f"## {plain(card['title'])}", f"Card `models/leukaemia/{name}.toml`."]
        parts.append(number_table(number_rows(card["parameters"])))
    for name in (name for name in card_names("leukaemia") if name in VARIANTS):
        card = read("leukaemia", name)
        where = f"Card `models/leukaemia/{name}.toml`: in place of those above where the structure "
        parts += [f"## {plain(card['title'])}", f"{where}is `{name}`."]
        parts.append(number_table(number_rows(card["parameters"])))
    parts.append("## Diseases")
    for name, row in read("leukaemia", "populations")["populations"].items():
        parts.append(f"### {plain(row.get('title', name))}")
        of = row.get("like", row.get("state_of"))
        like = f", like `{of}` where it says nothing" if of else ""
        parts.append(f"Disease `{name}`{like}.")
        rows = number_rows(row)
        parts += [number_table(rows)] if rows else []
    return "\n\n".join(parts) + "\n"


def write_library(folder: Path, pictures: bool = True) -> None:
    """Write the index of the library and all its pages, with simulated profiles or without."""
    drugs, marrow = card_names("drugs"), card_names("marrow")
    of_drugs, of_marrow = folder / "drugs", folder / "marrow"
    for place in (of_drugs, of_marrow):
        place.mkdir(parents=True, exist_ok=True)
    for name in drugs:
        (of_drugs / f"{name}.md").write_text(drug_page(name, of_drugs if pictures else None))
    for name in marrow:
        (of_marrow / f"{name}.md").write_text(marrow_page(name, of_marrow if pictures else None))
    (of_marrow / "leukaemia.md").write_text(leukaemia_page(of_marrow if pictures else None))
    (folder / "index.md").write_text(_index(drugs, marrow))


def _index(drugs: Iterable[str], marrow: Iterable[str]) -> str:
    known = [(f"`{status}`", words) for status, words in STATUS_WORDS.items()]
    rows = []
    for name in drugs:
        card, others = read("drugs", name), cards_of_drug(name)
        used = [card, *(read("pk", n) for n in others["pk"])]
        used += [read("effects", n) for n in others["effect"]]
        acts = card.get("leukaemia", {}).get("acts_by", "-").replace("_", " ")
        rows.append(
            (f"[{name.replace('_', ' ')}](drugs/{name}.md)", acts,
             ", ".join(f"`{n}`" for n in others["pk"]) or "-", *_counted(used))
        )  # fmt: skip
    lines = []
    for name in marrow:
        card = read("marrow", name)
        lines.append(
            (f"[{plain(card['title'])}](marrow/{name}.md)", card["line"],
             f"`{card['structure']}`", *_counted([card]))
        )  # fmt: skip
    leukaemia = [read("leukaemia", n) for n in (*_LEUKAEMIA, "populations")]
    lines.append(
        ("[the marrow with leukaemia](marrow/leukaemia.md)", "neutrophils, platelets, blasts",
         "own", *_counted(leukaemia))
    )  # fmt: skip
    menu = [f"drugs/{n}" for n in drugs] + ["marrow/leukaemia"] + [f"marrow/{n}" for n in marrow]
    parts = [
        _WIDE,
        "# Model library",
        "Every drug and every marrow of the package: equations, numbers with their sources, and a "
        "simulated profile. These pages are made from the cards in `models/` whenever the site is "
        "built. A number is known in one of these ways:",
        table(("status", "meaning"), known),
        "## Drugs",
        table(("drug", "acts by", "kinetics", "numbers", "of them assumed"), rows),
        "## Marrows",
        table(("marrow", "line", "structure", "numbers", "of them assumed"), lines),
        "```{toctree}\n:hidden:\n\n" + "\n".join(menu) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _counted(cards: list[Card]) -> tuple[str, str]:
    found = statuses(cards)
    return str(sum(found.values())), str(found.get("assumed", 0))


def _facts(card: Card, folder: str, name: str) -> str:
    facts = [f"Card `models/{folder}/{name}.toml`"]
    facts += [f"also called {', '.join(card['also'])}"] if "also" in card else []
    facts.append(f"routes {', '.join(card['routes'])}")
    rows = number_rows(card.get("parameters", {}))
    rows += number_rows({"usual_dose": card["usual_dose"]} if "usual_dose" in card else {})
    rows += number_rows({f"by_mouth.{k}": v for k, v in card.get("by_mouth", {}).items()})
    text = plain("; ".join(facts[1:]))
    shown = f"{facts[0]}; {text}."
    return f"{shown}\n\n{number_table(rows)}" if rows else shown


def _rank(place: int) -> str:
    return "used unless told otherwise" if place == 0 else "an alternative"


def _model(card: Card, folder: str, name: str, rank: str, level: int = 3) -> str:
    """Section of a kinetics, effect or marrow card."""
    structure = card["structure"]
    kind = {"effects": "effect"}.get(folder, folder)
    title = "Equations and numbers" if level == 2 else plain(card["title"])
    parts = [f"{'#' * level} {title}", _reference(card, folder, name, rank)]
    settings = card.get("settings", {})
    said = "; ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in settings.items())
    parts.append(f"Structure `{structure}`" + (f" ({said})." if said else "."))
    if EQUATIONS[structure]:
        parts += [_formula(upright(text)) for text in EQUATIONS[structure]]
        parts.append(SYMBOLS[kind])
    spreads = {**card.get("iiv", {}), **card.get("iov", {})}
    individuals = card.get("individual", {})
    if individuals:
        on = {n: row["default"] for n, row in card.get("options", {}).items()}
        said = ", with the options as they are unless told otherwise" if on else ""
        parts.append(f"Of patient *i*{said}:")
        parts += [_formula(relation(n, row, n in spreads, on)) for n, row in individuals.items()]
    rows = number_rows(card.get("parameters", {}))
    rows += spread_rows(card.get("iiv", {}), "between patients")
    rows += spread_rows(card.get("iov", {}), "between occasions")
    parts += [number_table(rows)] if rows else []
    parts += _said("Assumptions", card.get("assumptions", ()))
    options = [
        f"`{n}` ({'on' if row['default'] else 'off'} unless told otherwise): "
        + plain(row["description"])
        for n, row in card.get("options", {}).items()
    ]
    parts += _said("Options", options, written=True)
    others = [f"{k.replace('_', ' ')}: {v}" for k, v in card.get("disagreement", {}).items()]
    return "\n\n".join([*parts, *_said("What other sources say", others)])


def _action(row: Card) -> str:
    """Section on how a drug acts in the marrow with leukaemia."""
    acts = row["acts_by"]
    parts = [
        _ACTS[acts] + (f" Its driver is {_DRIVERS[row['driver']]}." if "driver" in row else "")
    ]
    if EQUATIONS[acts]:
        parts += [_formula(upright(text)) for text in EQUATIONS[acts]]
        parts.append(SYMBOLS["action"])
    together = {f"with {k}": v for k, v in row.get("together", {}).items()}
    rows = number_rows({**row, **together})
    parts += [number_table(rows)] if rows else []
    return "\n\n".join([*parts, *_said("Limits", row.get("limits", ()))])


def _reference(card: Card, folder: str, name: str, rank: str) -> str:
    reference = card["reference"]
    doi = reference.get("doi")
    link = f" [doi:{doi}](https://doi.org/{doi})." if doi else ""
    read_as = f" Read as: {plain(reference['read_as'])}." if "read_as" in reference else ""
    people = f" Population: {plain(reference['population'])}." if "population" in reference else ""
    head = f"Card `models/{folder}/{name}.toml`" + (f", {rank}" if rank else "")
    return f"{head}. {plain(reference['citation'])}.{link}{read_as}{people}"


def _formula(text: str) -> str:
    return f"$$\n{text}\n$$"


def _said(title: str, texts: Iterable[str], written: bool = False) -> list[str]:
    lines = [f"- {text if written else plain(text)}" for text in texts]
    return [f"**{title}**\n\n" + "\n".join(lines)] if lines else []


def _picture(file: str, words: str) -> str:
    return f"![{words}]({file})\n\n*{words}*"
