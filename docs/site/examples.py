"""Examples of the public names: in their docstrings, or in the pages of ``docs/examples``.

A section of such a page shows the names of its heading. Its code runs as a test, after the code of
the sections before it, and stands in the reference beside each of these names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from docs.site.names import homes
from docs.site.pages import ROOT

FOLDER = ROOT / "docs" / "examples"
PROMPT = ">>> "
_FENCE = re.compile(r"^(<!-- slow -->\n)?```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """One section of a page of examples.

    Attributes
    ----------
    page
        Name of the page, without its ending.
    heading
        As it stands there.
    names
        Where the reference documents what the section shows: ``pkpd.checks.vpc``.
    code
        Its doctest.
    slow
        Whether it is too slow for the tests that always run.
    """

    page: str
    heading: str
    names: tuple[str, ...]
    code: str
    slow: bool


def page_names() -> list[str]:
    """Names of the pages of examples, without their index."""
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")


def sections_of(page: str) -> list[Section]:
    """Sections of a page, in their order.

    Raises
    ------
    ValueError
        If a heading names what is not public, or what several rooms have, or a section has no code.
    """
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = part.splitlines()[0]
        blocks = _FENCE.findall(part)
        if not blocks:
            msg = f"docs/examples/{page}.md: {heading!r} has no code"
            raise ValueError(msg)
        names = tuple(_home(page, name) for name in re.findall(r"`([^`]+)`", heading))
        code = "".join(code for _, code in blocks)
        found.append(Section(page, heading, names, code, any(slow for slow, _ in blocks)))
    return found


def _home(page: str, name: str) -> str:
    """Where a name of a heading is documented; one that several rooms have bears its room."""
    ends = f".{name}"
    found = sorted({home for home in homes() if home.endswith(ends)})
    if len(found) != 1:
        what = "is not public" if not found else f"may be {' or '.join(found)}"
        msg = f"docs/examples/{page}.md: {name!r} in a heading {what}"
        raise ValueError(msg)
    return found[0]


@cache
def sections() -> dict[str, Section]:
    """Section that shows each name."""
    every = [section for page in page_names() for section in sections_of(page)]
    return {name: section for section in reversed(every) for name in section.names}


@cache
def makers() -> dict[str, str]:
    """Find functions with an example, by the classes that they return."""
    found: dict[str, str] = {}
    for home, value in homes().items():
        if inspect.isfunction(value) and PROMPT in (inspect.getdoc(value) or ""):
            for word in re.findall(r"\w+", str(value.__annotations__.get("return", ""))):
                found.setdefault(word, home)
    return {
        home: found[value.__name__]
        for home, value in homes().items()
        if isinstance(value, type) and value.__name__ in found
    }


def in_docstring(value: object) -> bool:
    """Whether a name's docstring, or that of a method, has an example."""
    if isinstance(value, ModuleType) or not callable(value):
        return False
    own = [value]
    if isinstance(value, type):
        own += [getattr(value, name) for name in vars(value) if not name.startswith("_")]
    return any(PROMPT in (inspect.getdoc(one) or "") for one in own)


def example_text(home: str) -> str:
    """Write the example of a name in reStructuredText; empty if its docstring has one."""
    module, _, name = home.rpartition(".")
    if in_docstring(getattr(importlib.import_module(module), name)):
        return ""
    section = sections().get(home)
    if section is not None:
        code = "\n".join(f"   {line}".rstrip() for line in section.code.splitlines())
        after = f":doc:`{section.page} </examples/{section.page}>`"
        return f".. rubric:: Examples\n\n{after}:\n\n.. code-block:: pycon\n\n{code}"
    maker = makers().get(home)
    return (
        "" if maker is None else f".. rubric:: Examples\n\nSee :func:`{maker}`, which returns it."
    )


def without_example() -> list[str]:
    """Public names that no example shows."""
    return [
        home
        for home, value in homes().items()
        if not in_docstring(value) and home not in sections() and home not in makers()
    ]


def not_shown(section: Section, made: set[str]) -> list[str]:
    """Names of a heading that its code does not use.

    Parameters
    ----------
    section
        What is looked at.
    made
        Names of the types of what its code bound to a variable.
    """
    source = "\n".join(
        line[4:] for line in section.code.splitlines() if line.startswith((PROMPT, "... "))
    )
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return [name for name in section.names if name.rpartition(".")[2] not in used | made]
