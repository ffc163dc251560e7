"""A local stand-in for the video service: no key, no network, no money.

It imports nothing of the client, so that the two cannot agree on a mistake.
"""

from veo_async.simulator.app import Simulator
from veo_async.simulator.faults import Fault
from veo_async.simulator.records import Charge, Delivery, Dialect, Leak, Ledger, Post

__all__ = ["Charge", "Delivery", "Dialect", "Fault", "Leak", "Ledger", "Post", "Simulator"]
