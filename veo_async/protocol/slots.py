"""The shared slots of an account as one value, and the one way in which a member changes it.

A member is a process, or one event loop of it. In one report it tells all that it holds and wants,
and it gets one answer; a report that is repeated changes nothing. `integrations.redis` has the same
rule in the server's own language, and a test that both agree.

All times are whole milliseconds: those of a ledger on its own clock, those of reports and answers
as durations, so that the clocks of members do not matter.
"""

from collections.abc import Container, Iterator
from typing import Final, TypedDict

__all__: list[str] = []

FORMAT: Final = 1
KEPT_DEPARTURES: Final = 1000
KEPT_MS: Final = 60_000  # of departures, for members whose pace has a longer window than this one's


class Row(TypedDict):
    """A slot that is in use.

    Attributes:
        owner: The member that looks after it; nobody where it is empty.
        task: The service's id, empty until it is known.
        until: When it lapses; 0 while it is reserved, since that ends with its owner.
        since: When it was occupied.
    """

    owner: str
    task: str
    until: int
    since: int


class Member(TypedDict):
    """One who shares the slots: until when it is believed to live, and how many it counts on."""

    until: int
    total: int


class Ticket(TypedDict):
    """A member's place in the queue, and until when it is believed to stand there."""

    number: int
    until: int


class Ledger(TypedDict):
    """All that is known of an account's slots.

    Attributes:
        format: Of this value.
        quiet: Until when nothing is granted, because members have to say first what they hold.
        number: Of the next ticket.
        members: Who shares, by name.
        rows: What is held, by key.
        tickets: Who waits, by name.
        departures: When creates left, the oldest first.
    """

    format: int
    quiet: int
    number: int
    members: dict[str, Member]
    rows: dict[str, Row]
    tickets: dict[str, Ticket]
    departures: list[int]


class Held(TypedDict):
    """A slot that a member believes to hold.

    Attributes:
        key: What names it.
        ms: How long it may stay occupied; 0 while it is reserved.
        task: The service's id, empty while unknown.
        is_new: Whether `ms` is news, rather than what is left of what was told before.
        is_claim: Whether it is to be occupied only if it is still reserved, or one is free.
    """

    key: str
    ms: int
    task: str
    is_new: bool
    is_claim: bool


class Report(TypedDict):
    """What a member tells.

    Attributes:
        member: Its name.
        total: How many slots it believes the account to have.
        lease_ms: How long it is believed to live without another report.
        ticket_ms: How long it is believed to wait without another report.
        quiet_ms: In which time every living member reports.
        is_leaving: Whether this is its last.
        is_in_touch: Whether its lease cannot have ended since its last report.
        adopts: Whether it takes over the tasks of others.
        held: What it holds.
        released: Keys that it holds no more.
        orphaned: Keys that another member is to look after.
        wanted: Keys that need a slot, first come first.
        pace: How many may leave in how many milliseconds, where one wants to leave; else empty.
    """

    member: str
    total: int
    lease_ms: int
    ticket_ms: int
    quiet_ms: int
    is_leaving: bool
    is_in_touch: bool
    adopts: bool
    held: list[Held]
    released: list[str]
    orphaned: list[str]
    wanted: list[str]
    pace: list[int]


class Adopted(TypedDict):
    """A task that the member looks after from now on."""

    key: str
    task: str
    age: int
    left: int


class Answer(TypedDict):
    """What a member is told.

    Attributes:
        granted: Wanted keys that have a slot now.
        lost: Held keys that have none, since their reservation ended.
        adopted: Tasks that it is to look after.
        in_use: Slots in use by all members.
        total: Slots that there are, as far as the most careful living member believes.
        wait: Milliseconds until one may leave; 0 if it has left, -1 if none wanted to.
        next: Milliseconds after which something may have changed by itself.
    """

    granted: list[str]
    lost: list[str]
    adopted: list[Adopted]
    in_use: int
    total: int
    wait: int
    next: int


def new_ledger(quiet: int) -> Ledger:
    """Return the ledger of an account that nobody is known to use."""
    return Ledger(
        format=FORMAT, quiet=quiet, number=1, members={}, rows={}, tickets={}, departures=[]
    )


def exchange(ledger: Ledger, report: Report, now: int, dead: Container[str] = ()) -> Answer:
    """Write a report into a ledger, and return the answer to it.

    Args:
        ledger: What is known; it is changed.
        report: What a member tells.
        now: The ledger's time.
        dead: Members that are known to have died before their lease ended.
    """
    _renew(ledger, report, now)
    _expire(ledger, now, dead)
    _let_go(ledger, report)
    if report["is_leaving"]:
        _leave(ledger, report["member"])
        return _answer(ledger, report, now)
    lost = _hold(ledger, report, now)
    granted = _grant(ledger, report, now)
    adopted = [*_adopt(ledger, report, now)]
    wait = _depart(ledger, report, now)
    answer = _answer(ledger, report, now)
    answer["granted"], answer["lost"], answer["adopted"] = granted, lost, adopted
    answer["wait"] = wait
    return answer


def _renew(ledger: Ledger, report: Report, now: int) -> None:
    old = ledger["members"].get(report["member"])
    until = 0 if old is None else old["until"]
    if until - now < report["lease_ms"] * 3 // 4:  # a file that does not change is not written
        until = now + report["lease_ms"]
    ledger["members"][report["member"]] = Member(until=until, total=report["total"])


def _expire(ledger: Ledger, now: int, dead: Container[str]) -> None:
    members, rows, tickets = ledger["members"], ledger["rows"], ledger["tickets"]
    for name, member in [*members.items()]:
        if member["until"] <= now or name in dead:
            del members[name]
    for key, row in [*rows.items()]:
        is_over = row["until"] <= now if row["until"] else row["owner"] not in members
        if is_over:
            del rows[key]
    for name, ticket in [*tickets.items()]:
        if ticket["until"] <= now or name not in members:
            del tickets[name]


def _let_go(ledger: Ledger, report: Report) -> None:
    rows = ledger["rows"]
    for key in report["released"]:
        rows.pop(key, None)
    for key in report["orphaned"]:
        if key in rows and rows[key]["owner"] == report["member"]:
            rows[key]["owner"] = ""
    known = {held["key"] for held in report["held"]} | {*report["wanted"]}
    for key, row in [*rows.items()]:
        if row["owner"] == report["member"] and not row["until"] and key not in known:
            del rows[key]


def _leave(ledger: Ledger, name: str) -> None:
    del ledger["members"][name]
    ledger["tickets"].pop(name, None)
    for key, row in [*ledger["rows"].items()]:
        if row["owner"] == name:
            row["owner"] = ""
            if not row["until"]:
                del ledger["rows"][key]


def _hold(ledger: Ledger, report: Report, now: int) -> list[str]:
    """Write down what the member holds; return the keys that have no slot any more."""
    rows = ledger["rows"]
    tasks = {row["task"] for row in rows.values() if row["task"]}
    missing: list[Held] = []
    for held in report["held"]:
        key = held["key"]
        if key in rows:
            _tell(rows[key], held, ledger, report, now)
        elif not held["ms"] or held["is_claim"]:
            missing.append(held)
        elif held["task"] not in tasks:  # or it runs under another key already
            rows[key] = _row(held, report, now)
    lost: list[str] = []
    is_quiet = ledger["quiet"] > now
    for held in missing:
        # While a server that lost its data is told what there was, a reservation is taken for one.
        if report["is_in_touch"] if is_quiet else len(rows) < _total(ledger):
            rows[held["key"]] = _row(held, report, now)
        else:
            lost.append(held["key"])
    return lost


def _row(held: Held, report: Report, now: int) -> Row:
    until = now + held["ms"] if held["ms"] else 0
    return Row(owner=report["member"], task=held["task"], until=until, since=now)


def _tell(row: Row, held: Held, ledger: Ledger, report: Report, now: int) -> None:
    if held["ms"] and (held["is_new"] or not row["until"]):
        if not row["until"]:
            row["since"] = now
        row["until"] = now + held["ms"]
    if held["task"]:
        row["task"] = held["task"]
    if row["owner"] not in ledger["members"]:
        row["owner"] = report["member"]


def _total(ledger: Ledger) -> int:
    return min(member["total"] for member in ledger["members"].values())


def _grant(ledger: Ledger, report: Report, now: int) -> list[str]:
    """Give the member what its place in the queue allows; return the keys that have a slot."""
    name, rows, tickets = report["member"], ledger["rows"], ledger["tickets"]
    granted = [key for key in report["wanted"] if key in rows]  # an answer that was lost
    for key in report["wanted"]:
        if key in rows:
            continue
        if name not in tickets:
            tickets[name] = Ticket(number=ledger["number"], until=now + report["ticket_ms"])
            ledger["number"] += 1
        is_first = all(tickets[name]["number"] <= each["number"] for each in tickets.values())
        if not is_first or ledger["quiet"] > now or len(rows) >= _total(ledger):
            break
        del tickets[name]
        rows[key] = Row(owner=name, task="", until=0, since=now)
        granted.append(key)
    if len(granted) == len(report["wanted"]):
        tickets.pop(name, None)
    elif tickets[name]["until"] - now < report["ticket_ms"] // 2:
        tickets[name]["until"] = now + report["ticket_ms"]
    return granted


def _adopt(ledger: Ledger, report: Report, now: int) -> Iterator[Adopted]:
    """Yield the tasks that nobody looks after, and those that the member does not know it has."""
    if not report["adopts"] or ledger["quiet"] > now:
        return
    held = {held["key"] for held in report["held"]}
    for key, row in ledger["rows"].items():
        is_mine = row["owner"] == report["member"]
        is_unknown = is_mine and key not in held
        if row["task"] and row["until"] and (is_unknown or row["owner"] not in ledger["members"]):
            row["owner"] = report["member"]
            yield Adopted(
                key=key, task=row["task"], age=now - row["since"], left=row["until"] - now
            )


def _depart(ledger: Ledger, report: Report, now: int) -> int:
    """Let one leave if the pace allows; return the milliseconds to wait, or -1 if none wants to."""
    if not report["pace"]:
        return -1
    count, window = report["pace"]
    kept = [left for left in ledger["departures"] if left > now - max(window, KEPT_MS)]
    recent = [left for left in kept if left > now - window]
    ledger["departures"] = kept[-KEPT_DEPARTURES:]
    if len(recent) >= count:
        return recent[-count] + window - now
    ledger["departures"].append(now)
    return 0


def _answer(ledger: Ledger, report: Report, now: int) -> Answer:
    return Answer(
        granted=[],
        lost=[],
        adopted=[],
        in_use=len(ledger["rows"]),
        total=_total(ledger) if ledger["members"] else report["total"],
        wait=-1,
        next=_next_change(ledger, report, now),
    )


def _next_change(ledger: Ledger, report: Report, now: int) -> int:
    """Return the milliseconds until something ends by itself: quiet, a slot, another's place."""
    members = ledger["members"]
    times = [ledger["quiet"]]
    times += [row["until"] for row in ledger["rows"].values()]
    # Its own lease ends after its next report, and others' tickets matter only to those who wait.
    times += [each["until"] for name, each in members.items() if name != report["member"]]
    times += [t["until"] for name, t in ledger["tickets"].items() if name != report["member"]]
    return min((time - now for time in times if time > now), default=report["lease_ms"])


def next_waiter(ledger: Ledger, now: int) -> str | None:
    """Return who has the next turn, if there is a slot for it."""
    tickets = ledger["tickets"]
    if not tickets or ledger["quiet"] > now or len(ledger["rows"]) >= _total(ledger):
        return None
    return min(tickets, key=lambda name: tickets[name]["number"])
