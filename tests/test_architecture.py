"""Sizes and layers of the modules; the import contracts themselves are checked by import-linter."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pkpd

PACKAGE = Path(pkpd.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LAYERS = ("errors", "units", "dosing", "subjects", "trials", "cards", "data", "engine", "model",
          "outcome", "predict", "leukaemia", "infer", "evidence", "comparison", "report",
          "cli")  # fmt: skip


def name_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_of_readable_size_and_says_what_it_is(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module begins with its purpose"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_its_own_and_lower_layers(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pkpd" and len(parts) > 1:
                assert LAYERS.index(parts[1]) <= LAYERS.index(own), f"{own} imports {name}"


def test_every_module_has_a_layer():
    found = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in MODULES}
    assert found - {"__init__", "__main__"} == set(LAYERS)
