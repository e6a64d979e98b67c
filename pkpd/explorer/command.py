"""``pkpd explore``: start the server, open the page, print the Python of what it begins with."""

from __future__ import annotations

import ipaddress
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
    host: str = HOST,
    port: int = PORT,
    browser: bool = True,
    fits: Mapping[str, Fitted] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve pages until interrupted: on this machine, or for all who know a token.

    The token is that of `pkpd.explorer.access.token_of`; an address that other machines reach is
    not taken without one.

    Parameters
    ----------
    file
        A schedule file, whose folder is then the working folder; or the name of a shipped trial.
    host
        Address, or name of one, of this machine that is listened on.
    port
        Of the server; without a token another one is taken where it is in use.
    browser
        Whether the page is opened; with a token it is not, whose place is no command line.
    fits
        Results of `pkpd.fit` that pages can simulate with, by name.
    say
        Prints a line.

    Raises
    ------
    PkpdError
        If the server's packages are not installed, the file cannot be read, the address cannot be
        taken, or other machines reach it and there is no token.
    """
    try:
        import uvicorn

        from pkpd.explorer.access import token_of
        from pkpd.explorer.server import Explorer
    except ImportError as error:
        raise PkpdError(
            where="pkpd explore",
            what=f"the package {error.name} is not installed",
            remedy="in a checkout of pkpd run: pip install '.[explorer]'",
        ) from error
    from pkpd.explorer.state import opened, working_folder

    token = token_of()
    folder = working_folder(file)
    explorer = Explorer(folder, opened(file, folder), fits, warm=True, token=token)
    python = explorer.python()
    bound = _bound(host, port, token is None)
    where, taken = bound.getsockname()[:2]
    address = f"http://{f'[{where}]' if ':' in where else where}:{taken}/"
    who = "this machine only" if token is None else "all who know the token"
    say(f"The explorer runs at {address} for {who}; stop it with Ctrl-C.")
    if port not in (0, taken):
        say(f"Port {port} cannot be taken, so that it is another; --port names one.")
    say(f"Working folder: {folder}")
    say(python)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if browser and token is None:
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


def _bound(host: str, port: int, alone: bool) -> socket.socket:
    """Socket of an address: where alone of this machine only, and of another port if need be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        what = f"{host[:100]!r} is no address of this machine"
        raise PkpdError(where="--host", what=what, allowed="127.0.0.1, 0.0.0.0, ::1") from None
    if alone and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        from pkpd.explorer.access import TOKEN, TOKEN_FILE

        raise PkpdError(
            where="--host",
            what=f"other machines reach {host}, and there is no token",
            remedy=f"set {TOKEN} or {TOKEN_FILE}, or listen on {HOST}",
        )
    for wanted in (port, 0) if alone else (port,):
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # answers at once
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address[0], wanted, *address[2:]))
            made.listen(128)  # a browser that is faster than the server waits for it
        except OSError as error:
            made.close()
            problem = error.strerror
        else:
            return made
    what = f"port {port} of {host} cannot be taken: {problem}"
    raise PkpdError(where="pkpd explore", what=what, remedy="name another with --port or --host")
