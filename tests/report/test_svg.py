"""Figures as SVG: what matplotlib draws elsewhere stands in it, at the same places."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from pkpd.report.svg import svg

NS = "{http://www.w3.org/2000/svg}"


def figure():
    made = Figure(figsize=(4.0, 3.0))
    ax = made.add_axes((0.25, 0.25, 0.5, 0.5))
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10)
    return made, ax


def drawn(made, name="a"):
    return ET.fromstring(svg(made, name, "a title", "what is <in> & it"))


def points(data):
    """Corners of path data of lines alone, absolute, in points from the upper left."""
    at, found = np.zeros(2), []
    for letter, rest in re.findall(r"([a-z])([^a-z]*)", data):
        numbers = [int(n) for n in re.findall(r"-?\d+", rest)]
        step = {"h": (*numbers, 0), "v": (0, *numbers), "z": ()}.get(letter, numbers)
        if len(step):
            at = at + step
            found.append(at)
    return np.array(found) / 10.0


def test_lines_stand_where_their_data_are():
    made, ax = figure()
    ax.set_axis_off()
    x, y = np.array([0.0, 2.5, 2.5, 10.0, np.nan, 1.0, 2.0]), np.array([0, 5, 6, 10, 1, 3, 4.0])
    ax.plot(x, y, color="#aabbcc", linewidth=2.0)
    _, path = drawn(made).iter(f"{NS}path")  # the first is the paper
    assert path.get("stroke") == "#abc"
    assert path.get("stroke-width") == "20"
    # the axes begin at 72 points from the left and 54 from below, and are 144 by 108
    kept = ~np.isnan(x)
    wanted = np.stack([72 + 14.4 * x[kept], 216 - 54 - 10.8 * y[kept]], axis=1)
    assert points(path.get("d")) == pytest.approx(wanted, abs=0.051)
    assert path.get("d").count("m") == 2  # a gap where a value is missing


def test_bands_are_filled_and_what_leaves_the_axes_is_clipped():
    made, ax = figure()
    ax.fill_between([0, 5, 10], [1, 1, 1], [2, 30, 2], color="red", alpha=0.25, linewidth=0)
    page = drawn(made, "name")
    band = next(p for p in page.iter(f"{NS}path") if p.get("fill-opacity"))
    assert (band.get("fill"), band.get("fill-opacity")) == ("#f00", "0.25")
    assert band.get("stroke") is None
    (clip,) = page.iter(f"{NS}clipPath")
    assert band.get("clip-path") == f"url(#{clip.get('id')})"
    assert clip.get("id").startswith("name-")
    box = clip.find(f"{NS}rect")
    assert [box.get(k) for k in ("x", "y", "width", "height")] == ["720", "540", "1440", "1080"]


def test_text_is_text_with_its_alignment_and_escaped():
    made, ax = figure()
    ax.set_axis_off()
    ax.text(5, 5, "a < b & c", ha="center", fontsize=9, weight="bold", color="#123456")
    ax.text(5, 5, "up", rotation=90, rotation_mode="anchor")
    flat, turned = drawn(made).iter(f"{NS}text")
    assert flat.text == "a < b & c"
    assert (flat.get("x"), flat.get("y"), flat.get("text-anchor")) == ("1440", "1080", "middle")
    assert (flat.get("font-size"), flat.get("font-weight")) == ("90", "bold")
    assert flat.get("fill") == "#123456"
    assert turned.get("transform") == "rotate(-90 1440 1080)"


def test_a_reader_who_cannot_see_is_told_what_is_there():
    page = drawn(figure()[0])
    assert page.get("role") == "img"
    assert page.get("aria-label") == "what is <in> & it"
    assert page.find(f"{NS}title").text == "a title"
    assert page.get("viewBox") == "0 0 2880 2160"


def test_the_same_figure_gives_the_same_bytes_and_is_left_as_it_was():
    def one():
        made, ax = figure()
        ax.plot(np.linspace(0, 10, 200), np.sin(np.arange(200.0)), marker="o", ls="--")
        ax.add_patch(Circle((5, 5), 2.0))
        return made

    made = one()
    assert svg(made, "a", "b", "c") == svg(one(), "a", "b", "c") == svg(made, "a", "b", "c")
    assert made.dpi == Figure().dpi
    FigureCanvasAgg(made).draw()


def test_curves_stay_curves():
    made, ax = figure()
    ax.set_axis_off()
    ax.add_patch(Circle((5, 5), 2.0, linewidth=0))
    _, path = drawn(made).iter(f"{NS}path")  # the first is the paper
    assert re.fullmatch(r"m\d+ \d+(c[-\d ]+){8}z", path.get("d"))
