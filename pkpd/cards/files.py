"""Where the cards lie: inside an installed wheel, in a checkout, or a file of the user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from os import PathLike
from os.path import isdir, isfile  # also for a name longer than the system takes
from pathlib import Path

from pkpd.arguments import PATH, check_arguments, nearest_of
from pkpd.errors import CardError

KINDS = (
    *("trials", "rules", "pk", "effects", "marrow", "populations", "joint", "drugs"),
    *("leukaemia", "evidence", "schedules"),
)
_IN_CHECKOUT = {"schedules": "benchmarks/schedules"}  # the other kinds lie in models/

CardPath = Path | Traversable


def card_folder(kind: str) -> CardPath:
    """Folder that holds the cards of one kind.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.

    Returns
    -------
    Traversable
        ``pkpd/_cards/<kind>`` of an installed wheel, else ``models/<kind>`` of the checkout the
        package is imported from. The folder itself may be missing or empty.

    Raises
    ------
    CardError
        If `kind` is not a kind of card.
    """
    if kind not in KINDS:
        raise CardError(
            where="card kind",
            what=f"{kind!r} is not a kind of card{nearest_of(kind, KINDS)}",
            allowed=", ".join(KINDS),
        )
    return _folder(kind, resources.files)


@lru_cache(maxsize=64)
def _folder(kind: str, files: Callable[[str], Traversable]) -> CardPath:
    """Folder of a kind of card where `files` finds the package."""
    package = files("pkpd")
    installed = package / "_cards"
    if installed.is_dir():
        return installed / kind
    return Path(str(package)).parent / _IN_CHECKOUT.get(kind, f"models/{kind}")


def card_names(kind: str) -> tuple[str, ...]:
    """Names of the shipped cards of one kind, sorted, without the ``.toml``.

    Examples
    --------
    >>> "leukemia_d42_generic" in card_names("rules")
    True
    """
    folder = card_folder(kind)
    if isinstance(folder, Path):
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return ()
        return _names_in(str(folder), changed)
    return _toml_names(folder) if folder.is_dir() else ()


@lru_cache(maxsize=64)
def _names_in(folder: str, changed: int) -> tuple[str, ...]:
    """Names of the cards in a folder; `changed` tells one listing from a later one."""
    return _toml_names(Path(folder))


def _toml_names(folder: CardPath) -> tuple[str, ...]:
    files = (entry.name for entry in folder.iterdir() if entry.is_file())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def find_card(
    kind: str, name: str | Path, among: Callable[[], Sequence[str]] | None = None
) -> CardPath:
    """File of a card, by its name or by the path of a user's own ``.toml`` file.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    name
        Name of a shipped card (of a trial also its registry number), or a path: anything that ends
        with ``.toml`` or has a folder in it.
    among
        Names that the message of an error lists; all of the kind if not given.

    Raises
    ------
    CardError
        If there is no such card (the message lists the nearest name and what is available), or no
        such file.

    Examples
    --------
    >>> find_card("rules", "leukemia_d42_generic").name
    'leukemia_d42_generic.toml'
    """
    check_arguments(f"cards of {kind}", name=(name, PATH))
    folder = card_folder(kind)
    if isinstance(name, PathLike):
        name = Path(name)
    if isinstance(name, Path) or name.endswith(".toml") or "/" in name or "\\" in name:
        return _user_file(Path(name))
    met = _met(str(folder))
    if name in met:
        return met[name]
    names = card_names(kind)
    name = trial_name(name) if kind == "trials" else name
    if name not in names:
        names = names if among is None else among()
        raise CardError(
            where=f"cards of {kind}",
            what=f"there is no card named {name!r}{nearest_of(name, names)}",
            allowed=", ".join(names) or "none (no card of this kind is installed)",
            remedy="or give the path of your own .toml file",
        )
    return met.setdefault(name, folder / f"{name}.toml")


@lru_cache(maxsize=64)
def _met(folder: str) -> dict[str, CardPath]:
    """Files of the cards of a folder that were asked for; the folder is not listed for them again.

    One that has been removed since is told by whoever reads it.
    """
    return {}


def trial_name(text: str) -> str:
    """Card name of a trial from its name, a file, or a registry number such as NCT01681537."""
    names = card_names("trials")
    if text in names or text.endswith(".toml"):
        return text
    found = [name for name in names if name.split("_")[0].casefold() == text.casefold()]
    return found[0] if len(found) == 1 else text


def card_hash(path: CardPath | str) -> str:
    """SHA-256 of a card file's bytes, as 64 hexadecimal digits, for run records."""
    file = Path(path) if isinstance(path, str) else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def shown_name(path: CardPath | str) -> str:
    """How error messages name a card file: ``trials/x.toml`` if shipped, else the path as given."""
    text = str(path)
    parts = Path(text).parts
    for kind in KINDS:
        if len(parts) >= 2 and parts[-2] == kind and text == str(card_folder(kind) / parts[-1]):
            return f"{kind}/{parts[-1]}"
    return text


def _user_file(path: Path) -> Path:
    if isdir(path):
        raise CardError(where=str(path), what="it is a folder", remedy="name a .toml file in it")
    if not isfile(path):
        parent = path.parent
        beside = sorted(p.name for p in parent.glob("*.toml")) if isdir(parent) else []
        raise CardError(
            where=str(path),
            what=f"there is no such file{nearest_of(path.name, beside)}",
            allowed=f"in {parent}: {', '.join(beside)}" if beside else None,
            remedy="check the path, or give the name of a shipped card",
        )
    if path.suffix != ".toml":
        raise CardError(
            where=str(path),
            what=f"a card is a .toml file, not {path.suffix or 'a file without ending'!r}",
            remedy="write the card as TOML",
        )
    return path
