"""How fast the explorer answers a slider, measured in Chromium; and ten people at once.

    python -m benchmarks.explorer [--file FILE] [--moves 60] [--people 10 --seconds 60]
    python -m benchmarks.explorer --ship

The first picture is timed three times: ``first_picture_s`` after the answers of earlier starts are
removed, ``first_picture_of_s`` so, of a file that no picture comes with, and
``first_picture_again_s`` with an answer of an earlier start. ``--ship`` works the picture out that
comes with the package, and writes it.

Needs the extra ``explorer``, ``playwright`` and a Chromium (``--chromium``). Times are those of a
page: from the event of the slider to the frame after the new curves are in it, which may be those
of some draws, and to the frame after all figures of all draws are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pkpd.machine import cache_home

WITHIN_MS = {"median": 150.0, "95 %": 300.0}
MOST_KB = 500.0
FIRST_S = 3.0
ANOTHER = "nct01681537_len_mec"

SLIDERS = {"a dose": "Dose of", "age": "Median age", "threshold": "Neutrophils recovered"}

MOVE = """async ([label, value]) => {
  const slider = document.querySelector(`input[type=range][aria-label^="${label}"]`);
  const root = document.documentElement;
  const frame = (names) => new Promise((done) => {
    const seen = new MutationObserver(() => {
      seen.disconnect();
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - start), 0));
    });
    seen.observe(root, { attributes: true, attributeFilter: names });
  });
  const curves = frame(["data-sketched", "data-shown"]), whole = frame(["data-shown"]);
  const start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  return [await curves, await whole];
}"""

WEIGHT = """() => performance.getEntriesByType("resource")
  .concat(performance.getEntriesByType("navigation"))
  .reduce((sum, one) => sum + one.decodedBodySize, 0)"""

WANDER = """async ([label, seconds, everyMs, seed]) => {
  const slider = document.querySelector(`input[type=range][aria-label^="${label}"]`);
  const [least, most, step] = [slider.min, slider.max, slider.step].map(Number);
  let random = seed;
  const next = () => { random = (random * 48271) % 2147483647; return random / 2147483647; };
  const until = performance.now() + 1000 * seconds;
  let moves = 0;
  while (performance.now() < until) {
    slider.value = least + Math.round(next() * (most - least) / step) * step;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    moves += 1;
    await new Promise((done) => setTimeout(done, everyMs));
  }
  return [moves, slider.getAttribute("aria-valuetext")];
}"""


@contextmanager
def server(file: str | None, folder: Path):
    """Run ``pkpd explore``; yields its address, its process and when it was started."""
    command = [sys.executable, "-m", "pkpd", "explore", "--no-browser", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.perf_counter()
    process = subprocess.Popen(
        command + ([file] if file else []), cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            msg = f"pkpd explore did not start: {line}{process.stdout.read()}"
            raise SystemExit(msg)
        yield found.group(), process, started
    finally:
        process.terminate()
        process.wait(10)


def memory_mb(process: subprocess.Popen) -> float:
    """Resident memory of a process, MB; NaN where the system does not tell."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return float("nan")
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found.group(1)) / 1024.0 if found else float("nan")


def first_picture(browser, address: str, started: float) -> tuple[object, float, float]:
    """Open a page: it, seconds from the command to its first picture, and its weight in kB."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.on("pageerror", lambda error: sys.exit(f"the page failed: {error}"))
    page.goto(address)
    page.wait_for_selector("html[data-shown]", timeout=120_000)
    seconds = time.perf_counter() - started
    return page, seconds, page.evaluate(WEIGHT) / 1024.0


def slider_times(page, label: str, moves: int) -> np.ndarray:
    """Milliseconds from a move of a slider to the new curves, and to all figures, ``[moves, 2]``.

    Each time to another value, as long as the slider has others.
    """
    slider = page.locator(f'input[type=range][aria-label^="{label}"]').first
    least, most = (float(slider.get_attribute(name)) for name in ("min", "max"))
    step = float(slider.get_attribute("step"))
    values = np.arange(least, most + step / 2, step)
    values = np.resize(values, moves) if len(values) < moves else values[:moves]
    return np.array([page.evaluate(MOVE, [label, f"{value:g}"]) for value in values])


def people(browser, address: str, number: int, seconds: float, label: str) -> list[str]:
    """Let several pages move a slider at once; problems that were seen."""
    problems: list[str] = []
    pages = []
    for _ in range(number):
        page = browser.new_page()
        page.on("pageerror", lambda error: problems.append(f"error in a page: {error}"))
        page.on(
            "response",
            lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 500 else None,
        )
        page.goto(address)
        page.wait_for_selector("html[data-shown]", timeout=120_000)
        pages.append(page)
    script = f"({WANDER})"
    for i, page in enumerate(pages):
        page.evaluate(
            f"(given) => {{ window.wandered = {script}(given); }}", [label, seconds, 150, i + 7]
        )
    for page in pages:
        _, last = page.evaluate("window.wandered")
        page.wait_for_function(
            "() => document.getElementById('pictures').getAttribute('aria-busy') === 'false'",
            timeout=120_000,
        )
        page.wait_for_timeout(300)
        if f'amount = "{last}"' not in page.locator("#python").text_content():
            problems.append(f"a picture is not that of its slider ({last})")
        page.close()
    return problems


def main() -> None:
    """Measure, print, and write ``build/explorer.json``."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", help="schedule file; without it the one a page begins with")
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--people", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--ship", action="store_true", help="write the picture of the package")
    given = parser.parse_args()
    if given.ship:
        from pkpd.explorer.first_answers import ship_picture
        from pkpd.explorer.server import Explorer
        from pkpd.explorer.state import opened, working_folder

        folder = working_folder(None)
        ship_picture(*Explorer(folder, opened(None, folder)).first_answer())
        return
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    found: dict[str, object] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        shutil.rmtree(cache_home() / "explorer", ignore_errors=True)
        for what, file in (("first_picture_s", given.file), ("first_picture_of_s", ANOTHER)):
            with server(file, Path()) as (address, _, started):
                page, found[what], _ = first_picture(browser, address, started)
                page.close()
        with server(given.file, Path()) as (address, process, started):
            page, seconds, weight = first_picture(browser, address, started)
            found |= {"first_picture_again_s": seconds, "page_kb": weight}
            found["size"] = page.locator("#state").text_content()
            for name, label in SLIDERS.items():
                times = slider_times(page, label, 3 + given.moves)[3:]  # the first compile
                found[name] = {
                    what: {
                        "median_ms": float(np.median(column)),
                        "95_percent_ms": float(np.quantile(column, 0.95)),
                        "most_ms": float(column.max()),
                    }
                    for what, column in zip(("curves", "figures"), times.T, strict=True)
                }
            if given.people:
                before = memory_mb(process)
                halfway = people(browser, address, given.people, given.seconds / 2, "Dose of")
                middle = memory_mb(process)
                rest = people(browser, address, given.people, given.seconds / 2, "Dose of")
                found["people"] = {
                    "number": given.people, "seconds": given.seconds,
                    "problems": [*halfway, *rest],
                    "memory_mb": [before, middle, memory_mb(process)],
                }  # fmt: skip
        browser.close()
    text = json.dumps(found, indent=2)
    (folder / "explorer.json").write_text(text + "\n")
    print(text)
    print(f"to reach: median {WITHIN_MS['median']:g} ms, 95 % {WITHIN_MS['95 %']:g} ms, "
          f"{MOST_KB:g} kB, first picture {FIRST_S:g} s")  # fmt: skip


if __name__ == "__main__":
    main()
