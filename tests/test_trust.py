"""The table of reference cases: what is absent, missed or not judged is told as such."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import control_streams, trust
from pkpd.data.events import EventTable
from pkpd.kinetics.compartments import compartment_model
from pkpd.solve.events.advance import solve_linear


@pytest.fixture
def answers(tmp_path):
    """Doses of two subjects, answered by the closed form, not by this package."""
    ka, k, volume = 1.5, 1.1 / 20.0, 20.0
    rows = []
    for label, dose in ((1, 100.0), (2, 250.0)):
        for time in (0.0, 0.5, 2.0, 7.0, 24.0):
            curve = np.exp(-k * time) - np.exp(-ka * time)
            amount = dose * ka / (ka - k) * curve
            first = time == 0.0
            rows.append(
                {
                    "ID": label,
                    "TIME": time,
                    "EVID": int(first),
                    "AMT": dose * first,
                    "RATE": 0,
                    "II": 0,
                    "ADDL": 0,
                    "SS": 0,
                    "CMT": 1,
                    "LAGT": 0,
                    "BIOAV": 1,
                    "DUR2": 0,
                    "RAT2": 0,
                    "CP": f"{amount / volume * 1000.0:.5g}",
                }
            )
    folder = tmp_path / "answers" / "nlmixr2data"
    folder.mkdir(parents=True)
    with (folder / "nmtest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "nmtest.csv"


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["trust", *map(str, words)])
    return trust.main()


def test_answers_of_the_closed_form_are_met_and_wrong_ones_missed(monkeypatch, tmp_path, answers):
    out = tmp_path / "out"
    told = ("--data", answers.parents[1], "--out", out, "--only", "doses")
    assert run(monkeypatch, *told, "--page", tmp_path / "page.md") == 0
    found = json.loads((out / "cases.json").read_text())
    assert [(one["name"], one["verdict"]) for one in found] == [
        ("doses, nmtest", trust.MET),
        ("doses, 1001", trust.ABSENT),
    ]
    assert found[0]["compared"] == 10
    page = (tmp_path / "page.md").read_text()
    assert "1 of 1 cases that can be judged meet their tolerance" in page
    assert page == (out / "cases.md").read_text()
    answers.write_text(answers.read_text().replace("250.0", "251.0"))
    assert run(monkeypatch, *told) == 1
    assert json.loads((out / "cases.json").read_text())[0]["verdict"] == trust.MISSED


def test_streams_are_judged_by_their_listing(monkeypatch, tmp_path):
    def looked(row):
        monkeypatch.setattr(trust, "in_a_process", lambda path, **_: row)
        return trust.stream(tmp_path / "224" / "run.mod", 1.0)

    one = {"what": "objective", "ours": -3.99, "nonmem": -3.998, "agrees": True, "words": ""}
    near = looked({"read": True, "compared": [one]})
    assert (near.verdict, near.ours, near.theirs) == (trust.MET, -3.99, -3.998)
    far = looked({"read": True, "compared": [one, one | {"ours": -5.0, "agrees": False}]})
    assert (far.verdict, far.ours) == (trust.MISSED, -5.0)
    assert looked({"read": True, "compared": [one | {"agrees": None}]}).verdict == trust.UNJUDGED
    late = looked({"read": False, "late": True, "why": "not done in 1 s"})
    assert (late.verdict, late.difference) == (trust.UNJUDGED, "not done in 1 s")
    crashed = looked({"read": False, "why": "CRASHED: ZeroDivisionError"})
    assert (crashed.verdict, crashed.difference) == (trust.MISSED, "CRASHED: ZeroDivisionError")
    refused = looked({"read": False, "why": "line 3: loops"})
    assert refused.verdict == trust.UNJUDGED
    assert refused.difference == "refused: line 3: loops"


def test_fits_find_relative_folders_from_theirs(monkeypatch, tmp_path, answers):
    commands = []

    def ended(command, **_):
        commands.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust.subprocess, "run", ended)
    run(monkeypatch, "--data", "answers", "--out", "out", "--only", "fit theophylline")
    given = dict(zip(commands[0], commands[0][1:], strict=False))
    assert given["--out"] == str(tmp_path / "out" / "fits")
    assert given["--data"] == str(answers.parents[1])


def test_the_closed_form_is_what_the_engine_solves():
    """The one-compartment case of the table, so that a row of it means what it says."""
    table = EventTable.from_columns([1, 1], [0.0, 2.0], evid=[1, 0], amt=[100.0, 0.0], cmt=[1, 1])
    model = compartment_model(1, "first_order")
    found = np.asarray(solve_linear(model, table, {"CL": 1.1, "V": 20.0, "ka": 1.5}))
    k = 1.1 / 20.0
    wanted = 100.0 * 1.5 / (1.5 - k) * (np.exp(-k * 2.0) - np.exp(-1.5 * 2.0))
    assert table.to_rows(found)[1, 1] == pytest.approx(wanted, rel=1e-10)


def test_a_stream_that_is_not_done_in_time_is_neither_read_nor_refused(monkeypatch, capsys):
    def late(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(control_streams.subprocess, "run", late)
    path = Path("bundle") / "run1.mod"
    row = control_streams.in_a_process(path, fit=False, seconds=3.0)
    control_streams.tell(path, row)
    assert capsys.readouterr().out == "bundle/run1.mod: not done in 3 s\n"
    read = {"read": True, "verified": True}
    assert control_streams.counted([row, read]) == (
        "2 streams: 1 read, 1 with NONMEM's objective within 0.1, 1 not done in time"
    )
    assert control_streams.counted([read]).endswith("within 0.1")
    case = trust.stream(path, 3.0)
    assert (case.difference, case.verdict) == ("not done in 3 s", trust.UNJUDGED)
