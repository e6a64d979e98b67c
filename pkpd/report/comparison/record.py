"""What is needed to run a comparison again: versions, seed, settings, cards, command line."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("pkpd", "numpy", "scipy", "jax", "jaxlib", "equinox", "diffrax", "xarray", "matplotlib")
_PATH = re.compile(r"(?:^|(?<==))(?:~|[A-Za-z]:[\\/]|[\\/])[^\s]*")


def run_record(
    seed: int,
    settings: Mapping[str, Any],
    cards: Mapping[str, str],
    started: datetime,
    finished: datetime,
    *,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the record of one run.

    Parameters
    ----------
    seed
        The seed that all random streams are split from.
    settings
        Patients, draws, options, rule: what the run was asked to do.
    cards
        Name of every card read, with the SHA-256 of its file.
    started, finished
        Aware datetimes.
    command
        Command line; by default that of this process. Folders of absolute paths are left out.

    Returns
    -------
    dict
        Plain data. It holds no host name, no user name and no folder of the machine.
    """
    return {
        "seed": int(seed),
        "settings": dict(settings),
        "command": shown_command(sys.argv if command is None else command),
        "started": _utc(started),
        "finished": _utc(finished),
        "wall_s": max(round((finished - started).total_seconds(), 1), 0.0),
        "versions": versions(),
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "python_implementation": platform.python_implementation(),
        },
        "git_commit": git_commit(),
        "cards": dict(sorted(cards.items())),
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that shape the numbers, without importing them."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if found.get("pkpd") == "not installed":
        found["pkpd"] = "run from a checkout"
    return found


def shown_command(argv: Sequence[str]) -> str:
    """Command line with the program's bare name and absolute paths cut to their last part."""
    words = ["pkpd", *(_PATH.sub(_last_part, word) for word in list(argv)[1:])]
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def git_commit() -> str | None:
    """Commit of the checkout the package is imported from; None for an installed package.

    ``+`` is appended if tracked files differ from the commit.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _last_part(found: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[\\/]", found[0]) if part]
    return parts[-1] if parts else ""


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
