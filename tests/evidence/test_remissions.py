"""Bias of remissions by group, rank correlation, and randomised contrasts, on rows made for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judging.arm_contrasts import arm_contrasts, contrasts_text, newcombe
from judging.remissions import rank_correlation, remission_bias, remission_text
from judging.scorecard import MODEL, Predicted, scorecard

from pkpd.evidence.criticism.row_predictions import RowsPredicted
from pkpd.evidence.table.table import load_evidence

HEAD = (
    "id,study,population,patients,line,age_median,schedule,n,endpoint,value,numerator,"
    "denominator,mark\n"
)
LOW = '"cytarabine:100 mg/m2:CI:1-7;daunorubicin:45 mg/m2:IV:1-3"'
HIGH = '"cytarabine:100 mg/m2:CI:1-7;daunorubicin:90 mg/m2:IV:1-3"'
# printed and predicted shares of 100
REMISSIONS = {
    "YOUNG1": ("aml", "untreated", 45, 70, 66),
    "YOUNG2": ("aml", "untreated", 59, 60, 60),
    "OLD1": ("aml_elderly", "untreated", 60, 50, 56),
    "RR1": ("aml_rr", "relapsed or refractory", "", 40, 30),
    # ages in words, an age of the population, and none
    "WORDS": ("aml", "untreated", "", 65, 63),
    "OLD2": ("aml_unfit", "untreated", "", 55, 58),
    "ALL": ("aml", "untreated", "", 45, 50),
}
WORDS = {"WORDS": "AML 18-60 y", "ALL": "AML from 18 y"}


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    lines = [HEAD]
    for study, (population, line, age, printed, _) in REMISSIONS.items():
        who = f"{population},{WORDS.get(study, '')},{line},{age}"
        lines.append(f"{study},{study},{who},{LOW},100,cr_rate,,{printed},100,READ\n")
    lines.append(f"D,YOUNG1,aml,,untreated,45,{LOW},100,day30_mortality,,9,100,READ\n")
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    file.write_text("".join(lines))
    rows = load_evidence(file).rows
    said = {study: np.full(50, told[-1] / 100) for study, told in REMISSIONS.items()}
    said["D"] = np.full(50, 0.5)
    return scorecard(rows, {MODEL: {name: Predicted(v, 0.0) for name, v in said.items()}})


def test_bias_is_by_line_and_age_and_of_remissions_alone(card):
    found = {one.group: one for one in remission_bias(card.scores[MODEL])}
    assert set(found) == {
        "untreated, below 60 years", "untreated, from 60 years", "relapsed or refractory",
        "untreated, age not told",
    }  # fmt: skip
    young = found["untreated, below 60 years"]
    assert (young.rows, young.studies) == (3, 3)
    assert young.points == pytest.approx(-2.0)
    # of -4, 0 and -2: the sum of squares about the mean is 8, and 3 studies are few
    assert young.error == pytest.approx(np.sqrt(8.0 * 3 / 2) / 3 / 100)
    old = found["untreated, from 60 years"]
    assert old.rows == 2
    assert old.points == pytest.approx(4.5)
    assert found["untreated, age not told"].points == pytest.approx(5.0)
    assert found["relapsed or refractory"].points == pytest.approx(-10.0)
    assert np.isnan(found["relapsed or refractory"].error)


def test_rank_correlation_is_over_studies(card):
    # printed 70, 65, 60, 55, 50, 45, 40; predicted 66, 63, 60, 58, 56, 50, 30: the same order
    assert rank_correlation(card.scores[MODEL]) == (pytest.approx(1.0), 7)
    text = remission_text(card)
    assert "over 7 studies, model: 1.00" in text
    assert "untreated, from 60 years" in text


def test_a_population_tells_the_line_and_children_are_no_adults(tmp_path):
    """Untreated AML whose row names no line was "line not printed", children "below 60 years"."""
    file = tmp_path / "rows.csv"
    file.write_text(
        f"{HEAD}A,A,aml,de novo AML 15-60 y,,,{LOW},100,cr_rate,,70,100,READ\n"
        f"B,B,aml,untreated AML of children,untreated,,{LOW},100,cr_rate,,70,100,READ\n"
        f"C,C,mds_high_risk,,,,{LOW},100,cr_rate,,70,100,READ\n"
    )
    rows = load_evidence(file).rows
    said = {row.id: Predicted(np.full(9, 0.6), 0.0) for row in rows}
    found = remission_bias(scorecard(rows, {MODEL: said}).scores[MODEL])
    assert [(one.group, one.rows) for one in found] == [
        ("line not printed", 1), ("untreated, below 60 years", 1)
    ]  # fmt: skip


def two_arms(tmp_path, high=(56, 70), low=(48, 80), word="randomised"):
    file = tmp_path / "arms.csv"
    lines = [HEAD]
    for name, schedule, (k, n) in (("H", HIGH, high), ("L", LOW, low)):
        lines.append(
            f"{name},T,aml,untreated AML {word},untreated,50,{schedule},{n},cr_rate,,{k},{n},READ\n"
        )
    file.write_text("".join(lines))
    return {row.id: row for row in load_evidence(file).rows}


def test_the_interval_of_a_difference_is_the_published_one(tmp_path):
    # Newcombe 1998, Table II, contrast (a), method 10
    rows = two_arms(tmp_path)
    assert newcombe(rows["H"], rows["L"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_contrasts_are_of_randomised_arms_draw_by_draw(tmp_path):
    rows = two_arms(tmp_path)
    offset = np.linspace(0.3, 0.6, 101)  # of the study: both arms have it
    values = {"H": offset + 0.15, "L": offset}
    predicted = RowsPredicted(rows, values, values, dict.fromkeys(rows, "count"))
    (one,) = arm_contrasts(predicted)
    assert one.printed == pytest.approx(0.2)
    assert (one.lower, one.upper) == pytest.approx((0.15, 0.15))
    assert one.clear
    assert one.right
    assert one.positive == 1.0
    assert not one.inside
    text = contrasts_text([one])
    assert "0 of 1 inside" in text
    assert "right in 1 of 1" in text
    # a wrong sign is told
    swapped = {"H": values["L"], "L": values["H"]}
    (other,) = arm_contrasts(RowsPredicted(rows, swapped, swapped, dict.fromkeys(rows, "count")))
    assert not other.right
    assert "wrong sign" in contrasts_text([other])
    # arms that print ages of their own are one
    aged = rows | {"L": replace(rows["L"], population=replace(rows["L"].population, age=52.0))}
    assert len(arm_contrasts(RowsPredicted(aged, values, values, predicted.kinds))) == 1
    # arms that nobody randomised are no contrast
    apart = two_arms(tmp_path, word="in two cohorts")
    assert arm_contrasts(RowsPredicted(apart, values, values, dict.fromkeys(apart, "count"))) == []
