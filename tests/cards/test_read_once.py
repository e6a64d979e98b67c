from pathlib import Path

import pytest

from pkpd.cards.contents import read_once
from pkpd.cards.files import card_folder
from pkpd.cards.model_cards import load_joint_card, load_model_card
from pkpd.errors import CardError


def test_a_file_is_read_again_when_it_has_changed_and_what_is_refused_every_time(tmp_path):
    file, seen = tmp_path / "a.txt", []

    @read_once
    def read(path):
        seen.append(path.read_text())
        if not seen[-1]:
            raise CardError("it is empty")
        return seen[-1]

    file.write_text("one")
    assert read(file) == read(file) == "one"
    file.write_text("three")
    assert read(file) == "three"
    file.write_text("")
    for _ in range(2):
        with pytest.raises(CardError):
            read(file)
    assert seen == ["one", "three", "", ""]
    file.unlink()
    with pytest.raises(OSError, match=r"a\.txt"):
        read(file)


def test_a_changed_model_card_of_ones_own_counts_at_once(tmp_path):
    text = (Path(str(card_folder("marrow"))) / "friberg_leukaemia.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(text.replace('name = "friberg_leukaemia"', 'name = "own"'))
    first = load_model_card("marrow", str(own))
    assert load_model_card("marrow", str(own)) is first
    own.write_text(own.read_text() + "\n# longer\n")
    again = load_model_card("marrow", str(own))
    assert again.sha256 != first.sha256
    assert again.individuals == first.individuals
    own.write_text("kind = 3\n")
    with pytest.raises(CardError):
        load_model_card("marrow", str(own))
    assert load_joint_card("default") is load_joint_card("default")
