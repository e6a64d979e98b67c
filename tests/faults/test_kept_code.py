"""Machine code that an older version left is never used, nor even read."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from numba.core import caching

from pkpd import digests, kept_code
from pkpd.course.course import _first_reached
from pkpd.digests import source_digest

FILES = {
    "kernel.py": "from numba import njit\n\nfrom pkpd.room import (\n    shape,  # of blocks\n)\n",
    "room/__init__.py": "from pkpd.room.shapes import shape\n",
    "room/shapes.py": "from typing import NamedTuple\n\nWIDTH = 4\n",
    "words.py": "from pkpd.kernel import run\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest(package):
    digests._digests.cache_clear()
    return source_digest(package)


@pytest.mark.parametrize("name", ["kernel.py", "room/__init__.py", "room/shapes.py"])
def test_code_is_made_anew_where_anything_it_may_depend_on_has_changed(package, name):
    before = digest(package)
    with (package / name).open("a") as file:
        file.write("OTHER = 1\n")
    assert digest(package) != before


def test_what_only_uses_compiled_code_leaves_it(package):
    before = digest(package)
    (package / "words.py").write_text("from pkpd.kernel import walk\n")
    (package / "more.py").write_text("")
    assert digest(package) == before


KERNELS = """
import importlib, pkgutil, sys
import pkpd
from pkpd.kept_code import code_folder
for found in pkgutil.walk_packages(pkpd.__path__, "pkpd."):
    if found.name.startswith(("pkpd.course", "pkpd.endpoints", "pkpd.solve", "pkpd.comparison.c")):
        importlib.import_module(found.name)
folder = str(code_folder(""))
places = {
    one._cache.cache_path
    for module in list(sys.modules.values()) if module.__name__.startswith("pkpd")
    for one in vars(module).values()
    if getattr(getattr(one, "_cache", None), "cache_path", None)
}
assert len(places) >= 4 and all(place.startswith(folder) for place in places), places
print(folder)
"""


@pytest.mark.long
def test_every_kernel_is_kept_in_the_folder_of_this_source(tmp_path):
    rest = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS],
        capture_output=True,
        text=True,
        env=rest | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "pkpd" / "numba" / source_digest())


def test_without_a_folder_code_is_kept_as_long_as_the_process(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    kept_code.code_folder.cache_clear()
    folder = kept_code.code_folder("")
    assert folder.is_dir()
    assert "none" not in str(folder)
    kept_code.code_folder.cache_clear()


def test_a_full_disk_does_not_end_what_compiles(monkeypatch):
    again = kept_code.kept(_first_reached.py_func)
    asked = []

    def full(*_):
        asked.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *_: None)
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert again(np.array([[0.0, 1.0, 2.0]]), np.array([0.5])).tolist() == [1.0]
    assert asked


def test_processes_that_save_at_once_write_no_file_of_another(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept_code.code_folder.cache_clear()
    files, write = [], caching.IndexDataCacheFile._save_data
    monkeypatch.setattr(
        caching.IndexDataCacheFile,
        "_save_data",
        lambda self, name, data: files.append(name) or write(self, name, data),
    )
    # each has read the index before another wrote it
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", lambda _: {})
    times = np.array([[0.0, 1.0, 2.0]])
    for layout in (times, np.asfortranarray(np.vstack([times, times]))):
        found = kept_code.kept(_first_reached.py_func)(layout, np.full(len(layout), 0.5))
        assert found.tolist() == [1.0] * len(layout)
    assert len(set(files)) == len(files) == 2
    assert {path.name for path in tmp_path.rglob("*.nbc")} == set(files)
    kept_code.code_folder.cache_clear()


def test_code_of_a_module_that_is_being_edited_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept_code.code_folder.cache_clear()
    times = np.array([[0.0, 1.0, 2.0]])
    for same in (False, True):
        monkeypatch.setattr(kept_code, "unchanged", lambda same=same: same)
        found = kept_code.kept(_first_reached.py_func)(times, np.array([0.5]))
        assert found.tolist() == [1.0]
        assert bool(list(tmp_path.rglob("*.nbc"))) == same
    kept_code.code_folder.cache_clear()


def test_an_edited_module_is_seen(package):
    digests._digests.cache_clear()
    source_digest(package)
    assert digests.unchanged(package)
    (package / "words.py").write_text("from pkpd.kernel import walk\n")
    assert not digests.unchanged(package)


def test_no_kernel_is_kept_but_in_the_folder_of_its_source():
    """One that Numba keeps itself shares files with the kernels of another process."""
    found = [
        path.name
        for path in digests.PACKAGE.rglob("*.py")
        if re.search(r"""cache=True|["']cache["']""", path.read_text())
        and "numba" in path.read_text()
    ]
    assert sorted(found) == ["kept_code.py", "linking.py", "program.py"]


def test_code_that_nobody_used_for_a_month_goes(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = tmp_path / "pkpd" / "numba"
    for name, age_s in {"0" * 16: 31 * 86400, "1" * 16: 86400, "notes": 31 * 86400}.items():
        (base / name).mkdir(parents=True)
        then = (base / name).stat().st_mtime - age_s
        os.utime(base / name, (then, then))
    kept_code.code_folder.cache_clear()
    assert kept_code.code_folder("").parent == base
    assert {one.name for one in base.iterdir()} == {"1" * 16, "notes", source_digest()}
    kept_code.code_folder.cache_clear()
