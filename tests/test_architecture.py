"""Sizes and layers of the modules; the import contracts themselves are checked by import-linter."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import pkpd

PACKAGE = Path(pkpd.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FACADES = (
    "models",
    "checks",
    "plots",
    "pymc",
    "results",
    "sampling",
)  # public names and nothing else
LAYERS = ("arrays", "errors", "float64", "kept_values", "machine", "digests", "kept_code",
          "arguments", "cluster", "files", "small_systems", "units", "sobol", "body",
          "distributions", "schedule", "subjects", "trials", "cards", "data",
          "designs", "kinetics", "marrow", "model", "solve", "course", "endpoints", "predict",
          "leukaemia", "fitting", "evidence", "nonmem", "export", "ensemble", "exposure",
          "forecasting", "comparison", "report", "search", *FACADES, "explorer", "cli")  # fmt: skip
NAMES = {
    ".".join(("pkpd", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in MODULES
}
# Nothing is imported in these circles when the package runs: a class hands itself to functions of
# modules below it, and only their annotations name it.
CIRCLES_OF_ANNOTATIONS = {
    "a design and its stopping rules": ("pkpd.designs.protocol", "pkpd.designs.stopping"),
    "a forecast, its table and its figure": (
        *("pkpd.forecasting.result", "pkpd.forecasting.forecast"),
        *("pkpd.forecasting.tables", "pkpd.forecasting.figure"),
    ),
    "a fit, its draws and what its sampler says": (
        *("pkpd.fitting.sampled", "pkpd.fitting.draws", "pkpd.fitting.checks.diagnostics"),
    ),
    "a residual error and its processes in time": (
        *("pkpd.fitting.model.residual", "pkpd.fitting.model.processes"),
    ),
    "a joint model and its parameters": ("pkpd.model.joint", "pkpd.model.parameters"),
    "a control stream, its values and its verification": (
        *("pkpd.nonmem.stream", "pkpd.nonmem.values", "pkpd.nonmem.verify"),
    ),
    "a marrow of a data set and its four engines": (
        *("pkpd.predict.marrow", "pkpd.predict.marrow_predictor", "pkpd.predict.marrow_kinetics"),
        *("pkpd.predict.marrow_population", "pkpd.predict.marrow_events"),
        "pkpd.predict.marrow_general",
    ),
    "a search's result, its words and its figure": (
        *("pkpd.search.result", "pkpd.search.words", "pkpd.search.figure"),
    ),
}


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


def test_files_of_tests_have_names_of_their_own():
    """Two of one name are collected alone and not together: pytest imports both as one module."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def _imported(tree: ast.AST, annotations: bool) -> set[str]:
    """Modules of the package that a module imports, inside functions too.

    Parameters
    ----------
    tree
        The module.
    annotations
        Whether those count that only a type checker reads.
    """
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            if annotations:
                found |= _imported(node, annotations)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in NAMES else f"{node.module}")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif not isinstance(node, ast.expr):
            found |= _imported(node, annotations)
    return found & set(NAMES)


def _circles(arrows: dict[str, set[str]]) -> list[frozenset[str]]:
    """Sets of nodes that reach each other."""
    left = dict(arrows)
    while outer := [node for node, ends in left.items() if not ends & left.keys()]:
        for node in outer:  # it is in no circle
            del left[node]
    reached = {node: _reached(left, node) for node in left}
    found = {
        frozenset(other for other in ends if node in reached[other])
        for node, ends in reached.items()
        if node in ends
    }
    return sorted(found, key=sorted)


def _reached(arrows: dict[str, set[str]], node: str) -> set[str]:
    """Nodes that can be reached from a node, itself only by way of another."""
    found: set[str] = set()
    ahead = [node]
    while ahead:
        new = (arrows[ahead.pop()] & arrows.keys()) - found
        found |= new
        ahead += new
    return found


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(NAMES[name].read_text())


def _graph(annotations: bool, *, rooms: bool) -> dict[str, set[str]]:
    """What imports what: modules, or the folders of a room and its own modules one by one."""

    def place(name: str) -> str:
        return ".".join(name.split(".")[:3]) if rooms else name

    out: dict[str, set[str]] = {}
    for name in NAMES:
        ends = {place(end) for end in _imported(_tree(name), annotations)}
        out.setdefault(place(name), set()).update(ends - {place(name)})
    return out


def test_circles_are_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert _circles(arrows) == [frozenset("abc"), frozenset("de")]
    tree = ast.parse(
        "if TYPE_CHECKING:\n    from pkpd.units import Parameter\n"
        "def f():\n    if True:\n        from pkpd import trials\n"
    )
    assert _imported(tree, annotations=False) == {"pkpd.trials"}
    assert _imported(tree, annotations=True) == {"pkpd.trials", "pkpd.units"}


@pytest.mark.parametrize("rooms", [False, True], ids=["modules", "rooms"])
def test_nothing_imports_in_a_circle_not_even_inside_functions(rooms):
    assert _circles(_graph(annotations=False, rooms=rooms)) == []


def test_annotations_go_in_a_circle_only_where_a_class_names_its_helpers():
    found = _circles(_graph(annotations=True, rooms=False))
    assert found == sorted(map(frozenset, CIRCLES_OF_ANNOTATIONS.values()), key=sorted)
