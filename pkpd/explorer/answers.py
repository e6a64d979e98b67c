"""Requests as they are read, and answers as they are sent."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pkpd.errors import PkpdError
from pkpd.explorer.access import PAGE, UNKNOWN, Refused

MOST_BYTES = 256 * 1024
"""Of one request: a schedule file is a few thousand."""
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def refusal(request: Request, error: Refused) -> Response:
    """Sentence of a refusal; who opens the page without the token reads it as plain text."""
    if error.status != UNKNOWN:
        return as_json(encoded({"errors": [{"text": str(error)}]}), error.status)
    ask = {"WWW-Authenticate": "Bearer"}
    if request.url.path == PAGE:
        return Response(f"{error}\n", UNKNOWN, ask, media_type="text/plain")
    body = encoded({"errors": [{"text": str(error)}]})
    return Response(body, UNKNOWN, ask, media_type="application/json")


async def document_of(request: Request) -> dict[str, Any]:
    """Body of a request as a table, not more than so many bytes of it."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "request: it is not JSON; allowed: application/json.")
    too_long = f"request: it has more than {MOST_BYTES // 1024} kB; open a smaller file."
    length = request.headers.get("content-length", "0")
    if not (length.isdecimal() and len(length) <= 12) or int(length) > MOST_BYTES:
        raise Refused(413, too_long)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise Refused(413, too_long)

    def no_number(text: str) -> float:
        raise ValueError(text)

    try:
        document = json.loads(bytes(body), parse_constant=no_number)
        encoded(document)  # refuses half of a character, which is no text
    except (ValueError, RecursionError):
        raise Refused(400, "request: no JSON, or half a character; reload the page.") from None
    if not isinstance(document, dict):
        raise Refused(400, "request: it is no table of settings; reload the page.")
    return document


def told(problems: list[PkpdError]) -> list[dict[str, Any]]:
    """Sentences with the places they are about, as steps from the top of the file."""
    found = []
    for error in problems:
        keys, key = getattr(error, "keys", ()), getattr(error, "key", None)
        found.append({"text": str(error), "path": [*keys, *([key] if key else [])]})
    return found


def file_of_page(name: str) -> Response:
    """File of the page; one that there is not is refused."""
    known = {entry.name: entry for entry in (resources.files("pkpd.explorer") / "static").iterdir()}
    if name not in known:
        raise Refused(404, f"{name[:100]!r}: there is no such file of the page.")
    media = _TYPES.get(Path(name).suffix, "application/octet-stream")
    return Response(known[name].read_bytes(), media_type=media)


def as_json(body: bytes, status: int = 200) -> Response:
    """Answer of what is encoded already."""
    return Response(body, status_code=status, media_type="application/json")


def encoded(value: Any) -> bytes:
    """Value as the page reads it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode()
