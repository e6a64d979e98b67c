"""Drugs and marrow lines as one structural model: concentrations and blood counts from data.

`marrow_model` joins the pharmacokinetics of one or several drugs (`pkpd.predict.pk.compartments`)
to marrow lines (`pkpd.marrow.friberg`) through effects (`pkpd.marrow.effects`). Concentrations are
exact at every event record; counts come from one of two engines that `MarrowStructure.bind`
chooses between (`pkpd.predict.marrow_population`, `pkpd.predict.marrow_general`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn, get_args

from pkpd.arguments import NUMBER, from_to, nearest_of
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.marrow.effects import COMBINATIONS, Effect, effect_shape
from pkpd.marrow.friberg import Friberg, MarrowLine
from pkpd.predict.marrow_predictor import MarrowPredictor
from pkpd.predict.pk import LinearStructure
from pkpd.predict.structure import check_lines
from pkpd.solve.grid.grid import DEFAULT_STEP_H
from pkpd.solve.grid.structure import Whole

Driver = Literal["plasma", "effect_compartment", "triphosphate"]
"""What an effect is driven by: the plasma concentration ``C`` of the observed compartment; an
effect compartment, ``dCe/dt = ke0 (C - Ce)``; or an intracellular metabolite,
``dT/dt = k_in C - k_out T``."""

MarrowEngine = Literal["auto", "compiled", "general"]

GENERAL_STEP_H = 0.5
"""Longest step of the general engine: it has to follow the peaks of the drugs."""

_DRIVER_PARAMETERS = {
    "plasma": (),
    "effect_compartment": ("ke0",),
    "triphosphate": ("k_in", "k_out"),
}
_SINGLE_DRUG = "drug"


@dataclass(frozen=True)
class MarrowDrug:
    """One drug of a joint model.

    Attributes
    ----------
    name
        Its name.
    pk
        Its linear pharmacokinetics; ``None`` for a drug that acts by its doses alone.
    driver
        What its effects are driven by.
    per_unit
        Driver unit per concentration unit; ``1000 / molar_mass`` for umol/L from mg/L.
    first_compartment
        Number in the data (CMT) of its compartment 1.
    suffix
        Ending of its parameters: ``""`` for the only drug.
    """

    name: str
    pk: LinearStructure | None
    driver: Driver
    per_unit: float
    first_compartment: int
    suffix: str

    @property
    def own(self) -> dict[str, str]:
        """Parameters of its pharmacokinetics and driver, by the name within the drug."""
        if self.pk is None:
            return {}
        names = (*self.pk.parameters, *_DRIVER_PARAMETERS[self.driver])
        return {name: name + self.suffix for name in names}

    @property
    def kinetics(self) -> LinearStructure:
        """Its pharmacokinetics, where it has any."""
        assert self.pk is not None
        return self.pk

    @property
    def line(self) -> str:
        """Name of its concentration among the predicted lines; empty without kinetics."""
        return "" if self.pk is None else self.pk.line + self.suffix

    @property
    def size(self) -> int:
        """Number of compartments that doses may go to."""
        return 1 if self.pk is None else self.pk.system.size


@dataclass(frozen=True)
class MarrowStructure:
    """Drugs, effects and marrow lines; made by `marrow_model`.

    Attributes
    ----------
    drugs
        The drugs.
    names, marrow
        Names and equations of the marrow lines.
    effects
        For every line the effect of each drug.
    combination
        How effects of several drugs combine.
    free_baseline
        Whether counts begin at a ``baseline`` that may differ from the set point ``circ0``.
    engine, max_step_h, general_step_h
        See `marrow_model`.
    whole
        A marrow with all its lines instead of lines that share nothing but drugs; ``names`` are
        then what is observed of it.
    held
        Parameters of the whole marrow that are not those of a subject, with their values, and the
        ``age`` in years to which they belong.
    """

    drugs: tuple[MarrowDrug, ...]
    names: tuple[str, ...]
    marrow: tuple[MarrowLine, ...]
    effects: tuple[tuple[Effect, ...], ...]
    combination: str = "additive"
    free_baseline: bool = False
    engine: MarrowEngine = "auto"
    max_step_h: float = DEFAULT_STEP_H
    general_step_h: float = GENERAL_STEP_H
    whole: Whole | None = None
    held: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse compartments below 1, those of two drugs, and tables read in two ways."""
        ways = {drug.pk.options: drug.name for drug in self.drugs if drug.pk is not None}
        if len(ways) > 1:
            raise PkpdError(
                where=f"{self.name}, options",
                what=f"{' and '.join(ways.values())} read events of one table in different ways",
                remedy="give their kinetics the same options=",
            )
        owner: dict[int, str] = {}
        for drug in self.drugs:
            first, whole = drug.first_compartment, from_to(1).holds(drug.first_compartment)
            for number in range(first, first + drug.size) if whole else (first,):
                if not whole or number in owner:
                    raise PkpdError(
                        where=f"{self.name}, first_compartment",
                        what=f"compartment {number} is of {owner[number]} and of {drug.name}"
                        if whole
                        else f"{first!r} for {drug.name}",
                        allowed="whole numbers of 1 and above, each of one drug",
                    )
                owner[number] = drug.name

    @property
    def concentrations(self) -> int:
        """Number of drugs with kinetics, which come first."""
        return sum(drug.pk is not None for drug in self.drugs)

    @property
    def name(self) -> str:
        """What messages call it."""
        return "marrow model"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Pharmacokinetics, effects, then marrow, each in the order of drugs and lines."""
        return self._parameters

    @cached_property
    def _parameters(self) -> tuple[str, ...]:
        out: list[str] = []
        for drug in self.drugs:
            out += drug.own.values()
        if self.whole is not None:
            held = dict(self.held)
            out += [name for name in self.whole.parameters if name not in held]
            return tuple(dict.fromkeys(out))
        for i in range(len(self.names)):
            for k in range(len(self.drugs)):
                out += self.effect_names(i, k).values()
        for i in range(len(self.names)):
            out += self.marrow_names(i).values()
        return tuple(dict.fromkeys(out))

    @property
    def lines(self) -> tuple[str, ...]:
        """Concentrations of the drugs, then the marrow lines."""
        return (*(drug.line for drug in self.drugs if drug.pk is not None), *self.names)

    def effect_names(self, line: int, drug: int) -> dict[str, str]:
        """Parameters of one drug's effect on one line, by the name within the effect."""
        ending = self.drugs[drug].suffix + self._suffix(line)
        return {name: name + ending for name in self.effects[line][drug].parameters}

    def marrow_names(self, line: int) -> dict[str, str]:
        """Parameters of a marrow line, by the name within its equations."""
        ending = self._suffix(line)
        first = "baseline" if self.free_baseline else "circ0"
        written = {"baseline": first, "set_point": "circ0"}
        return {name: written.get(name, name) + ending for name in self.marrow[line].parameters}

    def _suffix(self, line: int) -> str:
        return f"_{self.names[line]}" if len(self.names) > 1 else ""

    def bind(self, dataset: Dataset) -> MarrowPredictor:
        """Prepare predictions of a data set's observations.

        Raises
        ------
        DataError
            If the data have a line, or a dose into a compartment, that the model lacks.
        PkpdError
            If ``engine="compiled"`` was asked for and the doses or the model need the other one.
        """
        return MarrowPredictor(self, dataset, check_lines(dataset, self.lines, self.name))


def marrow_model(
    pk: LinearStructure | Mapping[str, LinearStructure],
    *,
    effect: Any = "linear",
    lines: MarrowLine | Mapping[str, MarrowLine] | None = None,
    driver: Driver | Mapping[str, Driver] = "plasma",
    molar_mass: float | Mapping[str, float] | None = None,
    combination: str = "additive",
    baseline: Literal["circ0", "free"] = "circ0",
    first_compartment: Mapping[str, int] | None = None,
    engine: MarrowEngine = "auto",
    max_step_h: float = DEFAULT_STEP_H,
    general_step_h: float = GENERAL_STEP_H,
) -> MarrowStructure:
    """Drugs that suppress a marrow, as a structural model to fit.

    Parameters
    ----------
    pk
        ``compartments(...)`` of the drug, or of several drugs by name. A LinearStructure's
        ``dosing`` parameters (``ALAG1``, ``F1``, ``D1``, ``R1``) are the drug's own, numbered by
        its own compartments.
    effect
        Shape of the effect on proliferation: ``"linear"`` (``slope``), ``"emax"`` (``Emax``,
        ``EC50``), ``"emax_hill"`` (and ``hill``), ``"none"``, or an object with the methods of
        `pkpd.marrow.effects.Effect`. A mapping by drug, by line, or by drug and then line gives
        each its own.
    lines
        Equations of the marrow lines by name: ``{"neutrophils": Friberg(), "platelets":
        PlateletChain()}``; by default neutrophils after Friberg. The names are those of the lines
        of the data.
    driver
        What drives the effect, see `Driver`; for all drugs, or by drug. Parameters ``ke0`` (1/h),
        or ``k_in`` and ``k_out`` (1/h).
    molar_mass
        g/mol. If given, effects are driven by umol/L for doses in mg; otherwise by the
        concentration as predicted, dose unit per litre.
    combination
        How effects of several drugs on one line combine: ``"additive"`` or ``"bliss"``.
    baseline
        ``"circ0"``: counts begin at the set point ``circ0``, in steady state. ``"free"``: they
        begin at a parameter ``baseline`` of its own and move towards ``circ0``.
    first_compartment
        For several drugs: number in the data (CMT) of each drug's compartment 1. By default the
        compartments are numbered through in the order of the drugs. A dose with CMT 0 is of the
        first drug.
    engine
        ``"compiled"``: counts of `pkpd.solve.population.problem` (any linear kinetics, boluses and
        infusions of given rate, resets, a lag where all doses have the same; kinetics may change
        at records, with occasions or covariates, marrow and effects are constant in a subject;
        within 1e-5 at the default step, 3e-5 to 6e-4 under strong effects of short infusions).
        ``"general"``: any event, and any
        parameter that changes over time. ``"auto"`` takes the first where it serves.
    max_step_h, general_step_h
        Longest step of the two engines in hours.

    Returns
    -------
    MarrowStructure
        Individual parameters: those of the pharmacokinetics; of the effect; ``circ0`` (10^9/L),
        ``MTT`` (h), ``gamma``, and what else a line reads (``ks``, ``k_circ``, 1/h). With several
        drugs or lines the names end in ``_drug``, ``_line`` or ``_drug_line``.

    Notes
    -----
    The marrow starts at a subject's first record. The equations are those of Friberg 2002 (J Clin
    Oncol 20:4713) and the other sources named by the lines.

    Examples
    --------
    >>> from pkpd.predict.pk import compartments
    >>> marrow_model(compartments(2, absorption="first_order")).parameters
    ('ka', 'CL', 'V1', 'V2', 'Q', 'slope', 'circ0', 'MTT', 'gamma')
    """
    by_name = dict(pk) if isinstance(pk, Mapping) else {_SINGLE_DRUG: pk}
    chosen = {"neutrophils": Friberg()} if lines is None else lines
    marrow = dict(chosen) if isinstance(chosen, Mapping) else {"neutrophils": chosen}
    for what, given in (("drug", by_name), ("marrow line", marrow)):
        if not given:
            raise PkpdError(where="marrow_model", what=f"no {what} is given")
    _check_choice("combination", combination, COMBINATIONS)
    _check_choice("engine", engine, get_args(MarrowEngine))
    _check_choice("baseline", baseline, ("circ0", "free"))
    check_drugs("marrow_model", by_name, driver, molar_mass, first_compartment)
    _check_parts(by_name, marrow)
    drugs, number = [], 1
    for name, structure in by_name.items():
        kind = _of(driver, name, "driver")
        _check_choice("driver", kind, get_args(Driver))
        mass = _of(molar_mass, name, "molar_mass")
        first = (
            number
            if first_compartment is None
            else _of(first_compartment, name, "first_compartment")
        )
        suffix = f"_{name}" if len(by_name) > 1 else ""
        per_unit = umol_per_mg("marrow_model", mass)
        drugs.append(MarrowDrug(name, structure, kind, per_unit, first, suffix))
        number += structure.system.size
    return MarrowStructure(
        drugs=tuple(drugs),
        names=tuple(marrow),
        marrow=tuple(marrow.values()),
        effects=tuple(tuple(_effect_of(effect, drug, line) for drug in by_name) for line in marrow),
        combination=combination,
        free_baseline=baseline == "free",
        engine=engine,
        max_step_h=max_step_h,
        general_step_h=general_step_h,
    )


def _check_parts(drugs: Mapping[str, Any], marrow: Mapping[str, Any]) -> None:
    """Refuse drugs and marrow lines that are none, and lines of drugs that are not predicted."""
    for name, pk in drugs.items():
        if not isinstance(pk, LinearStructure):
            _refuse(f"pk, {name}", pk, "a LinearStructure, such as compartments(1)")
        if lost := pk.lines[1:]:
            what = f"line {lost[0]!r} is not predicted beside a marrow"
            raise PkpdError(
                where=f"marrow_model, pk, {name}", what=what, remedy="leave others= out"
            )
    for name, line in marrow.items():
        if getattr(line, "g_csf", "") == "state":
            raise PkpdError(
                where=f"marrow_model, lines, {name}",
                what='GcsfMarrow(g_csf="state") is stiff (20 an hour), and lines step explicitly, '
                "by hours",
                remedy='take g_csf="algebraic", whose counts agree within 1 %',
            )
        if not isinstance(getattr(line, "parameters", None), tuple):
            _refuse(f"lines, {name}", line, "equations of a line, such as Friberg()")


def _check_choice(what: str, given: Any, allowed: Sequence[str]) -> None:
    if given not in allowed:
        _refuse(what, given, ", ".join(allowed))


def _refuse(what: str, given: Any, allowed: str) -> NoReturn:
    raise PkpdError(where=f"marrow_model, {what}", what=f"{given!r}", allowed=allowed)


def umol_per_mg(where: str, molar_mass: Any) -> float:
    """Return micromoles of a mg, or 1 where no molar mass (g/mol) is given."""
    if molar_mass is None:
        return 1.0
    if not (NUMBER.holds(molar_mass) and molar_mass > 0):
        what, allowed = f"{molar_mass!r}", "g/mol, more than 0"
        raise PkpdError(where=f"{where}, molar_mass", what=what, allowed=allowed)
    return 1000.0 / molar_mass


def check_drugs(where: str, drugs: Iterable[str], *given: Any) -> None:
    """Refuse what is given by drug for a drug that the model does not have."""
    known = tuple(drugs)
    for name in (n for one in given if isinstance(one, Mapping) for n in one if n not in known):
        what = f"{name!r} is no drug of the model{nearest_of(name, known)}"
        raise PkpdError(where=where, what=what, allowed=", ".join(known))


def _of(given: Any, drug: str, what: str) -> Any:
    """Return the entry of a drug where something is given by drug, else what is given."""
    if not isinstance(given, Mapping):
        return given
    if drug not in given:
        raise PkpdError(
            where=f"marrow_model, {what}",
            what=f"nothing for drug {drug!r}",
            allowed=", ".join(given),
            remedy="give one entry per drug",
        )
    return given[drug]


def _effect_of(given: Any, drug: str, line: str) -> Effect:
    """Find the effect of a drug on a line in what may be given by drug, by line, or by both."""
    found = given
    while isinstance(found, Mapping):
        key = drug if drug in found else line
        if key not in found:
            raise PkpdError(
                where="marrow_model, effect",
                what=f"nothing for the effect of {drug!r} on {line!r}",
                allowed=", ".join(found),
                remedy='give one, or "none"',
            )
        found = found[key]
    return effect_shape(found) if isinstance(found, str) else found
