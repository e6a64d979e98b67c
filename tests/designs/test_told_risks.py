"""What is said of simulated risks, of risks that fall, and of the settings of 3+3."""

import numpy as np
import pytest

from pkpd.designs import BOIN, RollingSix, ThreePlusThree, TrialData, characteristics
from pkpd.designs.command import design_lines
from pkpd.designs.options import design_options
from pkpd.designs.predicted import Predicted
from pkpd.designs.text import characteristics_lines, table_lines

FILE = """
kind = "design"
doses = ["5 mg", "10 mg"]
schedules = "mine.toml"
[design]
name = "{name}"
target = 0.25
[window]
days = 28
[accrual]
every_days = 10
"""
FOUND = Predicted(
    ("10 mg", "5 mg"),
    np.array([[0.3, 0.1], [0.5, 0.2]]),
    (1.0, 1.0),
    (0.04, 0.02),
    "300 patients under 100 draws of the parameters",
)


@pytest.mark.parametrize("name", ["BOIN", "TITE-BOIN"])
def test_simulated_risks_are_told_as_such_with_their_error(tmp_path, name):
    path = tmp_path / "d.toml"
    path.write_text(FILE.format(name=name))
    lines = list(design_lines(path, operating=True, trials=50, predict=lambda *_, **__: FOUND))
    text = "\n".join(lines)
    first = next(line for line in lines if line.startswith("Operating"))
    assert "simulated" in first
    assert "true risk" not in text
    for told in (
        "predicted risk",
        "0.150 +- 0.020",
        "0.400 +- 0.040",  # in the order of the doses
        "300 patients under 100 draws",
        "another --seed gives other risks",
    ):
        assert told in text


def test_the_help_of_the_seed_names_the_predicted_risks():
    seed = design_options.__annotations__["seed"]
    assert "risks that a schedule file predicts" in seed


def test_falling_risks_are_not_said_to_be_all_far_above_the_target():
    design = BOIN(levels=3, target=0.25)
    lines = characteristics_lines(characteristics(design, [0.4, 0.2, 0.1]), ["a", "b", "c"])
    text = "\n".join(lines)
    assert "True risks fall from a (0.4) to b (0.2)" in text
    assert "far above" not in text
    assert "The dose closest to the target 0.25 is b" in text
    lines = characteristics_lines(characteristics(design, [0.6, 0.5, 0.7]), ["a", "b", "c"])
    assert "Even the dose of the least risk is far above" in "\n".join(lines)


def test_the_table_of_three_plus_three_tells_its_settings():
    plain, six, rough = (
        table_lines(ThreePlusThree(levels=3, **how))[-1]
        for how in ({}, {"six_at_top": True}, {"de_escalate": False})
    )
    assert "selected at E, of three patients without a DLT too" in plain
    assert "filled up to six" in plain
    assert "six patients are needed too" in six
    assert "selected as it stands" in rough
    rolling = table_lines(RollingSix(levels=3))[-1]
    assert "E at 3 and 4 patients is S" in rolling
    assert "once 5 are assessed without a DLT, or 6" in rolling


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (3, None),
        (4, "E at 3 patients is S: such a dose is selected once 4 are assessed."),
        (5, "E at 3 and 4 patients is S: such a dose is selected once 5 are assessed."),
        (8, "E at 3 and 4 patients is S: such a dose is selected once 5 are assessed without a"),
    ],
)
def test_the_table_of_rolling_six_tells_how_many_a_dose_needs(most, told):
    design = RollingSix(levels=1, enrolled_most=most)
    line = table_lines(design)[-1]
    assert ("At the highest dose" in line) is (told is not None)
    assert (told or "") in line
    # what the line says of the highest dose is what the design does there
    ends = [n for n in range(3, 7) if design.next_dose(TrialData((n,), (0,), 1)).mtd == 1]
    assert min(ends) == min(most, 5)
