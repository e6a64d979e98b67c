"""Every public name has an example, and the examples by room do what they say."""

from __future__ import annotations

import doctest

import pytest

from docs.site import examples
from docs.site.names import homes
from docs.site.pages import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = examples.page_names()
HEAVY = {"checks", "data", "endpoints", "evidence", "forecasting", "plots", "report", "search"}
"""Pages that fit or simulate, and compile what they need: seconds, so that they run as slow."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own with what a checkout has beside the documents."""
    for name in ("fits", "models", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def run(page, sections):
    """Run sections in one namespace; each fails by the text of its first difference."""
    names = {"__name__": "__main__"}
    runner = doctest.DebugRunner(optionflags=FLAGS, verbose=False)
    for section in sections:
        before = dict(names)
        where = f"docs/examples/{page}.md"
        test = doctest.DocTestParser().get_doctest(section.code, names, section.heading, where, 0)
        test.globs = names  # a test has a copy of its own
        try:
            runner.run(test, clear_globs=False)
        except doctest.DocTestFailure as failure:
            found = failure.example.source, failure.got
            pytest.fail(f"{page}: {section.heading}: expected {failure.example.want!r}, {found}")
        new = [value for name, value in names.items() if before.get(name) is not value]
        new += [one for value in new if isinstance(value, list | tuple) for one in value]
        lacking = examples.not_shown(section, {type(value).__name__ for value in new})
        assert not lacking, f"{page}: {section.heading} does not use {lacking}"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in PAGES if page not in HEAVY])
def test_quick_sections_run(page):
    sections = [section for section in examples.sections_of(page) if not section.slow]
    run(page, sections)
    assert sections


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page in HEAVY or any(section.slow for section in examples.sections_of(page))
    ],
)
def test_all_sections_run(page):
    sections = examples.sections_of(page)
    run(page, sections)
    assert sections


def test_every_public_name_has_an_example():
    assert examples.without_example() == []


def test_the_reference_shows_them():
    shown = [home for home in homes() if home in examples.sections()]
    assert shown
    for home in shown:
        section = examples.sections()[home]
        text = examples.example_text(home)
        assert not text or section.code.splitlines()[0] in text


def test_a_name_that_is_not_used_is_found():
    section = examples.Section("page", "`vpc`, `VPC`", ("pkpd.checks.vpc", "pkpd.checks.VPC"),
                               ">>> found = 1\n", slow=False)  # fmt: skip
    assert examples.not_shown(section, {"int"}) == ["pkpd.checks.vpc", "pkpd.checks.VPC"]
    assert examples.not_shown(section, {"VPC"}) == ["pkpd.checks.vpc"]
