"""What the server answers, and what it refuses."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress
from importlib import resources

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from pkpd.cards.files import card_folder
from pkpd.cli import app as command
from pkpd.errors import PkpdError
from pkpd.explorer.answers import MOST_BYTES
from pkpd.explorer.desk import MOST_LEFT, MOST_WAITING, Busy, Desk, Superseded, TooLong
from pkpd.explorer.server import GOES_ON, STALE, Explorer

HERE = "http://127.0.0.1:8765"


@pytest.fixture
def explorer(folder, data):
    made = Explorer(folder, data)
    made.desk.patience_s = 600.0  # a busy machine compiles for long
    return made


@pytest.fixture
def client(explorer):
    with TestClient(explorer.app(), base_url=HERE, raise_server_exceptions=False) as client:
        yield client
    explorer.desk.finished()


def errors(response):
    return [error["text"] for error in response.json()["errors"]]


def test_a_state_is_answered(client, document):
    response = client.post("/api/simulate", json={**document, "tab": "a", "turn": 1})
    assert response.status_code == 200
    content = response.json()
    assert [s["id"] for s in content["schedules"]] == ["low", "high"]
    assert content["toml"].startswith('title = "Two doses"')
    assert len(response.content) < 100_000


def test_the_same_state_is_simulated_once(client, explorer, document):
    for turn in range(3):
        assert client.post("/api/simulate", json={**document, "tab": "a", "turn": turn}).is_success
    assert client.post("/api/simulate", json={**document, "tab": "b", "turn": 0}).is_success
    assert explorer.desk.simulated == 1
    (explorer.folder / "mine.toml").write_text("title = 'a file of the folder has changed'")
    assert client.post("/api/simulate", json={**document, "tab": "b", "turn": 1}).is_success
    assert explorer.desk.simulated == 2


def test_a_file_in_a_folder_of_the_folder_is_of_the_state(explorer, document, data):
    (explorer.folder / "cards").mkdir()
    card, asked = (
        explorer.folder / "cards" / "mine.toml",
        {**document, "data": {**data, "rule": "cards/mine.toml"}},
    )
    before = explorer._key(asked)
    card.write_text("")
    assert explorer._key(asked) != before


def test_a_name_longer_than_files_have_is_refused_beside_its_control(client, document, data):
    data["rule"] = f"{300 * 'x'}/mine.toml"
    answer = client.post("/api/simulate", json=document)
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["path"] == ["rule"]


def test_the_python_of_a_file_with_a_drug_that_only_a_fit_knows(folder, data, monkeypatch):
    monkeypatch.setattr("pkpd.explorer.state._drugs_of", lambda fits: ["mine"])
    data["dose"]["mine"] = {"amount": "5 mg", "days": "1", "route": "oral"}
    data["course"]["induction"]["doses"] = ["clofarabine", "mine"]
    assert "[dose.mine]" in Explorer(folder, data, {"fit": object()}).python()


def test_a_server_refuses_a_fit_named_as_another_source(folder, data):
    with pytest.raises(PkpdError, match="'learned' is a name of a source that every page has"):
        Explorer(folder, data, {"learned": object()})


def test_the_order_of_courses_is_of_the_state(explorer, document, data):
    course = data["course"]["induction"]
    orders = [{"a": course, "b": {**course, "cycles": 2}}]
    orders.append(dict(reversed(orders[0].items())))
    first, second = (explorer._key({**document, "data": {**data, "course": o}}) for o in orders)
    assert first != second


def test_the_first_picture_of_a_file_without_cohorts_is_what_its_page_asks(folder, data):
    del data["cohort"]
    made = Explorer(folder, data)
    page = {"patients": 48, "draws": 21, "seed": 1, "ensemble": "learned"}
    page["data"] = {**data, "cohort": [{"id": "A"}]}
    assert made._key(made.first_question()[1]) == made._key(page)


def test_a_page_may_have_a_sketch_first(client, explorer, document):
    def answer(**asked):
        return client.post("/api/simulate", json={**document, "tab": "a", **asked}).json()

    document["draws"] = 15
    first = answer(turn=1, sketch=True)
    assert first["sketch"] == "Curves of 5 of 15 draws; figures and words follow."
    whole = answer(turn=1)
    assert explorer.desk.simulated == SKETCH_AND_WHOLE  # the whole went on behind the sketch
    assert first.keys() - {"sketch"} < whole.keys()
    assert first["schedules"][0]["counts"] != whole["schedules"][0]["counts"]
    assert answer(turn=2, sketch=True) == whole  # it is there
    document["data"]["rule_change"] = {"by_day": 33}
    judged = answer(turn=3, sketch=True)
    assert "sketch" not in judged
    simulated = explorer.desk.simulated
    assert answer(turn=3) == judged
    assert explorer.desk.simulated == simulated


def test_a_whole_that_a_page_wants_no_more_is_given_up(explorer, document, monkeypatch):
    """It goes on behind a sketch, and ends before its next portion when the page has moved on."""
    from pkpd.ensemble.learned import LearnedTreated

    forget()
    simulated, course = [], LearnedTreated.course

    def moved_on(treated, draws):
        simulated.extend(draws)
        if len(simulated) > of_sketch:
            explorer.desk._note("a", 2)
        return course(treated, draws)

    of_sketch, of_all = 2 * 5, 2 * 15
    with TestClient(explorer.app(), base_url=HERE) as client:
        document = {**document, "draws": 15, "tab": "a", "turn": 1}
        monkeypatch.setattr(LearnedTreated, "course", moved_on)
        assert "sketch" in client.post("/api/simulate", json={**document, "sketch": True}).json()
        assert client.post("/api/simulate", json=document).status_code == STALE
        assert of_sketch < len(simulated) < of_all
        monkeypatch.undo()
        assert client.post("/api/simulate", json={**document, "turn": 3}).is_success


def test_the_first_picture_is_under_way_before_a_page_asks(folder, data, monkeypatch):
    forget()
    explorer = Explorer(folder, data, warm=True)
    explorer.desk.patience_s = 600.0
    content, sketched = explorer._content, threading.Event()

    def work(document, *, sketch=False, **more):
        assert sketch or sketched.wait(60)
        return content(document, sketch=sketch, **more)

    async def go_on(*_):
        sketched.set()

    monkeypatch.setattr(explorer, "_content", work)
    monkeypatch.setattr(explorer, "_go_on", go_on)
    with TestClient(explorer.app(), base_url=HERE) as client:
        usual = client.get("/api/start").json()["choices"]["usual"]
        document = {"data": data, **usual, "tab": "a", "turn": 1}  # in the order of a page
        sketch = client.post("/api/simulate", json={**document, "sketch": True}).json()
        assert sketch["sketch"] == "Curves of 5 of 21 draws; figures and words follow."
        assert "sketch" not in client.post("/api/simulate", json=document).json()
    assert explorer.desk.simulated == SKETCH_AND_WHOLE
    explorer.desk.finished()


SKETCH_AND_WHOLE = 2


def forget():
    """Forget what was simulated, as a command does that starts."""
    from pkpd.explorer import simulation

    simulation._LOOKS.clear()
    simulation._COURSES.clear()


def page_of(folder, data):
    """What a page that opens is answered, and how many answers were worked out for it."""
    forget()
    explorer = Explorer(folder, data, warm=True)
    explorer.desk.patience_s = 600.0
    with TestClient(explorer.app(), base_url=HERE) as client:
        start = client.get("/api/start").json()
        # JavaScript writes 1 for 1.0
        document = json.loads(json.dumps({"data": data, **start["choices"]["usual"]}))
        document["data"]["horizon_days"] = int(document["data"]["horizon_days"])
        answer = client.post("/api/simulate", json={**document, "tab": "a", "turn": 1}).json()
        client.post("/api/exposure", json=document)  # after what goes on meanwhile
    explorer.desk.finished()
    return start, answer, explorer.desk.simulated


@pytest.mark.slow
def test_a_page_that_opens_again_does_not_wait_for_the_model(folder, data, cache, monkeypatch):
    data["horizon_days"] = 60.0
    start, answer, simulated = page_of(folder, data)
    assert simulated == SKETCH_AND_WHOLE
    assert [s["id"] for s in answer["schedules"]] == ["low", "high"]
    assert len(list(cache.iterdir())) == 2
    assert page_of(folder, data) == (start, answer, 0)
    # another file of the folder can be named, and other amounts are other answers
    (folder / "mine.toml").write_text("title = 'new'")
    assert page_of(folder, data)[2] == SKETCH_AND_WHOLE
    data["dose"]["clofarabine"]["amount"] = "25 mg/m^2"
    monkeypatch.setattr("pkpd.explorer.choices.choices", None)  # those of the first start
    assert page_of(folder, data)[1] != answer


def test_nothing_is_kept_of_a_file_that_names_others(folder, data, cache):
    shipped = card_folder("populations") / "rr_aml.toml"
    (folder / "mine.toml").write_text(shipped.read_text().replace("rr_aml", "mine"))
    data["population"] = "mine.toml"
    assert page_of(folder, data)[2] == SKETCH_AND_WHOLE
    assert not cache.exists()


def test_the_order_of_a_file_is_part_of_what_is_asked(folder, data, cache):
    page_of(folder, data)
    turned = dict(reversed(data.items()))
    assert page_of(folder, turned)[2] == SKETCH_AND_WHOLE


def test_a_server_that_can_keep_nothing_answers(folder, data, monkeypatch):
    def refused():
        raise PermissionError

    monkeypatch.setattr("pkpd.explorer.server.FirstAnswers", refused)
    assert page_of(folder, data)[2] == SKETCH_AND_WHOLE


def test_what_is_wrong_is_not_kept(folder, data, cache):
    data["dose"]["clofarabine"]["amount"] = "ten"
    assert "errors" in page_of(folder, data)[1]
    assert len(list(cache.iterdir())) == 1  # what controls offer


def test_problems_come_with_their_places_and_the_file(client, document):
    document["data"]["dose"]["clofarabine"]["amount"] = "ten"
    response = client.post("/api/simulate", json=document)
    assert response.status_code == 200
    (error,) = response.json()["errors"]
    assert error["path"] == ["dose", "clofarabine", "amount"]
    assert 'amount = "ten"' in response.json()["toml"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8765", "", "localhost:evil"]
)
def test_other_hosts_are_refused(client, host):
    response = client.get("/", headers={"Host": host})
    assert response.status_code == 403
    assert "not this machine" in errors(response)[0]


def test_pages_of_others_are_refused(client, document):
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.post("/api/simulate", json=document, headers=headers).status_code == 403
    good = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/open", json={"toml": "a = 1"}, headers=good).json() == {
        "data": {"a": 1}
    }
    # a form of another page can only send these types
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = client.post("/api/open", content=b"{}", headers={"Content-Type": kind})
        assert response.status_code == 415


def test_large_requests_are_refused_before_they_are_read(client):
    headers = {"Content-Type": "application/json"}
    for length in ("100000000", "-1", "many"):
        response = client.post(
            "/api/open", content=b"{}", headers={**headers, "Content-Length": length}
        )
        assert response.status_code == 413

    def endless():
        for _ in range(3 * MOST_BYTES // 1000):
            yield b" " * 1000

    response = client.post("/api/simulate", content=endless(), headers=headers)
    assert response.status_code == 413
    assert "256 kB" in errors(response)[0]


_HALF = b'{"data": {"title": "\\ud800"}}'  # of a character


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"patients": NaN}', b'"\xff"', b"[" * 100_000, b"\xff\xfe", b"", _HALF]
)
def test_what_is_no_json_is_refused_in_a_sentence(client, body):
    response = client.post(
        "/api/simulate", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert errors(response)[0].endswith(".")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": {}},
        {"data": {"cohort": 3}},
        {"data": {"cohort": [3]}},
        {"data": None, "patients": None},
        {"toml": "x", "turn": 1},
        {"data": {"dose": {"a": None}, "title": [1], "horizon_days": "x"}},
        {"data": {"horizon_days": 1e300, "population": {"a": 1}}},
    ],
)
def test_odd_states_are_refused_in_sentences(client, given):
    response = client.post("/api/simulate", json=given)
    assert response.status_code == 200
    assert all(text.endswith(".") for text in errors(response))
    assert errors(response)


def test_an_odd_turn_is_refused(client, document):
    assert client.post("/api/simulate", json={**document, "turn": "x"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/none.js",
        "/static//etc/passwd",
    ],
)
def test_no_other_file_is_sent(client, path):
    assert client.get(path).status_code == 404


def test_pages_say_what_they_may_load(client):
    for path in ("/", "/static/main.js", "/api/alive", "/static/none", "/none", "/api/simulate"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    page = client.get("/").text
    assert "//" not in page.replace("<!doctype", "")  # nothing from elsewhere


def test_the_page_is_light(client):
    names = [entry.name for entry in (resources.files("pkpd.explorer") / "static").iterdir()]
    files = [client.get(f"/static/{name}") for name in names]
    assert {"index.html", "main.js", "explorer.css"} <= set(names)
    assert all(response.is_success for response in files)
    start = client.get("/api/start").content
    assert sum(len(response.content) for response in files) + len(start) < 250_000
    longest = max(len(response.text.splitlines()) for response in files)
    assert longest <= 500


def test_a_page_begins_with_the_file_and_what_controls_offer(client, data):
    start = client.get("/api/start").json()
    assert start["data"] == data
    assert start["first"] == 2
    names = {drug["name"] for drug in start["choices"]["drugs"]}
    assert {"clofarabine", "filgrastim", "venetoclax"} <= names
    assert all(rule["by_day"] for rule in start["choices"]["rules"])
    medians = {p["name"]: p["medians"] for p in start["choices"]["populations"]}
    assert 55 < medians["rr_aml"]["age"] < 67


def test_csv_is_that_of_a_comparison(client, document):
    response = client.post("/api/csv", json=document)
    assert response.headers["content-type"].startswith("text/csv")
    assert response.text.startswith("trial,cohort,label,endpoint")
    document["patients"] = 10**9
    assert client.post("/api/csv", json=document).status_code == 422


def test_concentrations_are_sent_and_mistakes_are_told(client, document):
    answer = client.post("/api/exposure", json=document).json()
    assert [drug["name"] for drug in answer["drugs"]] == ["clofarabine"]
    document["data"]["dose"]["clofarabine"]["amount"] = "many"
    wrong = client.post("/api/exposure", json=document).json()
    assert wrong["errors"][0]["path"] == ["dose", "clofarabine", "amount"]


def test_the_next_dose_of_a_trial_of_the_schedules(client, document):
    seen = [{"treated": 3, "dlts": 0}]
    answer = client.post("/api/design", json={**document, "design": {"seen": seen}}).json()
    assert answer["sentence"].startswith("Next: escalate to 40 mg/m2.")
    wrong = client.post("/api/design", json={**document, "design": {"name": 3}}).json()
    assert wrong["errors"][0]["path"] == ["design", "name"]
    odd = client.post("/api/design", json={**document, "design": [1]})
    assert odd.json()["sentence"].startswith("Next: start")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("secret"), "a mistake of the program ended this request (RuntimeError)"),
        (MemoryError("secret"), "the memory does not suffice; ask for fewer patients or draws"),
        (OSError(28, "No space left", "secret"), "No space left; mend this on the machine"),
    ],
)
def test_what_fails_is_told_without_its_inside(
    folder, data, client, document, monkeypatch, caplog, error, words
):
    from pkpd.explorer import simulation

    def broken(state, **asked):
        raise error

    monkeypatch.setattr(simulation, "explore", broken)
    response = client.post("/api/simulate", json=document)
    assert response.status_code == 500
    assert words in response.json()["errors"][0]["text"]
    assert "secret" not in response.text
    assert "/api/simulate failed" in caplog.text
    assert "secret" in caplog.text
    # the picture that is worked out before a page asks: the page is told when it does
    caplog.clear()
    warm = Explorer(folder, data, warm=True)
    with TestClient(warm.app(), base_url=HERE, raise_server_exceptions=False) as page:
        answer = page.post("/api/simulate", json=document)
    assert words in answer.json()["errors"][0]["text"]
    assert "the first picture failed" in caplog.text
    warm.desk.finished()


def test_older_wishes_of_a_page_are_dropped(explorer, document, monkeypatch):
    """While one state is simulated three more are wished for: only the last is simulated."""
    import anyio
    import httpx2 as httpx

    done = threading.Event()

    def simulated(document, **_):
        assert done.wait(600)
        return b"{}"

    monkeypatch.setattr(explorer, "_content", simulated)

    async def main():
        transport = httpx.ASGITransport(explorer.app())
        statuses = {}
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:

            async def ask(turn):
                body = {**document, "seed": turn, "tab": "a", "turn": turn}
                response = await client.post("/api/simulate", json=body, timeout=600)
                statuses[turn] = response.status_code

            async with anyio.create_task_group() as group:
                for turn in range(1, 5):
                    group.start_soon(ask, turn)
                    while explorer.desk.waiting < turn:
                        await anyio.sleep(0.01)
                done.set()
        return statuses

    assert anyio.run(main) == {1: 200, 2: STALE, 3: STALE, 4: 200}
    assert (explorer.desk.simulated, explorer.desk.dropped) == (2, 2)
    explorer.desk.finished()


def test_a_page_that_goes_away_does_not_free_its_turn(explorer, document, monkeypatch):
    """Two simulations never run at once, also where the first one's page was closed."""
    import anyio

    running, most = [], []
    gone = threading.Event()

    def simulated(document):
        running.append(1)
        most.append(len(running))
        assert gone.wait(600)
        time.sleep(0.2)
        running.pop()
        return b"{}"

    async def main():
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def first():
                with scope:
                    await explorer.desk.answer("a", "page", 1, lambda: simulated(None))

            group.start_soon(first)
            while not running:
                await anyio.sleep(0.01)
            scope.cancel()
            gone.set()
            await explorer.desk.answer("b", "other", 1, lambda: simulated(None))

    anyio.run(main)
    assert max(most) == 1
    assert len(most) == 2
    explorer.desk.finished()


def test_too_many_who_wait_are_told_so(explorer, monkeypatch):
    import anyio

    async def main():
        done = threading.Event()
        busy = []

        async def ask(number):
            try:
                await explorer.desk.answer(
                    f"{number}", f"{number}", 1, lambda: done.wait(600) and b""
                )
            except Busy:
                busy.append(number)

        async with anyio.create_task_group() as group:
            for number in range(MOST_WAITING + 3):
                group.start_soon(ask, number)
            while len(busy) < 3:
                await anyio.sleep(0.01)
            done.set()
        return busy

    assert len(anyio.run(main)) == 3
    explorer.desk.finished()


def test_what_no_page_asks_for_is_never_stale(explorer, document, monkeypatch):
    """The first picture was begun again every second where a script gave a turn and no tab."""
    import anyio

    monkeypatch.setattr(explorer, "_content", lambda *_, wanted, **__: b"%d" % wanted())
    with TestClient(explorer.app(), base_url=HERE) as client:
        for turn in (5, 2):
            assert client.post("/api/simulate", json={**document, "turn": turn}).json() == 1
            document["draws"] += 1
        for tab in ("", "b"):
            for turn, status in ((5, 200), (2, STALE)):
                asked = {**document, "tab": tab, "turn": turn}
                document["draws"] += 1
                assert client.post("/api/simulate", json=asked).status_code == status
    assert anyio.run(explorer._patiently, {**document, "draws": 77}) == b"1"
    explorer.desk.finished()


def test_what_another_page_gave_up_is_worked_out_for_who_waits_for_it_still():
    import anyio

    desk, moved_on, found = Desk(patience_s=600.0), threading.Event(), []

    def of(page):
        def work():
            if page == "a":
                assert moved_on.wait(600)
                raise Superseded
            return b"whole"

        return work

    async def ask(page):
        try:
            found.append((page, await desk.answer("state", page, 1, of(page))))
        except Superseded:
            found.append((page, None))

    async def main():
        async with anyio.create_task_group() as group:
            for page in ("a", "b", None):
                group.start_soon(ask, page)
            await anyio.sleep(0.05)
            desk._note("a", 2)
            moved_on.set()

    anyio.run(main)
    assert sorted(found, key=str) == [("a", None), ("b", b"whole"), (None, b"whole")]
    assert desk.waiting == 0
    desk.finished()


def test_stale_requests_of_a_page_do_not_make_the_explorer_busy():
    import anyio

    desk, done = Desk(patience_s=600.0), threading.Event()

    def first():
        assert done.wait(600)
        return b"first"

    async def ask(number):
        with suppress(Superseded):
            await desk.answer(f"state {number}", "slider", number, lambda: b"one of many")

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(desk.answer, "first", "other", 1, first)
            for number in range(MOST_WAITING + 3):
                group.start_soon(ask, number)
            await anyio.sleep(0.05)
            assert desk.waiting == MOST_WAITING + 4
            done.set()
            assert await desk.run(lambda: b"answered") == b"answered"
        assert await desk.answer(f"state {MOST_WAITING + 2}", "x", 1, first) == b"one of many"
        assert desk.waiting == 0

    anyio.run(main)
    assert desk.dropped == MOST_WAITING + 2
    desk.finished()


def test_what_takes_long_is_left_to_go_on_and_others_are_answered():
    import anyio

    desk, may_end = Desk(patience_s=0.05), threading.Event()

    def long():
        assert may_end.wait(600)
        return b"late"

    async def main():
        async with anyio.create_task_group() as group:
            with pytest.raises(TooLong):
                await desk.answer("long", "page", 1, long)
            assert await desk.run(lambda: b"meanwhile") == b"meanwhile"
            group.start_soon(desk.run, long)  # waits for its answer, and holds nobody up
            while desk.left < MOST_LEFT:
                await anyio.sleep(0.01)
            with pytest.raises(Busy):
                await desk.run(lambda: b"one more")
            with pytest.raises(TooLong):
                await desk.answer("long", "other", 1, long)  # joins the one that goes on
            may_end.set()
        while desk.left:
            await anyio.sleep(0.01)
        # its answer is there when it is asked for again
        assert await desk.answer("long", "page", 9, lambda: b"anew") == b"late"

    anyio.run(main)
    assert desk.simulated == 1
    desk.finished()


def test_a_page_is_told_that_its_simulation_goes_on(client, explorer, document, monkeypatch):
    may_end = threading.Event()
    explorer.desk.patience_s = 0.05
    monkeypatch.setattr(explorer, "_content", lambda *_, **__: may_end.wait(600) and b"{}")
    asked = {**document, "tab": "a", "turn": 1}
    response = client.post("/api/simulate", json=asked)
    assert response.status_code == GOES_ON
    assert "takes more than 0.05 s and goes on meanwhile" in errors(response)[0]
    may_end.set()
    explorer.desk.patience_s = 600.0
    assert client.post("/api/simulate", json={**asked, "turn": 2}).status_code == 200


def test_the_command_says_what_to_install(monkeypatch):
    from pkpd.errors import PkpdError
    from pkpd.explorer.command import serve

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(PkpdError, match=r"uvicorn is not installed; .*install '\.\[explorer\]'"):
        serve(None)


def test_the_command_needs_a_file_that_it_can_read():
    from typer.testing import CliRunner

    result = CliRunner().invoke(
        command, ["explore", "no_such_trial", "--no-browser", "--port", "0"]
    )
    assert result.exit_code == 2
    assert "there is no card named 'no_such_trial'" in result.output


def test_a_patient_is_forecast_and_mistakes_have_their_place(client, document, monkeypatch):
    from pkpd.explorer import patient

    monkeypatch.setattr(patient, "BANK", 200)
    monkeypatch.setattr(patient, "DRAWS", 5)
    counts = "DAY,ANC,PLT\n4,1.1,74\n8,0.6,45\n"
    answer = client.post("/api/patient", json={**document, "patient": {"text": counts}}).json()
    assert not answer["trusted"]
    assert answer["sentence"].startswith("This forecast cannot tell when counts are back: ")
    assert answer["until"] == 8
    assert answer["recovered"] == {}
    assert all(line["bands"] == [] for line in answer["lines"].values())
    wrong = client.post("/api/patient", json={**document, "patient": {"text": "DAY"}}).json()
    assert wrong["errors"][0]["path"] == ["patient", "text"]
    odd = client.post("/api/patient", json={**document, "patient": [1]})
    assert odd.status_code == 200
    assert "errors" in odd.json()


def test_what_was_begun_and_left_while_a_request_waited_is_not_begun_again():
    import anyio

    desk, may_end, begun = Desk(patience_s=0.2), threading.Event(), []

    def long():
        begun.append(1)
        assert may_end.wait(600)
        return b"late"

    async def asked(page):
        with pytest.raises(TooLong):
            await desk.answer("long", page, 1, long)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(desk.run, lambda: time.sleep(0.1) or b"before")
            await anyio.sleep(0.02)
            group.start_soon(asked, "a")
            group.start_soon(asked, "b")
        may_end.set()
        while desk.left:
            await anyio.sleep(0.01)

    anyio.run(main)
    assert (len(begun), desk.simulated) == (1, 1)
