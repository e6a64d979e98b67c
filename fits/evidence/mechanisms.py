"""Which mechanism of the marrow with leukaemia does what? `mechanisms.py --figures`, in a minute.

The posterior's medians in the structure that it was learned with, one switch at a time
(`pkpd.marrow.variants.VARIANTS`): counts before treatment, recovery, remission and delay under six
regimens. Parameters are not learned anew, so a line tells what a mechanism does, not how well the
marrow without it could be made to agree with what was published.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from judging.figures import keep, may_be_kept

from pkpd.cards import load_trial
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.shipped import HOW_TO_GET_ONE, shipped_posterior
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.leukaemia.arm_outcomes import population_outcomes
from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.trial_arms import arms_of_trial
from pkpd.marrow.variants import FULL, VARIANTS, Variant
from pkpd.schedule import Course, Criterion, DoseModification, DoseRule, Regimen, parse_days

PATIENTS = 2048
NEUTROPHILS, PLATELETS = ("neutrophils", 0.5), ("platelets", 20.0)
LATE = 45  # protocol day
_STRUCTURES = ("transit_stages", "regrowth")  # with numbers of their own: learned, not switched
_M2 = "mg/m^2"


def regimen(*doses: tuple[str, float, str, str], **course: object) -> Regimen:
    """One course of doses by vein, or by mouth where they are in mg."""
    rules = tuple(
        DoseRule(
            drug, amount, unit, days=parse_days(days)[0], route="oral" if unit == "mg" else "iv"
        )
        for drug, amount, unit, days in doses
    )
    return Regimen((Course("course", rules, **{"cycle_days": 60, "cycles": 1} | course),))  # pyright: ignore


def arms() -> dict[str, Arm]:
    """Regimens of the table."""
    mixed = (("idarubicin", 12.0, _M2, "1-3"), ("cytarabine", 100.0, _M2, "1-7"))
    held = DoseModification(
        "lenalidomide",
        (Criterion("neutrophils", 0.5), Criterion("platelets", 25.0)),
        (Criterion("neutrophils", 1.0), Criterion("platelets", 50.0)),
        (20.0, 15.0, 10.0, 5.0),
        True,
    )
    monthly = regimen(
        ("lenalidomide", 30.0, "mg", "1-21"), cycle_days=28, cycles=6, modifications=(held,)
    )
    plans = {
        "7+3": (regimen(("daunorubicin", 60.0, _M2, "1-3"), mixed[1]), 90, "aml"),
        "clofarabine": (regimen(("clofarabine", 30.0, _M2, "1-5")), 60, "aml_unfit"),
        "with clofarabine": (regimen(*mixed, ("clofarabine", 10.0, _M2, "1-5")), 60, "aml"),
        "low clofarabine": (regimen(("clofarabine", 2.0, _M2, "1-5")), 35, "solid_pretreated"),
    }
    found = {
        name: Arm(name, ArmSchedule(given, horizon), disease)
        for name, (given, horizon, disease) in plans.items()
    }
    found["lenalidomide"] = Arm(
        "lenalidomide", ArmSchedule(monthly, 168), "myeloma", least_neutrophils=1.0,
        least_platelets=60.0,
    )  # fmt: skip
    found["MEC"] = arms_of_trial(load_trial("nct01681537_len_mec"))["14d-10"]
    return found


def recovered(got: ArmOutcomes, key: tuple[str, float]) -> float:
    """Median day among patients in remission who had been below."""
    days = got.recovery_day[key][got.responded("CR", "CRh", "CRi")]
    return float(np.median(days[~np.isnan(days)]))


def late(got: ArmOutcomes) -> float:
    """Share not recovered of patients alive and free of leukaemia."""
    who = (got.blasts_day(LATE) < 5.0) & (got.death_day > LATE)
    days = np.fmax(got.recovery_day[NEUTROPHILS], got.recovery_day[PLATELETS])
    return float(np.mean(days[who] > LATE))


def graded(got: ArmOutcomes, line: str) -> float:
    """Share with grades 3 and 4."""
    return float(np.mean(got.worst_grade[line] >= 3))


#: Columns: heading, arm, figure.
COLUMNS: tuple[tuple[str, str, Callable[[ArmOutcomes], float]], ...] = (
    ("before 7+3: neutrophils", "7+3", lambda got: float(np.median(got.baseline["neutrophils"]))),
    ("before 7+3: platelets", "7+3", lambda got: float(np.median(got.baseline["platelets"]))),
    ("7+3: day of neutrophils 0.5", "7+3", partial(recovered, key=NEUTROPHILS)),
    ("7+3: day of platelets 20", "7+3", partial(recovered, key=PLATELETS)),
    ("7+3: CR, %", "7+3", lambda got: float(got.responded("CR").mean())),
    ("7+3: late, %", "7+3", late),
    ("clofarabine 30 mg/m2: late, %", "clofarabine", late),
    ("7+3 with clofarabine 10 mg/m2: late, %", "with clofarabine", late),
    ("MEC with lenalidomide 10 mg: late, %", "MEC", late),
    ("lenalidomide 30 mg, myeloma: neutropenia 3-4, %", "lenalidomide",
     partial(graded, line="neutrophils")),
    ("the same: thrombocytopenia 3-4, %", "lenalidomide", partial(graded, line="platelets")),
    ("clofarabine 2 mg/m2, solid tumours: grade 4 neutropenia over 5 days, %", "low clofarabine",
     lambda got: float(np.mean(got.longest_below[NEUTROPHILS] > 5))),
)  # fmt: skip


def switched(name: str, learned: Variant) -> Variant | None:
    """Give the learned structure with what a named variant switches; ``None`` if it is another."""
    other = VARIANTS[name]
    changes = {
        one.name: getattr(other, one.name)
        for one in fields(Variant)
        if getattr(other, one.name) != getattr(FULL, one.name)
    }
    return None if set(changes) & {*_STRUCTURES} else replace(learned, **changes)


def table(posterior: EvidencePosterior, patients: int = PATIENTS) -> list[dict[str, object]]:
    """Figures of each variant."""
    middle = {name: float(q[0]) for name, q in posterior.quantiles((0.5,)).items()}
    theta: Mapping[str, float] = {**posterior.fixed, **middle}
    every, found = arms(), []
    for name in VARIANTS:
        variant = switched(name, posterior.variant)
        if variant is None:
            continue
        got = {
            of: population_outcomes(arm, theta, patients, variant=variant)
            for of, arm in every.items()
        }
        row = {head: figure(got[of]) for head, of, figure in COLUMNS}
        found.append({"switched": "nothing" if name == "full" else name, **row})
    return found


def main() -> None:
    """Simulate, print and keep."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--posterior", type=Path, help="in place of the shipped one")
    may_be_kept(ask)
    given = ask.parse_args()
    try:
        posterior = load_posterior(given.posterior) if given.posterior else shipped_posterior()
        if posterior is None:
            raise PkpdError(
                where="mechanisms", what="no posterior is shipped", remedy=HOW_TO_GET_ONE
            )
        posterior.require_converged("mechanisms")
    except PkpdError as error:
        sys.exit(str(error))
    rows = table(posterior)
    for row in rows:
        print("  ".join(f"{v:.3g}" if isinstance(v, float) else f"{v:28}" for v in row.values()))
    if given.figures:
        keep("mechanisms", posterior, {"patients": PATIENTS, "structure": posterior.structure,
                                       "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
