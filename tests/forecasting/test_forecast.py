"""Forecasts from end to end: numbers, words, updates, continuations, bad input, the command."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy import stats
from typer.testing import CliRunner

import pkpd
from pkpd.cli import app
from pkpd.data.dataset import NOT_CENSORED
from pkpd.errors import PkpdError
from pkpd.forecasting import Seen, forecaster, measurement_of, next_cycle
from pkpd.forecasting.bank import asked_of, simulated
from pkpd.forecasting.command import write
from pkpd.forecasting.remarks import remarks
from pkpd.forecasting.tempering import Tempering
from pkpd.forecasting.words import _hundred, first_sentence, percent, rule_sentence
from pkpd.models import residual
from pkpd.schedule import Criterion, Gate

CLOFARABINE = pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
LATE = pkpd.daily("clofarabine", "5 mg/m^2", days="5-9", route="iv", duration="1 h")
EARLY = {"DAY": [1, 8], "ANC": [1.5, 0.5]}
NEUTROPHILS = "neutrophils >= 0.5"


@pytest.fixture(scope="module")
def source():
    return pkpd.source("rr_aml", marrow="friberg", patients=1, draws=10)


@pytest.fixture(scope="module")
def made(source):
    return forecaster(source, 45, bank=3000, rule="leukemia_d42_generic", threads=2)


@pytest.fixture(scope="module")
def found(source):
    return pkpd.forecast(
        source, EARLY, CLOFARABINE, 45, bank=3000, engine="importance", rule="leukemia_d42_generic"
    )


def test_whether_the_next_cycle_is_late_is_told(source):
    gate = Gate((Criterion("neutrophils", 1.0),), max_wait_days=14, if_not_met="stop")
    planned = pkpd.daily("clofarabine", "30 mg/m^2", days="1-5", route="iv", duration="1 h")
    twice = planned.repeat(2, cycle_days=28).with_between(gate)
    found = pkpd.forecast(source, EARLY, twice, 60, bank=1000, engine="importance")
    one = found.weighed[1]
    (start,) = one.bank.starts
    assert (start.name, start.planned_day) == ("cycle 2", 29)
    # nobody dies in this marrow: on time is who has the count on that morning
    counts = np.exp(one.bank.measured["neutrophils"])
    assert not np.isnan(start.late).any()
    np.testing.assert_array_equal(start.late == 0, counts[:, 28] >= 1.0)
    first = np.argmax(counts[:, 28:43] >= 1.0, axis=1)
    never = ~(counts[:, 28:43] >= 1.0).any(axis=1)
    np.testing.assert_array_equal(start.late, np.where(never, np.inf, first))
    on_time = float(one.weights @ (start.late == 0))
    words = f"cycle 2 starts on its planned day (29) in {percent(on_time)} of the 100 % alive then"
    assert words in found.summary()
    table = found.table().query("of == 'cycle 2 (day 29)'").set_index("quantity")["estimate"]
    assert table["starts_on_time"] == pytest.approx(on_time)
    assert table[["starts_on_time", "starts_late", "starts_never"]].sum() == pytest.approx(1.0)
    late = np.isfinite(start.late) & (start.late > 0)
    assert table["starts_late"] == pytest.approx(float(one.weights @ late))
    order = np.argsort(start.late[late], kind="stable")
    half = np.searchsorted(np.cumsum(one.weights[late][order]), 0.5 * one.weights[late].sum())
    assert table["days_late"] == start.late[late][order][half]
    past = pkpd.forecast(source, {"DAY": [1, 30], "ANC": [1.5, 1.2]}, twice, 60, bank=1000)
    assert "planned day" not in past.summary()
    slow = {"DAY": [1, 14, 28, 35], "ANC": [2.0, 0.1, 0.3, 0.8]}
    waits = pkpd.forecast(source, slow, twice, 60, bank=2000, engine="smc")
    (told,) = (line for line in waits.summary().splitlines() if "still waits" in line)
    assert "cycle 2, planned for day 29, still waits for counts after day 35 in" in told


def test_no_sentence_rests_on_a_few_virtual_patients(source):
    counts = {"DAY": [1, 4, 8, 11, 15], "ANC": [1.5, 1.3, 0.5, 0.2, 0.25]}
    few = pkpd.forecast(source, counts, CLOFARABINE, 40, bank=300, engine="importance")
    one = few.weighed[1]
    assert one.effective < 100.0
    assert few.sentence() == (
        f"This forecast cannot tell when counts are back: {one.effective:.0f} of 300 virtual "
        "patients are like this one, and 100 have to be."
    )
    told = few.summary()
    assert 'count): take --engine smc, in Python engine="smc"' in told
    # intervals of a few would be narrow: neither the table nor the lines below it have any
    (row,) = (line for line in told.splitlines() if line.startswith("neutrophils >= 0.5, as"))
    assert set(re.split(r"\s{2,}", row)[1:]) == {"not known"}
    assert "Nadir and toxicity are not known for the same reason." in told
    assert "ahead" not in told
    table = few.table().set_index("quantity")["estimate"].dropna()
    assert set(table.index) == {"pareto_k", "effective"}
    *counted, recovered = few.plot().axes
    assert not any(isinstance(c, PolyCollection) for ax in counted for c in ax.collections)
    assert not recovered.get_legend()
    assert [text.get_text()[:9] for text in recovered.texts] == ["not known"]
    assert not replace(one, log_likelihood=np.where(np.arange(300) < 99, 0.0, -np.inf)).trusted
    assert replace(one, log_likelihood=np.zeros(300)).trusted
    # left to itself the forecast works on until enough of them do
    found = pkpd.forecast(source, counts, CLOFARABINE, 40, bank=300)
    assert found.weighed[1].engine == "smc"
    assert found.weighed[1].effective >= 100.0
    assert found.sentence().startswith("By day ")


def test_counts_that_are_seen_narrow_what_comes(found, made):
    data, weighed = found.dataset.isel(patient=0), found.weighed[1]
    prior = replace(weighed, log_likelihood=np.zeros(3000))
    before = pkpd.results.Forecast(found.forecaster, {1: prior}).dataset.isel(patient=0)

    def width(of, day):
        at = of["count"].sel(line="neutrophils", day=day)
        return float(np.log(at.sel(quantile=0.9) / at.sel(quantile=0.1)))

    assert width(data, 8) < 0.6 * width(before, 8)
    assert width(data, 14) < width(before, 14)
    # the median follows the counts
    assert float(data["count"].sel(line="neutrophils", day=8, quantile=0.5)) == pytest.approx(
        0.6, abs=0.2
    )


def test_numbers_are_those_of_the_weighed_patients(found):
    data, one = found.dataset.isel(patient=0), found.weighed[1]
    days = one.bank.recovery[NEUTROPHILS]
    shares = [float(one.weights @ (days <= day)) for day in data["day"].values]
    np.testing.assert_allclose(data["recovered"].sel(criterion=NEUTROPHILS), shares, atol=1e-9)
    assert (np.diff(shares) >= 0).all()
    middle = float(data["recovery_day"].sel(criterion=NEUTROPHILS, quantile=0.5))
    assert one.weights @ (days < middle) <= 0.5 <= one.weights @ (days <= middle)
    lowest = np.exp(one.bank.measured["neutrophils"].min(axis=1).astype(float))
    share = float(data["grade_4"].sel(graded="neutrophils"))
    assert share == pytest.approx(float(one.weights @ (lowest < 0.5)))
    judged = np.isfinite(one.bank.dlt)
    dlt = one.weights[judged] @ one.bank.dlt[judged] / one.weights[judged].sum()
    assert float(data["dlt"]) == pytest.approx(dlt)
    both = np.maximum(days, one.bank.recovery["platelets >= 20"])
    np.testing.assert_array_equal(one.bank.recovery["both"], both)


def test_further_counts_do_what_all_counts_at_once_do(found, source):
    later = {"DAY": [10, 12], "ANC": [0.35, "<0.3"], "PLT": [40, ""]}
    updated = found.update(later)
    every = {k: [*EARLY.get(k, ["", ""]), *later[k]] for k in later}
    at_once = pkpd.forecast(
        source, every, CLOFARABINE, 45, bank=3000, engine="importance", rule="leukemia_d42_generic"
    )
    np.testing.assert_allclose(
        updated.weighed[1].log_likelihood, at_once.weighed[1].log_likelihood, rtol=1e-10
    )
    assert updated.seen().last_day == 12
    assert len(found.seen()) == 2, "the first is left as it was"
    with pytest.raises(PkpdError, match="of day 8 are known already"):
        found.update({"DAY": [8], "ANC": [0.7]})


def test_the_sentence_tells_the_numbers(found):
    data = found.dataset.isel(patient=0)
    text = found.sentence(by_day=21)
    share = 100 * float(data["recovered_after"].sel(criterion=NEUTROPHILS, day=21))
    assert text.startswith(f"By day 21, {share:.0f} of 100 such patients have neutrophils of 0.5")
    day = float(data["day_after"].sel(criterion=NEUTROPHILS, quantile=0.5))
    assert (
        f"after the last count (day 8), without further doses; half of them by day {day:.0f}"
        in (text)
    )
    stay = 100 * (1.0 - float(data["low_after"].sel(criterion=NEUTROPHILS)))
    assert text.endswith(
        f"; neutrophils of day 8 are at 0.5 or more already (0.5), and {stay:.0f} of 100 such "
        "patients are not below it again."
    )
    planned = found.sentence(by_day=21, clock="rule")
    share = 100 * float(data["recovered"].sel(criterion=NEUTROPHILS, day=21))
    assert planned.startswith(
        f"As planned, from the last dose of the first cycle on: by day 21, {share:.0f} of 100 have "
    )
    day = np.ceil(float(data["recovery_day"].sel(criterion=NEUTROPHILS, quantile=0.5)))
    assert f"half of them by day {day:.0f}" in planned
    assert planned not in found.summary(), "all doses are over, and it repeats the first"
    with pytest.raises(PkpdError, match="clock: 'tomorrow'; allowed: today, rule"):
        found.sentence(clock="tomorrow")
    assert repr(found).startswith("Forecast(By day ")
    assert found._repr_html_() == f"<pre>{html.escape(found.summary())}</pre>"
    table = found.table().set_index(["quantity", "of"])
    assert table.loc[("recovery_day", NEUTROPHILS), "estimate"] == pytest.approx(
        float(data["recovery_day"].sel(criterion=NEUTROPHILS, quantile=0.5))
    )


def test_when_all_doses_are_over_the_plan_repeats_nothing(source):
    seen = {"ID": [1, 1, 2, 2], "DAY": [1, 8, 1, 13], "ANC": [2.0, 0.9, 2.0, 0.4]}
    strong = pkpd.daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    both = pkpd.forecast(source, seen, strong, 45, bank=1000, engine="importance")
    later = both[2]
    assert later.weighed[2].trusted
    # low on day 13: both clocks look for the same recovery, and the table says so once
    assert "neutrophils >= 0.5 after day 13" in later.summary()
    assert "neutrophils >= 0.5, as planned" not in later.summary()
    assert "As planned" not in later.summary()
    assert later.sentence(clock="rule").startswith("As planned")
    more = pkpd.forecast(
        source, {"DAY": [1, 13], "ANC": [2.0, 0.4]}, strong.repeat(2, cycle_days=28), 45,
        bank=1000, engine="importance",
    )  # fmt: skip
    assert "As planned" in more.summary()
    with pytest.raises(
        PkpdError, match=r"by_day \(--by-day\): 10 is before the last count, of day 13; allo"
    ):
        later.summary(10)
    assert later.sentence(by_day=10, clock="rule").startswith("As planned")
    assert "! Day 10 is before this patient's last count." in both.summary(10)
    assert "\nBy day 10, " in both.summary(10)


@pytest.mark.slow
def test_a_continuation_changes_what_comes_and_not_what_was(found):
    both = found.continued(
        {"early": next_cycle(CLOFARABINE, 15), "late": next_cycle(CLOFARABINE, 29)}
    )
    data = both.alternatives.isel(patient=0)
    counts = data["count"].sel(line="neutrophils", quantile=0.5)
    planned, early, late = (counts.sel(continuation=c) for c in ("as planned", "early", "late"))
    np.testing.assert_allclose(
        early.sel(day=slice(1, 15)), planned.sel(day=slice(1, 15)), rtol=1e-5
    )
    assert float(early.sel(day=25)) < 0.7 * float(planned.sel(day=25))
    assert float(late.sel(day=40)) < 0.7 * float(planned.sel(day=40))
    assert "next cycle 29 at 0.5" in found.continued(["29 at 0.5"]).summary()
    rows = [line for line in both.summary().splitlines() if line.startswith(("as planned", "late"))]
    for row, name in zip(rows, ("as planned", "late"), strict=True):
        cells = re.split(r"  +", row)
        mine = data.sel(continuation=name)
        last = int(mine["known_until"])
        share = float(mine["recovered"].sel(criterion=NEUTROPHILS, day=last))
        assert cells[-1] == percent(share)
        assert cells[-3] == percent(float(mine["grade_4_ahead"].values[-1]))
        assert "death" not in mine  # this marrow knows none
        day = float(mine["recovery_day"].sel(criterion=NEUTROPHILS, quantile=0.5))
        assert cells[-2] == (f"{np.ceil(day):.0f}" if np.isfinite(day) else f"> {last}")
    by_mode = replace(
        found, weighed={1: found.forecaster.weighed(found.seen(), CLOFARABINE, "map")}
    )
    mode = by_mode.continued({"late": next_cycle(CLOFARABINE, 29)}).alternatives.isel(patient=0)
    line = mode["count"].sel(line="neutrophils", quantile=0.5, day=slice(1, 28))
    np.testing.assert_allclose(
        line.sel(continuation="late"), line.sel(continuation="as planned"), rtol=1e-5
    )
    with pytest.raises(PkpdError, match="differs from the schedule on day 4"):
        found.continued(
            {"other": pkpd.daily("clofarabine", "5 mg/m^2", days="1-3", route="iv", duration="1 h")}
        )
    with pytest.raises(PkpdError, match="differs from the schedule on day 1"):
        found.continued(
            {"slow": pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="2 h")}
        )


@pytest.mark.slow
def test_hidden_recovery_lies_in_the_intervals(made):
    """The source's own patients: eight of ten true days lie in intervals of 80 %."""
    bank = made.bank_for(CLOFARABINE)
    asked = asked_of(made.ensemble, None, None, None, 45)
    truth = simulated(bank.lanes, bank.lanes.drawn(60, 77), asked, 2)
    rng, inside = np.random.default_rng(5), []
    error = made.measurement.errors["neutrophils"]
    columns = [
        error.simulate(truth.counted("neutrophils", t), truth.who.draw, rng) for t in (0.0, 7.0)
    ]
    for i in range(60):
        values = np.array([column[i] for column in columns])
        seen = Seen(i, ("neutrophils",) * 2, np.array([0.0, 7.0]), values,
                    np.full(2, NOT_CENSORED), np.full(2, -np.inf))  # fmt: skip
        one = made.weighed(seen, CLOFARABINE, "importance")
        days, true = one.bank.recovery[NEUTROPHILS], truth.recovery[NEUTROPHILS][i]
        place = one.weights[days < true].sum() + rng.random() * one.weights[days == true].sum()
        inside.append(0.1 <= place <= 0.9)
    low, high = stats.binom.ppf([0.001, 0.999], 60, 0.8)
    assert low <= sum(inside) <= high


@pytest.mark.slow
def test_where_weights_degenerate_particles_are_tempered(made):
    many = {"DAY": [1, 3, 5, 8, 10, 12], "ANC": [0.9, 0.9, 0.7, 0.5, 0.35, 0.2],
            "PLT": [45, 40, 38, 30, 25, 30]}  # fmt: skip
    made.tempering = Tempering(400)
    (seen,), _ = pkpd.forecasting.read_seen(many)
    weak = made.weighed(seen, CLOFARABINE, "importance")
    assert weak.k > 0.7
    told = pkpd.results.Forecast(made, {1: weak}).summary()
    assert "Hardly any virtual patient is like this one" in told
    strong = made.weighed(seen, CLOFARABINE, "auto")
    assert strong.engine == "smc"
    assert strong.effective == pytest.approx(400)
    assert len(set(strong.bank.who.scores[:, -1].round(9))) > 200, "particles have moved"
    by_mode = made.weighed(seen, CLOFARABINE, "map")
    for day in (20.0, 24.0, 28.0):
        shares = [
            float(one.weights @ (one.bank.recovery[NEUTROPHILS] <= day))
            for one in (strong, by_mode)
        ]
        assert shares[0] == pytest.approx(shares[1], abs=0.35), "a normal approximation is near"


def test_what_nobody_explains_is_told(found):
    odd = found.update({"DAY": [10], "ANC": [150.0]})
    assert "No virtual patient explains neutrophils of 150 x 10^9/L on day 10" in odd.summary()
    np.testing.assert_allclose(odd.weighed[1].weights, found.weighed[1].weights)
    assert odd.summary().startswith("Patient 1: 2 of 3 counts until day 10 (")
    (note,) = odd.notes
    assert note.startswith("patient 1: no virtual patient explains neutrophils of 150 x 10^9/L on")
    assert "of day 8 are at 0.5 or more already (0.5)" in odd.sentence(), "those of day 10 are not"
    data = odd.dataset.isel(patient=0)
    assert (int(data["counts_seen"]), int(data["counts_used"])) == (3, 2)
    assert found.notes == ()


@pytest.mark.parametrize("engine", ["auto", "importance", "smc", "map"])
def test_a_forecast_that_uses_no_count_has_no_figures(source, engine):
    """Counts of a wrong unit: what is left would be the population's forecast."""
    counts = {"DAY": [1, 4, 8, 11], "ANC": [0.004, 0.003, 0.00125, "<0.0003"]}
    none = pkpd.forecast(source, counts, CLOFARABINE, 45, bank=1000, engine=engine)
    assert none.sentence() == (
        "This forecast cannot tell when counts are back: none of the patient's counts (4) could be "
        "used, and without them it is that of the population; correct values or units."
    )
    told = none.summary()
    size = "1,000 virtual patients of the population"
    assert told.startswith(f"Patient 1: 0 of 4 counts until day 11 ({size};")
    *_, recovered = none.plot().axes
    assert [text.get_text() for text in recovered.texts] == ["not known: no count could be used"]
    assert len(none.notes) == told.count("! No virtual patient explains ") == 4
    assert none.notes[-1].startswith("patient 1: no virtual patient explains neutrophils of below ")
    assert "Hardly any" not in told
    (row,) = (line for line in told.splitlines() if line.startswith("neutrophils >= 0.5, as"))
    assert set(re.split(r"\s{2,}", row)[1:]) == {"not known"}
    assert set(none.table().dropna(subset="estimate")["quantity"]) <= {"pareto_k", "effective"}


@pytest.mark.parametrize("engine", ["auto", "importance", "smc", "map"])
def test_a_forecast_that_uses_no_count_of_a_line_has_no_figures(source, engine):
    counts = {"DAY": [1, 4, 8], "ANC": [0.004, 0.003, 0.001], "PLT": [200, 150, 80]}
    none = pkpd.forecast(source, counts, CLOFARABINE, 45, bank=1000, engine=engine)
    assert none.sentence() == (
        "This forecast cannot tell when counts are back: none of the patient's neutrophils (3 "
        "counts) could be used; correct values or units, or leave neutrophils out."
    )
    assert "Hardly any" not in none.summary()
    assert set(none.table().dropna(subset="estimate")["quantity"]) <= {"pareto_k", "effective"}
    others = {"DAY": counts["DAY"], "PLT": counts["PLT"]}
    assert "By day" in pkpd.forecast(source, others, CLOFARABINE, 45, bank=1000).sentence()
    # one count of a line may be a slip, and does not silence the others
    slip = {"DAY": [1, 4, 8], "ANC": ["", 0.003, ""], "PLT": counts["PLT"]}
    assert "By day" in pkpd.forecast(source, slip, CLOFARABINE, 45, bank=1000).sentence()


def test_lines_that_a_marrow_lacks_are_named_and_not_counted(found, source):
    more = {"ID": [1, 1, 2], "DAY": [1, 8, 8], "ANC": [1.5, 0.5, 1.0], "WBC": [3.0, "", 2.0]}
    both = pkpd.forecast(source, more, CLOFARABINE, 45, bank=3000, engine="importance")
    (note,) = both.notes
    assert note == (
        "WBC is not used by this marrow, which has neutrophils, platelets: 2 counts left out"
    )
    assert both.summary().endswith(f"! {note}.")
    assert both.summary().startswith("Patient 1: 2 counts until day 8 (")
    assert both.dataset["counts_seen"].values.tolist() == [2, 1]
    np.testing.assert_array_equal(both.weighed[1].weights, found.weighed[1].weights)
    with_and_without = (
        pkpd.forecast(source, counts, CLOFARABINE, 30, bank=200, engine="map").weighed[1].bank
        for counts in (EARLY | {"WBC": [3.0, 2.0]}, EARLY)
    )
    modes = [one.who.scores.mean(axis=0) for one in with_and_without]
    np.testing.assert_allclose(*modes, atol=1e-6)


def test_counts_of_another_patient_are_refused_from_a_file_too(source, tmp_path):
    one = pkpd.forecast(
        source, {"ID": ["a", "a"], **EARLY}, CLOFARABINE, 30, bank=200, engine="importance"
    )
    file = tmp_path / "later.csv"
    file.write_text("ID,DAY,ANC\nb,10,0.4\n")
    for later in (file, str(file), pkpd.read_counts(file)):
        with pytest.raises(PkpdError, match="there is no patient 'b'; allowed: a"):
            one.update(later)
    file.write_text("DAY,ANC\n10,0.4\n")
    assert one.update(file).seen("a").last_day == 10


def test_a_count_below_a_limit_is_low_where_the_threshold_is_not_below_the_limit(source):
    """Platelets of <50 may be 40, which is not below 20; those of <20 are."""
    for told, low in (("<50", False), ("<20", True), (45, False), (19, True)):
        counts = EARLY | {"PLT": [100, told]}
        one = pkpd.forecast(source, counts, CLOFARABINE, 30, bank=200, engine="importance")
        share = one.dataset["low_after"].sel(criterion="platelets >= 20")
        assert (float(share[0]) == pytest.approx(1.0)) == low


def test_further_counts_keep_what_was_told_and_need_protocol_days(source):
    one = pkpd.forecast(
        source, EARLY | {"SEX": "m"}, CLOFARABINE, 30, bank=200, engine="importance"
    )
    later = one.update({"DAY": [10], "ANC": [0.4], "HB": [9]})
    assert later.notes_of_table == (
        "columns that are not read: SEX", "columns that are not read: HB"
    )  # fmt: skip
    late = {"DAY": [5, 8], "ANC": [1.2, 0.7]}
    one = pkpd.forecast(source, late, CLOFARABINE, 30, bank=200, engine="importance")
    assert one.update({"DAY": [-1], "ANC": [2.0]}).seen().time.tolist() == [0.0, 4.0, 7.0]
    with pytest.raises(PkpdError, match="column DATE: dates of further counts do not tell"):
        one.update({"DATE": ["2025-03-04"], "PLT": [40]})


def test_a_continuation_that_has_begun_is_refused_with_later_counts(source):
    counts = pkpd.forecast(
        source, EARLY, CLOFARABINE, 30, bank=200, engine="importance", alternatives=["15"]
    )
    assert counts.update({"DAY": [14], "ANC": [0.4]}).alternatives.sizes["continuation"] == 2
    with pytest.raises(
        PkpdError, match=r"on day 15, and counts were .*; let it differ from day 18 on"
    ):
        counts.update({"DAY": [18], "ANC": [0.4]})


def test_nothing_lies_ahead_of_a_count_of_the_last_day(source):
    """The last day's grade 4 is not ahead of its count."""
    low = {"DAY": [1, 5, 14], "ANC": [2.1, 1.2, 0.1]}
    data = pkpd.forecast(source, low, CLOFARABINE, 14, bank=500, engine="importance").dataset
    assert float(data["grade_4"].sel(graded="neutrophils")[0]) > 0.5
    assert not data["grade_4_ahead"].values.any()
    assert np.isnan(data["nadir_ahead"].values).all()


def test_many_patients_with_their_own_schedules(source):
    counts = {"ID": ["a", "a", "b", "b"], "DAY": [1, 8, 1, 8], "ANC": [1.5, 0.5, 4, 3]}
    half = pkpd.daily("clofarabine", "2.5 mg/m^2", days="1-5", route="iv", duration="1 h")
    found = pkpd.forecast(
        source, counts, {"a": CLOFARABINE, "b": half}, 40, bank=500, engine="importance"
    )
    assert found.patients == ("a", "b")
    assert len(found["b"]) == 1
    recovered = found.dataset["recovered"].sel(criterion=NEUTROPHILS, day=21)
    assert float(recovered.sel(patient="b")) > float(recovered.sel(patient="a"))
    with pytest.raises(PkpdError, match="there is no patient 'c'"):
        found["c"]
    more = {"a": CLOFARABINE, "b": half, "z": half}
    told = "schedule: one is of z, of whom the table has no counts; allowed: a, b; correct"
    with pytest.raises(PkpdError, match=told):
        pkpd.forecast(source, counts, more, 40, bank=500)


def test_a_saved_forecast_opens_as_it_was(source, tmp_path):
    """Units such as ``days since the start`` were read as dates, and failed."""
    found = pkpd.forecast(source, EARLY, CLOFARABINE, 30, bank=500, engine="importance")
    found.dataset.to_netcdf(tmp_path / "forecast.nc")
    with xr.open_dataset(tmp_path / "forecast.nc") as opened:
        for name in ("recovery_day", "recovered_after"):
            np.testing.assert_array_equal(opened[name], found.dataset[name])


def test_bodies_and_doses_of_the_table_are_used(source):
    counts = {**EARLY, "CRCL": [35, ""], "DRUG": ["clofarabine", ""], "AMT": [60, ""]}
    found = pkpd.forecast(source, counts, CLOFARABINE, 30, bank=500, engine="importance")
    bank = found.weighed[1].bank
    assert set(bank.lanes.sample(bank.who)["crcl"]) == {35.0}
    assert bank.lanes.regimen.courses[0].doses[0].amount == 60.0
    assert "! clofarabine: doses of day 1 as given (" in found.summary()


def test_a_child_with_the_body_of_an_adult_is_told(source):
    child = EARLY | {"AGE": [5, ""]}
    found = pkpd.forecast(source, child, CLOFARABINE, 45, bank=1000, engine="importance")
    (note,) = found.notes
    bodies = found.weighed[1].bank.lanes.sample(found.weighed[1].bank.who)
    weight, height, clearance = (np.median(bodies[name]) for name in ("weight", "height", "crcl"))
    assert weight > 60.0, "rr_aml are adults, and their weight does not follow the age"
    assert note == (
        f"patient 1: at an age of 5 virtual patients have the population's weight {weight:.0f} kg, "
        f"height {height:.0f} cm, creatinine clearance {clearance:.0f} mL/min (medians): give WT, "
        "HT, CRCL"
    )
    assert f"! At {note[len('patient 1: at ') :]}." in found.summary()
    whole = child | {"WT": [18, ""], "HT": [109, ""], "SCR": [0.4, ""]}
    assert pkpd.forecast(source, whole, CLOFARABINE, 45, bank=1000, engine="importance").notes == ()


def test_neutrophils_that_rise_where_a_fall_is_forecast_are_told(source):
    falling = {"DAY": [1, 4, 8, 11], "ANC": [1.6, 1.2, 0.5, "<0.2"]}

    def notes_of(*later):
        days, counts = zip(*later, strict=True) if later else ((), ())
        every = {"DAY": [*falling["DAY"], *days], "ANC": [*falling["ANC"], *counts]}
        return pkpd.forecast(source, every, CLOFARABINE, 45, bank=3000, engine="importance")

    rising = notes_of((13, 0.7))
    (note,) = rising.notes
    assert note == (
        "patient 1: neutrophils rise (0.2 on day 11, 0.7 on day 13) where the forecast has a fall, "
        "as they do by chance in fewer than 1 in 30 such patients: the forecast is likely late; "
        "compare the marrow that learned from outcomes (leave marrow= or --marrow out)"
    )
    assert f"! Neutrophils{note[len('patient 1: neutrophils') :]}." in rising.summary()
    middle = rising.dataset["count"].sel(line="neutrophils", quantile=0.5).isel(patient=0)
    assert float(middle.sel(day=15)) < float(middle.sel(day=13))
    assert (
        "(0.2 on day 11, 0.4 on day 12, 0.7 on day 13)" in notes_of((12, 0.4), (13, 0.7)).notes[0]
    )
    # a cycle that is planned for later is no dose since
    again = CLOFARABINE.then(CLOFARABINE, start_day=29)
    every = {"DAY": [*falling["DAY"], 13], "ANC": [*falling["ANC"], 0.7]}
    found = pkpd.forecast(source, every, again, 45, bank=3000, engine="importance")
    assert found.notes == rising.notes
    # none rises, one as little as counting errs
    assert notes_of().notes == notes_of((13, 0.3)).notes == ()


@pytest.mark.slow
def test_few_of_a_marrows_own_patients_rise_against_their_forecast(source):
    made = forecaster(source, 45, bank=4000)
    bank, days = made.bank_for(CLOFARABINE), (1, 4, 8, 11, 13)
    truth = simulated(bank.lanes, bank.lanes.drawn(200, 77), bank.asked, 2)
    rng, error = np.random.default_rng(5), made.measurement.errors["neutrophils"]
    counts = [error.simulate(truth.counted("neutrophils", d - 1.0), truth.who.draw, rng)
              for d in days]  # fmt: skip
    seen, _ = pkpd.forecasting.read_seen(
        {"ID": np.repeat(np.arange(200), 5), "DAY": days * 200, "ANC": np.stack(counts, 1).ravel()}
    )
    every = [made.weighed(one, CLOFARABINE, "importance") for one in seen]
    told = [any("rise" in text for text in remarks(one, made.measurement)) for one in every]
    assert 0 < sum(told) <= 12
    assert sum(one.trusted for one in every) > 120


def test_back_at_the_count_before_treatment(source):
    found = pkpd.forecast(
        source, EARLY, CLOFARABINE, 45, bank=3000, engine="importance",
        back={"neutrophils": "baseline", "platelets": 20},
    )  # fmt: skip
    assert "of 100 such patients have neutrophils back at their baseline" in found.sentence()
    name = "neutrophils >= baseline"
    assert name in found.summary()
    assert found.plot().axes[-1].get_legend().get_texts()[0].get_text() == "neutrophils ≥ baseline"
    bank = found.weighed[1].bank
    np.testing.assert_array_equal(
        bank.recovery["both"], np.maximum(bank.recovery[name], bank.recovery["platelets >= 20"])
    )
    # at the time of return the count is that of the first morning, if it does not double in a day
    days = bank.recovery[name]
    morning = np.where(np.isfinite(days), np.minimum(days, 40), 0).astype(int)
    logs, every = bank.measured["neutrophils"], np.arange(len(bank))
    slow = logs[every, morning + 1] - logs[every, morning] < np.log(2.0)
    for i in np.flatnonzero(np.isfinite(days) & (days > 0) & (days < 40) & slow)[:20]:
        there = bank.counted("neutrophils", float(days[i]), np.array([i]))[0]
        assert there == pytest.approx(bank.counted("neutrophils", 0.0, np.array([i]))[0], rel=0.02)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "guess"}, "engine 'guess'; allowed: auto, importance, smc, map"),
        (
            {"until_day": 5},
            "day 8, the forecast ends on 5; correct the day, or forecast until later (--until-day)",
        ),
        ({"bank": 10}, "bank: 10; allowed"),
        ({"back": {"basophils": 1.0}}, "basophils of 1; allowed"),
        (
            {"back": {"neutrophils": "start"}},
            'neutrophils of start; allowed: counts above 0 (10^9/L), or "baseline"',
        ),
        ({"rule": "leukemia_d56_generic"}, "it looks at day 56, and the forecast ends on day 40"),
        (
            {"rule": "leukemia_d42_generic", "until_day": 42},
            "forecast: until_day is 42, before day 43, whose morning rule leukemia_d42_generic",
        ),
        ({"clock": "induction"}, "no course 'induction'"),
        (
            {"errors": {"platelet": residual.lognormal(0.2)}},
            "errors: there is no line 'platelet' (did you mean 'platelets'?); allowed: neutrophils",
        ),
        (
            {"alternatives": ["99"]},
            "alternatives (--next): a continuation begins on day 99, and the forecast ends on ",
        ),
        (
            {"schedule": LATE, "patient": {"DAY": [1, 5], "ANC": [2.0, 1.9]}},
            "patient 1: all counts are from before the first dose, which is planned on day 5",
        ),
        ({"patient": {"DAY": [8], "WBC": [3.0]}}, "counts of wbc, which the source does not have"),
        ({"schedule": pkpd.daily("hydroxyurea", "1 g", days="1-5", route="oral")}, "hydroxyurea"),
        ({"schedule": "mine.toml"}, "str is no schedule"),
        ({"schedule": {"b": CLOFARABINE}}, "there is no schedule; allowed: b"),
    ],
)
def test_bad_input_gets_one_sentence(source, changes, told):
    asked = {"patient": EARLY, "schedule": CLOFARABINE, "until_day": 40, "bank": 200} | changes
    with pytest.raises(PkpdError, match=re.escape(told)) as caught:
        pkpd.forecast(source, **asked)
    assert "\n" not in str(caught.value)


def test_the_scatter_of_counts_can_be_given(source):
    wide = {"neutrophils": residual.lognormal(2.0)}
    found = pkpd.forecast(
        source, EARLY, CLOFARABINE, 30, bank=500, engine="importance", errors=wide
    )
    assert found.weighed[1].effective > 300
    card = measurement_of(source).errors["neutrophils"]
    z = (np.log(0.5) - np.log([1.0, 0.4])) / card.coefficients[0]
    density = card.log_density(np.array([1.0, 0.4]), np.zeros(2, int), 0.5, 0, -np.inf)
    expected = stats.t.logpdf(z, card.nu) - np.log(card.coefficients[0] * 0.5)
    np.testing.assert_allclose(density, expected, rtol=1e-9)


def test_the_figure_shows_counts_and_recovery(found, tmp_path):
    figure = found.plot()
    labels = [ax.get_ylabel() for ax in figure.axes]
    last = "back by that day\nif no more is given\n(of 100)"
    assert labels == ["neutrophils\n(10⁹/L)", "platelets\n(10⁹/L)", last]
    figure.savefig(tmp_path / "p.svg")
    marks = [c for c in figure.axes[0].collections if len(c.get_offsets()) == 2]
    np.testing.assert_allclose(marks[-1].get_offsets().data[:, 1], [1.5, 0.5])


def test_a_remission_says_that_no_marrow_was_looked_at():
    ill = pkpd.source("rr_aml", patients=1, draws=10)
    words = "from counts in blood alone, no blasts of the marrow are given"
    for blasts, told in (({}, True), ({"BM_BLASTS": [40, ""]}, False)):
        found = pkpd.forecast(
            ill, {**EARLY, **blasts}, CLOFARABINE, 45, bank=3000, engine="importance"
        )
        (line,) = (x for x in found.summary().splitlines() if x.startswith("remission ("))
        assert line.endswith(words) is told


def test_the_command_prints_sentence_table_and_writes_a_figure(tmp_path):
    (tmp_path / "p.csv").write_text("ID,DAY,ANC\nx 1,1,1.5\nx 1,8,0.5\n")
    (tmp_path / "s.toml").write_text(
        'title = "t"\npopulation = "rr_aml"\nrule = "leukemia_d42_generic"\nhorizon_days = 45\n'
        '[dose.clofarabine]\namount = "5 mg/m^2"\ndays = "1-5"\nroute = "iv"\nduration = "1 h"\n'
        '[course.c]\ndoses = ["clofarabine"]\ncycle_days = 28\n'
    )
    words = [str(tmp_path / "p.csv"), str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")]
    small = ["--marrow", "friberg", "--bank", "3000", "--draws", "5", "--engine", "importance"]
    done = CliRunner().invoke(app, ["forecast", *words, *small, "--by-day", "28", "--next", "29"])
    assert done.exit_code == 0, done.output
    assert "By day 28, " in done.output
    assert "dose-limiting toxicity by leukemia_d42_generic" in done.output
    assert "next cycle 29" in done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "forecast.csv",
        "forecast_x_1.svg",
    ]
    # the same counts in units of their own
    (tmp_path / "u.csv").write_text("ID,DAY,ANC,PLT\nx 1,1,1500,\nx 1,8,500,90\n")
    words[0] = str(tmp_path / "u.csv")
    asked = ["--back", "neutrophils 1", "--back", "platelets >= 50"]
    asked += ["--units", "ANC cells/uL", "--units", "platelets=10^9/L"]
    done = CliRunner().invoke(app, ["forecast", *words, *small, *asked])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^([a-z]+ >= [0-9.]+.*?)  ", done.output, re.M) == [
        "neutrophils >= 1 after day 8",
        "platelets >= 50 after day 8",
    ]
    done = CliRunner().invoke(app, ["forecast", *words, "--back", "platelets fifty"])
    assert done.exit_code == 2
    assert "--back: 'platelets fifty' is no line with a count" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["forecast", *words, *asked, "--units", "cells/uL"])
    assert done.exit_code == 2
    assert "'cells/uL' are not units of lines" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["forecast", *words, "--cohort", "nobody"])
    assert done.exit_code == 2
    assert "there is no cohort 'nobody'" in done.output


def test_the_first_line_tells_what_the_draws_are_worth(found):
    (one,) = found.weighed.values()
    draw, weights = one.bank.who.draw, one.weights
    same = draw[:, None] == draw[None, :]
    by_pairs = 1.0 / float(weights @ same @ weights)  # chance that two have one draw
    assert 1.0 < by_pairs <= 10.0
    assert one.effective_draws == pytest.approx(by_pairs)
    first = found.summary().splitlines()[0]
    assert (
        f"of parameter draws worth {by_pairs:,.0f}, which is few: percentages are rough;" in first
    )


@pytest.mark.parametrize(
    ("counts", "half"),
    [
        ([0.9, 0.3], "; half of them are not below it again."),
        ([2.0, 0.9], "at 0.5 or more already (0.9); without further doses, 50 of 100 such"),
    ],
)
def test_where_half_are_not_low_no_day_is_told(source, counts, half):
    """No half is back "by day 0"."""
    seen = {"DAY": [1, 8], "ANC": counts}
    found = pkpd.forecast(source, seen, CLOFARABINE, 30, bank=1000, engine="importance")
    one, weighed = found.dataset.isel(patient=0).copy(deep=True), found.weighed[1]
    object.__setattr__(weighed, "_smoothed", (np.full(1000, 1e-3), 0.1))
    for quantiles, low in (("day_after", "low_after"), ("recovery_day", "low")):
        one[quantiles].loc[{"quantile": [0.05, 0.1, 0.25, 0.5]}] = 0.0
        one[low][:] = 0.5
    assert half in first_sentence(weighed, one)
    assert rule_sentence(weighed, one).endswith("; half of them are not low after the last dose.")


def test_a_share_near_all_is_no_hundred_of_a_hundred():
    for share, hundred, told in (
        (0.0003, "fewer than 1", "< 1 %"),
        (0.624, "62", "62 %"),
        (0.9997, "more than 99", "> 99 %"),
        (1.0, "100", "100 %"),
        (0.005, "fewer than 1", "< 1 %"),
        (0.995, "more than 99", "> 99 %"),
        # sums of weights that are one but for rounding
        (1.0 - 1e-13, "100", "100 %"),
        (1e-13, "0", "0 %"),
    ):
        assert (_hundred(share), percent(share)) == (hundred, told)


def test_labels_that_differ_in_a_mark_keep_a_figure_each(tmp_path):
    """Marks that no file name has are written as one."""

    class Found:
        patients = ("A/1", "A_1", "a 1", "B")

        def table(self):
            return pd.DataFrame({"ID": self.patients})

        def plot(self, label):
            figure = Figure(figsize=(1, 1))
            figure.text(0, 0, label)
            return figure

    paths = write(Found(), tmp_path, ("svg", "png"))  # type: ignore[arg-type]
    assert len(set(paths)) == 1 + 2 * 4
    assert [path.name for path in paths[1::2]] == [
        "forecast_A_1.svg",
        "forecast_A_1_.svg",
        "forecast_a_1__.svg",
        "forecast_B.svg",
    ]
    assert all(path.exists() for path in paths)


def test_figures_of_the_forecast_before_go_and_no_other_file(tmp_path):
    class Found:
        def __init__(self, *patients):
            self.patients = patients

        def table(self):
            return pd.DataFrame({"patient": self.patients, "quantity": "low"})

        def plot(self, label):
            return Figure(figsize=(1, 1))

    for name in ("forecast_mine.svg", "forecast_C.svg", "notes.txt"):
        (tmp_path / name).write_text("my own")
    write(Found("A/1", "=B", "A_1"), tmp_path, ("svg", "png"))  # type: ignore[arg-type]
    write(Found("A/1"), tmp_path, ("svg",))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "forecast.csv",
        "forecast_A_1.svg",
        "forecast_C.svg",
        "forecast_mine.svg",
        "notes.txt",
    ]
    (tmp_path / "forecast.csv").write_text("mine\n1\n")  # no table of a forecast
    write(Found(7), tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / "forecast_A_1.svg").exists()
