"""The world of the flows, for what is told of it."""

from tests.flows.conftest import until, world

__all__ = ["until", "world"]
