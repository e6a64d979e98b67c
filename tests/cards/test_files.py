"""Where cards are found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pkpd.cards import card_folder, card_hash, card_names, files, find_card
from pkpd.errors import CardError


def test_a_card_is_found_by_name():
    path = find_card("trials", "nct01681537_len_mec")
    assert path.name == "nct01681537_len_mec.toml"
    assert "nct01681537_len_mec" in card_names("trials")
    assert card_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_trial_is_found_by_its_registry_number():
    assert find_card("trials", "NCT01673308") == find_card("trials", "nct01673308_lenalidomide_mds")


def test_a_card_is_found_by_path(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("a = 1")
    assert find_card("trials", mine) == mine
    assert find_card("rules", str(mine)) == mine


@pytest.mark.parametrize(
    ("kind", "name", "parts"),
    [
        ("trials", "nct01681537_len_mce", ["did you mean 'nct01681537_len_mec'"]),
        ("trials", "NCT0167330", ["did you mean 'nct01673308_lenalidomide_mds'"]),
        ("rules", "zzz", ["no card named 'zzz'; allowed: aza_len_stop", "leukemia_d42_generic"]),
        ("rule", "x", ["'rule' is not a kind of card (did you mean 'rules'?)"]),
    ],
)
def test_unknown_names(kind, name, parts):
    with pytest.raises(CardError) as error:
        find_card(kind, name)
    for part in parts:
        assert part in str(error.value)


def test_missing_files(tmp_path):
    (tmp_path / "weekly.toml").write_text("")
    with pytest.raises(CardError, match=r"no such file .did you mean 'weekly.toml'"):
        find_card("trials", tmp_path / "weeky.toml")
    with pytest.raises(CardError, match="it is a folder"):
        find_card("trials", f"{tmp_path}/")
    (tmp_path / "weekly.yaml").write_text("")
    with pytest.raises(CardError, match=r"a card is a .toml file, not '.yaml'"):
        find_card("trials", tmp_path / "weekly.yaml")


def test_an_installed_wheel_has_its_cards_inside_the_package(tmp_path, monkeypatch):
    folder = tmp_path / "pkpd" / "_cards" / "rules"
    folder.mkdir(parents=True)
    (folder / "one.toml").write_text('kind = "rule"')
    monkeypatch.setattr(files.resources, "files", lambda package: tmp_path / package)
    assert card_names("rules") == ("one",)
    assert find_card("rules", "one") == folder / "one.toml"
    assert card_names("trials") == ()


def test_a_checkout_has_its_cards_beside_the_package():
    folder = Path(str(card_folder("rules")))
    assert folder.name == "rules"
    assert (folder / "ctcae_v5.toml").is_file()
