"""The formats of an input: bytes to lines, and lines to rows that name the request's fields."""

import csv
import io
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Final

import attrs

from veo_async.cli.cells import field_of, hint_for, parsed, titled, value_of
from veo_async.errors import ConfigurationError, InvalidRequestError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__: list[str] = []

LONGEST_ROW: Final = 128 * 1024  # characters: the most that a cell of Python's csv may have
_UTF_16: Final = ("\udcff\udcfe", "\udcfe\udcff")  # its byte order marks, as escaped here
_JSON_ROW: Final = "write a JSON object, or a prompt as a JSON string, on each line"
_NO_TEXT: Final = re.compile("[\0\udc80-\udcff]")  # NUL, and bytes that are not UTF-8


class Format(StrEnum):
    """What the lines of an input are."""

    TXT = "txt"
    CSV = "csv"
    JSONL = "jsonl"


@attrs.frozen(kw_only=True)
class Flaw:
    """Why a row cannot be read.

    Attributes:
        line: Where.
        words: Where in the line, and why; they follow the line's number in a message.
        field: The field that it is about, if it is about one.
    """

    line: int
    words: str
    field: str = ""


@attrs.frozen(kw_only=True)
class Given:
    """What a row says.

    Attributes:
        line: Where it starts, from 1.
        values: The fields that it gives.
        columns: How the input calls them, where it does: `column aspectRatio`.
        flaw: Why it cannot be read, if it cannot.
    """

    line: int
    values: Mapping[str, object] = attrs.field(factory=dict[str, object])
    columns: Mapping[str, str] = attrs.field(factory=dict[str, str])
    flaw: Flaw | None = None


@attrs.frozen
class _Line:
    number: int
    text: str
    flaw: Flaw | None


def refused(name: str, why: str) -> ConfigurationError:
    """Return the error about an input as a whole."""
    return ConfigurationError(f"{name}: {why}")


def rows_of(name: str, file: IO[bytes], form: Format) -> Iterator[Given]:
    """Read the rows of a file from its start, whoever else reads it in turns.

    Args:
        name: What messages call it.
        file: The file; it can be rewound.
        form: Its format.

    Raises:
        ConfigurationError: The file cannot be read, or not from some row on.
    """
    # The csv module wants line ends as they are: a cell may hold some.
    lines = _lines(name, file, newline="" if form is Format.CSV else None)
    return _READERS[form](name, lines)


class _Reading(io.RawIOBase):
    """A place of its own in a file that may be read several times at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        self._file.seek(self._offset)
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._offset += len(data)
        return len(data)


def _lines(name: str, file: IO[bytes], *, newline: str | None) -> Iterator[_Line]:
    # Bytes that are not UTF-8 come as surrogates, so that only their own row is spoiled.
    text = io.TextIOWrapper(
        io.BufferedReader(_Reading(file)), "utf-8-sig", "surrogateescape", newline=newline
    )
    number = 0
    try:
        while line := text.readline(LONGEST_ROW + len("\r\n")):
            number += 1
            if number == 1 and line.startswith(_UTF_16):
                raise refused(name, "it is UTF-16 text; save it as UTF-8")
            flaw = _flaw_of(number, line)
            yield _Line(number, line, flaw)
            while flaw is not None and line and not line.endswith(("\n", "\r")):
                line = text.readline(LONGEST_ROW)  # the rest of a long one
    except OSError as error:
        raise refused(name, f"{error.strerror or error}; check the file") from error


def _flaw_of(number: int, line: str) -> Flaw | None:
    if len(line.rstrip("\r\n")) > LONGEST_ROW:
        return Flaw(
            line=number,
            words=f": more than {LONGEST_ROW} characters; break it into lines, one for each video",
        )
    found = _NO_TEXT.search(line)
    if found is None:
        return None
    byte = len(line[: found.start()].encode()) + 1
    what = "NUL is not text" if found[0] == "\0" else f"0x{ord(found[0]) & 0xFF:02x} is not UTF-8"
    return Flaw(line=number, words=f", byte {byte}: {what}; save the file as UTF-8 text")


def _txt(_: str, lines: Iterator[_Line]) -> Iterator[Given]:
    for line in lines:
        prompt = line.text.strip()
        if line.flaw is not None or prompt:
            yield Given(line=line.number, values={"prompt": prompt}, flaw=line.flaw)


def _jsonl(_: str, lines: Iterator[_Line]) -> Iterator[Given]:
    for line in lines:
        if line.flaw is not None:
            yield Given(line=line.number, flaw=line.flaw)
        elif line.text.strip():
            yield _json_row(line)


def _json_row(line: _Line) -> Given:
    try:
        value = parsed(line.text)
    except ValueError as error:
        return _spoiled(line.number, f": {error}; {_JSON_ROW}")
    if isinstance(value, str):
        return Given(line=line.number, values={"prompt": value})
    if not isinstance(value, dict):
        return _spoiled(line.number, f": neither an object nor a string; {_JSON_ROW}")
    values: dict[str, object] = {}
    columns: dict[str, str] = {}
    for name, member in value.items():
        field, shown = field_of(name), reprlib.repr(name)
        if field is None:
            why = f": {shown} is not a field of a request; {hint_for(name)}"
            return _spoiled(line.number, why, name)
        if field in columns:
            why = f": {shown} gives {field} a second time; keep one of them"
            return _spoiled(line.number, why, field)
        columns[field] = f"field {titled(name)}"
        if member is not None:
            values[field] = member
    return Given(line=line.number, values=values, columns=columns)


def _spoiled(line: int, words: str, field: str = "") -> Given:
    return Given(line=line, flaw=Flaw(line=line, words=words, field=field))


def _csv(name: str, lines: Iterator[_Line]) -> Iterator[Given]:
    header: Mapping[str, str] | None = None
    for row in _Sheet(name, lines):
        if not any(cell.strip() for cell in row.cells) and row.flaw is None:
            continue
        if header is None:
            header = _header(name, row)
        else:
            yield _csv_row(header, row)


@attrs.frozen
class _CsvRow:
    line: int
    cells: Sequence[str]
    flaw: Flaw | None


@attrs.define
class _Sheet:
    """The rows of CSV text. None takes more than its share of memory, also with a quote left open.

    Attributes:
        name: What messages call the input.
        lines: Its lines, with their ends.
    """

    name: str
    lines: Iterator[_Line]
    _last: int = attrs.field(default=0, init=False)
    _size: int = attrs.field(default=0, init=False)
    _flaw: Flaw | None = attrs.field(default=None, init=False)

    def __iter__(self) -> Iterator[_CsvRow]:
        reader = csv.reader(self._fed(), strict=True, skipinitialspace=True)
        while True:
            first, self._size, self._flaw = self._last + 1, 0, None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # Where the next row starts is a guess from here on, and a guess would be paid.
                raise refused(
                    self.name,
                    f"the row that starts on line {first} is not CSV ({error}); put two quotation"
                    " marks for one inside a quoted cell, and one at its end",
                ) from None
            yield _CsvRow(first, cells, self._flaw)

    def _fed(self) -> Iterator[str]:
        for line in self.lines:
            self._last = line.number
            self._size += len(line.text)
            if self._size > LONGEST_ROW:
                raise csv.Error(f"longer than {LONGEST_ROW} characters")
            self._flaw = self._flaw or line.flaw
            yield line.text


def _header(name: str, row: _CsvRow) -> Mapping[str, str]:
    """Return how the columns are called, by the fields that they mean, in their order."""
    if row.flaw is not None:
        raise ConfigurationError(f"{name}, line {row.flaw.line}{row.flaw.words}")
    place = f"{name}, line {row.line}"
    columns: dict[str, str] = {}
    for number, cell in enumerate(row.cells, 1):
        shown = reprlib.repr(cell.strip())
        field = field_of(cell)
        if field is None:
            what = f"column {shown} is unknown" if cell.strip() else f"column {number} has no name"
            raise refused(place, f"{what}; {_header_hint(cell)}")
        if field in columns:
            raise refused(place, f"column {shown} gives {field} a second time; keep one of them")
        columns[field] = f"column {titled(cell)}"
    if "prompt" not in columns:
        raise refused(place, "no column is named prompt; name one so")
    return columns


def _header_hint(cell: str) -> str:
    if re.search(r"[;\t]", cell):
        return "put commas between the columns"
    if not cell.strip():
        return "name it, or remove it"
    return f"the first row names the columns: {hint_for(cell)}"


def _csv_row(header: Mapping[str, str], row: _CsvRow) -> Given:
    if row.flaw is not None:
        return Given(line=row.line, flaw=row.flaw)
    if len(row.cells) > len(header):
        return _spoiled(
            row.line,
            f": {len(row.cells)} cells for {len(header)} columns; put a text with commas in"
            " quotation marks",
        )
    values: dict[str, object] = {}
    for field, cell in zip(header, row.cells, strict=False):
        text = cell.strip()
        if not text:
            continue
        try:
            values[field] = value_of(field, text)
        except InvalidRequestError as error:
            return _spoiled(row.line, f", {header[field]}: {error}", field)
    return Given(line=row.line, values=values, columns=header)


_READERS: Final[Mapping[Format, Callable[[str, Iterator[_Line]], Iterator[Given]]]] = {
    Format.TXT: _txt,
    Format.CSV: _csv,
    Format.JSONL: _jsonl,
}
