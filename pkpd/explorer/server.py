"""The server of the explorer: a page, and what it asks for."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pkpd.errors import PkpdError
from pkpd.explorer.access import Access, Refused
from pkpd.explorer.answers import as_json, document_of, encoded, file_of_page, refusal, told
from pkpd.explorer.desk import Busy, Desk, Superseded, TooLong
from pkpd.explorer.first_answers import FirstAnswers, shipped_picture
from pkpd.kept_values import Kept

if TYPE_CHECKING:
    from pkpd.explorer.state import State

log = logging.getLogger("pkpd.explorer")

PAGE_COMES_S = 5.0
"""How long the model waits for a page that opens, where its picture is there: seconds."""
STALE = 409
_ERRORS, _SKETCH = b'{"errors":', b'{"sketch":'
GOES_ON = 202
"""The simulation takes long and goes on: the page asks again."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class Explorer:
    """A page's server.

    Parameters
    ----------
    folder
        Working folder: the only one that is read.
    data
        Contents of the file that pages begin with.
    fits
        Results of `pkpd.fit` that pages may simulate with, by name; one that a page's other sources
        have (``"learned"``, ``"cards"``, ``"x.nc"``) is refused.
    warm
        Whether the first picture is worked out before a page asks for it.
    token
        Whoever knows it is answered, from any machine; without one this machine alone.
    """

    def __init__(
        self,
        folder: Path,
        data: dict[str, Any],
        fits: Mapping[str, Any] | None = None,
        *,
        warm: bool = False,
        token: str | None = None,
    ) -> None:
        self.folder = folder
        self.data = data
        self.fits = dict(fits or {})
        if fits:
            from pkpd.explorer.state import check_fit_names

            check_fit_names(fits)
        self.warm = warm
        self.access = Access(token)
        self.desk = Desk()
        self.kept: FirstAnswers | None = None
        self._shown = asyncio.Event()
        self._states: Kept[State] = Kept(2)

    def app(self) -> Starlette:
        """Make the application."""
        routes = [
            Route("/", self._answered(self.page)),
            Route("/static/{name}", self._answered(self.static)),
            Route("/api/alive", self._answered(self.alive, token=False)),
            Route("/api/start", self._answered(self.start)),
            Route("/api/open", self._answered(self.open), methods=["POST"]),
            Route("/api/simulate", self._answered(self.simulate), methods=["POST"]),
            Route("/api/design", self._answered(self.design), methods=["POST"]),
            Route("/api/patient", self._answered(self.patient), methods=["POST"]),
            Route("/api/exposure", self._answered(self.exposure), methods=["POST"]),
            Route("/api/csv", self._answered(self.csv), methods=["POST"]),
        ]
        unknown = {HTTPException: self.unknown}
        return Starlette(routes=routes, lifespan=self._running, exception_handlers=unknown)

    @asynccontextmanager
    async def _running(self, app: Starlette) -> AsyncIterator[None]:
        """Work out the first picture while the browser loads the page, if asked to."""
        if self.warm and not self.fits and self._stands_alone():
            try:
                self.kept = FirstAnswers()
            except Exception:  # a card that cannot be read, a library without its record
                log.info("no first answers are kept", exc_info=True)
        task = asyncio.create_task(self._first_picture()) if self.warm else None
        yield
        if task is not None:
            task.cancel()

    def _stands_alone(self) -> bool:
        """Whether the file names no card of the user's own, which may change in any way."""
        from pkpd.explorer.state import names_files

        return not names_files(self.data)

    async def _first_picture(self) -> None:
        """Work it out, even where that of an earlier start is shown: what follows is quick then."""
        try:
            question, document = self.first_question()
            key = self._key(document)
            kept = self.kept.get(key) if self.kept else None
            first = kept or (shipped_picture(question) if self.kept else None)
            if first is None:
                await self._patiently(document, sketch=True)
                answer = await self._patiently(document)
            else:
                self.desk.put(key, first)
                with suppress(TimeoutError):  # a page that opens is shown before the model loads
                    await asyncio.wait_for(self._shown.wait(), PAGE_COMES_S)
                answer = await self.desk.run(lambda: self._content(document))
                self.desk.put(key, answer)
            if self.kept and kept is None and not answer.startswith(_ERRORS):
                await asyncio.to_thread(self.kept.keep, key, answer)
        except Exception as error:
            # nobody waits for this answer: the page asks for the same picture, and is told then
            _failed(error, "the first picture")

    async def _patiently(self, document: dict[str, Any], *, sketch: bool = False) -> bytes:
        """Wait for an answer for as long as it takes, as where code is compiled first."""
        while True:
            try:
                return await self._answer(document, None, 0, sketch)
            except (TooLong, Busy, Superseded):
                log.info("the first picture takes long")
                await asyncio.sleep(1.0)

    def first_question(self) -> tuple[bytes, dict[str, Any]]:
        """Give what a page asks that opens, in the order of the file and as it sends it."""
        asked = encoded({"data": _first_schedules(self.data)})
        return asked, json.loads(asked, parse_float=_as_pages_send)

    def first_answer(self) -> tuple[bytes, bytes]:
        """Give what a page asks that opens, and its answer, worked out anew."""
        question, document = self.first_question()
        return question, self._content(document)

    def python(self) -> str:
        """Python that gives the figures of the page that is opened first."""
        from pkpd.explorer.script import script
        from pkpd.explorer.state import read_state

        return script(read_state({"data": _first_schedules(self.data)}, self.folder, self.fits))

    # -- what is asked for ---------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """Send the page itself; whoever brings the token gets a cookie first."""
        return self.access.welcomed(request) or file_of_page("index.html")

    async def static(self, request: Request) -> Response:
        """Send a file of the page."""
        return file_of_page(request.path_params["name"])

    async def alive(self, request: Request) -> Response:
        """Say that the server runs, to whom it may concern."""
        return Response(status_code=204)

    async def unknown(self, request: Request, error: Exception) -> Response:
        """Answer what there is not, or not by this method."""

        async def refused(request: Request) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 404
            what = f"{request.method[:20]} {request.url.path[:100]!r}"
            raise Refused(status, f"{what}: the explorer does not answer this; reload its page.")

        return await self._answered(refused)(request)

    async def start(self, request: Request) -> Response:
        """Tell what controls offer, and the state that a page begins with."""
        # beside a simulation: the controls appear while the first picture is worked out
        return as_json(await asyncio.to_thread(self._start))

    async def open(self, request: Request) -> Response:
        """Turn the text of a schedule file into what controls show."""
        document = await document_of(request)

        def content() -> dict[str, Any]:
            from pkpd.explorer.state import read_data

            return {"data": read_data(document, self.folder)}

        return await self._in_turn(content)

    async def simulate(self, request: Request) -> Response:
        """Simulate a state; a page that asks for a sketch may have curves of some draws first."""
        document = await document_of(request)
        tab, number = document.pop("tab", None), document.pop("turn", 0)
        page = None if tab is None else str(tab)[:64]
        sketch = document.pop("sketch", False) is True
        if not isinstance(number, int):
            raise Refused(400, "turn: it is not a whole number; allowed: 0 or more.")

        try:
            answer = await self._answer(document, page, number, sketch)
            self._shown.set()
            response = as_json(answer)
            if answer.startswith(_SKETCH):
                response.background = BackgroundTask(self._go_on, document, page, number)
            return response
        except Superseded:
            return Response(status_code=STALE)
        except TooLong:
            return as_json(encoded({"errors": [{"text": self._too_long()}]}), GOES_ON)

    async def _go_on(self, document: dict[str, Any], page: str | None, number: int) -> None:
        """Begin the whole while the page draws the sketch; what fails is told when it asks."""
        with suppress(Exception):
            await self._answer(document, page, number)

    async def design(self, request: Request) -> Response:
        """Tell the next dose of a trial of the schedules, and what to expect of its design."""
        document = await document_of(request)
        asked = document.pop("design", {})

        def content() -> dict[str, Any]:
            from pkpd.explorer.dose_finding import dose_finding
            from pkpd.explorer.simulation import explore
            from pkpd.explorer.state import read_state

            return dose_finding(explore(read_state(document, self.folder, self.fits)), asked)

        return await self._in_turn(content)

    async def patient(self, request: Request) -> Response:
        """Forecast one patient under a schedule of a state, from counts so far."""
        document = await document_of(request)
        asked = document.pop("patient", {})

        def content() -> dict[str, Any]:
            from pkpd.explorer.patient import one_patient
            from pkpd.explorer.state import read_state

            return one_patient(read_state(document, self.folder, self.fits), asked)

        return await self._in_turn(content)

    async def exposure(self, request: Request) -> Response:
        """Tell the concentrations of the drugs of a state."""
        document = await document_of(request)

        def content() -> dict[str, Any]:
            from pkpd.explorer.exposure import exposure_content
            from pkpd.explorer.state import read_state

            return exposure_content(read_state(document, self.folder, self.fits))

        return await self._in_turn(content)

    async def csv(self, request: Request) -> Response:
        """Send the figures of a state as CSV."""
        document = await document_of(request)

        def work() -> bytes:
            from pkpd.explorer.simulation import explore
            from pkpd.explorer.state import read_state
            from pkpd.explorer.words import csv_of

            return csv_of(explore(read_state(document, self.folder, self.fits))).encode()

        body = await self.desk.run(work)
        return Response(body, media_type="text/csv", headers=_HEADERS)

    async def _in_turn(self, content: Callable[[], dict[str, Any]]) -> Response:
        """Answer with what is worked out in its turn, or with what is wrong with a state."""

        def work() -> bytes:
            from pkpd.explorer.state import BadStateError

            try:
                return encoded(content())
            except BadStateError as error:
                return encoded({"errors": told(error.problems)})

        return as_json(await self.desk.run(work))

    async def _answer(
        self, document: dict[str, Any], page: str | None, number: int, sketch: bool = False
    ) -> bytes:
        """Answer for a state, in its turn; by a sketch, if asked to and the whole is not there."""
        key, desk = self._key(document), self.desk
        first = f"{key} sketch"

        def work(sketch: bool = False) -> bytes:
            wanted = partial(desk.wants, page, number)
            return self._content(document, key=key, sketch=sketch, wanted=wanted)

        if not sketch or desk.has(key) or (desk.has_begun(key) and not desk.has(first)):
            return await desk.answer(key, page, number, work)
        answer = await desk.answer(first, page, number, lambda: work(sketch=True))
        if not answer.startswith(_SKETCH):
            desk.put(key, answer)
        return answer

    def _key(self, document: Mapping[str, Any]) -> str:
        """Key of a state, or of what is asked of a file: with the files that it can name.

        Tables are in their order, in which courses follow one another.
        """
        from pkpd.explorer.state import USUAL, stamps

        asked = [
            {**USUAL, **document},
            str(self.folder.absolute()),
            stamps(self.folder, document.get("data")),
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    # -- work -----------------------------------------------------------------------------------

    def _start(self) -> bytes:
        """Choices, which are kept for files to come, and the file with which a page begins."""
        from pkpd.explorer.state import first_schedules, posterior_files

        key = f"choices, {posterior_files(self.folder)}"
        offered = self.kept.get(key) if self.kept else None
        if offered is None:
            from pkpd.explorer.choices import choices

            offered = encoded(choices(self.folder, self.fits))
            if self.kept:
                self.kept.keep(key, offered)
        begins = encoded({"data": self.data, "first": first_schedules(self.data)})
        return b'{"choices":' + offered + b"," + begins[1:]

    def _content(
        self,
        document: dict[str, Any],
        *,
        key: str | None = None,
        sketch: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> bytes:
        """Answer for a state; that of a key is read once for its sketch and its whole."""
        from pkpd.explorer.simulation import explore
        from pkpd.explorer.state import BadStateError, read_state
        from pkpd.explorer.words import page_content, sketch_content

        def read() -> State:
            return read_state(document, self.folder, self.fits)

        try:
            state = read() if key is None else self._states.of(key, read)
            found = explore(state, sketch=sketch, wanted=wanted)
            whole = found.draws == state.draws
            return encoded(page_content(found) if whole else sketch_content(found))
        except PkpdError as error:
            problems = error.problems if isinstance(error, BadStateError) else [error]
            for problem in problems:
                log.warning("%s", problem)
            return encoded({"errors": told(problems), "toml": self._toml(document)})

    def _too_long(self) -> str:
        return (
            f"server: this takes more than {self.desk.patience_s:g} s and goes on meanwhile; wait, "
            "or take fewer patients, draws or days."
        )

    def _toml(self, document: dict[str, Any]) -> str | None:
        """File of a state that cannot be shown: the address bar keeps it all the same."""
        from pkpd.explorer.state import read_data
        from pkpd.explorer.toml import write_toml

        try:
            return write_toml(read_data(document, self.folder))
        except PkpdError:
            return None

    def _answered(self, handler: Handler, *, token: bool = True) -> Handler:
        """Answer a request of who may ask; anything else, and what goes wrong, by a sentence."""

        async def answered(request: Request) -> Response:
            try:
                self.access.check(request, token=token)
                response = await handler(request)
            except Refused as error:
                log.warning("%s", error)
                response = refusal(request, error)
            except PkpdError as error:
                response = as_json(encoded({"errors": told([error])}), 422)
            except Busy:
                text = "server: too many simulations wait or go on; try again in a moment."
                response = as_json(encoded({"errors": [{"text": text}]}), 503)
            except (ClientDisconnect, asyncio.CancelledError):
                raise
            except Exception as error:
                text = _failed(error, request.url.path)
                response = as_json(encoded({"errors": [{"text": text}]}), 500)
            response.headers.update(_HEADERS)
            return response

        return answered


def _failed(error: Exception, what: str) -> str:
    """Log what nothing else has answered, with its traceback; returns the sentence for the page.

    What the machine lacks (memory, a disk, a file) is named. All else is a mistake of the program:
    its text may hold anything, so the page names its kind alone.
    """
    log.error("%s failed", what, exc_info=error)
    if isinstance(error, MemoryError):
        return "server: the memory does not suffice; ask for fewer patients or draws."
    if isinstance(error, OSError) and error.strerror:
        return f"server: {error.strerror}; mend this on the machine, and ask again."
    return (
        f"server: a mistake of the program ended this request ({type(error).__name__}). What the "
        "page shows is kept. The terminal in which pkpd explore runs shows the traceback: please "
        "report it with your schedule."
    )


def _as_pages_send(number: str) -> float:
    """Read a number of a document as pages send it back: JavaScript writes 1 for 1.0."""
    value = float(number)
    return int(value) if value.is_integer() else value


def _first_schedules(data: dict[str, Any]) -> dict[str, Any]:
    """File with as many schedules as a page begins with."""
    from pkpd.explorer.state import first_schedules

    cohorts = data.get("cohort")
    if not isinstance(cohorts, list) or not cohorts:
        return {**data, "cohort": [{"id": "A"}]}  # as the page has it
    return {**data, "cohort": cohorts[: first_schedules(data)]}
