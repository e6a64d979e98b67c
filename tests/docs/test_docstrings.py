"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import pkpd

PACKAGE = Path(pkpd.__file__).parent
MODULES = [
    ".".join(("pkpd", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]

# a fit, a comparison, a search of sampling times
LONGEST = {"pkpd.fitting.fit", "pkpd.comparison.run", "pkpd.fitting.information.times"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in LONGEST else ()) for name in MODULES],
)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted
    assert not done.failed


def test_most_rooms_have_examples():
    assert len({name.split(".")[1] for name in MODULES if "." in name}) > 12
