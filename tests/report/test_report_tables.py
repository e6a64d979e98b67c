"""Files of a run: what is read back equals what was written, and nothing is half-written."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import synthetic
import xarray as xr

from pkpd.errors import DataError, PkpdError
from pkpd.report.comparison import beside_tables, tables


def same(a, b):
    """Equal rows, with NaN equal to NaN."""
    return [plain(x) for x in a] == [plain(x) for x in b]


def plain(row):
    return [str(float(v)) if isinstance(v, (int, float)) else v for v in astuple(row)]


@pytest.fixture
def result():
    return synthetic.make_result((2, 1))


@pytest.fixture
def written(result, tmp_path):
    tables.write_results(result, tmp_path / "out", figures=False)
    return tmp_path / "out"


def test_rows_and_pairs_read_back_equal(result, written):
    rows = [row for t in result.trials for row in t.rows]
    assert any(math.isnan(r.published) for r in rows)
    assert same(tables.read_rows(written / "results.csv"), rows)
    assert same(
        tables.read_pairs(written / "pairs.csv"), [p for t in result.trials for p in t.pairs]
    )


def test_infinite_medians_read_back(tmp_path):
    rows = synthetic.make_trial_result(6).rows
    assert any(math.isinf(r.estimate) for r in rows)
    tables.write_rows(tmp_path / "r.csv", type(rows[0]), rows)
    assert same(tables.read_rows(tmp_path / "r.csv"), rows)


def test_sensitivity_csv_equals_the_array(result, written):
    with (written / "sensitivity.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 2 * 4 * 4
    data = result.trials[0].curves["dlt_sensitivity"]
    for line in lines[:64]:
        at = data.sel(
            cohort=line["cohort"],
            neutrophil_threshold=float(line["neutrophil_threshold"]),
            platelet_threshold=float(line["platelet_threshold"]),
            by_day=int(line["by_day"]),
        )
        for column, bound in (("estimate", "mean"), ("lower", "lower"), ("upper", "upper")):
            assert float(line[column]) == float(at.sel(bound=bound))
        place = {name: at[name] for name in data.dims if name != "bound"}
        judged = result.trials[0].curves["dlt_sensitivity_evaluable"].sel(place)
        assert float(line["evaluable"]) == float(judged)


def test_json_is_strict_and_complete(result, written):
    def refuse(token):
        raise AssertionError(token)

    text = (written / "results.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_constant=refuse)  # NaN and Infinity are not JSON
    assert data["record"]["seed"] == 1
    first = data["trials"][0]
    assert len(first["rows"]) == len(result.trials[0].rows)
    assert first["rows"][0]["published"] is None
    assert first["trial"]["arms"][0]["cohorts"][0]["regimen"]["courses"]
    assert set(data["files"]) == {p.name for p in written.iterdir() if p.name != "results.json"}


def test_json_spells_infinity(tmp_path):
    rows = synthetic.make_trial_result(6).rows
    found = tables.plain([r for r in rows if math.isinf(r.estimate)])
    assert {row["estimate"] for row in found} == {"inf"}


def test_json_leaves_out_where_the_trial_card_lies(result):
    trial = replace(result.trials[0].trial, path="/home/someone/trial.toml")
    text = json.dumps(tables.plain(trial))
    assert "someone" not in text


def test_curves_open_as_netcdf(result, written):
    with xr.open_dataset(written / "curves_nct01681537.nc", engine="h5netcdf") as curves:
        loaded = curves.load()
    original = result.trials[0].curves
    assert set(loaded.data_vars) == set(original.data_vars)
    np.testing.assert_array_equal(loaded["counts"], original["counts"])
    assert loaded["counts"].attrs["units"] == "10^9/L"
    assert loaded["day"].dtype.kind in "iu"  # not turned into a duration
    assert list(loaded["cohort"].values) == ["14d-10", "14d-5"]


def test_partial_files_leave_an_earlier_run_alone_and_go_when_done(result, written):
    before = {p.name: p.read_bytes() for p in written.iterdir()}
    first = result.trials[0]
    tables.write_partial(written, first.rows[:3])
    assert same(tables.read_rows(written / "results.partial.csv"), first.rows[:3])
    tables.write_partial(written, first.rows, [first])
    names = {p.name for p in written.glob("*.partial.*")}
    assert names == {
        "results.partial.csv",
        "pairs.partial.csv",
        "sensitivity.partial.csv",
        "curves_nct01681537.partial.nc",
    }
    assert {n: (written / n).read_bytes() for n in before} == before
    # another cohort: what is there of complete trials stays, and is not written again
    of_trial = [written / name for name in names - {"results.partial.csv"}]
    for path in of_trial:
        path.write_bytes(b"as it was")
    tables.write_partial(written, first.rows[:2], [first], there=1)
    assert same(tables.read_rows(written / "results.partial.csv"), first.rows[:2])
    assert {path.read_bytes() for path in of_trial} == {b"as it was"}
    tables.write_partial(written, first.rows[:3])  # a new run starts: old partial files go
    assert {p.name for p in written.glob("*.partial.*")} == {"results.partial.csv"}
    tables.write_results(result, written, figures=False)
    assert not list(written.glob("*.partial.*"))


def test_a_failure_leaves_the_earlier_files(result, written, monkeypatch):
    before = {p.name: p.read_bytes() for p in written.iterdir()}
    monkeypatch.setattr(tables, "_write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tables.write_results(replace(result, trials=result.trials[:1]), written, figures=False)
    assert {p.name: p.read_bytes() for p in written.iterdir()} == before


def test_files_of_an_earlier_run_that_are_not_written_again_go(result, written):
    mine = written / "my_notes.txt"
    mine.write_text("keep")
    tables.write_results(replace(result, trials=result.trials[:1]), written, figures=False)
    assert not (written / "curves_nct00983528.nc").exists()
    assert mine.exists()


def test_a_listed_file_outside_the_folder_is_never_removed(result, written):
    outside = written.parent / "outside.txt"
    outside.write_text("keep")
    listed = json.loads((written / "results.json").read_text())
    listed["files"]["../outside.txt"] = "0"
    (written / "results.json").write_text(json.dumps(listed))
    tables.write_results(result, written, figures=False)
    assert outside.exists()


def test_a_file_in_the_way_is_told(tmp_path, result):
    (tmp_path / "out").write_text("")
    with pytest.raises(PkpdError, match="is not a folder; name another folder"):
        tables.write_results(result, tmp_path / "out" / "deeper")


def test_a_foreign_table_is_told(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"x\.csv: the column 'trial' is missing"):
        tables.read_rows(tmp_path / "x.csv")


def test_risks_that_pairs_order_the_other_way_are_named(result):
    (trial, *_) = result.trials
    assert beside_tables.other_way(trial) == ""
    pair = trial.pairs[0]
    turned = replace(pair, difference=-np.sign(pair.difference) * 0.2, mc_error=0.01)
    told = beside_tables.other_way(replace(trial, pairs=(turned, *trial.pairs[1:])))
    lower, higher = (
        (pair.first, pair.second) if turned.difference < 0 else (pair.second, pair.first)
    )
    assert f"In the same patients {lower} has less risk than {higher}, although" in told
    assert beside_tables.other_way(replace(trial, pairs=(replace(turned, mc_error=0.3),))) == ""


def test_a_trial_that_is_not_there_is_refused_in_a_sentence():
    made = synthetic.make_result((1,))
    assert made.trial("nct01681537") is made.trials[0]
    with pytest.raises(PkpdError, match=r"'nct1' is not in this result; allowed: nct01681537"):
        made.trial("nct1")
