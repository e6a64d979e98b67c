"""Who is answered: this machine alone, or whoever knows a token.

Without a token only the names of this machine are answered, so that no page of elsewhere can point
a name of its own here. With one the server may be reached from other machines under any name; what
a browser sends by itself from other pages is refused in both.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from pkpd.errors import PkpdError, sentence

TOKEN, TOKEN_FILE = "PKPD_EXPLORER_TOKEN", "PKPD_EXPLORER_TOKEN_FILE"
LEAST = 20
COOKIE = "pkpd_explorer"
PAGE = "/"
UNKNOWN = 401
_HERE = ("localhost", "127.0.0.1", "[::1]")


class Refused(Exception):
    """A request that is not answered, with a status and a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def token_of(environment: Mapping[str, str] = os.environ) -> str | None:
    """Token that the environment names: no command line, which every user of a machine can list.

    Parameters
    ----------
    environment
        Its variable ``PKPD_EXPLORER_TOKEN`` is the token, or ``PKPD_EXPLORER_TOKEN_FILE`` a file.

    Raises
    ------
    PkpdError
        If both are set, the file cannot be read, or the token is short or has odd characters.
    """
    given, file = environment.get(TOKEN), environment.get(TOKEN_FILE)
    if given is not None and file is not None:
        raise PkpdError(where=TOKEN, what=f"{TOKEN_FILE} is set, too", remedy="unset one of them")
    where = TOKEN
    if file is not None:
        where = f"{TOKEN_FILE}, {file}"
        try:
            given = Path(file).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or "it is no text of ASCII characters"
            raise PkpdError(where=where, what=what) from None
    if given is None:
        return None
    if len(given) < LEAST or not given.isascii() or not given.isprintable() or " " in given:
        raise PkpdError(
            where=where,
            what="the token is short or has odd characters",
            allowed=f"{LEAST} or more ASCII characters without spaces",
            remedy="make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return given


class Access:
    """Answers the machine itself, or those who know the token.

    Parameters
    ----------
    token
        Asked for, as ``Authorization: Bearer``, as ``?token=`` of a first visit, or as the cookie
        that this visit leaves. Without one only this machine is answered.
    """

    def __init__(self, token: str | None = None) -> None:
        self.open = token is None
        key = (token or "").encode()
        self._token = hashlib.sha256(key).digest()
        self._cookie = hmac.new(key, b"pkpd explore", hashlib.sha256).hexdigest()

    def check(self, request: Request, *, token: bool = True) -> None:
        """Refuse who may not ask.

        Parameters
        ----------
        request
            What is asked.
        token
            Whether the token is needed for it.

        Raises
        ------
        Refused
            With 403 where another page or a name of elsewhere is behind it, 401 without the token.
        """
        self._check_origin(request)
        if token and not (self.open or self._knows(request)):
            what = "it is missing or wrong"
            remedy = "open the page once with ?token=... at the end of its address"
            raise Refused(UNKNOWN, sentence(where="token", what=what, remedy=remedy))

    def welcomed(self, request: Request) -> Response | None:
        """Answer a first visit: its cookie, and the address without the token."""
        if self.open or "token" not in request.query_params:
            return None
        answer = Response(status_code=303, headers={"Location": "./"})
        forwarded = request.headers.get("x-forwarded-proto", request.url.scheme)
        # Lax: a link in a mail leads here, and the browser follows it with the cookie
        answer.set_cookie(
            COOKIE,
            self._cookie,
            httponly=True,
            samesite="lax",
            secure=forwarded.startswith("https"),
        )
        return answer

    def _knows(self, request: Request) -> bool:
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [bearer.strip()] if kind.lower() == "bearer" else []
        if request.url.path == PAGE and "token" in request.query_params:
            given.append(request.query_params["token"])
        known = [_alike(hashlib.sha256(one.encode()).digest(), self._token) for one in given]
        cookie = request.cookies.get(COOKIE, "")
        return any([*known, _alike(cookie.encode(), self._cookie.encode())])

    def _check_origin(self, request: Request) -> None:
        """Refuse requests for another host, and of pages of another: names can be pointed here."""
        host = request.headers.get("host", "")
        if self.open and re.sub(r":\d+$", "", host) not in _HERE:
            what = f"{host[:100]!r} is not this machine"
            raise Refused(403, sentence(where="host", what=what, allowed="localhost, 127.0.0.1"))
        # a proxy before a server with a token may speak TLS
        own = [f"http://{host}"] if self.open else [f"https://{host}", f"http://{host}"]
        origin = request.headers.get("origin")
        if origin is not None and origin not in own:
            what = f"{origin[:100]!r} is another page than the explorer's"
            raise Refused(403, sentence(where="origin", what=what, allowed=own[0]))
        if not self.open and request.url.path == PAGE and request.method in ("GET", "HEAD"):
            return  # a link on another page: the page itself tells nothing and cannot be framed
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            what = "the request comes from another site"
            raise Refused(403, sentence(where="origin", what=what, allowed=own[0]))


_alike = hmac.compare_digest
"""In a time that does not tell how much of them is equal."""
