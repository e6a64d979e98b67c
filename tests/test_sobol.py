"""Sobol points that are kept are those of SciPy."""

import itertools

import numpy as np
import pytest
from scipy.stats import qmc

from pkpd import sobol as module
from pkpd.sobol import sobol


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_times_kept", itertools.count())
    monkeypatch.setattr(module, "cache_home", lambda: tmp_path)
    return tmp_path / "points"


def none(*given):
    raise AssertionError(f"points were made: {given}")


@pytest.mark.parametrize(("d", "n", "seed"), [(1, 1, 0), (5, 256, 3), (18, 64, 2**63 + 5)])
def test_points_are_those_of_scipy_when_made_and_when_kept(folder, monkeypatch, d, n, seed):
    sequence = qmc.Sobol(d, scramble=True, rng=np.random.default_rng(seed))
    blocks = [sequence.random(n) for _ in range(3)]
    for _ in range(2):
        for k, expected in enumerate(blocks):
            points = sobol(d, n, np.random.default_rng(seed), k * n)
            np.testing.assert_array_equal(points, expected)
        monkeypatch.setattr(module, "_made", none)
    assert len(list(folder.iterdir())) == 3


def test_large_sets_are_not_kept(folder):
    assert sobol(2, 2**16, np.random.default_rng(1)).shape == (2**16, 2)
    assert not folder.exists()


def test_a_file_that_is_not_whole_is_made_again(folder):
    expected = sobol(3, 8, np.random.default_rng(1))
    (file,) = folder.iterdir()
    for content in (b"", file.read_bytes()[:-3], file.read_bytes() + b"x"):
        file.write_bytes(content)
        np.testing.assert_array_equal(sobol(3, 8, np.random.default_rng(1)), expected)


def test_a_folder_that_cannot_be_used_is_no_reason_to_stop(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module, "cache_home", lambda: tmp_path / "file")
    assert sobol(3, 8, np.random.default_rng(1)).shape == (8, 3)


def test_few_files_are_kept_by_all_and_by_one_process(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 4)
    for process in range(2):
        monkeypatch.setattr(module, "_times_kept", itertools.count())
        for seed in range(7 * process, 7 * process + 7):
            sobol(2, 4, np.random.default_rng(seed))
        assert len(list(folder.iterdir())) == 4
        # a process that makes more than are kept leaves those that it had asked for first
        with monkeypatch.context() as patch:
            patch.setattr(module, "_made", none)
            for seed in range(7 * process, 7 * process + 4):
                sobol(2, 4, np.random.default_rng(seed))
