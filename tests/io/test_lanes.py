"""From a journal's jobs to the data of a page."""

from hypothesis import given
from hypothesis import strategies as st

from veo_async import VideoRequest
from veo_async.jobs import Attempt, Job, JobState, request_text
from veo_async.lanes import run_of

NOW = 10_000.0


def attempt(
    number: int, start: float | None, end: float | None, outcome: str | None, charged: int = 70
) -> Attempt:
    return Attempt(
        number=number,
        token=f"{number} {start}",
        task_id="task",
        credits=70,
        charged=charged,
        intent_at=0.0 if start is None else start - 1,
        submitted_at=start,
        ended_at=end,
        end=outcome,
    )


def job(number: int, state: JobState, *attempts: Attempt, **more: object) -> Job:
    text = request_text(VideoRequest(f"prompt {number}", seed=12_345))
    return Job(
        key=f"k{number}",
        position=number,
        request_text=text,
        state=state,
        attempts=attempts,
        **more,
    )


def run(*jobs: Job, is_running: bool = False, files: str = "") -> dict:
    return run_of(jobs, title="t", made_at=NOW, is_running=is_running, files=files)


def test_every_state_has_an_outcome():
    told = run(*(job(number, state) for number, state in enumerate(JobState)))
    assert [item["outcome"] for item in told["items"]] == [
        "unpaid", "uncertain", "uncertain", "running", "running", "running", "downloaded",
        "failed", "rejected", "failed",
    ]  # fmt: skip
    assert sum(told["counts"].values()) == len(JobState)


def test_an_intent_is_lost_only_where_nobody_waits_for_it():
    lost = run(job(1, JobState.INTENT))
    waiting = run(job(1, JobState.INTENT), is_running=True)
    assert (lost["counts"], waiting["counts"]) == ({"uncertain": 1}, {"running": 1})


def test_the_figures_are_those_of_the_attempts():
    told = run(
        job(
            1,
            JobState.STORED,
            attempt(1, 100.0, 200.0, "failed", charged=60),
            attempt(2, 200.0, 300.0, "success"),
            file="1.mp4",
            size=5,
            stored_at=310.0,
        ),
        job(2, JobState.SUBMITTED, attempt(1, 9_900.0, None, None)),
        job(3, JobState.FAILED, attempt(1, None, None, "not_created", charged=0)),
        files="videos/",
    )
    assert told["totals"] == {
        "items": 3,
        "credits_spent": 200,
        "credits_failed": 60,
        "bytes": 5,
        "seconds": 300.0,
        "slot_use": 0.1,
    }
    first = told["items"][0]
    assert (first["file"], first["credits"], first["attempts"]) == ("videos/1.mp4", 130, 2)
    assert (first["started_at"], first["ended_at"], first["seed"]) == (100.0, 310.0, 12_345)
    assert [(bar["slot"], bar["outcome"]) for bar in told["timeline"]] == [
        (0, "failed"),
        (0, "success"),
        (0, "running"),
    ]


def test_a_film_tells_its_steps_and_one_that_may_not_go_on_has_failed():
    steps = [attempt(n, 100.0 * n, 100.0 * n + 90.0, "success") for n in (1, 2)]
    told = run(
        job(1, JobState.STORED, *steps, file="1.mp4", size=5, stored_at=310.0),
        job(2, JobState.REJECTED, *steps),
        job(3, JobState.REJECTED),
        job(4, JobState.NEW, attempt(1, 100.0, 200.0, "replaced"), attempt(2, 1.0, 2.0, "success")),
    )
    items = told["items"]
    assert [item["outcome"] for item in items] == ["downloaded", "failed", "rejected", "unpaid"]
    assert [len(item["task_ids"]) for item in items] == [2, 2, 0, 1]
    assert {bar["outcome"] for bar in told["timeline"]} == {"success"}


def test_nothing_makes_an_empty_page():
    told = run()
    assert (told["items"], told["timeline"], told["totals"]["slot_use"]) == ([], [], None)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)), max_size=40))
def test_bars_of_one_lane_never_overlap_and_no_lane_is_wasted(spans):
    jobs = [
        job(number, JobState.STORED, attempt(1, start, start + length, "success"))
        for number, (start, length) in enumerate(spans)
    ]
    told = run(*jobs)
    until: dict[int, float] = {}
    for bar in told["timeline"]:
        assert until.get(bar["slot"], 0.0) <= bar["start"]
        until[bar["slot"]] = bar["end"]
    most = max(
        (sum(a <= start < a + b for a, b in spans) for start, _ in spans),
        default=0,
    )
    assert told["slots"] <= max(10, most)
