"""Runs of the command and of the sampler, killed at moments of their course; then run again."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scenarios import TWO_AMOUNTS

from pkpd.report.comparison import tables

SIMULATE = """
import sys, time
import numpy as np
sys.path[:0] = {folders!r}
from conftest import StandIn
from pkpd.evidence import EvidenceLikelihood, load_evidence
from pkpd.evidence.sampling.simulations import Task, simulate_at
from test_learning import prior_of
plan = EvidenceLikelihood(load_evidence({table!r}))
prior = prior_of("regrowth", "kill")
task = Task(lambda seed: StandIn(plan.arms, 32, seed), plan.cells, prior)
z = np.random.default_rng(5).standard_normal((150, prior.size))
def told(done, of):
    print("block", flush=True)
    time.sleep({wait})
found = simulate_at(task, z, seed=7, folder=__import__("pathlib").Path({folder!r}), on_block=told)
np.savez({out!r}, share=found.share, days=found.days)
"""


def sound(folder):
    """Whether the files of a folder are those that its record lists; what the record was asked."""
    told = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for name, digest in told["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return told["record"]["seed"]


@pytest.mark.long  # test_written_whole ends what it writes by
def test_a_killed_comparison_leaves_the_earlier_results(tmp_path):
    scenario, out = tmp_path / "mine.toml", tmp_path / "out"
    scenario.write_text(TWO_AMOUNTS)

    def start(seed):
        words = ["compare", scenario, "--patients", 20, "--draws", 4, "--out", out, "--seed", seed]
        command = [sys.executable, "-m", "pkpd", *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    first = start(1)
    _, errors = first.communicate(timeout=500)
    assert first.returncode == 0, errors
    assert sound(out) == 1
    for moment in ("at once", "a cohort is complete", "figures are drawn"):
        running = start(2)
        deadline = time.monotonic() + 500
        while running.poll() is None and time.monotonic() < deadline:
            if moment == "at once" or (
                list(out.glob("*.partial.*"))
                if moment == "a cohort is complete"
                else list(out.glob(".writing-*/figures"))
            ):
                break
            time.sleep(0.002)
        assert running.poll() is None, moment
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert sound(out) == 1, moment
    assert list(out.glob("*.partial.*"))  # the cohorts that were complete are kept
    again = start(2)
    again.communicate(timeout=500)
    assert (again.returncode, sound(out)) == (0, 2)
    assert not [p for p in out.iterdir() if p.name.startswith(".") or ".partial." in p.name]
    assert tables.read_rows(out / "results.csv")


def contents(folder):
    """Bytes of the files of a folder that are not hidden."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


@pytest.mark.long  # test_written_whole ends what it writes by
def test_a_killed_search_leaves_the_earlier_result(tmp_path):
    menu, out = tmp_path / "mine.toml", tmp_path / "out"
    menu.write_text(TWO_AMOUNTS)

    def start(seed, folder=out):
        words = ["search", menu, "--patients", 20, "--draws", 4, "--once", "--marrow", "friberg"]
        words += ["--out", folder, "--seed", seed]
        command = [sys.executable, "-m", "pkpd", *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    for seed, folder in ((1, out), (2, tmp_path / "whole")):
        whole = start(seed, folder)
        _, errors = whole.communicate(timeout=500)
        assert whole.returncode == 0, errors
    first, second = contents(out), contents(tmp_path / "whole")
    assert first["schedules.csv"] != second["schedules.csv"]
    for moment in ("at once", "progress is said", "files are written"):
        running = start(2)
        if moment == "progress is said":
            assert running.stderr.readline()
        deadline = time.monotonic() + 500
        while (
            moment == "files are written"
            and not list(out.glob(".writing-*/search.nc"))
            and running.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        assert running.poll() is None, moment
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert contents(out) == first, moment
    again = start(2)
    _, errors = again.communicate(timeout=500)
    assert again.returncode == 0, errors
    for name in ("schedules.csv", "differences.csv"):
        assert contents(out)[name] == second[name]
    assert {p.name for p in out.iterdir()} == set(second)


@pytest.mark.long  # test_learning: simulations are kept and go on
def test_a_killed_calibration_goes_on_to_the_same_end(tmp_path):
    tests = Path(__file__).parents[1]
    folders = [str(tests / "evidence"), str(tests)]
    table = tmp_path / "rows.csv"
    rows = (
        "A,aml,cytarabine:100 mg/m2:CI:1-7,200,cr_rate,,,,,120,200,READ",
        "A,aml,cytarabine:100 mg/m2:CI:1-7,50,anc500_recovery_day_median,24,,,,,,READ",
    )
    head = (
        "study,population,schedule,n,endpoint,value,lower,upper,limits,numerator,denominator,mark"
    )
    table.write_text("\n".join((head, *rows)) + "\n")

    def code(name, wait=0.0):
        return SIMULATE.format(
            folders=folders, table=str(table), wait=wait, folder=str(tmp_path / name),
            out=str(tmp_path / f"{name}_end.npz"),
        )  # fmt: skip

    assert subprocess.run([sys.executable, "-c", code("whole")], timeout=500).returncode == 0
    for blocks in (1, 2):
        with subprocess.Popen(
            [sys.executable, "-c", code("killed", 0.3)], stdout=subprocess.PIPE, text=True
        ) as running:
            for _ in range(blocks):
                assert running.stdout.readline() == "block\n"
            running.send_signal(signal.SIGKILL)
    kept = sorted((tmp_path / "killed").glob("*.npz"))
    assert 3 <= len(kept) < 6
    # a file that was cut short is made again
    kept[0].write_bytes(kept[0].read_bytes()[:200])
    assert subprocess.run([sys.executable, "-c", code("killed")], timeout=500).returncode == 0
    whole, killed = (np.load(tmp_path / f"{name}_end.npz") for name in ("whole", "killed"))
    for name in ("share", "days"):
        # kept simulations have the precision of 32 bits
        np.testing.assert_allclose(killed[name], whole[name], rtol=1e-6)
