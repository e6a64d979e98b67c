"""Run the default tests with the newest releases of everything, whatever the bounds say.

``make newest`` runs this. The environment is ``build/newest``; it is made anew each time. What the
lock files hold otherwise is printed at the end, with the tests that failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "build" / "newest"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", re.MULTILINE)
REQUIREMENT = re.compile(r"^[A-Za-z0-9_.-]+(\[[^\]]*\])?")


def unbounded() -> list[str]:
    """Names of all requirements, of tests too, without their versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    table = project["project"]
    wanted = [*table["dependencies"], *table["optional-dependencies"]["dev"]]
    wanted += project["build-system"]["requires"]
    return sorted({REQUIREMENT.match(text)[0] for text in wanted})


def canonical(name: str) -> str:
    """Name of a package as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(text: str) -> dict[str, str]:
    """Versions in a lock file or in what ``pip freeze`` prints."""
    return {canonical(name): version for name, version in LOCKED.findall(text)}


def pip(*arguments: str) -> str:
    """Run pip in the new environment."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def main() -> int:
    """Install, test, report; the exit status is that of the tests."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    pip("install", "--only-binary", ":all:", "--upgrade", "pip", *unbounded())
    pip("install", "--no-deps", "--no-build-isolation", "-e", ".")
    tests = [PYTHON, "-m", "pytest", "-q", "-m", "not slow and not long", "-n", "2"]
    tests += ["--dist", "loadfile"]
    # an environment variable that names another checkout would test that one
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    status = subprocess.run([*tests, *sys.argv[1:]], cwd=ROOT, env=own).returncode
    locked = versions((ROOT / "requirements-dev.lock").read_text())
    found = versions(pip("freeze", "--exclude-editable"))
    print("\nnewer or older than in requirements-dev.lock:")
    for name in sorted(locked.keys() & found.keys()):
        if locked[name] != found[name]:
            print(f"  {name} {locked[name]} -> {found[name]}")
    for name in sorted(found.keys() - locked.keys() - {"pip"}):
        print(f"  {name} {found[name]}, not locked")
    print("all tests passed" if status == 0 else f"tests ended with status {status}; see above")
    return status


if __name__ == "__main__":
    sys.exit(main())
