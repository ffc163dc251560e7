"""Lists of prompts, from a file or stdin: row by row, each a request or the reason why not."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import attrs

from veo_async.cli.cells import check_key
from veo_async.cli.tables import Flaw, Format, Given, refused, rows_of
from veo_async.cli.wording import option_of, shown
from veo_async.errors import InvalidRequestError
from veo_async.request import RequestFields, VideoRequest

__all__: list[str] = []

STDIN: Final = "-"
_ENDINGS: Final[Mapping[str, Format]] = {
    ".txt": Format.TXT,
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
_CHUNK: Final = 64 * 1024  # bytes
_MOST_ERRORS: Final = 20  # about a screen; who has more will not read them one by one

Check: TypeAlias = Callable[[VideoRequest], None]


@attrs.frozen(kw_only=True)
class Row:
    """One row of an input.

    Attributes:
        place: Where it stands, for messages: `prompts.csv, line 7`.
        fields: What it says, with the defaults for what it does not: `prompt`, fields of a request,
            and `key` if it has one. Empty if it cannot be read.
        request: The request that it makes; None if it makes none.
        error: Why it makes none, with the place; its `field` names the field, if it is about one.
        columns: How the input calls its fields, where it does.
    """

    place: str
    fields: Mapping[str, object] = attrs.field(factory=dict[str, object])
    request: VideoRequest | None = None
    error: InvalidRequestError | None = None
    columns: Mapping[str, str] = attrs.field(factory=dict[str, str])

    def where(self, field: str) -> str:
        """Return where a field of it stands, for messages."""
        column = self.columns.get(field)
        return f"{self.place}, {column}" if column else self.place

    @property
    def key(self) -> str | None:
        """The row's own name, if it has a good one."""
        key = self.fields.get("key")
        return key if isinstance(key, str) and self.request is not None else None


@attrs.frozen(kw_only=True)
class Source:
    """An input that is open, and can be read more than once.

    Attributes:
        name: What messages call it.
        form: Its format.
        file: Its content; it can be rewound.
    """

    name: str
    form: Format
    file: IO[bytes] = attrs.field(repr=False)

    def rows(self, defaults: RequestFields, check: Check | None = None) -> Iterator[Row]:
        """Read it from its start, with as much memory as one row needs.

        Args:
            defaults: Fields for rows that do not give them; None is no value.
            check: What else a request must pass.

        Raises:
            InvalidRequestError: A default breaks a rule by itself.
            ConfigurationError: The input cannot be read, or not from some row on. What is wrong
                with one row is in that row.
        """
        usual = _checked(defaults, check)
        for given in rows_of(self.name, self.file, self.form):
            yield self._row(given, usual, check)

    def _row(self, given: Given, usual: Mapping[str, object], check: Check | None) -> Row:
        place = f"{self.name}, line {given.line}"
        if given.flaw is not None:
            return Row(place=place, error=self._spoiled(given.flaw))
        fields = {**usual, **given.values}
        try:
            request = _request(fields, check)
            return Row(place=place, fields=fields, request=request, columns=given.columns)
        except InvalidRequestError as error:
            where = _blamed(error, given, usual, check)
            told = InvalidRequestError(f"{place}{where}: {error}", field=error.field)
            return Row(place=place, fields=fields, error=told)

    def _spoiled(self, flaw: Flaw) -> InvalidRequestError:
        return InvalidRequestError(f"{self.name}, line {flaw.line}{flaw.words}", field=flaw.field)


@attrs.frozen(kw_only=True)
class Summary:
    """What one pass over an input found.

    Attributes:
        good: Rows that make a request.
        bad: Rows that make none.
        errors: Why, for the first ones of those.
    """

    good: int
    bad: int
    errors: tuple[InvalidRequestError, ...]


def summary_of(
    source: Source,
    defaults: RequestFields,
    on_row: Callable[[Row], object] | None = None,
    check: Check | None = None,
) -> Summary:
    """Read an input once, to its end, before anything is paid.

    Args:
        source: The input.
        defaults: Fields for rows that do not give them.
        on_row: Gets each good row.
        check: What else a request must pass.

    Raises:
        InvalidRequestError: A default breaks a rule by itself.
        ConfigurationError: The input has no row at all, or cannot be read.
    """
    good = bad = 0
    errors: list[InvalidRequestError] = []
    for row in source.rows(defaults, check):
        if row.error is not None:
            bad += 1
            if len(errors) < _MOST_ERRORS:
                errors.append(row.error)
        else:
            good += 1
            if on_row is not None:
                on_row(row)
    if not good + bad:
        below = " below its header" if source.form is Format.CSV else ""
        raise refused(source.name, f"there is no prompt in it; write some{below}, one a row")
    return Summary(good=good, bad=bad, errors=tuple(errors))


@contextlib.contextmanager
def opened(given: str, form: Format | None = None) -> Generator[Source]:
    """Open an input for as long as the block lasts.

    Args:
        given: A path, or `-` for stdin, which is read to its end first.
        form: Its format, if its ending is not to tell; that of stdin is txt then.

    Raises:
        ConfigurationError: It cannot be read, or its format is not known.
    """
    name = "stdin" if given == STDIN else shown(given)
    with contextlib.ExitStack() as stack:
        if given == STDIN:
            form = form or Format.TXT
            file = _copied(name, _stdin(), stack)
        else:
            file = stack.enter_context(_file(name, given))
            form = form or _format_of(name, given)
            if not file.seekable():  # a pipe with a name
                file = _copied(name, file, stack)
        yield Source(name=name, form=form, file=file)


def _file(name: str, given: str) -> IO[bytes]:
    try:
        return Path(given).open("rb")
    except OSError as error:
        raise refused(name, f"{error.strerror or error}; give a file that can be read") from error
    except ValueError as error:  # no name that a file can have
        raise refused(name, f"{error}; give a file that can be read") from error


def _format_of(name: str, given: str) -> Format:
    for ending, form in _ENDINGS.items():
        if given.lower().endswith(ending):
            return form
    raise refused(
        name,
        f"its ending does not tell its format; name it {', '.join(_ENDINGS)}, or give"
        f" --format {'|'.join(Format)}",
    )


def _stdin() -> IO[bytes] | None:
    source = sys.stdin
    if source is None or source.closed:  # pyright: ignore[reportUnnecessaryComparison]  # by who started us
        return None
    return source.buffer


def _copied(name: str, file: IO[bytes] | None, stack: contextlib.ExitStack) -> IO[bytes]:
    try:
        copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
        if file is not None:
            _copy(file, copy)
        copy.flush()
    except OSError as error:
        why = error.strerror or str(error)
        raise refused(name, f"it cannot be kept for reading ({why}); give a file") from error
    return copy


def _copy(file: IO[bytes], copy: IO[bytes]) -> None:
    while chunk := file.read(_CHUNK):
        copy.write(chunk)
        if len(chunk) < _CHUNK:  # the end; asked again, a terminal waits for a second Ctrl-D
            return


def _checked(defaults: RequestFields, check: Check | None) -> Mapping[str, object]:
    """Return the defaults that are values; each must be good by itself."""
    usual: dict[str, object] = {
        name: value for name, value in defaults.items() if value is not None
    }
    if "image_urls" in defaults:
        usual["image_urls"] = tuple(defaults["image_urls"])  # it is used again and again
    for name, value in usual.items():
        try:
            _request({"prompt": "any", name: value}, check)
        except InvalidRequestError as error:
            if error.field == name:  # and not, for instance, the images that its rows will have
                raise
    return usual


def _request(fields: Mapping[str, object], check: Check | None = None) -> VideoRequest:
    if "key" in fields:
        check_key(fields["key"])
    values: dict[str, Any] = {name: value for name, value in fields.items() if name != "key"}
    request = VideoRequest(values.pop("prompt", ""), **values)
    if check is not None:
        check(request)
    return request


def _blamed(
    error: InvalidRequestError, given: Given, usual: Mapping[str, object], check: Check | None
) -> str:
    """Return where to look: at an option without which the row is good, or at a column."""
    for name in usual:
        rest = {key: value for key, value in usual.items() if key != name}
        if _is_good({**rest, **given.values}, check):
            return f", with option {option_of(name)}"
    is_missing = error.field == "image_urls" and "image_urls" not in given.values
    column = given.columns.get("generation_type" if is_missing else error.field)
    return f", {column}" if column else ""


def _is_good(fields: Mapping[str, object], check: Check | None) -> bool:
    try:
        _request(fields, check)
    except InvalidRequestError:
        return False
    return True
