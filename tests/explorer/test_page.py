"""The page in a real Chromium: pictures, controls, mistakes, address, files, a stopped server."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

import pkpd
from pkpd.explorer.toml import write_toml
from tests.explorer.conftest import DATA

pytest.importorskip("starlette")
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SHOWN_MS = 300_000
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 400, "height": 800}
NAME_OF_FOCUS = """document.activeElement.getAttribute("aria-label")
  || document.activeElement.textContent.trim().slice(0, 40)"""
COUNTS = "#counts figure > svg"
DOSE = "Dose of clofarabine in schedule 1, slider"


def started(folder: Path, port: int = 0) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "pkpd", "explore", "two.toml", "--no-browser"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(pkpd.__file__).parents[1])},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
    assert found is not None
    return process, found.group()


def stopped(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SHOWN_MS / 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "two.toml").write_text(write_toml(DATA))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    process, address = started(folder)
    yield address
    stopped(process)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=SHOWN_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport=WIDE, accept_downloads=True)
    context.set_default_timeout(SHOWN_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    page.goto(address)
    settled(page)
    yield page
    context.close()
    assert not wrong


def settled(page) -> None:
    """Wait until the picture, and the address, are those of the controls."""
    page.wait_for_selector("html[data-shown]", timeout=SHOWN_MS)
    page.wait_for_function(
        "() => document.getElementById('pictures').getAttribute('aria-busy') === 'false'"
        " && document.documentElement.dataset.address === 'whole'",
        timeout=SHOWN_MS,
    )


def in_address(page) -> dict:
    """Schedule file that the address bar holds."""
    return tomllib.loads(parse_qs(urlsplit(page.url).fragment)["toml"][0])


def slide(page, label: str, value: str) -> None:
    slider = page.get_by_label(label, exact=True)
    slider.evaluate(
        "(s, v) => { s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )


def move(page, label: str, value: str) -> None:
    slide(page, label, value)
    settled(page)


@pytest.mark.slow
def test_every_picture_has_its_sentence_its_table_and_words(page):
    for name, drawings in {
        "counts": 2,
        "recovery": 2,
        "split": 2,
        "dlt": 1,
        "differences": 1,
    }.items():
        section = page.locator(f"#{name}")
        assert section.locator("figure > svg").count() == drawings
        assert len(section.locator("p.said").text_content()) > 40
        section.locator("summary").click()
        assert section.locator("table tbody tr").count() >= 1
        for svg in section.locator("figure > svg").all():
            assert svg.get_attribute("role") == "img"
            assert len(svg.locator("> desc").text_content()) > 20
    assert "2/6 = 33 %" in page.locator("#dlt").text_content()
    page.locator("#assumed summary").click()
    assert page.locator("#assumed li").count() > 10


@pytest.mark.slow
def test_a_slider_moves_pictures_table_address_and_python(page):
    before = page.locator(COUNTS).first.inner_html()
    move(page, DOSE, "35")
    assert page.get_by_label("Dose", exact=True).first.input_value() == "35 mg/m^2"
    assert page.locator(COUNTS).first.inner_html() != before
    assert in_address(page)["cohort"][0]["change"]["clofarabine"]["amount"] == "35 mg/m^2"
    assert 'amount = "35 mg/m^2"' in page.locator("#python").text_content()
    counts = page.locator("#counts p.said").text_content()
    page.reload()
    settled(page)
    assert page.locator("#counts p.said").text_content() == counts
    assert page.get_by_label("Dose", exact=True).first.input_value() == "35 mg/m^2"


@pytest.mark.slow
def test_curves_of_some_draws_come_first_and_go(page):
    """They are said to be that, until the figures are there."""
    page.evaluate(
        """() => {
          window.told = [];
          const note = document.getElementById("sketched");
          const look = () => window.told.push([
            note.hidden ? "" : note.textContent,
            document.querySelector("#counts p.said").textContent,
            document.querySelector("#counts figure > svg").innerHTML,
          ]);
          new MutationObserver(look).observe(document.documentElement, { attributes: true });
        }"""
    )
    move(page, DOSE, "31")
    told = page.evaluate("window.told")
    assert told[0][0] == "Curves of 5 of 21 draws; figures and words follow."
    assert told[-1][0] == ""
    assert told[0][1] != told[-1][1]
    assert told[0][2] != told[-1][2]
    assert page.locator("#sketched").is_hidden()
    assert page.locator("#pictures.sketch").count() == 0


@pytest.mark.slow
def test_figures_that_are_wanted_no_more_are_not_waited_for(page):
    """While they are worked out the slider moves on: the curves of its new place come."""
    held = []

    def held_once(route):
        if held or route.request.post_data_json["sketch"]:
            route.continue_()
        else:
            held.append(route)  # never answered

    page.route("**/api/simulate", held_once)
    with page.expect_request(lambda asked: '"sketch":false' in (asked.post_data or "")):
        slide(page, DOSE, "32")
    move(page, DOSE, "33")
    assert len(held) == 1
    assert in_address(page)["cohort"][0]["change"]["clofarabine"]["amount"] == "33 mg/m^2"


@pytest.mark.slow
def test_patients_rule_and_ensemble_are_set(page):
    move(page, "Median creatinine clearance, mL/min, slider", "40")
    move(page, "By day, slider", "50")
    move(page, "Platelets recovered at, 10⁹/L, slider", "60")
    held = in_address(page)
    assert held["patients"] == {"median_creatinine_clearance_mL_min": 40}
    assert held["rule_change"]["by_day"] == 50
    assert held["rule_change"]["recovered"]["platelets"] == 60
    assert "creatinine clearance 40 mL/min" in page.locator("#simulated").text_content()
    assert "platelets >= 60" in page.locator("#recovery").text_content()
    for label in ("By day", "Platelets recovered at, 10⁹/L"):
        page.get_by_label(label, exact=True).fill("")
        settled(page)
    assert not {"rule_change", "rule_is_protocols"} & set(in_address(page))
    page.get_by_label("Parameters").select_option("cards")
    settled(page)
    assert "--marrow friberg" in page.locator("#command").text_content()
    page.get_by_label("Population").select_option("mds_lower_risk")
    settled(page)
    assert "patients" not in in_address(page)


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        pytest.param("Dose", "ten mg", "does not begin with a number", marks=pytest.mark.slow),
        pytest.param("Patients", "1000000000", "at most 1000", marks=pytest.mark.slow),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                ("Days", "", "days"),
                ("Dose", "20 g/m^2", "times the usual dose"),
                ("Draws", "many", "whole number"),
                ("Days simulated", "20", "days end before"),
            )
        ),
    ],
)
def test_a_mistake_is_told_beside_its_control(page, label, value, words):
    control = page.locator("input").and_(page.get_by_label(label, exact=True)).first
    before = control.input_value()
    control.fill(value)
    page.wait_for_function("() => document.querySelector('[aria-invalid=true]')", timeout=SHOWN_MS)
    beside = page.locator(f"#{control.get_attribute('aria-describedby')}")
    assert words in beside.text_content()
    assert beside.text_content().endswith(".")
    assert control.get_attribute("aria-invalid") == "true"
    page.locator("#get-python").click()  # not that of what was set before
    assert "cannot be simulated" in page.locator("#files-said").text_content()
    assert page.locator(COUNTS).count() == 2  # those before, not a blank
    control.fill(before)
    page.wait_for_function("() => !document.querySelector('[aria-invalid=true]')", timeout=SHOWN_MS)
    assert beside.text_content() == ""


@pytest.mark.slow
def test_schedules_drugs_courses_gates_and_reductions_are_built(page):
    page.get_by_role("button", name="Add a schedule").click()
    settled(page)
    assert page.locator(COUNTS).count() == 3
    third = page.locator("details.of-schedule").nth(2)
    third.get_by_label("Add a drug").select_option("lenalidomide")
    settled(page)
    third.get_by_label("Days", exact=True).last.fill("1-10")
    third.get_by_label("Cycles").fill("2")
    third.locator("summary", has_text="each further cycle").click()
    third.get_by_label("Neutrophils, 10⁹/L").last.fill("1.0")
    third.locator("summary", has_text="Holds and reductions").click()
    third.get_by_label("Hold and reduce").select_option("lenalidomide")
    settled(page)
    words = page.locator("#schedule-words").text_content()
    assert "lenalidomide 25 mg by mouth on days 1-10" in words
    assert "2 cycles of 28 days" in words
    assert "neutrophils >= 1" in words
    third.get_by_role("button", name="Add a course to schedule 3").click()
    settled(page)
    assert page.locator("#problems").is_hidden()
    assert len(in_address(page)["cohort"][2]["courses"]) == 2
    page.get_by_role("button", name="Remove schedule 3").click()
    settled(page)
    assert page.locator(COUNTS).count() == 2
    assert [c["id"] for c in in_address(page)["cohort"]] == ["low", "high"]


@pytest.mark.slow
def test_each_schedule_is_drawn_at_the_counts_of_its_own_rule(page, tmp_path):
    low, high = DATA["cohort"]
    mine = tmp_path / "rules.toml"
    rows = [low, {**high, "rule": "clara_dnx_2018"}]
    mine.write_text(write_toml({**DATA, "title": "Two rules", "cohort": rows}))
    page.locator("#open").set_input_files(mine)
    page.wait_for_function("() => document.getElementById('title').textContent === 'Two rules'")
    settled(page)
    told = page.locator("#recovery figure > svg > desc").all_text_contents()
    assert ["20 mg/m2: " in text for text in told] == [True, False, True, False]
    assert ["40 mg/m2: " in text for text in told] == [False, True, False, True]
    lines = [svg.locator("line[stroke-dasharray='5 4']") for svg in page.locator(COUNTS).all()]
    heights = [[float(one.get_attribute("y1")) for one in each.all()] for each in lines]
    for of_low, of_high in zip(*heights, strict=True):
        assert of_high < of_low - 5  # a higher count stands higher, on the same axis


@pytest.mark.slow
def test_what_was_published_is_of_the_schedule_as_it_was_read(page):
    """It goes with a change of what is given, to whom, or of the rule, and comes back with them."""
    high = "Dose of clofarabine in schedule 2, slider"
    risk, name = page.locator("#dlt"), page.get_by_label("Name", exact=True).nth(1)
    assert "2/6 = 33 %" in risk.text_content()
    move(page, high, "50")
    assert "2/6" not in risk.text_content()
    low, changed = in_address(page)["cohort"]
    assert "published" not in changed
    assert (low["label"], changed["label"]) == ("20 mg/m2", "40 mg/m2 (changed)")
    assert name.input_value() == "40 mg/m2 (changed)"
    assert page.locator("#part-schedule-1 > summary").text_content().endswith("(changed)")
    move(page, high, "40")
    assert "2/6 = 33 %" in risk.text_content()
    assert name.input_value() == in_address(page)["cohort"][1]["label"] == "40 mg/m2"
    for label, value in (("By day", "50"), ("Median age, years", "70")):
        move(page, f"{label}, slider", value)
        assert "2/6" not in risk.text_content()
        page.get_by_label(label, exact=True).fill("")
        settled(page)
        assert "2/6 = 33 %" in risk.text_content()
    name.fill("mine")
    move(page, high, "50")
    assert in_address(page)["cohort"][1]["label"] == "mine"


@pytest.mark.slow
def test_figures_of_another_event_go_with_the_rule_and_others_stay(page):
    one = {"numerator": 1, "denominator": 4, "source": "s", "status": "assumed"}
    data = {
        "rule": "a",
        "published": [{**one, "endpoint": "cr_rate"}],
        "course": {"first": {"doses": ["x"], "gate": "g"}},
        "gate": {"g": {"neutrophils": 1}},
        "dose": {"x": {"amount": "1 mg"}},
        "cohort": [
            {"id": "a", "n": 4, "published": [{**one, "endpoint": e} for e in ("dlt_x", "cr_rate")]}
        ],
    }
    found = page.evaluate(
        """async (data) => {
          const state = await import("./static/state.js");
          state.take(data, 4, 1);
          const { doc } = state;
          const seen = () => {
            state.settle();
            const [cohort] = state.cohorts();
            const kept = (cohort.published ?? []).map((p) => p.endpoint);
            return [kept, cohort.n ?? null, "published" in doc.data, cohort.label ?? null];
          };
          const told = [seen()];
          doc.data.rule = "b";
          told.push(seen());
          doc.data.rule = "a";
          doc.data.gate.g.neutrophils = 2; // of the file, which the schedule names
          told.push(seen());
          doc.data.gate.g.neutrophils = 1;
          told.push(seen());
          return told;
        }""",
        data,
    )
    assert found == [
        [["dlt_x", "cr_rate"], 4, True, None],
        [["cr_rate"], 4, False, None],
        [[], None, False, "a (changed)"],
        [["dlt_x", "cr_rate"], 4, True, None],
    ]


@pytest.mark.slow
def test_schedules_of_a_file_that_are_not_shown_are_named(page, tmp_path):
    rows = [{**DATA["cohort"][0], "id": str(n), "label": f"number {n}"} for n in range(1, 7)]
    mine = tmp_path / "six.toml"
    mine.write_text(write_toml({**DATA, "title": "Six", "cohort": rows}))
    page.locator("#open").set_input_files(mine)
    page.wait_for_function("() => document.getElementById('title').textContent === 'Six'")
    settled(page)
    assert page.locator(COUNTS).count() == 4
    said = page.locator("#not-shown")
    assert said.text_content().startswith("Also in the file: number 5; number 6 (a page shows 4")
    page.get_by_role("button", name="Remove schedule 1").click()
    assert "number 1; number 5; number 6 (Add a schedule brings the first" in said.text_content()
    page.get_by_role("button", name="Add a schedule").click()
    settled(page)
    assert [c["id"] for c in in_address(page)["cohort"]] == ["2", "3", "4", "1"]


@pytest.mark.slow
def test_what_is_removed_or_hidden_leaves_the_others_their_own(page):
    """As the page's controls change its file."""
    data = {
        **DATA,
        "dose": {
            **DATA["dose"],
            "lenalidomide": {"amount": "10 mg", "days": "1-10", "route": "oral"},
        },
        "modification": {"held": {"drug": "lenalidomide", "hold_below": {"neutrophils": 0.5}}},
        "course": {
            "first": {"doses": ["clofarabine", "lenalidomide"], "modifications": ["held"]},
            "then": {"doses": ["clofarabine"]},
        },
        "cohort": [
            {
                "id": n,
                "rule": "a",
                "change": {"clofarabine": {"amount": "9 mg/m^2"}, "lenalidomide": {"days": "1-5"}},
            }
            for n in ("shown", "hidden")
        ],
    }
    found = page.evaluate(
        """async (data) => {
          const state = await import("./static/state.js");
          state.take(data, 4, 1);
          const [shown] = state.cohorts();
          state.addDrug(shown, "then", { name: "cytarabine", unit: "mg/m^2", routes: ["iv"] });
          state.removeDrug(shown, "then", "cytarabine");
          const added = "cytarabine" in state.doc.data.dose;
          state.removeDrug(shown, "first", "clofarabine");
          const other = state.effective(shown, "dose", "clofarabine").amount;
          state.addDrug(shown, "first", { name: "cytarabine", unit: "mg/m^2", routes: ["iv"] });
          state.removeDrug(shown, "first", "lenalidomide");
          const held = state.effective(shown, "course", "first").modifications;
          state.addCourse(shown);
          state.removeCourse(shown, "then");
          state.removeCourse(shown, "course");
          shown.courses.push("misspelt");
          state.removeCourse(shown, "misspelt");
          const courses = Object.keys(state.doc.data.course);
          return { added, other, held, shown, courses, hidden: state.hidden()[0] };
        }""",
        data,
    )
    assert not found["added"]
    assert found["other"] == "9 mg/m^2"  # another course gives it
    assert found["held"] == []
    assert found["courses"] == ["first", "then"]  # the added one was of no other schedule
    assert found["hidden"] == {**data["cohort"][1], "courses": ["first", "then"]}
    assert found["shown"]["courses"] == ["first"]
    assert set(found["shown"]["change"]) == {"first"}


@pytest.mark.slow
def test_a_hold_that_two_schedules_share_is_changed_in_one(page):
    data = {
        "modification": {"held": {"drug": "x", "hold_below": {"neutrophils": 0.5}}},
        "course": {"first": {"doses": ["x"], "modifications": ["held"]}},
        "cohort": [{"id": "a"}, {"id": "b"}],
    }
    found = page.evaluate(
        """async (data) => {
          const state = await import("./static/state.js");
          state.take(data, 4, 1);
          const [shown] = state.cohorts();
          const own = state.ownModification(shown, "held");
          const held = (c) => state.effective(c, "course", "first").modifications;
          const names = [held(shown), held(state.hidden()[0])];
          const made = own in state.doc.data.modification;
          return [own, state.ownModification(shown, own), names, made];
        }""",
        data,
    )
    assert found == ["held_a", "held_a", [["held_a"], ["held"]], True]


@pytest.mark.slow
def test_what_was_seen_stays_with_its_schedule(page):
    page.locator("#design-fold > summary").click()
    page.get_by_label("40 mg/m2: patients judged").fill("3")
    page.locator("#design-next", has_text="40 mg/m2").wait_for(timeout=SHOWN_MS)
    page.get_by_role("button", name="Remove schedule 1").click()
    settled(page)
    page.get_by_label("20 mg/m2: patients judged").wait_for(state="detached")
    assert page.get_by_label("40 mg/m2: patients judged").input_value() == "3"


@pytest.mark.slow
def test_a_slider_through_days_comes_back_after_a_mistake(page):
    page.locator("#patient-fold > summary").click()
    for text in ("DAY,ANC\n4,1.1\n8,0.6\n", "DAY,ANC\n4,1.1\n8,0.6x\n", "DAY,ANC\n4,1.1\n8,0.6\n"):
        page.locator("#patient textarea").fill(text)
        if "x" in text:
            page.locator("#patient .wrong", has_text="not a number").wait_for(timeout=SHOWN_MS)
        else:
            page.locator("#patient-until").wait_for(timeout=SHOWN_MS)


@pytest.mark.slow
def test_a_schedule_without_doses_is_refused_in_words(page, address):
    data = {**DATA, "course": {"induction": {"doses": [], "cycle_days": 28}}}
    page.goto(f"{address}#toml={quote(write_toml(data))}")
    page.wait_for_function(
        "() => document.querySelector('#problems p, .wrong:not(:empty)')", timeout=SHOWN_MS
    )
    told = " ".join(page.locator("#problems, .wrong").all_text_contents())
    assert "dose" in told


@pytest.mark.parametrize(
    "toml",
    [
        pytest.param("title = ", marks=pytest.mark.slow),
        *(pytest.param(toml, marks=pytest.mark.long) for toml in ("x", "a = 1")),
        pytest.param('[dose.x]\namount = "../../etc"', marks=pytest.mark.slow),
    ],
)
def test_an_address_edited_by_hand_is_told_in_words(page, address, toml):
    page.goto("about:blank")
    page.goto(f"{address}#patients=9&toml={quote(toml)}")
    page.wait_for_function(
        "() => document.querySelector('#problems p, .wrong:not(:empty)')", timeout=SHOWN_MS
    )
    told = " ".join(page.locator("#problems, .wrong").all_text_contents())
    assert "explored.toml" in told


@pytest.mark.long  # test_server asks the same of the server
def test_one_patient_is_forecast_day_by_day(page):
    page.locator("#patient-fold > summary").click()
    page.locator("#patient textarea").fill("DAY,ANC,PLT\n4,1.1,74\n8,0.6,45\n11,0.3,24\n")
    page.locator("#patient-said", has_text="of 100 such patients").wait_for(timeout=SHOWN_MS)
    page.locator("#patient-shown[data-until='11'] svg").wait_for(timeout=SHOWN_MS)
    first = page.locator("#patient-said").text_content()
    page.locator("#patient-until").focus()
    page.keyboard.press("ArrowLeft")
    page.locator("#patient-shown[data-until='8'] svg").wait_for(timeout=SHOWN_MS)
    assert page.locator("#patient-said").text_content() != first
    # the last counts are hollow: the forecast does not know them
    assert page.locator("#patient-shown circle[fill='#fff']").count() == 2
    assert "ANC" not in page.url
    with page.expect_download() as caught:
        page.locator("#get-patient-csv").click()
    assert "recovery_day" in Path(caught.value.path()).read_text()
    page.locator("#patient textarea").fill("DAY,ANC\n4,many\n")
    page.locator("#patient .wrong", has_text="'many' is not a number").wait_for(timeout=SHOWN_MS)
    page.locator("#patient-example").click()  # counts that were pasted are not thrown away
    assert "Counts are there already" in page.locator("#patient-said").text_content()
    page.locator("#patient textarea").fill("")
    page.locator("#patient-example").click()
    page.locator("#patient-shown[data-until='15'] svg").wait_for(timeout=SHOWN_MS)


@pytest.mark.long  # test_server asks the same of the server
def test_concentrations_follow_the_schedules_while_their_fold_is_open(page):
    asked = []
    page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/api/exposure") else None)
    move(page, DOSE, "25")
    assert not asked
    page.locator("#exposure-fold > summary").click()
    page.locator("#exposure-said", has_text="first cycle with the drug").wait_for(timeout=SHOWN_MS)
    assert page.locator("#exposure-shown figure > svg").count() == 2
    words = page.locator("#exposure-shown desc").first.text_content()
    move(page, DOSE, "10")
    page.wait_for_function(
        "(words) => document.querySelector('#exposure-shown desc').textContent !== words",
        arg=words,
        timeout=SHOWN_MS,
    )
    assert page.locator("#exposure table").first.locator("tbody tr").count() >= 8
    answer = '{"errors": [{"text": "server: busy."}]}'
    page.route("**/api/exposure", lambda route: route.fulfill(status=200, body=answer))
    move(page, DOSE, "20")
    page.locator("#exposure-shown.old").wait_for(timeout=SHOWN_MS)
    said = page.locator("#exposure-said").text_content()
    assert said == "The pictures are those before the last change. server: busy."


@pytest.mark.slow
def test_a_rule_that_a_file_changes_is_its_own_again_where_a_further_change_is_cleared(page):
    page.evaluate(
        """async () => {
          const state = await import("/static/state.js");
          const controls = await import("/static/controls.js");
          state.doc.data.rule_change = { by_day: 50 };
          controls.build();
        }"""
    )
    move(page, "Platelets recovered at, 10⁹/L, slider", "60")
    assert in_address(page)["rule_is_protocols"] is False
    page.get_by_label("Platelets recovered at, 10⁹/L", exact=True).fill("")
    settled(page)
    held = in_address(page)
    assert held["rule_change"] == {"by_day": 50}
    assert "rule_is_protocols" not in held
    page.get_by_label("By day", exact=True).fill("")
    settled(page)
    assert in_address(page)["rule_is_protocols"] is False


@pytest.mark.long
def test_visits_of_a_file_come_back_with_its_days(page):
    page.evaluate(
        """async () => {
          const state = await import("/static/state.js");
          const controls = await import("/static/controls.js");
          state.doc.data.visit_days = "1, 8";
          controls.build();
        }"""
    )
    days = page.get_by_label("Days simulated", exact=True)
    own = days.input_value()
    for given, visits in ((str(int(own) - 1), None), (own, "1, 8")):
        days.fill(given)
        settled(page)
        assert in_address(page).get("visit_days") == visits
        told = page.get_by_text("Visits are twice a week: those of the file need")
        assert told.count() == (visits is None)


@pytest.mark.long
def test_visits_of_a_file_without_days_stay(page):
    page.evaluate(
        """async () => {
          const state = await import("/static/state.js");
          const controls = await import("/static/controls.js");
          state.doc.data.visit_days = "1, 8";
          delete state.doc.data.horizon_days;
          controls.build();
        }"""
    )
    page.get_by_label("Days simulated", exact=True).fill("60")
    settled(page)
    assert in_address(page).get("visit_days") == "1, 8"
    assert page.get_by_text("undefined").count() == 0


@pytest.mark.slow
def test_a_trial_of_the_schedules_has_a_next_dose(page):
    page.locator("#design-fold > summary").click()
    page.locator("#design-next", has_text="start at 20 mg/m2").wait_for(timeout=SHOWN_MS)
    page.get_by_label("20 mg/m2: patients judged").fill("3")
    page.locator("#design-next", has_text="escalate to 40 mg/m2").wait_for(timeout=SHOWN_MS)
    assert page.locator("#design table tbody tr").count() == 3
    page.get_by_label("20 mg/m2: with a DLT").fill("many")
    page.locator("#design .wrong", has_text="dlts").wait_for(timeout=SHOWN_MS)
    page.get_by_label("20 mg/m2: with a DLT").fill("2")
    page.locator("#design-next", has_text="no dose is selected").wait_for(timeout=SHOWN_MS)
    page.get_by_label("Design", exact=True).select_option("BOIN")
    page.get_by_label("Target risk").fill("0.3")
    page.locator("#design-heading", has_text="BOIN").wait_for(timeout=SHOWN_MS)


@pytest.mark.slow
def test_files_are_those_of_the_state(page, folder):
    move(page, DOSE, "25")
    saved = {}
    for name in (
        "Schedule file (TOML)",
        "Figures (CSV)",
        "Python",
        "PNG of Counts, 20 mg/m2 (changed)",
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).first.click()
        saved[name] = Path(download.value.path()).read_bytes()
    toml, csv, python, png = saved.values()
    assert tomllib.loads(toml.decode()) == in_address(page)
    assert csv.startswith(b"trial,cohort,label,endpoint")
    compile(python, "explored.py", "exec")
    assert png.startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG of Counts, 20 mg/m2 (changed)").click()
    svg = Path(download.value.path()).read_text()
    assert svg.startswith("<?xml")
    assert "<title" in svg
    assert sorted(p.name for p in folder.iterdir()) == ["two.toml"]  # nothing is written there


@pytest.mark.slow
def test_files_are_opened_and_large_ones_refused(page, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(write_toml({**DATA, "title": "Opened from a file"}))
    page.locator("#open").set_input_files(mine)
    page.wait_for_function(
        "() => document.getElementById('title').textContent === 'Opened from a file'"
    )
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    page.locator("#open").set_input_files(large)
    page.wait_for_selector("#problems p")
    assert "allowed: schedule files up to 200 kB" in page.locator("#problems").text_content()


@pytest.mark.slow
def test_the_whole_way_by_keyboard(page):
    """Without a mouse: to a slider, along it, to a fold, to a schedule more, to the pictures."""
    page.locator("body").press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the pictures"
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(NAME_OF_FOCUS))
    assert {DOSE, "Add a schedule", "The same as a table", "Schedule file (TOML)"} <= reached
    slider = page.get_by_label(DOSE, exact=True)
    slider.focus()
    before = float(slider.input_value())
    page.keyboard.press("ArrowRight")
    settled(page)
    assert float(slider.input_value()) > before
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == DOSE
    assert f"{float(slider.input_value()):g} mg/m^2" == slider.get_attribute("aria-valuetext")
    page.get_by_role("button", name="Add a schedule").focus()
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator(COUNTS).count() == 3


@pytest.mark.slow
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_nothing_is_wider_than_the_screen_and_every_control_has_a_name(page, viewport):
    page.set_viewport_size(viewport)
    page.reload()
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button")].filter((e) =>
             !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).length"""
    )
    assert unnamed == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    small = page.evaluate(
        """() => [...document.querySelectorAll("#pictures svg text")].filter((t) =>
             t.getBoundingClientRect().height > 0 && t.getBoundingClientRect().height < 9).length"""
    )
    assert small == 0


@pytest.mark.slow
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_axe_finds_nothing_serious(page, viewport):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.set_viewport_size(viewport)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["nodes"][0]["html"][:200]) for v in serious]


@pytest.mark.slow
def test_a_page_says_that_an_answer_is_under_way_and_gives_no_older_link(page):
    page.route("**/api/simulate", lambda route: None)  # never answered
    slider = page.get_by_label(DOSE, exact=True)
    slider.evaluate(
        "(s) => { s.value = 35; s.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    page.locator("#copy-link").click()
    assert "under way" in page.locator("#files-said").text_content()
    page.wait_for_function("() => document.getElementById('state').textContent.includes('before')")


@pytest.mark.slow
def test_what_is_said_of_the_pictures_is_true_of_them(page):
    """While curves of some draws are there, and while an older answer comes."""
    said = page.locator("#state")
    held = []
    page.route("**/api/simulate", lambda route: held.append(route))
    slide(page, DOSE, "37")
    page.wait_for_function("() => document.getElementById('state').textContent.includes('before')")
    held.pop().continue_()  # the sketch comes, and the whole is held
    page.wait_for_function("() => !document.getElementById('sketched').hidden")
    assert said.text_content() == "Curves of 5 of 21 draws; figures and words follow."
    while not held:
        page.wait_for_timeout(10)
    held.pop().continue_()
    settled(page)
    assert "21 draws" in said.text_content()
    # an answer that comes when the slider has moved on
    slide(page, DOSE, "38")
    slide(page, DOSE, "39")
    page.wait_for_function("() => document.getElementById('state').textContent.includes('before')")
    answer = {"errors": [{"text": "dose: it is odd.", "path": []}]}
    held.pop().fulfill(status=200, json=answer)
    page.wait_for_function("() => !document.getElementById('problems').hidden")
    assert said.text_content().endswith("under way; the pictures are those before.")
    while not held:
        page.wait_for_timeout(10)
    held.pop().fulfill(status=200, json=answer)
    page.wait_for_selector("#pictures[aria-busy=false]", state="attached")
    told = "The pictures are those before the last change, which cannot be simulated: see what is "
    assert said.text_content() == f"{told}told."


@pytest.mark.slow
def test_curves_whose_figures_fail_are_not_those_before(page):
    errors = {"errors": [{"text": "server: the memory does not suffice.", "path": []}]}

    def answered(route):
        if route.request.post_data_json["sketch"]:
            route.continue_()
        else:
            route.fulfill(status=200, json=errors)

    page.route("**/api/simulate", answered)
    slide(page, DOSE, "36")
    page.wait_for_function("() => !document.getElementById('problems').hidden")
    said = "Only the curves are of what is set, under some draws; the rest cannot be simulated"
    assert page.locator("#state").text_content() == f"{said}: see what is told."
    assert page.locator("#pictures.sketch").count() == 1
    assert page.locator("#pictures.old").count() == 0


@pytest.mark.slow
def test_an_older_sketch_is_not_said_to_be_what_is_set(page):
    said, held = page.locator("#state"), []
    page.route("**/api/simulate", lambda route: held.append(route))
    slide(page, DOSE, "23")  # as no other test: the server keeps what it has worked out
    while not held:
        page.wait_for_timeout(10)
    slide(page, DOSE, "24")
    held[0].continue_()
    page.wait_for_function("() => !document.getElementById('sketched').hidden")
    page.wait_for_function("() => document.getElementById('state').textContent.includes('before')")
    assert said.text_content().endswith("under way; the pictures are those before.")


@pytest.mark.slow
def test_a_file_that_cannot_be_simulated_has_no_pictures_before(browser, address):
    page = browser.new_page()
    page.set_default_timeout(SHOWN_MS)
    error = {"errors": [{"text": "dose: it is odd.", "path": []}], "toml": ""}
    page.route("**/api/simulate", lambda route: route.fulfill(status=200, json=error))
    page.goto(address)
    page.wait_for_function("() => !document.getElementById('problems').hidden")
    said = "These schedules cannot be simulated: see what is told."
    assert page.locator("#state").text_content() == said
    page.close()


def busy_once(page, what):
    """Have the server refuse the first request as one of too many; give the list of requests."""
    asked = []

    def answered(route):
        asked.append(route)
        if len(asked) > 1:
            route.continue_()
        else:
            route.fulfill(status=503, json={"errors": [{"text": "server: too many wait."}]})

    page.route(f"**/api/{what}", answered)
    return asked


@pytest.mark.slow
def test_a_busy_server_is_asked_again(browser, address):
    page = browser.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.goto(address)
    settled(page)
    busy_once(page, "simulate")
    slide(page, DOSE, "41")
    page.wait_for_function("() => !document.getElementById('problems').hidden")
    assert page.locator("#problems").text_content() == "server: too many wait."
    assert "cannot be simulated" not in page.locator("#state").text_content()
    settled(page)
    assert page.locator("#problems").is_hidden()
    assert in_address(page)["cohort"][0]["change"]["clofarabine"]["amount"] == "41 mg/m^2"
    page.close()


@pytest.mark.slow
def test_a_busy_server_is_asked_again_for_exposures(browser, address):
    page = browser.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.goto(address)
    settled(page)
    asked = busy_once(page, "exposure")
    page.locator("#exposure-fold > summary").click()
    page.locator("#exposure-said", has_text="first cycle with the drug").wait_for(timeout=SHOWN_MS)
    assert len(asked) == 2
    page.close()


@pytest.mark.slow
def test_two_tabs_keep_their_own_state(page, browser, address):
    other = page.context.new_page()
    other.goto(address)
    settled(other)
    move(page, DOSE, "30")
    move(other, DOSE, "55")
    assert in_address(page)["cohort"][0]["change"]["clofarabine"]["amount"] == "30 mg/m^2"
    assert in_address(other)["cohort"][0]["change"]["clofarabine"]["amount"] == "55 mg/m^2"


@pytest.mark.slow
def test_a_page_says_that_the_server_stopped_and_goes_on_when_it_is_back(browser, folder):
    process, address = started(folder)
    page = browser.new_page()
    page.set_default_timeout(SHOWN_MS)
    page.goto(address)
    settled(page)
    stopped(process)
    slider = page.get_by_label(DOSE, exact=True)
    slider.evaluate(
        "(s) => { s.value = 45; s.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.wait_for_selector("#stopped:not([hidden])", timeout=SHOWN_MS)
    again, same = started(folder, int(address.rsplit(":", 1)[1].strip("/")))
    try:
        assert same == address
        page.wait_for_selector("#stopped", state="hidden", timeout=SHOWN_MS)
        settled(page)
        assert in_address(page)["cohort"][0]["change"]["clofarabine"]["amount"] == "45 mg/m^2"
        time.sleep(0.1)
        assert not page.locator("#pictures").get_attribute("class")
    finally:
        stopped(again)
        page.close()
