"""The Dockerfile, without Docker: what it copies, runs and asks for is there, and it serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import typer

from pkpd.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line.partition(" ")[::2] for line in TEXT.splitlines() if line and line[0] != "#"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECRET = "f2hT-8sk3jd9_Kq1mZx0"


def all_of(word):
    return [rest for first, rest in LINES if first == word]


def command_of(word):
    """Command of the last such line, written as JSON."""
    line = all_of(word)[-1]
    return json.loads(line[line.index("[") :])


def copied():
    lines = [line for line in all_of("COPY") if "--from" not in line]
    return {source for line in lines for source in line.split()[:-1]}


def test_what_is_copied_is_there_and_no_more_is_given_to_docker():
    assert all((ROOT / source).exists() for source in copied())
    first, *rules = [
        r for r in (ROOT / ".dockerignore").read_text().split("\n") if r and r[0] != "#"
    ]
    assert first == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == copied()


def test_what_the_build_needs_is_copied():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    own = PROJECT["project"]
    needed = {"pyproject.toml", own["readme"], *own["license-files"], *wheel["packages"]}
    assert needed | set(wheel["force-include"]) | {"requirements.lock"} == copied()
    locked = (ROOT / "requirements.lock").read_text()
    optional = own["optional-dependencies"]["explorer"]
    for name in ("hatchling", *(re.split("[<>=]", one)[0] for one in optional)):
        assert re.search(rf"^{name}==.*\n +--hash=sha256:", locked, re.MULTILINE)


def test_packages_are_the_locked_ones():
    installs = [line for line in all_of("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes --only-binary :all: -r requirements.lock" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]
    assert set(re.findall(r"https?://([^/:]+)", TEXT)) == {"127.0.0.1"}  # of the health check


def test_the_interpreter_is_one_that_the_package_takes():
    (found,) = {re.search(r"^python:3\.(\d+)-slim", line)[1] for line in all_of("FROM")}
    assert int(found) >= int(PROJECT["project"]["requires-python"].removeprefix(">=3."))


def test_the_process_is_not_root_and_no_secret_is_in_the_image():
    words = [word for word, _ in LINES]
    assert int(all_of("USER")[-1]) > 0
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")
    assert "TOKEN" not in TEXT


def test_the_command_is_one_of_the_package():
    program, verb, *options = command_of("ENTRYPOINT")
    assert program in PROJECT["project"]["scripts"]
    known = {o: p for p in typer.main.get_command(app).commands[verb].params for o in p.opts}
    assert set(options) - {"0.0.0.0"} <= set(known)
    assert all_of("EXPOSE") == [str(known["--port"].default)]
    assert f":{known['--port'].default}/" in command_of("HEALTHCHECK")[-1]


@pytest.mark.slow
def test_the_command_serves_who_knows_the_token_and_is_healthy(tmp_path):
    """Without a home, as in a container whose disk cannot be written to but for ``/tmp``."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    set_there = re.findall(r"(XDG_\w+)=/tmp\b", " ".join(all_of("ENV")))
    (tmp_path / "token").write_text(SECRET)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOME": "/proc/none",
        **dict.fromkeys(set_there, str(temporary)),
        "PKPD_EXPLORER_TOKEN_FILE": str(tmp_path / "token"),
    }
    for name in {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"} - set(set_there):
        environment.pop(name, None)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import arviz"], env=environment, check=True
    )
    process = subprocess.Popen(
        [sys.executable, "-m", *command_of("ENTRYPOINT"), "--port", "0"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = re.search(r"http://0\.0\.0\.0:(\d+)/ for all who know", process.stdout.readline())
        home = f"http://127.0.0.1:{found[1]}/"
        health = command_of("HEALTHCHECK")[-1]
        health = health.replace("http://127.0.0.1:8765/", home).replace("timeout=5", "timeout=600")
        assert home in health
        subprocess.run([sys.executable, "-c", health], check=True)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(home, timeout=600)
        known = urllib.request.Request(home, headers={"Authorization": f"Bearer {SECRET}"})
        assert b"<title>pkpd explorer" in urllib.request.urlopen(known, timeout=600).read()
        assert {path.name for path in tmp_path.iterdir()} == {"token", "tmp"}
    finally:
        process.kill()
        process.communicate()
    assert subprocess.run([sys.executable, "-c", health], capture_output=True).returncode
