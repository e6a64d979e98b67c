"""The results of a run are kept beside those that another run wrote into its folder meanwhile."""

import warnings

import pytest

from pkpd.errors import PkpdWarning
from pkpd.report.comparison.own_folder import free_folder, stamp
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


def test_a_command_shows_a_warning_as_a_sentence():
    usual = warnings.formatwarning
    with plain_warnings():
        own = warnings.formatwarning("something is odd.", PkpdWarning, "file.py", 3)
        other = warnings.formatwarning("something else", UserWarning, "file.py", 3)
    assert own == "pkpd: something is odd.\n"
    assert other.startswith("file.py:3: UserWarning: something else")
    assert warnings.formatwarning is usual
