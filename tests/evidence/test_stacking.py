"""Weights of the mixture against an independent optimiser, and its predictions against sums."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judging import scorecard as card
from judging.scorecard import AVERAGE, MODEL, REGRESSION, Predicted
from judging.stacking import (
    ALL,
    MEMBERS,
    SHARED,
    Mixture,
    learn_mixture,
    mixed,
    mixed_by_fold,
    read_mixture,
)
from scipy.optimize import minimize
from scipy.special import logsumexp

from pkpd.errors import PkpdError
from pkpd.evidence.table.table import load_evidence

SHIPPED = Path("models/evidence/mixture.csv")


@pytest.fixture(scope="module")
def rows():
    """Some rows on remission, deaths and days, with names of their own."""
    table = [row for row in load_evidence() if row.endpoint.alternatives and card.of_one_arm(row)]
    kinds = ("remission or response", "early death", "day of recovery")
    chosen = [[row for row in table if card.kind_of(row) == kind][:20] for kind in kinds]
    return [
        replace(row, id=f"{row.id} {i}")
        for i, row in enumerate(row for kind in chosen for row in kind)
    ]


def made_up(rows, seed=3):
    """Scores and values of three members that are good at different endpoints."""
    rng = np.random.default_rng(seed)
    best = {"remission or response": 0, "early death": 2, "day of recovery": 1}
    said = {name: {} for name in MEMBERS}
    for row in rows:
        for i, name in enumerate(MEMBERS):
            score = rng.normal(-3.0, 1.0) + (1.0 if best[card.kind_of(row)] == i else 0.0)
            values = rng.uniform(0.1, 0.9, 200 + 100 * i)
            said[name][row.id] = Predicted(values if row.denominator else 40 * values, score)
    return said


def by_optimiser(scores, counts):
    def loss(w):
        return -counts @ logsumexp(scores, axis=1, b=np.maximum(w, 1e-12))

    whole = {"type": "eq", "fun": lambda w: w.sum() - 1.0}
    found = minimize(
        loss, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints=whole, method="SLSQP", tol=1e-12
    )
    return found.x


def test_weights_are_those_of_an_optimiser(rows):
    said = made_up(rows)
    found = learn_mixture(rows, said)
    scores = np.array([[said[n][row.id].log_score for n in MEMBERS] for row in rows])
    kinds = np.array([card.kind_of(row) for row in rows])
    assert found.rows == {ALL: 60} | dict.fromkeys(found.weights.keys() - {ALL}, 20)
    for kind, w in found.weights.items():
        own = np.ones(60) if kind == ALL else (kinds == kind) + SHARED / 60
        assert w == pytest.approx(by_optimiser(scores, own), abs=2e-3)


def test_a_kind_with_few_rows_has_about_the_weights_of_all(rows):
    said = made_up(rows)
    few = [row for row in rows if card.kind_of(row) != "early death"]
    one = [row for row in rows if card.kind_of(row) == "early death"][:1]
    found = learn_mixture(few + one, said)
    assert found.weights["early death"] == pytest.approx(found.weights[ALL], abs=0.06)


def test_a_mixture_has_the_scores_of_its_distribution(rows):
    row, said = rows[0], made_up(rows)
    w = np.array([0.5, 0.2, 0.3])
    found = Mixture({ALL: w}, {ALL: 60}).predicted(row, said)
    parts = [said[name][row.id] for name in MEMBERS]
    assert found.log_score == pytest.approx(
        np.log(w @ np.exp([one.log_score for one in parts])), rel=1e-12
    )
    y = row.numerator / row.denominator
    from_parts = sum(w * [np.abs(one.values - y).mean() for one in parts])
    between = [[np.abs(a.values[:, None] - b.values).mean() for b in parts] for a in parts]
    assert card.crps(found.values, y) == pytest.approx(from_parts - 0.5 * w @ between @ w, abs=2e-4)


def test_who_says_nothing_leaves_the_weight_to_the_others(rows):
    row, said = rows[0], made_up(rows)
    mixture = Mixture({ALL: np.array([0.5, 0.2, 0.3])}, {ALL: 60})
    two = said | {AVERAGE: {}}
    scores = np.array([said[name][row.id].log_score for name in (MODEL, REGRESSION)])
    expected = np.log(np.array([0.5, 0.3]) @ np.exp(scores) / 0.8)
    assert mixture.predicted(row, two).log_score == pytest.approx(expected, rel=1e-12)
    # a member without weight that alone is there beside the model: both halves
    none = Mixture({ALL: np.array([0.0, 1.0, 0.0])}, {ALL: 60})
    assert none.predicted(row, two).log_score == pytest.approx(np.log(np.exp(scores).mean()))
    assert mixed(mixture, [row], {**said, AVERAGE: {}, REGRESSION: {}}) == {}


def test_a_fold_is_mixed_as_the_others_tell(rows):
    said = made_up(rows)
    folds = [rows[::2], rows[1::2]]
    found = mixed_by_fold(folds, said)
    alone = mixed(learn_mixture(folds[1], said), folds[0], said)
    assert found.keys() == {row.id for row in rows}
    for name, one in alone.items():
        assert found[name].log_score == one.log_score
        np.testing.assert_array_equal(found[name].values, one.values)


def test_a_card_judges_the_mixture_beside_its_members(rows):
    said = made_up(rows)
    both = {**said, card.MIXTURE: mixed(learn_mixture(rows, said), rows, said)}
    text = card.scorecard_text(card.scorecard(rows, both))
    for other in MEMBERS:
        assert f"\nmixture less {other} (" in text
    assert "\nmodel less mixture" not in text
    record = card.as_record(card.scorecard(rows, both))["mixture"]
    assert set(record) == {AVERAGE, REGRESSION}


def test_what_is_kept_is_read_again(rows, tmp_path):
    made = learn_mixture(rows, made_up(rows))
    file = tmp_path / "mixture.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(made.lines()[0]))
        writer.writeheader()
        writer.writerows(made.lines())
    again = read_mixture(file)
    assert again.rows == made.rows
    for kind, w in made.weights.items():
        assert again.weights[kind] == pytest.approx(w, abs=1e-4)


HEAD = f"endpoint,rows,{','.join(MEMBERS)}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "'endpoint'"),
        (HEAD + "all,3,0.5,0.5,half\n", "'half'"),
        (HEAD + "all,3,0.5,0.5,0.5\n", "sum to 1"),
        (HEAD + "early death,3,0.5,0.5,0\n", 'one must be "all"'),
        (HEAD + "all,3\n", "needed: mixture.csv"),
    ],
)
def test_other_files_are_refused(text, words, tmp_path):
    file = tmp_path / "mixture.csv"
    file.write_text(text)
    with pytest.raises(PkpdError, match=r"mixture\.csv: no weights of a mixture") as refused:
        read_mixture(file)
    assert words in str(refused.value)


def test_weights_that_ship_are_of_every_row_that_all_members_predict():
    shipped = read_mixture(SHIPPED)
    assert shipped.rows[ALL] == sum(n for kind, n in shipped.rows.items() if kind != ALL)
    known = {card.kind_of(row) for row in load_evidence() if row.endpoint.alternatives}
    assert set(shipped.weights) - {ALL} <= known
