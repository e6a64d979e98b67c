"""What is kept is what was made, is bounded, and was asked for last."""

from __future__ import annotations

from pkpd.kept_values import Kept


def test_a_value_is_made_once_and_those_used_last_are_kept():
    made = []
    kept = Kept(2)

    def of(key):
        return kept.of(key, lambda: made.append(key) or key.upper())

    assert [of(key) for key in "abab"] == ["A", "B", "A", "B"]
    assert made == ["a", "b"]
    of("a")
    of("c")  # in the place of b
    assert kept.total == 2
    of("a")
    of("b")
    assert made == ["a", "b", "c", "b"]
    kept.clear()
    assert kept.total == 0
    of("b")
    assert made == ["a", "b", "c", "b", "b"]


def test_sizes_are_bounded_and_what_is_too_large_takes_no_place():
    kept = Kept(10, len)
    kept.of("a", lambda: "four")
    assert kept.of("large", lambda: "more than ten letters") == "more than ten letters"
    assert kept.of("a", lambda: "other") == "four"
    for key in range(5):
        kept.of(key, lambda: "1234")
        assert kept.total <= 10
