"""Recoveries counted every day: reading, the bank of curves, what is learned, forecasts."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

import pkpd
from pkpd.errors import DataError

FITS = Path(__file__).parents[2] / "fits"
REFERENCE = Path(os.environ.get("PKPD_REFERENCE", FITS.parents[1] / "shared" / "oracles"))
PREFIX = REFERENCE / "recoveries" / "transplants"

sys.path.insert(0, str(FITS / "transplants"))

import fit_cytokines  # noqa: E402
import fit_series  # noqa: E402
import forecast_recoveries  # noqa: E402
import marrow_bank as bank  # noqa: E402
import next_counts  # noqa: E402
import places  # noqa: E402
import shapes  # noqa: E402
from forecasts import Chain, fit_chains, forecast_series  # noqa: E402
from hazard import HazardRegression  # noqa: E402
from population import Population, fit  # noqa: E402
from recording import OTHER_CELLS, recorded_draw  # noqa: E402
from scores import score  # noqa: E402
from series import LAST_DAY, LATER, Series, folds, read_series  # noqa: E402

needs_series = pytest.mark.skipif(
    not PREFIX.with_name("transplants_counts.csv").is_file(),
    reason="no series (PKPD_REFERENCE or ../shared/oracles)",
)
TRUTH = {"PBSC_unmodified": (1.0, 8.0), "cord": (0.6, 14.0)}


@pytest.fixture(scope="module")
def marrow():
    return bank.MarrowBank()


def of_truth(marrow, n, seed=5):
    """Series of two sources with days of their own; in each a quarter recovers at twice the day."""
    rng = np.random.default_rng(seed)
    found = []
    for source, (rate, day) in TRUTH.items():
        population = Population.start(marrow, (source,))
        patients = population.mean[0] + 0.1 * rng.standard_normal((n, len(bank.PARAMETERS)))
        patients[:, bank.RATE] += np.log(rate) - population.mean[0, bank.RATE]
        patients[:, bank.FULL_DAY] += np.log(day) - population.mean[0, bank.FULL_DAY]
        patients[: n // 4, bank.FULL_DAY] += np.log(2.0)
        curves = marrow.counts(patients, rng.random(n) < 0.5)
        days = np.arange(LAST_DAY + 1)
        for i, curve in enumerate(curves):
            shown, limited = recorded_draw(curve, rng.choice(OTHER_CELLS), days, rng)
            found.append(Series(f"{source}{i}", "1", source, days, shown, limited))
    return found


@pytest.fixture(scope="module")
def simulated(marrow):
    return of_truth(marrow, 32)


def write_files(prefix, series, counts=None, source=None):
    with Path(f"{prefix}_patients.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "transplant", "source", "disease"))
        writer.writerows((*one.key, source or one.source, "AML") for one in series)
    with Path(f"{prefix}_counts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "transplant", "day", "neutrophils", "limit"))
        for one in series:
            for day, count, limited in zip(one.days, one.counts, one.limited, strict=True):
                writer.writerow((*one.key, day, count, "<=" if limited else "="))
        writer.writerows(counts or ())


def daily(values, start=0, source="cord", patient="p"):
    days = np.arange(start, start + len(values))
    return Series(patient, "1", source, days, np.array(values, float), np.zeros(len(values), bool))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("p", "1", "3.5", "0.2", "="), "row 4, column day: '3.5'"),
        (("p", "1", "2", "much", "="), "row 4, column neutrophils: 'much'"),
        (("p", "1", "2", "nan", "="), "column neutrophils: 'nan'"),
        (("p", "1", "2", "-1", "="), "from 0 to 1000"),
        (("p", "1", "2", "0.2", "<"), "column limit: '<'; allowed: \"=\""),
        (("p", "1", "1", "0.2", "="), "each day of a transplant once"),
        (("q", "1", "2", "0.2", "="), "column patient: 'q, transplant 1'"),
        (("p", "1", "2", "", "="), "column neutrophils: ''; allowed: no empty field"),
        (("p", "1", "2"), "no empty field"),
    ],
)
def test_a_bad_row_is_refused_in_a_sentence(tmp_path, row, said):
    write_files(tmp_path / "x", [daily([0.1, 0.2])], [row])
    with pytest.raises(DataError) as refused:
        read_series(tmp_path / "x")
    assert said in str(refused.value)
    assert "x_counts.csv" in str(refused.value)


def test_unknown_sources_and_missing_columns_are_refused(tmp_path, capsys):
    write_files(tmp_path / "x", [daily([0.1])], source="bone")
    with pytest.raises(DataError, match=r"x_patients.csv, row 2, column source: 'bone'"):
        read_series(tmp_path / "x")
    (tmp_path / "x_patients.csv").write_text("patient,source\np,cord\n")
    with pytest.raises(DataError, match="no column 'transplant'"):
        read_series(tmp_path / "x")
    prefix = str(tmp_path / "none")
    assert forecast_recoveries.main([prefix, "cv", str(tmp_path / "out.csv")]) == 3
    assert "No data: " in capsys.readouterr().out
    write_files(tmp_path / "x", [daily([0.1])])
    assert forecast_recoveries.main([str(tmp_path / "x"), "cv", str(tmp_path / "out.csv")]) == 2
    assert "no series with a count below recovery" in capsys.readouterr().err


@pytest.mark.parametrize("name", [places.CYTOKINES, "transplants_counts.csv"])
def test_a_folder_that_is_named_is_the_only_one_looked_in(tmp_path, capsys, monkeypatch, name):
    known, named = tmp_path / "known", tmp_path / "named"
    for folder in (known, named):
        folder.mkdir()
    (known / name).write_text("patient,day\n")
    monkeypatch.setenv("PKPD_REFERENCE", str(known))
    assert places.find_file(None, name, "") == known / name
    assert places.find_file(known / name, name, "") == known / name
    with pytest.raises(SystemExit) as ended:
        places.find_file(named, name, "")
    assert ended.value.code == 3
    assert f"{name} was not found in {named}" in capsys.readouterr().out


def test_recovery_is_the_first_of_three_counts_after_the_longest_stretch_below():
    assert daily([2, 0.1, 0.6, 0.1, 0.1, 0.7, 0.4, 0.5, 0.6, 0.7]).recovery == 7
    assert daily([2, 0.1, 0.6, 0.7]).recovery is None
    assert daily([2, 2, 2]).recovery is None
    one = daily([0.1] * 9 + [0.6] * 4)
    assert (one.recovery, one.outcome) == (9, 9)
    assert one.landmarks == (5, 8)
    late, never, always = ([0.1] * 60 + [0.6] * 9, [0.1] * 46, [2.0] * 46)
    assert [daily(counts).outcome for counts in (late, never, always)] == [LATER, LATER, None]
    assert daily(late).recovery == 60
    p = np.eye(LATER + 1)[LATER]
    found = score({("p", "1", day): p for day in daily(late).landmarks}, [daily(late)])
    np.testing.assert_array_equal(found.crps, 0.0)


def test_who_is_never_below_recovery_says_nothing_of_its_hazard():
    some = [daily([0.1] * day + [0.6] * 20) for day in (9, 12, 13, 20)]
    found = HazardRegression([*some, daily([2.0] * 46)]).coefficients
    np.testing.assert_array_equal(found, HazardRegression(some).coefficients)


def test_a_count_of_no_cell_is_below_the_least_that_is_told():
    table = fit_series.table_of([daily([0.1] * 6 + [0.0, 0.05])])
    seen = table[table.EVID == 0]
    assert seen[["DV", "CENS"]].to_numpy().tolist() == [[0.1, 0], [0.05, 1], [0.05, 0]]


def test_the_bank_solves_its_equations(marrow):
    """An independent solution of one patient without growth factor, and one with it on always."""
    rate, day, maturation, normal = 0.9, 12.0, 5.5, 3.0
    patient = np.log([[rate, day, maturation, normal, 1e-9, 0.6, 12.0]])
    found = marrow.counts(patient, np.zeros(1, bool))[0]
    theta = marrow.theta
    gamma, beta, out = theta["gamma"], theta["beta"], theta["k_circulation"]
    g, k = theta["clearance_ratio"] * normal, 11.0 / maturation
    seed = np.exp(-rate * day)

    def slope(t, y):
        early, chain, neutrophils = y[0], y[1:12], y[12]
        level = (1.0 + g) / (1.0 + g * neutrophils)
        faster = k * level**beta
        into = np.concatenate([[k * level**gamma * early], faster * chain[:-1]])
        return [
            rate * early * (1.0 - early) + (seed if t < 1.0 else 0.0),
            *(into - faster * chain),
            out * (level**beta * chain[-1] - neutrophils),
        ]

    start, mornings = np.zeros(13), [0.0]
    for morning in range(1, bank.DAYS):
        start = solve_ivp(slope, (morning - 1, morning - 1e-12), start, method="LSODA", rtol=1e-9,
                          atol=1e-14).y[:, -1]  # fmt: skip
        mornings.append(normal * start[12])
    known = np.array(mornings)
    seen = known > 0.01
    assert seen.sum() > 30
    np.testing.assert_allclose(found[seen], known[seen], rtol=0.02)


@pytest.mark.slow
def test_planted_days_of_two_groups_are_recovered(marrow, simulated):
    found = fit(marrow, simulated, seed=3, sources=tuple(TRUTH), bank=512, bootstraps=0)[0]
    days = np.exp(found.mean[:, bank.FULL_DAY] - found.spread[:, bank.FULL_DAY] * 0.2)
    # a day is known to some 5 % in 24 patients; the levels of other cells move it by a spread
    np.testing.assert_allclose(days, [day for _, day in TRUTH.values()], rtol=0.15)
    assert 1.6 < np.exp(found.delay) < 2.4
    late = [found.levels[s] @ found.share_late(s) for s in range(2)]
    assert all(0.12 < share < 0.45 for share in late)


@pytest.mark.slow
def test_forecasts_are_distributions_of_later_days(marrow, simulated):
    chains = fit_chains(marrow, simulated, chains=1, bank=256, bootstraps=2, rounds=2)
    own = [simulated[0], simulated[-1]]
    found = forecast_series([Chain(marrow, chains[0].populations, 1, 512, 500)], own)
    regression = HazardRegression(simulated)
    assert set(found) == {(*one.key, day) for one in own for day in one.landmarks}
    for one in own:
        for landmark in one.landmarks:
            for p in (found[(*one.key, landmark)], regression.forecast(one, landmark)):
                assert p.shape == (LATER + 1,)
                assert p.sum() == pytest.approx(1.0, abs=1e-9)
                assert (p[landmark + 1 :] > 0.0).all()
                assert (p[: landmark + 1] == 0.0).all()


@pytest.mark.slow
def test_what_comes_after_a_landmark_changes_no_forecast(marrow, simulated):
    populations = [Population.start(marrow)]
    one = simulated[-1]
    kept = one.days <= 8
    cut = Series(*one.key, one.source, one.days[kept], one.counts[kept], one.limited[kept])
    full, so_far = (
        Chain(marrow, populations, 1, 256, 300).forecast(series, (8,))[0] for series in (one, cut)
    )
    np.testing.assert_array_equal(full, so_far)


def test_the_command_writes_what_is_read_by_others(tmp_path, simulated, capsys):
    write_files(tmp_path / "given", simulated[::2])
    write_files(tmp_path / "held", simulated[1::8])
    words = [str(tmp_path / "given"), str(tmp_path / "held"), str(tmp_path / "out.csv")]
    assert forecast_recoveries.main([*words, "--chains", "1", "--bank", "128"]) == 0
    assert "marrow alone: CRPS" in capsys.readouterr().out
    for name in ("out.csv", "out_mixture.csv"):
        sums = {}
        with (tmp_path / name).open(newline="") as file:
            for row in csv.DictReader(file):
                assert int(row["landmark"]) < int(row["day"]) <= LATER
                key = row["patient"], row["transplant"], int(row["landmark"])
                sums[key] = sums.get(key, 0.0) + float(row["probability"])
        wanted = {(*one.key, day) for one in simulated[1::8] for day in one.landmarks}
        assert set(sums) == wanted
        np.testing.assert_allclose(list(sums.values()), 1.0, atol=1e-3)


def test_scores_are_those_of_closed_forms():
    one = daily([0.1] * 9 + [0.6] * 4)
    p = np.zeros(LATER + 1)
    p[[8, 9, 10]] = 0.25, 0.5, 0.25
    found = score({(*one.key, day): p for day in one.landmarks}, [one])
    np.testing.assert_allclose(found.crps, 2 * 0.25**2)
    np.testing.assert_allclose(found.split_coverage(), [1.0, 1.0])


@needs_series
def test_the_series_are_those_published():
    series = read_series(PREFIX)
    assert len(series) == 133
    assert sum(one.recovery is not None for one in series) == 129


@needs_series
@pytest.mark.long  # planted days of two groups are recovered above
def test_forecasts_of_left_out_series_are_better_than_the_hazard_regression(marrow):
    """CRPS of one chain in three folds; 1.70 days were asked for, chains differ by 0.03."""
    series, found, baseline = read_series(PREFIX), {}, {}
    for given, held in folds(series):
        found |= forecast_series(fit_chains(marrow, given, chains=1), held)
        regression = HazardRegression(given)
        baseline |= {(*s.key, d): regression.forecast(s, d) for s in held for d in s.landmarks}
    reached, of_regression = score(found, series).mean()[0], score(baseline, series).mean()[0]
    assert of_regression == pytest.approx(1.74, abs=0.02)
    assert reached < 1.70


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "transplants_counts.csv was not found in "),
        ({"transplants_counts.csv": "x", "transplants_patients.csv": "patient\n"}, "no column"),
        (
            {
                "transplants_patients.csv": "patient,transplant,source\n1,1,cord\n",
                "transplants_counts.csv": "patient,transplant,day,neutrophils,limit\n1,1,3,1,=\n",
                "cytokines_counts.csv": "patient,day,granulocytes\n1,1,\n1,x,2\n",
            },
            "cytokines_counts.csv, row 3, column day: 'x'; allowed: a whole number",
        ),
        (
            {
                "transplants_patients.csv": "patient,transplant,source\n1,1,cord\n",
                "transplants_counts.csv": "patient,transplant,day,neutrophils,limit\n1,1,3,1,=\n",
                "cytokines_counts.csv": "patient,day,granulocytes\n1,1,3\n1,1,2\n",
            },
            "cytokines_counts.csv, row 3, column day: '1'; allowed: each day of a patient once",
        ),
    ],
)
def test_a_command_with_bad_data_ends_in_a_sentence(files, told, tmp_path, monkeypatch, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as ended:
        places.run(shapes.main)
    assert told in capsys.readouterr().out + str(ended.value)


def test_the_fit_of_two_lines_has_the_marrow_of_the_bank(marrow):
    """Its equations are written out for `ode_model`; the bank's are those of the package."""
    rate, day, normal, g = 1.1, 9.0, 4.0, marrow.theta["clearance_ratio"]
    days = np.arange(7, 36)
    seen = pd.DataFrame({"patient": 1, "day": days, "granulocytes": 1.0, "g_csf": 20.0})
    data = pkpd.read_nonmem(
        fit_cytokines.table_of(seen),
        lines={1: "granulocytes", 2: "g_csf"},
        units={"TIME": "d", "DV": {"granulocytes": "10^9/L"}},
    )
    # the bank's graft comes over the first day, not at once
    at_once = day - np.log(-np.expm1(-rate) / rate) / rate
    values = {"rho": rate, "tau": at_once, "maturation": 6.5, "normal": normal, "g": g}
    values["gcsf_normal"] = 10.0
    structure = fit_cytokines.model().structure
    found = structure.bind(data)({name: np.array([value]) for name, value in values.items()})
    counts, gcsf = (np.asarray(found)[data.observations.line == line] for line in (0, 1))
    none = np.exp(-30.0)
    of_bank = marrow.counts(np.log([[rate, day, 6.5, normal, none, 0.6, 10.0]]), np.array([False]))
    np.testing.assert_allclose(counts, of_bank[0, days], rtol=0.01)
    np.testing.assert_allclose(gcsf, 10.0 * (1.0 + g * normal) / (1.0 + g * counts), rtol=1e-12)


def test_g_csf_below_its_limit_is_censored():
    seen = pd.DataFrame(
        {
            "patient": 7,
            "day": [2, 6, 8],
            "granulocytes": [0.1, np.nan, 0.02],
            "g_csf": [9.0, 0.0, 80.0],
        }
    )
    table = fit_cytokines.table_of(seen)
    columns = ["TIME", "EVID", "DV", "DVID", "CENS"]
    assert table[columns].to_numpy().tolist() == [
        [0, 2, 0.0, 1, 0],
        [6, 0, 5.0, 2, 1],
        [8, 0, 0.02, 1, 0],
        [8, 0, 80.0, 2, 0],
    ]


def counted(days, counts):
    limited = np.zeros(len(days), bool)
    return Series("a", "1", "cord", np.array(days), np.array(counts, float), limited)


def test_days_are_scored_that_follow_two_measured_ones():
    series = counted([0, 1, 2, 4, 5, 6, 7, 8], [0.1, 0.1, 0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    assert next_counts.scored_days(series).tolist() == [2, 6, 7, 8]


def test_the_trend_is_the_normal_distribution_of_the_counts_before():
    days = np.arange(7)
    series = counted(days, [0.1, 0.12, 0.2, 0.26, 0.4, 0.55, 0.9])
    values = np.array([*np.log([0.3, 0.2, 0.1, 0.4]), 0.2])
    error, level, slope, first = np.exp(2.0 * values[:4])
    logs = np.log(series.counts + next_counts.FLOOR)
    # the level of day i is the first one, i first slopes and all that wandered since
    mean = values[4] * days
    common = np.minimum.outer(days, days)
    wander = np.array(
        [[sum((i - k) * (j - k) for k in range(1, min(i, j))) for j in days] for i in days]
    )
    covariance = 1e4 + first * np.outer(days, days) + level * common + slope * wander
    covariance = covariance + error * np.eye(len(days))
    expected = 0.0
    for day in next_counts.scored_days(series):
        weights = np.linalg.solve(covariance[:day, :day], covariance[:day, day])
        gap = logs[day] - mean[day] - weights @ (logs[:day] - mean[:day])
        variance = covariance[day, day] - weights @ covariance[:day, day]
        expected += stats.t.logpdf(gap, 4, scale=np.sqrt(variance))
    assert next_counts.trend_density(series, values) == pytest.approx(expected, rel=1e-6)


def test_the_density_of_a_marrow_is_that_of_its_virtual_patients():
    errors, weights = np.array([[0.1, -0.4], [0.0, 0.3]]), np.log([[0.25, 0.75], [1.0, 1e-300]])
    each = stats.t.pdf(errors / 0.3, 4) / 0.3
    expected = np.log(0.25 * each[0, 0] + 0.75 * each[0, 1]) + np.log(each[1, 0])
    assert next_counts.marrow_density(errors, weights, 0.3) == pytest.approx(expected, rel=1e-12)
