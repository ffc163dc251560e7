"""The command `batch` and its companions, as a process against simulators."""

import json
import re
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veo_async.simulator import Simulator

Serve = Callable[..., Simulator]
Until = Callable[[Callable[[], object]], None]
SPEED = ("--time-scale", "200")


def lines_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def write(folder: Path, name: str, *rows: str) -> str:
    (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return name


def test_a_list_of_prompts_becomes_a_folder_of_videos(veo: Any, serve: Serve) -> None:
    simulator = serve()
    program = veo.at(simulator)
    prompts = write(veo.folder, "p.txt", "A boat", "", "A car", "A boat")
    ran = program("batch", prompts, "-o", "out", "--seed", "12345", *SPEED)
    assert ran.code == 0, ran.err
    names = {Path(line).name for line in ran.out.splitlines()}
    assert names == {"0001-a-boat-12345.mp4", "0002-a-car-12345.mp4", "0003-a-boat-12345.mp4"}
    assert {path.name for path in (veo.folder / "out").glob("*.mp4")} == names
    side = json.loads((veo.folder / "out" / "0002-a-car-12345.json").read_text())
    assert (side["request"]["prompt"], side["credits"], side["size"]) == ("A car", 70, 40_000)
    again = program("batch", prompts, "-o", "out", "--seed", "12345", *SPEED)
    assert (again.code, again.out) == (0, "")
    assert "3 skipped" in again.err
    assert len(simulator.ledger.posts) == 3


def test_rows_of_csv_and_jsonl_carry_their_own_fields(veo: Any, serve: Serve) -> None:
    simulator = serve(dialect="live")
    program = veo.at(simulator)
    table = write(
        veo.folder, "t.csv", "prompt,model,aspect_ratio,key", "A boat,veo3,,first", "A car,,9:16,"
    )
    ran = program("batch", table, "--json", "--aspect-ratio", "16:9", "--prices", "live", *SPEED)
    assert ran.code == 0, ran.err
    *items, last = lines_of(ran.out)
    assert {one["item"]["key"] for one in items} >= {"first"}
    assert {one["item"]["credits"] for one in items} == {60, 250}
    assert last["report"]["credits_spent"] == simulator.ledger.spent == 310
    rows = write(veo.folder, "r.jsonl", '{"prompt": "A cat", "seed": 54321}', '"A dog"')
    more = program("batch", rows, "-o", "more", *SPEED)
    assert more.code == 0, more.err
    assert (veo.folder / "more" / "0001-a-cat-54321.mp4").exists()


def test_stdin_is_an_input(veo: Any, serve: Serve) -> None:
    ran = veo.at(serve())("batch", "-", *SPEED, stdin=b"A boat\nA car\n")
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 2


def test_a_bad_row_is_named_first_and_does_not_stop_the_rest(veo: Any, serve: Serve) -> None:
    simulator = serve()
    rows = write(
        veo.folder, "r.csv", "prompt,aspect_ratio,seed", "A boat,16:9,", "A car,4:3,", "A cat,,7"
    )
    ran = veo.at(simulator)("batch", rows, *SPEED)
    assert ran.code == 1
    assert "r.csv, line 3, column aspect_ratio" in ran.err
    assert "r.csv, line 4, column seed" in ran.err
    assert ran.err.index("line 3") < ran.err.index("Making")
    assert "1 downloaded, 2 rejected" in ran.err
    assert len(simulator.ledger) == 1


def test_a_dry_run_tells_the_price_and_sends_nothing(veo: Any, serve: Serve) -> None:
    simulator = serve()
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", "A boat", "A car")
    ran = program("batch", rows, "--dry-run", "--model", "veo3")
    assert (ran.code, ran.out.split(" (")[0]) == (0, "2 videos, at most 500 credits")
    told = program("batch", rows, "--dry-run", "--json", "--prices", "spec").json
    assert told == {
        "videos": 2,
        "tasks": 2,
        "invalid": 0,
        "credits_at_most": 140,
        "prices": "spec",
    }
    bad = program("batch", write(veo.folder, "b.jsonl", "{", '"A boat"'), "--dry-run")
    assert bad.code == 2
    assert "b.jsonl, line 1" in bad.err
    keyed = write(veo.folder, "k.csv", "prompt,key", "A boat,one", "A car,one")
    twice = program("batch", keyed, "--dry-run", "--max-credits", "100")
    assert twice.code == 2
    assert "k.csv, line 3: key 'one'" in twice.err
    assert "more than --max-credits 100" in twice.err
    assert program("batch", rows, "--dry-run", "--name", "{nothing}").code == 2
    assert not (veo.folder / "videos").exists()
    assert not any(simulator.ledger.requests.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.txt"], "none.txt"),
        (["p.doc"], "--format"),
        (["p.txt", "--name", "{nothing}"], "{nothing}"),
        (["p.txt", "--format", "csv"], "prompt"),
        (["p.txt", "--max-credits", "-1"], "--max-credits"),
        (["p.txt", "--generation-type", "REFERENCE_2_VIDEO"], "option --generation-type"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    veo: Any, serve: Serve, words: list[str], said: str
) -> None:
    simulator = serve()
    write(veo.folder, "p.txt", "A boat")
    write(veo.folder, "p.doc", "A boat")
    ran = veo.at(simulator)("batch", *words)
    assert ran.code in {1, 2}
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not any(simulator.ledger.requests.values())


def test_a_budget_ends_it_and_a_larger_one_goes_on(veo: Any, serve: Serve) -> None:
    simulator = serve()
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", *(f"Boat {number}" for number in range(8)))
    ran = program("batch", rows, "--max-credits", "220", "--json", *SPEED)
    assert ran.code == 4
    *_, last = lines_of(ran.out)
    report = last["report"]
    assert (report["downloaded"], report["unpaid"], simulator.ledger.spent) == (3, 1, 210)
    assert "--max-credits leaves 10; go on with a larger --max-credits" in ran.err
    assert program("batch", rows, *SPEED).code == 0
    assert simulator.ledger.spent == 560


def test_the_first_ctrl_c_keeps_what_is_paid_and_tells_the_command(
    veo: Any, serve: Serve, until: Until
) -> None:
    simulator = serve(time_scale=0)
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", *(f"Boat {number}" for number in range(14)))
    running = program.start("batch", rows, "--api-key", simulator.api_key)
    until(lambda: simulator.ledger.running == 10)
    running.send(signal.SIGINT)
    ran = running.ended()
    assert ran.code == 130
    assert "10 not at home yet" in ran.err
    assert ran.err.splitlines()[-1].strip() == "veo-async batch p.txt --api-key …"
    assert simulator.api_key not in ran.err
    simulator.advance(10_000)
    rest = program.start("batch", rows, *SPEED)
    until(lambda: simulator.ledger.running == 4)
    simulator.advance(10_000)
    assert rest.ended().code == 0
    assert len(simulator.ledger) == 14
    assert len([*(veo.folder / "videos").glob("*.mp4")]) == 14


def test_a_second_ctrl_c_ends_at_once_and_the_journal_holds(
    veo: Any, serve: Serve, until: Until
) -> None:
    simulator = serve(time_scale=0, faults=["generate:delay=5"])
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", "A boat", "A car")
    running = program.start("batch", rows)
    until(lambda: len(simulator.ledger.posts) == 2)
    running.send(signal.SIGTERM)
    running.says("Stopping")
    running.send(signal.SIGINT)
    assert running.ended().code == 130
    simulator.clear_faults()
    simulator.advance(10_000)
    listed = program("jobs", "videos", "--unknown", "--json")
    jobs = lines_of(listed.out)
    assert [job["state"] for job in jobs] == ["unknown", "unknown"]
    assert "veo-async resolve" in listed.err
    again = program("batch", rows, *SPEED)
    assert again.code == 5
    assert len(simulator.ledger.posts) == 2


def test_an_uncertain_submit_is_settled_by_hand(veo: Any, serve: Serve) -> None:
    simulator = serve(faults=["generate:lose_answer:times=1", "generate:reset_before:times=1"])
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", "A boat", "A car")
    ran = program("batch", rows, "--max-tasks", "1", *SPEED)
    assert ran.code == 5
    keys = {
        job["request"]["prompt"]: job["key"]
        for job in lines_of(program("jobs", "videos", "--json").out)
    }
    (charge,) = simulator.ledger
    lost, unsent = charge.prompt, next(one for one in keys if one != charge.prompt)
    for words, said in (
        (["videos", keys[lost]], "--task-id"),
        (["videos", "nothing", "--not-created"], "no job 'nothing'"),
        (["elsewhere", keys[lost], "--not-created"], "elsewhere"),
    ):
        refused = program("resolve", *words)
        assert refused.code != 0
        assert said in refused.err
    assert program("resolve", "videos", keys[lost], "--task-id", charge.task_id).code == 0
    taken = program("resolve", "videos", keys[unsent], "--task-id", charge.task_id)
    assert f"is the one of job {keys[lost]}" in taken.err
    assert program("resolve", "videos", keys[unsent], "--not-created").code == 0
    twice = program("resolve", "videos", keys[lost], "--not-created")
    assert "only an unknown one" in twice.err
    assert program("batch", rows, *SPEED).code == 0
    assert sorted(charge.prompt for charge in simulator.ledger) == ["A boat", "A car"]


def test_jobs_lists_while_the_batch_runs(veo: Any, serve: Serve, until: Until) -> None:
    simulator = serve(time_scale=0)
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", "A boat", "A [policy] car")
    running = program.start("batch", rows)
    until(lambda: simulator.ledger.running == 2)
    until(lambda: "submitted" in program("jobs", "videos").out)
    assert "is running" in program("jobs", "videos").err
    refused = program("batch", rows)
    assert refused.code == 1
    assert re.search(rf"process {running.process.pid} on host", refused.err)
    simulator.advance(10_000)
    assert running.ended().code == 1
    failed = program("jobs", "videos", "--failed").out
    assert "A [policy] car" in failed
    assert "A boat" not in failed


def test_the_page_shows_the_folder(veo: Any, serve: Serve) -> None:
    program = veo.at(serve(dialect="live"))
    rows = write(veo.folder, "p.txt", "A boat", "A [policy] car", "</script><b>bold")
    program("batch", rows, *SPEED)
    ran = program("report", "videos")
    page = (veo.folder / ran.out.strip()).read_text(encoding="utf-8")
    assert "0001-a-boat.mp4" in page
    assert "flagged by Website" in page
    assert "</script><b>bold" not in page
    told = program("report", "videos", "--json", "--page", "elsewhere.html").json
    assert told["counts"] == {"downloaded": 2, "failed": 1}
    assert "videos/0001-a-boat.mp4" in (veo.folder / "elsewhere.html").read_text(encoding="utf-8")
    assert program("report", "nowhere").code == 1


def test_a_damaged_journal_is_left_alone(veo: Any, serve: Serve) -> None:
    simulator = serve()
    program = veo.at(simulator)
    rows = write(veo.folder, "p.txt", "A boat")
    assert program("batch", rows, *SPEED).code == 0
    journal = veo.folder / "videos" / "veo-journal.db"
    spoiled = journal.read_bytes()[:5000] + b"\0" * 5000
    journal.write_bytes(spoiled)
    ran = program("batch", rows, *SPEED)
    assert ran.code == 1
    assert "damaged" in ran.err
    assert journal.read_bytes() == spoiled
    assert len(simulator.ledger.posts) == 1


def test_a_simulated_folder_is_not_taken_for_a_paid_one(veo: Any) -> None:
    rows = write(veo.folder, "p.txt", "A boat")
    assert veo("batch", rows, "--simulate", "--time-scale", "400").code == 0
    ran = veo("batch", rows, "--base-url", "https://api.kie.ai", "--api-key", "key-of-nobody")
    assert ran.code == 1
    assert "play money" in ran.err


def test_it_says_how_far_it_is_where_there_is_no_terminal(veo: Any, serve: Serve) -> None:
    simulator = serve(time_scale=0)
    running = veo.at(simulator).start("batch", write(veo.folder, "p.txt", "A boat"))
    assert "0 of 1 done, 1 running" in running.says("done, ")
    simulator.advance(10_000)
    ran = running.ended()
    assert ran.code == 0
    assert "\x1b" not in ran.err


def test_the_journal_may_be_elsewhere(veo: Any, serve: Serve) -> None:
    program = veo.at(serve())
    rows = write(veo.folder, "p.txt", "A boat")
    assert program("batch", rows, "--journal", "state/j.db", *SPEED).code == 0
    assert sqlite3.connect(veo.folder / "state" / "j.db").execute(
        "SELECT state FROM jobs"
    ).fetchall() == [("stored",)]
    assert not (veo.folder / "videos" / "veo-journal.db").exists()
    assert "A boat" in program("jobs", "videos", "--journal", "state/j.db").out
