"""Virtual patients who die: a count rules out who is dead by then, and the dead have no counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from known_answer import CENTRE, ERROR, NORMAL, SPREAD, Flat, FlatLanes, posterior, seen_of
from scipy import stats
from scipy.integrate import quad

from pkpd.forecasting.bank import Asked, simulated
from pkpd.forecasting.many import VisitCounts, forecast_along
from pkpd.forecasting.mode import Mode, around
from pkpd.forecasting.summaries import QUANTILES, summary
from pkpd.forecasting.today import back_after
from pkpd.forecasting.weighing import tail, weigh

DEADLY = 0.1
"""Whoever has a higher score dies."""
NEUTROPHILS = "neutrophils >= 0.5"
AS_SEEN = [2.2, 2.4]  # most probable in scores around DEADLY


@dataclass(frozen=True)
class Mortal(Flat):
    """As `Flat`; who has a score above DEADLY dies, and all are low from one day to another."""

    dies_on: int = 6
    low: tuple[int, int] = (0, 0)

    def course(self, draws):
        course = super().course(draws)
        curve, low = course.curve, slice(*self.low)
        logs = curve.log_count["neutrophils"]
        logs[:, low] -= 6.0
        hazard = np.zeros(logs.shape)
        hazard[self.who.scores[draws, 0] > DEADLY, self.dies_on :] = 1.0
        return replace(
            course,
            mornings={"neutrophils": np.exp(logs)},
            cumulative_hazard=hazard,
            death_score=np.full(len(logs), 0.5),
        )


@dataclass(frozen=True)
class MortalLanes(FlatLanes):
    dies_on: int = 6
    low: tuple[int, int] = (0, 0)

    def treated(self, who):
        return Mortal(who, self.days, self.shift, self.plan, self.dies_on, self.low)


def bank(n=20_000, **how):
    made = MortalLanes(**how)
    return simulated(made, made.drawn(n, 1), Asked(back={"neutrophils": 0.5}), threads=1)


@pytest.fixture(scope="module")
def mortal():
    return bank()


def living(values):
    """Posterior of the score given counts of which the last is from after the deaths."""
    mean, sd, _ = posterior(values)
    return stats.truncnorm(-np.inf, (DEADLY - mean) / sd, mean, sd)


def test_a_count_leaves_those_who_have_died_before_it_without_weight(mortal):
    dead = mortal.who.scores[:, 0] > DEADLY
    np.testing.assert_array_equal(mortal.death_day, np.where(dead, 6.0, np.inf))
    # a count of the morning of the day of death is still theirs
    on_the_day = weigh(mortal, seen_of(AS_SEEN, first_day=5), NORMAL)
    later = weigh(mortal, seen_of(AS_SEEN, first_day=6), NORMAL)
    mean, sd, _ = posterior(AS_SEEN)
    assert on_the_day.weights[dead].sum() == pytest.approx(
        stats.norm(mean, sd).sf(DEADLY), abs=4 * 0.5 / np.sqrt(on_the_day.effective)
    )
    assert later.weights[dead].sum() == 0.0
    for found, of in ((on_the_day, stats.norm(mean, sd)), (later, living(AS_SEEN))):
        error = of.std() / np.sqrt(found.effective)
        assert found.weights @ mortal.who.scores[:, 0] == pytest.approx(of.mean(), abs=4 * error)


def test_a_count_that_only_the_dead_explain_is_set_aside_and_they_stay_out(mortal):
    high = [9.0]
    assert not weigh(mortal, seen_of(high, first_day=6), NORMAL).unexplained
    found = weigh(mortal, seen_of(high, first_day=7), NORMAL)
    (lost,) = found.unexplained
    assert (lost.day, lost.value) == (7, 9.0)
    assert lost.probability < 1e-4
    dead = mortal.who.scores[:, 0] > DEADLY
    # of the count only the life is heard: all the living are equally likely
    np.testing.assert_allclose(found.weights, np.where(dead, 0.0, 1.0 / np.sum(~dead)))


@pytest.mark.parametrize(("day", "highest"), [(6, np.inf), (7, DEADLY)])
def test_the_chance_of_a_count_is_that_among_those_who_live_to_have_it(mortal, day, highest):
    """Against the integral over the scores of the living, of whom 1,000 are looked at."""
    own = stats.truncnorm(-np.inf, highest)
    above = [
        quad(
            lambda z: own.pdf(z) * stats.norm.sf((np.log(1.5) - SPREAD * z) / ERROR) ** power,  # noqa: B023
            -8.0, min(highest, 8.0),
        )[0]
        for power in (1, 2)
    ]  # fmt: skip
    error = np.sqrt((above[1] - above[0] ** 2) / 1000)
    found = tail(mortal, seen_of([3.0], first_day=day), 0, NORMAL)
    assert found == pytest.approx(2.0 * above[0], abs=4 * 2.0 * error)


def test_nobody_explains_a_count_that_nobody_lives_to_have():
    every = bank(100)
    gone = replace(every, death_day=np.full(100, 4.0))
    found = weigh(gone, seen_of([2.0], first_day=5), NORMAL)
    assert [lost.probability for lost in found.unexplained] == [0.0]
    assert weigh(gone, seen_of([2.0], first_day=4), NORMAL).unexplained == ()


def test_forecasts_of_many_leave_out_who_has_died_before_a_visit(mortal):
    """Whether a score is above -0.1, from counts on the day of death and on the next."""
    values = {"neutrophils": np.array([AS_SEEN, [1.6, 1.9], [6.0, 5.0]])}
    counts = VisitCounts((6, 7), values, {"neutrophils": np.zeros((3, 2), dtype=bool)})
    event = (mortal.who.scores[:, 0] > -0.1).astype(float)
    found = forecast_along(mortal, counts, event, NORMAL, 1)
    for row, seen in zip(found, values["neutrophils"], strict=True):
        mean, sd, _ = posterior(seen[:1])
        # at least 30 of the bank count, by far more where the counts are usual: error below 0.02
        assert row[1] == pytest.approx(stats.norm(mean, sd).sf(-0.1), abs=0.02)
        if seen[0] < 5.0:  # else the likelihood is flattened
            assert row[2] == pytest.approx(living(seen).sf(-0.1), abs=0.03)
        else:
            assert row[2] > 0.9


def test_who_is_drawn_around_a_mode_and_has_died_has_no_weight():
    found = weigh(bank(100), seen_of(AS_SEEN, first_day=6), NORMAL)
    mode = Mode(MortalLanes(), np.array([DEADLY, 0.0, 0.0]), np.eye(3), 0.0, 1, True)
    made = around(mode, found, seed=2, threads=1)
    dead = made.bank.who.scores[:, 0] > DEADLY
    assert 0.4 < dead.mean() < 0.6
    np.testing.assert_allclose(made.weights, np.where(dead, 0.0, 1.0 / np.sum(~dead)))


def by_hand():
    """Four patients of five mornings; three die, on days 2, 4 and 1."""
    counts = np.array(
        [
            [3.0, 2.0, 0.4, 1.0, 2.0],
            [3.0, 0.6, 0.1, 0.1, 0.1],
            [3.0, 2.0, 1.0, 0.3, 0.05],
            [1.0, 0.2, 0.2, 0.2, 0.2],
        ]
    )
    lanes = MortalLanes(days=5)
    made = simulated(lanes, lanes.drawn(4, 1), Asked(back={"neutrophils": 0.5}), threads=1)
    return replace(
        made,
        measured={"neutrophils": np.log(counts).astype(np.float32)},
        death_day=np.array([np.inf, 2.0, 4.0, 1.0]),
    )


@pytest.mark.parametrize(
    ("from_day", "lowest", "grade_4"),
    [
        (1, [0.4, 0.6, 0.3, 1.0], [1, 0, 1, 0]),
        (2, [0.4, 0.6, 0.3, np.nan], [1, 0, 1, 0]),
        (4, [1.0, np.nan, 0.3, np.nan], [0, 0, 1, 0]),
        (5, [2.0, np.nan, np.nan, np.nan], [0, 0, 0, 0]),
        (6, [np.nan] * 4, [0, 0, 0, 0]),
    ],
)
def test_counts_after_death_are_no_nadir(from_day, lowest, grade_4):
    found = by_hand()
    np.testing.assert_allclose(found.lowest("neutrophils", from_day), lowest, rtol=1e-6)
    assert found.grade_4("neutrophils", from_day).tolist() == grade_4


def test_summaries_are_of_the_counts_that_patients_live_to_have():
    weights = np.array([0.34, 0.24, 0.26, 0.16])
    found = {name: values for name, (_, values) in summary(by_hand(), weights, 3).items()}
    assert QUANTILES == (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    # lowest counts 0.3, 0.4, 0.6, 1.0 with cumulative weights 0.26, 0.60, 0.84, 1
    np.testing.assert_allclose(found["nadir"], [[0.3, 0.3, 0.3, 0.4, 0.6, 1.0, 1.0]], rtol=1e-6)
    # from day 4 on two have counts: 0.3 and 1.0, with weights 0.26 and 0.34
    ahead = [[0.3, 0.3, 0.3, 1.0, 1.0, 1.0, 1.0]]
    np.testing.assert_allclose(found["nadir_ahead"], ahead, rtol=1e-6)
    assert found["grade_4"] == pytest.approx([0.34 + 0.26])
    assert found["grade_4_ahead"] == pytest.approx([0.26])
    assert found["death"] == pytest.approx(0.24 + 0.26 + 0.16)


def test_who_dies_while_counts_are_low_never_recovers():
    """All are low on days 8 to 12; some die on day 10. As planned, and by the clock of today."""
    made, seen = bank(low=(7, 12), dies_on=10), seen_of(AS_SEEN, first_day=6)
    one = weigh(made, seen, NORMAL)
    lives = stats.norm(*posterior(AS_SEEN)[:2]).cdf(DEADLY)
    error = 4 * 0.5 / np.sqrt(one.effective)
    found = {name: values for name, (_, values) in summary(made, one.weights, 7).items()}
    recovered = found["recovered"][made.criteria.index(NEUTROPHILS)]
    assert recovered[10] == 0.0, "by the end of day 11"
    assert recovered[[11, 19]] == pytest.approx(lives, abs=error)
    assert found["death"] == pytest.approx(1.0 - lives, abs=error)
    assert recovered[19] + found["death"] == pytest.approx(1.0)
    after = back_after(made.lanes, made.who, made.asked, seen, 1, threads=1)[NEUTROPHILS]
    score = made.who.scores[:, 0]
    back = (score <= DEADLY) & (CENTRE + SPREAD * score > np.log(0.5))  # else always low
    np.testing.assert_array_equal(after, np.where(back, 12.0, np.inf))
