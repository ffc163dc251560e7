"""The names, signatures and types that programs are written against."""

import copy
import inspect
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

import veo_async
from veo_async import (
    AspectRatio,
    ConfigurationError,
    Download,
    GenerationType,
    Model,
    PollPolicy,
    RetryPolicy,
    TaskRecord,
    TaskStatus,
    Timeouts,
    VeoClient,
    Video,
    VideoRequest,
    VideoTask,
)

TREE = {
    "InvalidRequestError": "VeoError",
    "APIError": "VeoError",
    "AuthenticationError": "APIError",
    "InsufficientCreditsError": "APIError",
    "NotFoundError": "APIError",
    "ValidationError": "APIError",
    "RateLimitError": "APIError",
    "QuotaExceededError": "APIError",
    "ServiceUnavailableError": "APIError",
    "ServerError": "APIError",
    "UnexpectedResponseError": "APIError",
    "TransportError": "VeoError",
    "ConnectError": "TransportError",
    "TransportTimeoutError": "TransportError",
    "SubmitUncertainError": "VeoError",
    "TaskError": "VeoError",
    "TaskFailedError": "TaskError",
    "TaskTimeoutError": "TaskError",
    "DownloadError": "VeoError",
    "URLExpiredError": "DownloadError",
    "ContentChangedError": "DownloadError",
    "TruncatedError": "DownloadError",
    "NotAnMP4Error": "DownloadError",
    "JournalError": "VeoError",
    "LimiterError": "VeoError",
    "BudgetExceededError": "VeoError",
    "ConfigurationError": "VeoError",
    "WebhookError": "VeoError",
    "SignatureError": "WebhookError",
    "WrongLoopError": "VeoError",
    "ClientClosedError": "VeoError",
}


ATTRIBUTES = {
    "APIError": "message code http_status task_id retry_after",
    "RateLimitError": "message code http_status task_id retry_after",
    "InvalidRequestError": "field",
    "SubmitUncertainError": "key prompt",
    "TaskFailedError": "task_id code reason is_retryable",
    "TaskTimeoutError": "task_id",
    "TransportError": "request_sent",
    "BudgetExceededError": "needed left",
    "WebhookError": "status",
    "SignatureError": "status",
}


def test_every_public_name_is_there():
    names = veo_async.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(veo_async, name) is not None
    assert set(dir(veo_async)) == set(names)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = veo_async.Nothing


@pytest.mark.parametrize(("name", "parent"), TREE.items())
def test_the_error_tree(name, parent):
    kind = getattr(veo_async, name)
    assert kind.__bases__[0] is getattr(veo_async, parent)
    assert issubclass(kind, ValueError) is (name in {"InvalidRequestError", "ConfigurationError"})


@pytest.mark.parametrize("name", [*TREE, "VeoError"])
def test_errors_travel_between_processes(name):
    kind = getattr(veo_async, name)
    values = dict.fromkeys(ATTRIBUTES.get(name, "").split(), "text")
    error = kind("what happened; what to do", **values)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.args, vars(twin)) == (error.args, vars(error))


def test_the_client_takes_what_the_documentation_promises():
    parameters = inspect.signature(VeoClient).parameters
    assert next(iter(parameters)) == "api_key"
    assert set(parameters) >= {
        "base_url", "max_tasks", "limiter", "poll", "retry", "timeouts", "pace", "max_downloads",
        "max_credits", "connector", "proxy", "ssl", "callback_url", "webhooks", "on_event",
    }  # fmt: skip
    assert all(
        spec.kind is inspect.Parameter.KEYWORD_ONLY
        for name, spec in parameters.items()
        if name != "api_key"
    )


def test_the_defaults_are_the_documented_ones():
    assert attrs.asdict(PollPolicy()) == {
        "interval": 5.0,
        "first": None,
        "upgrade_interval": None,
        "is_adaptive": False,
    }
    assert PollPolicy.adaptive() == PollPolicy.adaptive(5.0) == PollPolicy(5.0, is_adaptive=True)
    assert (PollPolicy().first_after, PollPolicy().upgrade_every) == (20.0, 20.0)
    assert attrs.asdict(Timeouts()) == {
        "connect": 10, "response": 60, "stall": 30, "task": 1800, "uncertain": 600, "close": 10,
    }  # fmt: skip
    assert attrs.asdict(RetryPolicy()) == {
        "attempts": 4, "base": 0.5, "cap": 30.0, "refused_for": 600.0,
    }  # fmt: skip
    assert inspect.signature(VeoClient).parameters["max_tasks"].default == 10
    assert inspect.signature(VeoClient).parameters["pace"].default == (20, 10.0)


@pytest.mark.parametrize(
    ("policy", "name"), [(PollPolicy, "interval"), (RetryPolicy, "base"), (Timeouts, "task")]
)
@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_impossible_policies_are_refused(policy, name, bad):
    with pytest.raises(ConfigurationError, match=name):
        policy(**{name: bad})


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TaskRecord, "task_id status video_url video_urls error_code error_message"),
        (TaskRecord, "created_at completed_at raw"),
        (Video, "task_id url urls duration resolution aspect_ratio seed has_audio"),
        (Video, "created_at completed_at raw"),
        (Download, "path size sha256 attempts seconds"),
        (VideoRequest, "prompt model generation_type image_urls aspect_ratio seed callback_url"),
        (VideoRequest, "enable_translation watermark resolution duration extra"),
    ],
)
def test_values_have_the_documented_fields_and_are_frozen(kind, names):
    assert set(names.split()) <= {field.name for field in attrs.fields(kind)}
    assert kind.__setattr__ is not object.__setattr__


def test_values_are_made_of_keywords_and_survive_pickle():
    now = datetime.now(UTC)
    values = [
        TaskRecord(task_id="a", status=TaskStatus.SUCCESS, created_at=now, raw={"a": [1]}),
        Video(task_id="a", url="https://example.com/a.mp4", raw={"a": None}),
        Download(path=Path("a.mp4"), size=1, sha256="00", attempts=1, seconds=0.5),
        VideoRequest("a", seed=12345, extra={"enableFallback": True}),
    ]
    for value in values:
        assert pickle.loads(pickle.dumps(value)) == value
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.anything = 1


def test_plain_strings_and_enums_are_the_same():
    assert Model("veo3_fast") == "veo3_fast" == Model.FAST
    assert GenerationType.TEXT_2_VIDEO == "TEXT_2_VIDEO"
    assert {*AspectRatio} == {"16:9", "9:16", "Auto"}
    assert [TaskStatus.GENERATING.name, TaskStatus.SUCCESS.name, TaskStatus.FAILED.name] == [
        "GENERATING", "SUCCESS", "FAILED",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["submit", "generate", "task", "status", "download", "stream", "upgrade_1080p",
             "statistics", "aclose"],
)  # fmt: skip
def test_public_methods_say_what_they_raise(name):
    documentation = inspect.getdoc(getattr(VeoClient, name)) or ""
    assert documentation
    assert name == "statistics" or "Raises:" in documentation


def test_a_task_has_the_documented_members():
    assert {"id", "request", "record", "done", "wait", "updates", "__await__"} <= set(
        dir(VideoTask)
    )


def test_importing_the_package_loads_no_http_library():
    code = (
        "import sys, veo_async; from veo_async import VeoClient, VideoRequest, VeoError;"
        "heavy = {'aiohttp', 'rich', 'click'} & set(sys.modules); assert not heavy, heavy;"
        "VeoClient('key'); assert 'aiohttp' in sys.modules, 'it would be loaded inside the loop'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
