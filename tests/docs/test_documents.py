"""The Python, the commands and the schedules in README and docs do what they say.

A block after the comment ``<!-- slow -->`` runs among the slow tests, together with all blocks
of its document; those of the documents in `LONG`, whose fits take minutes, among the long ones. A
TOML block after ``<!-- file: NAME -->`` is written under that name.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from typer.testing import CliRunner

import pkpd
from pkpd.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "models/**/*.md", "fits/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
COMMAND = re.compile(r"`(?:\.venv/bin/)?pkpd ([a-z][^`]*)`")
TARGETS = set(
    " ".join(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)).split()
)
DOTTED = re.compile(r"pkpd(\.\w+)+$")
FEW = {
    "compare": {"--patients": "50", "--draws": "10"},
    "forecast": {"--bank": "2000", "--draws": "50"},
    "search": {"--patients": "30", "--draws": "5"},
    "learn": {"--patients": "32"},
}
"""Sizes at which commands of documents run that name none: what is shown is that they run."""
FEW_DRAWS = {"draws": 100, "tune": 200}
"""And those of fits among the slow blocks."""
CHEAP = {"show", "cards", "check", "version"}


def comment(example):
    """The comment right before a block."""
    before = example.document.text[: example.region.start].rstrip()
    found = re.search(r"<!-- ([^>]*) -->$", before)
    return found[1] if found else ""


def run(arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"pkpd {shlex.join(arguments)}: {done.output}"


def run_commands(example):
    """Run commands of the package; of others look for what they name."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True) or [""]
        if program == ".venv/bin/pkpd":
            sizes = [(o, n) for o, n in FEW.get(words[0], {}).items() if o not in words]
            run([*words, *(word for size in sizes for word in size)])
        elif program == ".venv/bin/python":
            assert (ROOT / words[0]).is_file(), line
        elif program == "make":
            assert {w for w in words if "=" not in w} <= TARGETS, line
        else:
            assert not program, f"nobody knows what this does: {line}"


def write_schedule(example):
    tomllib.loads(example.parsed)
    name = comment(example).removeprefix("file: ")
    if name:
        Path(name).write_text(example.parsed)
        run(["check", name])


def read_rows(example):
    Path("rows.csv").write_text(example.parsed)
    assert len(pkpd.evidence.load_evidence("rows.csv")) == example.parsed.count("\n") - 1


PARSER = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser("sh", run_commands),
        CodeBlockParser("toml", write_schedule),
        CodeBlockParser("csv", read_rows),
    ]
)


def blocks_of(name):
    return list(PARSER.parse(ROOT / name).examples())


def is_slow(example):
    return comment(example) == "slow"


EXAMPLES = "docs/examples/"  # their blocks run in test_examples.py
WITH_BLOCKS = [n for n in DOCUMENTS if not n.startswith(EXAMPLES) and blocks_of(n)]
WITH_SLOW_BLOCKS = [name for name in WITH_BLOCKS if any(map(is_slow, blocks_of(name)))]
NAMES = ("evidence", "first_steps", "fitting", "forecasts", "model_building", "which_schedule")
LONG = {f"docs/{name}.md" for name in NAMES}
WITH_FITS = {f"docs/{name}.md" for name in ("fitting", "model_building", "nonmem")}
"""Documents whose quick blocks take seconds, too: they run together with the slow ones alone."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own with what a checkout has beside the documents."""
    for name in ("fits", "models", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", [name for name in WITH_BLOCKS if name not in WITH_FITS])
def test_the_quick_blocks_run(name):
    for example in blocks_of(name):
        if not is_slow(example):
            example.evaluate()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in LONG else pytest.mark.slow)
        for name in WITH_SLOW_BLOCKS
    ],
)
def test_all_blocks_run(name, monkeypatch):
    if name not in LONG:
        fit = pkpd.fit

        def quick_fit(*given, **how):
            few = FEW_DRAWS if how.get("method", "nuts") == "nuts" else {}
            return fit(*given, **(few | how))

        monkeypatch.setattr(pkpd, "fit", quick_fit)
    for example in blocks_of(name):
        example.evaluate()


@pytest.mark.parametrize("name", WITH_SLOW_BLOCKS)
def test_the_slow_blocks_use_names_that_exist(name):
    for example in filter(is_slow, blocks_of(name)):
        if example.document.text[example.region.start :].startswith("```python"):
            check_names(example.parsed)


def check_names(code):
    """Look every name of the package up that some code imports or names with dots."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pkpd":
            module = importlib.import_module(node.module)
            assert not [a.name for a in node.names if not hasattr(module, a.name)]
        elif isinstance(node, ast.Attribute) and DOTTED.match(ast.unparse(node)):
            value = pkpd
            for part in ast.unparse(node).split(".")[1:]:
                if isinstance(value, ModuleType):
                    value = getattr(value, part)


def test_commands_in_the_text_exist():
    commands = typer.main.get_command(app).commands
    found = 0
    for name in DOCUMENTS:
        for text in COMMAND.findall((ROOT / name).read_text()):
            verb, *words = shlex.split(text)
            options = {o for p in commands[verb].params for o in p.opts}
            unknown = [w for w in words if w.startswith("--") and w not in options]
            assert not unknown, f"{name}: pkpd {text}"
            found += 1
            if verb in CHEAP and not any(w.isupper() for w in words) and (words or verb == "cards"):
                run([verb, *words])
    assert found > 5


@pytest.mark.parametrize(
    "block",
    [
        "```python\nimport pkpd\nassert pkpd.__version__ == ''\n```",
        "```sh\n.venv/bin/pkpd show nothing\n```",
        "```sh\nmake nothing\n```",
        "<!-- file: mine.toml -->\n```toml\ntitle = 'no dose'\n```",
    ],
)
def test_a_wrong_block_fails(folder, block):
    (folder / "wrong.md").write_text(block)
    (example,) = PARSER.parse(folder / "wrong.md").examples()
    with pytest.raises(AssertionError):
        example.evaluate()


def test_every_block_has_a_language():
    for name in DOCUMENTS:
        fences = re.findall(r"^```(.*)$", (ROOT / name).read_text(), re.MULTILINE)
        assert all(fences[::2]), name
