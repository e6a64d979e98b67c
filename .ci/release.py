"""Build wheel and source archive twice, and look whether a release could be made of them.

``make release`` runs this. Both builds must give the same bytes; the wheel must hold every card
and no test, the source archive what its tests need. With ``--install`` the wheel is installed into
bare environments, from the lock file, and simulates from another folder. ``--tag v1.2.3`` asks for
that version: of the package, and in CITATION.cff. Archives are written to ``dist``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARDS = {"models": "pkpd/_cards", "benchmarks/schedules": "pkpd/_cards/schedules"}
SOURCES = ("README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "Makefile", "pyproject.toml")
TRIAL = (
    "import pkpd, pathlib; "
    "dose = pkpd.daily('clofarabine', '5 mg/m^2', days='1-5', route='iv', duration='1 h'); "
    "found = pkpd.simulate(dose, 'rr_aml', patients=3, until_day=10); "
    "assert found['count'].shape[1] == 3; "
    "assert pathlib.Path(pkpd.__file__).with_name('py.typed').is_file(); "
    "print(pkpd.__version__)"
)


def version_problems(version: str, citation: str, tag: str | None) -> list[str]:
    """Sentences about versions that do not belong together.

    Parameters
    ----------
    version
        Of the package.
    citation
        Text of CITATION.cff.
    tag
        Tag of the release, if one is made.
    """
    cited = re.search(r"^version: *(\S+)", citation, re.MULTILINE)
    base = re.sub(r"\.?(dev|a|b|rc)\d+$", "", version)
    problems = []
    if cited is None or cited[1] != base:
        problems.append(f"CITATION.cff has version {cited and cited[1]}, the package {version}")
    if tag is not None and tag != f"v{version}":
        problems.append(f"the tag is {tag}, the package {version}: set __version__ to {tag[1:]}")
    return problems


def wheel_problems(names: Iterable[str], cards: Iterable[str]) -> list[str]:
    """Sentences about files that a wheel lacks, or should not hold.

    Parameters
    ----------
    names
        Files in the wheel.
    cards
        Files under ``pkpd/_cards`` that it must hold.
    """
    found = set(names)
    lacking = sorted({"pkpd/py.typed", "pkpd/__init__.pyi", *cards} - found)
    foreign = sorted(n for n in found if not n.startswith("pkpd/") and ".dist-info/" not in n)
    foreign += sorted(n for n in found if n.endswith((".pyc", ".so")) or "/test_" in n)
    return [f"the wheel lacks {n}" for n in lacking] + [f"the wheel holds {n}" for n in foreign]


def cards_of_checkout() -> set[str]:
    """Places in a wheel of all cards that are committed."""
    found = set()
    for folder, place in CARDS.items():
        listed = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
        for name in listed.stdout.split():
            found.add(f"{place}{name.removeprefix(folder)}")
    return found


def build(folder: Path) -> dict[str, str]:
    """Build both archives of the last commit into a folder; returns their SHA-256 by name."""
    with tempfile.TemporaryDirectory() as made:
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", made], input=archive.stdout, check=True)
        when = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        epoch = {**os.environ, "SOURCE_DATE_EPOCH": when.stdout.decode().strip()}
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
        subprocess.run(command, cwd=made, env=epoch, check=True, stdout=subprocess.DEVNULL)
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def install(wheel: Path, python: str) -> str:
    """Install a wheel into a bare environment and simulate there; returns what it printed.

    Parameters
    ----------
    wheel
        The wheel.
    python
        Interpreter, such as ``python3.12``.
    """
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([python, "-m", "venv", made], check=True)
        own = Path(made) / "bin" / "python"
        pip = [own, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        locked = ["--require-hashes", "--only-binary", ":all:", "-r", ROOT / "requirements.lock"]
        subprocess.run([*pip, *locked], check=True)
        subprocess.run([*pip, "--no-deps", wheel], check=True)
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        said = ""
        for command in ([own, "-c", TRIAL], [own, "-m", "pkpd", "--version"]):
            done = subprocess.run(
                command, cwd=made, env=clean, check=True, stdout=subprocess.PIPE, text=True
            )
            said += f"{done.stdout.strip()}; "
        return said.removesuffix("; ")


def main() -> int:
    """Build, look, install where asked; the exit status is 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="tag of the release, such as v0.1.0")
    parser.add_argument("--install", nargs="*", default=(), metavar="PYTHON")
    asked = parser.parse_args()
    text = (ROOT / "pkpd" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert version is not None
    problems = version_problems(version[1], (ROOT / "CITATION.cff").read_text(), asked.tag)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        hashes, again = build(Path(first)), build(Path(second))
        problems += [f"{n}: two builds differ" for n in hashes if hashes[n] != again.get(n)]
        (ROOT / "dist").mkdir(exist_ok=True)
        for file in Path(first).iterdir():
            shutil.copy(file, ROOT / "dist")
    wheel = next(ROOT / "dist" / n for n in hashes if n.endswith(".whl"))
    archive = next(ROOT / "dist" / n for n in hashes if n.endswith(".tar.gz"))
    with zipfile.ZipFile(wheel) as opened:
        problems += wheel_problems(opened.namelist(), cards_of_checkout())
    with tarfile.open(archive) as opened:
        found = {name.partition("/")[2] for name in opened.getnames()}
    problems += [f"the source archive lacks {name}" for name in SOURCES if name not in found]
    for name, digest in hashes.items():
        size = (ROOT / "dist" / name).stat().st_size / 1e6
        print(f"{digest}  {name}  {size:.1f} MB")
    for python in asked.install:
        print(f"{python}: {install(wheel, python)}")
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
