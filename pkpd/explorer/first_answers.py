"""What a page asks first, kept between starts: it need not wait until the model is loaded.

Answers lie in the folder of caches, by what was asked and by all that they are made from: the
source of the package, its cards and posterior, the libraries that compute. The picture of the page
that opens without a file comes with the package, for its cards alone; a test makes it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from pkpd.cards.files import KINDS, card_folder
from pkpd.digests import whole_digest
from pkpd.errors import PkpdError
from pkpd.files import read_checked, write_checked
from pkpd.machine import cache_home

MOST_KEPT = 24
"""Files: those not asked for longest go."""
SHIPPED = Path(__file__).with_name("first_picture.json")
"""The picture that comes with the package; ``python -m benchmarks.explorer --ship`` writes it."""
_LIBRARIES = ("jax", "numba", "numpy", "scipy")


class FirstAnswers:
    """Answers that are kept.

    Parameters
    ----------
    folder
        Where they lie; that of caches by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._made_from = made_from()
        self._folder = folder

    def get(self, asked: str) -> bytes | None:
        """Answer to what is asked; none where it is not kept, or not as it was written."""
        with contextlib.suppress(OSError, RuntimeError):
            file = self._file(asked)
            answer = read_checked(file)
            with contextlib.suppress(OSError):  # a folder that is read alone
                file.touch()
            return answer
        return None

    def keep(self, asked: str, answer: bytes) -> None:
        """Keep an answer, unless what it was made from has changed meanwhile.

        A disk that is full or read-only is no reason to stop.
        """
        with contextlib.suppress(PkpdError, OSError, RuntimeError):
            if made_from() != self._made_from:
                return
            file = self._file(asked)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_checked(file, answer)
            kept = sorted(file.parent.glob("*.answer"), key=lambda one: one.stat().st_mtime_ns)
            for old in kept[:-MOST_KEPT]:
                old.unlink(missing_ok=True)

    def _file(self, asked: str) -> Path:
        folder = self._folder or cache_home() / "explorer"
        name = hashlib.sha256(f"{self._made_from} {asked}".encode()).hexdigest()[:32]
        return folder / f"{name}.answer"


def shipped_picture(asked: bytes) -> bytes | None:
    """Picture that comes with the package; none of other cards, or of what else is asked."""
    with contextlib.suppress(OSError, ValueError):
        shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
        if shipped["of"] == _of(asked):
            return json.dumps(shipped["answer"], ensure_ascii=False).encode()
    return None


def ship_picture(asked: bytes, answer: bytes) -> None:
    """Write the picture that comes with the package."""
    shipped = {"of": _of(asked), "answer": json.loads(answer)}
    text = json.dumps(shipped, ensure_ascii=False, separators=(",", ":"))
    SHIPPED.write_text(text + "\n", encoding="utf-8")


def _of(asked: bytes) -> str:
    """Digest of what is asked, and of the cards."""
    found = hashlib.sha256(asked)
    _add_cards(found)
    return found.hexdigest()


def made_from() -> str:
    """Digest of all that answers are made from, but what is asked."""
    found = hashlib.sha256(whole_digest(again=True).encode())
    for library in _LIBRARIES:
        found.update(f"{library} {version(library)}\n".encode())
    _add_cards(found)
    return found.hexdigest()


def _add_cards(found: hashlib._Hash) -> None:
    for kind in KINDS:
        folder = Path(str(card_folder(kind)))
        # by parts and with slashes: on every system in one order and under one name
        for path in sorted(folder.rglob("*"), key=lambda one: one.parts) if folder.is_dir() else ():
            if path.is_file():
                found.update(f"{kind} {path.relative_to(folder).as_posix()}\n".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
