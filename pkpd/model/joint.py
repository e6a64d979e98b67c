"""The joint model: drugs with pharmacokinetics and effects, and the marrow lines they act on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pkpd.cards.drug_cards import DrugCard, growth_factors, load_drug_card
from pkpd.cards.files import nearest_of
from pkpd.cards.model_cards import (
    FEEDBACK_RULES,
    OWN_COPY,
    ModelCard,
    load_joint_card,
    load_model_card,
    of_another,
)
from pkpd.errors import CardError
from pkpd.kept_values import Kept
from pkpd.model.parameters import used_parameters
from pkpd.subjects import Population
from pkpd.units import Parameter

#: Effect structure -> (what drives the effect, shape of the effect).
EFFECT_FORMS: dict[str, tuple[str, str]] = {
    "triphosphate_emax": ("effect_site", "emax"),
    "triphosphate_linear": ("effect_site", "linear"),
    "plasma_linear": ("plasma", "linear"),
    "kill": ("dose", "kill"),
    "none": ("none", "none"),
}


@dataclass(frozen=True)
class DrugModel:
    """A drug of a joint model: its card, its pharmacokinetics and its effect."""

    card: DrugCard
    pk: ModelCard
    effect: ModelCard

    @property
    def name(self) -> str:
        """Name of the drug."""
        return self.card.name

    @property
    def per_umol(self) -> float:
        """Micromoles in one mg: 1000 / molar mass."""
        assert self.card.molar_mass is not None  # a card with kinetics has one
        return 1000.0 / self.card.molar_mass.value

    @property
    def driver(self) -> str:
        """What drives the effect: ``effect_site``, ``plasma``, ``dose`` or ``none``."""
        return EFFECT_FORMS[self.effect.structure][0]

    @property
    def shape(self) -> str:
        """Shape of the effect: ``emax``, ``linear``, ``kill`` or ``none``."""
        return EFFECT_FORMS[self.effect.structure][1]

    @property
    def transits(self) -> int:
        """Transit compartments of absorption; 0 if the structure has none."""
        return int(dict(self.pk.settings).get("transits", 0))

    @property
    def kill_reference_mg_m2(self) -> float:
        """Dose that kills by ``ln_kill``, of a drug with a lumped kill."""
        return dict(self.effect.settings)["reference_dose_mg_m2"]

    @property
    def kill_spread_h(self) -> float:
        """Hours over which a lumped kill is spread evenly: those of the day of its dose."""
        return dict(self.effect.settings)["spread_h"]


@dataclass(frozen=True)
class JointModel:
    """Everything that is fixed about a model: cards, options, and the parameters in use.

    Attributes
    ----------
    name
        Name of the joint card.
    drugs, marrow
        The drugs, and one marrow card for each line.
    options
        ``("<drug or line>.<option>", on)`` of every card.
    feedback_when_kill_exceeds
        ``kept``, ``off`` or ``capped``: see `pkpd.marrow.friberg.FeedbackRule`.
    parameters
        Parameters that the relations in use have, with namespaced names.
    assumptions
        Short sentences of the joint card and of every card in use.
    sha256
        Of the joint card.
    """

    name: str
    drugs: tuple[DrugModel, ...]
    marrow: tuple[ModelCard, ...]
    options: tuple[tuple[str, bool], ...]
    feedback_when_kill_exceeds: str
    parameters: tuple[Parameter, ...]
    assumptions: tuple[str, ...]
    sha256: str = ""

    @property
    def cards(self) -> tuple[tuple[str, ModelCard], ...]:
        """Cards with parameters and their namespaces: drug, ``<drug>.effect``, line."""
        return (
            *((drug.name, drug.pk) for drug in self.drugs),
            *((f"{drug.name}.effect", drug.effect) for drug in self.drugs),
            *((card.subject, card) for card in self.marrow),
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the marrow lines."""
        return tuple(card.subject for card in self.marrow)

    def is_growth_factor(self, name: str) -> bool:
        """Whether a drug that the model lacks is a growth factor given day by day, by its card."""
        return name not in [drug.name for drug in self.drugs] and name in growth_factors()

    def drug(self, name: str) -> DrugModel:
        """Return the drug of this name.

        Raises
        ------
        CardError
            If the model has no such drug.
        """
        names = [drug.name for drug in self.drugs]
        if name not in names:
            _refuse(self.name, f"has no drug '{name}'{nearest_of(name, names)}", names)
        return self.drugs[names.index(name)]

    def line(self, name: str) -> ModelCard:
        """Return the marrow card of this line."""
        if name not in self.lines:
            _refuse(self.name, f"has no line '{name}'{nearest_of(name, self.lines)}", self.lines)
        return self.marrow[self.lines.index(name)]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every card in use, by ``<kind>/<name>``."""
        found = {f"drugs/{drug.name}": drug.card.sha256 for drug in self.drugs}
        found |= {f"{card.kind}/{card.name}": card.sha256 for _, card in self.cards}
        return found | {f"joint/{self.name}": self.sha256}


def load_model(
    joint_name: str = "default",
    *,
    drugs: Sequence[str] | None = None,
    options: Mapping[str, bool | str] | None = None,
    replace: Mapping[str, str] | None = None,
    drug_cards: Mapping[str, str] | None = None,
    lines: bool = True,
    other_options: bool = False,
) -> JointModel:
    """Load a joint model from its cards.

    Parameters
    ----------
    joint_name
        Name of a joint card, or the path of one.
    drugs
        Drugs to keep (default: all of the joint card); any drug with a card may be named.
    options
        ``{"clofarabine.renal_label": True}``; the short name of an option will do if only one
        card has it.  ``{"feedback_when_kill_exceeds": "off"}`` changes the feedback rule.
    replace
        Other cards: ``{"lenalidomide.pk": "liang2024_lenalidomide"}``, ``"<drug>.effect"``,
        or ``{"neutrophils": "friberg_solid"}`` for a line.
    drug_cards
        Drug -> file of a card that acts in place of the shipped one.
    lines
        Whether the model has the marrow lines of the joint card; without them it is kinetics and
        effects alone.
    other_options
        Whether options may be given that only other models have; they are left out.

    Raises
    ------
    CardError
        If a card, drug, line or option does not exist, or two options exclude each other.

    Examples
    --------
    >>> load_model(drugs=["lenalidomide"]).lines
    ('neutrophils', 'platelets')
    """
    joint = load_joint_card(joint_name)
    chosen = {drug: (pk, effect) for drug, pk, effect in joint.drugs}
    replace = dict(replace or {})
    models = []
    for name in dict.fromkeys(chosen if drugs is None else drugs):
        card = load_drug_card((drug_cards or {}).get(name, name))
        name = card.name
        if name in [model.name for model in models]:  # in other capitals
            continue
        if not card.pk:
            _refuse(f"drug '{name}'", "has no pk and effect, which this marrow needs")
        pk_name, effect_name = card.pk, card.effect
        if card.shipped:
            pk_name, effect_name = chosen.get(name, (pk_name, effect_name))
        pk = load_model_card("pk", replace.pop(f"{name}.pk", pk_name))
        effect = load_model_card("effects", replace.pop(f"{name}.effect", effect_name))
        for part in (pk, effect):
            if what := of_another(part, name):
                raise CardError(
                    where=f"{part.kind} card '{part.name}'", what=what, remedy=OWN_COPY.format(name)
                )
        models.append(DrugModel(card, pk, effect))
    marrow = []
    for line, card_name in joint.marrow if lines else ():
        card = load_model_card("marrow", replace.pop(line, card_name))
        if card.subject != line:
            _refuse(f"marrow card '{card.name}'", f"is of {card.subject}, not {line}")
        marrow.append(card)
    if replace:
        known = [f"{m.name}.{part}" for m in models for part in ("pk", "effect")]
        known += [line for line, _ in joint.marrow]
        key = next(iter(replace))
        _refuse("replace", f"'{key}' is not part of the model{nearest_of(key, known)}", known)
    loaded = JointModel(
        name=joint.name,
        drugs=tuple(models),
        marrow=tuple(marrow),
        options=(),
        feedback_when_kill_exceeds=joint.feedback_when_kill_exceeds,
        parameters=(),
        assumptions=joint.assumptions,
        sha256=joint.sha256,
    )
    asked = dict(options or {})
    files = (*((drug.name, drug.card.path) for drug in models), *loaded.hashes().items())
    made_from = (files, tuple(sorted((k, repr(v)) for k, v in asked.items())), other_options)
    return _ASSEMBLED.of(made_from, lambda: _assemble(loaded, asked, other_options))


_ASSEMBLED: Kept[JointModel] = Kept(64)
"""Models of the same cards and options, which a page of sliders asks for again and again."""


def _assemble(model: JointModel, options: dict[str, bool | str], other_options: bool) -> JointModel:
    """Apply the options: keep what is in use of every card, and list its parameters."""
    rule = options.pop("feedback_when_kill_exceeds", model.feedback_when_kill_exceeds)
    if rule not in FEEDBACK_RULES:
        _refuse("option feedback_when_kill_exceeds", f"'{rule}' is not a rule", FEEDBACK_RULES)
    if other_options:
        known = [f"{ns}.{o.name}" for ns, card in model.cards for o in card.options]
        options = {
            key: value
            for key, value in options.items()
            if any(name == key or name.endswith(f".{key}") for name in known)
        }
    switches = _switches(model, options)
    active = {ns: _active(ns, card, switches) for ns, card in model.cards}
    parameters: dict[str, Parameter] = {}
    assumptions = dict.fromkeys(model.assumptions)
    for namespace, card in active.items():
        spreads = (*card.iiv, *card.iov)
        for parameter in (*card.parameters, *(spread.sd for spread in spreads)):
            name = f"{namespace}.{parameter.name}"
            parameters[name] = dataclasses.replace(parameter, name=name)
        assumptions |= dict.fromkeys(card.assumptions)
    return dataclasses.replace(
        model,
        drugs=tuple(
            DrugModel(drug.card, active[drug.name], active[f"{drug.name}.effect"])
            for drug in model.drugs
        ),
        marrow=tuple(active[card.subject] for card in model.marrow),
        options=tuple(switches.items()),
        feedback_when_kill_exceeds=str(rule),
        parameters=tuple(parameters.values()),
        assumptions=tuple(assumptions),
    )


def _switches(model: JointModel, options: Mapping[str, bool | str]) -> dict[str, bool]:
    """Options by full name; one that is switched on turns off those it replaces."""
    known = {f"{ns}.{o.name}": o for ns, card in model.cards for o in card.options}
    asked: dict[str, bool] = {}
    for key, value in options.items():
        matches = [name for name in known if name == key or name.endswith(f".{key}")]
        if len(matches) != 1:
            what = "is not an option of this model" if not matches else "is in several cards"
            near = nearest_of(key, known) if not matches else ""
            _refuse(f"option '{key}'", what + near, matches or (*known, "feedback_when_..."))
        if not isinstance(value, bool):
            _refuse(f"option '{key}'", f"{value!r} is not True or False", ("True", "False"))
        if asked.setdefault(matches[0], value) != value:
            _refuse(f"option '{key}'", f"is both {not value} and {value}", (matches[0],))
    switches = {name: asked.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        if not switches[name]:
            continue
        namespace = name.rsplit(".", 1)[0]
        for other in (f"{namespace}.{o}" for o in option.replaces):
            if asked.get(other):
                _refuse(f"options '{name}' and '{other}'", "exclude each other", ("one of them",))
            switches[other] = False
    return switches


def _active(namespace: str, card: ModelCard, switches: Mapping[str, bool]) -> ModelCard:
    """Card without the terms and effects that options switch off, and without unused numbers."""

    def on(option: str, unless: str) -> bool:
        wanted = not option or switches[f"{namespace}.{option}"]
        return wanted and not (unless and switches[f"{namespace}.{unless}"])

    individuals = tuple(
        dataclasses.replace(
            individual,
            terms=tuple(t for t in individual.terms if on(t.option, t.unless)),
            effects=tuple(e for e in individual.effects if on(e.option, e.unless)),
        )
        for individual in card.individuals
    )
    used: set[str] = set()
    for individual in individuals:
        for term in individual.terms:
            used |= {term.parameter, *term.times, *term.divided_by}
        for effect in individual.effects:
            used |= {effect.parameter, str(effect.exponent)}
    taken = tuple(
        o.assumes for o in card.options if o.assumes and switches[f"{namespace}.{o.name}"]
    )
    return dataclasses.replace(
        card,
        individuals=individuals,
        parameters=tuple(p for p in card.parameters if p.name in used),
        assumptions=(*card.assumptions, *taken),
    )


def assumed_inputs(
    model: JointModel, population: Population | None = None, drugs: Sequence[str] | None = None
) -> tuple[str, ...]:
    """List what a result rests on that no source supports, in short texts.

    Parameters
    ----------
    model, population
        The model and the patients.
    drugs
        Only these drugs (default: all of the model).

    Returns
    -------
    tuple of str
        For example ``"clofarabine EC50 2 umol/L (1-6), assumed"``.
    """
    names = {drug.name for drug in model.drugs}
    wanted = names if drugs is None else set(drugs)
    texts = []
    idle = {drug.name for drug in model.drugs if drug.driver in ("dose", "none")}
    for parameter in used_parameters(model, population):
        owner = parameter.name.split(".", 1)[0]
        if owner in idle and not parameter.name.startswith(f"{owner}.effect."):
            continue  # kinetics that no count depends on
        if parameter.status == "assumed" and (owner not in names or owner in wanted):
            texts.append(describe(parameter))
    for drug in model.drugs:
        if drug.name in wanted and drug.shape == "none":
            texts.append(f"{drug.name}: no effect on counts, assumed")
    if population is not None:
        texts += [
            f"{c.name} of the patients ({population.name}), assumed"
            for c in population.covariates
            if c.status == "assumed"
        ]
    return tuple(texts)


def describe(parameter: Parameter) -> str:
    """Write a parameter as one short text: owner, name, value, unit, interval, status."""
    owner, name = parameter.name.rsplit(".", 1)
    for kind, what in (("iiv", "patients"), ("iov", "occasions")):
        if owner.endswith(f".{kind}"):
            owner, name = owner.removesuffix(f".{kind}"), f"{name}: SD of log between {what}"
    owner = owner.removesuffix(".effect")
    unit = {"1": "", "10^9/L": " x10^9/L"}.get(parameter.unit, f" {parameter.unit}")
    interval = ""
    if parameter.interval is not None:
        interval = f" ({parameter.interval[0]:.3g}-{parameter.interval[1]:.3g})"
    return f"{owner} {name} {parameter.value:.3g}{unit}{interval}, {parameter.status}"


def _refuse(where: str, what: str, allowed: Sequence[str] = ()) -> NoReturn:
    raise CardError(where=where, what=what, allowed=", ".join(allowed) or None)
