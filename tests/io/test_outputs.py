"""The files of a batch: names out of anything, descriptions, and what is whole."""

import errno
import hashlib
import json
import re
import string
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.fileserver import movie
from veo_async import ConfigurationError, VideoRequest
from veo_async.jobs import Attempt, Job, JobState, request_text
from veo_async.outputs import (
    Naming,
    WholeFile,
    naming,
    side_path,
    slug,
    whole_file,
    write_side,
)

FILM = movie(3000)
LETTERS = frozenset(string.ascii_letters + string.digits + "._-")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def name_of(prompt: str, template: str | None = None, index: int = 7, key: str = "k") -> str:
    return naming(template).name(index, key, VideoRequest(prompt, seed=12345))


# --- names


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A paper boat drifts down a rain gutter", "a-paper-boat-drifts-down-a-rain-gutter"),
        ("  Two   foxes\n\tplay  ", "two-foxes-play"),
        ("Zwei Füchse, Straße, Ærø", "zwei-fuchse-strae-r"),
        ("ﬁlm ① ½", "film-1-12"),
        ("\uff26ull\u3000width\uff0fslash", "full-width-slash"),
        ("紙の舟が雨の溝を流れる", ""),
        ("🎬🚣‍♀️👩‍👩‍👧‍👦", ""),
        ("🎬 boat 🚣", "boat"),
        ("مرحبا بالعالم", ""),
        ("\u202eexe.gpj\u202c", "exe-gpj"),
        ("a\u0300\u0301\u0302 tower of marks", "a-tower-of-marks"),
        ("../../etc/passwd", "etc-passwd"),
        ("..\\..\\windows\\system32", "windows-system32"),
        ("/", ""),
        ("C:\\con", "c-con"),
        ("CON", "con"),
        ("...hidden", "hidden"),
        ("-rf --no-preserve-root", "rf-no-preserve-root"),
        ("$(reboot) `reboot` ; | & > <", "reboot-reboot"),
        ("%s %n {seed} {0}", "s-n-seed-0"),
        ("a\x00b\x1b[31mc", "a-b-31mc"),
        ("x" * 1000, "x" * 48),
        ("word " * 200, "word-word-word-word-word-word-word-word-word"),
        ("x" * 47 + " y", "x" * 47),
        ("x" * 46 + " y", "x" * 46 + "-y"),
        ("x" * 48 + " y", "x" * 48),
        ("\ufdfa" * 1000, ""),
    ],
)
def test_a_prompt_becomes_words_that_every_file_system_takes(prompt: str, words: str) -> None:
    assert slug(prompt) == words
    start = f"0007-{words}-" if words else "0007-"
    assert name_of(prompt) == f"{start}12345.mp4"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (None, "0007-a-boat-12345.mp4"),
        ("{index}", "7.mp4"),
        ("{index:06}", "000007.mp4"),
        ("{slug}", "a-boat.mp4"),
        ("{key}", "a-key-1.mp4"),
        ("{model}-{seed}", "veo3_fast-12345.mp4"),
        ("{slug}.mp4", "a-boat.mp4"),
        ("{slug:.3}", "a-b.mp4"),
        ("{slug!r}", "a-boat.mp4"),
        ("take", "take-0007-a-boat-12345.mp4"),
        ("", "0007-a-boat-12345.mp4"),
        ("Zug um Zug", "Zug-um-Zug-0007-a-boat-12345.mp4"),
        ("{{x}}", "x-0007-a-boat-12345.mp4"),
        ("sub/{slug}", "sub-a-boat.mp4"),
        ("../{slug}", "a-boat.mp4"),
        ("/etc/{slug}", "etc-a-boat.mp4"),
        ("a\\b{slug}", "a-ba-boat.mp4"),
        ("C:{slug}", "C-a-boat.mp4"),
        ("-{slug}", "a-boat.mp4"),
        (".{slug}", "a-boat.mp4"),
        ("{slug}...", "a-boat.mp4"),
        ("{slug}.json", "a-boat.json.mp4"),
        ("Con{seed:.0}", "0007-Con.mp4"),
        ("nul.{slug}", "0007-nul.a-boat.mp4"),
        ("lpt9{seed:.0}.x", "0007-lpt9.x.mp4"),
        ("console{seed:.0}", "console.mp4"),
        ("舟{seed:.0}", "0007.mp4"),
        ("{slug:_>200}", "_" * 150 + ".mp4"),
        ("a" * 149 + "-{seed}", "a" * 149 + ".mp4"),
        ("{slug:{seed}}", "a-boat.mp4"),
    ],
)
def test_a_template_names_files(template: str | None, name: str) -> None:
    assert name_of("A boat", template, key="a key/1") == name


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "{index",
        "{}",
        "{0}",
        "{prompt}",
        "{Slug}",
        "{slug.__class__}",
        "{slug[0]}",
        "{index.real}",
        "{index:x}{nothing}",
        "{index:{width}}",
        "{index:q}",
        "{seed:d}",
        "{slug:04d}",
        "{slug!x}",
        "{index:99999999999999999999}",
        "{index!}",
        5,
        b"{slug}",
    ],
)
def test_a_template_that_cannot_name_files_is_refused_before_anything_is_paid(
    template: str,
) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot name files .*\{index:04\}-\{slug\}$"):
        naming(template)


def test_a_seed_that_is_not_given_leaves_no_gap() -> None:
    name = naming(None).name(1, "k", VideoRequest("A boat"))
    assert name == "0001-a-boat.mp4"
    assert naming("{seed}").name(1, "k", VideoRequest("A boat")) == "0001.mp4"


templates = st.one_of(
    st.none(),
    st.text(max_size=200).filter(lambda text: "{" not in text and "}" not in text),
    st.lists(
        st.sampled_from(["{index}", "{slug}", "{seed}", "{key}", "{model}", "/", "..", "-", "."])
    ).map("".join),
)


@given(
    prompt=st.text(min_size=1, max_size=1000).filter(str.strip),
    template=templates,
    index=st.integers(1, 10**7),
    key=st.text(min_size=1, max_size=200),
    seed=st.none() | st.integers(10_000, 99_999),
)
def test_any_prompt_gets_a_name_that_stays_in_the_folder(
    prompt: str, template: str | None, index: int, key: str, seed: int | None
) -> None:
    request = VideoRequest(prompt, seed=seed)
    name = naming(template).name(index, key, request)
    assert {*name} <= LETTERS
    assert len(name.encode()) <= 160
    assert name.endswith(".mp4")
    assert name[0] not in ".-"
    assert name != ".mp4"
    assert Path("folder", name).parent == Path("folder")
    assert not re.match(r"(?i)(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|$)", name)
    # The description stands beside it, under a name that is as safe, and is another one.
    side = side_path(Path("folder", name))
    assert side.parent == Path("folder")
    assert side.name == name.removesuffix(".mp4") + ".json"
    assert naming(template).name(index, key, request) == name


@given(st.text(max_size=1000))
def test_words_are_words(prompt: str) -> None:
    words = slug(prompt)
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", words)
    assert len(words) <= 48


def test_the_usual_name_is_the_value_of_no_template() -> None:
    assert naming(None) == Naming()


# --- descriptions

JOB = Job(
    key="k1",
    position=1,
    request_text=request_text(VideoRequest('紙の舟 🎬 "quotes"', seed=12345)),
    state=JobState.DOWNLOADING,
    file="v.mp4",
    seed=54321,
    attempts=(
        Attempt(number=1, token="a", credits=60, charged=0, intent_at=1.0, end="failed"),
        Attempt(
            number=2,
            token="b",
            task_id="task-2",
            credits=60,
            charged=60,
            intent_at=1_700_000_000.0,
            submitted_at=1_700_000_001.0,
            ended_at=1_700_000_100.5,
            end="success",
        ),
    ),
)


def test_a_description_tells_what_was_made_and_what_it_cost(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    write_side(video, JOB, size=3, sha256="abc", now=1_700_000_200.0)
    assert names(tmp_path) == ["v.json"]
    text = (tmp_path / "v.json").read_text(encoding="utf-8")
    assert "紙の舟 🎬" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {
        "key": "k1",
        "request": json.loads(JOB.request_text or ""),
        "task_id": "task-2",
        "task_ids": ["task-2"],
        "seed": 54321,
        "file": "v.mp4",
        "size": 3,
        "sha256": "abc",
        "credits": 60,
        "attempts": 2,
        "submitted_at": "2023-11-14T22:13:21+00:00",
        "generated_at": "2023-11-14T22:15:00.500000+00:00",
        "stored_at": "2023-11-14T22:16:40+00:00",
    }


def test_a_description_of_a_job_of_which_little_is_known(tmp_path: Path) -> None:
    write_side(tmp_path / "v.mp4", Job(key="k", position=1), size=0, sha256="", now=0.0)
    told = json.loads((tmp_path / "v.json").read_text())
    assert told["request"] is None
    assert told["task_id"] is None
    assert told["submitted_at"] is None
    assert told["generated_at"] is None


def test_a_description_replaces_the_old_one_and_what_a_crash_left_of_it(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("{}")
    (tmp_path / "v.json.part").write_text('{"key": "ha')
    write_side(tmp_path / "v.mp4", JOB, size=3, sha256="abc", now=0.0)
    assert names(tmp_path) == ["v.json"]
    assert json.loads((tmp_path / "v.json").read_text())["size"] == 3


def test_a_description_is_never_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    (tmp_path / "v.json.part").symlink_to(elsewhere)
    (tmp_path / "v.json").symlink_to(elsewhere)
    write_side(tmp_path / "v.mp4", JOB, size=3, sha256="abc", now=0.0)
    assert elsewhere.read_text() == "precious"
    assert not (tmp_path / "v.json").is_symlink()


def test_a_description_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("old")
    (tmp_path / "v.json.part").mkdir()  # cannot be unlinked as a file
    with pytest.raises(OSError, match=r"v\.json\.part"):
        write_side(tmp_path / "v.mp4", JOB, size=3, sha256="abc", now=0.0)
    assert (tmp_path / "v.json").read_text() == "old"


def test_a_full_disk_leaves_no_half_of_a_description(tmp_path: Path) -> None:
    """The system's own limit of a file's size stands in for the disk."""
    script = f"""
import resource, signal
from pathlib import Path
from veo_async.jobs import Job, request_text
from veo_async.request import VideoRequest
from veo_async.outputs import write_side
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
job = Job(key="k", position=1, request_text=request_text(VideoRequest("x" * 1000)))
try:
    write_side(Path({str(tmp_path)!r}) / "v.mp4", job, size=3, sha256="abc", now=0.0)
except OSError as error:
    print(error.errno)
"""
    (tmp_path / "v.json").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"{errno.EFBIG}\n"
    assert names(tmp_path) == ["v.json"]
    assert (tmp_path / "v.json").read_text() == "old"


def test_a_reader_sees_the_whole_of_a_description_or_the_one_before(tmp_path: Path) -> None:
    video, seen = tmp_path / "v.mp4", set[int]()
    write_side(video, JOB, size=0, sha256="", now=0.0)
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.add(json.loads(side_path(video).read_text())["size"])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for size in range(1, 50):
            write_side(video, JOB, size=size, sha256="x" * 1000 * (size % 7), now=0.0)
    finally:
        is_over.set()
        reader.join()
    assert seen <= {*range(50)}
    assert seen


# --- whole files


def test_a_whole_file_is_measured_and_what_a_kill_left_beside_it_is_cleared(
    tmp_path: Path,
) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(FILM)
    (tmp_path / "v.mp4.part").write_bytes(FILM)
    (tmp_path / "v.mp4.part.json").write_text("{}")
    found = whole_file(video)
    assert found == WholeFile(len(FILM), hashlib.sha256(FILM).hexdigest())
    assert names(tmp_path) == ["v.mp4"]


def test_a_file_that_is_not_there_is_not_whole(tmp_path: Path) -> None:
    assert whole_file(tmp_path / "v.mp4") is None
    (tmp_path / "v.mp4").symlink_to(tmp_path / "nowhere")
    assert whole_file(tmp_path / "v.mp4") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        FILM[:7],
        FILM[:8],
        FILM[:-1],
        FILM[: len(FILM) // 2],
        FILM + b"\0\0\0\x20",
        b"\0" + FILM,
        b"<html>Access Denied</html>",
        b'{"code": 404}',
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(10_000),
        b"\0\0\0\x08free" * 10,
    ],
)
def test_what_is_cut_or_foreign_is_not_whole_and_stays(tmp_path: Path, content: bytes) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(content)
    (tmp_path / "v.mp4.part").write_bytes(FILM[:100])
    assert whole_file(video) is None
    assert video.read_bytes() == content
    assert (tmp_path / "v.mp4.part").read_bytes() == FILM[:100]


def test_every_cut_of_a_film_is_seen(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    film = movie(500)
    for cut in range(len(film)):
        video.write_bytes(film[:cut])
        assert whole_file(video) is None, cut
    video.write_bytes(film)
    assert whole_file(video) is not None


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(IsADirectoryError):
        whole_file(tmp_path / "v.mp4")
