"""Cards of drugs: names, routes, usual dose, kinetics and effect, and action on a marrow.

A drug is known by its card's name or by one of its other names. Kinetics and effect serve the
marrow without leukaemia; the table ``[leukaemia]`` says how the drug acts in the one with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from pkpd.cards.contents import read_once
from pkpd.cards.diseases import diseases
from pkpd.cards.files import CardPath, card_folder, card_hash, card_names, find_card, nearest_of
from pkpd.cards.model_cards import check_part, read_part
from pkpd.cards.published_exposures import PublishedExposure, read_published_exposures
from pkpd.cards.relations import STATUSES, check_distribution, read_parameter, refuse
from pkpd.cards.renal_labels import RenalDose, read_renal_doses
from pkpd.cards.tables import Table, read_toml
from pkpd.errors import CardError
from pkpd.schedule.amounts import CELLS, DOSE_UNITS, SIZE_OF
from pkpd.schedule.rules import LINES
from pkpd.units import Parameter, normal_unit

#: As on other cards, and ``fitted`` (to landmarks, quickly) and ``memory`` (not seen in print).
LEUKAEMIA_STATUSES = ("read", "transcribed", "derived", "fitted", "assumed", "memory")

Counts = tuple[tuple[str, float], ...]
BODY_SURFACE_M2 = 1.8
BODY_WEIGHT_KG = 75.0
"""Size of the body with which doses of different units are compared."""

INTENSITY, NOTHING, GRAFT = "intensity", "nothing", "graft"
GROWTH_FACTOR, LONG_ACTING = "growth_factor", "long_acting_growth_factor"
SATURABLE_KILL, MATURATION_BLOCK = "saturable_kill", "maturation_block"
OF_BLASTS = {SATURABLE_KILL: "max_blasts", MATURATION_BLOCK: "kill_blasts"}
"""Number of an action of a concentration without which it kills no blasts."""
BY_LEVEL = (SATURABLE_KILL, MATURATION_BLOCK)
"""Actions of a concentration: `pkpd.marrow.actions.SaturableKill` and ``MaturationBlock``."""
ACTIONS = (INTENSITY, GROWTH_FACTOR, LONG_ACTING, GRAFT, NOTHING, *BY_LEVEL)
"""How a drug can act in the marrow with leukaemia."""
PLASMA, EFFECT_SITE = "plasma", "effect_site"

# of each action the numbers of a card: what it needs, what it may have, and what may differ between
# patients (``"<name>.sd"``)
_NUMBERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        INTENSITY: (
            ("intensity", "reference"),
            ("half_dose", "committed", "blasts", "injury", "platelet"),
            (),
        ),
        GRAFT: (("seeding",), (), ("seeding",)),
        SATURABLE_KILL: (
            ("max_stem", "ec50_stem"),
            ("max_committed", "ec50_committed", "platelet_ratio", "max_blasts", "hill"),
            ("max_blasts", "exposure"),
        ),
        MATURATION_BLOCK: (
            ("emax", "ec50"),
            (
                "platelet_ratio",
                "hill",
                "kill_stem",
                "kill_potency",
                "kill_hill",
                "slow_stem",
                "with_chemotherapy",
                "kill_blasts",
            ),
            ("ec50", "kill_blasts", "exposure"),
        ),
    }
)
_ABOVE_0 = ("reference", "ec50", "ec50_stem", "ec50_committed")
# units of numbers; "1" of all others
_UNITS = {
    **dict.fromkeys(("reference", "half_dose"), "mg/m^2"),
    **dict.fromkeys(_ABOVE_0[1:], "umol/L"),
    **dict.fromkeys(
        ("max_stem", "max_committed", "max_blasts", "kill_stem", "kill_blasts"), "1/day"
    ),
}
_DISTRIBUTIONS = ("lognormal", "normal", "logit")


@dataclass(frozen=True)
class LeukaemiaAction:
    """How a drug acts in the marrow with leukaemia.

    Attributes
    ----------
    acts_by
        One of :data:`ACTIONS`.
    parameters
        Numbers of the action by their short names, such as ``intensity`` or ``ec50_stem``; the
        spread between patients of one ends in ``.sd``.
    driver
        Of an action of a concentration: ``plasma`` or ``effect_site``.
    together
        Factors of this drug's potency where another drug is given too, in any course; the parameter
        of drug ``x`` is named ``with_x``.
    limits
        What of the drug this marrow does not have, for reports.
    words
        Parameter -> its name for readers.
    """

    acts_by: str
    parameters: tuple[Parameter, ...] = ()
    driver: str = ""
    together: tuple[tuple[str, Parameter], ...] = ()
    limits: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()

    @property
    def by_level(self) -> bool:
        """Whether it acts by a concentration."""
        return self.acts_by in BY_LEVEL

    @property
    def numbers(self) -> tuple[Parameter, ...]:
        """All its parameters, those of other drugs given with it included."""
        return (*self.parameters, *(p for _, p in self.together))

    def number(self, name: str) -> Parameter | None:
        """Parameter of the drug by its name, such as ``intensity``."""
        return next((p for p in self.parameters if p.name == name), None)


@dataclass(frozen=True)
class ByMouth:
    """What becomes of a dose by mouth of a drug whose kinetics are those of a vein."""

    bioavailability: Parameter
    absorption_half_life: Parameter


@dataclass(frozen=True)
class UsualDose:
    """Largest customary single dose, in one of :data:`DOSE_UNITS`."""

    value: float
    unit: str
    source: str
    status: str

    def times(self, amount: float, unit: str) -> float:
        """How many times the usual dose an amount is, in an adult of 1.8 m^2 and 75 kg."""
        return amount * _mg(unit) / (self.value * _mg(self.unit))


@dataclass(frozen=True)
class Holds:
    """When doses of several cycles are held and reduced, in trials that print no rule of their own.

    Attributes
    ----------
    below, resume_at
        Line and count in 10^9/L below which doses are held, and at which they go on.
    below_in
        Disease, and the counts there, all 0 where no dose is held.
    levels_mg
        Doses, the largest first; a dose that was held goes on at the next lower one.
    source, status
        Where they are from.
    """

    below: Counts
    resume_at: Counts
    below_in: tuple[tuple[str, Counts], ...]
    levels_mg: tuple[float, ...]
    source: str
    status: str

    def below_for(self, diseases: Sequence[str]) -> Counts:
        """Give the counts of the nearest of a disease and those it is like."""
        own = dict(self.below_in)
        return next((own[disease] for disease in diseases if disease in own), self.below)


@dataclass(frozen=True)
class DrugCard:
    """A drug: names, routes, dosing unit, usual dose, and the cards used unless told otherwise.

    ``pk`` and ``effect`` are names of cards, or files (beside the drug's own), or empty; the molar
    mass (g/mol) is there if they are. ``supportive`` drugs (growth factors, antiemetics, placebo)
    are no treatment: no clock counts their doses. ``renal_doses`` is what the label says of
    kidneys, ``path`` the card's file.
    """

    name: str
    title: str
    molar_mass: Parameter | None
    routes: tuple[str, ...]
    dose_unit: str
    pk: str = ""
    effect: str = ""
    also: tuple[str, ...] = ()
    usual_dose: UsualDose | None = None
    leukaemia: LeukaemiaAction | None = None
    by_mouth: ByMouth | None = None
    holds: Holds | None = None
    supportive: bool = False
    renal_doses: tuple[RenalDose, ...] = ()
    exposures: tuple[PublishedExposure, ...] = ()
    path: str = ""
    sha256: str = ""

    @property
    def shipped(self) -> bool:
        """Whether it is a card of this package, not a user's file."""
        return self.path == str(card_folder("drugs") / f"{self.name}.toml")


def drug_names() -> Mapping[str, str]:
    """Every name of a shipped drug, folded to lower case -> the name of its card."""
    return _names_of(str(card_folder("drugs")))


def drug_named(text: str) -> str:
    """Name of the shipped card of a drug, by that name or another name of the drug.

    Raises
    ------
    CardError
        If there is no such drug; the message gives the nearest and all names.
    """
    names = drug_names()
    found = names.get(text.strip().casefold())
    if found is None:
        raise CardError(
            where="drugs",
            what=f"there is no card for drug {text!r}{nearest_of(text, names)}",
            allowed=", ".join(card_names("drugs")) or "none",
            remedy="correct the name, or name the file of your own drug card",
        )
    return found


def growth_factors() -> frozenset[str]:
    """Names of the shipped drugs that are growth factors given day by day."""
    return _growth_factors(str(card_folder("drugs")))


def load_drug_card(name: str) -> DrugCard:
    """Read a drug card by a name of the drug, or from a file."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return _own(find_card("drugs", name))
    return _shipped(str(find_card("drugs", drug_named(name))))


def is_supportive(drug: str, card: str = "") -> bool:
    """Whether a drug's card, a file or the shipped one, says that it is no treatment."""
    name = card or drug_names().get(drug.strip().casefold())
    return name is not None and load_drug_card(name).supportive


def read_drug_card(path: CardPath | str) -> DrugCard:
    """Read a drug card.

    Raises
    ------
    CardError
        One sentence naming file, table, key and remedy; also if a card that it names cannot be
        read.
    """
    table = read_toml(path)
    table.one_of("kind", ("drug",))
    name = table.text("name")
    if name != Path(str(path)).stem:
        refuse(table, "name", f"'{name}' differs from the file name '{Path(str(path)).stem}'")
    pk, effect = read_part(table, "pk", "pk", path), read_part(table, "effect", "effects", path)
    if bool(pk) != bool(effect):
        missing = "effect" if pk else "pk"
        refuse(table, missing, "is missing", remedy="give pk and effect, or neither")
    if pk and str(path) != str(card_folder("drugs") / f"{name}.toml"):
        check_part(table, "pk", "pk", pk, name)
        check_part(table, "effect", "effects", effect, name)
    card = DrugCard(
        name=name,
        title=table.text("title"),
        molar_mass=_molar_mass(table, needed=bool(pk)),
        routes=table.texts("routes"),
        dose_unit=table.one_of("dose_unit", DOSE_UNITS),
        pk=pk,
        effect=effect,
        also=table.texts("also", ()),
        usual_dose=_usual_dose(table),
        leukaemia=_leukaemia(table, name, with_kinetics=bool(pk)),
        by_mouth=_by_mouth(table),
        holds=_holds(table),
        supportive=table.boolean("supportive", False),
        renal_doses=read_renal_doses(table),
        exposures=read_published_exposures(table),
        path=str(path),
        sha256=card_hash(path),
    )
    table.text("note", "")
    table.done()
    if not (card.pk or card.leukaemia):
        refuse(
            table,
            None,
            "says neither what the drug does to a marrow without leukaemia nor to one with",
            remedy="add pk and effect, or a table [leukaemia]",
        )
    return card


def read_number(row: Table, name: str) -> Parameter:
    """Read a parameter of the marrow with leukaemia: ``{ value = ..., unit = ..., ... }``."""
    limits = row.numbers("range", None, length=2)
    value = row.number("value")
    if limits is not None and not limits[0] <= value <= limits[1]:
        row.refuse("range", f"{value:g} lies outside of its range", allowed="around the value")
    fallback = "lognormal" if limits and limits[0] > 0.0 else "fixed" if not limits else "normal"
    distribution = row.one_of("distribution", _DISTRIBUTIONS, fallback)
    check_distribution(row, distribution, limits)
    return Parameter(
        name=name,
        value=value,
        unit=row.text("unit"),
        interval=limits,
        distribution=distribution,
        source=row.text("source"),
        status=row.one_of("status", LEUKAEMIA_STATUSES),
        note=row.text("note", default=""),
        learned=row.boolean("learned", False),
    )


def read_words(table: Table) -> tuple[tuple[str, str], ...]:
    """Read ``[words]``: names of parameters for readers."""
    words = table.table("words", None)
    return () if words is None else tuple((key, words.text(key)) for key in words.data)


# -- parts of a card ---------------------------------------------------------------------------


def _molar_mass(table: Table, needed: bool) -> Parameter | None:
    rows = table.named_tables("parameters", {})
    numbers = {key: read_parameter(row, key) for key, row in rows.items()}
    for key in numbers:
        if key != "molar_mass":
            refuse(table, f"parameters.{key}", "unknown key", "molar_mass")
    if needed and not numbers:
        refuse(table, "parameters.molar_mass", "is missing", remedy="add it, in g/mol")
    return numbers.get("molar_mass")


def _usual_dose(table: Table) -> UsualDose | None:
    row = table.table("usual_dose", None)
    if row is None:
        return None
    return UsualDose(
        row.number("value", above=0.0),
        row.one_of("unit", DOSE_UNITS),
        row.text("source"),
        row.one_of("status", STATUSES),
    )


def _by_mouth(table: Table) -> ByMouth | None:
    row = table.table("by_mouth", None)
    if row is None:
        return None
    units = {"bioavailability": "1", "absorption_half_life": "h"}
    share, half_life = (_number(row, key, key, unit) for key, unit in units.items())
    if not 0.0 < share.value <= 1.0:
        refuse(row, "bioavailability", f"is {share.value:g}", "above 0, at most 1")
    if half_life.value <= 0.0:
        refuse(row, "absorption_half_life", "is not a time above 0", "above 0 h")
    return ByMouth(share, half_life)


def _holds(table: Table) -> Holds | None:
    row = table.table("holds", None)
    if row is None:
        return None
    below_in = row.named_tables("below_in", {})
    for name in (name for name in below_in if name not in diseases()):
        what = f"there is no such disease{nearest_of(name, diseases())}"
        refuse(below_in[name], None, what, allowed=", ".join(diseases()))
    levels = row.numbers("levels_mg", above=0.0)
    if list(levels) != sorted(set(levels), reverse=True):
        refuse(row, "levels_mg", "is not in order", allowed="the largest first, each once")
    return Holds(
        _counts(row.table("below")),
        _counts(row.table("resume_at")),
        tuple((disease, _counts(one, above=None)) for disease, one in below_in.items()),
        levels,
        row.text("source"),
        row.one_of("status", LEUKAEMIA_STATUSES),
    )


def _counts(row: Table, *, above: float | None = 0.0) -> Counts:
    return tuple((line, row.number(line, minimum=0.0, above=above)) for line in LINES)


def _leukaemia(table: Table, drug: str, with_kinetics: bool) -> LeukaemiaAction | None:
    row = table.table("leukaemia", None)
    if row is None:
        return None
    acts_by = row.one_of("acts_by", ACTIONS)
    parameters = _numbers(row, drug, acts_by)
    is_graft = table.data.get("dose_unit") == CELLS
    if is_graft != (acts_by == GRAFT):
        what = f"acts by {acts_by}, and the drug is dosed in {table.data.get('dose_unit')}"
        refuse(row, "acts_by", what, remedy=f"{GRAFT} belongs to cells, in {CELLS}")
    driver = ""
    if acts_by in BY_LEVEL:
        driver = row.one_of("driver", (PLASMA, EFFECT_SITE))
        if not with_kinetics:
            refuse(row, "acts_by", "is an action of a concentration", remedy="add pk and effect")
    together = ()
    if "together" in row:
        other = row.table("together")
        together = tuple((key, _number(other, key, f"with_{key}")) for key in other.data)
        for key in other.data:  # others are of drug cards of one's own, some with names alike
            near = nearest_of(drug_names().get(key.casefold(), key), card_names("drugs"), 0.9)
            if near and not key.startswith(card_names("drugs")):
                refuse(other, key, f"is no drug card{near}")
        if acts_by not in BY_LEVEL:
            refuse(row, "together", "belongs to a drug that acts by a concentration")
    limits = row.texts("limits", ())
    return LeukaemiaAction(acts_by, parameters, driver, together, limits, read_words(row))


def _numbers(row: Table, drug: str, acts_by: str) -> tuple[Parameter, ...]:
    """Read the numbers of an action."""
    needed, may, differ = _NUMBERS.get(acts_by, ((), (), ()))
    names = (*needed, *may, *(f"{name}.sd" for name in differ))
    every = dict.fromkeys(
        name for n, m, d in _NUMBERS.values() for name in (*n, *m, *(f"{x}.sd" for x in d))
    )
    for name in every:
        if name in row and name not in names:
            refuse(row, name, f"has no meaning for a drug that acts by {acts_by}", remedy="remove")
    for name in needed:
        if name not in row:
            near = nearest_of(name, [key for key in row.data if key not in every], cutoff=0.65)
            hint = near.replace("did you mean", "is it written as")
            mend = f"rename it to {name}" if near else "add it"
            refuse(row, name, f"is missing{hint}", remedy=f"{mend}, or change acts_by of {drug}")
    return tuple(_number(row, name, name) for name in names if name in row)


def _number(row: Table, key: str, name: str, unit: str = "") -> Parameter:
    """Read a number of an action, or of absorption, in the unit that it is used in."""
    one, unit = row.table(key), unit or _UNITS.get(name, "1")
    found = read_number(one, name)
    with one.at("unit"):
        written = normal_unit(found.unit)
    if written != unit or found.value < 0.0 or (found.value == 0.0 and name in _ABOVE_0):
        allowed = f"above 0 {unit}" if name in _ABOVE_0 else f"0 {unit} or more"
        refuse(row, key, f"is {found.value:g} {found.unit}", allowed)
    return replace(found, unit=unit)


def _mg(unit: str) -> float:
    """Milligrams of one unit of dose in an adult."""
    return {"": 1.0, "surface": BODY_SURFACE_M2, "weight": BODY_WEIGHT_KG}[SIZE_OF[unit]]


_own = read_once(read_drug_card)


@lru_cache(maxsize=256)
def _shipped(path: str) -> DrugCard:
    return read_drug_card(path)


@lru_cache(maxsize=8)
def _growth_factors(folder: str) -> frozenset[str]:
    cards = (load_drug_card(name) for name in card_names("drugs"))
    return frozenset(c.name for c in cards if c.leukaemia and c.leukaemia.acts_by == GROWTH_FACTOR)


@lru_cache(maxsize=8)
def _names_of(folder: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in card_names("drugs"):
        table = read_toml(card_folder("drugs") / f"{name}.toml")
        for text in (name, *table.texts("also", ())):
            other = found.setdefault(text.casefold(), name)
            if other != name:
                table.refuse("also", f"{text!r} is a name of {other} too", remedy="remove one")
    return MappingProxyType(found)


def named(parameter: Parameter, drug: str) -> Parameter:
    """Parameter of a drug's card with its full name, such as ``intensity.etoposide``."""
    return replace(parameter, name=f"{parameter.name}.{drug}")
