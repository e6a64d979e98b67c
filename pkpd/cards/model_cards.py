"""Cards of drugs, pharmacokinetics, effects and marrow, and the joint card that combines them.

A pharmacokinetic, effect or marrow card names a structure and says how each individual parameter
of it is made from numbers of the card, covariates and normal scores:

    individual = (sum of terms) x (covariate effects) x exp(SD x score)

Every number carries its unit, interval, source and status.  ``models/SCHEMA.md`` lists the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pkpd.cards.card_units import check_units
from pkpd.cards.contents import read_once
from pkpd.cards.files import (
    CardPath,
    card_hash,
    card_names,
    find_card,
    nearest_of,
)
from pkpd.cards.relations import (
    Individual,
    Names,
    Option,
    RelationTerm,
    Variability,
    as_used,
    read_correlations,
    read_individual,
    read_parameter,
    read_variability,
    refuse,
    unit_of,
)
from pkpd.cards.tables import Table, read_toml
from pkpd.units import Parameter

LINES = ("neutrophils", "platelets", "wbc")
FEEDBACK_RULES = ("kept", "off", "capped")

_DRUG_LINES = ("neutrophils", "platelets")
#: Kind of card -> structure -> individual parameters the structure needs.
STRUCTURES: dict[str, dict[str, tuple[str, ...]]] = {
    "pk": {
        "iv_1cmt": ("CL", "V1"),
        "iv_2cmt": ("CL", "V1", "Q", "V2"),
        "oral_first_order_1cmt": ("CL", "V1", "ka"),
        "oral_first_order_2cmt": ("CL", "V1", "Q", "V2", "ka"),
        "oral_transit_1cmt": ("CL", "V1", "KTR"),
        "oral_transit_2cmt": ("CL", "V1", "Q", "V2", "KTR"),
        "iv_2cmt_michaelis_menten": ("Vmax", "Km", "V1", "Q", "V2"),
    },
    "effect": {
        "triphosphate_emax": (
            *("k_in", "k_out"),
            *(f"{p}_{line}" for line in _DRUG_LINES for p in ("Emax", "EC50")),
        ),
        "triphosphate_linear": ("k_in", "k_out", *(f"slope_{line}" for line in _DRUG_LINES)),
        "plasma_linear": tuple(f"slope_{line}" for line in _DRUG_LINES),
        "kill": tuple(f"ln_kill_{line}" for line in _DRUG_LINES),
        "none": (),
    },
    "marrow": {
        "friberg": ("MTT", "gamma", "k_circ"),
        "platelet_chain": ("MTT", "gamma", "ks"),
        "stem_cell": ("MTT", "gamma", "ftr", "k_circ"),
        "gcsf": ("MTT", "gamma", "beta", "k_circ", "ke", "k_anc", "g0"),
    },
}

#: Structure -> settings (plain numbers, not parameters) it needs.
SETTINGS: dict[str, tuple[str, ...]] = {
    "oral_transit_1cmt": ("transits",),
    "oral_transit_2cmt": ("transits",),
    "kill": ("reference_dose_mg_m2", "spread_h"),
    "friberg": ("transits", "saturation"),
    "platelet_chain": ("transits", "ageing", "saturation"),
    "stem_cell": ("transits", "saturation"),
    "gcsf": ("transits",),
}


#: Where the count at time 0 comes from -> individual parameters this needs.  A covariate of the
#: patient has a set point between it and the patient's normal count; ``circ0`` is both.
BASELINES: dict[str, tuple[str, ...]] = {
    "anc": ("normal", "normal_upper"),
    "plt": ("normal", "normal_upper"),
    "wbc": ("normal", "normal_upper"),
    "circ0": ("circ0",),
}


@dataclass(frozen=True)
class ModelCard:
    """A pharmacokinetic (``pk``), effect (``effect``) or marrow (``marrow``) card.

    ``subject`` is the drug of a pk or effect card ("" if it serves several) or the line of a
    marrow card.  Names inside are those of the card, without namespace.
    """

    kind: str
    name: str
    title: str
    subject: str
    structure: str
    citation: str
    doi: str
    parameters: tuple[Parameter, ...] = ()
    individuals: tuple[Individual, ...] = ()
    iiv: tuple[Variability, ...] = ()
    iov: tuple[Variability, ...] = ()
    correlations: tuple[tuple[str, str, float], ...] = ()
    options: tuple[Option, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()
    renal_function: tuple[float, float, float] | None = None
    baseline: str = ""
    assumptions: tuple[str, ...] = ()
    disagreement: tuple[tuple[str, str], ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class JointCard:
    """Which cards are used together.

    ``drugs`` holds ``(drug, pk card, effect card)``, ``marrow`` holds ``(line, marrow card)``.
    """

    name: str
    title: str
    drugs: tuple[tuple[str, str, str], ...]
    marrow: tuple[tuple[str, str], ...]
    feedback_when_kill_exceeds: str
    assumptions: tuple[str, ...] = ()
    sha256: str = ""


# -- reading -----------------------------------------------------------------------------------


def read_model_card(path: CardPath | str) -> ModelCard:
    """Read a pharmacokinetic, effect or marrow card.

    Raises
    ------
    CardError
        One sentence naming file, table, key and remedy.
    """
    table = read_toml(path)
    kind = table.one_of("kind", tuple(STRUCTURES))
    name = _name(table, path)
    structure = table.one_of("structure", tuple(STRUCTURES[kind]))
    subject = table.text("drug", "") if kind != "marrow" else table.one_of("line", LINES)
    if kind == "pk" and not subject:
        refuse(table, "drug", "is missing", remedy="name the drug")
    reference = table.table("reference")
    citation, doi = reference.text("citation"), reference.text("doi", "")
    for key in ("pmid", "url", "read_as", "population"):
        reference.text(key, "")
    parameters = tuple(
        read_parameter(row, key) for key, row in table.named_tables("parameters", {}).items()
    )
    options = tuple(
        Option(
            k,
            row.boolean("default"),
            row.text("description"),
            row.texts("replaces", ()),
            row.text("assumes", ""),
        )
        for k, row in table.named_tables("options", {}).items()
    )
    names = Names(
        {p.name for p in parameters}, {o.name for o in options}, "renal_function" in table
    )
    written = table.named_tables("individual", {})
    baseline = ""
    needed = dict.fromkeys(STRUCTURES[kind][structure])
    if kind == "marrow":
        baseline = table.one_of("baseline", tuple(BASELINES))
        needed |= dict.fromkeys(BASELINES[baseline])
    needed |= dict.fromkeys(written)
    individuals: list[Individual] = []
    for key in _in_order(needed, written):
        if key in written:
            individuals.append(read_individual(written[key], key, names))
        elif key in names.parameters:
            unit = unit_of(key, next(p.unit for p in parameters if p.name == key))
            individuals.append(Individual(key, unit, (RelationTerm(key),)))
        else:
            refuse(
                table,
                f"parameters.{key}",
                f"structure '{structure}' needs '{key}', which is not given",
                remedy=f"add [parameters.{key}] or [individual.{key}]",
            )
        names.individuals.add(key)
    iiv = read_variability(table, "iiv", names)
    card = ModelCard(
        kind=kind,
        name=name,
        title=table.text("title"),
        subject=subject,
        structure=structure,
        citation=citation,
        doi=doi,
        parameters=as_used(table, parameters, individuals),
        individuals=tuple(individuals),
        iiv=iiv,
        iov=read_variability(table, "iov", names),
        correlations=read_correlations(table, iiv),
        options=options,
        settings=_settings(table, structure),
        renal_function=_renal_function(table),
        baseline=baseline,
        assumptions=table.texts("assumptions", ()),
        disagreement=_texts(table.table("disagreement", None)),
        sha256=card_hash(path),
    )
    table.done()
    _check_used(table, card)
    check_units(table, card.parameters, individuals)
    return card


def read_joint_card(path: CardPath | str) -> JointCard:
    """Read a joint card; raises CardError as `read_model_card` does."""
    table = read_toml(path)
    table.one_of("kind", ("joint",))
    drugs = []
    for drug, row in table.named_tables("drugs").items():
        if drug not in card_names("drugs"):
            refuse(
                table,
                f"drugs.{drug}",
                f"there is no such drug card{nearest_of(drug, card_names('drugs'))}",
                allowed=", ".join(card_names("drugs")),
            )
        drugs.append((drug, _existing(row, "pk", "pk"), _existing(row, "effect", "effects")))
    marrow = table.table("marrow")
    card = JointCard(
        name=_name(table, path),
        title=table.text("title"),
        drugs=tuple(drugs),
        marrow=tuple(
            (line, _existing(marrow, line, "marrow")) for line in LINES if line in marrow.data
        ),
        feedback_when_kill_exceeds=marrow.one_of("feedback_when_kill_exceeds", FEEDBACK_RULES),
        assumptions=table.texts("assumptions", ()),
        sha256=card_hash(path),
    )
    table.done()
    return card


def load_model_card(folder: str, name: str) -> ModelCard:
    """Read the card ``name`` (or a file of the user) of the folder pk, effects or marrow."""
    path = find_card(folder, name)
    card = _model_card(path)
    wanted = {"effects": "effect"}.get(folder, folder)
    if card.kind != wanted:
        table = read_toml(path)
        refuse(table, "kind", f"is '{card.kind}'", allowed=wanted, remedy="name another card")
    return card


OWN_COPY = 'copy it to a file of your own that says drug = "{}", and name that file'
"""What to do about a pk or effect card of another drug."""


def of_another(card: ModelCard, drug: str) -> str:
    """Say that a pk or effect card is one of another drug; empty if not."""
    return "" if card.subject in ("", drug) else f"is of {card.subject}, not {drug}"


def read_part(table: Table, key: str, folder: str, path: CardPath | str) -> str:
    """Name of a shipped pk or effect card, or the file beside a drug's card that names it.

    Raises
    ------
    CardError
        If there is no such card, or it cannot be read.
    """
    name = table.text(key, "")
    if not name:
        return ""
    if not name.endswith(".toml"):
        known = card_names(folder)
        if name not in known:
            what = f"there is no card '{name}' in {folder}{nearest_of(name, known)}"
            remedy = "or name a .toml file beside this card"
            refuse(table, key, what, allowed=", ".join(known), remedy=remedy)
        return name
    file = str(Path(str(path)).parent / name)
    with table.at(key):
        load_model_card(folder, file)
    return file


def check_part(table: Table, key: str, folder: str, part: str, drug: str) -> None:
    """Refuse a pk or effect card of another drug."""
    card = load_model_card(folder, part)
    if what := of_another(card, drug):
        refuse(table, key, f"card '{card.name}' {what}", remedy=OWN_COPY.format(drug))


def load_joint_card(name: str) -> JointCard:
    """Read the joint card ``name``."""
    return _joint_card(find_card("joint", name))


_model_card, _joint_card = read_once(read_model_card), read_once(read_joint_card)


# -- parts of a card ---------------------------------------------------------------------------


def _name(table: Table, path: CardPath | str) -> str:
    name = table.text("name")
    stem = Path(str(path)).stem
    if name != stem:
        refuse(table, "name", f"'{name}' differs from the file name '{stem}'")
    return name


def _existing(table: Table, key: str, folder: str) -> str:
    name = table.text(key)
    if not name.endswith(".toml") and name not in card_names(folder):
        refuse(
            table,
            key,
            f"there is no card '{name}' in {folder}{nearest_of(name, card_names(folder))}",
            allowed=", ".join(card_names(folder)),
        )
    return name


def _in_order(needed: dict[str, None], written: dict[str, Table]) -> list[str]:
    """Individuals as written, the plain ones first: a relation may use the ones before it."""
    return [k for k in needed if k not in written] + list(written)


def _settings(table: Table, structure: str) -> tuple[tuple[str, float], ...]:
    wanted = SETTINGS.get(structure, ())
    rows = table.table("settings") if wanted else table
    whole = ("transits", "ageing")

    def read(key: str) -> float:
        if key in whole:
            return float(rows.integer(key, minimum=0))
        divides = key == "reference_dose_mg_m2"
        return rows.number(key, above=0.0) if divides else rows.number(key, minimum=0)

    return tuple((key, read(key)) for key in wanted)


def _renal_function(table: Table) -> tuple[float, float, float] | None:
    row = table.table("renal_function", None)
    if row is None:
        return None
    keys = ("cap_mL_min_173", "per_L_h", "weight_kg")
    return tuple(row.number(key, above=0.0) for key in keys)  # type: ignore[return-value]


def _texts(table: Table | None) -> tuple[tuple[str, str], ...]:
    return () if table is None else tuple((key, table.text(key)) for key in table.data)


def _check_used(table: Table, card: ModelCard) -> None:
    """Refuse a parameter that no relation uses: a number without effect misleads the reader."""
    used: set[str] = set()
    for individual in card.individuals:
        for term in individual.terms:
            used |= {term.parameter, *term.times, *term.divided_by}
        for effect in individual.effects:
            used |= {effect.parameter, str(effect.exponent)}
    for parameter in card.parameters:
        if parameter.name not in used:
            refuse(
                table,
                f"parameters.{parameter.name}",
                "no individual parameter uses it",
                remedy="use it in [individual.*], or move the number to a note",
            )
