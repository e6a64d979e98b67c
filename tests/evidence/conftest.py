"""A cheap stand-in for the marrow model, with the same interface and a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from pkpd.evidence.likelihood.cells import CHANNELS
from pkpd.evidence.table.arms import SimulatedArm, pooled
from pkpd.evidence.table.endpoints import Observable


class StandIn:
    """Patients who recover on day 10 + 12 dose^0.3 / regrowth, or die first, or stay leukaemic.

    Parameters by name: ``regrowth`` with ``regrowth.sd`` between patients, ``kill`` (log10 of
    leukaemia killed by a unit of dose) with ``kill.sd``, ``hazard`` per day.
    """

    def __init__(self, arms, n=256, seed=1):
        self.arms = arms
        self.n = n
        self.scores = {}
        for index, key in enumerate(arms):
            engine = qmc.Sobol(3, scramble=True, rng=np.random.default_rng([seed, index]))
            self.scores[key] = ndtri(np.clip(engine.random(n), 1e-9, 1 - 1e-9))
        self.calls = 0

    def __call__(self, theta):
        self.calls += 1
        return {key: self.arm(key, theta) for key in self.arms}

    def arm(self, key, theta):
        levels = self.arms[key].schedule.at_levels()
        return pooled((share, self.level(key, schedule, theta)) for share, schedule in levels)

    def level(self, key, schedule, theta):
        dose = sum(d.amount * len(d.days) for d in schedule.drugs) / 200.0
        z = self.scores[key]
        regrowth = theta["regrowth"] * np.exp(theta["regrowth.sd"] * z[:, 0])
        day = 10.0 + 12.0 * dose**0.3 / regrowth
        killed = theta["kill"] * dose**0.5 + theta["kill.sd"] * z[:, 1]
        died = -np.log(ndtr(-z[:, 2])) / theta["hazard"]
        remission = (killed > 3.0) & (died > day)

        def look(what: Observable):
            if what.kind == "response":
                return remission.astype(float)
            if what.kind in ("death", "died"):
                return (died <= what.day).astype(float)
            if what.kind == "recovery_day":
                return np.where(remission, day + 4.0 * (what.thresholds[0] > 0.5), np.nan)
            if what.kind == "delayed":
                late = day + 4.0 * (what.thresholds[0] > 0.5) > what.day
                return np.where(killed > 3.0, late.astype(float), np.nan)
            if what.kind == "low_run":
                return (day - 10.0 > what.day).astype(float)
            pytest.fail(f"the stand-in has no answer to {what}")

        return SimulatedArm(np.ones(self.n), look, lambda: np.stack([day, killed, died]))


TRUTH = {
    "regrowth": 1.0,
    "regrowth.sd": 0.35,
    "kill": 3.3,
    "kill.sd": 1.2,
    "hazard": 0.004,
    **{f"between.{channel}": 0.3 for channel in CHANNELS},
    "discrepancy": 0.002,
    "discrepancy.days": 0.05,
}

HEADER = "study,population,schedule,n,endpoint,value,lower,upper,limits,numerator,denominator,mark"
ROWS = (
    "A,aml,cytarabine:100 mg/m2:CI:1-7,181,anc500_recovery_day_median,24,15,44,range,,,READ",
    "A,aml,cytarabine:100 mg/m2:CI:1-7,200,cr_rate,,,,,120,200,READ",
    "A,aml,cytarabine:100 mg/m2:CI:1-7,200,day30_mortality,,,,,18,200,READ",
    "B,aml_rr,clofarabine:40 mg/m2:IV1h:1-5,62,cr_rate,,,,,30,62,READ",
    "C,aml_rr,clofarabine:20 mg/m2:IV1h:1-5,40,anc_recovery_day_median,21,,,,,,READ",
    "C,aml_rr,clofarabine:20 mg/m2:IV1h:1-5,40,cr_rate,0.28,,,,,,READ",
    "D,aml_rr,clofarabine:10|20 mg/m2:IV1h:1-5,25,dlt_delayed_recovery_d30,,,,,3,25,READ",
    "E,solid,clofarabine:2 mg/m2:IV1h:1-5,,day30_mortality,,,,,2,15,MEMORY",
)


@pytest.fixture
def stand_in():
    return StandIn


@pytest.fixture
def truth():
    return dict(TRUTH)


@pytest.fixture
def table_file(tmp_path):
    """Write a table of some rows (all of them by default), each possibly changed."""

    def write(*rows, header=HEADER):
        file = tmp_path / "mine.csv"
        file.write_text("\n".join((header, *(rows or ROWS))) + "\n")
        return file

    return write
