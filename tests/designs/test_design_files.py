"""Design files, the command that reads them, and what is wrong with some."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pkpd
from pkpd.cards import load_trial
from pkpd.cli import app
from pkpd.designs import (
    BOIN,
    CRM,
    DESIGNS,
    Action,
    BackfillBOIN,
    Pending,
    ThreePlusThree,
    TiteCRM,
    TooToxic,
    TrialData,
    load_design,
)
from pkpd.errors import CardError, PkpdError

FOLDER = Path(pkpd.__file__).parents[1] / "benchmarks" / "designs"
FILES = sorted(FOLDER.glob("*.toml"))

GOOD = """
kind = "design"
doses = ["5 mg", "10 mg", "25 mg"]
start = "5 mg"

[design]
name = "CRM"
target = 0.25
skeleton = [0.1, 0.25, 0.4]

[[stop]]
rule = "too toxic"
limit = 0.35
certainty = 0.9

[[cohort]]
dose = "5 mg"
treated = 3
dlts = 0

[[scenario]]
name = "one"
risks = [0.1, 0.25, 0.4]
"""


def plain(text):
    return " ".join(text.split())


def run(*words):
    return CliRunner().invoke(app, ["design", *map(str, words)])


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_is_read_and_replayed(path):
    file = load_design(path)
    assert file.design.levels == len(file.doses)
    done = run(path)
    assert done.exit_code == 0, done.output
    assert "Next: " in done.output


def test_the_shipped_files_use_most_designs():
    used = {load_design(path).design.name for path in FILES}
    assert set(DESIGNS) - used == {"keyboard", "mTPI-2"}


def test_len_mec_as_its_card_tells_it():
    """The cohorts of the design files are those of the trial's card."""
    trial = load_trial("nct01681537_len_mec")
    for stem, arm in (("len_mec_14_days", "14d"), ("len_mec_10_days", "10d")):
        file = load_design(FOLDER / f"{stem}.toml")
        seen = {
            file.doses[row.level - 1].removesuffix(" mg"): (row.treated, row.dlts)
            for row in file.seen
        }
        card = {}
        for cohort in trial.cohorts:
            if cohort.id.startswith(arm):
                printed = next(p for p in cohort.published if p.endpoint == "dlt_delayed_recovery")
                card[cohort.id.removeprefix(f"{arm}-")] = (printed.denominator, printed.numerator)
        assert seen == card


def test_len_mec_went_as_three_plus_three_says():
    first = load_design(FOLDER / "len_mec_14_days.toml")
    assert first.design.next_dose(first.data(1)).action == Action.DEESCALATE
    second = load_design(FOLDER / "len_mec_10_days.toml")
    for k in (1, 2, 3):
        assert second.design.next_dose(second.data(k)).level == k + 1
    found = second.design.next_dose(second.data())
    assert second.doses[found.mtd - 1] == "50 mg"


def test_viola_file_is_the_trial(written):
    done = run(FOLDER / "viola.toml", "--ahead", 1, "--characteristics")
    assert done.exit_code == 0
    for text in (
        "Next: escalate to d(2). The risk at d(3) is estimated as 0.162, closest to the target 0.2",
        "d(1) 0.200 55.11 % 7.92 1.58",
        "Even d(-2) is far above the target 0.2: no dose is selected with probability 0.712.",
        "d(2) 3/3 d(0)",
        "the patients entered above take no part in them.",
    ):
        assert text in plain(done.output)


def test_tables_of_the_command():
    boin = run(FOLDER / "boin.toml", "--table").output
    assert "patients  escalate at  de-escalate at  drop at" in boin
    assert "       9            2               4        5" in boin
    tite = run(FOLDER / "tite_boin.toml", "--table").output
    assert "       9     1        4  S, E from weight 2.15" in tite
    six = run(FOLDER / "rolling_six.toml", "--table").output
    assert "       6     1      1-5  W" in six
    three = run(FOLDER / "len_mec_10_days.toml", "--table").output
    assert "   1  S  E" in three
    viola = run(FOLDER / "viola.toml", "--table").output
    assert "Doses after every outcome of the next 2 cohorts." in viola


def test_characteristics_of_the_command():
    found = run(FOLDER / "boin.toml", "--characteristics").output
    assert ("take no part" in found) is bool(load_design(FOLDER / "boin.toml").seen)
    assert "dose C 0.300 54.63 % 11.16 3.35" in plain(found)
    asked = run(FOLDER / "boin.toml", "--risks", "0.1,0.25,0.4,0.55,0.7").output
    assert "dose B 0.250 54.13 % 13.03 3.26" in plain(asked)
    simulated = run(FOLDER / "bf_boin.toml", "--characteristics", "--trials", "200").output
    assert "simulated" in simulated
    assert "patients are backfilled; patients who cannot be judged, and" in simulated
    risks = "--risks", "0.1,0.2,0.3,0.4,0.5", "--trials", "20"
    without = run(FOLDER / "bf_boin.toml", *risks).output
    assert "No rates of response are given: nobody is backfilled." in without
    assert "No rates of response" not in simulated


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ("[accrual]\nevery_days = 10\n[window]\ndays = 28\n", r"It takes \d+ days .*50 trials"),
        ("[accrual]\nevery_days = 10\n", r"where there is a table \[window\], too"),
        ("[window]\ndays = 28\n", r"where there is a table \[accrual\], too"),
    ],
)
def test_days_stand_beside_exact_characteristics(written, tables, told):
    """Both tables were without effect in a design of cohorts, and nothing said so."""
    found = run(written(f"{GOOD}\n{tables}"), "--characteristics", "--trials", "50").output
    assert "exact" in found
    assert re.search(told, plain(found))
    assert "It takes" not in run(written(GOOD), "--characteristics").output


def test_a_table_that_pending_patients_prevent_stops_nothing_else():
    for options in (["--table"], ["--ahead", "1"]):
        found = run(FOLDER / "tite_crm.toml", *options, "--characteristics", "--trials", "20")
        assert found.exit_code == 0
        assert "wait until pending patients are assessed" in plain(found.output)
        assert "Operating characteristics, simulated" in found.output


def test_risks_that_cannot_be_are_refused_before_anything_is_told():
    found = CliRunner().invoke(app, ["design", str(FOLDER / "boin.toml"), "--risks", "0.1,x"])
    assert found.exit_code == 2
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ahead", "4"], "more than 100 paths"),
        (["--characteristics"], "no true risks are given"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_told(monkeypatch, written, options, told):
    monkeypatch.setattr("pkpd.designs.exact.pathways._MOST", 100)
    found = run(written(GOOD[: GOOD.index("[[scenario]]")]), *options)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert told in plain(found.stderr)


def test_single_patients_of_titration_and_sizes_of_cohorts_are_told(written):
    head = GOOD[: GOOD.index("name = ")]
    titrates = 'name = "BOIN"\ntarget = 0.3\ntitrate = true\n'
    told = plain(run(written(head + titrates), "--ahead", 2).output)
    assert "one by one up to the first DLT or the highest dose, then cohorts of 3, at most" in told
    assert "5 mg 0/1 10 mg 0/1 25 mg" in told
    assert "5 mg 1/1 5 mg 0/2" in told


@pytest.mark.parametrize("weight", ["linear", "adaptive"])
def test_patients_whose_dlts_weigh_are_told_to_take_part(written, weight):
    text = (FOLDER / "tite_crm.toml").read_text().replace('"linear"', f'"{weight}"', 1)
    told = plain(run(written(text), "--characteristics", "--trials", "20").output)
    assert "entered above take no part in them" in told
    taken = "but that the weights of pending ones come from the days of their DLTs."
    assert (taken in told) is (weight == "adaptive")


def test_backfilled_patients_are_beyond_the_most():
    assert "at most 30 and those who are backfilled" in plain(run(FOLDER / "bf_boin.toml").output)


def test_true_risks_that_fall_are_said_to():
    file = str(FOLDER / "boin.toml")
    told = CliRunner().invoke(app, ["design", file, "--risks", "0.1,0.3,0.2,0.4,0.5"]).stdout
    assert "True risks fall from dose B (0.3) to dose C (0.2)" in told
    told = CliRunner().invoke(app, ["design", file, "--risks", "0.1,0.2,0.2,0.4,0.5"]).stdout
    assert "Operating characteristics" in told
    assert "fall" not in told


def test_a_file_of_another_command_names_that_command():
    trial = Path(pkpd.__file__).parents[1] / "models" / "trials" / "nct01681537_len_mec.toml"
    told = CliRunner().invoke(app, ["design", str(trial)])
    assert told.exit_code == 2
    assert "pkpd design takes no trial file" in told.stderr
    assert "use pkpd compare " in told.stderr
    told = CliRunner().invoke(app, ["compare", str(FOLDER / "boin.toml")])
    assert told.exit_code == 2
    assert "pkpd compare takes no design file" in told.stderr
    assert "use pkpd design " in told.stderr


def test_patients_carry_their_weights():
    file = load_design(FOLDER / "tite_crm.toml")
    data = file.data()
    assert isinstance(file.design, TiteCRM)
    assert sorted(p.weight for p in data.pending) == pytest.approx(
        [3 / 180, 42 / 180, 102 / 180, 178 / 180, 179 / 180]
    )
    risks = file.design.risks(data.batch())[0]
    assert risks[2] == pytest.approx(0.2443124, abs=1e-6)


def test_adaptive_weights_come_from_the_days_of_the_dlts(written):
    text = (FOLDER / "tite_crm.toml").read_text()
    text = text.replace('weight = "linear"', 'weight = "adaptive"')
    file = load_design(written(text))
    risks = file.design.risks(file.data().batch())[0]
    assert risks[2] == pytest.approx(0.244909, abs=1e-6)


def test_a_patient_can_have_a_weight_of_his_own(written):
    text = PATIENTS.replace("followed_days = 10", "weight = 0.9")
    assert load_design(written(text)).data().pending == (Pending(1, 0.9),)
    ended = load_design(written(text.replace("weight = 0.9", "weight = 1")))
    assert (ended.data().pending, ended.seen[0].pending) == ((), ())
    with pytest.raises(CardError, match=r"dlt_day: the key is missing"):
        load_design(
            written(
                PATIENTS.replace("days = 28", "days = 28\nweight = 'adaptive'", 1)
                + "[[patient]]\ndose = '5 mg'\ndlt = true\n"
            )
        )
    with pytest.raises(CardError, match="the patient has a DLT; remove it"):
        load_design(written(text.replace("weight = 0.9", "weight = 0.9\ndlt = true")))


def test_a_patient_can_count_as_a_fraction_of_a_dlt(written):
    text = PATIENTS.replace("followed_days = 10", "fraction = 0.4")
    assert load_design(written(text)).data().pending == (Pending(1, fraction=0.4),)
    for more, told in (
        ("dlt = true", "the patient has a DLT; remove it"),
        ("weight = 0.5", "the patient has a weight, too; give one of them"),
    ):
        with pytest.raises(CardError, match=told):
            load_design(written(text.replace("fraction = 0.4", f"fraction = 0.4\n{more}")))
    with pytest.raises(CardError, match="fraction"):
        load_design(written(text.replace("0.4", "1.4")))


def test_backfilled_patients_and_responses_are_told_apart(written):
    text = """
kind = "design"
doses = ["a", "b", "c"]
[design]
name = "bf-boin"
target = 0.25
[[cohort]]
dose = "a"
treated = 3
dlts = 0
responses = 1
[[cohort]]
dose = "b"
treated = 3
dlts = 0
[[cohort]]
dose = "a"
treated = 2
dlts = 0
backfilled = true
"""
    file = load_design(written(text))
    assert isinstance(file.design, BackfillBOIN)
    data = file.data()
    assert (data.treated, data.backfilled, data.responses) == ((5, 3, 0), (2, 0, 0), (1, 0, 0))
    assert data.current == 2
    assert file.design.next_dose(data).level == 3


def test_check_reads_design_files(written):
    bad = GOOD.replace("target = 0.25", "target = 25").replace('start = "5 mg"', 'start = "5"')
    done = CliRunner().invoke(app, ["check", str(written(bad))])
    assert done.exit_code == 1
    assert "no dose is named '5'" in done.output
    good = CliRunner().invoke(app, ["check", str(written(GOOD))])
    assert good.output.endswith("good\n")


WRONG = [
    ('name = "CRM"', 'name = "CMR"', r"design\] > name|design > name", "did you mean 'CRM'"),
    (
        "risks = [0.1, 0.25, 0.4]",
        "risks = [0.1, 0.25, 0.4]\nresponses = [0.1, 0.2, 0.3]",
        "responses: CRM does not backfill by them",
        "remove them, or choose a design that does",
    ),
    ("target = 0.25", "target = 25", "25 is no probability of a DLT", "write 25 % as 0.25"),
    ("target = 0.25", "target = -0.1", "-0.1 is no probability", "between 0 and 1"),
    ("target = 0.25", "", "target: the key is missing", "add it"),
    (
        "skeleton = [",
        "prior = [",
        "skeleton: the key is missing",
        "pkpd.designs.skeleton makes one",
    ),
    ("target = 0.25", "target = 0.25\ntarget_ = 1", "target_: unknown key", "did you mean"),
    (
        "[0.1, 0.25, 0.4]\n\n[[stop",
        "[0.1, 0.4, 0.25]\n\n[[stop",
        "dose 3 has 0.25",
        "order the doses",
    ),
    ("[0.1, 0.25, 0.4]\n\n[[stop", "[10, 25, 40]\n\n[[stop", "10 is no risk", "write 10 % as 0.1"),
    ("[0.1, 0.25, 0.4]\n\n[[stop", "[0.1, 0.4]\n\n[[stop", "2 items where 3", "skeleton"),
    ('start = "5 mg"', 'start = "5mg"', "no dose is named '5mg'", "did you mean '5 mg'"),
    ('doses = ["5 mg", "10 mg"', 'doses = ["5 mg", "5 mg"', "'5 mg' is there twice", "rename one"),
    (
        'doses = ["5 mg", "10 mg"',
        'doses = ["10 mg", "5 mg"',
        "'5 mg' is not above '10 mg'",
        "put them in order",
    ),
    ("dlts = 0", "dlts = 4", "4 patients with a DLT of 3 treated", "each at most once"),
    ("dlts = 0", "dlts = -1", "-1 is out of range", "at least 0"),
    ("treated = 3", "treated = -3", "-3 is out of range", "at least 1"),
    ("treated = 3", "treated = 1000000000000", "is out of range", "at most 1000"),
    ("target = 0.25", "target = 0.25\nmost_patients = 1001", "it is 1001", "1 to 1000"),
    ("treated = 3", "treated = 2.5", "2.5 is not a whole number", "whole number"),
    ('dose = "5 mg"', 'dose = "50 mg"', "no dose is named '50 mg'", "5 mg, 10 mg, 25 mg"),
    ("limit = 0.35", "limit = 35", "limit is 35", "write per cent as a fraction"),
    ('rule = "too toxic"', 'rule = "toxic"', '"toxic" is not allowed', "too toxic, enough at dose"),
    ("risks = [0.1, 0.25, 0.4]", "risks = [0.1, 0.25]", "one risk for each dose", "draws, 3"),
    ("risks = [0.1, 0.25, 0.4]", "risks = [10, 25, 40]", "10 is no risk of a DLT", "per cent"),
    ('kind = "design"', 'kind = "trial"', "takes no trial file", "design"),
    (
        "[[cohort]]",
        '[[patient]]\ndose = "5 mg"\n[[cohort]]',
        "cohorts and patients are both given",
        "give one",
    ),
    (
        "skeleton = ",
        "coherence = 'never'\nskeleton = ",
        "coherence: 'never'",
        "none, rate, cohort",
    ),
    ("skeleton = ", "most_patients = 0\nskeleton = ", "most_patients: it is 0", "1 to 1000"),
    ("skeleton = ", "initial = ['4 mg']\nskeleton = ", "no dose is named '4 mg'", "5 mg"),
]


@pytest.mark.parametrize(("old", "new", "what", "remedy"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(written, old, new, what, remedy):
    assert old in GOOD
    path = written(GOOD.replace(old, new, 1))
    with pytest.raises(CardError) as caught:
        load_design(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert text.endswith(".")
    assert re.search(what, text), text
    assert remedy in text
    done = run(path)
    assert done.exit_code == 2
    assert done.output == f"pkpd: {text}\n"


PATIENTS = """
kind = "design"
doses = ["5 mg", "10 mg"]
[design]
name = "rolling six"
[window]
days = 28
[[patient]]
dose = "5 mg"
followed_days = 10
"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("[window]\ndays = 28\n", "", "no window of assessment is given"),
        ("followed_days = 10", "", "followed_days: the key is missing"),
        ("followed_days = 10", "followed_days = -2", "-2 is out of range"),
        ("followed_days = 10", "followed_days = 3\ndlt_day = 3", "the patient has no DLT"),
        ("days = 28", "days = 0", "0 is out of range"),
        ("days = 28", "days = 28\nweight = 'cubic'", "linear, adaptive, piecewise"),
        (
            "days = 28",
            "days = 28\nweight = 'piecewise'\nshares = [0.5, 0.2]",
            "shares that sum to 1",
        ),
        ("days = 28", "days = 28\nlate = 2", "between 0 and 1"),
        (
            "days = 28",
            "days = 28\ndlts_come = 'uniform'\nlate = 0.5",
            "a share of 0.5 in the second half, of uniform times; leave the share out",
        ),
        ("followed_days = 10", "followed_days = 28\nweight = 0.5", "weight: .*followed_days, too"),
        ("followed_days = 10", "followed_days = 9\nfraction = 0.5", "fraction: .*give one of them"),
    ],
)
def test_wrong_patients_are_refused(written, old, new, what):
    assert load_design(written(PATIENTS)).data().pending == (Pending(1, 10 / 28),)
    with pytest.raises(CardError, match=what):
        load_design(written(PATIENTS.replace(old, new, 1)))


def test_the_command_says_what_it_lacks(written):
    no_risks = run(written(GOOD.split("[[scenario]]")[0]), "--characteristics")
    assert no_risks.exit_code == 2
    assert "no true risks are given; add [[scenario]]" in no_risks.output
    text = PATIENTS + "[[scenario]]\nname = 'one'\nrisks = [0.1, 0.3]\n"
    no_accrual = run(written(text), "--characteristics")
    assert "[accrual] is missing; add [accrual] with every_days = 14" in no_accrual.output
    words = run(written(GOOD), "--risks", "low,high")
    assert "numbers with commas" in words.output
    assert run("nowhere.toml").exit_code == 2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BOIN(levels=3, target=30), r"30 is no probability.*write 30 % as 0\.3"),
        (lambda: BOIN(levels=0, target=0.3), "levels: it is 0"),
        (lambda: BOIN(levels=3, target=0.3, start=4), "start: it is dose 4; allowed: 1 to 3"),
        (lambda: BOIN(levels=3, target=0.3, safe=0.4), "below the target"),
        (lambda: BOIN(levels=3, target=0.3, toxic=0.2), "above the target"),
        (lambda: BOIN(levels=3, target=0.3, elimination=0.4), "between 0.5 and 1"),
        (lambda: CRM(levels=2, target=0.3, skeleton=(0.3, 0.2)), "order the doses by their risk"),
        (lambda: CRM(levels=2, target=0.3, skeleton=(0.2, 0.3), model="probit"), "power, logistic"),
        (
            lambda: CRM(levels=2, target=0.3, skeleton=(0.2, 0.3), estimate="maximum"),
            "maximum likelihood needs a DLT first",
        ),
        (
            lambda: ThreePlusThree(levels=3, cohort_size=1),
            r'^3\+3, cohort_size: it is 1; allowed: 3; remove it, or take "rolling six"',
        ),
        (lambda: TrialData((3, 0), (4, 0), 1), "4 patients with a DLT of 3 treated"),
        (lambda: TrialData((-3, 0), (0, 0), 1), "treated is -3"),
        (lambda: TrialData((3, 0), (0, 0)), "no present dose is given"),
        (lambda: TrialData((3, 0), (0, 0), 3), "from 0 to 2"),
        (lambda: TrialData((1, 0), (1, 0), 1, (Pending(1, 0.5),)), "no longer pending"),
        (lambda: Pending(1, 1.5), "at most 1"),
        (lambda: TrialData.from_outcomes(2, "1NNX"), "one letter for each patient, N or T"),
        (lambda: TrialData.from_outcomes(2, "3NNN"), "level 3 is not a dose"),
        (
            lambda: ThreePlusThree(levels=3, stops=(TooToxic(0.3, 0.9, level=5),)),
            "the dose is 5",
        ),
        (
            lambda: ThreePlusThree(levels=3, stops=(TooToxic(0.3, 0.9),)).next_dose(
                TrialData.from_outcomes(3, "1NNN")
            ),
            "has no posterior of the risk",
        ),
        (
            lambda: BOIN(levels=3, target=0.3).next_dose(TrialData((3, 0), (0, 0), 1)),
            "the data have 2 doses and the design 3",
        ),
    ],
)
def test_wrong_settings_and_data_are_refused(make, text):
    with pytest.raises(PkpdError, match=text):
        make()


def test_the_table_of_pending_patients_says_what_weight_escalation_needs(tmp_path):
    text = (FOLDER / "tite_boin.toml").read_text()
    told = "E with patients pending is W until each of them has a weight of 0.25."
    assert told not in plain(run(FOLDER / "tite_boin.toml", "--table").output)
    path = tmp_path / "d.toml"
    path.write_text(text.replace("target = 0.20", "target = 0.20\nleast_weight_to_escalate = 0.25"))
    assert told in plain(run(path, "--table").output)
