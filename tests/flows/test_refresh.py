"""A dead link is asked for again, in each of the ways that a service may have."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.faults.fileserver import FileServer, Reply, client_of, movie
from veo_async import DownloadError, PollPolicy, URLExpiredError, Video

pytestmark = pytest.mark.anyio
POLL = PollPolicy(interval=0.05, first=0.05, upgrade_interval=0.05)
QUICK = {
    "generation_seconds": 10,
    "upgrade_seconds": 10,
    "upgrade_4k_seconds": 10,
}
SIZE = 600_000
FILM = movie(SIZE)
PAIRS = [("auto", "spec"), ("auto", "live"), ("spec", "spec"), ("live", "live"), ("jobs", "jobs")]


# --- services that hand out a good link when they are asked again


async def made(w, origin):
    base = await w.veo.generate("a prompt")
    if origin == "record-info":
        return base
    return await (w.veo.upgrade_1080p if origin == "1080p" else w.veo.upgrade_4k)(base)


def cases():
    for spoken, service in PAIRS:
        for origin in ("record-info", "1080p", "4k"):
            if (service, origin) != ("spec", "4k"):
                yield pytest.param(spoken, service, origin, id=f"{spoken}-{service}-{origin}")


@pytest.mark.parametrize(("spoken", "service", "origin"), [*cases()])
async def test_an_old_link_is_renewed_by_the_call_that_gave_it(
    world, tmp_path, spoken, service, origin
):
    options = QUICK | {"dialect": service, "url_seconds": 60, "result_urls_expire": True}
    async with world(sim=options, dialect=spoken, poll=POLL) as w:
        video = await made(w, origin)
        whole = await w.veo.download(video, tmp_path / "whole.mp4")
        w.sim.advance(120)
        again = await w.veo.download(video, tmp_path / "again.mp4")
        assert (again.sha256, again.attempts) == (whole.sha256, 2)
        assert w.sim.ledger.requests["download-url"] == 0, "nothing more is asked"
        assert w.sim.ledger.leaks == ()


@pytest.mark.parametrize(
    ("dialects", "origin", "expires"),
    [
        pytest.param(
            case.values[:2],
            case.values[2],
            expires,
            id=f"{case.id}-{'short' if expires else 'lasting'}",
        )
        for case in cases()
        for expires in (True, False)
        if expires or case.values[1] != "spec"
    ],
)
async def test_a_link_that_dies_in_the_middle_is_renewed_and_goes_on(
    world, tmp_path, dialects, origin, expires
):
    spoken, service = dialects
    options = QUICK | {"dialect": service, "video_bytes": SIZE, "result_urls_expire": expires}
    async with world(sim=options, dialect=spoken, poll=POLL) as w:
        video = await made(w, origin)
        whole = await w.veo.download(video, tmp_path / "whole.mp4")
        w.sim.add_fault("video:cut_at=300000:times=1")
        w.sim.add_fault("video:expire:times=1:after=1")
        again = await w.veo.download(video, tmp_path / "again.mp4")
        assert (again.sha256, again.size) == (whole.sha256, whole.size)
        assert again.attempts == 3
        # A link that lasts is repeated although it is dead, and then exchanged.
        assert w.sim.ledger.requests["download-url"] == (0 if expires else 1)


# --- a service whose links last until they are dead, as the live one's


class Lasting:
    """Repeats one link for ever, and gives temporary ones where it has the call for that.

    Attributes:
        host: What listens.
        path: Of the link.
        dead: Links that do not work any more.
        deaths: Links that die with their next answer, at an offset.
        refusal: The answer of `download-url` in place of a link.
        asked: Calls of the API, by their last words.
        fetched: Links that were tried.
    """

    def __init__(self, dialect="auto"):
        self.host = FileServer(FILM)
        self.host.route = self.answer
        self.dialect = dialect
        self.path = "/film"
        self.dead = {"/film", "/another"}
        self.deaths = {}
        self.refusals = []
        self.asked = []
        self.fetched = []
        self.serial = 0

    @property
    def link(self):
        return f"{self.host.url}{self.path}"

    def video(self, origin="record-info"):
        return Video(task_id="task_1", url=self.link, origin=origin, raw={"taskId": "made_by"})

    def answer(self, seen):
        parts = urlsplit(seen.path)
        if parts.path.startswith("/api/"):
            name = parts.path.rpartition("/")[2]
            self.asked.append(name)
            return self.reply(name, seen, parse_qs(parts.query))
        self.fetched.append(parts.path)
        if parts.path in self.deaths:
            self.dead.add(parts.path)
            return Reply(cut=self.deaths.pop(parts.path))
        return Reply(status=403) if parts.path in self.dead else Reply()

    def reply(self, name, seen, query):
        if name == "download-url":
            assert json.loads(seen.body) == {"url": self.link}
            if self.refusals:
                return self.refusals.pop(0)
            self.serial += 1
            return told(f"{self.host.url}/temporary/{self.serial}")
        if name == "recordInfo":
            data = {"taskId": query["taskId"][0], "state": "success"}
            return told(data | {"resultJson": json.dumps({"resultUrls": [self.link]})})
        if name == "record-info":
            return told({"taskId": query["taskId"][0], "status": 1, "videoUrl": self.link})
        return told({"resultUrls": [self.link]})

    async def download(self, veo, target, origin="record-info"):
        saved = await veo.download(self.video(origin), target)
        assert saved.path.read_bytes() == FILM
        return saved


def told(data, code=200, status=None):
    body = json.dumps({"code": code, "msg": "success", "data": data}).encode()
    return Reply(body=body, status=status, headers={"Content-Type": "application/json"})


ORIGINS = {
    "record-info": {"auto": "record-info", "live": "record-info", "jobs": "recordInfo"},
    "1080p": {
        "auto": "get-veo-3-1080-p-video",
        "live": "get-1080p-video",
        "jobs": "recordInfo",
    },
    "4k": {"auto": "get-4k-video", "live": "get-4k-video", "jobs": "recordInfo"},
}


@pytest.mark.parametrize("dialect", ["auto", "live", "jobs"])
@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_dead_link_that_is_repeated_is_exchanged_for_a_temporary_one(
    tmp_path, dialect, origin
):
    service = Lasting(dialect)
    async with service.host.serving(), client_of(service.host, dialect=dialect) as veo:
        saved = await service.download(veo, tmp_path / "v.mp4", origin)
        assert saved.attempts == 2
    assert service.asked == [ORIGINS[origin][dialect], "download-url"]
    assert service.fetched == ["/film", "/temporary/1"]


async def test_it_goes_on_at_the_same_byte(tmp_path):
    service = Lasting()
    service.dead.clear()
    service.deaths = {"/film": 300_000, "/temporary/1": 450_000}
    async with service.host.serving(), client_of(service.host) as veo:
        await service.download(veo, tmp_path / "v.mp4")
    # A temporary link that died needs no second look at the one that was dead before it.
    assert service.asked == ["record-info", "download-url"] * 2
    starts = [seen.start for seen in service.host.seen if not seen.path.startswith("/api/")]
    assert service.fetched == [
        "/film",
        "/film",
        "/temporary/1",
        "/temporary/1",
        "/temporary/2",
    ]
    assert starts == [0, 300_000, 300_000, 450_000, 450_000]


async def test_a_link_that_works_is_never_exchanged(tmp_path):
    service = Lasting()
    service.dead.clear()
    async with service.host.serving(), client_of(service.host) as veo:
        await service.download(veo, tmp_path / "v.mp4")
        # It is old, so that it is asked for again; that it lasts is seen by using it.
        windows = veo._engine.runtime.downloader.windows
        windows._received = {url: since - 3600 for url, since in windows._received.items()}
        await service.download(veo, tmp_path / "w.mp4")
    assert service.asked == ["record-info"]
    assert service.fetched == ["/film", "/film"]


async def test_a_service_without_the_call_is_not_asked_twice(tmp_path):
    service = Lasting()
    service.refusals = [told(None, 404, 404)]
    async with service.host.serving(), client_of(service.host) as veo:
        for service.path in ("/film", "/another"):
            with pytest.raises(URLExpiredError):
                await veo.download(service.video(), tmp_path / "v.mp4")
    assert service.asked.count("download-url") == 1


async def test_a_file_that_is_gone_says_nothing_of_the_others(tmp_path):
    service = Lasting()
    service.refusals = [told(None, 404)]
    async with service.host.serving(), client_of(service.host) as veo:
        with pytest.raises(URLExpiredError):
            await veo.download(service.video(), tmp_path / "v.mp4")
        service.path = "/another"
        service.dead.add("/another")
        await service.download(veo, tmp_path / "w.mp4")
    assert service.asked.count("download-url") == 2


@pytest.mark.parametrize(
    ("refusal", "asked", "kind"),
    [
        pytest.param(told(None, 422), 1, URLExpiredError, id="url-is-wrong"),
        pytest.param(told(None, 402), 1, URLExpiredError, id="no-credits"),
        pytest.param(told(None, 505), 1, URLExpiredError, id="switched-off"),
        pytest.param(told("not a link"), 4, URLExpiredError, id="no-link"),
        pytest.param(told("https://[broken/"), 1, DownloadError, id="broken-link"),
    ],
)
async def test_a_link_that_cannot_be_exchanged_is_dead(tmp_path, refusal, asked, kind):
    service = Lasting()
    service.refusals = [refusal] * 4
    async with service.host.serving(), client_of(service.host) as veo:
        with pytest.raises(kind):
            await veo.download(service.video(), tmp_path / "v.mp4")
    assert service.asked.count("download-url") == asked
    assert not (tmp_path / "v.mp4").exists()


async def test_the_same_dead_link_is_no_exchange(tmp_path):
    service = Lasting()
    service.refusals = [told(service.link)]
    async with service.host.serving(), client_of(service.host) as veo:
        service.refusals = [told(service.link)]
        with pytest.raises(URLExpiredError):
            await veo.download(service.video(), tmp_path / "v.mp4")
    assert service.asked.count("download-url") == 1


@pytest.mark.parametrize(
    "bad", [told(None, 500), told(None, 429, 429), Reply(status=502), Reply(early=True)]
)
async def test_failures_that_may_pass_only_delay_it(tmp_path, bad):
    service = Lasting()
    service.refusals = [bad, bad]
    async with service.host.serving(), client_of(service.host) as veo:
        await service.download(veo, tmp_path / "v.mp4")
    assert service.asked.count("download-url") == 3


async def test_a_stream_goes_on_with_a_temporary_link():
    service = Lasting()
    service.dead.clear()
    service.deaths = {"/film": 300_000}
    async with (
        service.host.serving(),
        client_of(service.host) as veo,
        veo.stream(service.video()) as body,
    ):
        assert b"".join([chunk async for chunk in body]) == FILM
    assert service.asked == ["record-info", "download-url"]


async def test_the_key_is_not_sent_to_where_the_files_are(tmp_path):
    service = Lasting()
    async with service.host.serving(), client_of(service.host) as veo:
        await service.download(veo, tmp_path / "v.mp4")
    for seen in service.host.seen:
        assert ("authorization" in seen.headers) is seen.path.startswith("/api/")


async def test_what_is_remembered_of_dead_links_is_bounded(tmp_path):
    service = Lasting()
    async with service.host.serving(), client_of(service.host) as veo:
        await service.download(veo, tmp_path / "v.mp4")
        renewer = veo._engine.runtime.renewer
        renewer._dead = {f"{service.host.url}/{n}": True for n in range(5000)}
        renewed = await renewer.renewed(service.video(), is_dead=True)
        assert renewed.url.endswith("/temporary/2")
        assert len(renewer._dead) == 1000
        assert service.link in renewer._dead
