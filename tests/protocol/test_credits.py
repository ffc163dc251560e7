"""What a task cost, as far as the service says so, and whether a failure is worth another one."""

import pytest

from veo_async.models import JSON, Model, Resolution, TaskRecord, TaskStatus
from veo_async.prices import DEARER, SPEC, Prices
from veo_async.protocol.codec import credits_of, failure_of, may_succeed
from veo_async.request import VideoRequest


def record(raw: dict[str, JSON], **fields: object) -> TaskRecord:
    return TaskRecord(task_id="t", status=TaskStatus.FAILED, raw=raw, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({}, None),
        ({"creditsConsumed": 60}, 60),
        ({"creditsConsumed": 0}, 0),
        ({"creditsConsumed": "60"}, 60),
        ({"creditsConsumed": " 60 "}, 60),
        ({"creditsConsumed": 60.0}, 60),
        ({"creditsConsumed": None}, None),
        ({"response": {"creditsConsumed": 250}}, 250),
        ({"response": '{"creditsConsumed": 250}'}, 250),
        ({"creditsConsumed": None, "response": {"creditsConsumed": 250}}, 250),
        ({"creditsConsumed": 60, "response": {"creditsConsumed": 250}}, 60),
        # What nobody can be charged is not believed.
        ({"creditsConsumed": -60}, None),
        ({"creditsConsumed": "-60"}, None),
        ({"creditsConsumed": 60.5}, None),
        ({"creditsConsumed": True}, None),
        ({"creditsConsumed": "sixty"}, None),
        ({"creditsConsumed": ""}, None),
        ({"creditsConsumed": "٦٠"}, None),
        ({"creditsConsumed": [60]}, None),
        ({"creditsConsumed": {"value": 60}}, None),
        ({"creditsConsumed": 10**400}, None),
        ({"creditsConsumed": 1e300}, None),
        ({"creditsConsumed": float("nan")}, None),
        ({"creditsConsumed": float("inf")}, None),
        ({"response": ["creditsConsumed"]}, None),
        ({"response": "creditsConsumed"}, None),
    ],
)
def test_the_cost_is_told_or_unknown(raw: dict[str, JSON], told: int | None) -> None:
    assert credits_of(record(raw)) == told


@pytest.mark.parametrize(
    ("code", "reason", "may"),
    [
        # No code: the words decide.
        (None, "Please try again later", True),
        (None, "TIMEOUT of the upstream", True),
        (None, "Internal Error", True),
        (None, "your prompt was flagged", False),
        (None, "", False),
        # A code decides, whatever is said beside it.
        (400, "please try again", False),
        (422, "try again", False),
        (501, "generation failed", True),
        (500, "", True),
        (599, "flagged", True),
        (505, "try again", False),  # the feature is switched off
        (408, "", True),  # no answer of the service's own upstream
        (455, "", False),
        (0, "timeout", False),
    ],
)
def test_a_failure_may_pass_by_its_code_or_by_its_words(
    code: int | None, reason: str, may: bool
) -> None:
    assert may_succeed(code, reason) is may
    error = failure_of(record({}, error_code=code, error_message=reason))
    # A failure without words is no better than its code.
    assert error.is_retryable is may
    assert ("may succeed as a new task" in str(error)) is may


def test_what_a_price_list_does_not_name_is_the_dearest_of_what_it_does() -> None:
    mine = Prices(
        name="mine",
        videos={
            Model.FAST: {Resolution.HD_720P: 60, Resolution.HD_1080P: 65},
            Model.QUALITY: {Resolution.HD_720P: 250},
            Model.LITE: {},
        },
        upgrade_1080p=5,
    )
    assert mine.of(VideoRequest("a boat")) == 60
    assert mine.of(VideoRequest("a boat", resolution="4k")) == 65, "0 would be no bound"
    assert mine.of(VideoRequest("a boat", model="veo3", resolution="1080p")) == 250


@pytest.mark.parametrize("model", Model)
def test_a_list_without_extensions_gives_none_away(model: Model) -> None:
    film = VideoRequest("a boat", model=model, extend_to=["the river", "the sea"])
    assert SPEC.of_film(film) == SPEC.of(film) + 2 * DEARER.extension(model)
    assert DEARER.extension(model) > 0
