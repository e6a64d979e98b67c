"""The sources of the site: every page is in a menu, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

import pkpd
from docs.site import assemble, links, names, pages

TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```|\.\. toctree::\n((?:\n|   .*\n)+)", re.DOTALL)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "sources"
    assemble.assemble(folder, pictures=False)
    return folder


def entries(page, folder):
    """Pages that the menus of a page name, without their endings."""
    where = PurePosixPath(page.relative_to(folder).as_posix()).parent
    for first, second in TOCTREE.findall(page.read_text()):
        names = [line.strip() for line in (first or second).splitlines()]
        names = [re.sub(r".*<(.*)>$", r"\1", name) for name in names]
        for name in (n for n in names if n and not n.startswith(":")):
            for found in folder.glob((where / f"{name}.*").as_posix()):
                yield found.relative_to(folder).with_suffix("").as_posix()


def every_page(folder):
    beside = [folder / "tutorials" / name for name in assemble.BESIDE]
    found = (p for p in folder.rglob("*") if p.suffix in (".md", ".rst") and p.is_file())
    return [p for p in found if not any(other in p.parents for other in beside)]


def test_every_page_is_in_a_menu(sources):
    found = every_page(sources)
    named = {entry for page in found for entry in entries(page, sources)}
    all_pages = {page.relative_to(sources).with_suffix("").as_posix() for page in found}
    assert all_pages - named == {"index"}
    assert {
        "fitting",
        "tutorials/statistician",
        "decisions/0001-layers",
        "reference/pkpd.designs",
    } <= all_pages


def test_every_document_of_the_folder_is_a_page(sources):
    for file in (pages.ROOT / "docs").rglob("*.md"):
        assert (sources / pages.pages()[file.relative_to(pages.ROOT).as_posix()]).is_file()


def test_no_page_takes_the_place_of_one_that_sphinx_makes():
    # its own search and index would lie under the same address
    assert not {"search.md", "genindex.md"} & set(pages.pages().values())


def test_links_between_files_lead_to_pages_and_downloads(sources):
    overview = (sources / "overview.md").read_text()
    assert "(reading_the_comparison.md)" in overview
    assert "(how_we_know/learning.md#reached)" in overview
    assert "(images/len_mec_dlt.png)" in overview or "files/docs/images" in overview
    assert "(files/benchmarks/forecasts/patient.csv)" in (sources / "forecasts.md").read_text()
    assert (sources / "files/benchmarks/forecasts/patient.csv").is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](fitting.md#data)\n", "[a](fitting.md#data)\n"),
        ("[a](../README.md) and [b](https://x.org)\n", "[a](overview.md) and [b](https://x.org)\n"),
        ("`x[i](j)`\n", "`x[i](j)`\n"),
        ("```python\nx[i](j)\n```\n", "```python\nx[i](j)\n```\n"),
    ],
)
def test_a_line_keeps_its_code(tmp_path, monkeypatch, text, expected):
    made = tmp_path / "docs"
    made.mkdir()
    (made / "page.md").write_text(text)
    (made / "fitting.md").write_text("# Fitting\n")
    (tmp_path / "README.md").write_text("# x\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert pages.page_text("docs/page.md", pages.pages(), set()) == expected


@pytest.mark.parametrize("link", ["gone.md", "../gone/", "../../outside.txt"])
def test_a_link_to_nothing_is_refused(tmp_path, monkeypatch, link):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"# Page\n\n[text]({link})\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    with pytest.raises(pages.DeadLinkError, match=r"docs/page.md:3: .* leads nowhere"):
        pages.page_text("docs/page.md", pages.pages(), set())


def test_the_reference_has_every_public_name(sources):
    for name in names.public_modules():
        module = getattr(pkpd, name)
        text = (sources / f"reference/pkpd.{name}.rst").read_text()
        for public in names.public_names(module):
            assert re.search(rf"pkpd\.{name}\.{public}\b", text), f"{name}.{public}"


def test_links_of_a_built_site(tmp_path):
    (tmp_path / "one.html").write_text(
        '<a href="two.html#here">x</a><a href="two.html#gone">x</a><a href="#top">x</a>'
        '<img src="gone.svg"><a href="https://example.org/gone">x</a>'
    )
    (tmp_path / "two.html").write_text('<p id="here"></p><a href="one.html">x</a>')
    assert links.dead_links(tmp_path) == [
        "one.html:1: the link to two.html#gone leads to no place on that page",
        "one.html:1: the link to gone.svg leads to no file",
    ]
