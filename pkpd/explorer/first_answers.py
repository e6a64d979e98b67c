"""What a page asks first, kept between starts: it need not wait until the model is loaded.

Answers lie in the folder of caches, by what was asked and by all that they are made from: the
source of the package, its cards and posterior, the libraries that compute.
"""

from __future__ import annotations

import contextlib
import hashlib
from importlib.metadata import version
from pathlib import Path

from pkpd.cards.files import KINDS, card_folder
from pkpd.digests import whole_digest
from pkpd.errors import PkpdError
from pkpd.files import read_checked, write_checked
from pkpd.machine import cache_home

MOST_KEPT = 24
"""Files: those not asked for longest go."""
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


def made_from() -> str:
    """Digest of all that answers are made from, but what is asked."""
    found = hashlib.sha256(whole_digest(again=True).encode())
    for library in _LIBRARIES:
        found.update(f"{library} {version(library)}\n".encode())
    for kind in KINDS:
        folder = Path(str(card_folder(kind)))
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file():
                found.update(f"{kind} {path.relative_to(folder)}\n".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
