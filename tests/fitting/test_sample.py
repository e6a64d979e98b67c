from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import arviz as az
import conjugate
import numpy as np
import pytest

from pkpd.errors import PkpdError
from pkpd.fitting.bayes.centring import by_weights
from pkpd.fitting.bayes.density import build_model
from pkpd.fitting.bayes.program import compile_density
from pkpd.fitting.bayes.sample import (
    SamplerSettings,
    _Checkpoint,
    _densities,
    _nutpie,
    sample,
)
from pkpd.fitting.bayes.start import StartingPoint, flat_spread, flat_start, named_start
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.priors import fixed

DRAWS = 1_500

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_sample
if __name__ == "__main__":
    test_sample.sampled(test_sample.DRAWS, {folder!r})
"""


def sampled(draws, folder, seed=1, data=None, **settings):
    likelihood = bind(conjugate.model(), data or conjugate.data())
    made = build_model(likelihood)
    point = StartingPoint({})
    named = named_start(likelihood, point, by_weights(likelihood, {}))
    return sample(
        made,
        named,
        flat_start(made, named),
        flat_spread(made, point),
        SamplerSettings(draws, 300, 2, 1, seed, progress=False, every_s=0.5, **settings),
        None if folder is None else Path(folder),
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder)))
    process = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 300
    while not list(folder.glob("chain_*.nc")):
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    import xarray as xr

    path = next(iter(folder.glob("chain_*.nc")))
    with xr.open_dataset(path, group="posterior", engine="h5netcdf") as kept:
        before = kept["level"].values
    assert 0 < before.size < DRAWS
    idata = sampled(DRAWS, folder)
    assert dict(idata.posterior.sizes)["draw"] == DRAWS
    assert dict(idata.posterior.sizes)["chain"] == 2
    place = int(path.stem.removeprefix("chain_"))
    np.testing.assert_array_equal(idata.posterior["level"].values[place, : before.size], before)
    mean, covariance = conjugate.posterior(conjugate.data())
    for i, name in enumerate(("level", "slope")):
        drawn = idata.posterior[name].values
        # an effective size of 1,000 is far less than these chains have
        assert abs(drawn.mean() - mean[i]) < 4.5 * np.sqrt(covariance[i, i] / 1000)
        assert drawn.std() == pytest.approx(np.sqrt(covariance[i, i]), rel=0.1)


@pytest.mark.long
def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    sampled(20, tmp_path / "one")
    assert json.loads((tmp_path / "one" / "settings.json").read_text())["draws"] == 20
    with pytest.raises(PkpdError, match="was made with other settings"):
        sampled(21, tmp_path / "one")
    with pytest.raises(PkpdError, match="another model, other data"):
        sampled(20, tmp_path / "one", data=conjugate.data(seed=5))


def test_a_checkpoint_tells_models_apart_that_have_one_density_at_the_start():
    found = []
    for shape in (None, fixed(0.5)):
        made = conjugate.model()
        level = replace(made.parameters[0], boxcox=shape)
        made = replace(made, parameters=(level, *made.parameters[1:]))
        likelihood, point = bind(made, conjugate.data()), StartingPoint({})
        pymc = build_model(likelihood)
        flat = flat_start(pymc, named_start(likelihood, point, by_weights(likelihood, {})))
        found.append(_densities(compile_density(pymc), flat))
    start, *near = zip(*found, strict=True)
    assert start[0] == pytest.approx(start[1])
    assert len(near) == 3
    assert all(abs(one - other) > 0.01 for one, other in near)


@pytest.mark.long
def test_a_finished_checkpoint_is_read_back(tmp_path):
    first = sampled(30, tmp_path)
    again = sampled(30, tmp_path)
    np.testing.assert_array_equal(first.posterior["level"], again.posterior["level"])
    assert again.sample_stats.sizes["draw"] == 30


def test_each_chain_goes_on_from_its_own_last_draw(tmp_path, monkeypatch):
    def trace(ends, draws):
        points = np.stack([np.full((draws, 2), end) for end in ends])
        return az.from_dict(
            posterior={"level": points[..., 0]},
            sample_stats={"logp": np.zeros(points.shape[:2]), "unconstrained_draw": points},
        )

    started = []

    def sampling(first_point, *, draws, tune, chains, seed, **_):
        begun = [first_point(seed + k) for k in range(chains)]
        started.append((chains, draws, tune, seed, begun))
        made = trace([point[0] for point in begun], draws)
        return SimpleNamespace(wait=lambda timeout: made)

    monkeypatch.setattr("nutpie.sample", sampling)
    program = SimpleNamespace(at=lambda point: (0.0, point), for_nutpie=lambda first, _: first)
    settings = SamplerSettings(20, 500, 5, 2, 1, progress=False)
    state = _Checkpoint(tmp_path, settings, [0.0] * 4)
    for k, draws in ((1, 8), (3, 20), (4, 5)):  # chains 0 and 2 had no draw yet
        state.keep(trace([float(k)], draws), [k])
    flat = np.full(2, 100.0)
    got = _nutpie(None, flat, np.ones(2), settings, tmp_path, None, program)  # pyright: ignore
    ends = got.posterior["level"].values[:, -1]
    assert ends[[1, 3, 4]].tolist() == [1.0, 3.0, 4.0]
    assert np.all(np.abs(ends[[0, 2]] - 100.0) < 6.0)
    assert ends[0] != ends[2]
    assert [one[:3] for one in started] == [(1, 20, 500), (1, 12, 200), (1, 20, 500), (1, 15, 200)]
    assert len({one[3] for one in started}) == 4


@pytest.mark.parametrize("name", ["settings.json", "chain_0.nc"])
def test_a_damaged_checkpoint_is_a_sentence(tmp_path, name):
    settings = SamplerSettings(10, 10, 1, 1, 1, progress=False)
    _Checkpoint(tmp_path, settings)
    (tmp_path / name).write_bytes(b"{half")
    with pytest.raises(PkpdError, match=f"{name}.* read"):
        _Checkpoint(tmp_path, settings)


def test_a_sampler_that_cannot_start_says_so_in_a_sentence():
    likelihood = bind(conjugate.model(), conjugate.data())
    made = build_model(likelihood)
    point = StartingPoint({})
    named = named_start(likelihood, point, by_weights(likelihood, {}))
    nowhere = np.full_like(flat_start(made, named), np.nan)
    settings = SamplerSettings(10, 10, 1, 1, 1, progress=False)
    with pytest.raises(PkpdError, match="the sampler stopped") as caught:
        sample(made, named, nowhere, flat_spread(made, point), settings)
    assert len(str(caught.value).splitlines()) == 1
    assert "use narrower priors" in str(caught.value)


def test_a_low_rank_matrix_is_asked_of_nutpie_alone():
    with pytest.raises(PkpdError, match="low_rank: sampler 'pymc' has no low-rank mass matrix"):
        SamplerSettings(sampler="pymc", low_rank=True)
