"""Programs that are kept are those that would be made, and nothing damaged is used."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pkpd.solve.bridge import kept_programs as kept
from pkpd.solve.bridge.program import program


@dataclass(frozen=True)
class Own:
    """A class of a user."""

    number: float = 1.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "own_folder", lambda: tmp_path)
    monkeypatch.setattr(kept, "_MADE", {})
    return tmp_path


class Maker:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return (program(lambda x, y: [x * y + 0.5], [(0, 0), (0, 1)], [(1, 0)]),), (7, 8)


def test_programs_are_read_in_the_next_run(folder):
    make = Maker()
    first = kept.kept_programs(("a marrow", 1.5, None), make)
    assert kept.kept_programs(("a marrow", 1.5, None), make) is first
    kept._MADE.clear()  # another run
    again = kept.kept_programs(("a marrow", 1.5, None), make)
    assert make.times == 1
    assert again is not first
    assert repr(again) == repr(first)


def test_another_number_or_source_makes_them_anew(folder, monkeypatch):
    make = Maker()
    for number in (1.5, 1.5000000000000002):
        kept.kept_programs(("a marrow", number), make)
    assert make.times == 2
    monkeypatch.setattr(kept, "whole_digest", lambda: "another")
    kept.kept_programs(("a marrow", 1.5), make)
    assert make.times == 3


@pytest.mark.parametrize("left", [b"", b"x" * 40, None])
def test_damaged_files_are_not_used(folder, left):
    make = Maker()
    kept.kept_programs("a marrow", make)
    (file,) = (folder / "programs").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if left is None else left)
    kept._MADE.clear()
    kept.kept_programs("a marrow", make)
    assert make.times == 2
    assert file.read_bytes()[32:] == whole[32:]


def test_classes_of_a_user_are_not_kept(folder):
    make = Maker()
    for _ in range(2):
        kept.kept_programs((Own(), "a marrow"), make)
    assert make.times == 2
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_to_is_no_reason_to_stop(folder):
    (folder / "programs").write_text("a file")
    make = Maker()
    _, rows = kept.kept_programs("a marrow", make)
    assert rows == (7, 8)
