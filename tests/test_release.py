"""What makes a release: equal builds, all cards in the wheel, versions that belong together."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "cited", "tag", "problems"),
    [
        ("0.1.0", "0.1.0", None, 0),
        ("0.1.0.dev0", "0.1.0", None, 0),
        ("1.2.3", "1.2.3", "v1.2.3", 0),
        ("0.2.0rc1", "0.2.0", "v0.2.0rc1", 0),
        ("0.1.0.dev0", "0.1.0", "v0.1.0", 1),
        ("0.2.0", "0.1.0", "v0.2.0", 1),
        ("0.2.0", "0.1.0", "v0.3.0", 2),
    ],
)
def test_versions_belong_together(release, version, cited, tag, problems):
    text = f"cff-version: 1.2.0\nversion: {cited}\n"
    assert len(release.version_problems(version, text, tag)) == problems


def test_the_citation_is_of_this_version(release):
    import pkpd

    assert not release.version_problems(
        pkpd.__version__, (ROOT / "CITATION.cff").read_text(), tag=None
    )


def test_a_wheel_without_a_card_or_with_tests_is_told(release):
    good = ["pkpd/py.typed", "pkpd/__init__.pyi", "pkpd/_cards/a.toml", "pkpd-1.dist-info/METADATA"]
    assert not release.wheel_problems(good, ["pkpd/_cards/a.toml"])
    assert release.wheel_problems(good, ["pkpd/_cards/b.toml"]) == [
        "the wheel lacks pkpd/_cards/b.toml"
    ]
    assert release.wheel_problems([*good, "tests/a.py"], []) == ["the wheel holds tests/a.py"]
    assert release.wheel_problems(good[1:], []) == ["the wheel lacks pkpd/py.typed"]


def in_a_checkout():
    done = subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not in_a_checkout(), reason="not a checkout")
@pytest.mark.slow
def test_two_builds_are_equal(release, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    hashes = release.build(first)
    assert hashes == release.build(second)
    assert {name.rpartition(".")[2] for name in hashes} == {"whl", "gz"}
