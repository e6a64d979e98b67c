import numpy as np

from pkpd.leukaemia.patients import arm_patients, random_scores
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.marrow.variants import FULL
from pkpd.schedule import Course, DoseRule, Regimen, parse_days

M2 = "mg/m^2"
SEVEN_THREE = (("daunorubicin", 60, M2, "1-3"), ("cytarabine", 100, M2, "1-7"))


def regimen(*doses, cycle_days=60, cycles=1, **course):
    """One course; a dose is (drug, amount, unit, days) and, if not by vein, the route."""
    rules = tuple(
        DoseRule(d[0], d[1], d[2], days=parse_days(d[3])[0], route=d[4] if len(d) > 4 else "iv")
        for d in doses
    )
    return Regimen((Course("course", rules, cycle_days, cycles=cycles, **course),))


def arm(*doses, disease="aml", horizon=60, cycle_days=60, **more):
    made = regimen(*doses, cycle_days=cycle_days) if doses else None
    return Arm("test", ArmSchedule(made, horizon, **more), disease)


def patients(an_arm, theta, n, variant=FULL, seed=1):
    p, state, _ = arm_patients(an_arm, theta, random_scores(n, seed), variant)
    return p, state


def one(p, i):
    return {name: float(np.asarray(values)[i]) for name, values in p.items()}
