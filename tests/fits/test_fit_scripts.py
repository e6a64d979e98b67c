"""What the fit scripts stand on: their table, their data, and their shape."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pkpd.data.nonmem import read_nonmem

FITS = Path(__file__).parents[2] / "fits"
REFERENCE = Path(os.environ.get("PKPD_REFERENCE", FITS.parents[1] / "shared" / "oracles"))
SCRIPTS = sorted(p for p in FITS.glob("*.py") if p.stem not in ("reference_table", "run_all"))

sys.path.insert(0, str(FITS))

import reference_table  # noqa: E402


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(full=False, out=tmp_path)


def figures(tmp_path):
    with (tmp_path / "trial.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_tells_met_from_missed_and_appends(options, tmp_path, capsys):
    table = reference_table.ReferenceTable("trial", options)
    table.near("objective", 116.803, 116.8038, within=0.05)
    table.near("CL", 2.7, 2.71, percent=1)
    table.inside("V", 31.0, (29.0, 33.0), 32.0)
    table.at_most("R-hat", 1.005, 1.01)
    table.told("seconds", 3.0)
    with pytest.raises(SystemExit) as ended:
        table.finish()
    assert ended.value.code == reference_table.MET
    again = reference_table.ReferenceTable("trial", options)
    again.near("CL", 2.7, 3.0, percent=1)
    again.inside("V", 31.0, (29.0, 31.5), 32.0)
    with pytest.raises(SystemExit) as ended:
        again.finish()
    assert ended.value.code == reference_table.MISSED
    rows = figures(tmp_path)
    assert [row["met"] for row in rows] == ["yes", "yes", "yes", "yes", "", "no", "no"]
    assert "missed: CL, V" in capsys.readouterr().out


def test_results_of_all_scripts_go_to_a_folder_named_from_here(tmp_path, monkeypatch):
    import run_all

    asked = []

    def run(command, **how):
        asked.extend(command)
        return argparse.Namespace(returncode=0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_all.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["run_all.py", "theophylline", "--out", "mine", "--data", "d"])
    with pytest.raises(SystemExit):
        run_all.main()
    assert asked[asked.index("--out") + 1] == str(tmp_path / "mine")
    assert asked[asked.index("--data") + 1] == str(tmp_path / "d")
    assert (tmp_path / "mine" / "summary.csv").exists()


def test_data_are_checked_by_their_digest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference_table, "folders", lambda given: [tmp_path])
    (tmp_path / "some.csv").write_text("ID\n1\n")
    digest = "00b5de3b6e8adbb81d2ac6b4e0b8a9d4c8a45a2e8a3e16b0ea5eb29ac7c9b4b1"
    with pytest.raises(SystemExit) as ended:
        reference_table.find_data(None, "some.csv", digest, "somewhere")
    assert ended.value.code == reference_table.NO_DATA
    out = capsys.readouterr().out
    assert "not the file meant" in out
    assert "Get it from somewhere" in out


@pytest.mark.parametrize(
    ("name", "subjects", "observations", "doses", "reference"),
    [
        ("theophylline", 12, 132, 12, "theo_sd.csv"),
        ("phenobarbital", 59, 155, 589, "pheno_sd.csv"),
    ],
)
def test_shipped_data_are_those_of_the_archive(name, subjects, observations, doses, reference):
    data = read_nonmem(FITS / "data" / f"{name}.csv", covariates=["WT"])
    # counts as published with the data sets
    assert len(data.subjects) == subjects
    assert len(data.observations) == observations
    assert data.events.is_dose.sum() == doses
    path = REFERENCE / "nlmixr2data" / reference
    if not path.exists():
        pytest.skip("no reference folder (PKPD_REFERENCE or ../shared/oracles)")
    theirs = read_nonmem(path, covariates=["WT"])
    assert data.observations.value.tolist() == theirs.observations.value.tolist()
    assert data.observations.time.tolist() == theirs.observations.time.tolist()
    assert data.events.amt.tolist() == theirs.events.amt.tolist()
    assert data.covariates["WT"].tolist() == theirs.covariates["WT"].tolist()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_short_and_have_the_same_parts(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 150
    for part in ("# data", "# fit", "# checks", "# reference", "table.finish()"):
        assert part in text
    assert "model" in text


def test_fits_without_their_data_are_skipped_and_named(tmp_path):
    bare = {k: v for k, v in os.environ.items() if k != "PKPD_REFERENCE"}
    code = (
        "import sys, reference_table as r; r.ROOT = r.Path('/nowhere/at/all');"
        "r.find_data(None, 'wbcSim.csv', 'x', 'there')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=FITS,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == reference_table.NO_DATA
    assert "No data: wbcSim.csv was not found" in done.stdout
