"""A receiver of webhooks, of the standard library."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest


@attrs.define
class Receiver:
    """Answers with `statuses` in turn (200 once they are used up) and keeps what came."""

    url: str = ""
    statuses: list[int] = attrs.field(factory=list)
    came: list[tuple[str, dict[str, str], Any]] = attrs.field(factory=list)
    arrived: threading.Condition = attrs.field(factory=threading.Condition)

    def wait(self, count: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.came) >= count, timeout=20)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with made.arrived:
                made.came.append((self.path, dict(self.headers), json.loads(body)))
                status = made.statuses.pop(0) if made.statuses else 200
                made.arrived.notify_all()
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/hook/token"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
