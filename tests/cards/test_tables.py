"""The strict reader of TOML tables."""

from __future__ import annotations

import pytest

from pkpd.cards import Table, read_toml
from pkpd.errors import CardError, UnitError

GOOD = """
name = "a"
dose = 5
share = 0.5
on = true
list = [1, 2.5]
words = ["a", "b"]
kind = "oral"
[inner]
x = 1
[[row]]
y = 1
[[row]]
y = 2
  [[row.part]]
  z = 3
[named.first]
n = 1
[named.second]
n = 2
"""


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        path = tmp_path / "card.toml"
        path.write_text(text, encoding="utf-8")
        table = read_toml(path)
        table.file = "card.toml"
        return table

    return read_text


def test_every_getter(read):
    table = read(GOOD)
    assert table.text("name") == "a"
    assert table.number("dose", minimum=0, maximum=10, unit="mg") == 5.0
    assert table.integer("dose") == 5
    assert table.number("share", above=0.0) == 0.5
    assert table.boolean("on") is True
    assert table.numbers("list", length=2) == (1.0, 2.5)
    assert table.texts("words") == ("a", "b")
    assert table.one_of("kind", ("iv", "oral")) == "oral"
    assert table.table("inner").integer("x") == 1
    rows = table.tables("row")
    assert [row.integer("y") for row in rows] == [1, 2]
    part = rows[1].tables("part")[0]
    assert part.where("z") == "card.toml: [[row]] 2 > [[part]] 1 > z"
    named = table.named_tables("named")
    assert {key: inner.integer("n") for key, inner in named.items()} == {"first": 1, "second": 2}
    assert named["first"].where("n") == "card.toml: [named.first] > n"
    with pytest.raises(CardError, match=r"\[\[row\]\] 2 > \[\[part\]\] 1 > z: unknown key"):
        table.done()
    part.integer("z")
    table.done()


def test_errors_are_of_the_public_type(read):
    """A traceback named a type of this module, which the documents do not know."""
    with pytest.raises(CardError) as caught:
        read(GOOD).table("inner").text("x")
    assert type(caught.value) is CardError
    assert (caught.value.keys, caught.value.key) == (("inner",), "x")


def test_defaults():
    empty = Table({}, "card.toml")
    assert empty.text("a", default=None) is None
    assert empty.number("a", default=1.5) == 1.5
    assert empty.tables("a", default=()) == ()
    assert "a" not in empty
    empty.done()


@pytest.mark.parametrize(
    ("text", "ask", "message"),
    [
        ("dos = 5", lambda t: t.number("dose"), "dose: the key is missing (is it written as 'dos'"),
        ("a = 5", lambda t: t.text("a"), "a: 5 is not text; put it in double quotes"),
        ('a = " "', lambda t: t.text("a"), "a: the text is empty"),
        ('a = "5"', lambda t: t.number("a"), 'a: "5" is not a number; allowed: a number; remove'),
        ("a = true", lambda t: t.number("a"), "a: true is not a number"),
        ("a = nan", lambda t: t.number("a"), "a: nan is out of range"),
        ("a = inf", lambda t: t.number("a"), "a: inf is out of range"),
        ("a = -1", lambda t: t.number("a", minimum=0, unit="h"), "a number at least 0 (h)"),
        ("a = 0", lambda t: t.number("a", above=0), "a: 0 is out of range; allowed: a number"),
        ("a = 2.5", lambda t: t.integer("a"), "a: 2.5 is not a whole number"),
        ("a = 1", lambda t: t.boolean("a"), "a: 1 is not true or false"),
        ("a = 1", lambda t: t.numbers("a"), "a: 1 is not a list"),
        ("a = [1, nan]", lambda t: t.numbers("a"), "a, item 2: nan is out of range"),
        ("a = [1]", lambda t: t.numbers("a", length=2), "a: 1 items where 2 are expected"),
        ("a = [1]", lambda t: t.texts("a"), "a, item 1: 1 is not text"),
        ('a = "orl"', lambda t: t.one_of("a", ("iv", "oral")), "(did you mean 'oral'?); allowed:"),
        ("a = 1", lambda t: t.table("a"), "a: 1 is not a table"),
        ("[a]", lambda t: t.tables("a"), "a: a single table where rows are expected; write each"),
        ("a = 1", lambda t: t.named_tables("a"), "a: 1 is not a table"),
        ("b = 1\nname = 2", lambda t: (t.text("c", None), t.done()), "b: unknown key; allowed: c"),
        ("naem = 1", lambda t: (t.text("name", None), t.done()), "(did you mean 'name'?)"),
        ("", lambda t: t.named_tables("a"), "the file is empty; allowed: tables [a.<name>]; add"),
    ],
)  # fmt: skip
def test_errors_name_file_key_value_and_remedy(read, text, ask, message):
    with pytest.raises(CardError) as error:
        ask(read(text))
    assert str(error.value).startswith("card.toml: ")
    assert message in str(error.value)
    assert str(error.value)[-1] in ".?"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a = 1\nb = = 2\n", ["line 2", "not valid TOML", "'b = = 2'"]),
        ("a = 1\na = 2\n", ["line 2", "'a' stands a second time", "'a = 2'"]),
        ("a = 0,25\n", ["line 1", "a comma in a number", "with a point, 0.25"]),
        ("b = 1\na = [.1, .2]\n", ["line 2", "'a = [.1, .2]' has a point without a digit", "0.5"]),
        ("a = 5.\n", ["line 1", "'a = 5.' has a point without a digit", "0.5, and 5.0"]),
        ('a = ".5\n', ["line 1", "not valid TOML"]),
        ("a = [1,\n", ["not valid TOML"]),
        (f"a = {'9' * 5000}\n", ["a number has thousands of digits"]),
        ("[a\nb = 1", ["line 1"]),
    ],
)
def test_syntax_errors_give_the_line(read, text, parts):
    with pytest.raises(CardError) as error:
        read(text)
    for part in parts:
        assert part in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CardError, match="the file cannot be read"):
        read_toml(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes('a = "µ"'.encode("latin-1"))
    with pytest.raises(CardError, match="not UTF-8"):
        read_toml(path)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(path).integer("a") == 1


def test_errors_of_lower_layers_get_their_place(read):
    table = read("[inner]\na = 1").table("inner")
    with (
        pytest.raises(CardError, match=r"card.toml: inner > a: bad unit") as error,
        table.at("a"),
    ):
        raise UnitError("bad unit.")
    assert isinstance(error.value.__cause__, UnitError)
