"""The API over real sockets, asked by clients that are not ours: urllib and aiohttp."""

import asyncio
import gc
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from veo_async.simulator import Dialect, Simulator

GENERATE = "/api/v1/veo/generate"
RECORD = "/api/v1/veo/record-info"
SPEC_1080P = "/api/v1/veo/get-veo-3-1080-p-video"
LIVE_1080P = "/api/v1/veo/get-1080p-video"


@pytest.fixture
def spec() -> Iterator[Simulator]:
    with Simulator(time_scale=0, generation_seconds=60, upgrade_seconds=60, clip=(64, 36)) as sim:
        yield sim


@pytest.fixture
def live() -> Iterator[Simulator]:
    with Simulator(
        dialect="live", time_scale=0, generation_seconds=60, upgrade_seconds=60, clip=(64, 36)
    ) as sim:
        yield sim


def call(
    sim: Simulator,
    method: str,
    path: str,
    body: object = None,
    *,
    key: str | None = "",
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Send one request with urllib; return the HTTP status and the decoded body."""
    request = urllib.request.Request(sim.base_url + path, method=method, headers=headers or {})
    if key is not None:
        request.add_header("Authorization", f"Bearer {key or sim.api_key}")
    if body is not None:
        request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def create(sim: Simulator, **fields: object) -> str:
    status, body = call(sim, "POST", GENERATE, {"prompt": "a boat", **fields})
    assert (status, body["code"]) == (200, 200), body
    task_id: str = body["data"]["taskId"]
    return task_id


def test_a_task_from_prompt_to_1080p_file(spec: Simulator) -> None:
    task_id = create(spec, seed=12345)
    query = f"?taskId={task_id}"
    assert call(spec, "GET", RECORD + query)[1]["data"]["status"] == 0
    spec.advance(60)
    record = call(spec, "GET", RECORD + query)[1]["data"]
    assert record["status"] == 1
    assert call(spec, "GET", SPEC_1080P + query)[0] == 400
    spec.advance(60)
    status, ready = call(spec, "GET", SPEC_1080P + query)
    assert (status, ready["data"]["resolution"]) == (200, "1080p")
    films: list[bytes] = []
    for url in (record["videoUrl"], ready["data"]["videoUrl"]):
        with urllib.request.urlopen(url) as answer:
            films.append(answer.read())
    assert [film[4:8] for film in films] == [b"ftyp", b"ftyp"]
    assert films[0] != films[1]
    ledger = spec.ledger
    assert [(charge.kind, charge.credits) for charge in ledger] == [("generate", 70), ("1080p", 20)]
    assert ledger.spent == 90
    assert ledger.balance == 9_910
    assert ledger.leaks == ()
    assert ledger.requests == {
        "generate": 1,
        "record-info": 2,
        "1080p": 2,
        "video": 2,
        "credit": 0,
        "download-url": 0,
        "extend": 0,
        "4k": 0,
        "upload": 0,
        "webhook": 0,
        "other": 0,
    }


def test_the_live_calls(live: Simulator) -> None:
    task_id = create(live, aspect_ratio="9:16")
    live.advance(60)
    record = call(live, "GET", f"{RECORD}?taskId={task_id}")[1]["data"]
    assert record["successFlag"] == 1
    assert call(live, "GET", "/api/v1/chat/credit") == (
        200,
        {"code": 200, "msg": "success", "data": 9940.0},
    )
    (url,) = record["response"]["resultUrls"]
    status, fresh = call(live, "POST", "/api/v1/common/download-url", {"url": url})
    assert (status, fresh["code"]) == (200, 200)
    with urllib.request.urlopen(fresh["data"]) as answer:
        assert answer.read(12)[4:8] == b"ftyp"
    assert call(live, "GET", f"{LIVE_1080P}?taskId={task_id}&index=0")[1]["code"] == 400
    live.advance(60)
    ready = call(live, "GET", f"{LIVE_1080P}?taskId={task_id}&index=0")[1]
    assert list(ready["data"]) == ["resultUrl"]
    assert live.ledger.spent == 65


def test_the_content_types(spec: Simulator, live: Simulator) -> None:
    for sim, wanted in ((spec, "application/json"), (live, "application/json;charset=UTF-8")):
        url = f"{sim.base_url}{RECORD}?taskId=x"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {sim.api_key}"})
        try:
            with urllib.request.urlopen(request) as answer:
                found = answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                found = error.headers["Content-Type"]
        assert found == wanted


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_key_is_a_401_everywhere(spec: Simulator, live: Simulator, key: str | None) -> None:
    for path in (GENERATE, RECORD, SPEC_1080P, LIVE_1080P, "/nowhere"):
        method = "POST" if path == GENERATE else "GET"
        assert call(spec, method, path, key=key)[0] == 401
        status, body = call(live, method, path, key=key)
        assert (status, body["code"]) == (200, 401)
    assert spec.ledger.charges == ()


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("spec", LIVE_1080P),
        ("spec", "/api/v1/jobs/createTask"),
        ("spec", "/api/v1/veo/extend"),
        ("spec", "/api/v1/common/download-url"),
        ("live", SPEC_1080P),
        ("live", "/"),
        ("live", GENERATE + "/"),
    ],
)
def test_the_other_dialects_path_is_a_404(
    spec: Simulator, live: Simulator, dialect: str, path: str
) -> None:
    sim = spec if dialect == "spec" else live
    for method in ("GET", "POST"):
        status, body = call(sim, method, path)
        assert (status, body["code"], body["data"]) == (404, 404, None)
    assert sim.ledger.requests["other"] == 2


@pytest.mark.parametrize(("method", "path"), [("GET", GENERATE), ("POST", RECORD), ("PUT", RECORD)])
def test_the_wrong_method_is_a_405(
    spec: Simulator, live: Simulator, method: str, path: str
) -> None:
    for sim in (spec, live):
        assert call(sim, method, path)[0] == 405


def test_a_body_without_end_is_a_413(spec: Simulator) -> None:
    status, body = call(spec, "POST", GENERATE, {"prompt": "x" * (2 << 20)})
    assert (status, body["code"]) == (413, 413)
    assert spec.ledger.charges == ()


@pytest.mark.parametrize(
    ("dialect", "required", "refused"),
    [("live", True, True), ("jobs", True, True), ("live", False, False), ("spec", True, False)],
)
def test_the_live_front_door_can_want_a_user_agent(
    dialect: Any, required: bool, refused: bool
) -> None:
    with Simulator(dialect=dialect, time_scale=0, requires_user_agent=required) as sim:
        for path in (RECORD, "/api/file-url-upload"):
            connection = http.client.HTTPConnection(sim.base_url.removeprefix("http://"))
            connection.request("GET", path)  # http.client sends no User-Agent
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            assert (answer.status == 403) is refused
            assert (body == b"error code: 1010") is refused
        assert sim.ledger.requests["upload"] == 1


def test_every_post_is_in_the_ledger(spec: Simulator) -> None:
    task_id = create(spec, prompt="first")
    call(spec, "POST", GENERATE, b"not json")
    call(spec, "POST", GENERATE, {"prompt": "bad", "model": "x"})
    call(spec, "POST", GENERATE, {"prompt": "no key"}, key="wrong")
    spec.add_fault("generate:reset_before:times=1")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        call(spec, "POST", GENERATE, {"prompt": "reset"})
    posts = spec.ledger.posts
    assert [(post.outcome, post.code, post.task_id, post.prompt) for post in posts] == [
        ("accepted", 200, task_id, "first"),
        ("refused", 400, None, None),
        ("refused", 422, None, "bad"),
        ("refused", 401, None, "no key"),
        ("unread", None, None, "reset"),
    ]
    assert [post.fault for post in posts] == [None] * 4 + ["generate:reset_before:times=1"]


def test_the_ledger_is_a_snapshot(spec: Simulator) -> None:
    before = spec.ledger
    create(spec)
    create(spec)
    after = spec.ledger
    assert (len(before), len(after)) == (0, 2)
    assert (after.running, after.peak_running) == (2, 2)
    assert after[0] is after.charges[0]
    assert after[-1:] == after.charges[1:]
    assert list(after) == list(after.charges)
    spec.advance(60)
    assert (after.running, spec.ledger.running, spec.ledger.peak_running) == (2, 0, 2)


def test_retry_after_reaches_the_wire() -> None:
    with Simulator(create_rate=(0, 10.0), retry_after=3) as sim:
        request = urllib.request.Request(
            sim.base_url + GENERATE,
            data=b'{"prompt":"x"}',
            headers={"Authorization": f"Bearer {sim.api_key}"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.value as error:
            assert (error.code, error.headers["Retry-After"]) == (429, "3")


def test_time_scale_makes_time_fly() -> None:
    with Simulator(time_scale=100_000, clip=(64, 36)) as sim:
        task_id = create(sim)
        while call(sim, "GET", f"{RECORD}?taskId={task_id}")[1]["data"]["status"] != 1:
            pass
        assert sim.now > 60
        assert sim.time_scale == 100_000


@pytest.mark.anyio
async def test_it_serves_in_the_running_loop() -> None:
    async with Simulator(time_scale=0, dialect=Dialect.LIVE) as sim:
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        async with (
            aiohttp.ClientSession(sim.base_url, headers=headers) as session,
            session.post(GENERATE, json={"prompt": "x"}) as answer,
        ):
            assert (await answer.json())["code"] == 200
        assert len(sim.ledger) == 1


@pytest.mark.anyio
async def test_it_may_be_left_by_another_task_than_entered_it() -> None:
    sim = Simulator()
    async with asyncio.TaskGroup() as group:
        group.create_task(sim.__aenter__())
    async with asyncio.TaskGroup() as group:
        group.create_task(sim.__aexit__(None, None, None))
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", int(sim.base_url.rpartition(":")[2])))


@pytest.mark.anyio
async def test_stopping_ends_what_hangs() -> None:
    async with (
        aiohttp.ClientSession() as session,
        Simulator(faults=["*:hang", "video:hang"]) as sim,
    ):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_fails(session.get(sim.base_url + RECORD)))
            while not sim.ledger.requests["record-info"]:
                await asyncio.sleep(0.01)
            await sim.__aexit__(None, None, None)
        assert waiting.result()


async def _fails(request: Any) -> bool:
    try:
        async with request:
            return False
    except aiohttp.ClientError:
        return True


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve on port {port} of 127.0.0.1"):
            Simulator(port=port).__enter__()
        with pytest.raises(OSError, match=f"cannot serve on port {port} of 127.0.0.1"):
            Simulator(files_port=port).__enter__()


def test_a_fixed_port_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Simulator(port=port) as sim:
        assert sim.base_url == f"http://127.0.0.1:{port}"


def test_an_outage_keeps_tasks_money_and_ports() -> None:
    sim = Simulator(time_scale=0, generation_seconds=60, clip=(64, 36))
    with sim:
        url, task_id = sim.base_url, create(sim)
    with pytest.raises(urllib.error.URLError):
        call(sim, "GET", RECORD)
    sim.advance(60)
    with sim:
        assert sim.base_url == url
        assert call(sim, "GET", f"{RECORD}?taskId={task_id}")[1]["data"]["status"] == 1
        assert len(sim.ledger) == 1


def test_it_serves_once_at_a_time() -> None:
    with Simulator() as sim, pytest.raises(RuntimeError, match="serves already"):
        sim.__enter__()
    sim.__exit__(None, None, None)


def test_nothing_is_left_behind(recwarn: pytest.WarningsRecorder) -> None:
    for _ in range(3):
        with Simulator(time_scale=0, generation_seconds=1, clip=(64, 36)) as sim:
            task_id = create(sim, callBackUrl="http://127.0.0.1:9/refused")
            sim.advance(5)
            record = call(sim, "GET", f"{RECORD}?taskId={task_id}")[1]["data"]
            urllib.request.urlopen(record["videoUrl"]).close()
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if "veo" in thread.name] == []
    assert list(recwarn) == []


def test_two_simulators_at_once_are_two_accounts() -> None:
    with Simulator() as one, Simulator() as two:
        create(one)
        assert (len(one.ledger), len(two.ledger)) == (1, 0)
        assert one.base_url != two.base_url


@pytest.mark.parametrize(
    "options", [{"time_scale": -1}, {"faults": ["x:y"]}, {"dialect": "x"}, {"max_tasks": 0}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Simulator(**options)


def test_time_never_goes_back(spec: Simulator) -> None:
    with pytest.raises(ValueError, match="never goes back"):
        spec.advance(-1)


def test_many_clients_at_once() -> None:
    """50 threads, one account: every answer is counted, ten are paid for."""
    with Simulator(time_scale=0, create_rate=None) as sim:
        codes: list[int] = []

        def work() -> None:
            codes.append(call(sim, "POST", GENERATE, {"prompt": "x"})[1]["code"])

        threads = [threading.Thread(target=work) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200] * 10 + [429] * 40
        assert (len(sim.ledger), len(sim.ledger.posts)) == (10, 50)
        assert sim.ledger.peak_running == 10


def test_a_connection_that_comes_in_while_it_is_left_is_closed(recwarn):
    async def knock(port: int, calls: list[socket.socket]) -> None:
        while True:
            call = socket.socket()
            calls.append(call)
            call.setblocking(False)
            try:
                call.connect(("127.0.0.1", port))
            except BlockingIOError:
                pass
            except OSError:
                return
            await asyncio.sleep(0)

    async def leave(turns: int) -> None:
        calls: list[socket.socket] = []
        async with asyncio.TaskGroup() as group:
            async with Simulator() as sim:
                port = int(sim.base_url.rpartition(":")[2])
                knocking = group.create_task(knock(port, calls))
                for _ in range(turns):
                    await asyncio.sleep(0)
            knocking.cancel()
        for call in calls:
            call.close()
        await asyncio.sleep(0)
        gc.collect()

    for turns in range(12):
        asyncio.run(leave(turns))
    assert not [str(warning.message) for warning in recwarn]
