"""Films: a video and its extensions, stopped and failing at every step."""

import json
import shlex
import signal
from collections.abc import Callable
from typing import Any

import pytest

from veo_async.cli.trail import Film, Submit, Trail
from veo_async.events import SubmitStarted, TaskSubmitted, TaskUpdated
from veo_async.models import TaskRecord, TaskStatus
from veo_async.request import ExtendRequest, VideoRequest
from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
Until = Callable[[Callable[[], object]], None]
SPEED = ("--time-scale", "200")
QUICK: dict[str, Any] = {"generation_seconds": 20.0, "upgrade_4k_seconds": 20.0}
FILM = ("generate", "A cat", "--then", "it sits", "--then", "it's gone", "-o", "film.mp4")


def kinds(simulator: Simulator) -> list[tuple[str, str]]:
    return [(charge.kind, charge.prompt) for charge in simulator.ledger]


def resumed(program: Any, words: str) -> Any:
    first, *rest = shlex.split(words)
    assert first == "veo-async"
    return program(*rest, *([] if "--time-scale" in rest else SPEED))


def test_a_film_is_made_step_by_step(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    ran = veo.at(simulator)(*FILM, "--model", "veo3_lite", *SPEED, "--json")
    assert ran.code == 0, ran.err
    assert [prompt for _, prompt in kinds(simulator)] == ["A cat", "it sits", "it's gone"]
    tasks = [charge.task_id for charge in simulator.ledger]
    assert (ran.json["tasks"], ran.json["task_id"]) == (tasks, tasks[-1])
    assert (ran.json["credits_at_most"], simulator.ledger.spent) == (90, 90)
    assert (veo.folder / "film.mp4").read_bytes()[4:8] == b"ftyp"
    places = [ran.err.index(words) for words in ("step 1 of 3", "step 2 of 3", "step 3 of 3")]
    assert places == sorted(places)
    assert "A film in 3 steps, at most 90 credits in all" in ran.err
    assert "Step 3 of 3 is ready" in ran.err


def test_a_film_that_may_cost_more_is_refused(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    ran = veo.at(simulator)(*FILM, "--upgrade", "4k", "--max-credits", 309, "--json")
    assert (ran.code, ran.error["type"]) == (4, "BudgetExceededError")
    assert "310 credits and --max-credits is 309" in ran.err
    assert not any(simulator.ledger.requests.values())
    assert veo.at(simulator)("extend", "task_1", "it sits", "--max-credits", 59).code == 4


def test_a_film_of_so_many_seconds(veo: Any) -> None:
    ran = veo("generate", "A cat", "--extend-to", 12, "--simulate", "--time-scale", 1000, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["tasks"]) == 2


def test_a_length_that_one_video_has_is_one_task(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    ran = veo.at(simulator)("generate", "A cat", "--extend-to", 8, "--no-wait", *SPEED)
    assert ran.code == 0, ran.err
    assert kinds(simulator) == [("generate", "A cat")]


def test_a_prompt_extends_several_times(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    program = veo.at(simulator)
    base = program("generate", "A cat", "--no-wait", *SPEED).out.strip()
    words = ("extend", base, "it sails", "--times", 2, "--then", "it sinks")
    assert program(*words, "--max-credits", 179).code == 4
    assert program("extend", base, "it sails", "--times", 2, "--no-wait").code == 2
    for times in (0, 515):
        assert program("extend", base, "it sails", "--times", times).code == 2
    ran = program(*words, *SPEED, "-o", "f.mp4")
    assert (ran.code, ran.out) == (0, "f.mp4\n"), ran.err
    assert [prompt for _, prompt in kinds(simulator)[1:]] == ["it sails", "it sails", "it sinks"]


def test_a_task_is_extended(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    program = veo.at(simulator)
    made = program("generate", "A cat", "--no-wait", *SPEED)
    assert made.code == 0, made.err
    (base,) = made.out.splitlines()
    ran = program(
        "extend", base, "-", "--then", "it sinks", "--model", "veo3", *SPEED, "-o", "f.mp4",
        stdin=b"it sails\n",
    )  # fmt: skip
    assert (ran.code, ran.out) == (0, "f.mp4\n"), ran.err
    assert kinds(simulator)[1:] == [("extend", "it sails"), ("extend", "it sinks")]
    alone = program("extend", base, "it turns", "--no-wait", "--json", *SPEED)
    assert alone.json["task_id"] == simulator.ledger[-1].task_id
    assert alone.json["credits_at_most"] == 60


def test_what_cannot_be_extended_is_told(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    program = veo.at(simulator)
    for words in (["--then", " "], ["--seed", "5"], ["--simulate"]):
        assert program("extend", "task_1", "it sails", *words).code == 2
    unknown = program("extend", "task_1", "it sails", *SPEED, "--json")
    assert (unknown.code, unknown.error["type"]) == (1, "NotFoundError")
    assert simulator.ledger.posts == ()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_film_that_is_stopped_goes_on(veo: Any, serve: Serve, until: Until, step: int) -> None:
    simulator = serve(dialect="live", time_scale=0)
    program = veo.at(simulator)
    running = program.start(*FILM, "--json", *SPEED)
    for number in range(1, step):
        until(lambda wanted=number: len(simulator.ledger) == wanted)  # type: ignore[misc]
        simulator.advance(1000)
    words = "Generating (step 1" if step == 1 else f"Extending (step {step}"
    running.says(words)
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    newest = simulator.ledger[-1].task_id
    assert ran.error["task_id"] == newest
    resume = ran.error["resume"]
    assert resume in ran.err
    if step < 3:
        assert resume.startswith(f"veo-async extend {newest} ")
    else:
        assert resume.startswith(f"veo-async wait {newest} ")
    first = simulator.ledger[step - 2].task_id
    assert (f"veo-async wait {first} -o film.mp4" in ran.err) is (step > 1)
    rest = program.start(*shlex.split(resume)[1:])
    for number in range(step, 4):
        until(lambda wanted=number: len(simulator.ledger) == wanted)  # type: ignore[misc]
        simulator.advance(1000)
    assert rest.ended().code == 0
    assert [prompt for _, prompt in kinds(simulator)] == ["A cat", "it sits", "it's gone"]
    assert (veo.folder / "film.mp4").exists()


def test_a_step_that_fails_is_made_again_alone(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    program = veo.at(simulator)
    ran = program(
        "generate", "A cat", "--then", "it [policy] flies", "--then", "it sits", "-o", "film.mp4",
        "--seed", 12345, *SPEED, "--json",
    )  # fmt: skip
    assert ran.code == 1
    base = simulator.ledger[0].task_id
    assert "step 2 of 3" in ran.err
    assert f"veo-async wait {base} -o film.mp4" in ran.err
    assert ran.error["resume"] == (
        f"veo-async extend {base} 'it [policy] flies' --seed 12345 --then 'it sits' -o film.mp4"
        " --time-scale 200"
    )
    assert ran.error["resume"] in ran.err
    again = resumed(program, ran.error["resume"].replace("[policy] ", ""))
    assert again.code == 0, again.err
    paid = [prompt for _, prompt in kinds(simulator)]
    assert [one for one in paid if "[" not in one] == ["A cat", "it flies", "it sits"]


@pytest.mark.parametrize(
    ("code", "said", "settings"),
    [
        (4, "top up", {"credits": 60}),
        (5, "where it is not there go on with", {"faults": ["extend:lose_answer:times=1"]}),
        (1, "with other words", {"faults": ["extend:status=422:times=1"]}),
    ],
)
def test_a_step_without_a_task_leaves_the_film_so_far(
    veo: Any, serve: Serve, code: int, said: str, settings: dict[str, Any]
) -> None:
    simulator = serve(dialect="live", **QUICK, **settings)
    ran = veo.at(simulator)(*FILM, "--json", *SPEED)
    assert ran.code == code, ran.err
    base = simulator.ledger[0].task_id
    assert said in ran.err
    assert ran.error["resume"] == (
        f"veo-async extend {base} 'it sits' --then 'it'\"'\"'s gone' -o film.mp4 --time-scale 200"
    )
    assert f"veo-async wait {base} -o film.mp4" in ran.err


def test_a_service_that_extends_nothing_is_told_of(veo: Any, serve: Serve) -> None:
    simulator = serve()
    ran = veo.at(simulator)(*FILM, "--json", *SPEED)
    assert ran.code == 1
    assert "no such call" in ran.error["message"]
    assert ran.error["resume"].startswith(f"veo-async wait {simulator.ledger[0].task_id}")
    assert len(simulator.ledger) == 1


@pytest.mark.parametrize("dialect", ["live", "jobs"])
def test_4k_is_an_upgrade(veo: Any, serve: Serve, dialect: str) -> None:
    simulator = serve(dialect=dialect, **QUICK)
    program = veo.at(simulator)
    talk = () if dialect == "live" else ("--dialect", dialect)
    made = program("generate", "A cat", "--upgrade", "4k", "-o", "c.mp4", "--json", *talk, *SPEED)
    assert made.code == 0, made.err
    assert (made.json["resolution"], made.json["credits_at_most"]) == ("4k", 190)
    assert [charge.kind for charge in simulator.ledger] == ["generate", "4k"]
    bare = program("generate", "A cat", "--no-wait", *talk, *SPEED).out.strip()
    ran = program("upgrade", bare, "--to", "4k", "--no-download", *talk, *SPEED)
    assert (ran.code, ran.out[:4]) == (0, "http"), ran.err


def test_a_video_that_cannot_be_4k_is_not_lost(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    ran = veo.at(simulator)("generate", "A [no4k] cat", "--upgrade", "4k", *SPEED)
    assert ran.code == 1
    assert "4K version of this video is unavailable" in ran.err
    assert f"veo-async wait {simulator.ledger[0].task_id}" in ran.err
    assert "veo-async upgrade" not in ran.err


def test_a_batch_of_films_is_priced_and_made(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK)
    program = veo.at(simulator)
    (veo.folder / "f.csv").write_text(
        "prompt,extend_to\nA cat,it sits | it goes\nA dog,15\nA cow,\n", encoding="utf-8"
    )
    dry = program("batch", "f.csv", "--dry-run", "--prices", "live")
    assert dry.out.startswith(
        "3 videos in 6 paid tasks, at most 360 credits (1.80 USD) by the live"
    )
    ran = program("batch", "f.csv", "--prices", "live", *SPEED)
    assert ran.code == 0, ran.err
    assert len(simulator.ledger) == 6
    assert simulator.ledger.spent == 360
    side = json.loads((veo.folder / "videos" / "0001-a-cat.json").read_text(encoding="utf-8"))
    assert len(side["task_ids"]) == 3
    again = program("batch", "f.csv", "--prices", "live", *SPEED)
    assert "3 skipped" in again.err
    (veo.folder / "p.txt").write_text("A boat\n", encoding="utf-8")
    every = program("batch", "p.txt", "-o", "more", "--then", "it sails", *SPEED)
    assert every.code == 0, every.err
    assert kinds(simulator)[6:] == [("generate", "A boat"), ("extend", "it sails")]


def test_the_step_whose_answer_was_lost_is_the_one_to_look_for(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live", **QUICK, faults=["extend:lose_answer:match=it goes"])
    program = veo.at(simulator)
    (veo.folder / "f.csv").write_text("prompt,extend_to\nA cat,it sits | it goes\n")
    assert program("batch", "f.csv", *SPEED).code != 0
    listed = program("jobs", "videos", "--unknown").out
    assert "it goes" in listed
    assert "A cat" not in listed


# --- what is known in between


def test_the_trail_knows_what_is_left_of_a_film() -> None:
    trail = Trail(film=Film(["b", "c"], ("--model", "veo3")), options=("-o", "f.mp4"))
    assert (trail.resume(), trail.fallback(), trail.again()) == (None, None, None)
    first = VideoRequest("a", model="veo3")
    trail.note(SubmitStarted(key="1", request=first))
    trail.note(TaskSubmitted(key="1", request=first, task_id="one"))
    whole = "veo-async extend one b --model veo3 --then c -o f.mp4"
    assert (trail.resume(), trail.is_between_steps) == (whole, False)
    trail.note(TaskUpdated(record=TaskRecord(task_id="one", status=TaskStatus.SUCCESS)))
    assert (trail.resume(), trail.is_between_steps) == (whole, True)
    assert trail.fallback() == "veo-async wait one -o f.mp4"
    more = ExtendRequest("one", "b", model="veo3")
    trail.note(SubmitStarted(key="2", request=more))
    assert trail.submit is Submit.LEAVING
    trail.note(TaskSubmitted(key="2", request=more, task_id="two"))
    assert trail.resume() == "veo-async extend two c --model veo3 -o f.mp4"
    assert trail.again() == whole
    trail.note(TaskSubmitted(key="3", request=more, task_id="three"))
    trail.note(TaskUpdated(record=TaskRecord(task_id="three", status=TaskStatus.SUCCESS)))
    assert trail.resume() == "veo-async wait three -o f.mp4"
    assert trail.fallback() is None
    assert trail.tasks == ["one", "two", "three"]


def test_a_long_film_of_one_prompt_goes_on_by_a_short_command() -> None:
    trail = Trail(task_id="one", film=Film(["a"] * 500))
    assert trail.resume() == "veo-async extend one a --times 500"
    trail = Trail(task_id="one", film=Film(["a", "a", "b", "b"], ("--seed", "12345")))
    words = "veo-async extend one a --seed 12345 --times 2 --then b --then b"
    assert trail.resume() == words


def test_an_odd_id_or_prompt_is_no_option() -> None:
    trail = Trail(task_id="-x", film=Film(["b"]))
    assert trail.resume() == "veo-async extend -- -x b"
    trail = Trail(task_id="x", film=Film(["-b", "c"]), upgrade="4k")
    assert trail.resume() == "veo-async extend --then c --upgrade 4k -- x -b"
