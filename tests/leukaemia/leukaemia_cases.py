import numpy as np

from pkpd.leukaemia.patients import who
from pkpd.leukaemia.schedule import Arm, ArmSchedule
from pkpd.leukaemia.simulate import simulate
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


def run(an_arm, theta, n, variant=FULL, seed=1, **more):
    """Course of ``n`` patients of an arm, and their parameters with those of their drugs."""
    return simulate(an_arm, theta, who(an_arm, n, seed), variant, **more)


def one(p, i):
    return {name: float(np.asarray(values)[i]) for name, values in p.items()}
