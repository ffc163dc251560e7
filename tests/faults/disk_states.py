"""Which disks a power cut may leave, by the rules of POSIX, and what they may not look like.

What was written and not flushed may be there, in part, or not; a name that was changed and whose
folder was not flushed may be the old one or the new one; each independently of all others. A
transaction of the journal that has returned is on the disk, and so is the journal's name in its
folder, as SQLite promises with `synchronous=EXTRA`; the folder's own name is another matter.
"""

import itertools
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

Record: TypeAlias = Sequence[Any]
JOURNAL = "veo-journal.db"


@attrs.frozen
class Content:
    """What a file holds.

    Attributes:
        inode: Which file.
        size: Bytes that were written.
        age: How often it was cut off before.
        is_torn: Whether some of them are not there, although the size says so.
    """

    inode: int
    size: int = 0
    age: int = 0
    is_torn: bool = False


@attrs.frozen
class Row:
    """A task as a transaction of the journal has it, with its job."""

    state: str
    file: str | None
    size: int | None
    url: str | None
    prompt: str
    task_id: str | None

    @property
    def is_stored(self) -> bool:
        """Whether its video is at home."""
        return self.state == "stored"


@attrs.frozen
class Rows:
    """What the journal holds."""

    rows: tuple[Row, ...]


State: TypeAlias = Mapping[str, Content | Rows]


@attrs.define
class Disk:
    """A disk on which some is certain and the rest is on its way.

    Attributes:
        files: What each file may hold after a cut: first what is certain, last what was written.
        names: Which file each name may stand for: first for certain, last by now; None for none.
    """

    files: list[list[Content | Rows]] = attrs.field(factory=list[list[Content | Rows]])
    names: dict[str, list[int | None]] = attrs.field(factory=dict[str, list[int | None]])

    def take(self, record: Record) -> None:
        """Let something happen."""
        verb, *words = record
        match verb:
            case "mkdir" | "create":
                self._name(words[0], self._new())
            case "size":
                self._write(words[0], words[1])
            case "link":
                self._name(words[1], self.names[words[0]][-1])
            case "rename":
                self._name(words[1], self.names[words[0]][-1])
                self._name(words[0], None)
            case "unlink":
                self._name(words[0], None)
            case "sync":
                self._flush(words[0])
            case "commit":
                self._commit(words[0], words[1])

    def _new(self) -> int:
        self.files.append([Content(len(self.files))])
        return len(self.files) - 1

    def _name(self, path: str, inode: int | None) -> None:
        self.names.setdefault(path, [None]).append(inode)

    def _inode(self, path: str) -> int:
        inode = self.names[path][-1]
        assert inode is not None, f"{path} is not there"
        return inode

    def _write(self, path: str, size: int) -> None:
        versions = self.files[self._inode(path)]
        now = versions[-1]
        assert isinstance(now, Content)
        if size == now.size:  # seen again, by a process that did not see it written
            return
        versions.append(attrs.evolve(now, size=size, age=now.age + (size < now.size)))

    def _flush(self, path: str) -> None:
        if self.names.get(path, [None])[-1] is not None:
            inode = self._inode(path)
            self.files[inode] = self.files[inode][-1:]
        for name, history in self.names.items():
            if posixpath.dirname(name) == path.removeprefix("."):
                self.names[name] = history[-1:]

    def _commit(self, path: str, rows: Sequence[Sequence[Any]]) -> None:
        if self.names.get(path, [None])[-1] is None:
            self._name(path, self._new())
        self.files[self._inode(path)] = [Rows(tuple(Row(*row) for row in rows))]
        self.names[path] = self.names[path][-1:]

    def states(self) -> Iterator[State]:
        """Yield each disk that a cut at this moment may leave, once."""
        seen: set[frozenset[tuple[str, Content | Rows]]] = set()
        paths = [*self.names]
        for chosen in itertools.product(*({*self.names[path]} for path in paths)):
            there = {path: one for path, one in zip(paths, chosen, strict=True) if one is not None}
            # What is in a folder is as lost as the folder.
            there = {
                path: one
                for path, one in there.items()
                if posixpath.dirname(path) in there or posixpath.dirname(path) not in self.names
            }
            inodes = sorted({*there.values()})
            for held in itertools.product(*(self._contents(inode) for inode in inodes)):
                content = dict(zip(inodes, held, strict=True))
                state = {path: content[inode] for path, inode in there.items()}
                key = frozenset(state.items())
                if key not in seen:
                    seen.add(key)
                    yield state

    def _contents(self, inode: int) -> list[Content | Rows]:
        versions = self.files[inode]
        now = versions[-1]
        if len(versions) == 1 or not isinstance(now, Content):
            return versions
        return [*versions, attrs.evolve(now, is_torn=True)]


@attrs.define
class Said:
    """What the service and the caller know by now, whatever becomes of the disk."""

    posts: set[str] = attrs.field(factory=set[str])
    links: set[str] = attrs.field(factory=set[str])
    brought: set[str] = attrs.field(factory=set[str])

    def take(self, record: Record) -> None:
        """Take note of what was said."""
        match record:
            case ["post", prompt]:
                self.posts.add(prompt)
            case ["get", url]:
                self.links.add(url)
            case ["told", task_id, "downloaded" | "skipped"]:
                self.brought.add(task_id)


def broken_promises(state: State, said: Said, last: Sequence[Content | Rows]) -> set[str]:
    """Return which promises a disk breaks.

    Args:
        state: The disk.
        said: What is known outside.
        last: What each file holds in the end, when all of it is written.
    """
    whole = {path for path, held in state.items() if held == _last_of(held, last)}
    journal = next((path for path in state if path.endswith(f"/{JOURNAL}")), "")
    found = state.get(journal)
    rows = found.rows if isinstance(found, Rows) else ()
    sides = {path for path in state if path.endswith(".json")}
    parts = {path for path in sides if path.endswith(".part.json")}
    videos = {path for path in state if path.endswith(".mp4")}
    stored = {f"{posixpath.dirname(journal)}/{row.file}": row for row in rows if row.is_stored}
    written = {row.prompt for row in rows if row.state != "new"}
    kept = {
        "a video under its name is whole": videos <= whole,
        "a side file under its name is whole": sides - parts <= whole,
        "what is stored stands whole under its name": all(
            path in whole and _size_of(state[path]) == row.size for path, row in stored.items()
        ),
        "what is stored has its side file": {f"{path.removesuffix('.mp4')}.json" for path in stored}
        <= whole,
        "a paid request is written down before it leaves": said.posts <= written,
        "a link is written down before it is used": said.links <= {row.url for row in rows},
        "what the caller was told is on the disk": said.brought
        <= {row.task_id for row in stored.values()},
    }
    return {promise for promise, is_kept in kept.items() if not is_kept}


def _last_of(held: Content | Rows, last: Sequence[Content | Rows]) -> Content | Rows:
    return last[held.inode] if isinstance(held, Content) else held


def _size_of(held: Content | Rows) -> int | None:
    return held.size if isinstance(held, Content) else None


@attrs.frozen
class Verdict:
    """What cuts at all moments of a sequence may leave.

    Attributes:
        states: How many disks, counted for each moment.
        bad: How many of them break a promise.
        broken: Which promises these are.
    """

    states: int
    bad: int
    broken: frozenset[str]


def cut_everywhere(records: Sequence[Record]) -> Verdict:
    """Cut the power before and after each record."""
    whole = Disk()
    for record in records:
        whole.take(record)
    last = [versions[-1] for versions in whole.files]
    disk, said = Disk(), Said()
    states = bad = 0
    broken: set[str] = set()
    for record in [["begin"], *records]:
        disk.take(record)
        said.take(record)
        for state in disk.states():
            promises = broken_promises(state, said, last)
            states += 1
            bad += bool(promises)
            broken.update(promises)
    return Verdict(states, bad, frozenset(broken))
