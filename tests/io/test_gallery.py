"""The page of a bulk run: hostile texts stay texts, and nothing comes from elsewhere."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

import pytest

from veo_async.gallery import page
from veo_async.models import JSON

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "</SCRIPT\t><svg/onload=alert(1)>",
    "<!--<script>",
    "-->]]><b>&amp;&lt;",
    "quotes \" and ' and \\ and \\u003c",
    "line\nseparator\u2028paragraph\u2029null\0",
    "Zwei Füchse, 紙の舟, مرحبا, 🎬",
    "a name of bytes that are no text: \udcff",
    "__RUN__",
]
# What turns a text into elements or code, and what asks a network.
SINKS = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "DOMParser",
    "createContextualFragment",
    "srcdoc",
    "eval(",
    "Function(",
    "javascript:",
    "fetch(",
    "XMLHttpRequest",
    "WebSocket",
    "sendBeacon",
    "import(",
]


class Reader(HTMLParser):
    """Takes a page apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags:  # filed under the element that was opened last
            self.texts.setdefault(self.tags[-1][0], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def run_of(text: str = "A paper boat", name: str = "boat.mp4") -> dict[str, JSON]:
    item: dict[str, JSON] = {
        "index": 1,
        "key": text,
        "outcome": "failed",
        "prompt": text,
        "model": text,
        "aspect_ratio": "9:16",
        "seed": 12345,
        "resolution": None,
        "duration": 8,
        "file": None,
        "size": None,
        "sha256": None,
        "credits": 70,
        "task_id": text,
        "error": text,
        "attempts": 1,
        "started_at": 1_790_000_000.25,
        "ended_at": 1_790_000_060.5,
    }
    return {
        "title": text,
        "made_at": 1_790_000_100.0,
        "slots": 10,
        "is_running": False,
        "totals": {
            "items": 2,
            "credits_spent": 70,
            "credits_failed": 0,
            "bytes": 0,
            "seconds": 60.25,
            "slot_use": None,
        },
        "counts": {"downloaded": 1, "failed": 1},
        "items": [
            item,
            {**item, "index": 2, "outcome": "downloaded", "file": f"part 1/{name}"},
        ],
        "timeline": [
            {
                "slot": 0,
                "item": 0,
                "start": 1_790_000_000.25,
                "end": 1_790_000_060.5,
                "outcome": "failed",
            },
            {"slot": 3, "item": 1, "start": 1_790_000_000.5, "end": None, "outcome": "running"},
        ],
    }


def data_of(text: str) -> str:
    _, opening, rest = text.partition('<script type="application/json" id="run">')
    assert opening
    return rest.partition("</script>")[0]


@pytest.fixture(scope="module")
def plain() -> str:
    return page(run_of())


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_data_comes_out_of_the_page_as_it_went_in(text):
    run = run_of(text)
    assert json.loads(data_of(page(run))) == run


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_opens_no_element_and_ends_none(plain: str, text: str):
    made = page(run_of(text))
    assert not set(data_of(made)) & set("<>&\u2028\u2029")
    assert Reader(made).tags == Reader(plain).tags
    assert made.replace(data_of(made), "") == plain.replace(data_of(plain), "")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_can_be_written(text):
    assert page(run_of(text)).encode().decode() == page(run_of(text))


def test_any_mapping_will_do(plain: str):
    assert page(MappingProxyType(run_of())) == plain


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_is_refused(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        page({**run_of(), "made_at": number})


def test_the_page_names_no_other_place(plain: str):
    shell = plain.replace(data_of(plain), "")
    assert "://" not in shell
    assert not re.search(r"@import|url\((?!#)", shell)
    for tag, attributes in Reader(plain).tags:
        for name in {"src", "href", "srcset", "poster", "action", "data"} & attributes.keys():
            assert (attributes[name] or "").startswith("#"), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag


@pytest.mark.parametrize("sink", SINKS)
def test_the_script_has_no_way_to_make_code_of_texts(plain: str, sink: str):
    assert sink not in plain


def test_the_browser_is_told_to_run_this_style_and_this_script_only(plain: str):
    read = Reader(plain)
    policies = [
        meta["content"] or ""
        for meta in read.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    rules = [rule.split() for rule in policies[0].split(";")]
    assert {name: sources for name, *sources in rules} == {
        "default-src": ["'none'"],
        "style-src": [hash_of(read.texts["style"][0])],
        "script-src": [hash_of(read.texts["script"][0])],
        "media-src": ["'self'", "file:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    tags = [tag for tag, _ in read.tags]
    assert (tags.count("style"), tags.count("script")) == (1, 2)  # the second one holds the data
    first_content = min(tags.index("style"), tags.index("script"))
    assert tags.index("meta") < first_content


def test_what_the_script_looks_for_is_there(plain: str):
    read = Reader(plain)
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    script = "".join(read.texts["script"])
    sought = set(re.findall(r'byId\("([^"]+)"\)', script))
    sought |= set(re.findall(r'icon: "([^"]+)"', script))
    assert len(sought) > 20
    assert sought <= set(ids)
    referred = {(use["href"] or "").removeprefix("#") for use in read.named("use")}
    labelled = {label["for"] for label in read.named("label")}
    assert referred | labelled <= set(ids)


def test_a_reader_without_javascript_is_told(plain: str):
    tags = [tag for tag, _ in Reader(plain).tags]
    assert tags[tags.index("noscript") + 1] == "p"


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is missing; install the apt package chromium")
    return path


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[2], HOSTILE[3], HOSTILE[6]])
def test_a_browser_shows_the_texts_as_texts(chromium: str, tmp_path: Path, text: str):
    name = "100% a#b?c &amp; é.mp4"
    (tmp_path / "run.html").write_text(page(run_of(text, name)), encoding="utf-8")
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-sync"),
            *("--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1280,2000", "--virtual-time-budget=3000", "--dump-dom"),
            (tmp_path / "run.html").as_uri(),
        ],
        capture_output=True,
        timeout=200,
        check=True,
    )
    shown = Reader(done.stdout.decode())
    cards = [li for li in shown.named("li") if "card" in (li.get("class") or "").split()]
    assert len(cards) == 2
    assert text in shown.texts["title"]
    assert text in shown.texts["h1"]
    assert shown.texts["p"].count(text) == 4  # a prompt and an error each
    assert not shown.named("img")
    assert len(shown.named("script")) == 2
    addresses = [link["href"] or "" for link in shown.named("a")]
    assert f"./part 1/{name}" in [unquote(urlsplit(link).path) for link in addresses]
