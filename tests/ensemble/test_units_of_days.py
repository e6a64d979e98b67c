"""Days that simulations give have their unit, as counts do."""

import pkpd
from pkpd.designs import BOIN, Accrual, EventTimes, simulate_trials


def test_days_of_death_have_a_unit():
    source = pkpd.source("rr_aml", marrow="leukaemia", patients=3, draws=1)
    days = pkpd.daily("clofarabine", "30 mg/m^2", days="1-5", route="iv", duration="1 h")
    found = pkpd.simulate(days, source, until_day=20)
    assert found["death_day"].attrs["units"] == found["recovery_day"].attrs["units"]


def test_days_of_trials_have_a_unit():
    found = simulate_trials(
        BOIN(levels=2, target=0.3), [0.1, 0.3], accrual=Accrual(10), times=EventTimes(28), trials=5
    )
    for name in ("duration", "duration_se", "suspended", "suspended_se"):
        assert found[name].attrs["units"] == "day"
