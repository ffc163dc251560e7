"""The simulator as a program of its own: the options of `veo-async simulate`."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.simulator.asking import CREATE, GENERATE
from tests.simulator.conftest import Receiver
from veo_async.simulator.webhooks import sign

pytest.importorskip("click")


def test_it_serves_jobs_and_signs_their_callbacks(receiver: Receiver) -> None:
    words = ["--dialect", "jobs", "--webhook-key", "a secret", "--time-scale", "1000", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "veo_async.cli", "simulate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        try:
            assert serving.stdout is not None
            told = json.loads(serving.stdout.readline())
            job = {"model": "veo-3-1", "callBackUrl": receiver.url, "input": {"prompt": "a boat"}}
            assert post(told, GENERATE, job) == 404
            assert post(told, CREATE, job) == 200
            receiver.wait(1)
        finally:
            serving.send_signal(signal.SIGINT)
            _, said = serving.communicate(timeout=30)
    ((_, headers, body),) = receiver.came
    stamp = headers["X-Webhook-Timestamp"]
    wanted = sign(body["data"]["taskId"], stamp, "a secret")
    assert headers["X-Webhook-Signature"] == wanted
    assert "Videos made: 1, play money spent: 60 credits" in said
    assert "a secret" not in said


def post(told: dict[str, str], path: str, body: object) -> int:
    request = urllib.request.Request(
        told["base_url"] + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {told['api_key']}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
