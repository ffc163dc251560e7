"""The script that Redis runs is the same rule as that of the protocol."""

import json
import random
import secrets

import pytest
import redis

from tests.protocol.test_slots import random_reports, report
from veo_async.integrations.redis_script import SCRIPT
from veo_async.protocol.slots import exchange, new_ledger


def comparable(answer):
    return {
        "granted": [*answer["granted"]],
        "lost": [*answer["lost"]],
        "adopted": sorted((one["key"], one["task"]) for one in answer["adopted"]),
        "in_use": answer["in_use"],
        "total": answer["total"],
        "wait": answer["wait"],
    }


@pytest.mark.parametrize("seed", range(40))
def test_the_script_of_the_server_is_the_same_rule(shared_redis, seed):
    ledger = new_ledger(0)
    reports = random_reports(random.Random(seed))
    key = secrets.token_hex(8)
    seen = 0
    with redis.Redis(port=shared_redis.port) as server:
        told = next(reports)
        for number in range(40):
            ours = exchange(ledger, told, number)
            text = json.dumps({**told, "seq": number + 1})
            theirs = json.loads(server.eval(SCRIPT, 1, key, "turns", text))
            assert comparable(theirs) == comparable(ours), told
            kept = json.loads(server.get(key))["ledger"]
            assert {
                name: (row["owner"], row["task"], row["until"] > 0)
                for name, row in (kept["rows"] or {}).items()
            } == {
                name: (row["owner"], row["task"], row["until"] > 0)
                for name, row in ledger["rows"].items()
            }
            seen += len(ours["granted"]) + len(ours["adopted"])
            told = reports.send(ours)
    assert seen > 2, "it was about something"


def test_a_report_that_was_overtaken_is_not_believed(shared_redis):
    key = secrets.token_hex(8)
    with redis.Redis(port=shared_redis.port) as server:
        for seq, wanted in ((2, []), (1, ["1"])):
            text = json.dumps({**report("a", wanted=wanted, quiet_ms=0), "seq": seq})
            if seq == 2:
                server.eval(SCRIPT, 1, key, "turns", text)
            else:
                with pytest.raises(redis.ResponseError, match="overtaken"):
                    server.eval(SCRIPT, 1, key, "turns", text)
        assert not json.loads(server.get(key))["ledger"]["rows"]
