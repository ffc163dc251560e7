"""A program that runs one batch, to be killed: from outside, or by itself at a chosen step.

`python -m tests.faults.batch_child JOB` runs one job, a JSON object, and prints what came of it.

Without an argument it is a nursery: it reads jobs from stdin, one a line, and runs each in a
process of its own, which it kills when it is told to. These are forked from one that has loaded
everything and has neither threads nor an event loop, or a thousand starts would take ten minutes.
"""

import asyncio
import gc
import json
import logging
import os
import select
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults.watching import Steps, Tape, watch
from veo_async import PollPolicy, RetryPolicy, Timeouts, VeoClient
from veo_async.prices import SPEC


def client_of(job: dict[str, Any]) -> VeoClient:
    """Return a client that keeps up with a service that runs so many times faster than life."""
    speed = job["speed"]
    return VeoClient(
        job["api_key"],
        base_url=job["base_url"],
        poll=PollPolicy(interval=max(0.01, 5 / speed), first=20 / speed),
        pace=(20, 10 / speed),
        retry=RetryPolicy(base=0.002, cap=0.02),
        timeouts=Timeouts(
            response=job.get("response", 20.0),
            uncertain=job.get("uncertain", 20.0),
            close=2.0,
        ),
    )


async def run(job: dict[str, Any], tape: Tape | None) -> dict[str, Any]:
    """Run the batch to its end, and return what its caller sees."""
    items: list[dict[str, Any]] = []
    async with (
        client_of(job) as veo,
        veo.batch(
            job["prompts"],
            directory=job["directory"],
            prices=SPEC,
            retries=job.get("retries", 0),
            max_credits=job.get("max_credits"),
        ) as batch,
    ):
        async for item in batch:
            if tape is not None:
                tape.tell("told", item.task_id, item.outcome)
            kind = None if item.error is None else type(item.error).__name__
            items.append(
                {"key": item.key, "outcome": item.outcome, "task_id": item.task_id, "error": kind}
            )
    return {"items": items, "spent": batch.report.credits_total}


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in this process."""
    said = logging.getLogger("veo_async")
    said.addHandler(logging.NullHandler())
    said.propagate = False
    steps = Steps(job.get("crash")) if job.get("watch") else None
    tape = Tape(Path(job["directory"]), Path(job["tape"])) if "tape" in job else None
    watch(steps, tape)
    # Not in asyncio's debug mode, which complains about a busy machine.
    done = asyncio.run(run(job, tape), debug=False)
    sys.setprofile(None)
    if tape is not None:
        tape.close()
    if steps is not None:
        done["steps"] = steps.seen
    gc.collect()  # what was not closed says so
    return done


def _born(job: dict[str, Any], out: int) -> None:
    """Be the child."""
    code = 1
    try:
        with os.fdopen(out, "w") as pipe:
            pipe.write(json.dumps(perform(job)))
        code = 0
    except BaseException:  # noqa: BLE001  # nothing may return into the nursery's loop
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def raise_one(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own, and return how that ended."""
    inlet, outlet = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(inlet)
        _born(job, outlet)
    os.close(outlet)
    # The child alone has the other end, so that its end is seen here, however it comes.
    ready, _, _ = select.select([inlet], [], [], job.get("kill_after"))
    if not ready:
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(inlet) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "said": json.loads(said) if code == 0 else None}


def main() -> None:
    """Run one job, or be a nursery."""
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(perform(json.loads(sys.argv[1]))))
        return
    for name in ("veo_async.batch", "anyio._backends._asyncio", "encodings.idna"):
        import_module(name)  # which is loaded late otherwise
    gc.collect()
    gc.freeze()  # what is here already need not be looked through by each child
    while line := sys.stdin.readline():
        sys.stdout.write(json.dumps(raise_one(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
