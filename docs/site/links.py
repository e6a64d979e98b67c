"""Look for links within a built site that lead nowhere: to no file, or to no place in it.

Usage: ``python -m docs.site.links FOLDER``; ``make docs`` does it after the build.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ATTRIBUTES = {"href", "src"}


class _Page(HTMLParser):
    """Links of a page, and the places that others may link to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[int, str]] = []
        self.places: set[str] = {"", "top"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name in _ATTRIBUTES and value:
                self.links.append((self.getpos()[0], value))


def dead_links(folder: Path) -> list[str]:
    """Sentences about the links of a built site that lead nowhere.

    Parameters
    ----------
    folder
        The built site.
    """
    pages: dict[Path, _Page] = {}
    folder = folder.resolve()
    for file in sorted(folder.rglob("*.html")):
        if "_static" in file.relative_to(folder).parts:
            continue  # templates of the theme
        pages[file] = _Page()
        pages[file].feed(file.read_text())
    found = []
    for file, page in pages.items():
        for line, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            where = f"{file.relative_to(folder)}:{line}"
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{where}: the link to {link} leads to no file")
            elif target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{where}: the link to {link} leads to no place on that page")
    return found


if __name__ == "__main__":
    problems = dead_links(Path(sys.argv[1]))
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))
