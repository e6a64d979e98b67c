"""Designs by the names under which files and commands know them."""

from __future__ import annotations

from pkpd.designs.protocol import Design
from pkpd.designs.rules.backfill import BackfillBOIN
from pkpd.designs.rules.blrm import BLRM
from pkpd.designs.rules.crm import CRM, TiteCRM
from pkpd.designs.rules.interval import BOIN, MTPI2, Keyboard
from pkpd.designs.rules.three_plus_three import RollingSix, ThreePlusThree
from pkpd.designs.rules.tite_boin import TiteBOIN
from pkpd.designs.stopping import EnoughAtDose, PreciseAtDose, StoppingRule, TooToxic

DESIGNS: dict[str, type[Design]] = {
    kind.name: kind
    for kind in (
        ThreePlusThree,
        RollingSix,
        BOIN,
        TiteBOIN,
        BackfillBOIN,
        Keyboard,
        MTPI2,
        CRM,
        TiteCRM,
        BLRM,
    )
}
"""Every design by its name in the field."""

STOPS: dict[str, type[StoppingRule]] = {
    "too toxic": TooToxic,
    "enough at dose": EnoughAtDose,
    "precise at dose": PreciseAtDose,
}
"""Every stopping rule by its name."""
