"""A graft into a marrow that conditioning has emptied: cells, days, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from leukaemia_cases import arm, run
from reference import reference_course

import pkpd
from pkpd.cards.drug_cards import read_drug_card
from pkpd.errors import CardError, PkpdError
from pkpd.leukaemia.parameters import leukaemia_cards
from pkpd.leukaemia.patients import who
from pkpd.leukaemia.simulate import prepare_arm, simulate
from pkpd.marrow.variants import VARIANTS
from pkpd.models import leukaemia_model

CELLS = "10^6/kg"
TEN = VARIANTS["ten_stages"]
THETA = leukaemia_cards("ten_stages").theta


def grafted(cells, n, days=45, **changes):
    """Neutrophils of n patients grafted on day 1, all of one seeding and regrowth; [n, days]."""
    theta = {**THETA, "seeding.sd.graft": 0.0, "rho.sd": 0.0, "mtt.sd": 0.0, **changes}
    doses = (("graft", cells, CELLS, "1"),) if cells else ()
    course, _ = run(arm(*doses, disease="emptied", horizon=days), theta, n, TEN)
    return course.neutrophils


def day_of(counts, level=0.5):
    """First day of a count of a level, by interpolation of its logarithm."""
    logs = np.log(counts)
    last = (logs >= np.log(level)).argmax(axis=1)
    rows = np.arange(len(logs))
    low, high = logs[rows, last - 1], logs[rows, last]
    return last - 1 + (np.log(level) - low) / (high - low)


def test_counts_after_a_graft_are_those_of_the_equations():
    plan = arm(("graft", 5, CELLS, "1"), ("filgrastim", 0.3, "mg", "6-15", "sc"),
               disease="emptied", horizon=45)  # fmt: skip
    source = who(plan, 20, 1)
    course, p = simulate(plan, THETA, source, TEN, steps_per_day=12)
    assert np.ptp(p["graft_seeding"]) > 0.0
    for lane in (0, 7, 19):
        expected = reference_course(prepare_arm(plan, source.sample), THETA, p, TEN, lane, False)
        for line in ("neutrophils", "platelets"):
            counts, known = getattr(course, line)[lane], expected[line]
            seen = known > 1e-3
            np.testing.assert_allclose(counts[seen], known[seen], rtol=0.01)
        assert expected["neutrophils"].max() > 0.5


def test_an_empty_marrow_without_a_graft_stays_empty():
    assert grafted(None, 8).max() < 0.01


def test_each_e_fold_of_cells_is_worth_the_days_of_an_e_fold_of_regrowth():
    """Closed form: far below a full pool cells multiply at rho, so that e times as many cells bring
    every count forward by 1 / rho."""
    theta = {"gamma": 0.0, "beta": 0.0, "rho_age": 0.0}
    few, many = (day_of(grafted(cells, 16, 90, **theta), 0.02) for cells in (1.0, np.e))
    np.testing.assert_allclose(few - many, 1.0 / THETA["rho"], rtol=0.01)


def test_a_graft_is_given_in_schedules_by_its_cells():
    rescue = pkpd.daily("graft", "3e6 cells/kg", days="1", route="iv")
    assert rescue.courses[0].doses[0].unit == CELLS
    people = pkpd.source("aml_in_remission", structure="ten_stages", disease="emptied", patients=20)
    counts = pkpd.simulate(rescue, people, until_day=50)["count"].sel(line="neutrophils")
    assert float(counts.isel(time=5).max()) < 0.05
    assert float(counts.isel(time=49).median()) > 0.5


@pytest.mark.slow
def test_a_fit_takes_the_cells_of_a_graft_from_a_table():
    """The same counts as a course of the same patient, with filgrastim on ten days."""
    structure = leukaemia_model(
        {"graft": None, "filgrastim": None},
        disease="emptied",
        structure="ten_stages",
        observed=["neutrophils"],
        free=["rho", "graft_seeding"],
        max_step_h=4.0,
    )
    assert structure.parameters == ("rho", "graft_seeding")
    days = np.arange(10, 40, 3)
    rows = [(1, 0.0, 5.0, 1, 1, 1), *((1, 24.0 * d, 1.0, 2, 1, 1) for d in range(5, 15))]
    rows += [(1, 24.0 * d, 0.0, 1, 0, 1) for d in days]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "CMT", "EVID", "DVID"])
    table = table.assign(DV=1.0, MDV=table["EVID"]).sort_values(["TIME", "EVID"], kind="stable")
    data = pkpd.read_nonmem(table, lines={1: "neutrophils"}, units={"TIME": "h", "AMT": "mg"})
    found = structure.bind(data)({"rho": np.array([0.5]), "graft_seeding": np.array([2e-5])})
    plan = arm(("graft", 5, CELLS, "1"), ("filgrastim", 0.3, "mg", "6-15", "sc"),
               disease="emptied", horizon=41)  # fmt: skip
    typical = {name: np.array([v]) for name, v in dict(structure.held).items()}
    changes = {**typical, "rho": np.array([0.5]), "graft_seeding": np.array([2e-5])}
    course, _ = run(plan, THETA, 1, TEN, changes=changes)
    np.testing.assert_allclose(found, course.neutrophils[0, days], rtol=2e-3)


def test_what_is_no_graft_is_refused(tmp_path):
    with pytest.raises(PkpdError, match=r"3,000 times the usual dose|300 times the usual dose"):
        pkpd.simulate(
            pkpd.daily("graft", "3e9 cells/kg", days="1", route="iv"),
            pkpd.source("aml_in_remission", disease="emptied", patients=2),
        )
    with pytest.raises(PkpdError, match=r"graft.*in 10\^6/kg, not in mg/kg"):
        pkpd.simulate(
            pkpd.daily("graft", "3 mg/kg", days="1", route="iv"),
            pkpd.source("aml_in_remission", disease="emptied", patients=2),
        )
    card = tmp_path / "cells.toml"
    card.write_text(
        'kind = "drug"\nname = "cells"\ntitle = "Cells"\nroutes = ["iv"]\ndose_unit = "mg"\n'
        '[leukaemia]\nacts_by = "graft"\n'
        'seeding = { value = 1e-5, unit = "1", source = "none", status = "assumed" }\n'
    )
    with pytest.raises(CardError, match=r"acts by graft, and the drug is dosed in mg"):
        read_drug_card(card)


@pytest.mark.parametrize(
    ("drug", "amount"), [("graft", "5 mg/kg"), ("clofarabine", "5e6 cells/kg")]
)
def test_cells_are_of_grafts_alone_even_if_meant(drug, amount):
    regimen = pkpd.daily(drug, amount, days="1", route="iv", duration="1 h", unusual_dose=True)
    with pytest.raises(PkpdError, match=f"drug {drug}: a dose in .*for a graft, and for nothing"):
        pkpd.simulate(regimen, "after_conditioning", patients=2, until_day=10)
