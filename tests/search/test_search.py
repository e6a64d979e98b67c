"""A search from end to end: figures, limits, pairs, other views, the command, bad input."""

from __future__ import annotations

import html
import io
import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from typer.testing import CliRunner

import pkpd
from pkpd.cli import app
from pkpd.comparison.uncertainty import paired_difference
from pkpd.course.course import Course
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.shipped import shipped_posterior
from pkpd.report.comparison.terminal import plain_progress
from pkpd.schedule import Criterion, DoseModification
from pkpd.search import (
    Limit,
    NothingAllowedError,
    command,
    load_menu,
    menu_of,
    search_schedules,
)
from pkpd.search.measures import days_low, dose_measures, lanes_of, planned
from pkpd.search.result import _why_nothing
from pkpd.search.simulate import PRIOR, WITHOUT
from pkpd.search.words import _kept, not_told_apart, notes

FILE = """
title = "Lenalidomide, how much and how long"
population = "mds_post_hma"
rule = "leukemia_d42_generic"
rule_is_protocols = false
horizon_days = 80
{kind}

[dose.lenalidomide]
amount = "10 mg"
days = "1-21"
route = "oral"

[modification.counts]
drug = "lenalidomide"
hold_below = {{ neutrophils = 1.0 }}
resume_at = {{ neutrophils = 1.5 }}
levels = ["2.5 mg"]

[course.treatment]
doses = ["lenalidomide"]
cycle_days = 28
modifications = ["counts"]

{rows}
"""
AMOUNTS = {"low": "5 mg", "middle": "10 mg", "again": "10 mg", "high": "25 mg"}
ROWS = "".join(
    f'[[cohort]]\nid = "{name}"\nchange.lenalidomide = {{ amount = "{amount}" }}\n'
    for name, amount in AMOUNTS.items()
)
SIZE = {"patients": 40, "draws": 6}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("menu") / "menu.toml"
    path.write_text(FILE.format(kind='kind = "menu"', rows=ROWS))
    return path


@pytest.fixture(scope="module")
def menu(file):
    return replace(load_menu(file), limits=(Limit("dlt", at_most=0.9),), **SIZE)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(menu, told):
    return search_schedules(
        menu, marrow="friberg", repeat=False, on_progress=lambda *step: told.append(step)
    )


def test_figures_are_those_of_a_comparison(found, file, tmp_path):
    path = tmp_path / "trial.toml"
    path.write_text(FILE.format(kind="", rows=ROWS))
    result = pkpd.compare(path, marrow="friberg", **SIZE)
    rows = {(r.cohort, r.endpoint, r.line): r for r in result.trials[0].rows}
    data = found.dataset.sel(view=WITHOUT)
    for member in found.members:
        for measure, key in (
            ("dlt", ("dlt", "")),
            ("grade_4_neutrophils", ("grade_4", "neutrophils")),
        ):
            row, mine = rows[(member, *key)], data.sel(schedule=member, measure=measure)
            wanted = (row.estimate, row.lower, row.upper, row.mc_error)
            got = [float(mine[name]) for name in ("figure", "lower", "upper", "mc_error")]
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_schedules_meet_the_same_patients_and_draws(found):
    lanes = found.answers[WITHOUT].lanes
    for name in lanes["middle"]:
        np.testing.assert_array_equal(lanes["middle"][name], lanes["again"][name])
    contrast = found.answers[WITHOUT].contrast("middle", "again", "dlt")
    assert (contrast.difference, contrast.p_first_better) == (0.0, 0.5)
    low, high = (lanes[m]["days_low"].astype(float) for m in ("low", "high"))
    mine = found.answers[WITHOUT].contrast("high", "low", "days_low")
    own = paired_difference(high, low)
    assert mine.difference == pytest.approx(float((high - low).mean()))
    assert mine.mc_error == pytest.approx(own.mc_error)
    assert mine.difference > 0.0
    assert mine.p_first_better == pytest.approx(1.0 - own.probability_a_safer) or (
        mine.p_first_better == own.probability_a_safer
    )


def test_a_nadir_is_a_geometric_mean_and_is_compared_by_its_ratio(found):
    one = found.answers[WITHOUT]
    logs = {m: one.lanes[m]["nadir_neutrophils"].astype(float) for m in ("low", "high")}
    assert one.figures["low"]["nadir_neutrophils"].mean == pytest.approx(
        np.exp(logs["low"].mean()), rel=1e-6
    )
    ratio = one.contrast("high", "low", "nadir_neutrophils")
    assert ratio.difference == pytest.approx(np.exp((logs["high"] - logs["low"]).mean()), rel=1e-6)
    assert ratio.difference < 1.0
    assert ratio.p_first_better == 0.0  # lower counts are worse


def test_the_dose_given_is_what_was_planned_and_not_held(found):
    data = found.dataset.sel(view=WITHOUT, measure="dose_lenalidomide")["figure"]
    planned_in_a_week = {"low": 5.0, "middle": 10.0, "high": 25.0}
    for member, amount in planned_in_a_week.items():
        most = amount * 21 * 7 / 80
        assert 0.2 * most < float(data.sel(schedule=member)) <= most + 1e-6
    share = [float(data.sel(schedule=m)) / a for m, a in planned_in_a_week.items()]
    assert share[0] > share[1] > share[2]  # more is held of the higher doses


def test_the_dose_given_is_what_each_patient_gets():
    oral = {"days": "1-5", "route": "oral"}
    infused = {"days": "1-5", "route": "iv", "duration": "1 h"}
    schedules = {
        "rounded": pkpd.daily("lenalidomide", "12 mg", strengths_mg=(5.0, 10.0), **oral),
        "10 mg": pkpd.daily("lenalidomide", "10 mg", **oral),
        "12 mg": pkpd.daily("lenalidomide", "12 mg", **oral),
        "capped": pkpd.daily("clofarabine", "30 mg/m^2", cap_mg=40.0, **infused),
        "20 mg/m^2": pkpd.daily("clofarabine", "20 mg/m^2", **infused),
        "30 mg/m^2": pkpd.daily("clofarabine", "30 mg/m^2", **infused),
    }
    menu = menu_of(schedules, "rr_aml", "leukemia_d42_generic", 60, patients=16, draws=2)
    menu = replace(menu, limits=(Limit("dlt", at_most=0.999),))
    one = search_schedules(menu, marrow="friberg", repeat=False).answers[WITHOUT]
    len_ = {name: one.lanes[name]["dose_lenalidomide"] for name in ("rounded", "10 mg", "12 mg")}
    np.testing.assert_array_equal(len_["rounded"], len_["10 mg"])
    np.testing.assert_allclose(len_["12 mg"], 1.2 * len_["10 mg"], rtol=1e-6)
    clo = {name: one.lanes[name]["dose_clofarabine"] for name in list(schedules)[3:]}
    surface = pkpd.simulate(
        schedules["capped"], "rr_aml", marrow="friberg", patients=16, draws=2, until_day=60
    )["amount"].max(("day", "slot"))
    np.testing.assert_allclose(clo["capped"], clo["30 mg/m^2"] * surface.values / 30.0, rtol=1e-6)
    assert (clo["capped"] < clo["20 mg/m^2"]).any()


def test_a_rule_that_looks_after_the_next_cycle_began_says_so(found, tmp_path):
    twice = FILE.replace('modifications = ["counts"]', "cycles = 2").replace(
        "horizon_days = 80", "horizon_days = 80\nrule_change = {{ by_day = 40 }}"
    )
    (tmp_path / "menu.toml").write_text(twice.format(kind='kind = "menu"', rows=ROWS))
    menu = replace(load_menu(tmp_path / "menu.toml"), limits=(Limit("dlt", at_most=0.99),))
    late = replace(found, menu=menu)
    told = "On day 40 cycle 2 runs since day 29: the verdict is of counts under treatment"
    assert f"! {told}, and who was never low" in late.summary()
    assert "alone (4 of 4 schedules)." in late.summary()
    assert "under treatment" not in found.summary()


def test_a_cycle_that_waits_for_counts_is_late_as_often_as_in_a_comparison(tmp_path):
    gated = FILE.replace(
        'modifications = ["counts"]',
        "cycles = 2\nbetween = {{ neutrophils = 1.0, max_wait_days = 14 }}",
    )
    path, beside = tmp_path / "menu.toml", tmp_path / "trial.toml"
    path.write_text(gated.format(kind='kind = "menu"', rows=ROWS))
    beside.write_text(gated.format(kind="", rows=ROWS))
    menu = replace(load_menu(path), limits=(Limit("late_start", at_most=0.99),), **SIZE)
    searched = search_schedules(menu, marrow="friberg", repeat=False)
    share = searched.dataset["figure"].sel(view=WITHOUT, measure="late_start")
    compared = pkpd.compare(beside, marrow="friberg", **SIZE).table()
    on_time = compared.query("endpoint == 'starts_on_time'").set_index("cohort")["estimate"]
    assert 0.0 < float(share.sel(schedule="high")) < 1.0
    for member in searched.members:
        assert float(share.sel(schedule=member)) == pytest.approx(1.0 - on_time[member], abs=1e-6)


def gated_menu(folder, change):
    """Write a menu of two cycles with a gate between, of which the highest dose has a change."""
    gated = FILE.replace(
        'modifications = ["counts"]',
        "cycles = 2\nbetween = {{ neutrophils = 1.0, max_wait_days = 14 }}",
    )
    alone = f'"25 mg" }}\nchange.treatment = {{ {change} }}\n'
    path = folder / "menu.toml"
    path.write_text(gated.format(kind='kind = "menu"', rows=ROWS.replace('"25 mg" }\n', alone)))
    return path


def test_a_cycle_beyond_the_days_simulated_is_not_known_to_be_on_time(tmp_path):
    """It counted as never late, and won."""
    path = gated_menu(tmp_path, "cycle_days = 200")
    menu = replace(load_menu(path), limits=(), **SIZE)
    data = search_schedules(menu, marrow="friberg", repeat=False).dataset.sel(view=WITHOUT)
    assert np.isnan(float(data["figure"].sel(schedule="high", measure="late_start")))
    assert float(data["figure"].sel(schedule="middle", measure="late_start")) >= 0.0


def test_starts_that_are_not_the_same_are_named(tmp_path):
    """Shares of different starts were compared without a word."""
    told = []
    for change in ("cycle_days = 35", 'days = "1-21"'):
        text = gated_menu(tmp_path, "cycle_days = 35").read_text()
        if change[:4] == "days":
            text = text.replace("change.treatment = { cycle_days = 35 }\n", "")
        (tmp_path / "menu.toml").write_text(text)
        menu = replace(load_menu(tmp_path / "menu.toml"), limits=(), **SIZE)
        found = search_schedules(menu, objectives=["late_start"], marrow="friberg", repeat=False)
        told.append([note for note in notes(found) if note.startswith("Cycle late is of")])
    (different,), same = told
    assert "cycle 2 (day 29) of " in different
    assert different.endswith("; cycle 2 (day 36) of high.")
    assert same == []


def test_nothing_is_late_where_nothing_waits(tmp_path):
    """A limit on late cycles left out the schedule that has none."""
    path = gated_menu(tmp_path, 'between = "none"')
    limits = (Limit("late_start", at_most=0.01, probability=0.01),)
    menu = replace(load_menu(path), limits=limits, **SIZE)
    data = search_schedules(menu, marrow="friberg", repeat=False).dataset.sel(view=WITHOUT)
    assert float(data["figure"].sel(schedule="high", measure="late_start")) == 0.0
    assert bool(data["allowed"].sel(schedule="high"))
    assert not bool(data["allowed"].sel(schedule="middle"))


def test_planned_amounts_are_counted_to_the_last_day():
    regimen = pkpd.on_off("lenalidomide", "10 mg", on=21, off=7, cycles=3)
    assert planned(regimen, 70).per_week == {"lenalidomide": pytest.approx(10 * (42 + 14) * 7 / 70)}


def test_a_drug_of_several_units_in_one_schedule_has_no_dose_intensity():
    """The schedule that mixes units was said to give none of it."""
    infused = {"days": "1-5", "route": "iv", "duration": "1 h"}
    flat = pkpd.daily("clofarabine", "30 mg", **infused)
    mixed = flat.then(pkpd.daily("clofarabine", "20 mg/m^2", **infused))
    alone = planned(flat, 28)
    assert [one.unit for one in dose_measures([alone])] == ["mg a week"]
    assert dose_measures([alone, planned(mixed, 28)]) == ()


def test_courses_of_other_amounts_count_by_their_own_days():
    """Two days of 20 mg, then up to four of 5 mg: who never begins the second got 40 of 60 mg."""
    oral = {"route": "oral"}
    modification = DoseModification(
        "lenalidomide", (Criterion("neutrophils", 0.5),), levels_mg=(2.5,), reduce_on_resume=True
    )
    second = pkpd.daily("lenalidomide", "5 mg", days="1-4", **oral)
    regimen = pkpd.daily("lenalidomide", "20 mg", days="1-2", cycle_days=7, **oral)
    regimen = regimen.then(second.with_modifications(modification))
    dosed = np.zeros((5, 14), dtype=np.int64)
    dosed[:, :2] = dosed[[0, 3, 4], 7:11] = dosed[2, 12:] = 1
    days = dosed.sum(axis=1)[:, None]
    course = Course(
        mornings={},
        platelets_with_transfused=None,
        transfused=np.zeros(dosed.shape, dtype=bool),
        first_day=np.array([[1, 8], [1, 0], [1, 13], [1, 8], [1, 8]]),
        drugs=("lenalidomide",),
        dosed=dosed,
        doses_given=days,
        full_doses=days - np.array([[0.0], [0.0], [0.0], [1.0], [0.0]]),
        surface=np.ones(5),
        weight=np.ones(5),
    )
    share = course.full_doses[:, 0] / 6.0
    share[4] = np.nan  # dead
    found = planned(regimen, 14).followed_a_week("lenalidomide", course, share)
    np.testing.assert_allclose(found, np.array([60.0, 40.0, 50.0, 55.0, np.nan]) / 2.0)


def test_days_after_death_are_low():
    counts = {"neutrophils": np.array([[1.0, 0.4, 1.0, 1.0]] * 2)}
    counts["platelets"] = np.array([[50.0, 50.0, 10.0, 50.0]] * 2)
    hazard = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    course = Course(
        mornings=counts,
        platelets_with_transfused=None,
        transfused=np.zeros((2, 4), dtype=bool),
        first_day=np.ones((2, 1), dtype=np.int64),
        cumulative_hazard=hazard,
        death_score=np.array([0.5, 0.5]),
    )
    assert course.mornings_alive.tolist() == [4, 3]
    assert days_low(course).tolist() == [2.0, 3.0]


def test_draws_in_which_nobody_is_judged_are_told(found):
    answer = found.answers[found.view]
    member = answer.members[0]
    figure = answer.figures[member]["dlt"]
    half = np.arange(figure.by_draw.size) < figure.by_draw.size // 2
    silent = replace(figure, by_draw=np.where(half, np.nan, figure.by_draw))
    figures = {**answer.figures, member: {**answer.figures[member], "dlt": silent}}
    other = SimpleNamespace(
        figures=figures, members=answer.members, measures=answer.measures, beyond=answer.beyond
    )
    other = replace(found, answers={**found.answers, found.view: other})
    told = "of the draws nobody under a schedule can be judged"
    assert any(told in one for one in notes(other))
    assert not any(told in one for one in notes(found))


def test_a_nadir_is_of_the_whole_course_whatever_the_clock():
    """A later clock's nadir took its place: a deep fall under the first course was not seen."""
    course = Course(
        mornings={"neutrophils": np.array([[2.0, 0.05, 2.0, 0.9]])},
        platelets_with_transfused=None,
        transfused=np.zeros((1, 4), dtype=bool),
        first_day=np.ones((1, 1), dtype=np.int64),
    )
    values = {
        ("nadir", "neutrophils", ""): np.array([0.05]),
        ("grade_4", "neutrophils", "grade 4"): np.array([1.0]),
        ("nadir", "neutrophils", "from consolidation day 1"): np.array([0.9]),
    }
    found = SimpleNamespace(values=values, dlt={})
    made = lanes_of(found, course, "consolidation", SimpleNamespace(), ())
    assert np.exp(made["nadir_neutrophils"]) == pytest.approx(0.05)
    assert made["grade_4_neutrophils"] == 1.0


def test_the_result_tells_everything(found, told, tmp_path):
    data = found.dataset
    assert data.sizes["schedule"] == 4
    assert data["by_draw"].sizes["draw"] == SIZE["draws"]
    listed = data["listed"].sel(view=WITHOUT)
    order = [str(data["schedule"].values[int(np.flatnonzero(listed == n)[0])])
             for n in range(1, int(listed.max()) + 1)]  # fmt: skip
    assert tuple(order) == found.short_list
    assert not {"middle", "again"} <= set(found.short_list)  # the same adds nothing
    paths = found.save(tmp_path)
    with xr.open_dataset(paths[0]) as again:
        np.testing.assert_array_equal(again["figure"], data["figure"])
    assert all(path.stat().st_size > 500 for path in paths)
    table = found.table()
    assert set(table["schedule"]) == set(found.members)
    text = found.summary()
    assert "4 of 4 schedules keep Pr(risk of a DLT > 0.9) <= 0.25" in text
    assert "What separates them" in text
    assert repr(found).startswith("SearchResult(4 of 4")
    assert found._repr_html_() == f"<pre>{html.escape(text)}</pre>"
    assert [step[0] for step in told] == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]  # ready, then each
    assert {step[1] for step in told} == {4.0}


def test_a_limit_of_a_measure_with_a_sign_is_read_as_one():
    words = Limit("days_low", at_most=15, probability=0.2).words
    assert words == "Pr((days with neutrophils < 0.5 or platelets < 20) > 15) <= 0.2"


def test_one_schedule_keeps_the_limits(found):
    answer = SimpleNamespace(allowed=lambda limits: np.arange(4) == len(limits))
    few = SimpleNamespace(
        menu=found.menu, members=found.members, view=found.view, answers={found.view: answer}
    )
    assert _kept(few).startswith("1 of 4 schedules keeps Pr(")  # type: ignore[arg-type]


def test_a_limit_that_nothing_keeps_is_one_sentence_with_the_nearest(menu):
    with pytest.raises(NothingAllowedError) as caught:
        search_schedules(menu, marrow="friberg", repeat=False, limits=[Limit("dlt", at_most=1e-6)])
    text = str(caught.value)
    assert text.startswith("menu menu: none of 4 schedules keeps Pr(risk of a DLT > 1e-06) <= 0.25")
    assert "nearest is 'low' with " in text
    result = caught.value.found
    assert result.short_list == ()
    assert result.dataset.sizes["first"] == 0
    assert "None of 4 schedules" in result.sentence()
    assert "0 of 4 schedules keep" in result.summary()


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        (Limit("dlt", at_most=0.1), "add lower doses, longer intervals or reductions, or raise"),
        (Limit("nadir_platelets", at_least=20), "intervals or reductions, or lower the limit"),
        (Limit("remission", at_least=0.5), "add higher doses, or lower the limit"),
    ],
)
def test_the_remedy_of_a_limit_that_nothing_keeps_leads_towards_it(limit, remedy):
    answer = SimpleNamespace(
        members=("low",), over=lambda _: np.array([0.5]), beyond=lambda *_: (0.75, 0.0)
    )
    nothing = SimpleNamespace(
        view=WITHOUT,
        answers={WITHOUT: answer},
        members=("low",),
        menu=SimpleNamespace(name="menu", limits=(limit,)),
    )
    assert remedy in _why_nothing(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        (Limit("dlt", at_most=0.1), "the rule can judge nobody: take another day or rule"),
        (Limit("late_start", at_most=0.1), "late_start is known of too few patients: limit some"),
    ],
)
def test_a_limit_of_what_is_known_of_nobody_is_named(limit, remedy):
    told = {Limit("days_low", at_most=9.0): (0.0, 0.1), limit: (np.nan, np.nan)}
    answer = SimpleNamespace(
        members=("low",), over=lambda _: np.array([np.inf]), beyond=lambda _, one: told[one]
    )
    nothing = SimpleNamespace(
        view=WITHOUT,
        answers={WITHOUT: answer},
        members=("low",),
        menu=SimpleNamespace(name="menu", limits=tuple(told)),
    )
    assert remedy in _why_nothing(nothing)  # type: ignore[arg-type]


def test_the_nearest_is_the_same_in_sentence_and_table(found):
    """With limits of several probabilities, and a schedule of which nothing is known."""
    (answer,) = found.answers.values()
    unknown = np.full_like(answer.lanes["low"]["dlt"], np.nan)
    lanes = {m: dict(own) for m, own in answer.lanes.items()}
    lanes["low"]["dlt"] = unknown
    shares = {"middle": (0.5, 0.2), "again": (0.3, 0.4), "high": (0.9, 0.9), "low": (np.nan, 0.1)}
    limits = (
        Limit("dlt", at_most=0.1, probability=0.2),
        Limit("days_low", at_most=5.0, probability=0.01),
    )
    told = {(m, limit): (shares[m][k], 0.0) for m in shares for k, limit in enumerate(limits)}
    one = replace(answer, lanes=lanes, _beyond=told)
    cut = replace(found, menu=replace(found.menu, limits=limits), answers={found.view: one})
    np.testing.assert_allclose(one.over(limits), [np.inf, 0.3, 0.39, 0.89])
    assert "nearest is 'middle' with 0.50, 0.20" in str(NothingAllowedError(cut))
    rows = [line.split()[1] for line in cut.summary().splitlines() if line.startswith("-  ")]
    assert rows == ["middle", "again", "high", "low"]
    # a limit of what a view lacks says nothing of it, and without limits all are as near
    lacking = (*limits, Limit("remission", at_least=0.5, probability=0.1))
    np.testing.assert_array_equal(one.over(lacking), one.over(limits))
    free = replace(found, menu=replace(found.menu, limits=()))
    assert "4 schedules, without a limit, " in free.summary()


def test_a_search_without_limits_is_told_and_drawn(found):
    free = replace(found, menu=replace(found.menu, limits=()))
    assert free.summary().startswith("4 schedules, without a limit, in the marrow without leuk")
    assert "worth comparing: " in free.sentence()
    assert "beyond limit" in found.summary()
    told = free.summary()
    assert "beyond" not in told
    assert "allowed" not in told
    assert "; remission: " not in told
    assert "so many patients and draws; the first is the compromise." in told
    assert "limit" not in free.plot()._supxlabel.get_text()


def test_a_figure_has_two_measures(found):
    limit = Limit("nadir_neutrophils", at_least=0.01)
    menu = replace(found.menu, limits=(limit,))
    high = replace(found, menu=menu, objectives={found.view: ("nadir_neutrophils", "dlt")})
    (axes,) = high.plot().axes
    assert axes.get_xlabel().startswith("nadir ANC")
    assert not axes.get_ylabel().startswith("nadir ANC")


def test_limits_that_are_none_are_refused(menu):
    with pytest.raises(PkpdError, match=r"limits: .*a list of Limit"):
        search_schedules(menu, limits=["dlt"])


def test_schedules_beyond_the_limit_are_named_with_their_probability(found, menu):
    (answer,) = found.answers.values()
    risks = {m: answer.figures[m]["dlt"].by_draw for m in found.members}
    least = {m: float(np.max(r)) for m, r in risks.items()}
    between = Limit("dlt", at_most=(least["low"] + least["high"]) / 2, probability=0.01)
    cut = search_schedules(menu, marrow="friberg", repeat=False, limits=[between])
    lines = [line for line in cut.summary().splitlines() if line.startswith("Beyond a limit: ")]
    beyond = {m: float(np.mean(np.asarray(r) > between.at_most)) for m, r in risks.items()}
    refused = [m for m in cut.members if beyond[m] > 0.01]
    assert "high" in refused
    assert "low" not in refused
    assert lines == [
        "Beyond a limit: "
        + "; ".join(f"{m} ({beyond[m]:.2f})" for m in sorted(refused, key=lambda m: beyond[m]))
        + "."
    ]
    assert "Beyond a limit" not in found.summary()
    (one,) = cut.answers.values()
    names = cut.objectives[cut.view]
    sign = [1.0 if one.measures[name].better == "low" else -1.0 for name in names]
    costs = dict(zip(one.members, one.values(names) * sign, strict=True))
    may = [m for m in one.members if m not in refused]
    front = dict(zip(one.members, cut.dataset["pareto"].values[0], strict=True))
    for member in one.members:
        as_good = [m for m in may if (costs[m] <= costs[member]).all()]
        better = [m for m in as_good if (costs[m] < costs[member]).any()]
        assert front[member] == (member in may and not better)
    assert set(cut.short_list) <= {m for m in may if front[m]}


def test_brackets_are_explained_where_there_are_any(found):
    words = "in brackets the 90 % interval over draws; "
    assert words not in found.summary()  # so few draws tell none
    one = replace(found.answers[found.view])
    figures = {m: dict(found.answers[found.view].figures[m]) for m in found.members}
    for told in figures.values():
        told["dlt"] = replace(told["dlt"], lower=0.1, upper=0.9)
    one.__dict__["figures"] = figures  # as if there had been more draws
    text = replace(found, answers={**found.answers, found.view: one}).summary()
    assert words in text
    assert "(10 to 90)" in text


def test_so_few_draws_are_said_to_compare_nothing_simulated(found, menu):
    line = "  6 draws tell no intervals (20 or more would), so that no figure that varies"
    assert f"(same patients and draws):\n{line}" in found.summary()
    more = replace(found, menu=replace(menu, draws=20))
    assert "draws tell no intervals" not in more.summary()
    assert "90 % interval over draws):\n  1 against 2" in more.summary()


def test_schedules_of_the_pareto_set_that_are_not_listed_are_told(found):
    """Of one objective they tie, and are not better than each other in anything."""
    alone = replace(found, objectives={found.view: ("dose_lenalidomide",)})
    assert "surpassed by none" not in alone.summary()
    one = replace(found.answers[found.view])
    figures = {m: dict(found.answers[found.view].figures[m]) for m in found.members}
    for name in ("middle", "again"):  # as if they tied with the best
        figures[name]["dose_lenalidomide"] = figures["high"]["dose_lenalidomide"]
    one.__dict__["figures"] = figures
    tied = replace(alone, answers={found.view: one})
    assert len(tied.short_list) == 1
    assert "2 more allowed schedules are surpassed by none (as good in everything, better" in (
        tied.summary()
    )
    assert "1 more allowed schedule is surpassed by none" in found.summary()  # the same again


def test_limits_of_what_the_marrow_lacks_and_runs_too_large_are_refused(menu):
    limits = [Limit("remission", at_least=0.2)]
    with pytest.raises(PkpdError, match="limit of remission: the marrow that answers"):
        search_schedules(menu, marrow="friberg", limits=limits)
    with pytest.raises(PkpdError, match="are 40,000,000 lanes; allowed: at most 10,000,000"):
        search_schedules(menu, marrow="friberg", patients=10_000, draws=1000)
    with pytest.raises(PkpdError, match="objectives: 'remision' is no measure"):
        search_schedules(menu, objectives=["remision"])
    with pytest.raises(PkpdError, match="menu, a: '5 mg' is a str"):
        search_schedules({"a": "5 mg"})
    with pytest.raises(PkpdError, match="search_schedules, population: it is missing"):
        search_schedules({"a": menu.members[0].regimen})
    with pytest.raises(PkpdError, match="rule: it is given, and the menu has its own"):
        search_schedules(menu, rule="len_mec_2018")


def test_the_command_tells_and_writes(file, tmp_path):
    size = ["--patients", "20", "--draws", "3", "--marrow", "friberg", "--once"]
    out = ["--out", str(tmp_path / "found")]
    done = CliRunner().invoke(app, ["search", str(file), "--limit", "0.9", *size, *out])
    assert done.exit_code == 0, done.output
    assert "4 of 4 schedules keep" in done.output
    assert "Simulated: patients of population mds_post_hma" in done.output
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"search.nc", "schedules.csv", "differences.csv", "search.svg"}
    none = CliRunner().invoke(app, ["search", str(file), "--limit", "0.000001", *size, *out])
    assert none.exit_code == 2
    assert "none of 4 schedules keeps" in none.output
    assert "-  low" in none.output  # nearest first
    wrong = CliRunner().invoke(app, ["search", str(file), "--limit", "1.5", *size, *out])
    assert wrong.exit_code == 2
    assert "limit of dlt: 1.5; allowed: above 0, below 1" in wrong.output


def test_a_probability_is_that_of_the_limits_in_force(file, menu, tmp_path):
    """Without --limit of those of the menu, with it of that one; refused outside 0 to 1."""
    command = ["search", str(file), "--patients", "8", "--draws", "3", "--marrow", "friberg"]
    command += ["--once", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, "--probability", "0.99"])
    assert "Pr(risk of a DLT > 0.25) <= 0.99" in done.output
    done = CliRunner().invoke(app, [*command, "--probability", "0.9", "--limit", "0.8"])
    assert "Pr(risk of a DLT > 0.8) <= 0.9" in done.output
    for limit in ([], ["--limit", "0.3"]):
        wrong = CliRunner().invoke(app, [*command, "--probability", "1.5", *limit])
        assert wrong.exit_code == 2
        assert "a probability of 1.5; allowed: between 0 and 1" in wrong.output
    limits = (Limit("dlt", at_most=0.9), Limit("days_low", at_most=70, probability=0.1))
    found = search_schedules(
        replace(menu, patients=8), limits=limits, probability=0.8, marrow="friberg", repeat=False
    )
    assert found.menu.limits == tuple(replace(limit, probability=0.8) for limit in limits)


def test_objectives_and_limits_that_no_schedule_has_are_refused(menu):
    """Before anything is simulated where the marrow lacks it, else after the first view."""
    small = {"patients": 8, "draws": 3, "repeat": False, "marrow": "friberg"}
    steps = []
    with pytest.raises(PkpdError, match="objectives, remission and death: the marrow that answers"):
        search_schedules(
            menu, objectives=["remission", "death"], on_progress=lambda *s: steps.append(s), **small
        )
    assert len(steps) == 1  # patients are made ready
    none = "late_start: no schedule of the menu has a figure of it; allowed: dlt, days_low"
    with pytest.raises(PkpdError, match=f"objectives, {none}.*, dose.$"):
        search_schedules(menu, objectives=["late_start"], **small)
    with pytest.raises(PkpdError, match=f"limit of {none.replace(', days_low', '')}"):
        search_schedules(menu, limits=[Limit("late_start", at_most=0.5)], **small)
    both = search_schedules(menu, objectives=["remission", "dlt"], **small)
    assert both.objectives == {WITHOUT: ("dlt",)}
    left_out = "Objective remission is left out: it is not of the marrow that answers"
    assert sum(note.startswith(left_out) for note in notes(both)) == 1


def test_a_view_without_objectives_lists_nothing(found):
    """As the marrow without leukaemia where remission is the objective."""
    other = replace(
        found,
        answers={**found.answers, PRIOR: found.answers[WITHOUT]},
        objectives={**found.objectives, PRIOR: ()},
    )
    assert other.lists[PRIOR] == ()
    assert "Under the prior, before any published outcome: 4 of 4 schedules allowed.\n" in (
        other.summary()
    )


def test_a_limit_that_a_view_cannot_be_asked_is_named(found):
    limits = (*found.menu.limits, Limit("remission", at_least=0.3))
    other = replace(
        found,
        menu=replace(found.menu, limits=limits),
        answers={**found.answers, PRIOR: found.answers[WITHOUT]},
        objectives={**found.objectives, PRIOR: ()},
    )
    told = next(line for line in other.summary().split("\n") if "published outcome:" in line)
    assert "(without figures of remission, whose limits are not asked there)" in told


@pytest.mark.slow
def test_the_answer_is_repeated_under_the_prior_and_in_the_other_marrow():
    if shipped_posterior() is None:
        pytest.skip("no posterior is shipped")
    give = {"drug": "clofarabine", "route": "iv", "duration": "1 h", "days": "1-5"}
    doses = {a: pkpd.daily(amount=f"{a} mg/m^2", **give) for a in ("5", "20")}
    menu = menu_of(doses, "rr_aml", "leukemia_d42_generic", 60, patients=30, draws=4)
    found = search_schedules(menu, limits=[Limit("dlt", at_most=0.95)], marrow="leukaemia")
    assert list(found.answers) == ["posterior", PRIOR, WITHOUT]
    assert not found.not_asked
    data = found.dataset
    remission = data["figure"].sel(measure="remission")
    assert np.isnan(remission.sel(view=WITHOUT)).all()
    assert (remission.sel(view="posterior", schedule="20") > remission.sel(
        view="posterior", schedule="5")).item()  # fmt: skip
    # the same patients under other draws: bodies alike, parameters not
    draws = data["by_draw"].sel(measure="nadir_neutrophils", schedule="20")
    assert float(draws.sel(view=PRIOR).std()) != float(draws.sel(view="posterior").std())
    assert "Risk of a DLT under other views" in found.summary()


def test_risks_have_their_errors_and_what_they_cannot_tell_apart_is_said(found):
    """The numbers in the text are those of the figures and of the paired contrasts."""
    one, text = found.answers[found.view], found.summary()
    for member in found.short_list:
        risk = one.figures[member]["dlt"]
        row = next(r for r in text.splitlines() if r[3:].startswith(member))
        assert f"{100 * risk.mean:.0f} +/- {100 * risk.mc_error:.1f} %" in row
    risks = [name for name, measure in one.measures.items() if measure.unit == "probability"]
    verdicts = set()
    for (i, first), (k, second) in itertools.combinations(enumerate(found.short_list, start=1), 2):
        (line,) = (r for r in text.splitlines() if r.startswith(f"  {i} against {k}:"))
        for name in risks:
            each = one.contrast(first, second, name)
            alike = each.mc_error > 0.0 and abs(each.difference) < 1.96 * each.mc_error
            told = " ".join(not_told_apart(one, first, second, [name]))
            words = f"({100 * each.difference:+.1f} +/- {100 * each.mc_error:.1f})"
            assert (words in told) == alike
            verdicts.add(alike)
        assert (not_told_apart(one, first, second, ["dlt"]) != []) == ("DLT (" in line)
    assert verdicts == {True, False}


def test_progress_without_a_terminal_is_lines_at_once_and_then_apart():
    output, seconds = io.StringIO(), iter([0.0, 0.0, 1.0, 6.0, 7.0])
    tell = plain_progress(Console(file=output, width=40), 5.0, lambda: next(seconds))
    for done, text in ((0, "making patients ready"), (1, "one"), (2, "two"), (9, "summing up")):
        tell(done, 9.0, text)
    assert output.getvalue().splitlines() == [
        "0 of 9 after 0 s: making patients ready",
        "2 of 9 after 6 s: two",
        "9 of 9 after 7 s: summing up",
    ]


def test_the_command_tells_progress_on_standard_error(file, tmp_path):
    options = ["--patients", "8", "--draws", "3", "--marrow", "friberg", "--once"]
    said = CliRunner().invoke(app, ["search", str(file), *options, "--out", str(tmp_path)])
    lines = said.stderr.splitlines()
    assert lines[0] == "0 of 4 after 0 s: making patients ready"
    assert lines[-1].startswith("4 of 4 after ") or "Error" in lines[-1]
    assert "making patients ready" not in said.stdout
    refused = CliRunner().invoke(app, ["search", str(file), *options, "--limit", "2"])
    assert refused.stderr.startswith("pkpd: limit of dlt: 2; ")


def test_a_folder_that_cannot_be_written_is_told_before_the_search(monkeypatch):
    monkeypatch.setattr(command, "search_schedules", lambda *_, **__: pytest.fail("it searched"))
    with pytest.raises(PkpdError, match="/proc/self: cannot be written"):
        list(command.search_lines("menu.toml", Path("/proc/self")))
