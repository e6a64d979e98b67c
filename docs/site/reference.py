"""Pages of the reference: the public names of each module, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from docs.site.examples import example_text
from docs.site.names import home_of, public_modules, public_names


def module_page(name: str) -> str:
    """Write the reference of a module as reStructuredText: summary, then every name."""
    module = importlib.import_module(name)
    names = [n for n in public_names(module) if n != "__version__"]
    if name == "pkpd":
        names = [n for n in names if not isinstance(getattr(module, n), ModuleType)]
    parts = [_title(name, "="), f".. py:module:: {name}", inspect.getdoc(module) or ""]
    kinds = {n: _kind(getattr(module, n)) for n in names}
    listed = [n for n in names if kinds[n] != "module"]
    parts.append(_title("Names", "-"))
    homes = {n: home_of(name, n) for n in listed}
    rows = (f"   * - `{n} <{homes[n]}>`\n     - {_summary(getattr(module, n))}" for n in listed)
    parts.append(".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows))
    parts += [_entry(homes[n], kinds[n]) for n in listed if homes[n] == f"{name}.{n}"]
    for n in names:
        if kinds[n] == "module":
            parts.append(_title(f"{name}.{n}", "-"))
            parts.append(_inner(getattr(module, n), f"{name}.{n}"))
    return "\n\n".join(parts) + "\n"


def write_reference(folder: Path) -> None:
    """Write the reference's index and a page for each public module."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = ["pkpd", *(f"pkpd.{name}" for name in public_modules())]
    for name in modules:
        (folder / f"{name}.rst").write_text(module_page(name))
    rows = "\n".join(
        f"   * - :doc:`{name} <{name}>`\n     - {_first_line(name)}" for name in modules
    )
    index = [
        _title("Reference", "="),
        "Every public name of the package, from its docstring. A name has one home;\n"
        "``pkpd`` itself repeats the few that a first script needs. Its examples are tests.",
        f".. list-table::\n   :widths: 25 75\n\n{rows}",
        ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {name}" for name in modules),
    ]
    (folder / "index.rst").write_text("\n\n".join(index) + "\n")


def _first_line(name: str) -> str:
    return (importlib.import_module(name).__doc__ or "").strip().splitlines()[0]


def _title(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}"


def _kind(value: object) -> str:
    if isinstance(value, ModuleType):
        return "module"
    if isinstance(value, type):
        return "class"
    return "function" if callable(value) else "data"


def _summary(value: object) -> str:
    """First paragraph of a docstring; a constant has none of its own."""
    if _kind(value) == "data":
        return f"a {type(value).__name__}"
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def _entry(name: str, kind: str) -> str:
    if kind == "class":
        value = importlib.import_module(name.rpartition(".")[0])
        value = getattr(value, name.rpartition(".")[2])
        kind = "exception" if issubclass(value, BaseException) else "class"
        members = "   :members:" if kind == "class" else ""
        return f".. auto{kind}:: {name}\n{members}{_example(name)}"
    return f".. {'py:' if kind == 'data' else 'auto'}{kind}:: {name}{_example(name)}"


def _example(name: str) -> str:
    """Write the example of a name whose docstring has none, as more text of its entry."""
    lines = ["", *example_text(name).splitlines()]
    return "".join(f"\n   {line}".rstrip(" ") for line in lines)


def _inner(module: ModuleType, shown: str) -> str:
    """Functions of a module that a facade gives a name."""
    entries = [
        f".. autofunction:: {module.__name__}.{name}"
        for name in public_names(module)
        if _kind(getattr(module, name)) == "function"
    ]
    return "\n\n".join([inspect.getdoc(module) or "", *entries])
