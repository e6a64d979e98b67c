"""Forecasts along a series, against normal distributions in closed form."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

import pkpd
from pkpd.data.dataset import ABOVE, BELOW, of_subjects
from pkpd.errors import PkpdError
from pkpd.forecasting import NEXT, Horizon, forecast_series, series
from pkpd.forecasting.naive import LocalLevel, _Logs, last_value, local_level
from pkpd.forecasting.scores import difference, scored
from pkpd.forecasting.series import row_of
from pkpd.models import (
    Friberg,
    LinearStructure,
    PopulationModel,
    compartments,
    covariate,
    fixed,
    linear_system,
    marrow_model,
    parameter,
    residual,
)
from pkpd.solve.events.timeline import EventOptions

OMEGA, WHITE, SD, TAU = 0.6, 0.15, 0.3, 200.0
DAY = 24.0


def patients(n: int, visits: int, seed: int = 1) -> pkpd.data.Dataset:
    """One dose, then counts at irregular days around a level of each patient's own."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        rows.append({"ID": i, "TIME": 0.0, "AMT": 100.0, "EVID": 1, "DV": np.nan})
        days = np.cumsum(rng.integers(2, 12, visits))
        level = 0.9 * rng.standard_normal()
        for t in days * DAY:
            value = np.exp(level + 0.3 * rng.standard_normal())
            rows.append({"ID": i, "TIME": t, "AMT": 0.0, "EVID": 0, "DV": value})
    return pkpd.read_nonmem(pd.DataFrame(rows))


def test_the_next_of_two_counts_at_one_time_is_the_second():
    rows = [{"ID": 1, "TIME": 0.0, "AMT": 100.0, "EVID": 1, "DV": 0.0}]
    days = [1, 2, 3, 4, 5, 5, 6]
    rows += [
        {"ID": 1, "TIME": day * DAY, "AMT": 0.0, "EVID": 0, "DV": 1.0 + 0.1 * k}
        for k, day in enumerate(days)
    ]
    data = pkpd.read_nonmem(pd.DataFrame(rows), allow_replicates=True)
    tables = (
        forecast_series(model(), data, bank=100),
        last_value(data, data, [NEXT]),
        LocalLevel(0.1, 0.4).forecasts(data, [NEXT]),
    )
    for table in tables:
        assert table["TIME"].tolist() == [5.0, 6.0]
        np.testing.assert_allclose(table["observed"], [1.5, 1.6])


def test_covariates_that_are_carried_forward_are_so_between_counts():
    """A forecast between two counts is that of data with a record there."""
    rows = [{"ID": 1, "TIME": 0.0, "AMT": 100.0, "EVID": 1, "DV": np.nan, "WT": 70.0}]
    rows += [
        {"ID": 1, "TIME": 10.0 * k, "AMT": 0.0, "EVID": 0, "DV": 4.0 - 0.3 * k, "WT": 70.0 + 30 * k}
        for k in range(1, 8)
    ]
    there = {"ID": 1, "TIME": 65.0, "AMT": 0.0, "EVID": 2, "DV": np.nan, "WT": 250.0}
    by_weight = covariate.power("WT", 70.0, fixed(1.0))
    made = PopulationModel(
        compartments(1, options=EventOptions(carry="forward")),
        [
            parameter("CL", 0.5, iiv=0.3, effects=by_weight),
            parameter("V", 20.0, effects=by_weight),
        ],
        residual.lognormal(0.2),
    )
    ahead = [Horizon("half a day", 15.0 / 24.0, None)]  # from 50 h to 65 h
    tables = [
        forecast_series(
            made,
            pkpd.read_nonmem(pd.DataFrame(one), covariates=["WT"]),
            ahead,
            engine="map",
            bank=10,
        )
        for one in (rows, [*rows[:7], there, *rows[7:]])
    ]
    first = [table.iloc[:1] for table in tables]
    assert first[0]["TIME"].tolist() == [65.0 / 24.0]
    pd.testing.assert_frame_equal(*first)


def test_the_last_count_needs_errors_of_others():
    data = patients(2, 8)
    with pytest.raises(PkpdError, match="no patient of train has 5 counts and a later one at 'x'"):
        last_value(data, data, [Horizon("x", 0.123, None)])


def test_a_count_between_two_limits_is_refused():
    rows = [{"ID": 1, "TIME": 0.0, "AMT": 100.0, "EVID": 1, "DV": 0.0, "CENS": 0, "LIMIT": ""}]
    for day in range(1, 8):
        cut = {"CENS": 1, "LIMIT": 0.2} if day == 3 else {"CENS": 0, "LIMIT": ""}
        rows.append({"ID": 1, "TIME": day * DAY, "AMT": 0.0, "EVID": 0, "DV": 0.5, **cut})
    for lower, refused in ((0.2, True), (0.0, False), ("", False)):
        rows[3]["LIMIT"] = lower
        data = pkpd.read_nonmem(pd.DataFrame(rows))
        if refused:
            with pytest.raises(PkpdError, match="a count is between two limits"):
                forecast_series(model(), data, bank=100)
        else:
            assert len(forecast_series(model(), data, bank=100)) == 2


def model(nu=None, **noise) -> PopulationModel:
    """The logarithm of a prediction is linear in the only random effect of the course."""
    process = residual.ornstein_uhlenbeck(SD, TAU)
    return PopulationModel(
        compartments(1, dosing=("F1",)),
        [
            parameter("CL", fixed(1e-9)),
            parameter("V", fixed(100.0)),
            parameter("F1", 1.0, iiv=OMEGA),
            *([parameter("noise", fixed(1.0), iiv=0.3)] if noise else []),
        ],
        residual.lognormal(WHITE, nu=nu, processes=[process], **noise),
    )


def covariance(time):
    apart = np.abs(time[:, None] - time[None, :])
    return SD**2 * np.exp(-apart / TAU) + WHITE**2 * np.eye(len(time)) + OMEGA**2


def given_past(data, b, k, target):
    """Mean and deviation of the logarithm at a target, given the first k + 1 counts."""
    seen = data.observations
    mine = np.flatnonzero(seen.subject == b)[: k + 1]
    time = np.append(seen.time[mine], target)
    total = covariance(time)
    weights = np.linalg.solve(total[:-1, :-1], total[:-1, -1])
    mean = weights @ np.log(seen.value[mine])
    return mean, np.sqrt(total[-1, -1] - weights @ total[:-1, -1])


@pytest.mark.parametrize(
    ("engine", "visits", "bank"),
    [
        pytest.param("importance", 8, 8000, marks=pytest.mark.long),
        pytest.param("auto", 45, 2000, marks=pytest.mark.slow),
    ],
)
def test_forecasts_are_the_conditional_normal_distributions(engine, visits, bank):
    """A level of 0.02 known from a prior of 0.6 needs a bank that is made anew."""
    data = patients(2, visits)
    horizons = [NEXT, Horizon("two weeks", 14, (10, 18)), Horizon("a month", 30, None)]
    found = forecast_series(model(), data, horizons, engine=engine, bank=bank)
    assert set(found.horizon) == {"next", "two weeks", "a month"}
    assert (found.pareto_k < 0.7).all()
    # Monte Carlo error: the share of the spread that is not known, over the members that count
    for row in found.itertuples():
        mean, sd = given_past(data, row.ID, row.counts - 1, row.TIME * DAY)
        assert np.log(row.median) == pytest.approx(mean, abs=0.1 * sd)
        assert np.log(row.q0_945 if hasattr(row, "q0_945") else found.loc[row.Index, "q0.945"]) == (
            pytest.approx(norm.ppf(0.945, mean, sd), abs=0.15 * sd)
        )
        if row.horizon == "a month":
            continue
        expected = norm.logpdf(np.log(row.observed), mean, sd)
        assert row.logdens == pytest.approx(expected, abs=0.1 + 0.05 * abs(expected))


def test_a_bank_that_is_not_made_anew_degenerates_and_says_so():
    """With a prior of 0.6 a hundred counts leave few members; they are made anew on demand."""
    far = model().with_values({"omega_F1": 4.0})
    data = patients(1, 30, seed=5)
    plain = forecast_series(far, data, engine="importance", bank=300)
    renewed = forecast_series(far, data, bank=300)
    assert plain.effective.iloc[-1] < 30
    assert renewed.effective.min() > 90


@pytest.mark.parametrize(
    ("banks", "chosen"),
    [
        # Pareto k, members that count
        ([(0.75, 90), (0.74, 5), (0.9, 6), (0.95, 5), (0.95, 4)], 0),
        ([(0.5, 40), (0.3, 8), (0.6, 70), (0.65, 50), (0.72, 300)], 2),
        ([(np.inf, 20), (np.inf, 30), (np.inf, 0), (0.1, 400)], 1),
        ([(0.9, 300), (0.7, 101), (0.1, 400)], 1),
    ],
)
def test_of_banks_made_anew_the_best_is_kept(monkeypatch, banks, chosen):
    """A firm Pareto k first, then members that count; none is made from a bank without any."""
    made = iter(banks[1:])

    def weights(bank):
        k, n = bank
        return np.repeat([1.0 / n, 0.0], [n, 400 - n]) if n else np.full(400, np.nan), k

    def members(bank):
        return SimpleNamespace(log_weights=[None, bank], bank=bank)

    course = object.__new__(series._Course)
    course.patient = SimpleNamespace(renewed=lambda *_: members(next(made)))
    monkeypatch.setattr(series, "smoothed_weights", weights)
    assert course._weighed(members(banks[0]), 0, "auto", None)[0].bank == banks[chosen]


@pytest.mark.parametrize("engine", ["auto", "importance", "map"])
def test_a_patient_without_predictions_is_named(engine):
    """All of the drug is gone before the first count: the logarithm of 0 is no number."""
    parts = [
        parameter("CL", fixed(1e5)),
        parameter("V", fixed(100.0)),
        parameter("F1", 1.0, iiv=1.0),
    ]
    gone = model().replace(parameters=parts)
    with pytest.raises(PkpdError, match="patient 0: no member of the bank has predictions"):
        forecast_series(gone, patients(1, 6), engine=engine, bank=100)


def test_the_most_probable_member_is_surer_of_itself():
    data = patients(3, 7, seed=3)
    whole = forecast_series(model(), data, bank=1000)
    plugged = forecast_series(model(), data, engine="map", bank=1000)
    spread = [np.log(t["q0.945"] / t["q0.055"]) for t in (whole, plugged)]
    assert (spread[1] < spread[0]).all()


@pytest.mark.long
def test_student_errors_and_own_noise_are_calibrated():
    """Series simulated from the model: the probability transform of the next count is uniform."""
    made = model(nu=4.0, scale="noise")
    data = pkpd.models.simulate_data(made, patients(30, 12), seed=2)
    found = forecast_series(made, data, bank=500)
    levels = np.array([float(c[1:]) for c in found if c.startswith("q0")])
    quantiles = found[[c for c in found if c.startswith("q0")]].to_numpy()
    below = (found.observed.to_numpy()[:, None] < quantiles).mean(axis=0)
    assert len(found) == 30 * 7
    # standard error of a share among 210 correlated forecasts: 0.03 to 0.05
    assert np.max(np.abs(below - levels)) < 0.12


def test_horizons_choose_their_counts():
    time = np.array([0.0, 3.0, 10.0, 31.0, 38.0]) * DAY
    near = Horizon("next", None, (5, 16))
    assert [near.target(time, k) for k in range(5)] == [None, 240.0, None, 912.0, None]
    assert Horizon("4 weeks", 28, (24, 32)).target(time, 1) == 31 * DAY
    assert Horizon("4 weeks", 28, (24, 32)).target(time, 2) == 38 * DAY
    assert Horizon("then", 7, None).target(time, 4) == 45 * DAY


def test_horizons_take_hours_in_a_list():
    hours = [0, 240, 648]
    assert [NEXT.target(hours, k) for k in range(3)] == [240.0, 648.0, None]
    assert Horizon("4 weeks", 28, (24, 32)).target(tuple(hours), 0) == 648.0


def test_forecasts_from_the_last_count_need_no_later_one():
    data = patients(2, 6)
    found = forecast_series(
        model(), data, [Horizon("in a week", 7, None)], origins="last", bank=300
    )
    assert len(found) == 2
    assert found.observed.isna().all()
    assert (found.TIME == found.ORIGIN + 7).all()


def test_many_parameters_at_once_are_those_one_by_one():
    rows = [(0.0, 100.0), (24.0, 50.0)]
    table = [{"ID": 1, "TIME": t, "AMT": a, "EVID": 1, "CMT": 1, "DV": np.nan} for t, a in rows]
    table += [
        {"ID": 1, "TIME": t, "AMT": 0, "EVID": 0, "CMT": 5, "DV": 2.0} for t in (10.0, 90.0, 300.0)
    ]
    rows_in_time = pd.DataFrame(table).sort_values("TIME", kind="stable")
    data = pkpd.read_nonmem(rows_in_time, lines={5: "neutrophils"})
    system = linear_system(
        "two", ["a", "b"], ["k", "e"], lambda p: {(0, 1): p["k"], (1, None): p["e"]}, observed=2
    )
    structure = marrow_model(
        LinearStructure(system, None), lines={"neutrophils": Friberg(circulation="own")}
    )
    values = {"k": 0.5, "e": 0.1, "slope": 0.01, "circ0": 4.0, "gamma": 0.2, "k_circ": 0.1}
    mtt = np.array([80.0, 100.0, 130.0])
    found = structure.bind(data).many({**values, "MTT": mtt}, 3)
    copies = structure.bind(of_subjects(data, np.zeros(3, dtype=int)))
    expected = np.asarray(copies({**values, "MTT": mtt})).reshape(3, 3).T
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_local_level_is_a_random_walk_seen_with_noise():
    data = patients(3, 9)
    made = LocalLevel(drift=0.1, noise=0.3)
    logs = _Logs.of(data)
    seen, expected = data.observations, 0.0
    for b in range(3):
        mine = seen.subject == b
        day = seen.time[mine] / DAY
        walk = 0.1**2 * np.minimum(day[:, None] - day[0], day[None, :] - day[0])
        total = 4.0 + walk + 0.3**2 * np.eye(len(day))
        centre = np.full(len(day), np.nanmedian(logs.value))
        expected += multivariate_normal(centre, total).logpdf(np.log(seen.value[mine]))
    assert made.log_likelihood(logs) == pytest.approx(expected, abs=1e-9)


def test_naive_forecasts_are_those_of_their_numbers():
    data = patients(30, 9)
    plain = local_level(data, robust=False)
    logs = _Logs.of(data)
    better = [
        LocalLevel(plain.drift * a, plain.noise * b) for a, b in ((1.2, 1), (1, 1.2), (0.8, 1))
    ]
    assert all(one.log_likelihood(logs) < plain.log_likelihood(logs) for one in better)
    robust = local_level(data)
    assert robust.log_likelihood(logs) > plain.log_likelihood(logs) - 0.5
    table = robust.forecasts(data, [NEXT])
    assert len(table) == 30 * 4
    inside = (table.observed > table["q0.095"]) & (table.observed < table["q0.895"])
    assert 0.68 < inside.mean() < 0.92
    errors = last_value(data, data, [NEXT])
    # the errors of these very patients: exactly their own quantiles
    assert (errors.observed < errors["q0.795"]).mean() == pytest.approx(0.795, abs=0.02)


def test_scores_are_those_of_a_normal_forecast_and_differences_cluster_by_patient():
    data = patients(6, 9, seed=4)
    wide, narrow = (LocalLevel(0.0, noise).forecasts(data, [NEXT]) for noise in (0.6, 0.3))
    table = scored(wide)
    # the score of a normal distribution in closed form (Gneiting and Raftery 2007)
    sd = (np.log(wide["q0.845"]) - np.log(wide["q0.155"])) / (2 * norm.ppf(0.845))
    z = (np.log(wide.observed) - np.log(wide["median"])) / sd
    exact = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(table.crps, exact, atol=0.003)
    apart, error = difference(table, scored(narrow))["next"]
    gap = (table.crps - scored(narrow).crps).to_numpy().reshape(6, -1)
    assert apart == pytest.approx(gap.mean())
    sums = gap.sum(axis=1) - gap.mean() * gap.shape[1]
    assert error == pytest.approx(np.sqrt(np.sum(sums**2) * 6 / 5) / gap.size)


def test_a_count_below_its_limit_is_as_probable_as_all_below_it():
    data = patients(1, 6, seed=7)
    seen = data.observations
    censored = np.zeros_like(seen.censored)
    censored[-1] = BELOW
    cut = replace(data, observations=replace(seen, censored=censored))
    tables = [forecast_series(model(), one, bank=500, engine="importance") for one in (data, cut)]
    plain, below = (table.iloc[-1] for table in tables)
    assert (plain.censored, below.censored, below.observed) == (0, BELOW, plain.observed)
    quantiles = below.filter(regex="^q0").astype(float)
    levels = np.array([float(name[1:]) for name in quantiles.index])
    share = np.interp(np.log(below.observed), np.log(quantiles), levels)
    assert np.exp(below.logdens) == pytest.approx(share, abs=0.01)
    for made in (LocalLevel(0.1, 0.4).forecasts(cut, [NEXT]), last_value(data, cut, [NEXT])):
        assert made.censored.tolist() == [BELOW]
    # a forecast far below the limit is right, one far above it is not; so the other way about
    at = {"weights": np.ones(1), "scale": np.ones(1), "nu": None, "levels": (0.05, 0.5, 0.95)}
    for code in (BELOW, ABOVE):
        rows = []
        for location in (-3.0 * code, 3.0 * code):
            one = row_of(location=np.array([location]), known=0.0, censored=code,
                         logarithmic=True, **at)  # fmt: skip
            assert one["logdens"] == pytest.approx(norm.logcdf(-code * location))
            rows.append({"ID": 1, "ORIGIN": 0, "TIME": 1, "horizon": "next", "counts": 5, **one})
        right, wrong = scored(pd.DataFrame(rows)).itertuples()
        assert (right.crps, right.error, right.inside90) == (0.0, 0.0, True)
        assert wrong.error == pytest.approx(3.0, abs=0.05)


def test_whether_a_count_lies_in_each_central_interval():
    """Quantiles 1 to 9 at six levels, read off by eye; some limits lie between two of them."""
    levels = {0.05: 1.0, 0.1: 2.0, 0.25: 4.0, 0.75: 6.0, 0.9: 8.0, 0.95: 9.0}
    #        count, within the quarters, the tenths, the twentieths
    rows = [
        (0.9, False, False, False),
        (1.0, False, False, True),  # a limit is inside
        (1.9, False, False, True),
        (2.0, False, True, True),
        (3.9, False, True, True),
        (4.0, True, True, True),
        (5.0, True, True, True),
        (6.0, True, True, True),
        (6.1, False, True, True),
        (8.0, False, True, True),
        (8.1, False, False, True),
        (9.0, False, False, True),
        (9.1, False, False, False),
        (np.nan, None, None, None),  # did not come: not scored
    ]
    head = {"ID": 1, "ORIGIN": 0.0, "TIME": 1.0, "horizon": "next", "counts": 5}
    quantiles = {f"q{level}": value for level, value in levels.items()}
    table = scored(pd.DataFrame([{**head, **quantiles, "observed": row[0]} for row in rows]))
    columns = ["inside50", "inside80", "inside90"]
    assert table[columns].to_numpy().tolist() == [list(row[1:]) for row in rows[:-1]]
    assert table[columns].mean().round(3).tolist() == [0.231, 0.538, 0.846]  # 3, 7, 11 of 13


def test_limits_between_quantiles_are_interpolated_on_the_log_scale():
    """Levels 0.2 and 0.4 have logs 0 and 4: the level 0.25 has 1, and 0.1 is as low as 0.2."""
    levels = {0.2: 0.0, 0.4: 4.0, 0.6: 6.0, 0.8: 10.0}
    head = {"ID": 1, "ORIGIN": 0.0, "TIME": 1.0, "horizon": "next", "counts": 5}
    quantiles = {f"q{level}": np.exp(value) for level, value in levels.items()}
    logs = (-0.1, 0.1, 0.9, 1.1, 8.9, 9.1, 9.9, 10.1)
    table = scored(pd.DataFrame([{**head, **quantiles, "observed": np.exp(x)} for x in logs]))
    assert table["inside50"].tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert table["inside80"].tolist() == [False] + [True] * 6 + [False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "smc"}, "auto, importance, map"),
        ({"first": 50}, "no patient has 50 counts"),
        ({"horizons": [Horizon("never", None, None)]}, "days ahead, or a window"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(PkpdError, match=words):
        forecast_series(model(), patients(1, 6), **{"bank": 200, **change})


def test_scores_of_no_forecasts_are_refused():
    # of patients none of whom has so many counts as first= asks for
    with pytest.raises(PkpdError, match="no outcome is known"):
        scored(pd.DataFrame([]))


def test_two_counts_of_one_time_are_compared_each_with_itself():
    head = {"ID": [1, 1, 2], "ORIGIN": 3.0, "TIME": 7.0, "horizon": "next", "counts": [5, 6, 5]}
    one, other = (pd.DataFrame({**head, "crps": s}) for s in ([1.0, 2.0, 3.0], [0.5, 0.0, 1.0]))
    # 0.5, 2 and 2; crosswise the mean would be 1.4
    assert difference(one, other)["next"] == pytest.approx((1.5, 1.0 / 3.0))


def test_rows_that_nothing_tells_apart_are_compared_once():
    head = {"ID": [1, 1, 2], "ORIGIN": 3.0, "TIME": 7.0, "horizon": "next", "counts": 5}
    one, other = (pd.DataFrame({**head, "crps": s}) for s in ([1.0, 2.0, 3.0], [0.5, 0.0, 1.0]))
    # 0.5, 2 and 2; crosswise the mean would be 1.4
    assert difference(one, other)["next"] == pytest.approx((1.5, 1.0 / 3.0))
