"""Who is answered: this machine, or who knows the token; no request leaves a file."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from pkpd.errors import PkpdError
from pkpd.explorer import access
from pkpd.explorer.access import COOKIE, TOKEN, TOKEN_FILE, token_of
from pkpd.explorer.command import _bound, serve
from pkpd.explorer.server import Explorer
from pkpd.machine import cache_home

SECRET = "f2hT-8sk3jd9_Kq1mZx0"
GROUP = "http://pkpd.example:8765"
BEARER = {"Authorization": f"Bearer {SECRET}"}
MADE = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
CLOSED = ("/", "/static/main.js", "/api/start", "/static/none.js", "/nothing/at/all")


@pytest.fixture
def explorer(folder, data):
    made = Explorer(folder, data, token=SECRET)
    made.desk.patience_s = 600.0
    yield made
    made.desk.finished()


@pytest.fixture
def client(explorer):
    with TestClient(explorer.app(), base_url=GROUP, follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("path", CLOSED)
def test_without_the_token_nothing_is_told(client, path):
    response = client.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    text = response.text if path == "/" else response.json()["errors"][0]["text"]
    assert text.strip() == (
        "token: it is missing or wrong; open the page once with ?token=... at the end of its "
        "address."
    )
    assert client.post("/api/simulate", json={}).status_code == 401
    assert client.get(path, headers=BEARER).status_code in (200, 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {SECRET}"},
        {"Cookie": f"{COOKIE}={SECRET}"},
        {"Cookie": f"{COOKIE}="},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
def test_a_wrong_token_is_none(client, headers):
    assert client.get("/api/start", headers=headers).status_code == 401
    assert client.get(f"/api/start?token={SECRET}").status_code == 401  # of the page alone
    assert client.get("/?token=wrong").status_code == 401


def test_a_first_visit_leaves_a_cookie_and_an_address_without_the_token(client):
    visit = client.get(f"/?token={SECRET}")
    assert (visit.status_code, visit.headers["location"]) == (303, "./")
    cookie = visit.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert SECRET not in cookie
    assert client.get("/").status_code == 200
    assert client.get("/api/start").status_code == 200
    behind_tls = client.get(f"/?token={SECRET}", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in behind_tls.headers["set-cookie"]


def test_a_cookie_ends_with_its_token(client, folder, data):
    client.get(f"/?token={SECRET}")
    other = Explorer(folder, data, token=SECRET[::-1])
    with TestClient(other.app(), base_url=GROUP, cookies=client.cookies) as elsewhere:
        assert elsewhere.get("/api/start").status_code == 401
    other.desk.finished()


def test_a_login_of_a_proxy_may_stand_beside_the_cookie(client):
    client.get(f"/?token={SECRET}")
    login = {"Authorization": "Basic dXNlcjpwYXNz", "Origin": "https://pkpd.example:8765"}
    assert client.get("/api/start", headers=login).status_code == 200


def test_every_comparison_takes_the_same_time_for_all(client, monkeypatch):
    asked = []
    alike = access._alike
    monkeypatch.setattr(access, "_alike", lambda a, b: asked.append((a, b)) or alike(a, b))
    for given in ("", "x", SECRET[:-1], SECRET):
        asked.clear()
        client.get("/api/start", headers={"Authorization": f"Bearer {given}"})
        assert [len(a) == len(b) == 32 for a, b in asked] == [True, False]
        assert SECRET.encode() not in [side for pair in asked for side in pair]
    assert alike is access.hmac.compare_digest


def test_pages_of_others_are_refused_with_the_token_too(client, document):
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        response = client.post("/api/open", json={"toml": "a = 1"}, headers=BEARER | headers)
        assert response.status_code == 403
    # but a link of another page leads here
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=BEARER | link).status_code == 200


def test_whether_it_runs_is_no_secret(client):
    response = client.get("/api/alive")
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("path", [*CLOSED, "/api/alive", f"/?token={SECRET}"])
@pytest.mark.parametrize("headers", [{}, BEARER])
def test_every_answer_says_what_may_be_loaded(client, path, headers):
    for method in ("GET", "POST", "DELETE"):
        found = client.request(method, path, headers=headers).headers
        policy = found["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "no-referrer"
        assert found["cache-control"] == "no-store"


def test_requests_write_no_file(client, document, cache, tmp_path):
    """None is opened to be written, made, moved or removed, but in the folders of caches."""
    written, watching = [], [True]
    caches = [cache.parent, cache_home()]  # Sobol points of this test alone, and machine code
    for folder in caches:
        folder.mkdir(parents=True, exist_ok=True)
    kept = (*map(str, caches), "pytest_cache", "__pycache__", os.devnull)

    def watch(event, arguments):
        if not watching:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int):  # open already, and looked at when it was opened
                return
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not any(part in str(path) for part in kept):
                written.append((event, path, mode))
        elif event in MADE and not any(part in str(arguments) for part in kept):
            written.append((event, *arguments))

    sys.addaudithook(watch)  # stays as long as the process, and looks no more after this test
    try:
        simulated = client.post("/api/simulate", json=document, headers=BEARER)
        csv = client.post("/api/csv", json=document, headers=BEARER)
        opened = client.post("/api/open", json={"toml": "a = 1"}, headers=BEARER)
        refused = client.post("/api/open", json={"toml": "a = 1"})
        assert written == []
        with open(os.devnull, "w"), open(tmp_path / "made", "w") as made:
            assert written == [("open", made.name, "w")]  # it does look
    finally:
        watching.clear()
    statuses = [answer.status_code for answer in (simulated, csv, opened, refused)]
    assert statuses == [200, 200, 200, 401]


# -- where the token comes from, and where the server listens -------------------------------------


def test_a_token_is_in_the_environment_or_in_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    assert token_of({}) is None
    assert token_of({TOKEN: SECRET}) == token_of({TOKEN_FILE: str(file)}) == SECRET


@pytest.mark.parametrize(
    "given", ["", "abc-123", "x" * 19, "ä" * 30, "with spaces in its middle", "\n"]
)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_weak_token_is_refused(tmp_path, given, from_file):
    file = tmp_path / "token"
    file.write_text(given, encoding="utf-8")
    environment = {TOKEN_FILE: str(file)} if from_file else {TOKEN: given}
    with pytest.raises(PkpdError, match=TOKEN) as refused:
        token_of(environment)
    assert not given.strip() or given not in str(refused.value)


def test_a_token_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(PkpdError, match=r"TOKEN_FILE, .*none: No such file or directory\.$"):
        token_of({TOKEN_FILE: str(tmp_path / "none")})
    with pytest.raises(PkpdError, match="unset one of them"):
        token_of({TOKEN_FILE: "a", TOKEN: SECRET})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_machines_need_a_token(host, monkeypatch, folder):
    monkeypatch.chdir(folder)
    for name in (TOKEN, TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PkpdError, match=f"other machines reach {host}, .*{TOKEN}"):
        serve(None, host=host, port=0, browser=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_needs_none(host):
    with _bound(host, 0, True) as bound:
        assert bound.getsockname()[0].startswith("127.")


def test_an_answer_is_sent_as_soon_as_it_is_there():
    """Not 40 ms later, when the other side has said that it has the head."""
    at_once = []

    async def main(bound):
        done = asyncio.Event()

        def connected(reader, writer):
            mine = writer.get_extra_info("socket")
            at_once.append(mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            done.set()

        async with await asyncio.start_server(connected, sock=bound):
            _, other = await asyncio.open_connection(*bound.getsockname())
            await done.wait()
            other.close()
            await other.wait_closed()

    asyncio.run(main(_bound("127.0.0.1", 0, True)))
    assert at_once == [1]


def test_a_port_in_use_is_told_where_others_know_it():
    with _bound("127.0.0.1", 0, True) as first:
        port = first.getsockname()[1]
        with _bound("127.0.0.1", port, True) as second:
            assert second.getsockname()[1] != port
        with pytest.raises(PkpdError, match=f"port {port} of 127.0.0.1 cannot be taken"):
            _bound("127.0.0.1", port, False)
    with pytest.raises(PkpdError, match="no address of this machine"):
        _bound("no such host", 0, True)


def test_all_addresses_are_listened_on():
    with _bound("0.0.0.0", 0, False) as bound:
        port = bound.getsockname()[1]
        socket.create_connection(("127.0.0.2", port), timeout=60).close()
