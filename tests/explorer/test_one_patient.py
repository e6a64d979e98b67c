"""One patient of a page: counts as pasted, the forecast, and what is refused."""

from __future__ import annotations

import io

import pandas as pd
import pytest

import pkpd
from pkpd.errors import PkpdError
from pkpd.explorer import patient as module
from pkpd.explorer.patient import MOST_TEXT, one_patient
from pkpd.explorer.state import BadStateError, read_state
from pkpd.forecasting.command import last_day_of, rule_of, source_of_cohort

COUNTS = "DAY,ANC,PLT\n0,2.3,101\n1,1.9,96\n4,1.1,74\n8,0.6,45\n11,<0.3,24\n"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(module, "BANK", 400)
    monkeypatch.setattr(module, "DRAWS", 10)
    module._MADE.clear()
    yield
    module._MADE.clear()


@pytest.fixture
def state(document, folder):
    return read_state(document, folder)


def test_it_is_the_forecast_of_the_package(state, monkeypatch):
    monkeypatch.setattr(module, "BANK", 1200)  # enough of them are like this patient
    counts = "DAY,ANC,PLT\n0,2.3,\n8,0.6,\n11,<0.3,24\n"
    found = one_patient(state, {"text": counts, "schedule": 1, "until": 8})
    cohort = state.trial.cohorts[1]
    rule = rule_of(state.trial, cohort)
    source = source_of_cohort(state.trial, cohort, state.marrow, None, 10, state.seed)
    known = pd.read_csv(io.StringIO(counts), dtype=str)[:2]
    last = last_day_of(state.trial, cohort, rule)
    theirs = pkpd.forecast(
        source, known, cohort.regimen, last, rule=rule, bank=1200, engine="importance"
    )
    assert found["trusted"]
    assert not found["again"]
    others = [told for told in found["warnings"] if not told.startswith("counts before day 1")]
    doubted = module.DOUBTED if others else ""
    assert found["sentence"] == doubted + theirs.sentence()
    assert found["csv"] == theirs.table().to_csv(index=False)
    assert found["until"] == 8
    # the morning of day 1 is before treatment
    assert found["days"] == [8, 11]
    seen = found["lines"]["neutrophils"]["seen"]
    assert [s["known"] for s in seen] == [True, True, False]
    assert [s["below"] for s in seen] == [False, False, True]
    middle = theirs.dataset["count"].sel(line="platelets", quantile=0.5).values[0]
    assert found["lines"]["platelets"]["bands"][2] == pytest.approx(middle, rel=1e-3)
    assert len(found["recovered"]["neutrophils >= 0.5"]) == last


def test_counts_move_the_forecast_and_the_bank_is_simulated_once(state, monkeypatch):
    monkeypatch.setattr(module, "BANK", 1200)
    pairs = {"neutrophils": ("ANC", 0.3, 2.3), "platelets": ("PLT", 22, 122)}
    for line, (column, *counts) in pairs.items():
        found = [one_patient(state, {"text": f"DAY,{column}\n8,{count}\n"}) for count in counts]
        # medians on the day after the last count
        low_middle, high_middle = (one["lines"][line]["bands"][2][9] for one in found)
        assert low_middle < high_middle
    assert len(module._MADE) == 1
    (made,) = module._MADE.values()
    assert made.banks == 1


@pytest.mark.slow
def test_a_forecast_that_few_patients_bear_begins_by_saying_so(state):
    strange = "DAY,ANC,PLT\n3,0.02,300\n5,9.0,12\n7,0.05,400\n9,12,8\n11,0.02,500\n"
    found = one_patient(state, {"text": strange})
    assert found["warnings"]
    assert not found["trusted"]
    assert (found["again"], found["why"][:18]) == (True, "not known: too few")
    assert found["sentence"].startswith("This forecast cannot tell when counts are back: ")
    assert found["warnings"][-1].endswith(" count): others are made now.")
    made = one_patient(state, {"text": COUNTS, "careful": True})
    assert made["trusted"]
    assert made["sentence"].startswith("By day ")


def test_one_of_several_patients_is_chosen_and_tables_of_spreadsheets_are_read(state):
    text = "ID\tDAY\tANC\na\t4\t1.1\nb\t4\t0.4\nb\t8\t0.2\n"
    found = one_patient(state, {"text": text, "patient": "b"})
    assert (found["patient"], found["patients"], found["days"]) == ("b", ["a", "b"], [4, 8])
    assert "a,4" not in found["python"]
    assert one_patient(state, {"text": text})["patient"] == "a"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("DAY;ANC\n4,5;1,1\n8,7;0,5\n9;0,4\n", "DAY;ANC\n4,5;1,1\n8,7;0,5\n"),
        ("ID,DAY,ANC\n02,4,1\n01,4,1.1\n1,9,1\n", "ID,DAY,ANC\n01,4,1.1\n"),
        (
            "DATE,ANC\n2026-01-01,2\n2026-01-08,1\n2026-01-09,1\n",
            "DATE,ANC\n2026-01-01,2\n2026-01-08,1\n",
        ),
    ],
)
def test_its_python_has_the_counts_that_were_used(state, text, kept):
    found = one_patient(state, {"text": text, "until": 8, "patient": "1" if "ID" in text else ""})
    assert f"COUNTS = {kept!r}\n" in found["python"]
    assert f"bank={module.BANK},\n" in found["python"]


@pytest.mark.parametrize(("until", "kept"), [(3, 2), (None, 3)])
def test_doses_are_those_that_were_given_by_the_day_and_its_python_has_them(state, until, kept):
    rows = ["DAY,ANC,DRUG,AMT", "1,2,,", "3,1.5,,", "5,,clofarabine,0"]
    asked = {"text": "\n".join([*rows, ""])} | ({} if until is None else {"until": until})
    found = one_patient(state, asked)
    told = "clofarabine: doses of day 5 as given" in " ".join(found["warnings"])
    assert told == (until is None)
    assert f"COUNTS = {chr(10).join([*rows[: kept + 1], ''])!r}\n" in found["python"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"text": ""}, "the table of counts: it is empty"),
        ({"text": "DAY,ANC\n4,x\n"}, "row 2, ID 1, column ANC: 'x' is not a number"),
        ({"text": "DAY,ANC\n0,3\n"}, "has counts before the first dose only"),
        ({"text": "DAY,ANC\n5,2100\n"}, r"neutrophils of 2100 x 10\^9/L cannot be"),
        ({"text": COUNTS, "until": 0}, "until"),
        ({"text": "DAY,ANC\n9,1\n", "until": 4}, "no count on treatment by day 4; allowed: days 9"),
        ({"text": COUNTS, "schedule": 7}, "schedule"),
        ({"text": COUNTS, "patient": "x"}, "there is no patient 'x'"),
        ({"text": 'DAY,"ANC\n'}, "the table of counts"),
        ({"text": "1" * (MOST_TEXT + 1)}, "20,001 characters; allowed: at most 20,000"),
        ({"text": 7}, "text"),
        ([1], "it is empty"),
    ],
)
def test_what_cannot_be_used_is_said_beside_its_control(state, asked, said):
    with pytest.raises(BadStateError, match=said) as caught:
        one_patient(state, asked)
    (problem,) = caught.value.problems
    assert problem.keys[0] == "patient"


@pytest.mark.slow
def test_its_python_gives_the_same_sentence(state, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = one_patient(state, {"text": COUNTS})
    exec(compile(found["python"], "one_patient.py", "exec"), {})
    told = capsys.readouterr().out
    assert "Patient 1: 10 counts until day 11" in told
    assert "400 virtual patients" in found["how"]
    assert "400 virtual patients" in told
    assert (tmp_path / "forecast" / "forecast_1.svg").is_file()


def test_counts_after_the_days_of_the_page_are_not_dropped_without_a_word(state):
    cohort = state.trial.cohorts[0]
    last = last_day_of(state.trial, cohort, rule_of(state.trial, cohort))
    text = f"DAY,ANC,PLT\n4,1.1,74\n8,0.6,45\n{last + 1},1.0,90\n"
    found = one_patient(state, {"text": text, "until": 8})
    assert found["days"] == [4, 8]
    assert [s["day"] for s in found["lines"]["platelets"]["seen"]] == [4.0, 8.0]
    told = f"Counts after day {last}, the last that is simulated, are not shown."
    assert told in found["warnings"]
    for day in (last + 1, 412):
        with pytest.raises(PkpdError, match=f"of day {day}, the forecast ends on {last}"):
            one_patient(state, {"text": f"DAY,ANC\n8,0.6\n{day},1.0\n"})
