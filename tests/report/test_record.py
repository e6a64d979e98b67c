"""The run record: enough to run again, nothing about the machine's owner."""

from __future__ import annotations

import getpass
import json
import platform
import re
from datetime import UTC, datetime, timedelta
from importlib import metadata

from pkpd.report.comparison import record

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make(command=("/opt/venv/bin/pkpd", "compare", "--seed", "3")):
    return record.run_record(
        3,
        {"patients": 10},
        {"b": "2", "a": "1"},
        START,
        START + timedelta(seconds=12.34),
        command=command,
    )


def test_record_holds_versions_seed_cards_and_time():
    made = make()
    assert made["seed"] == 3
    assert made["wall_s"] == 12.3
    assert list(made["cards"]) == ["a", "b"]
    assert made["versions"]["numpy"] == metadata.version("numpy")
    assert made["versions"]["python"] == platform.python_version()
    assert made["started"] == "2026-01-02T03:04:05+00:00"
    assert made["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40,64}\+?", made["git_commit"])
    json.dumps(made, allow_nan=False)


def test_record_names_no_host_and_no_folder_of_the_machine():
    text = json.dumps(make(("/opt/x/pkpd", "compare", "/home/me/s.toml", "--out=/tmp/me/out")))
    assert platform.node() not in text or len(platform.node()) < 3
    for part in ("/opt", "/home", "/tmp", f"/{getpass.getuser()}/"):
        assert part not in text


def test_command_keeps_arguments_and_cuts_absolute_paths():
    shown = record.shown_command(
        [
            "/x/pkpd",
            "compare",
            "mine/a.toml",
            "/home/me/b.toml",
            "--out=C:\\me\\out",
            "--rule",
            "a b",
        ]
    )
    assert shown == 'pkpd compare mine/a.toml b.toml --out=out --rule "a b"'


def test_unknown_package_is_said():
    assert record.versions(("no-such-package-here",))["no-such-package-here"] == "not installed"
