"""Rows of one's own: what the posterior says after them, and files that cannot be learned from."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from pkpd.cli import app
from pkpd.cluster import Workers
from pkpd.errors import DataError, PkpdError
from pkpd.evidence import (
    EvidenceLikelihood,
    LearningPlan,
    MarrowSimulator,
    learn_rows,
    load_posterior,
    reweight,
    shipped_posterior,
)
from pkpd.evidence.posterior.shipped import label_of
from pkpd.evidence.table.learning import joined, published_rows, refined
from pkpd.evidence.table.populations import evidence_folder
from pkpd.evidence.table.table import EvidenceTable, load_evidence
from pkpd.evidence.updating import own_rows
from pkpd.evidence.updating.nested import counted_once
from pkpd.evidence.updating.reweight import thetas_of

HEAD = "study,population,schedule,n,endpoint,value,numerator,denominator,mark,age_median,line"
ARM = "aml_rr,clofarabine:30 mg/m2:IV1h:1-5"
SIZES = {"patients": 32, "seed": 5, "jobs": 2}


@pytest.fixture(scope="module")
def few():
    """The shipped posterior, few of its draws."""
    posterior = shipped_posterior()
    assert posterior is not None
    return posterior.thinned(150, seed=2)


def table(folder, *rows, head=HEAD):
    path = folder / "own.csv"
    path.write_text("\n".join((head, *rows)) + "\n")
    return path


def of_share(events, n, line="refractory"):
    return f"OURS,{ARM},{n},cr_rate,,{events},{n},READ,63,{line}"


def test_many_remissions_raise_what_is_expected_and_few_lower_it(tmp_path, few):
    high = learn_rows(table(tmp_path, of_share(9, 20)), few, **SIZES)
    low = learn_rows(table(tmp_path, of_share(1, 20)), few, **SIZES)
    (up,), (down,) = high.rows, low.rows
    np.testing.assert_array_equal(up.before, down.before)
    assert down.after[1] < up.before[1] < up.after[1]
    assert up.printed == 0.45
    assert high.posterior.studies == (*few.studies, "OURS")
    assert high.posterior.terms[-1] == "OURS.cr_rate"
    assert high.posterior.record["rows"] == few.record["rows"] + 1
    assert "tested" not in high.posterior.record
    assert high.posterior.record["tested_before"] == few.record["tested"]
    assert label_of(high.posterior).tested_before == few.record["tested"]
    assert 1.0 < high.change.ess <= 150.0
    # learned once: the same file again changes nothing, without it all is as it was
    again = learn_rows(table(tmp_path, of_share(9, 20)), high.posterior, **SIZES).posterior
    assert np.corrcoef(again.weights.ravel(), high.posterior.weights.ravel())[0, 1] > 0.95
    back = reweight(high.posterior, removed=["OURS"]).posterior
    assert back.studies == few.studies
    assert back.mean()["rho"] == pytest.approx(few.mean()["rho"], rel=0.02)


def test_weights_are_the_likelihood_of_the_rows_as_published_rows_are_read(tmp_path, few):
    """At the age and line of treatment of the row, by the likelihood that the posterior has."""
    path = table(tmp_path, of_share(6, 20))
    own = learn_rows(path, few, **SIZES).posterior
    rows = refined(load_evidence(path))
    (row,) = rows
    assert row.population.name == "aml_refractory"
    assert row.population.age == 63.0
    likelihood = EvidenceLikelihood(rows)
    logs = []
    for place, theta in enumerate(thetas_of(few)):
        run = MarrowSimulator(likelihood.arms, 32, 5 + place // 25, few.variant, threads=1,
                              steps_per_day=4)  # fmt: skip
        logs.append(likelihood.evaluate(theta, run(theta)).total)
    np.testing.assert_allclose(own.by_study[..., -1].ravel(), logs, atol=1e-6)


def test_rows_that_replace_published_ones_take_their_place(tmp_path, few):
    name = next(term for term in few.terms if "+" not in term and term.endswith(".cr_rate"))
    study = name.split(".")[0]
    head = f"{HEAD},replaces"
    found = learn_rows(table(tmp_path, f"{of_share(5, 20)},{name}", head=head), few, **SIZES)
    assert found.replaced == (name,)
    assert name not in found.posterior.terms
    assert "OURS" in found.posterior.studies
    others = joined(published_rows(), load_evidence(table(tmp_path, of_share(5, 20))))
    assert (study in found.posterior.studies) == any(
        row.study == study and row.id != name and row.id in "+".join(few.terms) for row in others
    )
    with pytest.raises(DataError, match=r"column replaces: there is no row 'NOSUCH.cr_rate'"):
        learn_rows(table(tmp_path, f"{of_share(5, 20)},NOSUCH.cr_rate", head=head), few, **SIZES)


def test_what_an_earlier_table_did_and_this_one_undoes_is_told(tmp_path, few):
    """Published rows that had been replaced came back beside those in their place, unsaid."""
    name = next(term for term in few.terms if "+" not in term and term.endswith(".cr_rate"))
    study = name.split(".")[0]
    replaced = f"{of_share(5, 20)},{name}"
    first = learn_rows(table(tmp_path, replaced, head=f"{HEAD},replaces"), few, **SIZES)
    line = of_share(2, 9).replace("OURS", study, 1).replace("cr_rate", "day30_mortality")
    once = learn_rows(table(tmp_path, line), first.posterior, **SIZES)
    assert any(f"though an earlier table replaced them: {name}" in note for note in once.notes)
    other = of_share(3, 9).replace("OURS", study, 1).replace("cr_rate", "day60_mortality")
    twice = learn_rows(table(tmp_path, other), once.posterior, **SIZES)
    assert any(
        f"no longer learned from: {study}.day30_mortality" in note for note in twice.notes
    ), twice.notes


def test_every_mistake_of_a_file_is_named(tmp_path, few):
    path = table(
        tmp_path, of_share(30, 20), of_share(5, 20).replace("cr_rate", "cr_rat"),
        f"OURS,{ARM},2,orr,0.25,,,READ,63,refractory",
    )  # fmt: skip
    with pytest.raises(DataError) as error:
        learn_rows(path, few, **SIZES)
    first, second, third = str(error.value).splitlines()
    assert "row 2, column numerator: 30 of 20 patients" in first
    assert "row 3, column endpoint: " in second
    assert "did you mean 'cr_rate'?" in second
    assert "row 4, column value: 0.25 is no share of 2 patients; the nearest is 0/2" in third
    with pytest.raises(DataError, match=r"no row can be learned from \(row 2: left out: from mem"):
        learn_rows(table(tmp_path, of_share(5, 20).replace("READ", "MEMORY")), few, **SIZES)


def test_draws_that_cannot_follow_are_refused_with_what_to_do(tmp_path, few):
    rows = [
        f"OURS,aml,cytarabine:{dose} mg/m2:CI:1-7;daunorubicin:60 mg/m2:IV:1-3,400,"
        f"cr_rate,,{k},400,READ,45,untreated"
        for dose, k in ((100, 4), (200, 396), (150, 4), (120, 396))
    ]
    with pytest.raises(PkpdError, match=r"Pareto k-hat is .*learn.py --full --rows FILE"):
        learn_rows(table(tmp_path, *rows), few, **SIZES)


def test_the_command_learns_tells_and_writes(tmp_path, few):
    known, out = tmp_path / "known.nc", tmp_path / "new" / "mine.nc"
    few.save(known)
    rows = (
        f"OURS,{ARM.replace('clofarabine:30', 'carboplatin:300')},20,orr,,5,20,READ,63,refractory"
    )
    asked = ["learn", str(table(tmp_path, of_share(6, 20), rows)), "--posterior", str(known)]
    got = CliRunner().invoke(app, [*asked, "--out", str(out), "--patients", "32", "--jobs", "1"])
    assert got.exit_code == 0, got.output
    assert "learned from 2 rows of OURS" in got.output
    assert "6/20" in got.output
    assert " of 150 draws" in got.output  # no terminal is there, and minutes pass
    assert "carboplatin has no number among the parameters that were learned" in got.output
    assert "has no line" not in got.output
    made = load_posterior(out)
    assert made.studies == (*few.studies, "OURS")
    (change,) = made.record["reweighted"]
    digits = hashlib.sha256((tmp_path / "own.csv").read_bytes()).hexdigest()
    assert (change["file"], change["sha256"], change["patients"]) == ("own.csv", digits, 32)
    (tmp_path / "file").write_text("")
    bad = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "file" / "mine.nc")])
    assert bad.exit_code == 2
    assert "cannot be written" in bad.output


def test_workers_of_a_cluster_learn_the_same(tmp_path, few, monkeypatch):
    cloudpickle = pytest.importorskip("cloudpickle")
    asked, steps = [], []

    class Packed(Workers):
        def __init__(self):
            pass

        def in_turn(self, function, items):
            there = cloudpickle.dumps(function)  # as it travels
            yield from (cloudpickle.loads(there)(item) for item in items)

    @contextmanager
    def of_address(address, processes):
        asked.append((address, processes))
        yield Packed() if address else None

    monkeypatch.setattr(own_rows, "workers", of_address)
    path = table(tmp_path, of_share(9, 20))
    alone = learn_rows(path, few, **SIZES)
    spread = learn_rows(
        path, few, **SIZES, cluster="tcp://host:8786", on_progress=lambda *step: steps.append(step)
    )
    assert asked == [(None, 2), ("tcp://host:8786", 2)]
    assert spread.lines() == alone.lines()
    np.testing.assert_array_equal(spread.posterior.weights, alone.posterior.weights)
    number = few.weights.size
    assert steps[-1] == (number, number)
    assert steps == sorted(steps)


def test_a_plan_has_a_power_before_each_round_but_the_first():
    with pytest.raises(PkpdError, match="1 powers for 3 rounds; allowed: 2 powers"):
        LearningPlan("mine", rounds=(25, 25, 25), powers=(1.0,))


@pytest.mark.slow
def test_draws_with_few_who_have_a_day_are_simulated_in_more_patients(tmp_path, few):
    """Days of responders where responses are rare: such draws had no weight, whatever they say."""
    days = f"OURS,{ARM},9,anc500_recovery_day_median,29,,,READ,63,refractory"
    found = learn_rows(table(tmp_path, days), few, **SIZES)
    said = found.posterior.by_study[..., -1]
    lost = int(np.isneginf(said).sum())
    assert lost < 0.05 * said.size
    assert any(f"{lost} of 150 draws show too few" in note for note in found.notes) == (lost > 0)
    counts = EvidenceLikelihood(refined(load_evidence(table(tmp_path, days))))
    run = MarrowSimulator(counts.arms, 32, 5, few.variant, threads=1, steps_per_day=4)
    totals = [counts.evaluate(t, run(t)).total for t in thetas_of(few)[:25]]
    assert np.isneginf(totals).sum() > 2  # with these patients alone


def test_a_row_may_replace_one_of_its_own_study(tmp_path, few):
    name = next(t for t in few.terms if "+" not in t and t.endswith(".cr_rate"))
    study = name.split(".")[0]
    head = f"{HEAD},replaces"
    row = f"{of_share(5, 20).replace('OURS', study, 1)},{name}"
    found = learn_rows(table(tmp_path, row, head=head), few, **SIZES)
    assert [one.row.numerator for one in found.rows] == [5]
    assert found.posterior.studies.count(study) == 1
    assert found.posterior.terms.count(name) <= 1
    assert any(f"in place of what was learned of {study} before" in note for note in found.notes)


def test_names_of_ones_own_do_not_hide_the_study(tmp_path, few):
    head = f"id,{HEAD}"
    once = learn_rows(table(tmp_path, f"r1,{of_share(5, 20)}", head=head), few, **SIZES).posterior
    twice = learn_rows(table(tmp_path, f"r1,{of_share(5, 20)}", head=head), once, **SIZES).posterior
    assert once.terms[-1] == twice.terms[-1] == "OURS.r1"
    assert len(once.terms) == len(twice.terms) == len(few.terms) + 1


def test_what_cannot_be_is_refused(tmp_path, few):
    dead = f"OURS,{ARM},20,day30_mortality,,16,20,READ,63,refractory"
    with pytest.raises(DataError, match=r"row 3, column numerator: 5 with a response \(row 2\)"):
        learn_rows(table(tmp_path, of_share(5, 20), dead), few, **SIZES)
    semicolons = table(tmp_path, "x", head=HEAD.replace(",", ";"))
    with pytest.raises(DataError, match="parted by semicolons or tabs; save it with commas"):
        learn_rows(semicolons, few, **SIZES)
    rows = table(tmp_path, of_share(5, 20))
    got = CliRunner().invoke(app, ["learn", str(rows), "--out", str(rows)])
    assert got.exit_code == 2
    assert "allowed: a name in .nc" in got.output
    assert rows.read_text().startswith("study,")


def test_a_line_of_treatment_that_changes_nothing_is_said(tmp_path, few):
    row = "OURS,solid,clofarabine:2 mg/m2:IV1h:1-5,20,g4_neutropenia,,3,20,READ,63,refractory"
    found = learn_rows(table(tmp_path, row), few, **SIZES)
    assert any("row 2: population solid has no line 'refractory'" in note for note in found.notes)


@pytest.mark.parametrize(
    ("population", "line"),
    [("aml_rr", "untreated"), ("aml_rr", "in remission"), ("aml", "relapsed or refractory")],
)
def test_a_line_that_no_patient_of_a_population_has_is_said(tmp_path, few, population, line):
    row = of_share(5, 20, line).replace("aml_rr", population)
    found = learn_rows(table(tmp_path, row), few, **SIZES)
    told = f"row 2: population {population} has no line {line!r}"
    assert any(told in note for note in found.notes)


def test_published_rows_have_lines_that_their_populations_have():
    folder = evidence_folder()
    for name in ("outcomes", "new_outcomes", "unseen_outcomes", "later_outcomes"):
        for row in load_evidence(folder / f"{name}.csv"):
            assert own_rows._has_line(row), f"{name}.csv, row {row.line}"


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ("cr_rate", "orr"),
        ("cri_rate", "cr_cri_rate"),
        ("g4_neutropenia", "g34_neutropenia"),
        ("g4_neutropenia", "g4_cytopenia"),
        ("g4_thrombocytopenia", "g4_cytopenia"),
        ("g34_febrile_neutropenia", "febrile_neutropenia"),
        ("day30_mortality", "day60_mortality"),
    ],
)
def test_more_patients_of_a_part_than_of_the_whole_are_refused(tmp_path, few, inner, outer):
    rows = [
        of_share(events, 20).replace("cr_rate", name) for name, events in ((outer, 4), (inner, 7))
    ]
    told = rf"row 3, column numerator: 7 of 20 are more than the 4 of {outer} in row 2"
    with pytest.raises(DataError, match=told):
        learn_rows(table(tmp_path, *rows), few, **SIZES)


@pytest.mark.parametrize("study", ["LEN+MEC", "OURS"])
def test_a_study_is_replaced_whatever_its_name_has(tmp_path, few, study):
    """Names of terms are joined by a plus; those of LEN+MEC were kept beside the new ones."""
    others = learn_rows(
        table(tmp_path, of_share(5, 20).replace("OURS", f"{study}.B", 1)), few, **SIZES
    )
    mine = table(tmp_path, of_share(5, 20).replace("OURS", study, 1))
    once = learn_rows(mine, others.posterior, **SIZES).posterior
    twice = learn_rows(mine, once, **SIZES).posterior
    added = (f"{study}.B.cr_rate", f"{study}.cr_rate")
    assert once.terms == twice.terms == (*few.terms, *added)
    assert once.record["rows"] == twice.record["rows"] == few.record["rows"] + 2


def own(folder, line, head=HEAD):
    (row,) = load_evidence(table(folder, line, head=head))
    return row


def test_counts_and_ratios_are_printed_with_their_figures(tmp_path):
    """Neutrophils of 0.8 were printed as 1."""
    line = "OURS,aml,none,40,baseline_anc_median,0.8,,,READ,63,untreated"
    ends = np.array([0.412, 0.834, 1.27])
    told = own_rows._beside(own_rows.OwnRow(own(tmp_path, line), 0.8, ends, ends))
    assert " ".join(told.split()[1:]) == "0.8 0.834 (0.412 to 1.27) 0.834 (0.412 to 1.27)"
    line = f"OURS,{ARM},40,anc500_recovery_day_median,27.5,,,READ,63,refractory"
    told = own_rows._beside(own_rows.OwnRow(own(tmp_path, line), 27.5, 30 * ends, 30 * ends))
    assert " ".join(told.split()[1:]) == "27.5 25.0 (12.4 to 38.1) 25.0 (12.4 to 38.1)"


def test_notes_name_enough_patients_and_every_drug(tmp_path, few):
    row = own(
        tmp_path,
        f"{of_share(300, 1025)},carboplatin:300 mg/m2:IV1h:1",
        f"{HEAD},reinduction",
    )
    drug, many = own_rows._notes(few, [row], 256)
    assert drug.startswith("carboplatin has no number among the parameters that were learned")
    assert "take patients = 257 or more" in many
    assert len(own_rows._notes(few, [row], 257)) == 1


def test_a_row_that_is_published_already_is_named_with_its_file():
    published = published_rows()
    mine = EvidenceTable((replace(published.rows[0], line=7),), "mine.csv")
    with pytest.raises(DataError, match=r"in row 2 of evidence/outcomes.csv and ") as error:
        joined(published, mine)
    assert str(error.value).startswith("mine.csv, row 7, column endpoint: ")
    assert f"name {published.rows[0].id} in replaces, or give" in str(error.value)


def test_patients_are_learned_from_once(tmp_path):
    """CR, CR + CRi, ORR and two days of death of one arm counted as if they were five trials."""
    named = [("cr_rate", 14), ("cr_cri_rate", 18), ("orr", 20), ("day30_mortality", 3),
             ("day60_mortality", 5)]  # fmt: skip
    rows = [of_share(14, 40).replace("cr_rate,,14", f"{name},,{events}") for name, events in named]
    once, told = counted_once(load_evidence(table(tmp_path, *rows)))
    kept = [(row.endpoint.name, row.numerator) for row in once if not row.unused]
    assert kept == [("cr_rate", 14), ("cri_rate", 4), ("day60_mortality", 5)]
    assert [row.unused for row in once if row.unused] == [
        "it counts patients whom row 2 counts", "it counts patients whom row 6 counts"
    ]  # fmt: skip
    assert "its 18 are the 14 of row 2 and 4 more" in told[0]
    # the three that are left exclude one another: one term, each patient in one of its parts
    likelihood = EvidenceLikelihood(refined(once))
    (term,) = likelihood.terms
    assert term.kind == "Dirichlet-multinomial"
    assert len(term.rows) == 3


@pytest.mark.parametrize(
    ("named", "left_out"),
    [
        ({"g34_neutropenia": 14, "g4_neutropenia": 8}, {3: "row 2 counts"}),
        ({"g4_thrombocytopenia": 8, "g34_thrombocytopenia": 14}, {2: "row 3 counts"}),
        ({"febrile_neutropenia": 9, "g34_febrile_neutropenia": 6}, {3: "row 2 counts"}),
        ({"g4_cytopenia": 9, "g4_neutropenia": 6}, {3: "row 2 counts"}),
        # a line each says more than any of them
        (
            {"g4_neutropenia": 6, "g4_cytopenia": 9, "g4_thrombocytopenia": 5},
            {3: "rows 2 and 4 count"},
        ),
        (
            {"g4_cytopenia": 9, "g4_neutropenia": 6, "g34_neutropenia": 11},
            {3: "row 2 counts"},
        ),
        ({"g34_neutropenia": 14, "g34_thrombocytopenia": 8, "febrile_neutropenia": 5}, {}),
    ],
)  # fmt: skip
def test_grades_within_others_are_learned_from_once(tmp_path, named, left_out):
    """Grades 3 and 4 beside grade 4 of the same 40 patients counted as two trials."""
    rows = [of_share(k, 40).replace("cr_rate", name) for name, k in named.items()]
    once, told = counted_once(load_evidence(table(tmp_path, *rows)))
    assert {row.line: row.unused for row in once if row.unused} == {
        line: f"it counts patients whom {whom}" for line, whom in left_out.items()
    }
    assert not told
    other = rows[-1].replace(",40,", ",38,")  # of others: nobody knows whether they are among them
    once, _ = counted_once(load_evidence(table(tmp_path, *rows[:-1], other)))
    assert not once.rows[-1].unused


def test_remissions_after_the_first_course_are_of_one_cycle(tmp_path):
    """With four cycles the row asked for remissions at any time, as cr_rate does."""
    row = f"OURS,{ARM},20,cr_after_c1,,4,20,READ,63,refractory,4,28"
    with pytest.raises(
        DataError, match="row 2, column cycles: the row has 4 cycles; allowed: 1 or"
    ):
        load_evidence(table(tmp_path, row, head=f"{HEAD},cycles,cycle_days"))


def test_two_cohorts_of_one_arm_are_other_patients(tmp_path):
    rows = [of_share(2, 6), of_share(5, 14)]
    once, told = counted_once(load_evidence(table(tmp_path, *rows)))
    assert not told
    assert not any(row.unused for row in once)


def test_published_rows_that_stay_beside_others_of_their_arm_are_told(tmp_path):
    """A later report of a trial, of more patients, stood beside the earlier one without a word."""
    first = load_evidence(table(tmp_path, of_share(8, 20), of_share(9, 31, "first relapse")))
    head = f"{HEAD},replaces"
    later = ("OURS," + ARM + ",44,{},,{},44,READ,61,{},{}").format
    own = load_evidence(
        table(tmp_path, later("cr_rate", 17, "refractory", ""), later("orr", 21, "", ""),
              later("day30_mortality", 3, "refractory", ""), head=head)
    )  # fmt: skip
    told = own_rows.counted_beside(own, first)
    assert [line.split(";")[0] for line in told] == [
        "row 2 (cr_rate, n = 44): the published OURS.cr_rate (cr_rate, n = 20) is of this arm, "
        "too, and both are learned from",
        *(
            f"row 3 (orr, n = 44): the published OURS.cr_rate{name} (cr_rate, n = {n}) is of this "
            "arm, too, and both are learned from"
            for name, n in (("", 20), (".2", 31))
        ),
    ]
    assert "name OURS.cr_rate in replaces if its patients are among those of the row" in told[0]


def test_an_update_of_a_published_trial_says_which_rows_it_stands_beside(tmp_path, few):
    published = published_rows()
    name = next(
        term for term in few.terms if term.endswith(".cr_rate") and "+" not in term
        and not published.row(term).reinduction and published.row(term).cycles == 1
    )  # fmt: skip
    row = published.row(name)
    n, arm = row.denominator + 9, f'{row.population.name},"{row.schedule.text}"'
    line = f"{row.study},{arm},{n},cr_rate,,{row.numerator},{n},READ,,{row.treatment_line}"
    beside = f"the published {name} (cr_rate, n = {row.denominator}) is of this arm"
    found = learn_rows(table(tmp_path, line), few, **SIZES)
    assert any(beside in note for note in found.notes), found.notes
    found = learn_rows(table(tmp_path, f"{line},{name}", head=f"{HEAD},replaces"), few, **SIZES)
    assert not any(beside in note for note in found.notes)
