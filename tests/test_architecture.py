"""Sizes and layers of the modules; the import contracts themselves are checked by import-linter."""

from __future__ import annotations

import ast
from pathlib import Path

import pkpd

PACKAGE = Path(pkpd.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FACADES = ("models", "checks", "plots", "pymc", "results")  # public names and nothing else
LAYERS = ("errors", "float64", "machine", "arguments", "units", "body", "distributions", "schedule",
          "subjects", "trials", "cards", "data", "designs", "kinetics", "marrow", "model", "solve",
          "course", "endpoints", "predict", "leukaemia", "fitting", "evidence", "nonmem",
          "export", "ensemble", "forecasting", "comparison", "report", "search", *FACADES,
          "explorer", "cli")  # fmt: skip


def test_modules_are_of_readable_size_and_say_what_they_are():
    too_long, silent = [], []
    for path in MODULES:
        text = path.read_text()
        if len(text.splitlines()) > 500:
            too_long.append(path)
        if not ast.get_docstring(ast.parse(text)):
            silent.append(path)
    assert not too_long
    assert not silent, "a module begins with its purpose"


def test_modules_import_only_their_own_and_lower_layers():
    upwards = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] != "pkpd" or len(parts) == 1:
                    continue
                if LAYERS.index(parts[1]) > LAYERS.index(own):
                    upwards.append(f"{path} imports {name}")
    assert not upwards


def test_facades_hold_public_names_and_nothing_else():
    for name in FACADES:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        imported = set()
        for node in tree.body[1:]:  # after the docstring
            if isinstance(node, ast.ImportFrom) and node.module != "__future__":
                package, room, *_ = (node.module or "").split(".")
                assert package == "pkpd"
                assert room not in FACADES, f"{name} has names of a facade"
                imported |= {alias.asname or alias.name for alias in node.names}
        others = [n for n in tree.body[1:] if not isinstance(n, ast.ImportFrom)]
        assert len(others) == 1, f"{name}: imports and __all__"
        assert isinstance(others[0], ast.Assign)
        assert imported == set(ast.literal_eval(others[0].value))


def test_every_module_has_a_layer():
    found = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in MODULES}
    assert found - {"__init__", "__main__"} == set(LAYERS)
