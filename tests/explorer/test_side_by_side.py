"""One file, one answer: terminal, report, CSV, simulate, search and explorer say the same."""

from __future__ import annotations

import html
import re
import tomllib

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import pkpd
from pkpd.cli import app
from pkpd.explorer.simulation import explore
from pkpd.explorer.state import read_state
from pkpd.explorer.words import csv_of, page_content
from pkpd.forecasting.command import rule_of
from pkpd.report import wording
from pkpd.search import Limit, search_schedules

FILE = """
title = "clofarabine, then lenalidomide"
population = "rr_aml"
rule = "leukemia_d42_generic"
rule_change = { by_day = 34 }
horizon_days = 70

[dose.clofarabine]
amount = "10 mg/m^2"
days = "1-5"
route = "iv"
duration = "1 h"

[dose.lenalidomide]
amount = "10 mg"
days = "15-28"
route = "oral"

[course.c]
doses = ["clofarabine", "lenalidomide"]
cycle_days = 35
cycles = 2
between = { neutrophils = 0.5, platelets = 20, max_wait_days = 14 }

[[cohort]]
id = "10 mg"

[[cohort]]
id = "25 mg"
change.lenalidomide = { amount = "25 mg" }
"""
SIZE = {"patients": 24, "draws": 3}
DAY = "neutrophils >= 0.5"
NEXT = 36  # protocol day on which cycle 2 is planned


def plain(text):
    """Text of a page or a table without marks and line breaks."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


@pytest.mark.parametrize("marrow", ["friberg", pytest.param("leukaemia", marks=pytest.mark.long)])
def test_all_places_say_the_same(tmp_path, marrow):
    path, out = tmp_path / "mine.toml", tmp_path / "out"
    path.write_text(FILE)
    size = [f"--{name}={value}" for name, value in SIZE.items()]
    words = ["compare", str(path), *size, "--marrow", marrow, "--out", str(out), "--full"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    terminal, report = plain(done.output), plain((out / "report.html").read_text())
    csv = pd.read_csv(out / "results.csv").set_index(["cohort", "endpoint", "line", "rule"])
    csv.index = csv.index.map(lambda key: tuple("" if part != part else part for part in key))

    ensemble = {} if marrow == "leukaemia" else {"ensemble": "cards"}
    state = read_state({"data": tomllib.loads(FILE), **SIZE, **ensemble}, tmp_path)
    explored = explore(state)
    page = page_content(explored)
    limits = (Limit("dlt", at_most=0.99),)
    searched = search_schedules(path, limits=limits, marrow=marrow, repeat=False, **SIZE)
    view = searched.dataset["figure"].sel(view=searched.view)

    trial = pkpd.load_trial(str(path))
    by_key = {(r.cohort, r.endpoint, r.line, r.rule): r for r in explored.result.rows}
    for cohort in trial.cohorts:
        rule = rule_of(trial, cohort)
        lanes = pkpd.simulate(
            cohort.regimen, "rr_aml", marrow=marrow, until_day=70, rule=rule, seed=1, **SIZE
        )
        days = lanes["recovery_day"].sel(criterion=DAY).values
        alive = lanes["death_day"].values >= NEXT if "death_day" in lanes else np.isfinite(days) | 1
        judged = lanes["dlt"].values
        wanted = {
            ("dlt", "", rule.name): np.nanmean(judged),
            ("recovery_day", "neutrophils", ">= 0.5"): np.sort(days.ravel())[(days.size - 1) // 2],
            ("not_before_next_cycle", "neutrophils", ">= 0.5"): None,
            ("never_low", "neutrophils", ">= 0.5"): None,
            ("back_before_last_dose", "neutrophils", ">= 0.5"): None,
        }
        starts = [(name, "", f"cycle 2 (day {NEXT})") for name in
                  ("starts_on_time", "starts_late", "starts_never")]  # fmt: skip
        for key in (*wanted, *starts):
            row, said = by_key[cohort.id, *key], csv.loc[[(cohort.id, *key)]].iloc[0]
            for name in ("estimate", "lower", "upper", "evaluable"):
                np.testing.assert_allclose(said[name], getattr(row, name), rtol=1e-6)
            assert not row.lower > row.estimate
            assert not row.upper < row.estimate
            if wanted.get(key) is not None:
                assert row.estimate == pytest.approx(wanted[key])
            # printed with the same digits in every place
            printed = wording.estimate_text(row)
            name = wording.endpoint_name(row, unit=False)
            if wording.is_headline(row):
                assert re.sub(r"\s+", "", name) in re.sub(r"\s+", "", report)
                assert printed in report
                assert printed.removesuffix(" after the planned last dose") in terminal
            tables = [
                row for section in page["sections"].values() for row in section["table"]["rows"]
            ]
            assert any(printed in map(str, row) for row in tables) or not wording.is_headline(row)
        # a day of recovery of 0: never low, or back before the last dose
        zero = sum(by_key[cohort.id, name, "neutrophils", ">= 0.5"].estimate
                   for name in ("never_low", "back_before_last_dose"))  # fmt: skip
        assert zero == pytest.approx(np.mean(days == 0.0))
        on_time, late, never = (by_key[cohort.id, *key].estimate for key in starts)
        assert on_time + late + never == pytest.approx(1.0)
        assert by_key[cohort.id, *starts[0]].evaluable == pytest.approx(np.mean(alive))
        mine = view.sel(schedule=cohort.id)
        assert float(mine.sel(measure="dlt")) == pytest.approx(np.nanmean(judged), rel=1e-6)
        assert float(mine.sel(measure="late_start")) == pytest.approx(late + never, rel=1e-6)
    assert page["answer"] in report
    assert page["answer"] in terminal or page["answer"].split(". ")[0] in report
    assert "recovery_day" in csv_of(explored)
