"""The ``pkpd`` command: compare schedules, look at trials and cards, check one's own files.

Only the standard library and typer are imported here; each command imports what it needs, so that
help and version answer at once.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkpd import __version__
from pkpd.designs.options import PREDICT, Simulators, Threads, design_options
from pkpd.errors import PkpdError, unanswered
from pkpd.evidence.updating.options import learn_options
from pkpd.forecasting.options import forecast_options, visits_options
from pkpd.machine import share_memory
from pkpd.search.options import search_options

if TYPE_CHECKING:
    from pkpd.comparison.results import ComparisonResult, EndpointRow, TrialResult
    from pkpd.report.comparison.brief import BriefPrinter
    from pkpd.report.comparison.own_folder import Stamp
    from pkpd.report.comparison.terminal import CohortPrinter
    from pkpd.trials import Trial

EXIT_PROBLEMS = 1
EXIT_BAD_INPUT = 2
EXIT_MISTAKE = 70
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="pkpd",
    help="Compare dosing schedules by the blood counts and dose-limiting toxicities they cause.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pkpd {__version__}")
        raise typer.Exit


@app.callback()
def every(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Compare dosing schedules by the blood counts and dose-limiting toxicities they cause."""


@app.command()
def compare(
    scenario: Annotated[
        str | None,
        typer.Argument(help="Scenario or trial, file (.toml) or name; by default five trials."),
    ] = None,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            "--trial",
            metavar="ID",
            help="Trial to run, by card name or registry number; repeatable.",
        ),
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="Simulated patients for each cohort (1000).")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws of the uncertain parameters (200).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers (1).")] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path(
        "build/compare"
    ),
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="DLT rule instead of each trial's own; a variant keeps its own."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Model option; repeatable."),
    ] = None,
    card: Annotated[
        list[str] | None,
        typer.Option(
            "--card",
            metavar="DRUG.PART=NAME",
            help="Card instead of the usual one, such as lenalidomide.pk=liang2024_lenalidomide; "
            "repeatable.",
        ),
    ] = None,
    marrow: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Marrow: friberg (without leukaemia) or leukaemia (learned from published "
            "outcomes, the usual one). What it cannot do is refused, never done in the other.",
        ),
    ] = None,
    posterior: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Posterior of the marrow with leukaemia, not the shipped one.",
        ),
    ] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Write tables and report without figures.")
    ] = False,
    figure_format: Annotated[
        list[str] | None,
        typer.Option(
            "--figure-format",
            metavar="NAME",
            help="File of each figure: svg (the usual one), pdf or png; repeatable.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print all tables.")] = False,
    jobs: Threads = None,
    cluster: Simulators = None,
) -> None:
    """Compare the cohorts of trials: nadirs, recovery days, risk of dose-limiting toxicity."""
    from datetime import UTC, datetime

    from pkpd.cards.files import trial_name

    run = _Run(out, _size(patients, draws), full=full)
    with _told(run):
        share_memory()
        from pkpd.arguments import pairs_of
        from pkpd.report.comparison.own_folder import free_folder, stamp, take_along
        from pkpd.report.comparison.tables import check_formats, check_writable, write_results
        from pkpd.report.comparison.terminal import progress

        settings = {
            "patients": patients,
            "draws": draws,
            "rule": rule,
            "options": pairs_of(option, "--option", "transfusion=false"),
            "cards": pairs_of(card, "--card", "lenalidomide.pk=liang2024_lenalidomide", text=True),
            "trials": [trial_name(t) for t in trial or ()],
            "scenario": Path(scenario).name if scenario else None,
            "marrow": marrow,
            "posterior": posterior.name if posterior else None,
        }
        rest = {"jobs": jobs, "cluster": cluster, "marrow": marrow, "posterior": posterior}
        given: dict[str, Any] = {key: value for key, value in rest.items() if value is not None}
        check_writable(out)
        check_formats(formats := figure_format or ["svg"])
        started, begun = datetime.now(UTC), stamp(out)
        with progress(run.printer.console) as on_progress:
            from pkpd.comparison.run import compare as run_comparison

            result = run_comparison(
                scenario,
                patients=patients,
                draws=draws,
                seed=seed,
                trials=settings["trials"] or None,
                rule=rule,
                options=settings["options"],
                cards=settings["cards"],
                on_cohort=run.on_cohort,
                on_trial=run.on_trial,
                on_progress=on_progress,
                on_start=run.printer.simulated,
                **given,
            )
            on_progress(1.0, 1.0, "writing tables" if no_figures else "drawing figures")
            result = _recorded(result, settings, started, datetime.now(UTC))
            out = free_folder(out, begun)
            if out != run.out:
                take_along(run.partial)
            paths = write_results(result, out, figures=not no_figures, formats=formats)
        run.printer.assumptions(result)
        run.printer.files(paths, out)
        if reason := getattr(sys.stdout, "reason", ""):
            told = f"Not all was printed ({reason}); the results are complete: see {paths[0]}."
            typer.echo(told, err=True)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Trial or card, by name or as a .toml file.")],
) -> None:
    """Tell a trial or a card in plain words."""
    with _told():
        from pkpd.cards.finding import find_any
        from pkpd.report.comparison.plain_words import card_in_words, trial_in_words
        from pkpd.report.comparison.terminal import make_console, print_lines

        kind, path = find_any(name)
        if kind == "trials":
            from pkpd.cards.rule_cards import load_rules
            from pkpd.cards.trial_cards import load_trial

            lines = trial_in_words(load_trial(path), load_rules())
        else:
            from pkpd.cards.tables import read_toml

            lines = card_in_words(Path(str(path)).stem, read_toml(path).data)
        print_lines(make_console(), lines)


@app.command()
def cards(
    kind: Annotated[str | None, typer.Argument(help="Only one kind, such as trials.")] = None,
) -> None:
    """List the shipped cards by kind."""
    with _told():
        from pkpd.cards.files import KINDS, card_folder, card_names, find_card
        from pkpd.cards.tables import read_toml
        from pkpd.report.comparison.terminal import make_console, print_lines

        if kind is not None:
            card_folder(kind)  # refuses an unknown kind
        console = make_console()
        for group in KINDS if kind is None else (kind,):
            lines = [f"{group}:"]
            for name in card_names(group):
                data = read_toml(find_card(group, name)).data
                title = next((data[k] for k in ("title", "disease") if k in data), "")
                lines.append(f"  {name}" + (f": {title}" if title else ""))
            print_lines(console, lines if len(lines) > 1 else [*lines, "  none"])


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Card, trial or scenario files (.toml).")],
    marrow: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Marrow that schedules are for, as of compare."),
    ] = None,
) -> None:
    """Check files and tell every problem; exit status 1 if there is one.

    Schedules are checked as compare would meet them.
    """
    problems = 0
    with _told():
        from pkpd.cards.finding import toml_files
        from pkpd.comparison.check import check_as_compared

        for path in toml_files(files):
            found = check_as_compared(path, marrow)
            problems += len(found)
            for text in found:
                typer.echo(text)
            if not found:
                typer.echo(f"{path}: good")
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)


@app.command(name="design")
@functools.wraps(design_options)
def design(**asked: Any) -> None:
    """Replay a dose-finding trial: the next dose, and why; tables, operating characteristics."""
    with _told():
        from pkpd.comparison.design_risks import predicted_risks

        PREDICT.set(predicted_risks)
        for line in design_options(**asked):
            typer.echo(line)


def _printed(options: Callable[..., Iterator[str]]) -> Callable[..., None]:
    """Make a command of a function that gives its lines one by one."""

    @functools.wraps(options)
    def command(**asked: Any) -> None:
        with _told():
            for line in options(**asked):
                typer.echo(line)

    return command


app.command(name="forecast")(_printed(forecast_options))
app.command(name="visits")(_printed(visits_options))
app.command(name="search")(_printed(search_options))
app.command(name="learn")(_printed(learn_options))


@app.command()
def explore(
    file: Annotated[
        str | None, typer.Argument(help="Schedule file (.toml), or the name of a shipped trial.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address that is listened on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine.")] = 8765,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address without opening it.")
    ] = False,
) -> None:
    """Compare schedules in the browser, with sliders; prints the Python that does the same."""
    with _told():
        from pkpd.explorer.command import serve

        serve(file, host=host, port=port, browser=not no_browser, say=typer.echo)


@app.command()
def version() -> None:
    """Print the versions of pkpd and of what its numbers depend on."""
    from pkpd.report.comparison.record import versions

    for name, number in sorted(versions().items(), key=lambda item: item[0] != "pkpd"):
        typer.echo(f"{name} {number}")


# -- one run --------------------------------------------------------------------------------


def _size(patients: int | None, draws: int | None) -> str:
    """Size of the simulation in words, as far as the command line gives it."""
    if patients is None and draws is None:
        return ""
    return f"{patients or 'usual number of'} patients x {draws or 'usual number of'} draws"


class _Run:
    """What a running comparison has completed: printed, and kept in the partial files."""

    def __init__(self, out: Path, size: str, *, full: bool) -> None:
        self.out = out
        self.size = size
        self.full = full
        self.rows: list[EndpointRow] = []
        self.trials: list[TrialResult] = []
        self.cohorts: list[str] = []
        self.partial: dict[Path, Stamp | None] = {}
        self.there = 0
        self._printer: CohortPrinter | BriefPrinter | None = None

    @property
    def printer(self) -> CohortPrinter | BriefPrinter:
        if self._printer is None:
            from pkpd.report.comparison.brief import BriefPrinter
            from pkpd.report.comparison.terminal import CohortPrinter

            self._printer = (CohortPrinter if self.full else BriefPrinter)(size=self.size)
        return self._printer

    def on_cohort(self, trial: Trial, cohort_id: str, rows: Sequence[EndpointRow]) -> None:
        self.rows += rows
        self._write()
        self.cohorts.append(f"{trial.id} {cohort_id}")
        self.printer.cohort(trial, cohort_id, rows)

    def on_trial(self, result: TrialResult) -> None:
        self.trials.append(result)
        self._write()
        self.printer.trial(result)

    def _write(self) -> None:
        from pkpd.report.comparison.own_folder import stamp
        from pkpd.report.comparison.tables import write_partial

        written = write_partial(self.out, self.rows, self.trials, there=self.there)
        others = {path for path in self.partial if path.name.startswith("curves_")}
        kept = others if len(self.trials) > self.there else written[1:]
        mine = (path for path in written if path not in kept)
        self.partial |= {path: stamp(path.parent, path.name) for path in mine}
        self.there = len(self.trials)

    def complete(self) -> str:
        """Sentence that says which results are complete and where."""
        if not self.partial:
            return "No cohort was complete; nothing was written."
        n, names = len(self.cohorts), ", ".join(self.cohorts)
        files = "results.partial.csv"
        if self.trials:
            files += ", pairs.partial.csv, sensitivity.partial.csv and curves_*.partial.nc"
        told = f"{n} cohort{'s are' if n > 1 else ' is'} complete ({names})"
        return f"{told}: see {files} in {self.out}."


@contextmanager
def _told(run: _Run | None = None) -> Iterator[None]:
    """Turn bad input and interruption into a sentence on stderr and an exit status."""
    try:
        yield
    except PkpdError as error:
        typer.echo(f"pkpd: {error}", err=True)
        if run is not None and run.partial:
            typer.echo(run.complete(), err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. " + ("" if run is None else run.complete()), err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("PKPD_TRACEBACK"):
            traceback.print_exception(error)
        typer.echo(f"pkpd: {unanswered(error)}", err=True)
        if run is not None and run.partial:
            typer.echo(run.complete(), err=True)
        raise typer.Exit(EXIT_MISTAKE) from None


def _recorded(
    result: ComparisonResult, settings: dict[str, Any], started: Any, finished: Any
) -> ComparisonResult:
    """Complete the run record; what the comparison recorded itself wins."""
    from dataclasses import replace

    from pkpd.report.comparison.record import run_record

    own = result.record
    asked = {k: v for k, v in settings.items() if v not in (None, {}, [])}
    merged = {**asked, **own.get("settings", {})}
    record = run_record(own.get("seed", 0), merged, own.get("cards", {}), started, finished)
    return replace(result, record={**record, **{k: v for k, v in own.items() if k != "settings"}})


@app.command(name="import")
def import_(
    stream: Annotated[Path, typer.Argument(help="NONMEM control stream, or a listing.")],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Data file instead of that of $DATA.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside",
            metavar="FILE",
            help="Listing, file of estimates or table to compare with; repeatable. "
            "Without it those that bear the stream's name.",
        ),
    ] = None,
    problem: Annotated[
        int | None, typer.Option(min=1, help="Number of the problem, where there are several.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The script; else the stream's name, .py.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over a script that was edited.")
    ] = False,
) -> None:
    """Write a Python script that does what a NONMEM control stream does, and verify it."""
    with _told():
        from pkpd.nonmem.script import import_stream

        target, report, agrees = import_stream(
            stream, data=data, problem=problem, beside=beside, out=out, overwrite=overwrite
        )
    typer.echo(report)
    typer.echo(f"written: {target}")
    if not agrees:
        raise typer.Exit(EXIT_PROBLEMS)


def main() -> None:
    """Entry point of the ``pkpd`` command."""
    from pkpd.report.output import lasting_output, plain_warnings

    code: str | int | None = 0
    with plain_warnings(), lasting_output() as output:
        try:
            app()
        except SystemExit as stop:
            code = stop.code
    if output is not None and output.problem is not None and not output.closed_by_reader:
        typer.echo(f"pkpd: standard output cannot be written: {output.reason}.", err=True)
        code = code or EXIT_PROBLEMS
    if code == EXIT_INTERRUPTED:
        # a compilation in another thread must not be torn down halfway
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
    sys.exit(code)


if __name__ == "__main__":
    main()
