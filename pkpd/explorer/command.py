"""``pkpd explore``: start the server, open the page, print the Python of what it begins with."""

from __future__ import annotations

import logging
import socket
import webbrowser
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pkpd.errors import PkpdError

if TYPE_CHECKING:
    from pkpd.fitting.draws import Fitted

HOST = "127.0.0.1"
PORT = 8765


def serve(
    file: str | None,
    *,
    port: int = PORT,
    browser: bool = True,
    fits: Mapping[str, Fitted] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve pages on this machine until interrupted.

    Parameters
    ----------
    file
        A schedule file, whose folder is then the working folder; or the name of a shipped trial.
    port
        Of the server; another one is taken where it is in use.
    browser
        Whether the page is opened.
    fits
        Results of `pkpd.fit` that pages can simulate with, by name.
    say
        Prints a line.

    Raises
    ------
    PkpdError
        If the server's packages are not installed, or the file cannot be read.
    """
    try:
        import uvicorn

        from pkpd.explorer.server import Explorer
    except ImportError as error:
        raise PkpdError(
            where="pkpd explore",
            what=f"the package {error.name} is not installed",
            remedy="install it with: pip install 'pkpd[explorer]'",
        ) from error
    from pkpd.explorer.state import opened, working_folder

    folder = working_folder(file)
    explorer = Explorer(folder, opened(file, folder), fits, warm=True)
    bound = _bound(port)
    taken = bound.getsockname()[1]
    address = f"http://{HOST}:{taken}/"
    say(f"The explorer runs at {address} for this machine only; stop it with Ctrl-C.")
    say(f"Working folder: {folder}")
    say(explorer.python())
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if browser:
        webbrowser.open(address)
    config = uvicorn.Config(
        explorer.app(),
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=1,
    )
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        explorer.desk.finished()
        bound.close()


def _bound(port: int) -> socket.socket:
    """Socket on this machine alone, on another port if the one asked for is in use."""
    for wanted in (port, 0):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, wanted))
            made.listen(128)  # a browser that is faster than the server waits for it
        except OSError:
            made.close()
        else:
            return made
    what = f"no port of {HOST} is free"
    raise PkpdError(where="pkpd explore", what=what, remedy="name one with --port")
