"""Documents print the figures that the scripts kept, of the posterior that ships."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import figures
import mechanisms
import numpy as np
import pytest
from judging import figures as kept
from judging.scorecard import AVERAGE, MODEL, Predicted, scorecard

from pkpd.evidence.posterior.shipped import shipped_posterior
from pkpd.evidence.table.table import load_evidence
from pkpd.marrow.variants import VARIANTS

EARLIER = {"posterior": "2020-01-02T03:04:05+00:00"}
FOUND = {"unseen": {"inside": 50, "less": -0.00432, "share": 0.942}}


def test_sentences_stand_between_their_marks():
    sentence = "{unseen/inside d} rows, {unseen/less +.3f}, {unseen/share .0pt} %"
    told = figures.with_figures(sentence, FOUND)
    assert told == "50 rows, \N{MINUS SIGN}0.004, 94 %"
    text = "Here <!--=rows-->7\nrows<!--=-->, there <!--=more--><!--=-->."
    found = figures.with_sentences(text, {"rows": told, "more": "none"})
    assert found == f"Here <!--=rows-->{told}<!--=-->, there <!--=more-->none<!--=-->."


def test_what_is_nothing_as_printed_has_no_sign():
    assert [figures.shown(v, "+.2f") for v in (-0.004, 0.004, -0.006, 0.01)] == [
        "0.00", "0.00", "\N{MINUS SIGN}0.01", "+0.01"
    ]  # fmt: skip


def test_what_is_not_there_is_refused():
    with pytest.raises(figures.FigureError, match="no figure unseen/outside: no 'outside' among"):
        figures.with_figures("{unseen/outside d}", FOUND)
    with pytest.raises(figures.FigureError, match=r"format d of 0\.942"):
        figures.with_figures("{unseen/share d}", FOUND)
    with pytest.raises(figures.FigureError, match="no sentence 'rows' among more"):
        figures.with_sentences("<!--=rows--><!--=-->", {"more": ""})


def test_parts_are_kept_beside_each_other(tmp_path):
    file, posterior = tmp_path / "figures.json", shipped_posterior()
    rows = [row for row in load_evidence() if row.endpoint.kind == "count" and row.denominator][:6]
    rng = np.random.default_rng(1)
    said = {row.id: Predicted(rng.random(200), -1.0) for row in rows}
    card = scorecard(rows, {MODEL: said, AVERAGE: dict(list(said.items())[:4])})
    kept.keep("later", posterior, kept.of_card(card), file)
    kept.keep("pairs", posterior, {"doubtful": ("A",), "none": float("nan")}, file)
    found = json.loads(file.read_text())
    assert found["pairs"] == {
        "posterior": posterior.record["written"], "doubtful": ["A"], "none": None
    }  # fmt: skip
    assert found["later"]["rows"] == 6
    every = found["later"]["compared"]["model less average"]["all rows"]
    assert (every["rows"], every["difference"]) == (4, 0.0)
    inside = found["later"]["predictors"]["model"]["90%"]
    assert inside == card.coverage(MODEL, 0.9)[0]


def test_documents_print_what_was_found():
    found = json.loads(kept.FILE.read_text(encoding="utf-8"))
    other = [
        str(path)
        for path, text in figures.written(found).items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not other, "python fits/evidence/figures.py writes them"


def test_figures_are_of_the_posterior_that_ships():
    written = shipped_posterior().record["written"]
    found = json.loads(kept.FILE.read_text(encoding="utf-8"))
    of = {name: part["posterior"] for name, part in found.items() if name not in figures.CHECKS}
    assert set(of.values()) == {written}
    # what takes longer may be of an earlier one: every sentence with a figure of it says so
    later = figures.with_posteriors({**found, **{n: found[n] | EARLIER for n in figures.CHECKS}})
    assert {later[name]["of"] for name in figures.CHECKS} == {
        " (of an earlier posterior, written 2020-01-02 03:04)"
    }
    sentences = tomllib.loads(figures.SENTENCES.read_text(encoding="utf-8"))
    for name, sentence in sentences.items():
        for part in figures.CHECKS:
            assert f"{{{part}/" not in sentence or f"{{{part}/of s}}" in sentence, (name, part)
    assert figures.page(later).count("of an earlier posterior") >= len(figures.CHECKS)
    tested, unseen = shipped_posterior().record["tested"], found["unseen"]
    assert unseen["predictors"]["model"]["90%"] == tested["inside"]
    crps = unseen["compared"]["model less average"]["all rows"]["ours"]
    assert crps == pytest.approx(tested["crps"], rel=1e-4)


def test_a_mechanism_is_switched_in_the_structure_that_was_learned():
    """Structures with numbers of their own are no switch, and friberg drops what it drops."""
    learned = VARIANTS["ten_stages"]
    assert mechanisms.switched("full", learned) == learned
    assert mechanisms.switched("ten_stages_driven", learned) is None
    without = mechanisms.switched("no_reserve", learned)
    assert without == replace(learned, reserve=False)
    assert mechanisms.switched("friberg", learned).transit_stages == 10


def test_table_of_mechanisms_has_a_line_for_each_switch():
    kept_rows = json.loads(kept.FILE.read_text(encoding="utf-8"))["mechanisms"]["rows"]
    switches = [name for name in VARIANTS if mechanisms.switched(name, VARIANTS["ten_stages"])]
    assert [row["switched"] for row in kept_rows] == ["nothing", *switches[1:]]
    assert list(kept_rows[0]) == ["switched", *(head for head, _, _ in mechanisms.COLUMNS)]
    late = dict(zip(switches, (row["7+3: late, %"] for row in kept_rows), strict=True))
    assert late["friberg"] < late["full"] < late["no_reserve"]
