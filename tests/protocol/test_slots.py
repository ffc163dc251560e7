"""The rule of the shared slots by itself."""

import random

import pytest

from veo_async.protocol.slots import Held, Report, exchange, new_ledger, next_waiter

LEASE = 30_000
LONG = 10**7  # milliseconds: no lease ends while a test looks


def report(member: str, **more) -> Report:
    usual = Report(
        member=member,
        total=2,
        lease_ms=LEASE,
        ticket_ms=9_000,
        quiet_ms=9_000,
        is_leaving=False,
        is_in_touch=True,
        adopts=False,
        held=[],
        released=[],
        orphaned=[],
        wanted=[],
        pace=[],
    )
    return usual | more


def held(key: str, ms: int = 0, task: str = "", *, is_new=False, is_claim=False) -> Held:
    return Held(key=key, ms=ms, task=task, is_new=is_new, is_claim=is_claim)


def test_a_reservation_dies_with_its_holder_and_a_running_task_does_not():
    ledger = new_ledger(0)
    exchange(ledger, report("a", wanted=["1", "2"]), 0)
    exchange(ledger, report("a", held=[held("1"), held("2", 10**6, is_claim=True)]), 1)
    assert exchange(ledger, report("b", wanted=["3"]), 10)["granted"] == []
    told = exchange(ledger, report("b", wanted=["3"]), LEASE + 1)
    assert (told["granted"], told["in_use"]) == (["3"], 2)


def test_a_member_that_is_known_to_be_dead_need_not_be_waited_for():
    ledger = new_ledger(0)
    exchange(ledger, report("a", wanted=["1", "2"]), 0)
    assert exchange(ledger, report("b", wanted=["3"]), 1, {"a"})["granted"] == ["3"]


def test_those_who_wait_are_served_by_turns_and_a_dead_one_holds_up_nobody_for_long():
    ledger = new_ledger(0)
    exchange(ledger, report("a", wanted=["1", "2"]), 0)
    exchange(ledger, report("b", wanted=["3"]), 1)
    exchange(ledger, report("c", wanted=["4"]), 2)
    exchange(ledger, report("a", held=[held("2")], released=["1"]), 3)
    assert next_waiter(ledger, 3) == "b"
    assert exchange(ledger, report("c", wanted=["4"]), 4)["granted"] == [], "it is b's turn"
    assert exchange(ledger, report("c", wanted=["4"]), 9_001)["granted"] == ["4"], "b is silent"


def test_a_member_that_wants_much_takes_one_at_a_time_while_others_wait():
    ledger = new_ledger(0)
    exchange(ledger, report("a", total=3, wanted=["1", "2", "3"]), 0)
    exchange(ledger, report("b", total=3, wanted=["4", "5"]), 1)
    exchange(ledger, report("c", total=3, wanted=["6"]), 2)
    exchange(ledger, report("a", total=3, held=[held("3")], released=["1", "2"]), 3)
    assert exchange(ledger, report("b", total=3, wanted=["4", "5"]), 4)["granted"] == ["4"]
    told = exchange(ledger, report("c", total=3, wanted=["6"]), 5)
    assert told["granted"] == ["6"]


def test_an_answer_that_was_lost_is_given_again():
    ledger = new_ledger(0)
    first = exchange(ledger, report("a", wanted=["1"], adopts=True), 0)
    again = exchange(ledger, report("a", wanted=["1"], adopts=True), 1)
    assert first["granted"] == again["granted"] == ["1"]
    exchange(ledger, report("b", held=[held("x", 10**6, "t", is_new=True)]), 2)
    exchange(ledger, report("b", is_leaving=True), 3)
    for now in (4, 5):
        told = exchange(ledger, report("a", held=[held("1")], adopts=True), now)
        assert [one["task"] for one in told["adopted"]] == ["t"]


def test_a_lost_reservation_cannot_become_a_task_unless_there_is_room():
    ledger = new_ledger(0)
    exchange(ledger, report("a", wanted=["1", "2"]), 0)
    exchange(ledger, report("b", wanted=["3", "4"]), LEASE + 1)
    late = exchange(ledger, report("a", held=[held("1", 60_000, is_claim=True)]), LEASE + 2)
    assert late["lost"] == ["1"]
    exchange(ledger, report("b", held=[held("4")], released=["3"]), LEASE + 3)
    late = exchange(ledger, report("a", held=[held("2", 60_000, is_claim=True)]), LEASE + 4)
    assert late["lost"] == []


def test_while_it_is_quiet_members_say_what_they_hold_and_nobody_gets_more():
    ledger = new_ledger(100)
    told = exchange(ledger, report("b", wanted=["3"]), 0)
    assert (told["granted"], told["next"]) == ([], 100)
    told = exchange(ledger, report("a", held=[held("1"), held("2", 60_000)]), 1)
    assert (told["lost"], told["in_use"]) == ([], 2)
    told = exchange(ledger, report("c", is_in_touch=False, held=[held("5")]), 2)
    assert told["lost"] == ["5"], "it had been silent for too long before"
    assert exchange(ledger, report("b", wanted=["3"]), 200)["granted"] == []


def test_the_lowest_total_of_the_living_holds():
    ledger = new_ledger(0)
    exchange(ledger, report("a", total=1), 0)
    told = exchange(ledger, report("b", total=5, wanted=["1", "2"]), 1)
    assert (told["granted"], told["total"]) == (["1"], 1)
    exchange(ledger, report("a", total=1, is_leaving=True), 2)
    told = exchange(ledger, report("b", total=5, held=[held("1")], wanted=["2"]), 3)
    assert (told["granted"], told["total"]) == (["2"], 5)


def test_one_task_holds_one_slot_under_whatever_key():
    ledger = new_ledger(0)
    exchange(ledger, report("a", held=[held("1", 60_000, "task", is_new=True)]), 0)
    told = exchange(ledger, report("b", held=[held("task", 60_000, "task", is_new=True)]), 1)
    assert told["in_use"] == 1


def test_the_pace_counts_all_members():
    ledger = new_ledger(0)
    assert exchange(ledger, report("a", pace=[2, 1000]), 0)["wait"] == 0
    assert exchange(ledger, report("b", pace=[2, 1000]), 100)["wait"] == 0
    assert exchange(ledger, report("a", pace=[2, 1000]), 200)["wait"] == 800
    assert exchange(ledger, report("b", pace=[2, 1000]), 1000)["wait"] == 0


def test_a_reservation_that_its_member_forgot_is_free():
    ledger = new_ledger(0)
    assert exchange(ledger, report("a", wanted=["1"]), 0)["in_use"] == 1
    assert exchange(ledger, report("a", orphaned=["unknown"]), 1)["in_use"] == 0


def test_whoever_tells_of_a_task_without_a_holder_has_it():
    ledger = new_ledger(0)
    exchange(ledger, report("a", held=[held("1", 10**6, "task", is_new=True)]), 0)
    exchange(ledger, report("a", is_leaving=True), 1)
    exchange(ledger, report("b", held=[held("1", 10**6, "task")]), 2)
    assert ledger["rows"]["1"]["owner"] == "b"


def test_one_who_goes_on_asking_keeps_its_place():
    ledger = new_ledger(0)
    exchange(ledger, report("a", wanted=["1", "2"]), 0)
    mine = [held("1"), held("2")]
    exchange(ledger, report("b", wanted=["3"]), 1)
    exchange(ledger, report("c", wanted=["4"]), 2)
    exchange(ledger, report("b", wanted=["3"]), 6_000)
    exchange(ledger, report("a", held=mine[1:], released=["1"]), 9_500)
    assert exchange(ledger, report("c", wanted=["4"]), 9_501)["granted"] == []
    assert exchange(ledger, report("b", wanted=["3"]), 9_502)["granted"] == ["3"]


def random_reports(dice: random.Random):  # noqa: C901  # all that members do
    """Yield the reports of three members that believe roughly what they are told."""
    holdings: dict[str, dict[str, Held]] = {name: {} for name in "abc"}
    number = 0
    while True:
        name = dice.choice("abc")
        mine = holdings[name]
        wanted = []
        for _ in range(dice.randrange(3)):
            number += 1
            wanted.append(f"{name}{number}")
        released = [key for key in mine if dice.random() < 0.3]
        orphaned = [key for key in mine if key not in released and dice.random() < 0.1]
        for key in released + orphaned:
            del mine[key]
        for key, one in mine.items():
            if dice.random() < 0.5:
                is_claim = one["ms"] == 0
                mine[key] = held(key, LONG, "", is_new=not is_claim, is_claim=is_claim)
                if not is_claim and dice.random() < 0.7:
                    mine[key]["task"] = f"task {key}"
        if dice.random() < 0.1:
            number += 1
            mine[f"f{number}"] = held(f"f{number}", LONG, "", is_new=True)
        is_leaving = dice.random() < 0.1
        answer = yield report(
            name,
            total=dice.choice((4, 4, 4, 3)),
            lease_ms=LONG,
            ticket_ms=LONG,
            quiet_ms=0,
            is_leaving=is_leaving,
            is_in_touch=dice.random() < 0.9,
            adopts=dice.random() < 0.6,
            held=[dict(one) for one in mine.values()],
            released=released,
            orphaned=orphaned,
            wanted=wanted,
            pace=[1000, LONG] if dice.random() < 0.3 else [],
        )
        for key in answer["lost"]:
            mine.pop(key, None)
        for key, one in mine.items():
            mine[key] = one | {"is_claim": False, "is_new": False}
        for key in answer["granted"]:
            mine[key] = held(key)
        for one in answer["adopted"]:
            mine[one["key"]] = held(one["key"], LONG, one["task"])
        if is_leaving:
            mine.clear()


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_granted_above_the_total_whatever_members_tell(seed):
    ledger = new_ledger(0)
    reports = random_reports(random.Random(seed))
    told = next(reports)
    granted = 0
    for now in range(200):
        answer = exchange(ledger, told, now)
        granted += len(answer["granted"])
        if answer["granted"]:
            assert answer["in_use"] <= answer["total"]
        assert next_waiter(ledger, now) in {None, *ledger["tickets"]}
        told = reports.send(answer)
    assert granted > 2, "it was about something"
