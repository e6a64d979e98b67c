"""VIOLA, a CRM trial of lenalidomide with azacitidine (Craddock 2019), as dtpcrm (R) has it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pkpd.designs import (
    CRM,
    EnoughAtDose,
    TooToxic,
    TrialData,
    Why,
    characteristics,
    pathways,
)


def floats(text):
    return [float(word) for word in text.split()]


VIOLA = CRM(
    levels=7,
    start=3,
    target=0.2,
    skeleton=(0.03, 0.07, 0.12, 0.20, 0.30, 0.40, 0.52),
    scale=0.75**0.5,
    coherence="rate",
    most_patients=21,
    normal_limits=True,
    stops=(TooToxic(limit=0.3, certainty=0.72), EnoughAtDose(12)),
)
PRINTED_PATHS = {  # dtpcrm's vignette: DLTs in cohort 1: dose of cohort 2; DLTs in cohort 2: dose
    # of cohort 3, and the dose after 0, 1, 2 or 3 DLTs in it, as labels d(-2) to d(4); S stops
    0: ("1", {0: "2 3210", 1: "1 20ab", 2: "a 0abb", 3: "b abbS"}),
    1: ("a", {0: "0 10ab", 1: "a abbb", 2: "b bbbS", 3: "b bbSS"}),
    2: ("b", {0: "b abbS", 1: "b bbSS", 2: "S", 3: "S"}),
    3: ("b", {0: "b bbbS", 1: "b bbSS", 2: "S", 3: "S"}),
}
LABELS = {0: "S", 1: "b", 2: "a", 3: "0", 4: "1", 5: "2", 6: "3", 7: "4"}  # b: d(-2), a: d(-1)
ALL_PATHS = "7b8d80c7a20eb8194bdbeb7a89e7d0e1d548a3f980e73678b4b97d78e2d4968f"
"""SHA-256 of `viola_dtp` of the R package precautionary: 4 ** 7 rows of doses and DLTs in turn,
D0 T1 D1 ... T7 D7, as signed bytes with -1 where the trial had stopped."""


def test_viola_after_two_cohorts():
    data = TrialData.from_cohorts(7, [(3, 3, 0), (4, 3, 0)])
    assert VIOLA.next_dose(data).level == 5
    mean, var = VIOLA.moments(data.batch())
    assert float(mean[0, 0]) == pytest.approx(0.68664475, abs=6e-9)
    assert float(var[0, 0]) == pytest.approx(0.37738481, abs=6e-9)
    printed = ".001 .005 .015 .041 .091 .162 .273"
    np.testing.assert_allclose(VIOLA.risks(data.batch())[0], floats(printed), atol=6e-4)
    low, high = VIOLA.limits(data.batch())
    printed = "0 0 0 0 .001 .007 .028"
    np.testing.assert_allclose(low[0], floats(printed), atol=6e-4)
    printed = ".079 .146 .216 .312 .419 .515 .623"
    np.testing.assert_allclose(high[0], floats(printed), atol=6e-4)


def test_the_printed_pathways_of_viola():
    found = pathways(VIOLA, 3)
    seen = set()
    for first, (second, branches) in PRINTED_PATHS.items():
        for dlts, row in branches.items():
            here = (found.dlts[:, 0] == first) & (found.dlts[:, 1] == dlts)
            doses = "".join(LABELS[level] for level in found.levels[here, 3])
            assert {LABELS[level] for level in found.levels[here, 1]} == {second}
            third, _, after = row.partition(" ")
            assert {LABELS[level] for level in found.levels[here, 2]} == {third}
            assert doses == (after or "S")
            seen |= set(np.flatnonzero(here))
    assert seen == set(range(len(found.levels)))


def test_all_16_384_pathways_of_viola():
    found = pathways(VIOLA, 7)
    rows = np.full((4**7, 15), -1, np.int8)
    outcomes = np.stack(np.meshgrid(*[np.arange(4)] * 7, indexing="ij"), axis=-1).reshape(-1, 7)
    by_path = {}
    for path, level, why, mtd in zip(found.dlts, found.levels, found.why, found.mtd, strict=True):
        last = np.where(level > 0, level, -1)
        if why == Why.MAXIMUM:  # the dose recommended after the last cohort
            last[-1] = mtd
        by_path[tuple(path[path >= 0])] = last
    for row, outcome in zip(rows, outcomes, strict=True):
        known = next(by_path[key] for k in range(1, 8) if (key := tuple(outcome[:k])) in by_path)
        row[0::2] = known
        row[1::2] = np.where(known[:7] > 0, outcome, -1)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == ALL_PATHS


@pytest.mark.parametrize(
    ("risks", "none", "selected", "enough", "treated", "patients", "dlts"),
    [
        (
            ".03 .05 .07 .20 .36 .45 .55",
            0.00004,
            ".00146 .02104 .19734 .55109 .19609 .03125 .00168",
            0.40532,
            ".1675 1.3839 5.9296 7.9224 4.1754 .8752 .0962",
            20.5502,
            4.0237,
        ),
        (
            ".005 .01 .03 .05 .07 .20 .36",
            0,
            "0 .00017 .00497 .04158 .22088 .56308 .16932",
            0.15748,
            ".0173 .3074 3.4343 4.0610 5.2311 5.4321 2.4708",
            20.9540,
            2.6513,
        ),
        (
            ".45 .55 .65 .70 .75 .80 .85",
            0.71163,
            ".28348 .00459 .00028 .00001 0 0 0",
            0.25170,
            "7.2662 1.2711 3.1098 .1595 .0048 .0001 0",
            11.8115,
            6.1056,
        ),
    ],
)
def test_characteristics_of_viola(risks, none, selected, enough, treated, patients, dlts):
    found = characteristics(VIOLA, floats(risks))
    assert float(found.none) == pytest.approx(none, abs=6e-6)
    np.testing.assert_allclose(found.selected, floats(selected), atol=6e-6)
    stopped = float(found.stopped.sel(why="enough patients at the dose"))
    assert stopped == pytest.approx(enough, abs=6e-6)
    np.testing.assert_allclose(found.treated, floats(treated), atol=6e-5)
    assert float(found.patients) == pytest.approx(patients, abs=6e-5)
    assert float(found.all_dlts) == pytest.approx(dlts, abs=6e-5)
