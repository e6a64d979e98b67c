"""First answers are kept whole, for what they were made from alone, and not for ever."""

from __future__ import annotations

import json
import os
import re

import pytest

from pkpd.explorer import first_answers
from pkpd.explorer.first_answers import (
    MOST_KEPT,
    FirstAnswers,
    made_from,
    ship_picture,
    shipped_picture,
)
from pkpd.explorer.server import Explorer
from pkpd.explorer.state import opened


def test_an_answer_is_that_of_what_was_asked(tmp_path):
    kept = FirstAnswers(tmp_path)
    kept.keep("a", b"one")
    kept.keep("b", b"two")
    again = FirstAnswers(tmp_path)
    assert (again.get("a"), again.get("b"), again.get("c")) == (b"one", b"two", None)


def test_an_answer_that_was_changed_is_none(tmp_path):
    kept = FirstAnswers(tmp_path)
    kept.keep("a", b"one")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for broken in (whole[:-1], b"", whole + b" "):
        file.write_bytes(broken)
        assert kept.get("a") is None


@pytest.mark.parametrize("changed", ["whole_digest", "version"])
def test_another_source_or_library_has_other_answers(tmp_path, monkeypatch, changed):
    FirstAnswers(tmp_path).keep("a", b"one")
    monkeypatch.setattr(first_answers, changed, lambda *_, **__: "another")
    assert FirstAnswers(tmp_path).get("a") is None


def test_another_card_has_other_answers(tmp_path, monkeypatch):
    (tmp_path / "drugs").mkdir()
    card = tmp_path / "drugs" / "mine.toml"
    card.write_text("a = 1")
    monkeypatch.setattr(first_answers, "card_folder", lambda kind: tmp_path / kind)
    before = made_from()
    assert made_from() == before
    card.write_text("a = 2")
    assert made_from() != before


def test_nothing_is_kept_where_a_card_has_changed_meanwhile(tmp_path, monkeypatch):
    kept = FirstAnswers(tmp_path / "answers")
    monkeypatch.setattr(first_answers, "made_from", lambda: "of another card")
    kept.keep("a", b"one")
    assert not (tmp_path / "answers").exists()


def test_an_answer_in_a_folder_that_is_read_alone_is_used(tmp_path, monkeypatch):
    kept = FirstAnswers(tmp_path)
    kept.keep("a", b"one")

    def refused(path):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.touch", refused)
    assert kept.get("a") == b"one"


@pytest.mark.slow
def test_those_not_asked_for_longest_go(tmp_path):
    kept = FirstAnswers(tmp_path)
    for number in range(MOST_KEPT):
        kept.keep(str(number), b"answer")
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        os.utime(file, (1e9 + number, 1e9 + number))
    assert kept.get("3") == b"answer"  # and is the newest now
    for number in range(100, 100 + MOST_KEPT - 1):
        kept.keep(str(number), b"answer")
    assert len(list(tmp_path.iterdir())) == MOST_KEPT
    assert kept.get("3") == b"answer"


def test_a_folder_that_cannot_be_used_is_no_reason_to_stop(tmp_path):
    (tmp_path / "file").write_text("")
    kept = FirstAnswers(tmp_path / "file")
    kept.keep("a", b"one")
    assert kept.get("a") is None


def test_the_picture_that_comes_with_the_package_is_of_its_cards(tmp_path):
    question, _ = Explorer(tmp_path, opened(None, tmp_path)).first_question()
    answer = shipped_picture(question)
    assert answer is not None, "python -m benchmarks.explorer --ship"
    assert len(json.loads(answer)["schedules"]) == 2
    assert shipped_picture(question + b" ") is None


def test_a_picture_of_other_cards_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(first_answers, "SHIPPED", tmp_path / "picture.json")
    assert shipped_picture(b"a") is None  # no file
    ship_picture(b"a", b'{"days":3}')
    assert shipped_picture(b"a") == b'{"days": 3}'
    (tmp_path / "drugs").mkdir()
    (tmp_path / "drugs" / "mine.toml").write_text("a = 1")
    monkeypatch.setattr(first_answers, "card_folder", lambda kind: tmp_path / kind)
    assert shipped_picture(b"a") is None


@pytest.mark.slow
def test_the_picture_that_comes_with_the_package_is_what_is_worked_out(tmp_path):
    """Words to the letter; numbers but for a patient who passes a limit on one processor alone."""
    question, answer = Explorer(tmp_path, opened(None, tmp_path)).first_answer()
    shipped = shipped_picture(question)
    assert shipped is not None, "python -m benchmarks.explorer --ship"
    close("answer", json.loads(shipped), json.loads(answer))


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def close(where, one, other, least=0.01):
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            close(f"{where}.{key}", one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            close(f"{where}[{i}]", *pair)
    elif isinstance(one, str):
        assert NUMBER.sub("#", one) == NUMBER.sub("#", other), where
        for pair in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
            close(f"{where}: {other}", *map(float, pair), least=1.0)  # a point, a day
    elif isinstance(one, int | float):
        assert other == pytest.approx(one, rel=0.02, abs=least), where
    else:
        assert one == other, where
