"""The script that lets the counts of a first trial choose where the next trials begin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import two_stage


def test_a_trial_goes_up_until_two_of_a_dose_are_toxic():
    order = np.arange(60)
    none = np.zeros((5, 60), dtype=bool)
    trial = two_stage.three_plus_three(none, order, 1)
    assert (trial.dlts, trial.selected) == (0, 5)
    assert trial.rungs.tolist()[:15] == [k for k in range(5) for _ in range(3)]
    above = none.copy()
    above[2:] = True  # the third dose and those above are toxic in everybody
    trial = two_stage.three_plus_three(above, order, 1)
    assert trial.selected == 2
    assert trial.dlts >= 2
    assert trial.rungs.max() == 2
    late = two_stage.three_plus_three(above, order, 2)
    assert late.selected == 2
    assert len(late.rungs) < len(trial.rungs)


def test_starts_are_the_highest_rungs_not_above_their_share():
    ladder = two_stage.LADDER
    found = two_stage.starts(float(ladder[5]), 4)
    assert (found["conventional"], found["overdose control"], found["all"]) == (1, 4, 6)
    for name, share in two_stage.FRACTIONS.items():
        rung = found[name]
        assert ladder[rung - 1] <= share * ladder[5] * (1 + 1e-9)
        assert rung == len(ladder) or ladder[rung] > share * ladder[5]
    assert two_stage.starts(0.1, 1)["a third"] == 1  # never below the ladder


def test_a_dose_between_two_is_found_on_the_log_scale():
    doses, risks = np.array([1.0, 4.0]), np.array([0.0, 2 / 3])
    assert two_stage.dose_at(doses, risks) == pytest.approx(2.0)
    assert two_stage.dose_at(doses, np.array([0.0, 0.1])) == 4.0


def test_the_error_of_a_ratio_is_that_of_repetitions():
    rng = np.random.default_rng(1)
    whole = rng.gamma(9.0, 1.0, (4000, 50))
    part = 0.4 * whole + rng.normal(0.0, 1.0, whole.shape)
    found = [two_stage.ratio(pd.Series(a), pd.Series(b)) for a, b in zip(part, whole, strict=True)]
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(0.4, abs=0.01)
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)


@pytest.mark.long  # its parts are above
def test_the_script_learns_and_saves_patients_below_the_dose(tmp_path, capsys):
    words = ["--compounds", "4", "--people", "60", "--draws", "60", "--patients", "40"]
    found = two_stage.main([*words, "--out", str(tmp_path)])
    told = capsys.readouterr().out
    assert "80 pairs of trials" in told
    written = pd.read_csv(tmp_path / "trials.csv")
    assert len(written) == len(found) == 4 * 25 * len(two_stage.WAYS)
    conventional = found[found["way"] == "conventional"]
    assert (conventional["start"] == 1).all()
    # what is learned of the first schedule does not change the trial that taught it
    table = two_stage.table(found)
    assert table.loc["below less", "two thirds"] < 0.0
    assert table.loc["saved in second trials, %", "two thirds"] > 20.0
    assert table.loc["saved in programme, %", "conventional"] == 0.0
    # predictions are near the truth: a factor of 2 would be two rungs
    off = found.query("first != second and way == 'conventional'")["log_ratio"]
    assert abs(off.median()) < np.log(2.0)
