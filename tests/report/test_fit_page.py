"""The page of a fit holds its verdict, table, figures and record, and needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd.fitting.checks.all_checks import check
from pkpd.fitting.draws import Draws, single_draw
from pkpd.fitting.model.covariate_effects import category, linear, power
from pkpd.fitting.model.likelihood import bind
from pkpd.fitting.model.population_parameters import start_values
from pkpd.fitting.model.priors import fixed
from pkpd.fitting.model.residual import additive, combined, lognormal
from pkpd.fitting.model.specification import PopulationModel, from_column, parameter
from pkpd.predict.pk import compartments
from pkpd.report.fit.page import drawings, render_fit, write_fit_page
from pkpd.report.fit.page_words import equations, number, structure_words


class Reader(HTMLParser):
    """Collects tags left open, images, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "svg":
            self.images.append(attrs)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


@pytest.fixture(scope="module")
def likelihood():
    rng = np.random.default_rng(1)
    times = np.array([1.0, 2.0, 4.0, 8.0, 12.0])
    rows = []
    for i in range(8):
        cl, v = (
            3.0 * np.exp(0.3 * rng.standard_normal()),
            30.0 * np.exp(0.2 * rng.standard_normal()),
        )
        weight = rng.uniform(50, 90)
        rows.append((f"P{i}<", 0.0, 300.0, np.nan, 1, 0, weight))
        for t in times:
            y = 300 / v * np.exp(-cl / v * t) + 0.3 * rng.standard_normal()
            rows.append((f"P{i}<", t, 0.0, max(y, 2.5), 0, int(y < 2.5), weight))
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID", "CENS", "WT"])
    model = PopulationModel(
        compartments(1),
        [parameter("CL", 3.0, iiv=0.3), parameter("V", 30.0, iiv=0.2)],
        additive(0.3),
    )
    return bind(model, pkpd.read_nonmem(frame, covariates=["WT"]))


@pytest.fixture(scope="module")
def page(likelihood):
    rng = np.random.default_rng(2)
    population = {
        name: value * np.exp(0.05 * rng.standard_normal(200))
        for name, value in start_values(likelihood.model).items()
    }
    draws = Draws(likelihood, population, 0.2 * rng.standard_normal((200, 8, 2)))
    fit = SimpleNamespace(draws=draws, idata=None, record={"method": "map", "seed": 7})
    return render_fit(check(fit, replicates=60, quick=True))


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_else(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert len(page) < 3_000_000
    anchors = {link[1:] for link in reader.links}
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


@pytest.mark.slow
def test_the_page_says_what_it_should(page):
    reader = Reader()
    reader.feed(page)
    text = " ".join(" ".join(reader.text).split())
    for words in (
        "Fit of concentration: 8 patients",
        "approximation (map)",
        "Estimates",
        "omega_CL",
        "typical value",
        "Learned, %",
        "8 subjects",
        "Below the limit",
        "NPDE against a standard normal distribution",
        "method",
        "map",
        "LogNormal, mu=1.09861, sigma=1 (median 3.00)",
    ):
        assert words in text, words
    # a label of the data is text, not markup
    assert not re.search(r"P0<(?!/text>|/td>)", page)
    alts = [image["aria-label"] for image in reader.images]
    for title in ("Visual predictive check", "Goodness of fit", "Individual fits", "covariates"):
        assert any(title in alt for alt in alts), title
    assert any("below the limit" in alt for alt in alts)
    assert "<img" not in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#(figure[^"]+)"', page)) <= set(names)


@pytest.mark.long
def test_maximum_likelihood_has_its_own_words(likelihood, tmp_path):
    fit = SimpleNamespace(
        likelihood=likelihood,
        estimates=start_values(likelihood.model),
        random=np.zeros((8, 2)),
        standard_errors={"CL": 0.3},
        log_likelihood=-20.0,
    )
    path = write_fit_page(fit, tmp_path / "fit.html", replicates=40)
    text = path.read_text(encoding="utf-8")
    assert "Standard error" in text
    # 1.96 standard errors either way of 3
    assert re.search(r">95 % interval<(.|\n)*?>2.41 to 3.59<", text)
    assert "Priors" not in text
    assert "AIC" in text
    assert ">50<" in text  # 40 and twice 5 parameters
    told = "AIC and BIC are of the mode of a posterior"
    assert told not in text
    fit.criteria_note = told
    assert told in write_fit_page(fit, tmp_path / "mode.html", replicates=40).read_text("utf-8")


def test_captions_tell_what_is_left_out_and_count_pages_by_patients_with_values(likelihood):
    rows = []
    for i in range(45):
        start = 5.0 if i == 0 else 0.0
        rows.append((i, start, 300.0, np.nan, 1))
        rows += [(i, t, 0.0, 10 * np.exp(-0.1 * t), 0) for t in (4.0, 8.0, 12.0)] if i < 5 else []
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"])
    bound = bind(likelihood.model, pkpd.read_nonmem(frame.sort_values(["ID", "TIME"])))
    draws = single_draw(bound, {}, np.zeros((45, 2)))
    found = {}
    for drawing in drawings(check(SimpleNamespace(draws=draws), replicates=40)):
        found[drawing.name] = drawing
        if drawing.name.startswith("individuals"):
            break
    assert "1 values of concentration are left out" in found["pcvpc"].caption
    assert drawing.title == "Individual fits"


def test_equations_say_what_the_model_computes():
    structure = compartments(2, absorption="first_order")
    model = PopulationModel(
        structure,
        [
            parameter("ka", 1.0, iiv=0.4, boxcox=0.5),
            parameter("CL", 3.0, iiv=0.3, iov=0.1, effects=[power("WT", 70, fixed(0.75))]),
            parameter("V1", 30.0, effects=[linear("AGE", 40), category("SEX", 1)]),
            parameter("V2", 0.5, scale="logit", iiv=0.2),
            from_column("Q", "QCOL"),
        ],
        combined(0.1, 0.2),
        correlated=[("ka", "CL")],
    )
    rows = dict(equations(model))
    assert rows["CL"].startswith("CL = θ_CL · (WT / 70)^0.750 · exp(η_CL + κ_CL,occasion)")
    assert "(1 + β_V1_AGE (AGE" in rows["V1"]
    assert "exp(β_V1_SEX_1 [SEX = 1])" in rows["V1"]
    assert rows["V2"].startswith("V2 = logit⁻¹(logit(θ_V2) + η_V2)")
    assert rows["Q"] == "column QCOL of the data"
    assert "λ_ka η_ka" in rows["ka"]
    assert rows["correlated"] == "η_ka, η_CL"
    assert "concentration_proportional² f²" in rows["concentration, measured"]
    assert "absorption: first order" in structure_words(model)
    log = model.replace(residual={"concentration": lognormal(0.2, nu=5)})
    assert "Student t" in dict(equations(log))["concentration, measured"]


def test_numbers():
    assert [number(x) for x in (0.0, 12345.6, 1.2345, 0.00012345, 1e-7, np.nan)] == [
        "0",
        "12346",
        "1.23",
        "0.000123",
        "1.00e-07",
        "",
    ]
