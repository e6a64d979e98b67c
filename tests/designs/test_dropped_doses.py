"""Doses that interval designs drop: told with their boundaries, and out for good in a replay."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.designs import (
    BOIN,
    Accrual,
    Action,
    BackfillBOIN,
    EventTimes,
    Keyboard,
    Pending,
    Responses,
    TiteBOIN,
    TrialData,
    decision_table,
    pathways,
)
from pkpd.designs.design_card import load_design
from pkpd.designs.simulate import trials
from pkpd.designs.text import replay, table_lines
from pkpd.errors import PkpdError

CAREFUL = BOIN(levels=5, target=0.3, lowest_offset=0.15)
HEAD = """kind = "design"
title = "A trial that left its design"
doses = ["A", "B", "C", "D"]

[design]
name = "{name}"
target = 0.3
"""
COHORT = '\n[[cohort]]\ndose = "{}"\ntreated = {}\ndlts = {}\n'


def file_of(path, cohorts, name="BOIN"):
    text = HEAD.format(name=name) + "".join(COHORT.format(*one) for one in cohorts)
    (path / "trial.toml").write_text(text)
    return load_design(path / "trial.toml")


def test_the_table_tells_the_boundaries_of_the_lowest_dose():
    lines = table_lines(CAREFUL)
    assert "The lowest dose is dropped, and the trial stops, by the last column." in lines[0]
    assert lines[1].split("  ")[-1].strip() == "drop lowest at"
    six = next(line for line in lines if line.split()[:1] == ["6"])
    assert six.split() == ["6", "1", "3", "4", "3"]
    found = CAREFUL.next_dose(TrialData((6, 0, 0, 0, 0), (3, 0, 0, 0, 0), 1))
    assert found.action == Action.STOP
    table = decision_table(CAREFUL, 6)
    assert (table.lowest[5], table.letters[5, 3]) == (3, "D")
    # each row is what the design does at the lowest dose
    for n, fewest in zip(table.patients, decision_table(CAREFUL, 12).lowest, strict=False):
        for y in range(n + 1):
            seen = TrialData((int(n), 0, 0, 0, 0), (y, 0, 0, 0, 0), 1)
            stops = CAREFUL.next_dose(seen).action == Action.STOP
            assert stops == (0 <= fewest <= y)


def test_without_an_offset_the_table_has_no_further_column():
    lines = table_lines(BOIN(levels=5, target=0.3))
    assert "lowest" not in "".join(lines[:2])
    table = decision_table(BOIN(levels=5, target=0.3), 6)
    assert table.lowest.tolist() == [-1, -1, 3, 3, 4, 4]
    assert "drop lowest at" in table_lines(TiteBOIN(levels=5, target=0.3, lowest_offset=0.15))[1]


def test_the_reason_of_a_stop_gives_the_boundary():
    found = CAREFUL.next_dose(TrialData((6, 0, 0, 0, 0), (3, 0, 0, 0, 0), 1))
    assert found.reason == (
        "3 of 6 patients at dose 1 had a DLT, and the lowest dose is dropped for toxicity with all "
        "higher ones: of 6 patients at 3 or more."
    )
    found = CAREFUL.next_dose(TrialData((6, 3, 0, 0, 0), (3, 0, 0, 0, 0), 2))
    assert "the lowest dose is dropped for toxicity with all higher ones, after 3 of 6" in (
        found.reason
    )


def test_one_patient_is_one_patient():
    found = Keyboard(levels=3, target=0.3, cohort_size=1).next_dose(
        TrialData((1, 0, 0), (0,) * 3, 1)
    )
    assert found.reason.startswith("0 of 1 patient at dose 1 had a DLT; with 1 patient escalate")
    dropped = Keyboard(levels=3, target=0.2, cohort_size=1)
    found = dropped.next_dose(TrialData((1, 0, 0), (1, 0, 0), 1))
    assert "of 1 patient at 1 or more" in found.reason


def test_a_dose_dropped_once_stays_out_of_a_replay(tmp_path):
    cohorts = [("A", 3, 0), ("B", 3, 0), ("C", 3, 3), ("B", 3, 0), ("C", 6, 0)]
    for name in ("BOIN", "keyboard"):
        file = file_of(tmp_path, cohorts, name)
        assert file.data().dropped == 3
        assert [file.data(k).dropped for k in range(1, 6)] == [0, 0, 0, 3, 3]
        lines = replay(file)
        assert lines[-2] == (
            "Next: de-escalate to B. 3 of 9 patients at C had a DLT; with 9 patients escalate at "
            "2 or fewer, de-escalate at 4 or more; C was dropped before and stays out with all "
            "higher ones."
        )
        assert lines[-1] == "Not to be given: C, D."
        assert (pathways(file.design, 1, file.data()).levels[:, 1] < 3).all()
        assert int(file.design.select(file.data())[0]) == 2
    # counts without their history are judged as they are
    plain = BOIN(levels=4, target=0.3).next_dose(TrialData((3, 6, 9, 0), (0, 0, 3, 0), 3))
    assert plain.level == 3


def test_a_trial_that_went_on_after_its_stop_stays_stopped(tmp_path):
    file = file_of(tmp_path, [("A", 3, 3), ("A", 6, 0)])
    found = file.design.next_dose(file.data())
    assert (found.action, found.mtd) == (Action.STOP, None)
    assert found.reason == (
        "3 of 9 patients at dose 1 had a DLT, and the lowest dose was dropped before and stays out "
        "with all higher ones."
    )


def test_what_was_dropped_before_can_be_given(tmp_path):
    file = file_of(tmp_path, [("A", 3, 0), ("B", 3, 1), ("B", 3, 0)])
    assert file.data().dropped == 0
    with pytest.raises(PkpdError, match="the dropped dose is 5"):
        TrialData((3, 0, 0), (0, 0, 0), 1, dropped=5)
    design, seen = BOIN(levels=3, target=0.3), TrialData((3, 3, 3), (0,) * 3, 3, dropped=2)
    np.testing.assert_array_equal(design.eliminated(seen), [[False, True, True]])
    assert design.next_dose(seen).level == 1


def test_pending_backfilled_patients_do_not_hide_a_dose_that_is_dropped():
    waiting = tuple(Pending(2, 0.5) for _ in range(3))
    counts = {"backfilled": (0, 3, 0, 0), "responses": (1, 1, 0, 0)}
    seen = TrialData((3, 6, 3, 0), (0, 3, 0, 0), 3, waiting, **counts)
    found = BackfillBOIN(levels=4, target=0.25).next_dose(seen)
    assert (found.level, found.eliminated) == (1, (2, 3, 4))
    assert "dose 2 is dropped for toxicity with all higher ones, after 3 of 3" in found.reason


def test_no_simulated_patient_is_treated_at_a_dose_that_was_dropped(monkeypatch):
    """Backfilled patients whose assessment ends without a DLT bring no dropped dose back."""
    levels, treated_again = 4, []

    class Watched(trials._Lanes):
        def _decide(self, asks):
            data = self._seen(asks, self.clock[asks])
            some = np.flatnonzero(~self.design.must_wait(data))
            if not hasattr(self, "gone"):
                self.gone = np.zeros((len(self.draw), levels), bool)
            self.gone[asks[some]] |= self.design.eliminated(data.take(some).without_pending())
            super()._decide(asks)

        def _enrol(self, rows, level, cohort):
            treated_again.append(self.gone[rows, level - 1])
            super()._enrol(rows, level, cohort)

    monkeypatch.setattr(trials, "_Lanes", Watched)
    design = BackfillBOIN(levels=levels, target=0.25, eliminate_from=1, elimination=0.9)
    times = EventTimes(30)
    risks, responses = [0.1, 0.2, 0.35, 0.5], Responses([0.3] * levels, times)
    found = trials.simulate_trials(
        design, risks, accrual=Accrual(5), times=times, responses=responses, trials=400
    )
    assert float(found.backfilled.sum()) > 1.0
    assert not np.concatenate(treated_again).any()
