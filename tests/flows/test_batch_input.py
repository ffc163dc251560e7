"""What is an input of a batch, and what is none."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.flows.batches import broken, client_of, jobs, paid_once, prompts, ran, service
from veo_async import InvalidRequestError, Outcome, VideoRequest

pytestmark = pytest.mark.anyio


class Rude:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Row(Mapping[str, Any]):
    """A mapping that is no dict."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self):
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


INVALID = [
    (None, "requests"),
    (5, "requests"),
    (b"a prompt", "requests"),
    (["a prompt"], "requests"),
    (Rude(), "requests"),
    ("", "prompt"),
    ("   ", "prompt"),
    ("x" * 1001, "prompt"),
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"seed": 12345}, "prompt"),
    ({"prompt": "x", "sed": 12345}, "sed"),
    ({"prompt": "x", "self": 1}, "self"),
    ({"prompt": "x", None: ["cells", "that", "are", "too", "many"]}, "None"),
    ({"prompt": "x", "seed": "12345"}, "seed"),
    ({"prompt": "x", "seed": 1}, "seed"),
    ({"prompt": "x", "model": "veo2"}, "model"),
    ({"prompt": "x", "aspect_ratio": "4:3"}, "aspect_ratio"),
    ({"prompt": "x", "image_urls": ["no url"]}, "image_urls"),
    ({"prompt": "x", "extra": {"prompt": "y"}}, "extra"),
    ({"prompt": "x", "key": ""}, "key"),
    ({"prompt": "x", "key": 5}, "key"),
    ({"prompt": "x", "key": "k" * 201}, "key"),
    ({"prompt": "x", "key": "a\nb"}, "key"),
    (InvalidRequestError("line 7 is no JSON; mend it", field="line"), "line"),
]


async def test_invalid_inputs_are_told_of_one_by_one_and_cost_nothing(tmp_path):
    given: list[Any] = [source for source, _ in INVALID]
    async with service() as sim:
        for run in range(2):
            done = await ran(sim, [*given, "boat"], tmp_path)
            rejected = [item for item in done if item.outcome is Outcome.REJECTED]
            assert len(rejected) == len(INVALID)
            for item in rejected:
                source, field = INVALID[item.index - 1]
                assert item.source is source
                assert isinstance(item.error, InvalidRequestError)
                assert item.error.field.strip("'") == field
                assert ";" in str(item.error), "it ends with the remedy"
                assert (item.request, item.path, item.task_id) == (None, None, None)
                assert (item.credits, item.attempts) == (0, 0)
            assert len({item.key for item in done}) == len(given) + 1
            assert done.of("boat").outcome == ("skipped" if run else "downloaded")
        paid_once(sim, ["boat"])


async def test_an_invalid_input_that_is_corrected_leaves_no_trace(tmp_path):
    async with service() as sim:
        await ran(sim, ["boat", {"prompt": ""}], tmp_path)
        await ran(sim, ["boat", {"prompt": "ship"}], tmp_path)
        assert {job.request.prompt for job in jobs(tmp_path).values()} == {"boat", "ship"}


async def test_the_same_invalid_input_twice_is_two_items(tmp_path):
    async with service() as sim:
        for _ in range(2):
            done = await ran(sim, [None, None, None], tmp_path)
            assert done.outcomes == {"rejected": 3}
            assert len({item.key for item in done}) == 3


async def test_any_mapping_is_a_row(tmp_path):
    rows = [Row(prompt="boat", key="a"), {"prompt": "ship", "key": None}]
    async with service() as sim:
        done = await ran(sim, rows, tmp_path)
        assert done.outcomes == {"downloaded": 2}
        assert {item.key for item in done} > {"a"}
        assert all(item.source in rows for item in done)


async def test_a_key_twice_in_one_input_makes_one_video(tmp_path):
    rows = [
        {"prompt": "boat", "key": "row"},
        {"prompt": "boat", "key": "row"},
        {"prompt": "ship", "key": "row"},
        {"prompt": "", "key": "row"},
    ]
    async with service() as sim:
        for outcome in ("downloaded", "skipped"):
            done = await ran(sim, rows, tmp_path)
            assert done.outcomes == {outcome: 1, "rejected": 3}
            fields = {item.index: item.error.field for item in done if item.error}
            assert fields == {2: "key", 3: "key", 4: "prompt"}
            assert {item.key for item in done} == {"row"}
        paid_once(sim, ["boat"])


@pytest.mark.parametrize(
    "source", ["a prompt", b"a prompt", {"prompt": "x"}, VideoRequest("x"), 5, None, object()]
)
async def test_one_request_is_no_input_of_a_batch(source, tmp_path):
    async with service() as sim, client_of(sim) as veo:
        with pytest.raises(InvalidRequestError) as caught:
            veo.batch(source, directory=tmp_path)
        assert caught.value.field == "requests"


async def test_every_kind_of_iterable_is_an_input(tmp_path):
    async def later():
        for prompt in prompts(3):
            yield prompt

    kinds = [
        prompts(3),
        tuple(prompts(3)),
        dict.fromkeys(prompts(3)).keys(),
        iter(prompts(3)),
        (prompt for prompt in prompts(3)),
        later(),
    ]
    async with service() as sim:
        for kind in kinds:
            done = await ran(sim, kind, tmp_path)
            assert [item.index for item in sorted(done, key=lambda item: item.index)] == [1, 2, 3]
        paid_once(sim, prompts(3))


async def test_an_empty_input_ends_at_once(tmp_path):
    async with service() as sim:
        done = await ran(sim, [], tmp_path)
        assert done.items == []
        assert str(done.run.batch.report).startswith("nothing; 0 credits spent")


async def test_an_input_that_cannot_be_begun_is_told_of(tmp_path):
    class Broken:
        def __iter__(self):
            raise OSError("no such list")

    async with service() as sim:
        done, error = await broken(sim, Broken(), tmp_path, OSError)
        assert (done.items, error.args) == ([], ("no such list",))


async def test_prompts_of_every_script_make_names_that_every_disk_takes(tmp_path):
    strange = ["二艘纸船", "Ünïcode / \\ : * ? boat", "../../etc/passwd", "\N{WHITE SMILING FACE}"]
    async with service() as sim:
        done = await ran(sim, strange, tmp_path)
        assert done.outcomes == {"downloaded": 4}
        for item in done:
            assert item.path.parent == tmp_path
            assert item.path.name.isascii()
        paid_once(sim, strange)
