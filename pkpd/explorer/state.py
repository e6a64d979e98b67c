"""The state of a page: a schedule file, who is simulated, and how many of them.

A state comes from a browser, whose address bar anyone can edit: it is read by the reader of
schedule files, and bounded in what it may name and how much it may ask for.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkpd.cards import card_names, find_card
from pkpd.cards.contents import MOST_LEVELS, parsed_toml
from pkpd.cards.drug_actions import FRIBERG, LEUKAEMIA
from pkpd.cards.every_problem import problems_of
from pkpd.cards.files import nearest_of, trial_name
from pkpd.cards.tables import Table, read_toml
from pkpd.cards.trial_cards import trial_of
from pkpd.cards.trial_drugs import without_card
from pkpd.errors import CardError, PkpdError, sentence
from pkpd.kept_values import Itself
from pkpd.trials import Trial

if TYPE_CHECKING:
    from pkpd.fitting.draws import Fitted

FILE_NAME = "explored.toml"
PAGE = "page"
"""How errors name the settings of a page that are not in the schedule file."""

PATIENTS, DRAWS, SEED = 48, 21, 1
"""A thousand virtual patients: every draw of what is not known meets the same 48, a number that
fills the lanes that are solved at once."""

DEFAULT = "two_drugs_6_weeks"
"""Schedule file that a page begins with where none is named."""

MOST_SCHEDULES = 4
FIRST_OF_MANY = 2
"""So many schedules of a file that has more than `MOST_SCHEDULES` are shown at first."""
MOST_DAYS = 400
MOST_PATIENTS, MOST_DRAWS = 1000, 400
MOST_LANE_DAYS = 8_000_000
"""Schedules times patients times draws times days; about four seconds on two cores."""

LEARNED, CARDS = "learned", "cards"
USUAL = {"patients": PATIENTS, "draws": DRAWS, "seed": SEED, "ensemble": LEARNED}
"""Settings of a page that names none."""

_NAMES_A_CARD = ("population", "rule", "grades", "drug")


@dataclass(frozen=True)
class State:
    """What a page shows.

    Attributes
    ----------
    data
        The schedule file, as `tomllib` gives it.
    trial
        The same, read.
    folder
        Working folder: cards of the user's own are read from it and from nowhere else.
    patients, draws, seed
        Size of the simulation and seed of all random numbers.
    ensemble
        ``"learned"``, ``"cards"``, the file of a posterior in the folder, or a name in `fits`.
    fits
        Results of `pkpd.fit` by name.
    stamps
        Files of the folder that a state can name, and when they were changed.
    """

    data: Mapping[str, Any]
    trial: Trial
    folder: Path
    patients: int = PATIENTS
    draws: int = DRAWS
    seed: int = SEED
    ensemble: str = LEARNED
    stamps: tuple[tuple[str, int], ...] = ()
    fits: Mapping[str, Fitted] = field(default_factory=dict)

    @property
    def marrow(self) -> str | None:
        """Marrow as `pkpd.compare` names it; ``None`` for that of a fit."""
        if self.ensemble in self.fits:
            return None
        return FRIBERG if self.ensemble == CARDS else LEUKAEMIA

    @property
    def source(self) -> tuple[Hashable, ...]:
        """Key of what patients are drawn from, the trial aside: of two fits each is itself."""
        fit = Itself(self.fits.get(self.ensemble))
        return self.folder, self.stamps, self.ensemble, fit, self.seed

    @property
    def drawn(self) -> tuple[Hashable, ...]:
        """Key of the patients that are drawn, the trial aside."""
        return self.patients, self.draws, *self.source

    @property
    def posterior(self) -> Fitted | Path | None:
        """What `pkpd.compare` takes in place of the shipped posterior."""
        if self.ensemble in (LEARNED, CARDS):
            return None
        return self.fits.get(self.ensemble, self.folder / self.ensemble)


class BadStateError(PkpdError):
    """A state that cannot be shown.

    Attributes
    ----------
    problems
        One error for each problem.
    """

    def __init__(self, problems: list[PkpdError]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def read_state(document: Any, folder: Path, fits: Mapping[str, Fitted] | None = None) -> State:
    """Read what a page sends.

    Parameters
    ----------
    document
        Keys ``data`` (a schedule file as JSON) or ``toml`` (its text), and ``patients``, ``draws``,
        ``seed``, ``ensemble``, which have defaults.
    folder
        Working folder.
    fits
        Results of `pkpd.fit` that may be asked for, by name.

    Raises
    ------
    BadStateError
        With one error for each problem; a `CardError` knows its place.
    """
    if not isinstance(document, dict):
        raise BadStateError([_problem("", "it is no table of settings")])
    page = Table(document, PAGE, keys=(PAGE,))
    problems: list[PkpdError] = []
    found: dict[str, Any] = {}

    def kept(name: str, read: Any) -> None:
        try:
            found[name] = read()
        except PkpdError as error:
            problems.append(error)

    whole = {"patients": (PATIENTS, 1, MOST_PATIENTS), "draws": (DRAWS, 1, MOST_DRAWS)}
    whole["seed"] = (SEED, 0, 2**31 - 1)
    for name, (usual, least, most) in whole.items():
        kept(
            name, lambda n=name, u=usual, a=least, b=most: page.integer(n, u, minimum=a, maximum=b)
        )
    kept("ensemble", lambda: _ensemble(page, folder, fits or {}))
    kept("data", lambda: _data(page))
    if "data" not in found:
        raise BadStateError(problems)
    data = found["data"]
    known = _drugs_of(fits) if fits else ()

    trials: list[Trial] = []

    def read(changed: Mapping[str, Any]) -> None:
        with without_card(known):
            trials.append(trial_of(changed, folder / FILE_NAME))

    try:
        check_files(data, folder)
        _check_size(data)
        problems += problems_of(data, read)
    except PkpdError as error:
        problems.append(error)
    if problems:
        raise BadStateError(problems)
    state = State(
        trial=trials[-1], folder=folder, stamps=stamps(folder, data), fits=fits or {}, **found
    )
    _check_work(state)
    return state


def read_data(document: Any, folder: Path) -> dict[str, Any]:
    """Schedule file that a page sends as text or as JSON, checked for what it names only.

    Raises
    ------
    BadStateError
        If it is not TOML, or names a file outside the working folder.
    """
    try:
        data = _data(Table(document, PAGE))
        check_files(data, folder)
    except PkpdError as error:
        raise BadStateError([error]) from error
    return in_order(data)


def working_folder(name: str | None) -> Path:
    """Folder of the file that is opened, or the one the command is run in."""
    is_file = name is not None and name.endswith(".toml")
    return (Path(name).parent if is_file and name else Path()).resolve()


def opened(name: str | None, folder: Path) -> dict[str, Any]:
    """Contents of the file that a page begins with.

    Parameters
    ----------
    name
        A file, or the name of a shipped schedule or trial, also by its registry number.
    folder
        Working folder.

    Raises
    ------
    CardError
        If there is no such file, or it is not one of schedules.
    """
    card = trial_name(name or DEFAULT)
    path = find_card("schedules" if card in card_names("schedules") else "trials", card)
    data = dict(read_toml(path).data)
    if data.get("kind", "trial") != "trial":
        raise CardError(
            where=str(name),
            what=f"it is a {data['kind']}, not a file of schedules",
            allowed=f"a schedule file, {', '.join(card_names('trials'))}",
            remedy="open the file of one trial or schedule",
        )
    data.pop("question", None)  # what a comparison answers beyond its figures
    data.setdefault("id", Path(str(path)).stem)
    data.setdefault("name", Path(str(path)).stem)
    check_files(data, folder)
    return in_order(data)


def in_order(data: dict[str, Any]) -> dict[str, Any]:
    """Write out the courses of each schedule where one is named by a whole number.

    Courses follow one another in the order of the file, and a browser puts such names first.
    """
    names = data.get("course")
    if not isinstance(names, Mapping) or not any(name.isdecimal() for name in names):
        return data
    rows = data.get("cohort") or [{"id": "A"}]
    if not isinstance(rows, list):
        return data
    written = [{"courses": list(names), **row} if isinstance(row, dict) else row for row in rows]
    return {**data, "cohort": written}


def first_schedules(data: Mapping[str, Any]) -> int:
    """Count the schedules of a file that a page begins with: all, or two where they are many."""
    cohorts = data.get("cohort")
    if not isinstance(cohorts, list) or not cohorts:
        return 1
    return len(cohorts) if len(cohorts) <= MOST_SCHEDULES else FIRST_OF_MANY


def check_files(data: Mapping[str, Any], folder: Path) -> None:
    """Refuse names of files outside the working folder.

    Raises
    ------
    CardError
        At the first of them.
    """
    home = folder.resolve()
    for keys, text in _texts(data):
        key = str(next((k for k in reversed(keys) if isinstance(k, str)), ""))
        path_like = key in _NAMES_A_CARD and any(c in text for c in "/\\\0")
        if path_like if not text.endswith(".toml") else not _inside(home, text):
            raise _problem(
                " > ".join(map(str, keys)),
                f"{text!r} lies outside of the working folder",
                allowed=f"the name of a shipped card, or a file in {home.name or home}",
                keys=keys,
            )


def names_files(data: Mapping[str, Any]) -> bool:
    """Whether a file names others, whose contents it depends on."""
    return any(text.endswith((".toml", ".nc")) for _, text in _texts(data))


def _inside(home: Path, text: str) -> bool:
    try:
        return (home / text).resolve().is_relative_to(home)
    except (OSError, ValueError, RuntimeError):
        return False


def _texts(data: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text of a file with the steps to its place."""
    if len(keys) > MOST_LEVELS:
        raise _too_deep()
    if isinstance(data, str):
        yield keys, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _texts(value, (*keys, key))
    elif isinstance(data, list):
        for row, value in enumerate(data):
            yield from _texts(value, (*keys, row))


def _data(page: Table) -> dict[str, Any]:
    if "toml" in page:
        text = page.text("toml")
        try:
            return parsed_toml(text)
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            what = f"it is not valid TOML, {message[:1].lower()}{message[1:]}"
            wrong = _problem("", what, remedy="correct the text")
            raise wrong from error
        except ValueError as error:  # more digits than Python makes an integer of
            what = "a number of it has thousands of digits"
            wrong = _problem("", what, remedy="correct it")
            raise wrong from error
        except RecursionError as error:
            raise _too_deep() from error
    return dict(page.table("data").data)


def _drugs_of(fits: Mapping[str, Fitted]) -> list[str]:
    """Names of drugs that fits know without a card."""
    # with JAX, which the first lines do without
    from pkpd.ensemble.fitted_drugs import drugs_of_fit

    return [drug for one in fits.values() for drug in drugs_of_fit(one)]


def _ensemble(page: Table, folder: Path, fits: Mapping[str, Fitted]) -> str:
    text = page.text("ensemble", LEARNED)
    known = (LEARNED, CARDS, *fits, *posterior_files(folder))
    if text not in known:
        page.refuse("ensemble", f"{text!r} is none{nearest_of(text, known)}", ", ".join(known))
    return text


def check_fit_names(names: Iterable[str]) -> None:
    """Refuse names of fits that mean another source of patients on a page.

    Raises
    ------
    PkpdError
        At the first of them.
    """
    for name in names:
        if name in (LEARNED, CARDS) or name.endswith(".nc"):
            of = "files of posteriors" if name.endswith(".nc") else "a source that every page has"
            raise PkpdError(
                where=f"fits, {name}",
                what=f"{name!r} is a name of {of}",
                allowed=f"names other than {LEARNED} and {CARDS} that do not end with .nc",
                remedy="give the fit another name",
            )


def posterior_files(folder: Path) -> tuple[str, ...]:
    """Files in the working folder that may hold a posterior, sorted."""
    return tuple(name for name, _ in stamps(folder) if name.endswith(".nc"))


def stamps(folder: Path, data: Any = None) -> tuple[tuple[str, int], ...]:
    """Files of the working folder that a state can name, and when they were changed.

    So are those of the folders inside it that a schedule file names cards of.
    """
    found: list[tuple[str, int]] = []
    for inside in sorted(
        {"", *(os.path.dirname(t) for _, t in _texts(data) if t.endswith(".toml"))}
    ):
        if not _inside(folder.resolve(), inside) or not os.path.isdir(folder / inside):
            continue
        with os.scandir(folder / inside) as entries:
            found += sorted(
                (os.path.join(inside, entry.name), entry.stat().st_mtime_ns)
                for entry in entries
                if entry.name.endswith((".toml", ".nc")) and entry.is_file(follow_symlinks=False)
            )
    return tuple(found)


def _check_size(data: Mapping[str, Any]) -> None:
    """Refuse more schedules and days than a page shows, before anything is made of them."""
    cohorts = data.get("cohort", ())
    if isinstance(cohorts, list) and len(cohorts) > MOST_SCHEDULES:
        what = f"{len(cohorts)} schedules are given"
        allowed, remedy = f"at most {MOST_SCHEDULES}", "take some away"
        raise _at(("cohort",), what, allowed, remedy)
    days = data.get("horizon_days")
    if isinstance(days, int | float) and days > MOST_DAYS:
        what = f"{days:g} days are asked for"
        allowed = f"at most {MOST_DAYS} days in the explorer"
        remedy = "shorten it, or run pkpd compare"
        raise _at(("horizon_days",), what, allowed, remedy)


def _check_work(state: State) -> None:
    trial = state.trial
    each = len(trial.cohorts) * trial.horizon_days
    if each * state.patients * state.draws > MOST_LANE_DAYS:
        raise BadStateError(
            [
                _problem(
                    "draws",
                    f"{state.draws} draws of {state.patients} patients in {len(trial.cohorts)} "
                    f"schedules over {trial.horizon_days} days are too many for a page",
                    allowed=f"{MOST_LANE_DAYS // each:,} draws times patients",
                    remedy="take fewer, or run pkpd compare",
                    keys=(PAGE, "draws"),
                )
            ]
        )


def _too_deep() -> CardError:
    what = "lists or tables lie too deep within one another"
    return _problem("", what, allowed=f"at most {MOST_LEVELS} levels")


def _at(keys: tuple[Any, ...], what: str, allowed: str, remedy: str) -> CardError:
    return _problem(str(keys[-1]), what, allowed, remedy, keys)


def _problem(
    where: str,
    what: str,
    allowed: str | None = None,
    remedy: str | None = None,
    keys: tuple[Any, ...] = (),
) -> CardError:
    place = f"{FILE_NAME}: {where}" if where else FILE_NAME
    error = CardError(sentence(where=place, what=what, allowed=allowed, remedy=remedy))
    error.keys, error.key = keys[:-1], str(keys[-1]) if keys else None
    return error
