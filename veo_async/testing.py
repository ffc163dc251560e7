"""A pytest plugin: a simulated service for the tests of programs that use this package.

It is loaded by itself where the package and pytest are installed. The fixture `veo_simulator` needs
no event loop of its own, so it works under every asyncio plugin, and in tests that are not async.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veo_async.client import VeoClient
    from veo_async.conformance import LimiterConformance
    from veo_async.simulator import Simulator

__all__ = ["LimiterConformance", "client_for", "veo_simulator"]

_TIME_SCALE = 200.0  # a 90 s generation in half a second


def __getattr__(name: str) -> object:
    """Load the tests of limiters where they are used, not at every start of pytest."""
    if name == "LimiterConformance":
        pytest.register_assert_rewrite("veo_async.conformance")
        from veo_async.conformance import LimiterConformance  # noqa: PLC0415

        return LimiterConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def client_for(simulator: "Simulator") -> "VeoClient":
    """Return a client of a simulator that polls and paces itself as fast as time runs there."""
    from veo_async.client import VeoClient  # noqa: PLC0415  # pytest loads this module at every start
    from veo_async.settings import at_speed  # noqa: PLC0415

    poll, pace = at_speed(simulator.time_scale)
    return VeoClient(simulator.api_key, base_url=simulator.base_url, poll=poll, pace=pace)


@pytest.fixture
def veo_simulator(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Simulator]":
    """A simulated service, two hundred times faster than life, that lasts for one test.

    `KIE_API_KEY` and `KIE_BASE_URL` point to it, so that a `VeoClient()` of the code under test
    talks to it. Its `ledger` says what was charged, `add_fault()` makes it misbehave.
    """
    from veo_async.settings import BASE_URL_VARIABLE, KEY_VARIABLE  # noqa: PLC0415
    from veo_async.simulator import Simulator  # noqa: PLC0415

    with Simulator(time_scale=_TIME_SCALE) as simulator:
        monkeypatch.setenv(KEY_VARIABLE, simulator.api_key)
        monkeypatch.setenv(BASE_URL_VARIABLE, simulator.base_url)
        yield simulator
