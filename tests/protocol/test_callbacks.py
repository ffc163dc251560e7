"""Callbacks as bytes: what is read of them, what is refused, and what proves them."""

import base64
import hashlib
import hmac
import json
import traceback
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veo_async import (
    Callback,
    ConfigurationError,
    SignatureError,
    VeoError,
    WebhookError,
    WebhookReceiver,
)
from veo_async.protocol import callbacks
from veo_async.protocol.callbacks import (
    MAX_BYTES,
    Secrets,
    check_signature,
    echoes,
    is_token,
    last_segment,
    read_task_id,
    sign,
    token_of,
)
from veo_async.settings import ApiKey

ID = "0123456789abcdef0123456789abcdef"
NOW = 1769670760
KEY = "sim-hmac-key"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
named = st.dictionaries(
    st.sampled_from(["taskId", "task_id", "data", "code", "status"]),
    st.one_of(anything, st.dictionaries(st.sampled_from(["taskId", "task_id"]), anything)),
)


LINK = f"https://tempfile.aiquickdraw.com/v/{ID}_1776728270.mp4"
PROMPT_JSON = {"aspectRatio": "16:9", "callBackUrl": "https://client.example/h", "prompt": "a boat"}


def told(code: int, words: str, **data: Any) -> dict[str, Any]:
    return {"code": code, "msg": words, "data": data}


# Live document 2.8, every variation of its tables and notes, and 2.13.
LIVE_CALLBACKS: list[Any] = [
    told(
        200,
        "Veo3.1 video generated successfully.",
        taskId=ID,
        promptJson=json.dumps(PROMPT_JSON),
        info={"resultUrls": [LINK], "originUrls": [LINK], "resolution": "1080p"},
        fallbackFlag=False,
        creditsConsumed=60,
    ),
    told(200, "Veo3.1 video generated successfully.", taskId=ID, promptJson=PROMPT_JSON),
    told(200, "Veo3.1 video generated successfully (using fallback model).", taskId=ID),
    told(200, "Veo3.1 video extension successful.", taskId=ID, info={"resultUrls": [LINK]}),
    told(200, "", taskId=ID, info={"resultUrls": f"[{LINK}]", "originUrls": f"[{LINK}]"}),
    told(200, "", taskId=ID, info={"resultUrls": json.dumps([LINK])}),
    *(
        told(code, "Generation failed.", taskId=ID, fallbackFlag=False)
        for code in (400, 422, 500, 501)
    ),
    told(
        200,
        "4K Video generated successfully.",
        taskId=ID,
        info={"resultUrls": [LINK], "imageUrls": [LINK]},
        creditsConsumed=120,
    ),
    told(
        500,
        "The 4K version of this video is unavailable. Please try a different video.",
        taskId=ID,
    ),
    *(
        told(code, "", task_id=ID, result_urls=[LINK], media_ids=["a"], image_urls=[LINK])
        for code in (200, 400, 500)
    ),
    {"taskId": ID, **told(200, "success", task_id=ID, callbackType="task_completed")},
    told(
        200,
        "success",
        taskId=ID,
        model="veo-3-1",
        state="success",
        param=json.dumps({"model": "veo-3-1", "input": {"prompt": "a boat", "taskId": "b"}}),
        resultJson=json.dumps({"resultUrls": [LINK]}),
    ),
    # Documented for other models of the newer form.
    told(200, "Playground task completed successfully.", taskId=ID, state="success"),
    told(
        501,
        "Playground task failed.",
        taskId=ID,
        state="fail",
        resultJson=None,
        failCode="500",
        failMsg="Internal Error",
        param=json.dumps({"model": "veo-3-1", "input": json.dumps({"prompt": "a boat"})}),
    ),
    told(400, "flagged", taskId=ID, state="fail", resultJson="", failCode="400", failMsg="flagged"),
]


@pytest.mark.parametrize(
    "body",
    [
        {"taskId": ID, "status": 1, "videoUrl": "https://storage.example/a.mp4"},
        {"code": 200, "msg": "success", "data": {"taskId": ID, "info": {"resultUrls": []}}},
        {"code": 501, "msg": "failed", "data": {"taskId": ID, "fallbackFlag": False}},
        {"taskId": ID, "data": {"task_id": ID, "callbackType": "task_completed"}},
        {"data": {"task_id": ID}},
        *LIVE_CALLBACKS,
        {"taskId": ID, "data": None},
        {"taskId": ID, "data": [], "task_id": "an internal one"},
    ],
)
def test_the_id_is_read_in_every_shape(body: Any) -> None:
    assert read_task_id(json.dumps(body).encode()) == ID
    assert read_task_id(b"\xef\xbb\xbf" + json.dumps(body).encode()) == ID


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"taskId"', 400),
        (b"{}", 400),
        (b'{"taskId": null}', 400),
        (b'{"taskId": ""}', 400),
        (b'{"taskId": 17}', 400),
        (b'{"taskId": ["a"]}', 400),
        (b'{"taskId": "a b"}', 400),
        (b'{"taskId": "a\\u0000"}', 400),
        (b'{"taskId": "\\ud800"}', 400),
        (b'{"taskId": "%s"}' % (b"a" * 300), 400),
        (b'{"taskId": "a", "data": {"taskId": "b"}}', 400),
        (b'{"taskId": "a", "data": {"task_id": "b"}}', 400),
        (b'{"data": {"taskId": "a", "task_id": "b"}}', 400),
        (b'{"taskId": "a", "data": {"taskId": 1}}', 400),
        (b'{"taskId": NaN}', 400),
        (b'{"taskId": "a", "n": NaN}', 400),
        (b'{"taskId": "a", "n": -Infinity}', 400),
        (b'{"taskId": "a", "n": %s}' % (b"9" * 5000), 400),
        (b'{"taskId": "a", "n": %s}' % (b"9" * 4000), 400),
        (b'{"taskId": "\xff"}', 400),
        ('{"taskId": "a"}'.encode("utf-16"), 400),
        (b"[" * MAX_BYTES, 400),
        (b'{"data":' * 8000, 400),
        (b'{"taskId": "a"', 400),
        (b'{"taskId": "a"} ' + b" " * MAX_BYTES, 413),
        (b"taskId=a", 400),
        (b'{"code":500,"msg":"The 4K version of this video is unavailable.","data":null}', 400),
    ],
)  # fmt: skip
def test_what_is_no_callback_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(WebhookError) as refused:
        read_task_id(body)
    assert refused.value.status == status


@given(
    st.binary() | anything.map(json.dumps).map(str.encode) | named.map(json.dumps).map(str.encode)
)
@example(b"\xef\xbb\xbf{}")
def test_whatever_comes_is_an_id_or_refused(body: bytes) -> None:
    try:
        task_id = read_task_id(body)
    except WebhookError:
        return
    assert task_id.isprintable()
    assert 0 < len(task_id) <= 256


# --- signatures


def checked(headers: Any, task_id: str = ID, keys: Any = KEY, tolerance: float = 300) -> int:
    return check_signature(headers, task_id, Secrets.of(keys), now=NOW + 10, tolerance=tolerance)


def test_the_signature_of_the_live_document() -> None:
    """Its test vector (2.9)."""
    headers = sign(ID, NOW, KEY)
    assert headers["x-webhook-signature"] == "KkO3KG2sOUBD94qIG6Ayre3QPtLe9TOH1fKOs2kV7Mk="
    assert checked(headers) == NOW


def test_it_is_what_the_standard_library_makes() -> None:
    made = hmac.new(b"k", b"task.17", hashlib.sha256).digest()
    assert sign("task", 17, "k")["x-webhook-signature"] == base64.b64encode(made).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Webhook-Timestamp": "T", "X-WEBHOOK-SIGNATURE": "S"},
        {b"x-webhook-timestamp": b"T", b"X-Webhook-Signature": b"S"},
        [(b"x-webhook-signature", b"S"), (b"x-webhook-timestamp", b"T"), (b"x", b"\xff")],
    ],
    ids=["texts", "bytes", "pairs"],
)
def test_headers_of_any_kind_will_do(headers: Any) -> None:
    right = sign(ID, NOW, KEY)

    def filled(value: Any) -> Any:
        kind = bytes if isinstance(value, bytes) else str
        told = {"T": right["x-webhook-timestamp"], "S": right["x-webhook-signature"]}
        text = value.decode("latin-1") if kind is bytes else value
        found = told.get(text, text)
        return found.encode() if kind is bytes else found

    if isinstance(headers, dict):
        given_: Any = {name: filled(value) for name, value in headers.items()}
    else:
        given_ = [(name, filled(value)) for name, value in headers]
    assert checked(given_) == NOW


@pytest.mark.parametrize("keys", [("old", KEY), [KEY, "new"], KEY, (KEY,)])
def test_any_of_several_keys_will_do(keys: Any) -> None:
    assert checked(sign(ID, NOW, KEY), keys=keys) == NOW


RIGHT = sign(ID, NOW, KEY)
TIME, SIGNATURE = "x-webhook-timestamp", "x-webhook-signature"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {TIME: str(NOW)},
        {SIGNATURE: RIGHT[SIGNATURE]},
        RIGHT | {TIME: str(NOW + 1)},
        RIGHT | {SIGNATURE: RIGHT[SIGNATURE].rstrip("=")},
        RIGHT | {SIGNATURE: RIGHT[SIGNATURE].lower()},
        RIGHT | {SIGNATURE: "ÿ" * 44},
        RIGHT | {SIGNATURE: "\N{PILE OF POO}\ud800"},
        RIGHT | {TIME: "٣٤"},
        sign(ID, NOW, "guess"),
        sign("other", NOW, KEY),
        sign(ID, NOW - 400, KEY),
        sign(ID, NOW + 400, KEY),
        sign(ID, NOW * 1000, KEY),
        sign(ID, -NOW, KEY),
        sign(ID, 10**30, KEY),
    ],
)
def test_a_signature_that_proves_nothing_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureError) as refused:
        checked(headers)
    assert refused.value.status == 401
    assert isinstance(refused.value, WebhookError)


def test_headers_that_are_there_twice_are_refused() -> None:
    pairs = [(name.encode(), value.encode()) for name, value in RIGHT.items()]
    with pytest.raises(WebhookError):
        checked([*pairs, (b"X-Webhook-Signature", b"another")])


@given(st.dictionaries(st.sampled_from([TIME, SIGNATURE]), st.text() | st.binary()), st.text())
def test_whatever_signs_is_refused(headers: Any, task_id: str) -> None:
    with pytest.raises(WebhookError):
        checked(headers, task_id.encode(errors="replace").decode())


@pytest.mark.parametrize("secret", ["", " ", [], ["a", ""], [None], 17, b"bytes", [b"bytes"]])
def test_impossible_secrets_are_refused(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        WebhookReceiver(secret)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf")])
def test_impossible_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(ConfigurationError, match="tolerance"):
        WebhookReceiver("a key", tolerance)


def test_no_secret_shows_itself() -> None:
    secret = "very-secret-value"
    receiver = WebhookReceiver(secret)
    assert secret not in repr(receiver) + repr(vars(receiver))
    seen: list[str] = []
    for attempt in (
        lambda: receiver.parse(sign(ID, NOW, "guess"), b'{"taskId": "a"}'),
        lambda: receiver.parse({}, b'{"taskId": "a"}'),
        lambda: WebhookReceiver([secret, ""]),
    ):
        with pytest.raises(VeoError) as refused:
            attempt()
        shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        ours = [frame for frame in shown.stack if "veo_async/" in frame.filename]
        seen += [f"{frame.locals}" for frame in ours if "test_callbacks" not in frame.filename]
    assert seen
    assert secret not in "".join(seen)


# --- parse


def test_parse_returns_what_may_be_believed() -> None:
    receiver = WebhookReceiver()
    body = b'{"taskId": "a", "status": 1, "videoUrl": "https://evil.example/"}'
    assert receiver.parse({}, body) == Callback("a", None)
    assert receiver.parse({}, body.decode(), path="/hooks/token?x=1") == Callback("a", "token")
    with pytest.raises(WebhookError):
        receiver.parse({}, "\ud800")


def test_parse_checks_the_signature() -> None:
    receiver = WebhookReceiver(KEY, tolerance=10**10)
    body = json.dumps({"taskId": ID}).encode()
    assert receiver.parse(sign(ID, NOW, KEY), body) == Callback(ID)
    with pytest.raises(SignatureError):
        receiver.parse({}, body)


# --- tokens

VERIFIER = ApiKey("an api key").derived(callbacks.VERIFIER_LABEL)


@given(st.binary(min_size=16, max_size=16))
def test_everyone_with_the_key_recognises_a_token(nonce: bytes) -> None:
    token = token_of(VERIFIER, nonce)
    assert is_token(token, ApiKey(" an api key\n").derived(callbacks.VERIFIER_LABEL))
    assert not is_token(token, ApiKey("another key").derived(callbacks.VERIFIER_LABEL))
    assert last_segment(f"https://host.example/hooks/{token}") == token


@given(st.text() | st.text("0123456789abcdef", min_size=64, max_size=64) | st.none())
def test_a_guess_is_no_token(token: str | None) -> None:
    assert not is_token(token, VERIFIER)


@given(st.integers(0, 63), st.sampled_from("0123456789abcdefABCDEF٣ "))
def test_a_token_with_one_other_character_is_none(place: int, character: str) -> None:
    token = token_of(VERIFIER, b"n" * 16)
    other = token[:place] + character + token[place + 1 :]
    assert is_token(other, VERIFIER) is (other == token)


def test_a_token_does_not_show_the_key() -> None:
    token = token_of(VERIFIER, b"n" * 16)
    assert b"an api key".hex() not in token + VERIFIER.hex()


@pytest.mark.parametrize(
    ("path", "segment"),
    [
        ("/hooks/token", "token"),
        ("/hooks/token/", "token"),
        ("token", "token"),
        ("https://host.example/hooks/token?a=/b#c/d", "token"),
        ("https://host.example", None),
        ("https://host.example/", None),
        ("/", None),
        ("", None),
        ("//", None),
        ("/hooks/\N{OCTOPUS}", None),
        ("/hooks/a\nb", None),
        ("/" + "a" * 257, None),
        ("https://[broken/token", "token"),
    ],
)
def test_the_last_segment_of_a_path(path: str, segment: str | None) -> None:
    assert last_segment(path) == segment


# --- what a record repeats


@pytest.mark.parametrize(
    ("raw", "is_possible"),
    [
        ({}, True),
        ({"paramJson": None}, True),
        ({"paramJson": "not json"}, True),
        ({"paramJson": '{"prompt": "a boat"}'}, True),
        ({"paramJson": {"prompt": " a  boat "}}, True),
        ({"paramJson": '{"prompt": "a ship"}'}, False),
        ({"paramJson": '{"prompt": "a ship", "callBackUrl": "https://h.example/x/token"}'}, True),
        ({"paramJson": '{"prompt": "a boat", "callBackUrl": "https://h.example/x/other"}'}, False),
        ({"param": ""}, True),
        ({"param": '{"input": {"prompt": "a boat"}}'}, True),
        ({"param": {"input": '{"prompt": " a  boat "}'}}, True),
        ({"param": '{"input": {"prompt": "a ship"}}'}, False),
        ({"param": '{"prompt": "a ship"}'}, False),
        ({"param": '{"callBackUrl": "https://h.example/x/token", "input": {}}'}, True),
        ({"param": '{"callBackUrl": "https://h.example/x/other", "input": {}}'}, False),
    ],
)
def test_a_record_is_compared_with_what_was_sent(raw: Any, is_possible: bool) -> None:
    assert echoes(raw, prompt="a boat", is_translated=True, token="token") is is_possible


def test_a_prompt_that_may_have_been_translated_proves_nothing() -> None:
    raw: Any = {"paramJson": '{"prompt": "a boat"}'}
    assert echoes(raw, prompt="ein Boot \N{OCTOPUS}", is_translated=True, token="t")
    assert not echoes(raw, prompt="ein Boot \N{OCTOPUS}", is_translated=False, token="t")
