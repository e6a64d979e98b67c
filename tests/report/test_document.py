"""The HTML report: complete, self-contained, readable by a machine that reads aloud."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
import synthetic

from pkpd.comparison.leukaemia_lanes import stands_beside
from pkpd.errors import PkpdError
from pkpd.report import wording
from pkpd.report.comparison import beside_tables, document, pages, tables, terminal
from pkpd.report.svg import svg
from pkpd.trials import PublishedOutcome


class Reader(HTMLParser):
    """Collects tags and checks that they nest."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader, " ".join(" ".join(reader.text).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PRINT_DPI", 50)  # the resolution is not what is tested
        formats = ("svg", "pdf", "png")
        tables.write_results(synthetic.make_result((1,)), folder, formats=formats)
    return folder


def test_report_holds_its_figures_and_loads_nothing(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    reader, _ = read(html)
    drawings = [attrs for tag, attrs in reader.tags if tag == "svg"]
    assert len(drawings) == 6
    assert all(d["role"] == "img" and len(d["aria-label"]) > 60 for d in drawings)
    for tag, attrs in reader.tags:
        assert tag not in ("script", "link", "iframe", "img", "image", "use")
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith("#")
    assert "url(http" not in html
    for path in (folder / "figures").glob("*.svg"):
        # the same drawing stands in the page
        assert path.read_text(encoding="utf-8").strip() in html
    assert {p.suffix for p in (folder / "figures").iterdir()} == {".svg", ".png", ".pdf"}


@pytest.mark.slow
def test_figures_are_written_as_asked(tmp_path):
    result = synthetic.make_result((1,))
    tables.write_results(result, tmp_path)
    first = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert {name[-4:] for name in first} == {".svg"}
    tables.write_results(result, tmp_path)
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    with pytest.raises(PkpdError, match=r"'bmp'.*svg, pdf, png"):
        tables.write_results(result, tmp_path, formats=("bmp",))


def test_report_tells_question_answer_published_assumed_and_record(folder):
    reader, text = read((folder / "report.html").read_text(encoding="utf-8"))
    assert "Does a 10-day course of lenalidomide lower the risk" in text
    assert "24 % 7 to 50 %" in text
    assert "2/6 = 33 % (4 to 78 %)" in text
    assert "each lies in the other's interval" in text
    assert "effects/lenalidomide_plasma: slope" in text
    assert "trials/nct01681537" in text
    headings = [tag for tag, _ in reader.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_each_trial_begins_with_its_answer_one_figure_and_the_table(folder):
    reader, text = read((folder / "report.html").read_text(encoding="utf-8"))
    order = [
        "In this model the risk of a dose-limiting toxicity is 24 %",
        "Risk of a dose-limiting toxicity by cohort. Dot and bar",  # caption of the figure
        "Answer by cohort",
        "Who and what",
        "Schedules in pairs" if "Schedules in pairs" in text else "Published beside predicted",
        "Figures",
        "All endpoints",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    # the risk is read first, where a screen shows few columns
    assert "Cohort DLT risk, predicted (90 % interval) DLT, published (interval) Neutr" in text
    first = [tag for tag, _ in reader.tags[[t for t, _ in reader.tags].index("main") :]]
    assert first.index("svg") < first.index("table")


def test_answers_of_several_trials_stand_before_the_contents():
    html = document.render(synthetic.make_result((6, 1)), {})
    reader, _ = read(html)
    assert html.index('class="answers"') < html.index("<nav")
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    ids = {a["id"] for _, a in reader.tags if "id" in a}
    assert {link.removeprefix("#") for link in links} <= ids
    assert links[:2] == ["#nct01681537", "#nct00983528"]


def test_a_page_of_one_trial_is_headed_by_its_title():
    result = synthetic.make_result((1,))
    trial = result.trials[0].trial
    _, text = read(document.render(result, {}))
    assert text.count(f"Blood counts and dose-limiting toxicity: {trial.title}") == 2
    _, text = read(document.render(synthetic.make_result((1, 1)), {}))
    assert f"Blood counts and dose-limiting toxicity: {trial.name}, " in text


def test_report_escapes_what_a_card_says():
    result = synthetic.make_result((1,))
    trial = replace(result.trials[0].trial, title="<script>alert(1)</script> & more", name="a<b>")
    result = replace(result.trials[0], trial=trial, assumptions=("<img src=x>",))
    # the figures say it too
    shown = [
        pages.Drawing(page.name, page.caption, svg(page.figure, page.name, page.title, page.alt))
        for page in pages.trial_pages(result)
    ]
    whole = replace(synthetic.make_result((1,)), trials=(result,))
    reader, text = read(document.render(whole, {trial.id: shown}))
    assert not {"script", "img", "b>"} & {tag for tag, _ in reader.tags}
    assert text.count("<script>alert(1)</script> & more") >= 1 + len(shown)
    assert "<img src=x>" in text
    assert "a<b>: what has become of the patients" in text


def test_report_without_record_figures_or_published():
    result = replace(synthetic.make_result((1, 1)), record={})
    second = replace(result.trials[1], assumptions=(), pairs=())
    html = document.render(replace(result, trials=(second,)), {})
    _, text = read(html)
    assert "no published figure that could be set beside these predictions" in text
    assert "How deep do neutrophils and platelets fall" in text


def test_what_a_record_does_not_say_is_no_entry():
    result = synthetic.make_result((1, 1))
    empty = {"different_answer": "", "settings": {"patients": 7, "options": {"usual": {}}}}
    _, text = read(document.render(replace(result, record=empty), {}))
    assert "patients 7" in text
    assert not {"different_answer", "usual"} & set(text.partition("Run record")[2].split())


def test_the_error_of_simulation_is_told_as_on_the_terminal():
    _, text = read(document.render(synthetic.make_result((1, 1)), {}))
    told = "one standard error, as the simulation is finite, in percentage points for a risk."
    assert told in " ".join(text.split()).casefold()
    assert told in terminal._KEY


@pytest.mark.parametrize(
    ("predicted", "published", "told"),
    [
        ((0.1, 0.3), (0.0, 0.5), "each lies in the other's interval"),
        ((0.1, 0.3), (0.35, 0.9), "neither lies in the other's interval"),
        ((float("nan"),) * 2, (0.35, 0.9), "predicted does not lie in the published interval"),
        ((float("nan"),) * 2, (0.1, 0.9), "predicted lies in the published interval"),
        ((0.1, 0.3), (float("nan"),) * 2, "published lies in the predicted interval"),
        ((float("nan"),) * 2, (float("nan"),) * 2, "no interval"),
    ],
)
def test_agreement_is_told_of_intervals_that_are_there(predicted, published, told):
    row = next(r for r in synthetic.make_trial_result(1).rows if r.endpoint == "dlt")
    row = replace(row, estimate=0.2, lower=predicted[0], upper=predicted[1])
    value = 0.6 if published[0] > 0.3 else 0.25
    figure = wording.Published(value, *published, "", "")
    assert beside_tables._agreement(row, figure) == told


def test_a_figure_that_is_not_reached_is_predicted():
    row = next(r for r in synthetic.make_trial_result(1).rows if r.endpoint == "recovery_day")
    row = replace(row, estimate=float("inf"), upper=float("inf"))
    told = beside_tables._published(row, wording.published(row))
    assert told["predicted"].startswith("not reached")
    assert told["agreement"] != "not predicted"


def test_a_patient_who_is_never_low_is_not_back_on_the_first_day():
    """The report wrote 0, which its notes read as the day of the first dose."""
    row = next(r for r in synthetic.make_trial_result(1).rows if r.endpoint == "recovery_day")
    assert document._row(replace(row, estimate=0.0, lower=0.0))["estimate"] == "not low"
    assert document._row(replace(row, estimate=21.0))["estimate"] == "21"


def test_figures_of_all_cohorts_together_stand_beside_the_range_over_them():
    result = synthetic.make_trial_result(3)
    outcomes = (
        PublishedOutcome("dlt_delayed_recovery", numerator=3, denominator=35, source="abstract"),
        PublishedOutcome("os_1_year", value=0.4),  # is not predicted
        PublishedOutcome("dlt_delayed_recovery", value=0.9, definition="another trial: phase 2"),
    )
    trial = replace(result.trial, published=outcomes)
    *_, one = beside_tables.published_beside(replace(result, trial=trial))
    assert (one["cohort"], one["predicted"]) == ("all cohorts", "14 to 24 % in its cohorts")
    rows = result.rows
    doubled = [replace(r, rule="another", estimate=0.9) for r in rows if r.endpoint == "dlt"]
    again = replace(result, trial=trial, rows=(*rows, *doubled))  # each cohort has two rules
    assert beside_tables.published_beside(again)[-1] == one
    assert one["published"].startswith("3/35 = 9 %")
    assert one["agreement"] == "predicted lies in the published interval in 2 of 3 cohorts"
    assert len(beside_tables.published_beside(result)) + 1 == len(
        beside_tables.published_beside(replace(result, trial=trial))
    )


def test_deaths_stand_beside_those_by_their_day():
    row = replace(synthetic.make_trial_result(1).rows[0], endpoint="early_death", line="")
    by = [replace(row, rule=f"by day {day}") for day in (30, 60)]
    assert [stands_beside("day60_mortality", one) for one in by] == [False, True]


def test_who_cannot_be_judged_is_told_beside_the_answer():
    made = synthetic.make_trial_result(2)
    reasons = "20.0% died before the look"
    rows = tuple(
        replace(row, evaluable=0.8, not_judged=reasons) if row.endpoint == "dlt" else row
        for row in made.rows
    )
    told = document._not_judged(replace(made, rows=rows))
    assert told.startswith("Who cannot be judged.")
    assert f"{reasons} (the event is seen in 19 % of all)" in told  # .24 of 80 in 100
    assert document._not_judged(made) == ""


def test_inputs_from_memory_are_not_called_assumed():
    made = synthetic.make_result((1,))
    rows = tuple(replace(row, assumed="intensity.x 1.25, memory") for row in made.trials[0].rows)
    (trial,) = made.trials
    html = document.render(replace(made, trials=(replace(trial, rows=rows),)), {})
    _, text = read(html)
    assert "status assumed or, where it is said, memory" in text
    assert "intensity.x 1.25, memory assumed" not in text
