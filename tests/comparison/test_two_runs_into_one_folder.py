"""The results of a run are kept beside those that another run wrote into its folder meanwhile."""

import pytest

from pkpd.errors import PkpdWarning
from pkpd.report.comparison.own_folder import free_folder, stamp


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
