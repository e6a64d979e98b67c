from __future__ import annotations

import dataclasses
import json

import cloudpickle
import conjugate
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_data import StraightPredictor, dataset_of

from pkpd.data.dataset import BELOW
from pkpd.errors import PkpdError
from pkpd.fitting.calibration.calibrate import Calibration, calibrate, load_calibration
from pkpd.fitting.calibration.one_fit import CalibrationFit, CalibrationFits, Trial
from pkpd.fitting.calibration.ranks import ecdf_band, ecdf_difference, uniformity
from pkpd.fitting.fit import fit
from pkpd.fitting.model.priors import Prior

LARGEST = 99
QUICK = {"draws": 100, "tune": 150, "ranked": 19}


def beta_ranks(a, b, n, seed):
    return np.floor(np.random.default_rng(seed).beta(a, b, n) * (LARGEST + 1)).astype(np.int64)


def test_tests_of_uniform_ranks_have_their_level():
    found = [uniformity(beta_ranks(1, 1, 200, seed), LARGEST) for seed in range(300)]
    for name in ("ecdf_p", "chi_square_p"):
        p = np.array([getattr(one, name) for one in found])
        # 300 tests at 5 %: 15 expected, standard deviation 3.8
        assert 3 <= np.sum(p <= 0.05) <= 29
        assert stats.kstest(p, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(
    ("a", "b", "mean", "spread"),
    [(1.6, 1.0, "high", None), (0.6, 0.6, None, "large"), (2.0, 2.0, None, "small")],
)
def test_shifted_narrow_and_wide_posteriors_are_seen(a, b, mean, spread):
    found = uniformity(beta_ranks(a, b, 200, 1), LARGEST)
    assert found.ecdf_p < 0.01
    assert (found.mean > 0.55) == (mean == "high")
    assert (found.spread > 1.2) == (spread == "large")
    assert (found.spread < 0.8) == (spread == "small")


def test_the_band_holds_whole_curves_as_often_as_it_says():
    n, inside = 100, 0
    low, high = ecdf_band(n, LARGEST, 0.9)
    for seed in range(400):
        _, difference = ecdf_difference(beta_ranks(1, 1, n, 1000 + seed), LARGEST)
        inside += np.all((difference >= low - 1e-12) & (difference <= high + 1e-12))
    # 360 expected of 400, standard deviation 6
    assert 336 <= inside <= 384
    assert low[-1] == high[-1] == 0


def level_squared(population):
    return population["level"] ** 2


@pytest.mark.long
def test_a_fit_of_a_calibration_ranks_its_truth_among_its_draws():
    settings = QUICK | {"draws": 20, "tune": 20, "ranked": 9, "centring": "non-centred"}
    found = calibrate(conjugate.model(), conjugate.data(3), n=1, **settings)
    assert found.quantities == ("level", "slope", "log_likelihood")
    assert not found.failed
    assert found.ranks.shape == (1, 3)
    assert found.ranks.to_numpy().min() >= 0
    assert found.ranks.to_numpy().max() <= 9


@pytest.mark.long
def test_a_calibration_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    settings = QUICK | {"folder": tmp_path / "sbc", "functions": {"level^2": level_squared}}
    first = calibrate(conjugate.model(), conjugate.data(4), n=2, **settings)
    assert first.quantities == ("level", "slope", "level^2", "log_likelihood")
    assert len(list((tmp_path / "sbc").glob("fit_*.json"))) == 2
    done, run = [], CalibrationFit.run
    monkeypatch.setattr(CalibrationFit, "run", lambda s, i: done.append(i) or run(s, i))
    more = calibrate(conjugate.model(), conjugate.data(4), n=3, **settings)
    assert done == [2]
    assert more.ranks.iloc[:2].equals(first.ranks)
    assert more.ranks.to_numpy().min() >= 0
    assert more.ranks.to_numpy().max() <= 19
    with pytest.raises(PkpdError, match=r"\(densities, model, simulated differ\)"):
        calibrate(conjugate.model(sigma=0.4), conjugate.data(4), n=3, **settings)
    line = StraightPredictor.__call__
    with monkeypatch.context() as other:
        other.setattr(StraightPredictor, "__call__", lambda self, p: 2.0 * line(self, p))
        with pytest.raises(PkpdError, match=r"another calibration \(densities differ\)"):
            calibrate(conjugate.model(), conjugate.data(4), n=3, **settings)
    path = tmp_path / "calibration.json"
    more.save(path)
    again = load_calibration(path)
    assert again.verdict == more.verdict
    assert again.ranks.equals(more.ranks)
    np.testing.assert_allclose(again.table(), more.table())
    axes = more.plot()
    assert len(axes.get_lines()) == 5


def test_failed_fits_are_counted_and_told(tmp_path, monkeypatch):
    def failing(self, index):
        if index == 1:
            return {"index": 1, "failed": "ValueError: no", "seconds": 0.1}
        ranks = {"level": index % 20}
        return {
            "index": index,
            "failed": None,
            "seconds": 0.1,
            "truth": {"level": 1.0},
            "ranks": ranks,
            "divergences": 2,
            "draws": 100,
            "smallest_ess": 10.0,
            "largest_rhat": 1.0,
        }

    monkeypatch.setattr(CalibrationFit, "__init__", lambda self, trial: None)
    monkeypatch.setattr(CalibrationFit, "run", failing)
    found = calibrate(conjugate.model(), conjugate.data(4), n=40, **QUICK)
    assert len(found) == 39
    assert "1 fit failed (fit 1: ValueError: no)" in found.verdict
    assert "2 % of the draws diverged" in found.verdict
    assert "39 fits had too few independent draws" in found.verdict


def trial(**changes):
    parts = {
        "model": conjugate.model(),
        "simulated": conjugate.model(),
        "design": conjugate.data(4),
        "lloq": None,
        "method": "nuts",
        "draws": 100,
        "tune": 150,
        "ranked": 19,
        "centring": {},
        "target_accept": 0.8,
        "functions": {},
        "seed": 1,
    }
    return Trial(**(parts | changes))


def test_functions_are_told_apart_by_what_they_give():
    told = [
        trial(functions={"f": f}).description()["functions"]
        for f in (level_squared, lambda p: 3.0 * p["level"])
    ]
    assert told == [["f = 1"], ["f = 3"]]
    assert trial().description()["functions"] == []
    with pytest.raises(PkpdError, match="functions 'f': KeyError: 'lvl'; give a function of level"):
        trial(functions={"f": lambda p: p["lvl"]}).description()


def test_limits_are_applied_to_simulated_values():
    made = CalibrationFit(trial(lloq=1.0))
    _, observed = made.simulate(
        made.population(0) | {"level": 1.0, "slope": 0.1}, np.random.default_rng(1)
    )
    below = observed.censored == BELOW
    assert below.any()
    assert not below.all()
    assert np.all(observed.value[below] == 1.0)
    assert np.all(observed.value[~below] >= 1.0)


def test_finished_fits_are_of_one_design_and_its_limits():
    """Measured values are not used; where they are taken, and limits, are."""
    mine = trial(design=conjugate.data(4)).description()
    assert trial(design=conjugate.data(4, seed=9)).description() == mine
    later = conjugate.data(4)
    later = dataclasses.replace(
        later,
        observations=dataclasses.replace(later.observations, time=later.observations.time + 1),
    )
    for name, changes in (
        ("design", {"design": later}),
        ("limits", {"design": conjugate.data(4), "lloq": 1.0}),
    ):
        other = trial(**changes).description()
        assert [key for key in mine if mine[key] != other[key]] == [name]
    low, high = (
        trial(design=conjugate.data(4), lloq=at).description()["limits"] for at in (1.0, 0.5)
    )
    assert low != high


def test_truths_come_from_the_prior_and_do_not_depend_on_their_number():
    made, other = CalibrationFit(trial()), CalibrationFit(trial())
    drawn = [made.population(i) for i in range(150)]
    assert other.population(120) == drawn[120]
    level = np.array([one["level"] for one in drawn])
    assert stats.kstest(level, stats.norm(1, 1).cdf).pvalue > 1e-3
    assert len(np.unique(level)) == 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "calibrate, n: 0 is given; allowed: a whole number from 1"),
        ({"n": 2.5}, r"n: 2\.5 is a float"),
        ({"jobs": 0}, "jobs: 0 is given"),
        ({"seed": -1}, "seed: -1 is given"),
        ({"target_accept": 2.0}, "target_accept: 2.0 is a float; allowed: a number between 0"),
        ({"ranked": 500}, r"ranked = 500.*9 to the number of draws \(200\)"),
        ({"method": "focei"}, "method: 'focei'.*nuts, map, advi"),
        ({"centring": "half"}, "centring: 'half' is given; allowed: auto, centred"),
        ({"lloq": "x"}, "lloq: 'x' is a str; allowed: a number"),
    ],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(PkpdError, match=message):
        calibrate(conjugate.model(), conjugate.data(4), **(QUICK | changes))


@pytest.fixture(scope="module")
def right():
    """As many fits as the errors below need to show."""
    return calibrate(conjugate.model(), conjugate.data(4), n=24, **QUICK)


@pytest.mark.long  # ranks of one fit, and of wrong posteriors, are above
def test_a_right_posterior_passes_and_a_wrong_prior_is_detected(right):
    assert right.calibrated, right.verdict
    assert right.verdict.startswith("Calibrated: over 24 fits")
    # truths lie one and a half standard deviations above the prior that is fitted with
    shifted = conjugate.model(Prior("Normal", mu=2.5, sigma=1.0))
    settings = QUICK | {"n": len(right)}
    wrong = calibrate(conjugate.model(), conjugate.data(4), simulated=shifted, **settings)
    assert not wrong.calibrated
    assert wrong.table().loc["level", "adjusted_p"] < 0.01
    assert "level: posterior too low" in wrong.verdict
    # data scatter twice as much as the model believes
    noisy = calibrate(
        conjugate.model(),
        conjugate.data(4),
        simulated=conjugate.model(sigma=2 * conjugate.SIGMA),
        **settings,
    )
    assert not noisy.calibrated
    assert noisy.table().loc["log_likelihood", "adjusted_p"] < 0.01


@pytest.mark.long  # what travels is below
@pytest.mark.filterwarnings("ignore")
def test_processes_give_what_this_process_gives(right, tmp_path):
    settings = QUICK | {"folder": tmp_path, "cluster": "local", "jobs": 3}
    # more than wait and are under way at once
    spread = calibrate(conjugate.model(), conjugate.data(4), n=7, **settings)
    pd.testing.assert_frame_equal(spread.ranks, right.ranks[:7], check_exact=True)
    pd.testing.assert_frame_equal(spread.truths, right.truths[:7], check_exact=True)
    own, theirs = spread.fits.drop(columns="seconds"), right.fits[:7].drop(columns="seconds")
    pd.testing.assert_frame_equal(own, theirs, check_exact=True)
    assert json.dumps(spread.settings) == json.dumps(right.settings)
    assert len(list(tmp_path.glob("fit_*.json"))) == 7


def test_what_is_compiled_does_not_travel_and_finished_fits_ask_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(CalibrationFit, "__init__", lambda self, trial: None)
    told = {"failed": "ValueError: no", "seconds": 0.0}
    monkeypatch.setattr(CalibrationFit, "run", lambda self, index: {"index": index} | told)
    run = CalibrationFits(trial())
    assert run(3)["index"] == 3
    assert cloudpickle.loads(cloudpickle.dumps(run))._made is None
    settings = QUICK | {"n": 3, "folder": tmp_path}
    calibrate(conjugate.model(), conjugate.data(4), **settings)
    nobody = calibrate(
        conjugate.model(), conjugate.data(4), cluster="tcp://127.0.0.1:9", **settings
    )
    assert sorted(nobody.failed) == [0, 1, 2]
    (tmp_path / "fit_00001.json").write_text("[")
    with pytest.raises(PkpdError, match=r"fit_00001\.json: cannot be read; give another folder"):
        calibrate(conjugate.model(), conjugate.data(4), **settings)


@pytest.mark.long
@pytest.mark.parametrize(
    ("centring", "lloq"),
    [("auto", None), ("auto", 1.0), ({"level": [0.0, 0.3, 0.6, 1.0]}, None)],
)
def test_a_fit_of_a_calibration_is_the_fit_of_its_users(centring, lloq):
    model = conjugate.model().replace(residual={"height": conjugate.additive(0.5)})
    changes = {"centring": centring, "lloq": lloq, "draws": 5, "tune": 10}
    made = CalibrationFit(trial(model=model, simulated=model, **changes))
    _, observed = made.simulate(made.population(2), np.random.default_rng(3))
    told = dataclasses.asdict(made.settings(7))
    del told["every_s"], told["depth"]
    theirs = fit(model, made.dataset(observed), centring=centring, **told)
    mine = made.chains(observed)(made.settings(7)).posterior
    for name in ("level", "slope", "sigma_height", "eta"):
        # data are constants of one program and inputs of the other: rounding differs, and chains
        # would part after some fifty draws
        np.testing.assert_allclose(mine[name], theirs.idata.posterior[name], rtol=1e-7, atol=1e-8)


def test_a_design_needs_no_measured_values():
    blank = dataset_of(
        [(b, t, None, 1.0) for b in range(3) for t in conjugate.TIMES], lines=("height",)
    )
    made = CalibrationFit(trial(design=blank))
    random, observed = made.simulate(made.population(3), np.random.default_rng(1))
    assert random.shape == (3, 1)
    assert np.ptp(observed.value) > 0


def test_of_many_quantities_the_furthest_are_named():
    ranks = np.random.default_rng(0).integers(0, 20, (40, 30))
    ranks[:, 7] = 0
    names = [f"q{i}" for i in range(30)]
    frame = pd.DataFrame(ranks, columns=names)
    axes = Calibration(frame, frame, 19, frame, {}, {}).plot()
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(axes.get_lines()) == 31
    assert len(named) == 8
    assert "24 others" in named
    assert "q7" in named
