"""What `make newest` installs and how it reads versions."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("newest", ROOT / ".ci" / "newest.py")
newest = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(newest)


def test_every_requirement_is_installed_without_bounds():
    found = newest.unbounded()
    assert not [name for name in found if set(name) & set("<>=!~;, ")]
    assert {"arviz", "nutpie", "pytest", "pytest-xdist", "hatchling", "lazy_loader"} <= set(found)


def test_versions_are_read_from_lock_files_and_from_pip():
    lock = """jax==0.10.2 ; python_version < '4' \\
    --hash=sha256:0
    # via a==b
PyYAML==6.0 \\
"""
    assert newest.versions(lock) == {"jax": "0.10.2", "pyyaml": "6.0"}
    assert newest.versions("jax==0.12.0.1\nlazy_loader==0.6\n") == {
        "jax": "0.12.0.1",
        "lazy-loader": "0.6",
    }


def test_every_upper_bound_has_its_reason_beside_it():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    groups = project["optional-dependencies"].values()
    bounded = [r for g in (project["dependencies"], *groups) for r in g if "<" in r or "==" in r]
    for requirement in bounded:
        (line,) = (line for line in text.splitlines() if f'"{requirement}"' in line)
        assert "#" in line, requirement
