import os
from pathlib import Path

import pytest


@pytest.fixture
def reference():
    """Folder of compiled literature, outside the repository; its tests skip without it."""
    beside = Path(__file__).parents[3] / "shared"
    folder = Path(os.environ.get("PKPD_REFERENCE", beside))
    if not (folder / "trial_level.md").is_file():
        pytest.skip("no reference folder")
    return folder
