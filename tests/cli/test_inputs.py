"""Lists of prompts, kind and hostile; the judges are the request, `csv.writer`, `json.dumps`."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veo_async.cli.exits import Exit, code_of
from veo_async.cli.inputs import Row, Source, Summary, opened, summary_of
from veo_async.cli.tables import LONGEST_ROW, Format
from veo_async.errors import ConfigurationError, InvalidRequestError, VeoError
from veo_async.request import RequestFields, VideoRequest

A = "https://example.com/a.png"
B = "https://example.com/b.png"
BOM = b"\xef\xbb\xbf"
FULL: dict[str, Any] = {
    "model": "veo3",
    "generation_type": "REFERENCE_2_VIDEO",
    "image_urls": [A, B],
    "aspect_ratio": "9:16",
    "seed": 12_345,
    "callback_url": "https://example.com/hook",
    "enable_translation": False,
    "watermark": "mine",
    "resolution": "720p",
    "duration": 6,
    "extend_to": ["it sails", "it sinks"],
    "extra": {"enableFallback": False},
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(name: str, data: bytes, form: Format | None = None, **defaults: Any) -> list[Row]:
    Path(name).write_bytes(data)
    with opened(name, form) as source:
        return [*source.rows(RequestFields(**defaults))]


def told(name: str, data: bytes, **defaults: Any) -> list[str]:
    """Return the error of each row, and the prompt of one without."""
    return [
        str(row.error) if row.error else f"{row.place}: {row.fields['prompt']}"
        for row in rows_of(name, data, **defaults)
    ]


def refusal(name: str, data: bytes, form: Format | None = None, **defaults: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        rows_of(name, data, form, **defaults)
    assert code_of(caught.value, is_fetching=False) is Exit.USAGE
    assert str(caught.value).isprintable()
    assert ";" in str(caught.value), "every message ends with what to do next"
    return str(caught.value)


# --- lines

LINES = [
    pytest.param(b"a\nb\n", ["1: a", "2: b"], id="lf"),
    pytest.param(b"a\r\nb\r\n", ["1: a", "2: b"], id="crlf"),
    pytest.param(b"a\rb\r", ["1: a", "2: b"], id="lone-cr"),
    pytest.param(b"a\n\rb\r\n\nc", ["1: a", "3: b", "5: c"], id="mixed"),
    pytest.param(b"a", ["1: a"], id="no-end"),
    pytest.param(BOM + b"a\nb", ["1: a", "2: b"], id="bom"),
    pytest.param(b"\n \n\t\r\na\n\n", ["4: a"], id="blank-lines-count-and-are-no-rows"),
    pytest.param(b"  a boat \t\n", ["1: a boat"], id="blanks-around"),
    pytest.param(b"# a\n// b\n", ["1: # a", "2: // b"], id="there-are-no-comments"),
    pytest.param(b'"a", b\n', ['1: "a", b'], id="nor-quotes"),
    pytest.param(
        "a\u2028b\x85c\u2029d\x0be\x0cf\x1cg\n船".encode(),
        ["1: a\u2028b\x85c\u2029d\x0be\x0cf\x1cg", "2: 船"],
        id="unicode-separators-end-no-line",
    ),
    pytest.param(b"", [], id="empty"),
    pytest.param(BOM, [], id="only-a-bom"),
    pytest.param(b"\xef", [], id="half-a-bom"),
    pytest.param(b"\n\r\n \n", [], id="only-blank-lines"),
]


@pytest.mark.parametrize(("data", "expected"), LINES)
def test_a_line_of_text_is_a_prompt(data: bytes, expected: list[str]) -> None:
    assert told("a.txt", data) == [f"a.txt, line {line}" for line in expected]


@given(st.lists(st.sampled_from(["a", "船", "\r", "\n", "\r\n", " ", "\u2028", "\x85", "\ufeff"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_are_those_of_the_pattern(parts: list[str]) -> None:
    text = "".join(parts)
    expected = [
        f"a.txt, line {number}: {line.strip()}"
        for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)
        if line.strip()
    ]
    assert told("a.txt", BOM + text.encode()) == expected


BAD_LINES = [
    pytest.param(b"a\nb\0c\nd", 2, ", byte 2: NUL is not text", id="nul"),
    pytest.param(b"a\ncaf\xe9\nd", 2, ", byte 4: 0xe9 is not UTF-8", id="latin-1"),
    pytest.param("船b".encode() + b"\xff\nd", 1, ", byte 5: 0xff is not UTF-8", id="bytes-count"),
    pytest.param(b"a\xed\xa0\x80", 1, ", byte 2: 0xed is not UTF-8", id="surrogate"),
    pytest.param(b"a\xc0\x80", 1, ", byte 2: 0xc0 is not UTF-8", id="overlong"),
    pytest.param(b"a\n\xe8\x88", 2, ", byte 1: 0xe8 is not UTF-8", id="cut-off"),
    pytest.param(b"a\nx" + b"y" * LONGEST_ROW + b"\nd", 2, ": more than 131072", id="long"),
    pytest.param(b"\xff" * LONGEST_ROW * 3 + b"\r\nd", 1, ": more than 131072", id="long-bytes"),
]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize(("data", "line", "words"), BAD_LINES)
def test_a_line_that_is_no_text_spoils_only_itself(
    name: str, data: bytes, line: int, words: str
) -> None:
    if name == "a.jsonl":
        data = re.sub(rb"(?m)^([ad])$", rb'"\1"', data)
    rows = rows_of(name, data)
    bad = [row for row in rows if row.error]
    assert [row.place for row in bad] == [f"{name}, line {line}"]
    assert str(bad[0].error).startswith(f"{name}, line {line}{words}")
    assert bad[0].fields == {}
    good = [row.fields["prompt"] for row in rows if not row.error]
    assert good == [
        part for part in ("a", "d") if re.search(rf'(?m)^"?{part}"?$', str(data, "latin-1"))
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
def test_the_longest_line_is_read(end: bytes) -> None:
    (row,) = rows_of("a.txt", b" " * (LONGEST_ROW - 4) + b"boat" + end)
    assert row.fields == {"prompt": "boat"}
    (row,) = rows_of("a.csv", b"prompt\n" + b" " * (LONGEST_ROW - 6) + b"boat" + end)
    assert row.fields == {"prompt": "boat"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_as_such(encoding: str) -> None:
    text = "\ufeffboat\n" if encoding == "utf-16-be" else "boat\n"
    assert refusal("a.txt", text.encode(encoding)) == "a.txt: it is UTF-16 text; save it as UTF-8"


# --- JSON lines

JSON_ROWS = [
    ('{"prompt": "a"}', {"prompt": "a"}),
    ('"a"', {"prompt": "a"}),
    (' {"prompt": " a "}\t', {"prompt": " a "}),
    (r'{"prompt": "a\nb\u2028"}', {"prompt": "a\nb\u2028"}),
    ('{"prompt": "a\u2028\x85b"}', {"prompt": "a\u2028\x85b"}),
    (r'"\ud83d\ude00"', {"prompt": "\N{GRINNING FACE}"}),
    ('{"prompt": "a", "seed": null, "model": null, "key": null}', {"prompt": "a"}),
    ('{"prompt": "a", "key": "k 1"}', {"prompt": "a", "key": "k 1"}),
    (json.dumps({"prompt": "a", **FULL}), {"prompt": "a", **FULL}),
]


@pytest.mark.parametrize(("line", "fields"), JSON_ROWS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL"])
def test_a_json_line_is_a_request(name: str, line: str, fields: dict[str, Any]) -> None:
    (row,) = rows_of(name, f"\n{line}\n".encode())
    assert row.error is None
    assert row.fields == fields
    assert row.key == fields.get("key")
    request = {name: value for name, value in fields.items() if name != "key"}
    assert row.request == VideoRequest(**request)


WRITE = "write a JSON object, or a prompt as a JSON string, on each line"
KEY = "give a text of 1 to 200 printable characters"
FILM = "give the seconds of the whole film, or a list of prompts"
SEED = "give an int from 10000 to 99999"
BAD_JSON = [
    ("{", r": not JSON at character \d+ \(.+\); " + WRITE, ""),
    ('{"prompt": "a",}', r": not JSON at character 1[56] \(.+\); " + WRITE, ""),
    ('{"prompt": "a"} x', r": not JSON at character 17 \(Extra data\); " + WRITE, ""),
    ("{'prompt': 'a'}", r": not JSON at character 2 \(.+\); " + WRITE, ""),
    ("a boat", r": not JSON at character 1 \(.+\); " + WRITE, ""),
    ('"a\tb"', r": not JSON at character 3 \(.+\); " + WRITE, ""),
    ("[" * 100_000, r": not JSON that can be read \(it is nested too deeply\); " + WRITE, ""),
    ('{"a":' * 20_000, r": not JSON that can be read \(it is nested too deeply\); " + WRITE, ""),
    ("1" * 5000, r": not JSON that can be read \(a number has too many digits\); " + WRITE, ""),
    ('{"prompt": "a", "seed": NaN}', r": not JSON \(NaN is no number of it\); " + WRITE, ""),
    ("-Infinity", r": not JSON \(-Infinity is no number of it\); " + WRITE, ""),
    ('{"prompt": "a", "prompt": "b"}', r": not plain JSON \('prompt' occurs twice in .+", ""),
    ('{"prompt": "a", "extra": {"b": 1, "b": 1}}', r": not plain JSON \('b' occurs twice.+", ""),
    ("[1]", ": neither an object nor a string; " + WRITE, ""),
    ("null", ": neither an object nor a string; " + WRITE, ""),
    ("{}", ": prompt is empty; describe the video", "prompt"),
    ('{"prompt": null}', ", field prompt: prompt is empty; describe the video", "prompt"),
    ('""', ": prompt is empty; describe the video", "prompt"),
    ('{"prompt": 7}', ", field prompt: prompt is 7; give the video's .+", "prompt"),
    (r'{"prompt": "a\ud800"}', ", field prompt: prompt holds a lone surrogate .+", "prompt"),
    (r'"\ud800"', ": prompt holds a lone surrogate .+", "prompt"),
    (json.dumps("x" * 1001), ": prompt has 1001 characters .+; shorten it by 1", "prompt"),
    ('{"prompt": "a", "seed": "12345"}', f", field seed: seed is '12345'; {SEED}", "seed"),
    ('{"prompt": "a", "seeds": 12345.0}', f", field seeds: seed is 12345.0; {SEED}", "seed"),
    ('{"prompt": "a", "seed": true}', f", field seed: seed is True; {SEED}", "seed"),
    ('{"prompt": "a", "seed": 1e999}', f", field seed: seed is inf; {SEED}", "seed"),
    ('{"prompt": "a", "seed": %s}' % ("1" * 4000), f", field seed: seed is 1+…; {SEED}", "seed"),
    ('{"prompt": "a", "duration": 5}', ", field duration: duration is 5; .+", "duration"),
    (
        '{"prompt": "a", "enableTranslation": "no"}',
        ", field enableTranslation: enable_translation is 'no'; give True or False",
        "enable_translation",
    ),
    (
        f'{{"prompt": "a", "imageUrls": "{A}"}}',
        f", field imageUrls: image_urls is '{A}'; give a list of URLs, or of paths of images",
        "image_urls",
    ),
    ('{"prompt": "a", "image_urls": [7]}', ", field image_urls: image_urls is 7; .+", "image_urls"),
    ('{"prompt": "a", "extra": []}', ", field extra: extra is <class 'list'>; .+", "extra"),
    ('{"prompt": "a", "extra": {"b": 1e999}}', ", field extra: extra is not JSON .+", "extra"),
    ('{"prompt": "a", "key": ""}', f", field key: key is ''; {KEY}", "key"),
    ('{"prompt": "a", "key": "  "}', f", field key: key is '  '; {KEY}", "key"),
    ('{"prompt": "a", "key": 7}', f", field key: key is 7; {KEY}", "key"),
    (r'{"prompt": "a", "key": "b\n"}', rf", field key: key is 'b\\n'; {KEY}", "key"),
    (r'{"prompt": "a", "key": "\ud800"}', rf", field key: key is '\\ud800'; {KEY}", "key"),
    ('{"prompt": "a", "key": "%s"}' % ("k" * 201), rf", field key: key is 'k+\.+k+'; {KEY}", "key"),
    ('{"prompt": "a", "key": %s}' % ("[" * 800 + "]" * 800), rf", field key: .+; {KEY}", "key"),
    (
        '{"prompt": "a", "aspect": "16:9"}',
        ": 'aspect' is not a field of a request; did you mean aspect_ratio?",
        "aspect",
    ),
    (r'{"\ud800\n": 1}', r": '\\ud800\\n' is not a field of a request; known are .+", "\ud800\n"),
    (
        '{"prompt": "a", "seed": 12345, "seeds": 12345}',
        ": 'seeds' gives seed a second time; keep one of them",
        "seed",
    ),
    (
        '{"prompt": "a", "generation_type": "REFERENCE_2_VIDEO"}',
        ", field generation_type: image_urls holds 0 and REFERENCE_2_VIDEO takes 1 to 3; .+",
        "image_urls",
    ),
    (
        f'{{"prompt": "a", "generation_type": "TEXT_2_VIDEO", "image_urls": ["{A}"]}}',
        ", field image_urls: image_urls holds 1 and TEXT_2_VIDEO takes none; .+",
        "image_urls",
    ),
]


@pytest.mark.parametrize(
    ("line", "message", "field"), BAD_JSON, ids=[line[:40] for line, _, _ in BAD_JSON]
)
def test_a_json_line_that_is_no_request_says_why(line: str, message: str, field: str) -> None:
    before, row, after = rows_of("a.jsonl", f'"a"\n{line}\n"b"'.encode())
    assert before.error is after.error is row.request is row.key is None
    assert isinstance(row.error, InvalidRequestError)
    assert re.fullmatch(f"a.jsonl, line 2{message.replace('?', '[?]')}", str(row.error))
    assert str(row.error).isprintable()
    assert len(str(row.error)) < 400
    assert row.error.field == field


# --- CSV


def test_every_field_can_be_a_column() -> None:
    cells = {
        **FULL,
        "prompt": "a",
        "key": "k",
        "image_urls": f"{A} {B}",
        "enable_translation": "no",
        "extend_to": "it sails | it sinks",
        "extra": json.dumps(FULL["extra"]),
    }
    assert {*FULL} == {*RequestFields.__annotations__}
    text = io.StringIO()
    writer = csv.DictWriter(text, [*cells])
    writer.writeheader()
    writer.writerow(cells)
    (row,) = rows_of("a.csv", text.getvalue().encode())
    assert row.error is None
    assert row.fields == {"prompt": "a", "key": "k", **FULL}
    assert row.key == "k"
    assert row.request == VideoRequest("a", **FULL)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("aspectRatio", "aspect_ratio"),
        ("aspect-ratio", "aspect_ratio"),
        ("Aspect Ratio", "aspect_ratio"),
        ("aspect\nratio", "aspect_ratio"),
        ("imageUrls", "image_urls"),
        ("callBackUrl", "callback_url"),
        ("callbackUrl", "callback_url"),
        ("generationType", "generation_type"),
        ("enableTranslation", "enable_translation"),
        ("seeds", "seed"),
        (" SEED ", "seed"),
        ("Key", "key"),
    ],
)
def test_the_names_of_the_service_and_of_options_are_taken(column: str, field: str) -> None:
    assert field in {"key", *FULL}
    bad = "\x07x"  # no field takes it
    (row,) = rows_of("a.csv", f'prompt,"{column}"\na,{bad}'.encode())
    assert row.error is not None
    assert row.error.field == field
    assert f"column {' '.join(column.split())}: {field} is " in str(row.error)
    (row,) = rows_of("a.jsonl", json.dumps({"prompt": "a", column: bad}).encode())
    assert row.error is not None
    assert row.error.field == field
    assert f"field {' '.join(column.split())}: {field} is " in str(row.error)


CELLS = [
    ("seed", "12345", 12_345),
    ("seed", " 12345 ", 12_345),
    ("seed", "", None),
    ("duration", "8", 8),
    ("enable_translation", "TRUE", True),
    ("enable_translation", "Yes", True),
    ("enable_translation", "1", True),
    ("enable_translation", "false", False),
    ("enable_translation", "nO", False),
    ("enable_translation", "0", False),
    ("enable_translation", " ", None),
    ("image_urls", A, [A]),
    ("image_urls", f"{A} {B}", [A, B]),
    ("image_urls", f"{A}\r\n\t{B}\n", [A, B]),
    ("image_urls", f"{A}|{B}", [A, B]),
    ("image_urls", f"{A} | {B} |", [A, B]),
    ("image_urls", f"{A}, {B}", [A, B]),
    ("image_urls", f"{A}?a=1,2", [f"{A}?a=1,2"]),
    ("image_urls", json.dumps([A, B]), [A, B]),
    ("image_urls", "[]", []),
    ("image_urls", "a.png", ["a.png"]),
    ("image_urls", f"my first frame.png, {A}", ["my first frame.png", A]),
    ("image_urls", "a, b.JPG  c.webp", ["a, b.JPG", "c.webp"]),
    ("image_urls", "one.png two.png | three.jpeg", ["one.png", "two.png", "three.jpeg"]),
    ("image_urls", "/x/y.png|../z.webp", ["/x/y.png", "../z.webp"]),
    ("extend_to", "30", 30),
    ("extend_to", "22.5", 22.5),
    ("extend_to", "it sails | it sinks", ["it sails", "it sinks"]),
    ("extend_to", '["it sails"]', ["it sails"]),
    ("extend_to", '["a | b", "c"]', ["a | b", "c"]),
    ("extra", '{"a": [1, null]}', {"a": [1, None]}),
    ("watermark", " # a, b ", "# a, b"),
    ("key", "007", "007"),
]


@pytest.mark.parametrize(("column", "cell", "value"), CELLS)
def test_a_cell_is_text_and_becomes_a_value(column: str, cell: str, value: object) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", column], ["a", cell]])
    (row,) = rows_of("a.csv", text.getvalue().encode())
    assert row.error is None
    assert row.fields == {"prompt": "a", **({} if value is None else {column: value})}


BAD_CELLS = [
    ("aspect_ratio", "16x9", "aspect_ratio is '16x9'; choose one of '16:9', '9:16', 'Auto'"),
    ("seed", "12345.0", f"seed is '12345.0'; {SEED}"),
    ("seed", "12_345", f"seed is '12_345'; {SEED}"),
    ("seed", "١٢٣٤٥", f"seed is '١٢٣٤٥'; {SEED}"),
    ("seed", "1" * 5000, f"seed is '{'1' * 78}…; {SEED}"),
    ("seed", "-5", f"seed is -5; {SEED}"),
    ("duration", "six", "duration is 'six'; give 4, 6 or 8 (seconds)"),
    ("enable_translation", "ja", "enable_translation is 'ja'; give True or False"),
    (
        "image_urls",
        "a.gif",
        (
            "image_urls is 'a.gif'; give an absolute http:// or https:// URL, or the path of a"
            " .jpg, .jpeg, .png or .webp file"
        ),
    ),
    ("extend_to", "30 s", f"extend_to is '30 s'; {FILM}"),
    ("extend_to", "it sails", f"extend_to is 'it sails'; {FILM}"),
    ("extend_to", "-1", f"extend_to is -1; {FILM}"),
    ("extend_to", "0", f"extend_to is 0; {FILM}"),
    ("extend_to", "[]", f"extend_to is []; {FILM}"),
    (
        "extend_to",
        '["a" 5]',
        (
            "extend_to is not JSON at character 6 (Expecting ',' delimiter); give a JSON array of"
            " prompts"
        ),
    ),
    (
        "image_urls",
        '["a"',
        (
            "image_urls is not JSON at character 5 (Expecting ',' delimiter); give a JSON array of"
            " URLs or paths"
        ),
    ),
    ("extra", "a=1", "extra is not JSON at character 1 (Expecting value); give a JSON object"),
    ("extra", "[1]", "extra is <class 'list'>; give a mapping of request fields"),
    (
        "extra",
        "[" * 100_000,
        "extra is not JSON that can be read (it is nested too deeply); give a JSON object",
    ),
    ("key", "a\nb", rf"key is 'a\nb'; {KEY}"),
]


@pytest.mark.parametrize(
    ("column", "cell", "message"), BAD_CELLS, ids=[f"{c}-{cell[:20]}" for c, cell, _ in BAD_CELLS]
)
def test_a_bad_cell_spoils_its_row(column: str, cell: str, message: str) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", column], ["a", ""], ["b", cell], ["c", ""]])
    before, row, after = rows_of("a.csv", text.getvalue().encode())
    assert before.error is after.error is None
    assert row.error is not None
    assert str(row.error) == f"a.csv, line 3, column {column}: {message}"
    assert row.error.field == column
    assert row.place == "a.csv, line 3"


SHEETS = [
    pytest.param(b"prompt\na\nb", ["2: a", "3: b"], id="plain"),
    pytest.param(BOM + b"prompt\r\na\r\n", ["2: a"], id="bom-crlf"),
    pytest.param(BOM + b'"prompt","seed"\r\n"a",\r\n', ["2: a"], id="bom-before-a-quote"),
    pytest.param(b"prompt\ra\rb\r", ["2: a", "3: b"], id="lone-cr"),
    pytest.param(b'\n\nprompt\n\n"a\nb"\n\nc', ["5: a\nb", "8: c"], id="the-line-where-it-starts"),
    pytest.param(b'prompt\n"a\r\nb\rc"\nd', ["2: a\r\nb\rc", "5: d"], id="line-ends-in-a-cell"),
    pytest.param(b'prompt\n"say ""a"", b"\n', ['2: say "a", b'], id="quotes"),
    pytest.param(b"seed,prompt\n12345,a\n", ["2: a"], id="order"),
    pytest.param(b'seed, prompt\n, "a, b"\n', ["2: a, b"], id="blank-before-a-quote"),
    pytest.param(b"prompt,seed\na\n", ["2: a"], id="fewer-cells"),
    pytest.param(b"prompt,seed\n,\n , \na,\n", ["4: a"], id="rows-of-nothing"),
    pytest.param(b"prompt\n#a\n", ["2: #a"], id="no-comments"),
    pytest.param('prompt\n"a\u2028\x85b"\n'.encode(), ["2: a\u2028\x85b"], id="separators"),
    pytest.param(
        b"prompt,seed\na,b,c\nd",
        ["2: 3 cells for 2 columns; put a text with commas in quotation marks", "3: d"],
        id="more-cells",
    ),
    pytest.param(
        b"prompt,seed\n,12345\nd",
        ["2, column prompt: prompt is empty; describe the video", "3: d"],
        id="no-prompt",
    ),
    pytest.param(
        b'prompt\n"a\n\xe9"\nd',
        ["3, byte 1: 0xe9 is not UTF-8; save the file as UTF-8 text", "4: d"],
        id="latin-1-inside-a-cell",
    ),
    pytest.param(
        b'prompt\n"a\xe9\n\0\nb"\nd',
        ["2, byte 3: 0xe9 is not UTF-8; save the file as UTF-8 text", "5: d"],
        id="latin-1-in-the-first-line-of-a-cell",
    ),
    pytest.param(
        b"prompt\na\0\nd",
        ["2, byte 2: NUL is not text; save the file as UTF-8 text", "3: d"],
        id="nul",
    ),
    pytest.param(b"prompt,seed\n", [], id="only-a-header"),
    pytest.param(b"", [], id="empty"),
    pytest.param(b"\n , \n", [], id="blank"),
]


@pytest.mark.parametrize(("data", "expected"), SHEETS)
def test_a_row_of_a_sheet_is_a_request(data: bytes, expected: list[str]) -> None:
    assert told("a.csv", data) == [f"a.csv, line {line}" for line in expected]


def test_a_row_that_is_spoiled_further_down_is_called_by_its_first_line() -> None:
    (row,) = rows_of("a.csv", b'prompt\n"a\n\n\xe9"')
    assert row.place == "a.csv, line 2"
    assert str(row.error).startswith("a.csv, line 4, byte 1")


NAMES_COLUMNS = "the first row names the columns: "
BAD_SHEETS = [
    (b"promt\na", f", line 1: column 'promt' is unknown; {NAMES_COLUMNS}did you mean prompt?"),
    (
        b"\nprompt,aspect\n",
        f", line 2: column 'aspect' is unknown; {NAMES_COLUMNS}did you mean asp",
    ),
    (b"A boat at sea\nb", f", line 1: column 'A boat at sea' is unknown; {NAMES_COLUMNS}known are"),
    (b"prompt;seed\na;1", ", line 1: column 'prompt;seed' is unknown; put commas between"),
    (b"prompt\tseed\na\t1", r", line 1: column 'prompt\tseed' is unknown; put commas between"),
    (b"prompt,seed,\na", ", line 1: column 3 has no name; name it, or remove it"),
    (b"prompt,seed,seed\na", ", line 1: column 'seed' gives seed a second time; keep one of them"),
    (b"prompt,seed,Seeds\na", ", line 1: column 'Seeds' gives seed a second time; keep one"),
    (b"seed\n12345", ", line 1: no column is named prompt; name one so"),
    (b"prompt,\xe9\na", ", line 1, byte 8: 0xe9 is not UTF-8; save"),
    (b"prompt,\0\na", ", line 1, byte 8: NUL is not text; save"),
    (b'prompt\na\n"b\nc\n', ": the row that starts on line 3 is not CSV (unexpected end of data)"),
    (
        b'prompt\n"a "b" c"\n',
        ": the row that starts on line 2 is not CSV (',' expected after '\"')",
    ),
    (b'prompt\na\n"' + b"b\n" * 100_000, ": the row that starts on line 3 is not CSV (longer than"),
    (b'prompt\n"' + b'","\n' * 100_000, ": the row that starts on line 2 is not CSV (longer than"),
    (b"prompt\n" + b"," * 10**6, ": the row that starts on line 2 is not CSV (longer than"),
    (b"a" * 10**6, ": the row that starts on line 1 is not CSV (longer than 131072 characters)"),
    (b'"prompt\n' + b"\r" * 10**6, ": the row that starts on line 1 is not CSV ("),
]


@pytest.mark.parametrize(
    ("data", "message"), BAD_SHEETS, ids=[ascii(data[:30]) for data, _ in BAD_SHEETS]
)
def test_a_sheet_whose_columns_or_rows_are_a_guess_is_refused(data: bytes, message: str) -> None:
    assert refusal("a.csv", data).startswith(f"a.csv{message}")


def test_columns_are_refused_before_any_row() -> None:
    Path("a.csv").write_bytes(b"prompt,sed\na")
    with opened("a.csv") as source:
        rows = source.rows({})
        with pytest.raises(ConfigurationError, match="did you mean seed"):
            next(rows)


# --- others have written it

prompts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
        str.strip
    ),
    min_size=1,
)


# With the line end \n a minimum of quotes leaves a lone \r bare: two lines to any reader.
quotes = st.sampled_from(
    [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]
)


@given(prompts, quotes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_csv_writes_is_read(texts: list[str], style: tuple[str, Any]) -> None:
    end, quoting = style
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=quoting)
    writer.writerows([["seed", "prompt"], *(["12345", text] for text in texts)])
    rows = rows_of("a.csv", out.getvalue().encode())
    assert [row.fields["prompt"] for row in rows] == [text.strip() for text in texts]


@given(prompts, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_json_writes_is_read(texts: list[str], is_ascii: bool) -> None:
    lines = [json.dumps({"prompt": text}, ensure_ascii=is_ascii) for text in texts]
    rows = rows_of("a.jsonl", "\n".join(lines).encode())
    assert [row.fields["prompt"] for row in rows] == texts


scraps = st.lists(
    st.one_of(
        st.binary(max_size=3),
        st.sampled_from(
            [
                *(b'"', b",", b"\n", b"\r", b"\0", b"\xff", BOM, b"{", b"}", b"[", b"]", b":"),
                *(b" ", b"\\ud800", b"NaN", b"1e999", b"null", b'"prompt"', b'"seed":', b'"key":'),
                *(b'{"prompt":"a"', b'"extra":', b"12345", A.encode(), b"|", b"a boat"),
            ]
        ),
    ),
    max_size=30,
).map(b"".join)
headers = st.sampled_from(
    [b"", b"prompt\n", b"prompt,seed,key,image_urls,extra\n", BOM + b"prompt"]
)


@given(st.sampled_from([*Format]), headers, scraps)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_rows_or_an_error_that_names_the_file(
    form: Format, header: bytes, data: bytes
) -> None:
    errors: list[VeoError] = []
    try:
        for row in rows_of("list", header + data, form, aspect_ratio="9:16"):
            assert (row.error is None) is (row.request is not None)
            assert re.fullmatch(r"list, line \d+", row.place)
            errors += [row.error] if row.error else []
            if row.request is not None:
                assert row.request.prompt == row.fields["prompt"]
    except ConfigurationError as error:
        errors.append(error)
    for error in errors:
        assert str(error).startswith("list")
        assert str(error).isprintable()
        assert ";" in str(error)


# --- defaults


def test_a_row_wins_over_the_defaults() -> None:
    data = b"prompt,seed,image_urls\na,54321,\nb,,%s\n" % B.encode()
    defaults = {"seed": 12_345, "image_urls": iter([A]), "aspect_ratio": None, "model": "veo3"}
    first, second = rows_of("a.csv", data, **defaults)
    assert first.fields == {"prompt": "a", "seed": 54_321, "image_urls": (A,), "model": "veo3"}
    assert first.request == VideoRequest("a", seed=54_321, image_urls=[A], model="veo3")
    assert second.request == VideoRequest("b", seed=12_345, image_urls=[B], model="veo3")


@pytest.mark.parametrize(
    ("row", "defaults", "where"),
    [
        ({}, {"generation_type": "REFERENCE_2_VIDEO"}, ", with option --generation-type"),
        (
            {"image_urls": [A]},
            {"generation_type": "TEXT_2_VIDEO"},
            ", with option --generation-type",
        ),
        ({"generation_type": "TEXT_2_VIDEO"}, {"image_urls": [A]}, ", with option --image"),
        (
            {"generation_type": "REFERENCE_2_VIDEO"},
            {"seed": 12_345, "image_urls": ()},
            ", field generation_type",
        ),
        ({"seed": 5}, {"generation_type": "TEXT_2_VIDEO", "seed": 12_345}, ", field seed"),
        ({"seed": 5}, {"generation_type": "REFERENCE_2_VIDEO"}, ", field seed"),
    ],
)
def test_an_error_says_whether_a_row_or_an_option_is_at_fault(
    row: dict[str, Any], defaults: dict[str, Any], where: str
) -> None:
    line = json.dumps({"prompt": "a", **row}).encode()
    (found,) = rows_of("a.jsonl", line, **defaults)
    with pytest.raises(InvalidRequestError) as caught:
        VideoRequest("a", **{**defaults, **row})
    assert found.error is not None
    assert str(found.error) == f"a.jsonl, line 1{where}: {caught.value}"
    assert found.error.field == caught.value.field


@pytest.mark.parametrize(
    ("defaults", "field"),
    [
        ({"seed": 5}, "seed"),
        ({"image_urls": ["a.gif"]}, "image_urls"),
        ({"extend_to": -1.0}, "extend_to"),
        ({"generation_type": "MAGIC"}, "generation_type"),
        ({"sed": 5}, "sed"),
    ],
)
def test_a_default_that_no_row_can_mend_is_refused_alone(
    defaults: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rows_of("a.txt", b"a\nb\n", **defaults)
    assert caught.value.field == field
    with pytest.raises(InvalidRequestError) as expected:
        VideoRequest("a", **defaults)
    assert str(caught.value) == str(expected.value)


# --- summaries


def summarised(name: str, data: bytes, **more: Any) -> Summary:
    Path(name).write_bytes(data)
    with opened(name) as source:
        return summary_of(source, {}, **more)


def test_a_summary_counts_and_hands_over_the_good_rows() -> None:
    lines = [b"boat %d" % number if number % 3 else b"\xff" for number in range(90)]
    good: list[Row] = []
    summary = summarised("a.txt", b"\n".join(lines), on_row=good.append)
    assert (summary.good, summary.bad) == (60, 30)
    assert [str(error).partition(",")[2].split(",")[0] for error in summary.errors] == [
        f" line {number}" for number in range(1, 61, 3)
    ]
    assert [row.request for row in good] == [
        VideoRequest(line.decode()) for line in lines if line != b"\xff"
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
@pytest.mark.parametrize("data", [b"", BOM, b"\n\r\n  \r", b" "])
def test_an_input_without_a_row_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}: there is no prompt in it; write some"):
        summarised(name, data)


def test_a_header_is_no_row() -> None:
    with pytest.raises(ConfigurationError, match=r"write some below its header, one a row"):
        summarised("a.csv", b"prompt,seed\r\n,\r\n")


def test_bad_rows_alone_are_rows() -> None:
    summary = summarised("a.txt", b"\xff\n\xfe\n")
    assert (summary.good, summary.bad, len(summary.errors)) == (0, 2, 2)


# --- memory


@pytest.fixture
def _traced() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_of(name: str) -> int:
    with opened(name) as source:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        summary_of(source, {"aspect_ratio": "9:16"})
        return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize(
    ("name", "first", "line"),
    [
        ("a.txt", "", "a boat, number {}\n"),
        ("a.csv", "prompt,seed\n", '"a boat,\nnumber {}",12345\n'),
        ("a.jsonl", "", '{{"prompt": "boat {}", "seed": 12345}}\n'),
        ("bad.jsonl", "", '{{"prompt": "boat {}", "seed": 5}}\n'),
        ("bad.txt", "", "boat \0 {}\n"),
    ],
)
def test_memory_does_not_grow_with_the_rows(name: str, first: str, line: str) -> None:
    with Path(name).open("w") as file:
        file.write(first)
        file.writelines(line.format(number) for number in range(40_000))
    # Twice, since what another test left behind may make objects meanwhile.
    assert min(peak_of(name) for _ in range(2)) < 300_000


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_line_without_end_is_not_held(name: str) -> None:
    with Path(name).open("wb") as file:
        file.write(b"prompt\n")
        file.writelines(b"x" * 1_000_000 for _ in range(50))
    with opened(name) as source:
        tracemalloc.reset_peak()
        if name == "a.csv":
            with pytest.raises(ConfigurationError, match="line 2 is not CSV"):
                [*source.rows({})]
        else:
            *_, last = source.rows({})
            assert str(last.error) == (
                f"{name}, line 2: more than 131072 characters; break it into lines, one for each"
                " video"
            )
    assert tracemalloc.get_traced_memory()[1] < 3_000_000


# --- where it comes from


UNKNOWN_ENDING = (
    "its ending does not tell its format; name it .txt, .csv, .jsonl, .ndjson, or give"
    " --format txt|csv|jsonl"
)


def test_an_input_can_be_read_again_and_by_two_at_once() -> None:
    text = "".join(f"boat {number}\n" for number in range(5000))
    Path("a.txt").write_text(text)
    with opened("a.txt") as source:
        assert source.name == "a.txt"
        pairs = zip(source.rows({}), source.rows({}), strict=True)
        assert all(one == other for one, other in pairs)
        abandoned = source.rows({})
        next(abandoned)
        assert [row.fields["prompt"] for row in source.rows({})] == text.splitlines()
        assert next(abandoned).fields["prompt"] == "boat 1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.txt", "No such file or directory; give a file that can be read"),
        ("folder.txt", "Is a directory; give a file that can be read"),
        ("folder.txt/", "Is a directory; give a file that can be read"),
        ("file/a.txt", "Not a directory; give a file that can be read"),
        ("circle.txt", "Too many levels of symbolic links; give a file that can be read"),
        ("x" * 5000, "File name too long; give a file that can be read"),
        ("nul\0.txt", "embedded null byte; give a file that can be read"),
        ("file", UNKNOWN_ENDING),
        ("", "Is a directory; give a file that can be read"),
    ],
)
def test_what_cannot_be_opened_is_told(name: str, words: str) -> None:
    Path("folder.txt").mkdir()
    Path("file").touch()
    Path("circle.txt").symlink_to("circle.txt")
    with pytest.raises(ConfigurationError) as caught, opened(name):
        pass
    assert str(caught.value) == f"{name.replace(chr(0), '�')}: {words}"
    assert code_of(caught.value, is_fetching=False) is Exit.USAGE


def test_a_file_that_fails_while_it_is_read_is_told() -> None:
    unreadable = "/proc/self/mem"  # its first page never is
    if not Path(unreadable).exists():
        pytest.skip("no file is known here that opens and cannot be read")
    with (
        opened(unreadable, Format.TXT) as source,
        pytest.raises(ConfigurationError, match=r"^/proc/self/mem: .+; check the file$"),
    ):
        next(source.rows({}))


def test_the_option_wins_over_the_ending() -> None:
    assert told("a.csv", b"prompt\n") == []
    (row,) = rows_of("a.csv", b"prompt\n", Format.TXT)
    assert row.fields == {"prompt": "prompt"}
    (row,) = rows_of("a", b'"boat"', Format.JSONL)
    assert row.fields == {"prompt": "boat"}


def test_a_name_cannot_move_the_cursor() -> None:
    assert told("\x1b[2J.txt", b"\xff")[0].startswith("�[2J.txt, line 1")


def read_twice(source: Source) -> list[Any]:
    assert [*source.rows({})] == [*source.rows({})]
    return [row.fields.get("prompt") for row in source.rows({})]


def test_a_pipe_with_a_name_is_read_twice() -> None:
    os.mkfifo("pipe.txt")
    writer = threading.Thread(target=lambda: Path("pipe.txt").write_bytes(b"a\nb\n"))
    writer.start()
    with opened("pipe.txt") as source:
        assert read_twice(source) == ["a", "b"]
    writer.join()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes a file descriptor this process's stdin."""
    files: list[Any] = []

    def replace(number: int) -> None:
        files.append(os.fdopen(number, encoding="ascii"))
        monkeypatch.setattr(sys, "stdin", files[-1])

    yield replace
    for file in files:
        file.close()


@pytest.mark.parametrize(
    ("form", "data", "expected"),
    [
        (None, BOM + "船\r\nb".encode(), ["船", "b"]),
        (Format.CSV, b"seed,prompt\n,a\n", ["a"]),
        (Format.JSONL, b'"a"\n', ["a"]),
        (None, b"boat\n" * 200_000, ["boat"] * 200_000),
    ],
    ids=["text", "csv", "jsonl", "more-than-a-pipe-holds"],
)
def test_stdin_is_read_twice(stdin: Any, form: Any, data: bytes, expected: list[str]) -> None:
    end, start = os.pipe()
    stdin(end)

    def write() -> None:
        with os.fdopen(start, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with opened("-", form) as source:
        assert source.name == "stdin"
        found = [[row.fields["prompt"] for row in source.rows({})] for _ in range(2)]
    writer.join()
    assert found == [expected, expected]


@pytest.mark.timeout(30)
def test_a_terminal_is_read_until_its_end(stdin: Any) -> None:
    keyboard, terminal = os.openpty()
    stdin(terminal)
    os.write(keyboard, b"a boat\n\x04")
    with opened("-") as source:
        assert read_twice(source) == ["a boat"]
    os.close(keyboard)


def test_stdin_without_a_place_to_keep_it_is_refused(
    stdin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    end, start = os.pipe()
    os.close(start)
    stdin(end)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match=r"^stdin: it cannot be kept .+; give a file$"):
        opened("-").__enter__()


READS_STDIN = """
from veo_async.cli.inputs import opened, summary_of
with opened("-") as source:
    summary_of(source, {})
"""


@pytest.mark.parametrize(
    ("redirection", "words"),
    [
        ("<&-", "stdin: there is no prompt in it; write some, one a row"),
        ("</dev/null", "stdin: there is no prompt in it; write some, one a row"),
        ("0>written", "stdin: it cannot be kept for reading (Bad file descriptor); give a file"),
    ],
)
def test_a_stdin_that_gives_nothing_is_told(redirection: str, words: str) -> None:
    command = ["sh", "-c", f'exec "$0" -W error -c "$1" {redirection}', sys.executable, READS_STDIN]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith(f"ConfigurationError: {words}")
