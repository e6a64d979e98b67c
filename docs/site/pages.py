"""Which file of the repository is which page of the site, and the links between them.

Documents lie where their readers look for them: some in ``docs/``, others beside the code or the
cards. On the site each is a page, and a link between files becomes a link between pages. A link
to a file that is no page becomes a download of it; a link to nothing is an error.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]

#: Files outside of ``docs/`` that are pages, and their places on the site.
ELSEWHERE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "models/SCHEMA.md": "cards.md",
    "models/evidence/README.md": "how_we_know/outcomes.md",
    "fits/README.md": "how_we_know/fits.md",
    "fits/evidence/README.md": "how_we_know/learning.md",
    "fits/evidence/FIGURES.md": "how_we_know/learning_figures.md",
    "fits/sbc/README.md": "how_we_know/calibration.md",
    "benchmarks/designs/README.md": "benchmarks/designs.md",
    "benchmarks/schedules/README.md": "benchmarks/schedules.md",
}

#: Folders of pages that are made from the package and its cards.
MADE = ("docs/reference/", "docs/library/")

_FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})")
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_CODE = re.compile(r"`[^`]*`")
_OUTSIDE = ("http://", "https://", "mailto:", "#")


class DeadLinkError(Exception):
    """A link of a document that leads nowhere."""


def pages() -> dict[str, str]:
    """File of the repository -> page of the site, both as paths with ``/``."""
    own = {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
    }
    own["docs/decisions/README.md"] = "decisions/index.md"
    return own | ELSEWHERE


def page_text(source: str, known: dict[str, str], files: set[str]) -> str:
    """Text of a page, with its links led to pages and downloads.

    Parameters
    ----------
    source
        File of the repository.
    known
        What `pages` gives.
    files
        Receives the files that the page offers as downloads.

    Raises
    ------
    DeadLinkError
        If a link leads to no file.
    """
    lines = []
    fence = ""
    for number, line in enumerate((ROOT / source).read_text().splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            line = _led(line, f"{source}:{number}", source, known, files)
        lines.append(line)
    return "\n".join(lines) + "\n"


def copy_pages(target: Path) -> dict[str, str]:
    """Write all pages, their pictures and downloads under a folder; returns what `pages` gives."""
    known = pages()
    files: set[str] = set()
    for source, page in known.items():
        place = target / page
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(page_text(source, known, files))
    for file in files:
        place = target / "files" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, place)
    return known


def _led(line: str, where: str, source: str, known: dict[str, str], files: set[str]) -> str:
    """One line of prose with its links led elsewhere."""
    code = [match.span() for match in _CODE.finditer(line)]

    def lead(match: re.Match[str]) -> str:
        link = match[1]
        if link.startswith(_OUTSIDE) or any(a < match.start() < b for a, b in code):
            return link
        path, _, anchor = link.partition("#")
        file = os.path.normpath(PurePosixPath(source).parent / path)
        if (ROOT / file).is_dir():
            file = f"{file}/README.md"
        if file in known:
            page = os.path.relpath(known[file], PurePosixPath(known[source]).parent)
            return f"{page}#{anchor}" if anchor else page
        if file.startswith(MADE):
            return link
        if not (ROOT / file).is_file() or file.startswith(".."):
            problem = f"{where}: the link to {link} leads nowhere; correct its path"
            raise DeadLinkError(problem)
        files.add(file)
        return os.path.relpath(f"files/{file}", PurePosixPath(known[source]).parent)

    return _LINK.sub(lead, line)
