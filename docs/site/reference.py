"""Pages of the reference: the public names of each module, from their docstrings."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pkpd


def public_modules() -> list[str]:
    """Names of the public modules of the package, sorted."""
    return sorted(name for name in pkpd.__all__ if isinstance(getattr(pkpd, name), ModuleType))


def public_names(module: ModuleType) -> list[str]:
    """Public names of a module: those it lists, or else those it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


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
    homes = {n: _home(name, n) for n in listed}
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


def _home(module: str, name: str) -> str:
    """Where a name is documented: for those that ``pkpd`` repeats, in their own module."""
    value = getattr(importlib.import_module(module), name)
    others = public_modules() if module == "pkpd" else ()
    for other in others:
        if getattr(getattr(pkpd, other), name, None) is value:
            return f"pkpd.{other}.{name}"
    return f"{module}.{name}"


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
        return f".. auto{kind}:: {name}\n{members}"
    return f".. {'py:' if kind == 'data' else 'auto'}{kind}:: {name}"


def _inner(module: ModuleType, shown: str) -> str:
    """Functions of a module that a facade gives a name."""
    entries = [
        f".. autofunction:: {module.__name__}.{name}"
        for name in public_names(module)
        if _kind(getattr(module, name)) == "function"
    ]
    return "\n\n".join([inspect.getdoc(module) or "", *entries])
