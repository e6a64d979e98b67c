"""Put the sources of the site together: pages, the reference of the package, the model library.

Usage: ``python -m docs.site.assemble FOLDER``; ``make docs`` does it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docs.site.library import write_library
from docs.site.pages import ROOT, DeadLinkError, copy_pages
from docs.site.reference import write_reference

BESIDE = ("fits", "models", "benchmarks")
"""Folders of a checkout that the tutorials read from, as their readers do."""


def assemble(target: Path, pictures: bool = True) -> None:
    """Write the sources of the whole site into a new folder, with simulated profiles or without."""
    shutil.rmtree(target, ignore_errors=True)
    copy_pages(target)
    for name in BESIDE:
        (target / "tutorials" / name).symlink_to(ROOT / name)
    write_reference(target / "reference")
    write_library(target / "library", pictures)


if __name__ == "__main__":
    try:
        assemble(Path(sys.argv[1]))
    except DeadLinkError as error:
        sys.exit(str(error))
