"""Scores of predicted rows against closed forms, and the averages that predictions must beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from judging.averages import average_of_similar
from judging.scorecard import (
    AVERAGE,
    MODEL,
    Predicted,
    as_record,
    averages,
    clustered_error,
    count_log_score,
    crps,
    day_log_score,
    kind_of,
    paired,
    predicted_row,
    regressions,
    score_row,
    scorecard,
    scorecard_rows,
    scorecard_text,
)
from scipy import stats

from pkpd.evidence.likelihood.use import terms_of
from pkpd.evidence.table.learning import LEARNING_FILES
from pkpd.evidence.table.populations import evidence_folder
from pkpd.evidence.table.table import load_evidence

HEAD = "study,population,schedule,n,endpoint,value,numerator,denominator,mark\n"
SEVEN = "cytarabine:100 mg/m2:CI:1-7;daunorubicin:60 mg/m2:IV:1-3"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sixteen studies: remission of 8 in 10 among adults, of 3 in 10 in relapse; four days."""
    lines = [HEAD]
    for i in range(8):
        lines.append(f"NEW{i},aml,{SEVEN},100,cr_rate,,{78 + i % 5},100,READ\n")
        lines.append(f"OLD{i},aml_rr,{SEVEN},100,cr_rate,,{28 + i % 5},100,READ\n")
    for i in range(4):
        day = "anc500_recovery_day_median"
        lines.append(f"NEW{i},aml,{SEVEN},60,{day},{24 + i},,,READ\n")
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    file.write_text("".join(lines))
    return load_evidence(file).rows


def row_of(rows, study, endpoint="cr_rate"):
    return next(r for r in rows if r.study == study and r.endpoint.name.startswith(endpoint))


def test_crps_is_that_of_a_normal_distribution():
    # closed form of Gneiting and Raftery (2007), equation 21
    for observed in (-1.5, 0.0, 0.7):
        known = observed * (2 * stats.norm.cdf(observed) - 1) + 2 * stats.norm.pdf(observed)
        known -= 1 / np.sqrt(np.pi)
        points = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
        assert crps(points, observed) == pytest.approx(known, abs=2e-4)


def test_log_scores_are_those_of_the_distributions():
    shares = np.random.default_rng(1).beta(8.0, 4.0, 200_000)
    known = stats.betabinom.logpmf(13, 20, 8.0, 4.0)
    assert count_log_score(shares, 13, 20) == pytest.approx(known, abs=5e-3)
    days = np.exp(np.random.default_rng(1).normal(np.log(28.0), 0.2, 200_000))
    normal = stats.norm(np.log(28.0), 0.2)
    cell = normal.cdf(np.log(30.5)) - normal.cdf(np.log(29.5))
    assert day_log_score(days, 30.0) == pytest.approx(np.log(cell), abs=0.02)


def test_errors_know_that_rows_of_a_study_depend_on_each_other():
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 5)
    studies = np.repeat(["a", "b", "c", "d"], 5)
    # twenty numbers that are four: the standard error of four
    assert clustered_error(values, list(studies)) == pytest.approx(np.std([0, 1, 2, 3], ddof=1) / 2)
    own = [str(i) for i in range(20)]
    assert clustered_error(values, own) == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    assert np.isnan(clustered_error(values, ["a"] * 20))


def test_an_average_is_that_of_the_same_endpoint_and_population(rows):
    row, rng = row_of(rows, "NEW0"), np.random.default_rng(1)
    found = average_of_similar(row, rows, rng)
    assert found.of == "cr_rate, aml"
    assert found.studies == 7
    assert np.median(found.values) == pytest.approx(0.8, abs=0.02)
    # seven studies of a hundred patients scatter as a binomial does
    known = stats.binom.logpmf(row.numerator, 100, 0.8)
    assert found.log_score == pytest.approx(known, abs=0.5)
    relapsed = average_of_similar(row_of(rows, "OLD1"), rows, rng)
    assert np.median(relapsed.values) == pytest.approx(0.3, abs=0.03)
    days = average_of_similar(row_of(rows, "NEW0", "anc500"), rows, rng)
    assert np.median(days.values) == pytest.approx(26, abs=1)
    assert days.studies == 3
    few = [r for r in rows if r.study in ("NEW0", "NEW1", "OLD0", "OLD1")]
    # two of the population are too few; three of the endpoint serve
    assert average_of_similar(row, few, rng).of == "cr_rate, all"
    assert average_of_similar(row_of(rows, "NEW0", "anc500"), few, rng) is None


def test_other_thresholds_and_days_are_averaged_only_where_few_have_the_same(tmp_path):
    """Recovery to 0.5 was pooled with that to 1, and deaths by day 30 with those by day 60."""
    lines = [HEAD]
    for i in range(4):
        days = (("anc500", 24 + i % 2), ("anc1000", 34 + i % 2))
        for of, line in (("AML", "aml"), ("OLD", "aml_rr")):
            lines += [
                f"{of}{k}{i},{line},{SEVEN},60,{k}_recovery_day_median,{day},,,READ\n"
                for k, day in days
            ]
            lines += [
                f"{of}{k}{i},{line},{SEVEN},100,day{k}_mortality,,{k // 3 + i},100,READ\n"
                for k in (30, 60)
            ]
    lines.append(f"X,aml,{SEVEN},60,plt20_recovery_day_median,29,,,READ\n")
    lines += [f"Y{i},aml,{SEVEN},60,plt100_recovery_day_median,31,,,READ\n" for i in range(3)]
    file = tmp_path / "rows.csv"
    file.write_text("".join(lines))
    table, rng = load_evidence(file).rows, np.random.default_rng(1)

    def said(study, endpoint):
        return average_of_similar(row_of(table, study, endpoint), table, rng)

    low, high = said("AMLanc5000", "anc500"), said("AMLanc10000", "anc1000")
    assert (low.of, low.studies) == ("anc500_recovery_day_median, aml", 3)
    assert np.median(low.values) == pytest.approx(24.5, abs=1.0)
    assert np.median(high.values) == pytest.approx(34.5, abs=1.0)
    early, late = said("OLD300", "day30"), said("OLD600", "day60")
    assert (early.studies, late.studies) == (3, 3)
    assert np.median(early.values) == pytest.approx(0.11, abs=0.015)
    assert np.median(late.values) == pytest.approx(0.21, abs=0.015)
    # nobody else printed platelets of 20: those of 100 serve, as they did
    assert said("X", "plt20").of == "recovery_day platelets, aml"


def test_a_card_tells_who_predicts_better(rows):
    shares = [r for r in rows if r.endpoint.kind == "count"]
    rng = np.random.default_rng(3)
    # a model that says one half of everything, and one that knows
    blind = {r.id: Predicted(rng.binomial(100, 0.5, 500) / 100, -10.0) for r in shares}
    knows = {r.id: Predicted(rng.binomial(100, r.numerator / 100, 500) / 100, -2.5) for r in shares}
    bad = scorecard(shares, {MODEL: blind, AVERAGE: averages(shares, rows)})
    assert bad.coverage(MODEL, 0.9) == (0, 16)
    assert bad.coverage(AVERAGE, 0.9)[0] >= 15
    told = as_record(bad)
    assert told["average"]["difference"] > 5 * told["average"]["error"]
    assert told["about"] == {"remission or response": 16}
    good = scorecard(shares, {MODEL: knows, AVERAGE: averages(shares, rows)})
    both = good.against(AVERAGE, [r.id for r in shares], lambda one: one.crps)
    assert both.rows == both.studies == 16
    assert both.difference < 0
    text = scorecard_text(good)
    assert "16 rows of 16 studies" in text
    assert "population: aml_relapsed" in text
    assert len(scorecard_rows(good)) == 32
    none = paired(good.scores[MODEL], [], lambda one: one.crps)
    assert none.rows == 0


def test_days_are_scored_on_the_log_scale(rows):
    row = row_of(rows, "NEW2", "anc500")
    score = score_row(row, MODEL, Predicted(np.array([13.0, 26.0, 52.0, np.nan]), -3.0))
    assert score.width[0.9] == pytest.approx(np.log(4.0))
    assert score.inside[0.9]
    assert score.pit == pytest.approx(0.5)
    assert score.crps == pytest.approx(crps(np.log([13.0, 26.0, 52.0]), np.log(26.0)))


def test_what_calibrated_intervals_hold_is_told(rows):
    """Of 20 patients the 50 % interval of a right prediction holds more than half of the trials."""
    row = replace(row_of(rows, "NEW0"), numerator=5, denominator=20)
    values = stats.binom.ppf((np.arange(4000) + 0.5) / 4000, 20, 0.25) / 20
    score = score_row(row, MODEL, Predicted(values, -1.0))
    for level in (0.5, 0.9):
        low, high = stats.binom.ppf([0.5 - level / 2, 0.5 + level / 2], 20, 0.25)
        exact = stats.binom.cdf(high, 20, 0.25) - stats.binom.cdf(low - 1, 20, 0.25)
        assert score.held[level] == pytest.approx(exact, abs=1e-3)
        assert exact > level
    card = scorecard([row], {MODEL: {row.id: Predicted(values, -1.0)}})
    assert f"calibrated, model: {score.held[0.5]:.1%}, " in scorecard_text(card)


def test_what_an_average_cannot_predict_is_named(rows):
    few = [r for r in rows if r.study in ("NEW0", "NEW1")]
    said = {r.id: Predicted(np.full(9, 0.5), -1.0) for r in few}
    card = scorecard(few, {MODEL: said, AVERAGE: averages(few, few)})
    assert f"{AVERAGE} cannot predict 4 rows: " in scorecard_text(card)


def test_counts_at_the_start_are_no_whole_days(tmp_path):
    """Neutrophils of 0.9 were predicted as 0 or 1, and scored as any from 0.4 to 1.4."""
    lines = [HEAD]
    for i in range(8):
        lines.append(f"S{i},aml,none,60,baseline_anc_median,{0.8 + 0.02 * i:.2f},,,READ\n")
    file = tmp_path / "rows.csv"
    file.write_text("".join(lines))
    table = load_evidence(file).rows
    found = averages(table[:1], table)[table[0].id]
    assert np.median(found.values) == pytest.approx(0.87, abs=0.05)
    assert found.log_score < np.log(0.5)
    said = regressions(table[:1], terms_of(load_evidence(file)))[table[0].id]
    assert np.unique(said.values).size > 100
    x = np.log(np.linspace(0.7, 1.1, 400))
    width = 0.9 * x.std() * 400**-0.2
    # 0.80 stands for 0.776 to 0.824
    share = np.mean(
        stats.norm.cdf(np.log(0.824), x, width) - stats.norm.cdf(np.log(0.776), x, width)
    )
    assert day_log_score(np.exp(x), 0.8, count=True) == pytest.approx(np.log(share), rel=1e-3)


def test_low_counts_at_the_start_are_told_apart(tmp_path):
    """Neutrophils of 0.1 were scored as those of 0.3: a prediction of 0.3 was right."""
    file = tmp_path / "rows.csv"
    file.write_text(f"{HEAD}S,aml,none,60,baseline_anc_median,0.1,,,READ\n")
    (row,) = load_evidence(file).rows
    right, wrong = (predicted_row(row, np.full(50, x), np.empty(0)) for x in (0.1, 0.3))
    assert score_row(row, MODEL, right).crps == pytest.approx(0.0)
    assert score_row(row, MODEL, wrong).crps == pytest.approx(np.log(3.0))
    assert not score_row(row, MODEL, wrong).inside[0.9]
    assert right.log_score > wrong.log_score


@pytest.mark.parametrize(
    ("endpoint", "value"), [("anc_recovery_diff_d", -5.0), ("anc_recovery_time_ratio", 0.8)]
)
def test_what_compares_two_arms_is_not_scored_as_a_day(tmp_path, endpoint, value):
    """Five days earlier was scored as day -5: the logarithm of a negative number."""
    file = tmp_path / "rows.csv"
    less = SEVEN.replace("60", "45")
    head = HEAD.replace("mark", "mark,other_schedule")
    file.write_text(f"{head}S,aml,{SEVEN},60,{endpoint},{value},,,READ,{less}\n")
    (row,) = load_evidence(file).rows
    said = predicted_row(row, np.linspace(0.5, 1.5, 50) * value, np.empty(0))
    assert np.median(said.values) == pytest.approx(value)
    assert np.isnan(said.log_score)


def test_every_endpoint_of_the_tables_has_words():
    """Long runs of low counts and cytopenias at the start were told by their short names."""
    for file in (*LEARNING_FILES, "later_outcomes.csv", "unseen_outcomes.csv"):
        for row in load_evidence(evidence_folder() / file):
            if row.endpoint.alternatives:
                assert "_" not in kind_of(row), row.id


def test_a_ratio_of_two_arms_is_no_day(rows, tmp_path):
    """A ratio of 0.85 stood among days of recovery of 24 to 27 as day 0.85."""
    file = tmp_path / "two.csv"
    head = HEAD.replace("mark", "mark,other_schedule")
    other = "cytarabine:100 mg/m2:CI:1-7"
    file.write_text(f"{head}TWO,aml,{SEVEN},60,anc_recovery_time_ratio,0.85,,,READ,{other}\n")
    (two,) = load_evidence(file).rows
    row = row_of(rows, "NEW0", "anc500")
    alone = average_of_similar(row, rows, np.random.default_rng(1))
    beside = average_of_similar(row, (*rows, two), np.random.default_rng(1))
    np.testing.assert_array_equal(beside.values, alone.values)
    assert beside.studies == alone.studies == 3
    assert average_of_similar(two, rows, np.random.default_rng(1)) is None
