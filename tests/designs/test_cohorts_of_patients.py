"""Patients of a file in cohorts of the design: a cohort is filled before the next decision."""

from dataclasses import replace

import numpy as np
import pytest

from pkpd.designs import (
    BLRM,
    BOIN,
    CRM,
    MTPI2,
    Accrual,
    BackfillBOIN,
    EventTimes,
    Keyboard,
    OverdoseControl,
    Pending,
    RollingSix,
    ThreePlusThree,
    TiteBOIN,
    TiteCRM,
    TrialData,
    load_design,
    pathways,
)
from pkpd.designs.command import design_lines
from pkpd.designs.data import Action
from pkpd.designs.design_card import DesignFile
from pkpd.designs.seen_card import SeenCohort
from pkpd.designs.simulate.patients import Responses, RiskOutcomes
from pkpd.designs.simulate.trials import _Lanes
from pkpd.errors import PkpdError

HEAD = 'kind = "design"\ndoses = ["a", "b", "c"]\n[window]\ndays = 28\n[design]\n'
SKELETON = "skeleton = [0.1, 0.3, 0.5]\n"
CRM_OF_3 = f'name = "CRM"\ntarget = 0.3\n{SKELETON}'
TITE_OF_3 = f'name = "TITE-CRM"\ntarget = 0.3\ncohort_size = 3\n{SKELETON}'
TITRATES = 'name = "BOIN"\ntarget = 0.3\ntitrate = true\n'
DROPS_AT_ONE = 'name = "keyboard"\ntarget = 0.2\n'
ROWS = {"N": "followed_days = 28", "T": "dlt = true", "?": "followed_days = 3"}
ROWS["x"] = "evaluable = false"


def named(name):
    return f'name = "{name}"\n' + ("" if name in ("3+3", "rolling six") else "target = 0.3\n")


@pytest.fixture
def told(tmp_path):
    """Lines about patients such as "aN aT b?": dose, and DLT, none, pending or not evaluable."""

    def made(design, patients, **more):
        path = tmp_path / "d.toml"
        rows = (f'[[patient]]\ndose = "{one[0]}"\n{ROWS[one[1]]}\n' for one in patients.split())
        path.write_text(HEAD + design + "".join(rows))
        return list(design_lines(path, **more))

    return made


def test_a_cluster_is_refused_where_nothing_is_simulated(told):
    """It was passed over without a word; a scheduler that is not there was not missed."""
    with pytest.raises(PkpdError, match=r"--cluster: characteristics of 3\+3 are exact.*leave"):
        told(named("3+3"), "aN", risks="0.1,0.2,0.3", cluster="tcp://nowhere:8786")


FILLING = [
    ("aN", "stay at a. 1 of 3 patients of this cohort is enrolled."),
    ("a? aT", "stay at a. 2 of 3 patients of this cohort are enrolled."),
    ("aN aN aN bT", "stay at b. 1 of 3 patients of this cohort is enrolled."),
    ("aN aN ax", "stay at a. 2 of 3 patients of this cohort are enrolled."),  # is replaced
    ("aN aN bN", "stay at b. 1 of 3 patients of this cohort is enrolled."),  # the dose changed
]


@pytest.mark.parametrize("design", [*map(named, ("BOIN", "TITE-BOIN", "3+3", "BF-BOIN"))])
@pytest.mark.parametrize(("patients", "words"), FILLING)
def test_the_next_decision_comes_when_the_cohort_is_full(told, design, patients, words):
    assert f"Next: {words}" in told(design, patients)


@pytest.mark.parametrize(
    ("design", "patients", "words"),
    [
        (TITE_OF_3, "a?", "stay at a. 1 of 3 patients"),
        (CRM_OF_3, "aN aN", "stay at a. 2 of 3 patients"),
        (named("TITE-BOIN"), "a? a?", "stay at a. 2 of 3 patients"),  # pending: as in simulations
        (named("rolling six"), "aN", "stay at a. 0 of 1 patient at a had a DLT: more"),
        (TITRATES, "aN", "escalate to b."),
        (TITRATES, "aN bT", "stay at b. 1 of 1 patient at b had a DLT"),
        (TITRATES, "aN bT bN", "stay at b. 1 of 2 patients of this cohort is enrolled."),
        (TITRATES, "aN bT bN bN", "stay at b. 1 of 3 patients at b"),
        (TITRATES, "aT bN", "stay at b. 1 of 3 patients"),  # against the design
        # the design's safety acts within a cohort
        (named("3+3"), "aT aT", "stop, no dose is selected. 2 of 2 patients at a had a DLT"),
        (named("3+3"), "aN aN aN bT bT", "de-escalate to a. 2 of 2 patients at b"),
        (named("3+3"), "aN aT aN aN aT a?", "suspend accrual. 1 patient is pending"),
        (DROPS_AT_ONE, "aT", "stop, no dose is selected."),
        (DROPS_AT_ONE + "titrate = true\n", "aN bT", "de-escalate to a."),
        (
            named("BOIN") + "cohort_size = 6\n",
            "aN aN aN aN aN aN bT bT bT",
            "de-escalate to a. 3 of 3 patients at b had a DLT",
        ),
        (
            CRM_OF_3 + "overdose = { limit = 0.3, certainty = 0.5 }\n",
            "aN aN aN bT bT",
            "de-escalate to a.",
        ),
    ],
)
def test_what_acts_within_a_cohort(told, design, patients, words):
    assert any(line.startswith(f"Next: {words}") for line in told(design, patients))


def test_most_patients_ends_the_last_cohort(told):
    design = named("BOIN") + "most_patients = 4\n"
    lines = told(design, "aN aN aN bN")
    assert any(line.startswith("Next: stop, b is selected. 4 patients are") for line in lines)


def test_coherence_looks_at_the_whole_cohort(tmp_path):
    path = tmp_path / "d.toml"
    rows = "".join(f'[[patient]]\ndose = "a"\n{ROWS[one]}\n' for one in "TNN")
    path.write_text(HEAD + CRM_OF_3 + rows)
    assert load_design(path).data().last_cohort == (3, 1)


def test_backfilled_patients_leave_the_cohort_open(tmp_path):
    path = tmp_path / "d.toml"
    rows = f'[[patient]]\ndose = "a"\n{ROWS["N"]}\n'
    backfilled = f"{rows}backfilled = true\n"
    path.write_text(HEAD + named("BF-BOIN") + rows * 3 + rows.replace('"a"', '"b"') + backfilled)
    data = load_design(path).data()
    assert (data.last_cohort, data.lacking) == ((1, 0), 2)
    assert load_design(path).design.next_dose(data).backfill is None


RISKS = (0.05, 0.15, 0.3, 0.45)
SKELETON_OF_4 = (0.08, 0.18, 0.3, 0.45)
MODEL = {"levels": 4, "target": 0.3, "skeleton": SKELETON_OF_4}
SIMULATED = [
    BOIN(levels=4, target=0.3),
    BOIN(levels=4, target=0.3, titrate=True, most_patients=19),
    BOIN(levels=4, target=0.3, cohort_size=1, most_patients=12),
    Keyboard(levels=4, target=0.2),
    MTPI2(levels=4, target=0.3, titrate=True, cohort_size=4),
    ThreePlusThree(levels=4, start=2),
    RollingSix(levels=4),
    TiteBOIN(levels=4, target=0.3),
    TiteBOIN(levels=4, target=0.3, titrate=True),
    TiteBOIN(levels=4, target=0.3, estimator="effective sample size"),
    BackfillBOIN(levels=4, target=0.3),
    CRM(**MODEL),
    CRM(**MODEL, overdose=OverdoseControl(0.35, 0.4)),
    TiteCRM(**MODEL, cohort_size=3, most_pending=4),
    TiteCRM(**MODEL),
    BLRM(levels=4, amounts=(1, 2, 3, 4), reference=4, most_patients=12, points=(41, 31)),
]


@pytest.mark.parametrize("design", SIMULATED, ids=lambda one: type(one).__name__)
def test_the_advice_is_what_simulated_trials_do(design):
    """Patient by patient: the dose of the next one, and whom the cohort lacks."""
    lanes = _Lanes(
        design,
        RiskOutcomes(np.array(RISKS), EventTimes(28)),
        Accrual(9),
        Responses((0.3, 0.3, 0.3, 0.3), EventTimes(28)) if design.backfills else None,
        np.zeros(4, int),
        0,
        7,
    )
    lanes.run()
    file = DesignFile("t", ("a", "b", "c", "d"), design, by_patient=True)
    within = 0
    for i in range(4):
        for k in range(1, lanes.enrolled[i]):
            if not lanes.cohort[i, k]:
                continue  # backfilled: no advice of escalation
            seen = tuple(_seen(lanes, i, n, lanes.entry[i, k]) for n in range(k))
            data = replace(file, seen=seen).data()
            cohort = lanes.cohort[i, :k] == lanes.cohort[i, :k].max()
            inside = lanes.cohort[i, k] == lanes.cohort[i, :k].max()
            assert data.last_cohort == (
                cohort.sum(),
                sum(s.dlts for s in np.array(seen, object)[cohort]),
            )
            assert (data.lacking > 0) == inside
            found = design.next_dose(data)
            if inside and not design.fills(data.batch())[0]:
                out = design.eliminated(design._assessed(data.batch()))[0, data.current - 1]
                assert out
                assert found.action not in (Action.STAY, Action.ESCALATE)
                continue
            within += inside
            assert found.level == lanes.level[i, k], (i, k)
    assert within > 8 or design.cohort_size == 1


def _seen(lanes, i, n, now):
    entry, dlt = lanes.entry[i, n], lanes.dlt[i, n]
    had = dlt <= 28 and entry + dlt <= now
    waits = () if had or entry + 28 <= now else ((now - entry) / 28,)
    answered = lanes.responded[i, n] <= now
    return SeenCohort(
        int(lanes.level[i, n]), 1, int(had), int(answered), lanes.cohort[i, n] == 0, waits
    )


@pytest.mark.parametrize(
    "design", [BOIN(levels=4, target=0.3), ThreePlusThree(levels=4), CRM(**MODEL)]
)
def test_the_first_cohort_ahead_is_the_rest_of_an_incomplete_one(design):
    begun = TrialData((3, 1, 0, 0), (0, 1, 0, 0), 2, last_cohort=(1, 1), lacking=2)
    found = pathways(design, 1, begun)
    assert found.sizes.tolist() == [[2]] * 3
    for path, dlts in enumerate(found.dlts[:, 0]):
        full = TrialData.from_cohorts(4, [(1, 3, 0), (2, 3, 1 + int(dlts))])
        assert found.levels[path].tolist() == [2, design.next_dose(full).level or 0]


def test_who_lacks_is_checked():
    with pytest.raises(PkpdError, match="lacks 2; allowed: 0 or more patients; give last_cohort"):
        TrialData((1,), (0,), 1, lacking=2)
    with pytest.raises(PkpdError, match="lacks -1"):
        TrialData((1,), (0,), 1, last_cohort=(1, 0), lacking=-1)
    data = TrialData((1, 0), (0, 0), 1, last_cohort=(1, 0), lacking=7)
    asks = (lambda one: one.next_dose(data), lambda one: one.decide(data.batch()))
    for design in (
        BOIN(levels=2, target=0.3),
        ThreePlusThree(levels=2),
        CRM(**MODEL | {"levels": 2, "skeleton": (0.1, 0.3)}),
    ):
        for ask in asks:
            with pytest.raises(PkpdError, match="1 patient and lacks 7; allowed: at most 3 in all"):
                ask(design)
    assert BOIN(levels=2, target=0.3, cohort_size=8).next_dose(data).action == Action.STAY


@pytest.mark.parametrize(
    ("treated", "dlts", "current", "cohort", "what"),
    [
        ((1, 0), (0, 0), 1, (2, 0), "has 2 patients without one; allowed: from 0 to the 1 at the"),
        ((3, 1), (0, 0), 2, (3, 0), "has 3 patients without one; allowed: from 0 to the 1 at the"),
        ((3, 3), (3, 1), 2, (3, 2), "has 2 patients with a DLT; allowed: from 0 to the 1 at the"),
        ((3, 3), (0, 1), 2, (3, 0), "has 3 patients without one; allowed: from 0 to the 2 at the"),
        ((3, 3), (0, 1), 2, (0, 1), "has -1 patients without one"),
        ((0, 0), (0, 0), 0, (1, 0), "has 1 patients without one"),
    ],
)
def test_a_latest_cohort_is_among_the_patients_of_its_dose(treated, dlts, current, cohort, what):
    with pytest.raises(PkpdError, match=rf"^last_cohort: \({cohort[0]}, {cohort[1]}\) {what}"):
        TrialData(treated, dlts, current, last_cohort=cohort)


def test_a_pending_patient_of_a_design_that_waits_does_not_hide_a_dose_that_is_out():
    design = BLRM(levels=2, amounts=(1, 4), reference=4, points=(41, 31), cohort_size=6)
    waiting = tuple(Pending(2, 0.99) for _ in range(3))
    data = TrialData((6, 4), (0, 1), 2, waiting, last_cohort=(4, 1), lacking=2)
    assert design.next_dose(data).action == Action.SUSPEND
