"""``$SUBROUTINES`` and ``$MODEL``: compartments, and the rate constants of each ADVAN and TRANS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkpd.nonmem.options import OWN_ROUTINES, SUBROUTINES, Option, read_options
from pkpd.nonmem.records import Problem, Record

GENERAL = (6, 8, 9, 13, 14, 15, 16, 17, 18)
"""ADVANs whose equations stand in $DES; of these 9, 15 and 17 take algebraic ones too."""
REFUSED_ADVANS = {15: "algebraic equations", 16: "delays", 17: "algebraic equations", 18: "delays"}
MOST_COMPARTMENTS = 1000
LINEAR = (1, 2, 3, 4, 5, 7, 11, 12)


@dataclass(frozen=True)
class Compartments:
    """Compartments of a model.

    Attributes
    ----------
    advan, trans
        Numbers of the subroutines; 0 for ``$PRED``.
    names
        Names in order.
    dose, observed
        Default compartments (from 1).
    off
        Compartments that are off at the start.
    record
        ``$SUBROUTINES``, for messages; None for ``$PRED``.
    """

    advan: int
    trans: int
    names: tuple[str, ...]
    dose: int = 1
    observed: int = 1
    off: frozenset[int] = frozenset()
    record: Record | None = None

    @property
    def size(self) -> int:
        """Number of compartments, without the output compartment."""
        return len(self.names)

    @property
    def linear(self) -> bool:
        """Whether rate constants say it all."""
        return self.advan in LINEAR


_FIXED: dict[int, tuple[tuple[str, ...], int, int]] = {
    1: (("CENTRAL",), 1, 1),
    2: (("DEPOT", "CENTRAL"), 1, 2),
    3: (("CENTRAL", "PERIPH"), 1, 1),
    4: (("DEPOT", "CENTRAL", "PERIPH"), 1, 2),
    10: (("CENTRAL",), 1, 1),
    11: (("CENTRAL", "PERIPH1", "PERIPH2"), 1, 1),
    12: (("DEPOT", "CENTRAL", "PERIPH1", "PERIPH2"), 1, 2),
}


def read_compartments(problem: Problem) -> Compartments:
    """Read the compartments of a problem with ``$SUBROUTINES`` and ``$MODEL``."""
    record = problem.one("SUBROUTINES")
    if record is None:
        return Compartments(0, 0, ())
    given = {}
    for option in read_options(record, SUBROUTINES):
        given.setdefault(option.name, option)
        if option.name in OWN_ROUTINES or (option.name == "SS" and _number(option) is None):
            record.refuse(
                f"a routine of the user's own ({option.name}=)",
                option.line,
                remedy="write the model in abbreviated code",
            )
    advan, trans = (_number(given.get(name)) for name in ("ADVAN", "TRANS"))
    if "TRANS" in given and trans is None:
        record.refuse(
            f"TRANS={given['TRANS'].value or ''}", given["TRANS"].line, allowed="TRANS1 to TRANS6"
        )
    if advan is None:
        record.refuse("names no ADVAN", allowed="ADVAN1 to ADVAN14")
    number, chosen = advan, 1 if trans is None else trans
    if number in REFUSED_ADVANS or number not in (*_FIXED, 5, 7, *GENERAL):
        record.refuse(
            f"ADVAN{number}" + (f" ({REFUSED_ADVANS[number]})" if number in REFUSED_ADVANS else ""),
            allowed="ADVAN1 to 14",
        )
    model = problem.one("MODEL")
    if number in _FIXED:
        names, dose, observed = _FIXED[number]
        if model is not None:
            model.refuse(f"ADVAN{number} has its own compartments", remedy="leave $MODEL out")
        return Compartments(number, chosen, names, dose, observed, record=record)
    if model is None:
        record.refuse(f"ADVAN{number} needs $MODEL")
    return _from_model(model, number, chosen, record)


def _number(option: Option | None) -> int | None:
    """Read the number of ``ADVAN4``, ``ADVAN=4`` or ``ADVAN=ADVAN4``; None if there is none."""
    if option is None:
        return None
    found = re.fullmatch(rf"(?:{option.name})?(\d{{1,9}})", option.value or "")
    return int(found.group(1)) if found else None


def _from_model(model: Record, advan: int, trans: int, record: Record) -> Compartments:
    text = model.text
    count = re.search(r"\bN(?:COMPARTMENTS?|COMPS?|COM)\s*=\s*(\d{1,9})", text, re.IGNORECASE)
    if re.search(r"\bNPARAM", text, re.IGNORECASE) and advan not in (5, 7):
        text = re.sub(r"\bNPARAM\w*\s*=\s*\d+", " ", text, flags=re.IGNORECASE)
    names: list[str] = []
    dose = observed = None
    off: set[int] = set()
    rest = re.sub(
        r"\bN(?:COMPARTMENTS?|COMPS?|COM|EQUILIBRIUM|PARAMETERS|PARAMS?)\s*=\s*\d+",
        " ",
        text,
        flags=re.IGNORECASE,
    )
    for words in _compartment_words(rest, model):
        number = len(names) + 1
        named = [w for w in words if not _option(w)]
        for word in map(_option, words):
            if word == "DEFDOSE":
                dose = number
            elif word == "DEFOBS":
                observed = number
            elif word == "INITIALOFF":
                off.add(number)
            elif word == "EQUILIBRIUM":
                model.refuse("an equilibrium compartment", remedy="write its differential equation")
        names.append(named[0].strip("'\"") if named else f"COMP{number}")
    size = int(count.group(1)) if count else 0
    if size > MOST_COMPARTMENTS:
        model.refuse(f"has {size} compartments", allowed=f"at most {MOST_COMPARTMENTS}")
    for i in range(len(names), size):
        names.append(f"COMP{i + 1}")
    if not names:
        model.refuse("has no compartment")
    if dose is None:
        dose = names.index("DEPOT") + 1 if "DEPOT" in names else 1
    if observed is None:
        observed = names.index("CENTRAL") + 1 if "CENTRAL" in names else 1
    return Compartments(advan, trans, tuple(names), dose, observed, frozenset(off), record)


def _compartment_words(text: str, model: Record) -> list[list[str]]:
    """Words of each compartment: ``COMP=(CENTRAL,DEFDOSE)``, ``COMP=PERIPH`` or ``COMP`` alone."""
    pieces = re.findall(r"[^\s(),=]+|[(),=]", text.upper())
    keyword = {"COMP", "COMPS", "COMPARTMENT", "COMPARTMENTS"}
    out: list[list[str]] = []
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        if piece == ",":
            at += 1
            continue
        if piece not in keyword:
            model.refuse(f"{piece!r} is not understood")
        at += 1
        if pieces[at : at + 1] == ["="]:
            at += 1
        if pieces[at : at + 1] == ["("]:
            if ")" not in pieces[at:]:
                model.refuse("a bracket is not closed")
            end = pieces.index(")", at)
            out.append([word for word in pieces[at + 1 : end] if word != ","])
            at = end + 1
        elif at < len(pieces) and pieces[at] not in keyword | {",", "="}:
            out.append([pieces[at]])
            at += 1
        else:
            out.append([])
    return out


_COMPARTMENT_OPTIONS = (
    "DEFDOSE",
    "DEFDOSAGE",
    "DEFOBS",
    "DEFOBSERVATION",
    "INITIALOFF",
    "NOOFF",
    "NODOSE",
    "EQUILIBRIUM",
    "EXCLUDE",
)


def _option(word: str) -> str:
    """Full name of a compartment option; empty if it is none."""
    for name in _COMPARTMENT_OPTIONS:
        if len(word) >= 5 and name.startswith(word):
            return {"DEFDOSAGE": "DEFDOSE", "DEFOBSERVATION": "DEFOBS"}.get(name, name)
    return ""


Get = Callable[[str], Any]
Rates = dict[tuple[int, int | None], Any]

_DISPOSITION = {1: 1, 2: 1, 3: 2, 4: 2, 10: 1, 11: 3, 12: 3}
_WANTED: dict[tuple[int, int], tuple[str, ...]] = {
    (1, 1): ("K",),
    (1, 2): ("CL", "V"),
    (2, 1): ("K", "K12", "K21"),
    (2, 3): ("CL", "V", "Q", "VSS"),
    (2, 4): ("CL", "V1", "Q", "V2"),
    (2, 5): ("AOB", "ALPHA", "BETA"),
    (2, 6): ("ALPHA", "BETA", "K21"),
    (3, 1): ("K", "K12", "K21", "K13", "K31"),
    (3, 4): ("CL", "V1", "Q2", "V2", "Q3", "V3"),
    (3, 6): ("ALPHA", "BETA", "GAMMA", "K21", "K31"),
}


def _shifted(name: str, depot: bool) -> str:
    """Name of a parameter where the central compartment is number 2."""
    if not depot or name in ("K", "CL", "V", "Q", "VSS", "ALPHA", "BETA", "GAMMA", "AOB"):
        return name
    if name[0] == "K":
        return "K" + "".join(str(int(d) + 1) for d in name[1:])
    return name[0] + str(int(name[1]) + 1)


def wanted_parameters(c: Compartments) -> tuple[str, ...]:
    """Return the parameters that ``$PK`` has to set for an ADVAN with rate constants.

    Raises
    ------
    PkpdError
        If the TRANS does not belong to the ADVAN.
    """
    n, depot = _DISPOSITION[c.advan], c.advan in (2, 4, 12)
    if c.advan == 10:
        return ("VM", "KM")
    trans = c.trans
    if (n, trans) not in _WANTED:
        assert c.record is not None
        allowed = ", ".join(f"TRANS{t}" for m, t in _WANTED if m == n)
        c.record.refuse(f"TRANS{trans} with ADVAN{c.advan}", allowed=allowed)
    names = tuple(_shifted(name, depot) for name in _WANTED[n, trans])
    return (*names, "KA") if depot else names


def fixed_rates(c: Compartments, get: Get) -> Rates:
    """Rate constants of ADVAN1 to 4, 11 and 12, by (from, to) compartment counted from 0.

    Parameters
    ----------
    c
        ADVAN and TRANS.
    get
        Values of the parameters.

    Examples
    --------
    >>> c = Compartments(3, 4, ("CENTRAL", "PERIPH"))
    >>> fixed_rates(c, {"CL": 2.0, "V1": 4.0, "Q": 1.0, "V2": 2.0}.__getitem__)
    {(0, None): 0.5, (0, 1): 0.25, (1, 0): 0.5}
    """
    n, depot = _DISPOSITION[c.advan], c.advan in (2, 4, 12)
    at = 1 if depot else 0
    p = {name: get(_shifted(name, depot)) for name in _WANTED[n, c.trans]}
    out: Rates = {(0, 1): get("KA")} if depot else {}
    if n == 1:
        out[at, None] = p["K"] if c.trans == 1 else p["CL"] / p["V"]
        return out
    if c.trans == 1:
        k, pairs = p["K"], [(p["K12"], p["K21"]), (p.get("K13"), p.get("K31"))][: n - 1]
    elif c.trans == 3:
        k, pairs = p["CL"] / p["V"], [(p["Q"] / p["V"], p["Q"] / (p["VSS"] - p["V"]))]
    elif c.trans == 4:
        flows = [p["Q"]] if n == 2 else [p["Q2"], p["Q3"]]
        volumes = [p["V2"]] if n == 2 else [p["V2"], p["V3"]]
        k = p["CL"] / p["V1"]
        pairs = [(q / p["V1"], q / v) for q, v in zip(flows, volumes, strict=True)]
    elif n == 2:
        alpha, beta = p["ALPHA"], p["BETA"]
        back = (p["AOB"] * beta + alpha) / (p["AOB"] + 1.0) if c.trans == 5 else p["K21"]
        k = alpha * beta / back
        pairs = [(alpha + beta - back - k, back)]
    else:
        k, pairs = _hybrid(p)
    out[at, None] = k
    for i, (there, back) in enumerate(pairs, start=1):
        out[at, at + i] = there
        out[at + i, at] = back
    return out


def _hybrid(p: Mapping[str, Any]) -> tuple[Any, list[tuple[Any, Any]]]:
    """Rate constants of three compartments from ALPHA, BETA, GAMMA, K21 and K31."""
    a, b, c, k21, k31 = p["ALPHA"], p["BETA"], p["GAMMA"], p["K21"], p["K31"]
    k = a * b * c / (k21 * k31)
    total, pairs = a + b + c, a * b + a * c + b * c
    k13 = (pairs + k31 * k31 - k31 * total - k * k21) / (k21 - k31)
    k12 = total - k - k13 - k21 - k31
    return k, [(k12, k21), (k13, k31)]


_RATE = re.compile(r"K(\d)(\d)$|K(\d{1,4})T(\d{1,4})$")


def named_rates(names: Sequence[str], size: int) -> dict[str, tuple[int, int | None]]:
    """Rate constants of ADVAN5 and 7 by name: ``K12``, ``K10``, ``K1T10``.

    Examples
    --------
    >>> named_rates(["K12", "K20", "CL", "K2T1"], 2)
    {'K12': (0, 1), 'K20': (1, None), 'K2T1': (1, 0)}
    """
    out: dict[str, tuple[int, int | None]] = {}
    for name in names:
        found = _RATE.match(name)
        if not found:
            continue
        source, target = (int(g) for g in found.groups() if g is not None)
        if 1 <= source <= size and 0 <= target <= size + 1 and source != target:
            out[name] = (source - 1, None if target in (0, size + 1) else target - 1)
    return out
