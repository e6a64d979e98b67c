"""Digests of the package's own source: what is kept between runs is of one state of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent
"""Folder of the package."""
_NAMED = re.compile(
    r"^\s*(?:from\s+pkpd([\w.]*)\s+import\s+(\([^)]*\)|.*)|import\s+pkpd([\w.]*))", re.MULTILINE
)
_COMPILES = re.compile(
    r"^\s*(?:from|import)\s+(?:numba|llvmlite|pkpd\.kept_code|pkpd\.solve\.bridge\.linking)\b",
    re.MULTILINE,
)


def source_digest(package: Path = PACKAGE) -> str:
    """Digest of the modules that Numba compiles, and of all that these import of the package.

    Parameters
    ----------
    package
        Folder of the package.
    """
    return _digests(package)[0]


def whole_digest(package: Path = PACKAGE, *, again: bool = False) -> str:
    """Digest of all modules of the package; with ``again`` of what they are now."""
    return (_digests.__wrapped__ if again else _digests)(package)[1]


def unchanged(package: Path = PACKAGE) -> bool:
    """Whether the modules are as they were when their digests were taken.

    A module that is edited while a process runs may be imported before or after: what that process
    compiles is then of no known state.
    """
    return _times(package) == _digests(package)[2]


def _times(package: Path) -> dict[Path, tuple[int, int]]:
    found = ((path, path.stat()) for path in package.rglob("*.py"))
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found}


@lru_cache(maxsize=4)
def _digests(package: Path) -> tuple[str, str, dict[Path, tuple[int, int]]]:
    times = _times(package)
    texts = {path: path.read_bytes() for path in package.rglob("*.py")}
    waiting = [path for path, text in texts.items() if _COMPILES.search(text.decode())]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [one for one in _imported(package, texts[path].decode()) if one in texts]

    def digest(paths: Iterable[Path]) -> str:
        made = hashlib.sha256()
        for path in sorted(paths):
            made.update(path.relative_to(package).as_posix().encode() + b"\0")
            made.update(hashlib.sha256(texts[path]).digest())
        return made.hexdigest()[:16]

    return digest(found), digest(texts), times


def _imported(package: Path, text: str) -> list[Path]:
    """Files of a package that a module may import: names are modules, or defined in one."""
    out = []
    for parent, names, whole in _NAMED.findall(text):
        folder = package.joinpath(*(parent or whole).split("."))
        out += [folder.with_suffix(".py"), folder / "__init__.py"]
        for name in re.findall(r"\w+", re.sub(r"#.*", "", names)):
            out += [folder / f"{name}.py", folder / name / "__init__.py"]
    return out
