"""A client that is not ours: urllib, one request at a time."""

import json
import urllib.error
import urllib.request
from typing import Any

from veo_async.simulator import Simulator

GENERATE = "/api/v1/veo/generate"
EXTEND = "/api/v1/veo/extend"
RECORD = "/api/v1/veo/record-info"
UPGRADE = "/api/v1/veo/get-1080p-video"
UPGRADE_4K = "/api/v1/veo/get-4k-video"
CREDIT = "/api/v1/chat/credit"
CREATE = "/api/v1/jobs/createTask"
JOB = "/api/v1/jobs/recordInfo"


def ask(
    sim: Simulator,
    path: str,
    fields: object = None,
    *,
    method: str | None = None,
    key: str | None = None,
    content_type: str = "application/json",
) -> tuple[int, Any]:
    """Send a GET, or a POST of `fields` (JSON, or bytes as they are); return status and JSON."""
    request = urllib.request.Request(sim.base_url + path, method=method)
    request.add_header("Authorization", f"Bearer {sim.api_key if key is None else key}")
    if fields is not None:
        request.data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def data(answer: tuple[int, Any]) -> Any:
    """Return the data of an answer that must be a success."""
    status, body = answer
    assert (status, body["code"]) == (200, 200), answer
    return body["data"]


def refused(answer: tuple[int, Any]) -> tuple[int, str]:
    """Return code and words of an answer that must be a refusal within HTTP 200."""
    status, body = answer
    assert status == 200, answer
    assert body["data"] is None, answer
    return body["code"], body["msg"]


def create(sim: Simulator, path: str = GENERATE, **fields: object) -> str:
    """Make a task; return its id."""
    task_id: str = data(ask(sim, path, {"prompt": "a boat", **fields}))["taskId"]
    return task_id


def made(sim: Simulator, path: str = GENERATE, **fields: object) -> str:
    """Make a task of 60 s and let it end; return its id."""
    task_id = create(sim, path, **fields)
    sim.advance(60)
    return task_id


def record(sim: Simulator, task_id: str) -> Any:
    """Return the data of record-info."""
    return data(ask(sim, f"{RECORD}?taskId={task_id}"))


def fetched(url: str) -> tuple[str, bytes]:
    """Return type and bytes of a file."""
    with urllib.request.urlopen(url) as answer:
        return answer.headers["Content-Type"], answer.read()
