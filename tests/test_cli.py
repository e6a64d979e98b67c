"""The command line: sentences, exit statuses, nothing half-written, nothing slow at start."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pkpd
from pkpd.cards.files import card_names
from pkpd.cards.finding import trial_name
from pkpd.cli import app
from pkpd.comparison import check
from pkpd.errors import CardError
from pkpd.report.comparison import tables

_SPEC = importlib.util.spec_from_file_location(
    "synthetic_for_cli", Path(__file__).parent / "report" / "synthetic.py"
)
synthetic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(synthetic)


@pytest.fixture
def fake(monkeypatch):
    return stand_in(monkeypatch)


def stand_in(monkeypatch):
    """Stand in for the comparison: runs through synthetic cohorts and keeps its arguments."""
    seen = types.SimpleNamespace(stop_after=None, error=None, arguments=None)

    def compare(scenario=None, *, on_cohort, on_trial, on_progress, **settings):
        seen.arguments = {"scenario": scenario, **settings}
        result = synthetic.make_result((2, 1))
        done = 0
        for trial in result.trials:
            for cohort in trial.trial.cohorts:
                if done == seen.stop_after:
                    raise seen.error
                rows = tuple(r for r in trial.rows if r.cohort == cohort.id)
                on_cohort(trial.trial, cohort.id, rows)
                done += 1
                on_progress(done, 3, cohort.id)
            on_trial(trial)
        return result

    module = types.ModuleType("pkpd.comparison.run")
    module.compare = compare
    monkeypatch.setitem(sys.modules, "pkpd.comparison.run", module)
    return seen


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_help_imports_neither_jax_nor_pymc_nor_matplotlib():
    code = """
import sys
from pkpd.cli import app, main
try:
    app(["--help"])
except SystemExit as end:
    assert end.code == 0
slow = {"jax", "pymc", "pytensor", "matplotlib", "pandas", "xarray", "scipy", "numpy"}
sys.exit(", ".join(slow & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("compare", "show", "cards", "check", "version"):
        assert command in done.stdout


def test_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "pkpd", "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("pkpd ")


def test_compare_prints_and_writes(fake, tmp_path):
    out = tmp_path / "out"
    done = run(
        "compare",
        "--patients",
        50,
        "--draws",
        7,
        "--seed",
        4,
        "--out",
        out,
        "--no-figures",
        "--option",
        "transfusion=false",
        "--option",
        "step_h=0.5",
        "--option",
        "engine=cells",
        "--card",
        "lenalidomide.pk=liang2024_lenalidomide",
        "--rule",
        "len_mec_2018",
        "--jobs",
        2,
    )
    assert done.exit_code == 0, done.output
    assert fake.arguments["options"] == {"transfusion": False, "step_h": 0.5, "engine": "cells"}
    assert fake.arguments["cards"] == {"lenalidomide.pk": "liang2024_lenalidomide"}
    assert (fake.arguments["patients"], fake.arguments["draws"], fake.arguments["jobs"]) == (
        50,
        7,
        2,
    )
    assert fake.arguments["trials"] is None
    assert "14d-10: lenalidomi" in done.stdout
    assert "report.html" in done.stdout
    assert "Assumed inputs" not in done.stdout
    assert max(map(len, done.stdout.replace(str(out), "").splitlines())) <= 80
    assert sorted(p.name for p in out.iterdir()) == [
        "curves_nct00983528.nc",
        "curves_nct01681537.nc",
        "pairs.csv",
        "report.html",
        "results.csv",
        "results.json",
        "sensitivity.csv",
    ]
    record = json.loads((out / "results.json").read_text())["record"]
    # the comparison's own word on its settings wins over what was asked
    assert record["settings"]["patients"] == 1000
    assert record["settings"]["rule"] == "len_mec_2018"
    assert str(tmp_path) not in (out / "results.json").read_text()


def test_compare_prints_all_if_asked_to(fake, tmp_path):
    done = run("compare", "--out", tmp_path / "out", "--no-figures", "--full")
    assert done.exit_code == 0, done.output
    assert "14d-10: lenalidomide 10 mg" in done.stdout
    assert "Assumed inputs" in done.stdout


@pytest.mark.slow
def test_the_marrow_and_its_posterior_are_passed_on_only_if_named(fake, tmp_path):
    done = run("compare", "--out", tmp_path / "a", "--no-figures", "--marrow", "leukaemia",
               "--posterior", tmp_path / "mine.nc")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert fake.arguments["marrow"] == "leukaemia"
    assert fake.arguments["posterior"] == tmp_path / "mine.nc"
    assert str(tmp_path) not in (tmp_path / "a" / "results.json").read_text()
    run("compare", "--out", tmp_path / "b", "--no-figures")
    assert not {"marrow", "posterior", "jobs"} & set(fake.arguments)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--marrow", "leukaemia"], ("no posterior is shipped", "fits/evidence/learn.py")),
        (["--marrow", "leukemia"], ("marrow: 'leukemia'", "friberg, leukaemia")),
        (["--posterior", "absent.nc"], ("absent.nc: there is no such file; check the path",)),
    ],
)
def test_a_marrow_that_cannot_be_had_is_one_sentence(monkeypatch, tmp_path, words, parts):
    from pkpd.comparison import marrow_choice

    monkeypatch.setattr(marrow_choice, "shipped_posterior", lambda: None)
    done = run("compare", "--out", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert all(part in done.stderr for part in parts), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_sentence_and_writes_nothing(fake, tmp_path):
    fake.stop_after, fake.error = 0, CardError("trials/x.toml: n is -1; give 1 or more.")
    done = run("compare", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr == "pkpd: trials/x.toml: n is -1; give 1 or more.\n"
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--option", "speed"], "--option: 'speed' is not KEY=VALUE; write --option transfusion="),
        (["--card", "a=b", "--card", "a=c"], "--card: a is given twice"),
    ],
)
def test_bad_options_are_told_before_anything_runs(fake, tmp_path, words, part):
    done = run("compare", "--out", tmp_path / "out", *words)
    assert done.exit_code == 2
    assert part in done.stderr
    assert fake.arguments is None


def test_a_file_in_the_way_is_told_before_anything_runs(fake, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = run("compare", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "is not a folder" in done.stderr
    assert fake.arguments is None
    assert (tmp_path / "out").read_text() == "mine"


def test_interruption_says_what_is_complete_and_where(fake, tmp_path):
    fake.stop_after, fake.error = 2, KeyboardInterrupt()
    out = tmp_path / "out"
    done = run("compare", "--out", out)
    assert done.exit_code == 130
    assert "2 cohorts are complete (nct01681537 14d-10, nct01681537 14d-5)" in done.stderr
    assert str(out) in done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        "curves_nct01681537.partial.nc",
        "pairs.partial.csv",
        "results.partial.csv",
        "sensitivity.partial.csv",
    ]


def test_interruption_before_the_first_cohort(fake, tmp_path):
    fake.stop_after, fake.error = 0, KeyboardInterrupt()
    done = run("compare", "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert done.stderr == "Stopped. No cohort was complete; nothing was written.\n"
    assert not (tmp_path / "out").exists()


def test_bad_input_midway_keeps_the_complete_cohorts(fake, tmp_path):
    fake.stop_after, fake.error = 1, CardError("trials/y.toml: bad.")
    done = run("compare", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[0] == "pkpd: trials/y.toml: bad."
    assert "1 cohort is complete (nct01681537 14d-10): see results.partial.csv" in done.stderr


def test_out_of_range_numbers_are_refused(fake, tmp_path):
    done = run("compare", "--patients", 0, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "--patients" in done.stderr
    assert fake.arguments is None


def test_registry_number_names_its_trial():
    for name in card_names("trials"):
        assert trial_name(name.split("_")[0].upper()) == name
        assert trial_name(name) == name
    assert trial_name("mine.toml") == "mine.toml"
    assert trial_name("unknown") == "unknown"


def test_show_tells_every_shipped_trial():
    assert card_names("trials")
    for name in card_names("trials"):
        done = run("show", name)
        assert done.exit_code == 0, done.output
        assert "Followed to day" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_show_tells_a_card():
    done = run("show", "len_mec_2018")
    assert done.exit_code == 0
    assert "by day: 45" in done.stdout


def test_show_unknown_name():
    done = run("show", "len_mec_2081")
    assert done.exit_code == 2
    assert "did you mean 'len_mec_2018'?" in done.stderr
    assert "pkpd cards" in done.stderr


def test_cards_lists_names():
    done = run("cards", "rules")
    assert done.exit_code == 0
    assert "  len_mec_2018" in done.stdout
    done = run("cards", "rulez")
    assert done.exit_code == 2
    assert "did you mean 'rules'?" in done.stderr


_FAKED = """
import sys
sys.path[:0] = [{tests!r}]
import test_cli, pytest
from pkpd.cli import main
with pytest.MonkeyPatch.context() as patch:
    test_cli.stand_in(patch)
    sys.argv = ["pkpd", "compare", "--out", {out!r}, "--no-figures"]
    main()
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("closed by its reader", marks=pytest.mark.slow),
        pytest.param("full", marks=pytest.mark.long),
        pytest.param("ascii", marks=pytest.mark.long),
    ],
)
def test_output_that_goes_away_loses_no_results(tmp_path, how):
    if how == "full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine")
    out = tmp_path / "out"
    code = _FAKED.format(tests=str(Path(__file__).parent), out=str(out))
    command = [sys.executable, "-c", code]
    environment = os.environ | ({"PYTHONIOENCODING": "ascii"} if how == "ascii" else {})
    sink = subprocess.PIPE
    if how == "full":
        sink = os.open("/dev/full", os.O_WRONLY)
    with subprocess.Popen(
        command, stdout=sink, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        if how == "closed by its reader":
            running.stdout.close()
            told = running.stderr.read()
        else:
            told = running.communicate()[1]
    if how == "full":
        os.close(sink)
    assert {"report.html", "results.csv", "results.json"} <= {p.name for p in out.iterdir()}
    assert not list(out.glob("*.partial.*"))
    assert "Traceback" not in told
    assert running.returncode == (1 if how == "full" else 0)
    reason = {"full": "No space left on device", "ascii": None}.get(how, "its reader closed it")
    if reason is None:
        assert told == ""
    else:
        assert f"Not all was printed ({reason}); the results are complete: see {out}" in told


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_is_a_sentence(fake, monkeypatch, tmp_path, after):
    calls = []

    def full(*words):
        calls.append(words)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.rename(*words)

    monkeypatch.setattr(tables.os, "replace", full)
    done = run("compare", "--out", tmp_path / "out", "--no-figures")
    assert done.exit_code == 2
    assert "cannot be written (No space left on device); name a place that exists" in done.stderr
    assert "Traceback" not in done.stderr
    kept = [path.name for path in (tmp_path / "out").glob("*.csv")]
    assert kept == ["results.partial.csv"] * after
    assert ("see results.partial.csv" in done.stderr) == bool(after)


def test_check_tells_problems_and_good_files(monkeypatch, tmp_path):
    problems = {"good.toml": [], "bad.toml": ["bad.toml: [a] > b: 'c' is not a number."]}
    monkeypatch.setattr(check, "check_as_compared", lambda p, marrow: problems[Path(p).name])
    for name in problems:
        (tmp_path / name).write_text("")
    done = run("check", tmp_path)
    assert done.exit_code == 1
    assert "bad.toml: [a] > b: 'c' is not a number." in done.stdout
    assert "good.toml: good" in done.stdout
    assert run("check", tmp_path / "good.toml").exit_code == 0
    (tmp_path / "empty").mkdir()
    done = run("check", tmp_path / "empty")
    assert done.exit_code == 2
    assert "no .toml file is in this folder" in done.stderr


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.strip() == f"pkpd {pkpd.__version__}"


@pytest.mark.parametrize(
    ("error", "words", "status"),
    [
        (
            TypeError("unhashable\ntype"),
            "a mistake of the program ended this (TypeError: un",
            70,
        ),
        (MemoryError(), "the memory does not suffice; ask for fewer patients or draws", 70),
        (OSError(28, "No space left", "a.csv"), "a.csv: No space left; mend this", 70),
    ],
)
def test_what_nothing_answers_ends_in_a_sentence(monkeypatch, tmp_path, error, words, status):
    def broken(path, marrow):
        raise error

    monkeypatch.setattr(check, "check_as_compared", broken)
    (tmp_path / "a.toml").write_text("")
    done = run("check", tmp_path / "a.toml")
    assert done.exit_code == status
    assert done.stderr.startswith(f"pkpd: {words}")
    assert len(done.stderr.splitlines()) == 1
    assert ("report it" in done.stderr) == isinstance(error, TypeError)
    monkeypatch.setenv("PKPD_TRACEBACK", "1")
    assert "in broken" in run("check", tmp_path / "a.toml").stderr


@pytest.mark.parametrize("kind", ["{ a = 1 }", "[]", "3"])
def test_a_kind_that_is_no_text_is_a_problem_of_the_file(tmp_path, kind):
    (tmp_path / "a.toml").write_text(f"kind = {kind}")
    done = run("check", tmp_path / "a.toml")
    assert done.exit_code == 1
    assert "kind" in done.stdout
