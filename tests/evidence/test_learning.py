"""Learning by simulation, emulator and chains, against weighted draws of the prior and a truth."""

import copy
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenarios import a_worker

from pkpd.cards.contents import contents
from pkpd.errors import PkpdError
from pkpd.evidence import EvidenceLikelihood, load_evidence, marrow_prior
from pkpd.evidence.likelihood.cells import cells_of
from pkpd.evidence.likelihood.density import TableDensity
from pkpd.evidence.likelihood.offsets import simulated_names, spread_at
from pkpd.evidence.likelihood.parameters import ARMS, BETWEEN
from pkpd.evidence.likelihood.prior import Prior
from pkpd.evidence.posterior import kept, learning
from pkpd.evidence.posterior.learning import LearningPlan, learn
from pkpd.evidence.posterior.stored import load_posterior
from pkpd.evidence.sampling import simulations
from pkpd.evidence.sampling.chains import ChainSettings, sample
from pkpd.evidence.sampling.chains_checked import ChainLimits, check_chains
from pkpd.evidence.sampling.emulator import Training, train
from pkpd.evidence.sampling.points import (
    first_points,
    keep_round,
    kept_start,
    near,
    points_kept,
)
from pkpd.evidence.sampling.simulations import (
    MarrowMaker,
    Simulations,
    Task,
    blocks_of,
    simulate_at,
)
from pkpd.marrow.variants import FULL
from pkpd.units import Parameter


def prior_of(*names):
    known = {
        "regrowth": Parameter("regrowth", 1.0, "1", interval=(0.5, 2.0)),
        "kill": Parameter("kill", 3.0, "1", interval=(1.5, 6.0)),
        "hazard": Parameter("hazard", 0.004, "1/day", interval=(0.001, 0.016)),
    }
    fixed = {"regrowth": 1.0, "regrowth.sd": 0.35, "kill": 3.3, "kill.sd": 1.2, "hazard": 0.004}
    kept = {n: v for n, v in fixed.items() if n not in names}
    return Prior([*(known[n] for n in names), *BETWEEN, *ARMS], fixed=kept)


class Straight:
    """An emulator in closed form: logits and days move with the first score."""

    def __init__(self, cells):
        rng = np.random.default_rng(1)
        self.logits = rng.normal(-0.5, 0.4, len(cells.shares))
        self.days = np.tile(
            [np.log(24.0), np.log(0.15), np.log(0.2), np.log(25.0)], (len(cells.days), 1)
        )
        self.shape, self.weights = b"straight", {}

    def with_weights(self, weights):
        return self

    def __call__(self, z):
        return jnp.asarray(self.logits) + 0.8 * z[0], jnp.asarray(self.days) + 0.1 * z[0] * (
            jnp.array([1.0, 0.0, 0.0, 1.0])
        )


@pytest.mark.long  # test_synthetic ranks truths among draws of chains
def test_chains_agree_with_weighted_draws_of_the_prior(table_file):
    plan = EvidenceLikelihood(load_evidence(table_file()))
    cells, prior = cells_of(plan.terms), prior_of("regrowth")
    density, emulator = TableDensity(cells), Straight(cells)
    settings = ChainSettings(draws=1000, tune=400, chains=2, cores=1, seed=3)
    sampled = sample(prior, density, emulator, settings)

    @jax.jit
    @jax.vmap
    def total(z):
        logits, days = emulator(z)
        return density.marginal(logits, days, spread_at(prior, z)).sum()

    z = np.random.default_rng(2).standard_normal((10_000, prior.size))
    z[:, 0] *= 0.6  # where the posterior is
    log_w = np.concatenate([np.asarray(total(part)) for part in np.split(z, 10)])
    log_w += -0.5 * z[:, 0] ** 2 + 0.5 * (z[:, 0] / 0.6) ** 2
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    assert 1.0 / (w @ w) > 1000
    mean, sd = w @ z, np.sqrt(w @ (z - w @ z) ** 2)
    got = sampled.z.reshape(-1, prior.size)
    np.testing.assert_allclose(got.mean(axis=0), mean, atol=0.12)
    np.testing.assert_allclose(got.std(axis=0), sd, rtol=0.15)


@pytest.mark.long
def test_emulator_averages_the_chance_of_few_patients_out(table_file):
    """Binomial shares and logistic days around known functions come back nearly without noise."""
    rng = np.random.default_rng(4)
    n, size = 1500, 60.0
    z = rng.standard_normal((n, 4))
    truth = np.stack([0.5 * z[:, 0] - 1.0, z[:, 1] * z[:, 0] * 0.4 + 0.3], axis=1)
    share = rng.binomial(int(size), 1 / (1 + np.exp(-truth))) / size
    middle = 3.2 + 0.1 * z[:, 2]
    days = np.stack([np.stack([m, 0 * m + 0.15, 0 * m + 0.2, m + 0.05], -1) for m in [middle]], 1)
    noise = 2.0 * 0.175 / np.sqrt(size)
    days[..., 0] += noise * rng.standard_normal((n, 1))
    found = Simulations(z, share, np.full((n, 2), size), days, np.full((n, 1), size))
    emulator = train(found, [0, 1, 2], Training(width=32, steps=2500, decay=0.5, networks=1))
    new = rng.standard_normal((400, 4))
    logits, told = jax.vmap(emulator)(new)
    first = 0.5 * new[:, 0] - 1.0
    second = new[:, 1] * new[:, 0] * 0.4 + 0.3
    chance = 1 / np.sqrt(size * 0.2)
    assert np.sqrt(np.mean((np.asarray(logits)[:, 0] - first) ** 2)) < 0.4 * chance
    assert np.sqrt(np.mean((np.asarray(logits)[:, 1] - second) ** 2)) < 0.4 * chance
    off = np.asarray(told)[:, 0, 0] - (3.2 + 0.1 * new[:, 2])
    assert np.sqrt(np.mean(off**2)) < 0.4 * noise


@pytest.mark.slow
def test_patients_that_simulations_share_are_no_effect_of_parameters():
    """Blocks shift a share and a day by more than parameters do; on average they shift nothing."""
    rng = np.random.default_rng(8)
    blocks, each, size = 40, 10, 400.0
    block, n = np.repeat(np.arange(blocks), each), blocks * each
    z = rng.standard_normal((n, 2))
    shift = rng.standard_normal((2, blocks))[:, block]
    p = 1 / (1 + np.exp(1.0 - 0.3 * z[:, 0] - 0.4 * shift[0]))
    share = (rng.binomial(int(size), p) / size)[:, None]
    middle = 3.2 + 0.05 * z[:, 1] + 0.07 * shift[1]
    days = np.stack([middle, 0 * p + 0.15, 0 * p + 0.2, middle], -1)[:, None]
    found = Simulations(z, share, np.full((n, 1), size), days, np.full((n, 1), size))
    how = Training(width=4, steps=1500, batch=64, networks=1)
    new = np.stack([np.linspace(-1, 1, 9)] * 2, axis=1)
    off = []
    for own in (block, None):
        emulator = train(found, [0, 1], how, block=own)
        logits, told = jax.vmap(emulator)(new)
        slope = np.polyfit(new[:, 0], np.asarray(logits)[:, 0], 1)[0]
        off.append([slope - 0.3, np.polyfit(new[:, 1], np.asarray(told)[:, 0, 0], 1)[0] - 0.05])
        here, there = jax.vmap(emulator)(z)
        assert np.mean(1 / (1 + np.exp(-np.asarray(here)))) == pytest.approx(share.mean(), abs=4e-3)
        assert np.mean(np.asarray(there)[:, 0, 0]) == pytest.approx(middle.mean(), abs=2e-3)
    assert np.all(np.abs(off[0]) < [0.03, 0.006])  # of .3 and .05
    assert np.all(np.abs(off[0]) < 0.7 * np.abs(off[1]))


def test_simulations_are_kept_and_go_on(table_file, stand_in, tmp_path):
    plan = EvidenceLikelihood(load_evidence(table_file()))
    prior = prior_of("regrowth", "kill")
    made = []

    def make(seed):
        made.append(seed)
        return stand_in(plan.arms, n=32, seed=seed)

    task = Task(make, cells_of(plan.terms), prior)
    z = np.random.default_rng(5).standard_normal((60, prior.size))
    first = simulate_at(task, z, seed=7, folder=tmp_path)
    assert made == [7, 8, 9]  # every block has patients of its own
    (tmp_path / "0001.npz").unlink()
    again = simulate_at(task, z, seed=7, folder=tmp_path)
    assert made == [7, 8, 9, 8]
    np.testing.assert_array_equal(again.share, first.share)
    other = simulate_at(task, z + 0.1, seed=7, folder=tmp_path)
    assert len(made) == 7
    assert not np.array_equal(other.share, first.share)


def same(one, other):
    for name in ("z", "share", "size", "days", "days_size"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_simulations_over_a_cluster_are_kept_as_they_end(
    table_file, stand_in, tmp_path, monkeypatch
):
    monkeypatch.setattr(simulations, "spread_over", a_worker)
    plan = EvidenceLikelihood(load_evidence(table_file()))
    prior = prior_of("regrowth", "kill")
    task = Task(lambda seed: stand_in(plan.arms, n=32, seed=seed), cells_of(plan.terms), prior)
    z = np.random.default_rng(5).standard_normal((60, prior.size))
    alone = simulate_at(task, z, seed=7)
    told = []
    how = {"seed": 7, "folder": tmp_path, "on_block": lambda done, _: told.append(done)}
    same(simulate_at(task, z, **how, cluster="tcp://host:8786"), alone)
    assert told == [10, 35, 60]  # the last block was the first to be done
    monkeypatch.undo()
    same(simulate_at(task, z, **how, cluster="tcp://127.0.0.1:9"), alone)  # nobody is asked
    assert len(list(tmp_path.glob("*.npz"))) == 3


@pytest.mark.long  # those of a worker that functions travel to are above
def test_simulations_of_any_processes_are_the_same(table_file):
    pytest.importorskip("distributed")
    plan, prior = EvidenceLikelihood(load_evidence(table_file())), marrow_prior()
    task = Task(MarrowMaker(plan.arms, 32), cells_of(plan.terms), prior)
    z = first_points(prior.size, 60, 1)
    alone = simulate_at(task, z, seed=7)
    same(simulate_at(task, z, seed=7, workers=2), alone)
    same(simulate_at(task, z, seed=7, workers=2, cluster="local"), alone)


def test_what_a_round_begins_with_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    z = np.zeros((30, 3))

    def full(file, values):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(PkpdError, match=r"points\.npy: cannot be written \(No space left"):
        keep_round(tmp_path, z, None, np.random.default_rng(1))
    assert points_kept(tmp_path, 30, 3) is None
    assert [p.name for p in tmp_path.iterdir()] == ["random.json"]


def test_two_runs_may_keep_one_block(tmp_path, monkeypatch):
    block = Simulations(
        np.zeros((2, 3)), *np.zeros((2, 2, 4)), np.zeros((2, 1, 4)), np.zeros((2, 1))
    )
    file, save = tmp_path / "0000.npz", np.savez_compressed

    def another_meanwhile(out, **arrays):
        monkeypatch.undo()
        simulations.write_block(file, block)
        save(out, **arrays)

    monkeypatch.setattr(np, "savez_compressed", another_meanwhile)
    simulations.write_block(file, block)
    same(simulations.read_block(file), block)
    assert [p.name for p in tmp_path.iterdir()] == ["0000.npz"]


def rows_of(truth, stand_in, load, write):
    """A table of 24 studies whose numbers are those of the stand-in at the truth."""
    schedules = [f"clofarabine:{dose} mg/m2:IV1h:1-5" for dose in (10, 20, 30, 40)] + [
        "cytarabine:100 mg/m2:CI:1-7",
        "cytarabine:200 mg/m2:CI:1-7",
    ]
    blank = []
    for index in range(24):
        schedule = schedules[index % 6]
        blank += [
            f"S{index},aml,{schedule},60,cr_rate,,,,,20,60,READ",
            f"S{index},aml,{schedule},60,day30_mortality,,,,,6,60,READ",
            f"S{index},aml,{schedule},30,anc500_recovery_day_median,24,,,,,,READ",
        ]
    table = load(write(*blank))
    plan = EvidenceLikelihood(table)
    seen = stand_in(plan.arms, n=4096)(truth)
    rng = np.random.default_rng(8)
    rows = []
    for row in table:
        arm, what = seen[row.arm], row.endpoint.alternatives[0].observable
        x = arm.observe(what)
        if row.endpoint.kind == "count":
            k = rng.binomial(60, x.mean())
            rows.append(
                f"{row.study},aml,{source(row, blank)},60,{row.endpoint.name},,,,,{k},60,READ"
            )
        else:
            days = rng.choice(x[np.isfinite(x)], 30)
            rows.append(
                f"{row.study},aml,{source(row, blank)},30,{row.endpoint.name},"
                f"{np.median(days):.0f},,,,,,READ"
            )
    return load(write(*rows))


def source(row, blank):
    return next(line for line in blank if line.startswith(f"{row.study},")).split(",")[2]


@pytest.mark.long
def test_learning_finds_what_made_a_table(table_file, stand_in, truth, tmp_path):
    table = rows_of(truth, stand_in, load_evidence, table_file)
    plan = EvidenceLikelihood(table)
    prior = prior_of("regrowth", "kill", "hazard")
    assert simulated_names(prior) == ("regrowth", "kill", "hazard")
    small = LearningPlan(
        "small", rounds=(300, 300), powers=(0.5,), patients=64,
        scout=ChainSettings(draws=100, tune=200, chains=1, cores=1),
        chains=ChainSettings(draws=500, tune=400, chains=2, cores=1),
        training=Training(width=32, steps=1500, networks=1),
    )  # fmt: skip
    said = []

    def run():
        return learn(
            prior, plan, small, make=lambda seed: stand_in(plan.arms, n=64, seed=seed),
            folder=tmp_path, limits=ChainLimits(chains=2, rhat=1.05, ess=100), say=said.append,
        )  # fmt: skip

    got = run()
    assert got.checked.converged, got.checked.table()
    assert got.posterior.converged
    for name in ("regrowth", "kill", "hazard"):
        # 99.9 %, so that one of three is outside by chance in 3 of 1,000 tables
        low, _, high = got.posterior.quantiles((0.0005, 0.5, 0.9995))[name]
        assert low < truth[name] < high
        place = prior.names.index(name)
        assert got.posterior.z[..., place].std() < 0.7  # learned
    assert got.noise < 1.5
    assert got.posterior.by_study.shape[-1] == 24
    np.testing.assert_allclose(
        got.posterior.by_study.sum(axis=-1).mean(), got.posterior.by_term.sum(axis=-1).mean(),
        atol=6.0,
    )  # fmt: skip
    got.posterior.save(tmp_path / "posterior.nc", default=True)
    assert load_posterior(tmp_path / "posterior.nc", default=True).names == prior.names
    assert any("round 1" in line for line in said)
    # a run that goes on from what another kept ends where that did
    for block in sorted(tmp_path.rglob("round1_*/0*.npz"))[1:]:
        block.unlink()
    np.testing.assert_array_equal(run().posterior.z, got.posterior.z)


def test_chains_that_disagree_are_not_converged():
    rng = np.random.default_rng(9)
    draws = rng.standard_normal((4, 500, 2))
    draws[0, :, 1] += 1.0
    found = check_chains(draws, ["a", "b"], 0.0)
    assert not found.converged
    assert found.problems[0].startswith("R-hat of b is")
    assert check_chains(draws[..., :1], ["a"], 0.0).converged
    assert "diverged" in check_chains(draws[..., :1], ["a"], 0.2).problems[0]
    assert "4 are needed" in check_chains(draws[:2, :, :1], ["a"], 0.0).problems[0]


def test_later_points_lie_where_draws_do_and_every_other_one_wider():
    draws = np.random.default_rng(10).normal(2.0, 0.5, (2, 400, 3))
    points = near(draws, 600, np.random.default_rng(11))
    assert points.mean() == pytest.approx(2.0, abs=0.05)
    assert points[::2].std() == pytest.approx(0.7, rel=0.05)
    inner = points[1::2]
    assert inner.std() == pytest.approx(0.5, rel=0.05)
    gaps = np.abs(inner[:, None] - draws.reshape(-1, 3)).max(axis=2).min(axis=1)
    assert gaps.max() < 1e-12


def test_a_round_that_was_kept_goes_on_as_it_would_have(tmp_path):
    rng = np.random.default_rng(3)
    points, start = rng.standard_normal((8, 2)), rng.standard_normal((5, 2))
    assert points_kept(tmp_path / "round", 8, 2) is None
    keep_round(tmp_path / "round", points, start, rng)
    following = rng.standard_normal(4)
    other = np.random.default_rng(99)
    np.testing.assert_array_equal(points_kept(tmp_path / "round", 8, 2), points)
    np.testing.assert_array_equal(kept_start(tmp_path / "round", other), start)
    np.testing.assert_array_equal(other.standard_normal(4), following)
    keep_round(tmp_path / "first", points, None, rng)
    assert kept_start(tmp_path / "first", other) is None


def test_simulations_of_other_patients_are_kept_in_another_folder(table_file):
    """What was simulated in patients of one disease was taken for that in those of another."""
    table = load_evidence(table_file())

    def place(**changes):
        rows = [replace(row, population=replace(row.population, **changes)) for row in table]
        likelihood = EvidenceLikelihood(replace(table, rows=tuple(rows)))
        return kept.place_of("x", prior_of("regrowth"), likelihood, FULL, 64, 4)

    assert place() == place(title="in other words")
    assert len({place(), place(disease="aml_unfit"), place(least_platelets=50.0)}) == 3


def test_simulations_under_other_cards_of_drugs_are_refused(table_file, tmp_path, monkeypatch):
    """Simulations under other kinetics were gone on with as if the drugs were the same."""
    likelihood, place = EvidenceLikelihood(load_evidence(table_file())), tmp_path / "simulations"
    kept.refuse_other_cards(place, likelihood)
    written = (place / kept.CARDS).read_text()
    assert "cytarabine" in written
    kept.refuse_other_cards(place, likelihood)

    def changed(card, *keys, to):
        def read(file, shown):
            found = copy.deepcopy(contents(file, shown))
            if Path(shown).stem == card:
                reduce(getitem, keys[:-1], found)[keys[-1]] = to
            return found

        monkeypatch.setattr(kept, "contents", read)

    clearance = "fleming1995_cytarabine", "parameters", "CL_per_area"
    changed(*clearance, "source", to="in other words")
    kept.refuse_other_cards(place, likelihood)
    changed("fleming1995_cytarabine", "reference", "read_as", to="in other words")
    kept.refuse_other_cards(place, likelihood)
    for number in ((*clearance, "value"), ("cytarabine", "leukaemia", "reference", "value")):
        changed(*number, to=99.0)
        with pytest.raises(PkpdError, match="simulations are of other cards of cytarabine; name"):
            kept.refuse_other_cards(place, likelihood)
    changed("eln_2022", "response", 0, "text", to="in other words")
    kept.refuse_other_cards(place, likelihood)
    changed("eln_2022", "response", 0, "marrow_blasts_below", to=10.0)
    with pytest.raises(PkpdError, match="simulations are of other cards of responses in aml"):
        kept.refuse_other_cards(place, likelihood)
    (place / kept.CARDS).unlink()
    kept.refuse_other_cards(place, likelihood)  # a folder that does not tell
    assert not list(place.iterdir())


def test_blocks_drawn_again_keep_patients_together_in_rounds_of_any_size():
    block = blocks_of([30, 50])
    # the patients of a round begin anew: blocks of 25, 5, 25 and 25
    assert np.bincount(block).tolist() == [25, 5, 25, 25]
    assert np.flatnonzero(block == 2)[0] == 30
    places = learning._blocks_again(block, 3)
    drawn = np.random.default_rng(3).integers(4, size=4)
    np.testing.assert_array_equal(
        places, np.concatenate([np.flatnonzero(block == one) for one in drawn])
    )
    even = learning._blocks_again(blocks_of([50, 50]), 3)
    np.testing.assert_array_equal(even, (drawn[:, None] * 25 + np.arange(25)).ravel())
