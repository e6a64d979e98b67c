"""The results of a run are kept beside those that another run wrote into its folder meanwhile."""

import warnings

import pytest
from typer.testing import CliRunner

from pkpd.cli import app
from pkpd.errors import PkpdWarning
from pkpd.report.comparison.own_folder import free_folder, stamp, take_along
from pkpd.report.comparison.terminal import CohortPrinter
from pkpd.report.output import plain_warnings


def test_a_folder_is_the_runs_own_unless_another_run_has_written(tmp_path):
    out = tmp_path / "compare"
    assert free_folder(out, stamp(out)) == out  # nothing is there
    out.mkdir()
    (out / "results.json").write_text("of an earlier run")
    begun = stamp(out)
    assert free_folder(out, begun) == out
    (out / "other.json").write_text("of another run")
    (out / "other.json").replace(out / "results.json")
    with pytest.warns(PkpdWarning, match="another run wrote its results"):
        assert free_folder(out, begun) == tmp_path / "compare-2"
    (tmp_path / "compare-2").mkdir()
    with pytest.warns(PkpdWarning):
        assert free_folder(out, None) == tmp_path / "compare-3"


def test_partial_files_go_with_the_results_but_not_those_of_another_run(tmp_path):
    files = [tmp_path / f"{name}.partial.csv" for name in ("results", "pairs", "sensitivity")]
    for path in files:
        path.write_text("of this run")
    written = {path: stamp(path.parent, path.name) for path in files}
    (tmp_path / "other").write_text("of another run")
    (tmp_path / "other").replace(files[1])
    files[2].unlink()
    take_along(written)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.partial.csv"]


def test_a_run_that_moves_leaves_no_partial_file(tmp_path, monkeypatch):
    """Another run finishes in its folder while it simulates."""
    out = tmp_path / "compare"
    printed = CohortPrinter.cohort

    def cohort(self, *given):
        printed(self, *given)
        (out / "results.json").write_text("{}")

    monkeypatch.setattr(CohortPrinter, "cohort", cohort)
    asked = ["compare", "--trial", "NCT01116193", "--marrow", "friberg", "--full", "--no-figures"]
    with pytest.warns(PkpdWarning, match="another run wrote its results"):
        got = CliRunner().invoke(
            app, [*asked, "--patients", "8", "--draws", "2", "--out", str(out)]
        )
    assert got.exit_code == 0, got.output
    assert [path.name for path in out.iterdir()] == ["results.json"]
    assert (tmp_path / "compare-2" / "results.csv").is_file()


def test_a_command_shows_a_warning_as_a_sentence():
    usual = warnings.formatwarning
    with plain_warnings():
        own = warnings.formatwarning("something is odd.", PkpdWarning, "file.py", 3)
        other = warnings.formatwarning("something else", UserWarning, "file.py", 3)
    assert own == "pkpd: something is odd.\n"
    assert other.startswith("file.py:3: UserWarning: something else")
    assert warnings.formatwarning is usual
