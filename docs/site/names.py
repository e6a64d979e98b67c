"""Public names of the package, and where each is documented."""

from __future__ import annotations

import importlib
from functools import cache
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


def home_of(module: str, name: str) -> str:
    """Where a name is documented: for those that ``pkpd`` repeats, in their own module."""
    value = getattr(importlib.import_module(module), name)
    others = public_modules() if module == "pkpd" else ()
    for other in others:
        if getattr(getattr(pkpd, other), name, None) is value:
            return f"pkpd.{other}.{name}"
    return f"{module}.{name}"


@cache
def homes() -> dict[str, object]:
    """Every public name by where it is documented; modules are none."""
    found: dict[str, object] = {}
    for module_name in ("pkpd", *(f"pkpd.{name}" for name in public_modules())):
        module = importlib.import_module(module_name)
        for name in public_names(module):
            value = getattr(module, name)
            if name != "__version__" and not isinstance(value, ModuleType):
                found[home_of(module_name, name)] = value
    return found
