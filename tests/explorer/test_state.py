"""What a browser may send: the reader of schedule files, bounds, and the working folder."""

from __future__ import annotations

import pytest

from pkpd.errors import PkpdError
from pkpd.explorer.state import (
    BadStateError,
    check_fit_names,
    first_schedules,
    opened,
    posterior_files,
    read_data,
    read_state,
    working_folder,
)
from pkpd.explorer.toml import write_toml


def problems(document, folder):
    with pytest.raises(BadStateError) as caught:
        read_state(document, folder)
    return caught.value.problems


def places(document, folder):
    return [[*p.keys, *([p.key] if p.key else [])] for p in problems(document, folder)]


def test_json_and_toml_are_the_same_state(document, folder):
    state = read_state(document, folder)
    again = read_state({**document, "data": None, "toml": write_toml(state.data)}, folder)
    assert again.trial == state.trial
    assert [c.id for c in state.trial.cohorts] == ["low", "high"]
    assert (state.marrow, state.posterior) == ("leukaemia", None)


def test_problems_are_those_of_the_reader_with_their_places(document, folder):
    document["data"]["dose"]["clofarabine"]["days"] = "five"
    document["data"]["cohort"][1]["change"]["clofarabine"]["amount"] = "ten mg"
    found = problems(document, folder)
    assert any("explored.toml: [dose.clofarabine] > days" in str(p) for p in found)
    (place,) = [p.keys for p in found if p.key == "amount"]
    assert place == ("cohort", 1, "change", "clofarabine")


def test_settings_of_the_page_are_checked_too(document, folder):
    assert places({**document, "patients": 10**9}, folder) == [["page", "patients"]]
    assert places({**document, "draws": "many"}, folder) == [["page", "draws"]]
    assert places({**document, "draws": 2.5, "patients": True}, folder) == [
        ["page", "patients"],
        ["page", "draws"],
    ]
    assert places({**document, "ensemble": "/etc/passwd"}, folder) == [["page", "ensemble"]]
    assert "1000" in str(problems({**document, "patients": 10**9}, folder)[0])


@pytest.mark.parametrize(
    "document", [None, [], "text", 3, {"toml": "x ="}, {"toml": 3}, {"data": []}]
)
def test_what_is_no_state_is_refused_in_a_sentence(document, folder):
    (problem,) = problems(document, folder)
    assert str(problem).endswith(".")


def test_a_page_shows_four_schedules_and_four_hundred_days(document, folder, data):
    data["cohort"] = [{"id": str(n)} for n in range(5)]
    assert "at most 4" in str(problems(document, folder)[0])
    data["cohort"] = [{"id": "one"}]
    data["horizon_days"] = 401
    assert places(document, folder) == [["horizon_days"]]


def test_work_is_bounded_whatever_its_parts(document, folder, data):
    data["horizon_days"] = 400
    (problem,) = problems({**document, "patients": 1000, "draws": 400}, folder)
    # 2 schedules of 400 days: 8 million lane days are 10,000 lanes
    assert "10,000 draws times patients" in str(problem)
    read_state({**document, "patients": 100, "draws": 100}, folder)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("population", "../secret.toml"),
        ("population", "/etc/passwd"),
        ("rule", "..\\secret"),
        ("grades", "/etc/x.toml"),
        ("rule", "linked.toml"),
    ],
)
def test_files_outside_the_working_folder_are_never_named(document, folder, key, name):
    (folder.parent / "secret.toml").write_text("title = 'secret'")
    (folder / "linked.toml").symlink_to(folder.parent / "secret.toml")
    document["data"][key] = name
    (problem,) = problems(document, folder)
    assert "outside of the working folder" in str(problem)
    assert "secret.toml'" not in str(problem).replace(repr(name), "")
    assert problem.key == key


def test_a_drug_outside_the_folder_is_not_read(document, folder):
    document["data"]["cohort"][0]["change"] = {"clofarabine": {"drug": "../../x.toml"}}
    (problem,) = problems(document, folder)
    assert problem.keys == ("cohort", 0, "change", "clofarabine")
    with pytest.raises(BadStateError, match="outside"):
        read_data(document, folder)


def test_files_of_the_folder_are_read(document, folder):
    from pkpd.cards import card_folder

    text = (card_folder("rules") / "leukemia_d42_generic.toml").read_text()
    (folder / "mine.toml").write_text(text.replace("by_day = 42", "by_day = 40"))
    document["data"]["rule"] = "mine.toml"
    assert "by_day = 40" in (folder / "mine.toml").read_text()
    assert read_state(document, folder).trial.rule == "mine.toml"


def test_deep_tables_are_refused(document, folder):
    deep: dict = {}
    for _ in range(400):
        deep = {"a": deep}
    document["data"]["dose"] = deep
    assert "too deep" in str(problems(document, folder)[0])
    (problem,) = problems({"toml": "a = " + "[" * 3000}, folder)
    assert str(problem).startswith("explored.toml")


def test_posteriors_are_files_of_the_folder_itself_and_fits_have_names(document, folder):
    (folder / "mine.nc").write_bytes(b"")
    (folder / "link.nc").symlink_to(folder.parent)
    assert posterior_files(folder) == ("mine.nc",)
    state = read_state({**document, "ensemble": "mine.nc"}, folder)
    assert (state.marrow, state.posterior) == ("leukaemia", folder / "mine.nc")
    fit = object()
    named = read_state({**document, "ensemble": "own"}, folder, {"own": fit})
    assert (named.marrow, named.posterior) == (None, fit)


@pytest.mark.parametrize("name", ["learned", "cards", "mine.nc"])
def test_a_fit_has_no_name_of_another_source(name):
    """Half of a state took "learned" for the fit, the other half for the shipped posterior."""
    with pytest.raises(PkpdError, match=rf"fits, {name}: .* give the fit another name"):
        check_fit_names(["mine", name])


def test_a_page_begins_with_a_file_a_trial_or_the_example(folder):
    assert opened(None, folder)["cohort"][0]["id"] == "10 mg"
    by_number = opened("NCT01681537", folder)
    assert by_number["id"] == "nct01681537_len_mec"
    assert "question" not in by_number
    with pytest.raises(PkpdError, match="scenario, not a file of schedules"):
        opened("five_trials", folder)
    with pytest.raises(PkpdError, match="there is no card"):
        opened("no_such_trial", folder)


def test_a_page_begins_with_all_schedules_of_a_file_or_with_two_of_many(data):
    rows = data["cohort"]
    for number, shown in ((0, 1), (1, 1), (3, 3), (4, 4), (5, 2), (16, 2)):
        data["cohort"] = [{**rows[0], "id": str(n)} for n in range(number)]
        assert first_schedules(data) == shown
    del data["cohort"]
    assert first_schedules(data) == 1


def test_courses_named_by_numbers_keep_their_order_in_a_browser(document, folder, data):
    course = data["course"].pop("induction")
    data["course"] = {"2": course, "1": {**course, "cycles": 2}}
    data["cohort"][1]["courses"] = ["1"]
    page = read_data({"data": data}, folder)
    page["course"] = dict(sorted(page["course"].items()))  # as JavaScript has them
    told = [read_state({"data": d}, folder).trial.cohorts for d in (data, page)]
    for before, now in zip(*told, strict=True):
        assert before.regimen == now.regimen
    (folder / "mine.toml").write_text(write_toml(data))
    assert opened(str(folder / "mine.toml"), folder)["cohort"][0]["courses"] == ["2", "1"]


def test_the_working_folder_is_that_of_the_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert working_folder(None) == folder
    assert working_folder(str(folder.parent / "mine.toml")) == folder.parent
    assert working_folder("nct01681537_len_mec") == folder


def test_fits_of_one_name_are_sources_of_their_own(document, folder):
    """A fit that is made again under its name must not be answered by what the first came to."""

    def asked(fit):
        return read_state({**document, "ensemble": "mine"}, folder, {"mine": fit})

    first, again = object(), object()
    assert asked(first).source == asked(first).source
    assert hash(asked(first).drawn) == hash(asked(first).drawn)
    assert asked(first).source != asked(again).source
    assert asked(first).drawn != asked(again).drawn
