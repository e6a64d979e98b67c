"""Pairs of arms against arithmetic and a bootstrap of studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judging.pairs_of_arms import (
    Pair,
    pairs_of_arms,
    pairs_record,
    pairs_text,
    scale_of,
    scaled_by_others,
    score_of,
)
from judging.scorecard import with_scores
from scipy.special import digamma, logit
from scipy.stats import binom

from pkpd.evidence.criticism.row_predictions import RowsPredicted
from pkpd.evidence.posterior.shipped import shipped_posterior
from pkpd.evidence.posterior.stored import load_posterior
from pkpd.evidence.table.schedule import parse_schedule
from pkpd.evidence.table.table import load_evidence

HEAD = "study,population,schedule,n,endpoint,value,numerator,denominator,mark,patients\n"
LOW = "cytarabine:100 mg/m2:CI:1-7;daunorubicin:45 mg/m2:IV:1-3"
HIGH = "cytarabine:100 mg/m2:CI:1-7;daunorubicin:90 mg/m2:IV:1-3"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Three arms of one study, of which two have the same doses, and one of another."""
    lines = [HEAD]
    arms = ("A", LOW, 30, 100), ("A", HIGH, 60, 100), ("A", LOW, 40, 101), ("B", HIGH, 50, 100)
    for study, schedule, k, n in arms:
        lines.append(f"{study},aml,{schedule},{n},cr_rate,,{k},{n},READ,randomised\n")
    lines.append(f"A,aml,{HIGH},60,anc500_recovery_day_median,24,,,READ,\n")
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    file.write_text("".join(lines))
    return load_evidence(file).rows


def test_pairs_are_arms_of_one_study_with_other_doses_and_their_logits(rows):
    chances = {row.id: np.full(50, 0.2 + 0.1 * i) for i, row in enumerate(rows[:4])}
    by_id = {row.id: row for row in rows}
    predicted = RowsPredicted(by_id, chances, chances | {rows[4].id: np.empty(0)}, {})
    first, second = pairs_of_arms(predicted)
    assert (first.first, first.second) == (rows[0], rows[1])
    assert (second.first, second.second) == (rows[1], rows[2])
    # half a patient in each cell: 30.5 of 101 against 60.5 of 101; arms of one size
    assert first.printed == pytest.approx(np.log(30.5 / 70.5) - np.log(60.5 / 40.5))
    assert first.variance == pytest.approx(1 / 30.5 + 1 / 70.5 + 1 / 60.5 + 1 / 40.5)
    assert first.predicted == pytest.approx(np.log(0.2 / 0.8) - np.log(0.3 / 0.7))
    # a study's own weights are of its pairs alone
    heavy = np.where(np.arange(50) < 25, 1.0, 0.0)
    uneven = {rows[0].id: np.where(heavy > 0, 0.4, 0.1), rows[1].id: chances[rows[1].id]}
    weighed = RowsPredicted(by_id, chances, predicted.chances | uneven, {})
    (told, _), (same, _) = (pairs_of_arms(weighed, {name: heavy}) for name in ("A", "B"))
    assert told.predicted == pytest.approx(np.log(0.4 / 0.6) - np.log(0.3 / 0.7))
    assert same.predicted == pytest.approx(np.log(0.25 / 0.75) - np.log(0.3 / 0.7))
    assert told.printed == same.printed == first.printed


def test_the_difference_is_that_of_the_risks_that_a_comparison_prints(rows):
    """Means of draws; the mean of draws' logits is farther out where risks are skew."""
    rng, by_id, size = np.random.default_rng(2), {row.id: row for row in rows[:2]}, 34.0
    chances = {
        name: rng.beta(risk * size, (1.0 - risk) * size, 40_000)
        for name, risk in zip(by_id, (0.05, 0.15), strict=True)
    }
    (pair,) = pairs_of_arms(RowsPredicted(by_id, chances, chances, {}))
    # 40,000 draws: standard errors 0.005
    assert pair.predicted == pytest.approx(logit(0.05) - logit(0.15), abs=0.02)
    means = [digamma(risk * size) - digamma((1.0 - risk) * size) for risk in (0.05, 0.15)]
    assert pair.by_draw == pytest.approx(means[0] - means[1], abs=0.02)
    assert pair.by_draw < pair.predicted - 0.1


def test_the_same_risk_in_arms_of_other_sizes_is_no_difference(rows):
    """Half a patient is more of 6 than of 60: equal risks of 6 % were a difference."""
    arms = [
        replace(row, numerator=k, denominator=n)
        for row, k, n in ((rows[0], 0, 6), (rows[1], 4, 60))
    ]
    rng, pooled = np.random.default_rng(3), 4 / 66
    values = {row.id: rng.binomial(row.denominator, pooled, 40_000) / row.denominator
              for row in arms}  # fmt: skip
    chances = {row.id: np.full(40_000, pooled) for row in arms}
    (pair,) = pairs_of_arms(RowsPredicted({row.id: row for row in arms}, values, chances, {}))
    # 40,000 trials: standard error 0.005
    assert pair.predicted == pytest.approx(0.0, abs=0.02)
    k = np.arange(7)
    small = binom.pmf(k, 6, pooled) @ np.log((k + 0.5) / (6.5 - k))
    k = np.arange(61)
    large = binom.pmf(k, 60, pooled) @ np.log((k + 0.5) / (60.5 - k))
    printed = np.log(0.5 / 6.5) - np.log(4.5 / 56.5)
    assert pair.printed == pytest.approx(printed - (small - large))
    assert small - large > 0.3


def test_the_drug_of_a_pair_is_that_of_either_arm(rows):
    """A control arm that stood first made a pair one with "other" drugs."""
    treated = replace(rows[0], schedule=parse_schedule("clofarabine:40 mg/m2:IV1h:1-5"))
    pairs = [
        Pair(*(arm if i % 2 else arm[::-1]), 0.3, 0.2, 0.1, 0.2)
        for i in range(4)
        for arm in [tuple(replace(row, study=f"S{i}") for row in (treated, rows[1]))]
    ]
    (told,) = [line for line in pairs_text(pairs).splitlines() if line.startswith("clofarabine")]
    assert told.split()[1:3] == ["4", "4"]
    assert "\nother" not in pairs_text(pairs)


def made_up(rows, slope, studies=60, seed=5):
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(studies):
        row = replace(rows[0], study=f"S{i}")
        shared = 0.3 * rng.standard_normal()
        for _ in range(1 + i % 3):
            x, v = rng.standard_normal(), rng.uniform(0.05, 0.5)
            y = slope * x + shared + np.sqrt(v) * rng.standard_normal()
            pairs.append(Pair(row, row, float(y), float(x), float(v), 1.5 * float(x)))
    return pairs


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_slope_and_errors_are_those_of_a_bootstrap_of_studies(rows, slope):
    pairs = made_up(rows, slope)
    got = score_of(pairs)
    assert (got.pairs, got.studies) == (120, 60)
    assert abs(got.slope - slope) < 4.0 * got.slope_error
    names = sorted({pair.first.study for pair in pairs})
    mine = {name: [p for p in pairs if p.first.study == name] for name in names}
    rng = np.random.default_rng(1)
    again = [
        score_of(
            [
                replace(p, first=replace(p.first, study=f"{p.first.study} {j}"))
                for j, name in enumerate(rng.choice(names, len(names)))
                for p in mine[name]
            ]
        )
        for _ in range(200)
    ]
    # 200 bootstrap draws tell a standard deviation within 5 %, the sandwich within about 10 %
    assert got.slope_error == pytest.approx(np.std([one.slope for one in again]), rel=0.25)
    assert got.less_error == pytest.approx(np.std([one.less for one in again]), rel=0.25)
    # the errors are those of arithmetic
    y, x = np.array([(p.printed, p.predicted) for p in pairs]).T
    w = np.array([1.0 / p.variance for p in pairs])
    assert got.error == pytest.approx(np.average((y - x) ** 2, weights=w))
    assert got.of_none == pytest.approx(np.average(y**2, weights=w))
    assert got.less == pytest.approx(got.error - got.of_none)


def test_a_scale_is_that_of_the_other_studies_drawn_towards_one(rows):
    pairs = made_up(rows, 0.5)
    scaled = scaled_by_others(pairs)
    own = [pair for pair in pairs if pair.first.study == "S2"]
    told = score_of([pair for pair in pairs if pair.first.study != "S2"])
    # two normal numbers weighed by their precisions: 1 (SD 0.5) and the slope
    ones, others = 1 / 0.5**2, 1 / told.slope_error**2
    scale = (ones * 1.0 + others * told.slope) / (ones + others)
    for pair, made in zip(pairs, scaled, strict=True):
        if pair in own:
            assert made == replace(pair, predicted=pytest.approx(scale * pair.predicted))
    # what a study prints tells nothing about its own scale
    other = [replace(p, printed=9.0) if p in own else p for p in pairs]
    again = [made for pair, made in zip(other, scaled_by_others(other), strict=True)
             if pair.first.study == "S2"]  # fmt: skip
    assert [p.predicted for p in again] == [m.predicted for m in scaled if m.first.study == "S2"]
    assert scale_of(own) == 1.0
    whole = pairs_record(pairs)
    record = whole["scaled"]
    assert whole["by_draw"]["slope"] == pytest.approx(whole["slope"] / 1.5)
    assert record["less"] == score_of(scaled).less < score_of(pairs).less
    assert "slope" not in record
    text = pairs_text(pairs)
    assert f"scaled by the slope of other studies, {record['scale']:.2f} over all" in text
    assert "scaled" not in pairs_text(made_up(rows, 0.5, studies=11))


@pytest.mark.slow
def test_the_error_of_scaled_pairs_is_that_of_repeated_tables(rows):
    """Of 31 studies, as those left out; 300 tables tell a standard deviation within 4 %."""
    found = [
        score_of(scaled_by_others(made_up(rows, 0.5, studies=31, seed=seed))) for seed in range(300)
    ]
    spread = np.std([one.less for one in found])
    assert np.mean([one.less_error for one in found]) == pytest.approx(spread, rel=0.15)


def test_groups_of_few_studies_are_left_out(rows):
    text = pairs_text(made_up(rows, 1.0, studies=6))
    assert "all pairs" in text
    assert "randomised" in text
    assert "all pairs" not in pairs_text(made_up(rows, 1.0, studies=2))


def test_scores_that_a_posterior_takes_change_no_draw(tmp_path):
    file, shipped = tmp_path / "posterior.nc", shipped_posterior()
    with_scores(shipped, {"left_out": {"rows": 3}}).save(file, default=True)
    again = load_posterior(file)
    assert again.digits == shipped.digits
    assert again.record["tested"] == {**shipped.record["tested"], "left_out": {"rows": 3}}
