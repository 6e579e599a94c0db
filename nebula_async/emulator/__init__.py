"""A local Nebula Block: real pictures, tiers, faults, and a journal of every cent it charged.

It shares no code with the client, so that what the two agree on is the protocol.
"""

from nebula_async.emulator.faults import Fault
from nebula_async.emulator.journal import Journal, RequestRecord
from nebula_async.emulator.limits import TIERS, Tier
from nebula_async.emulator.script import Script
from nebula_async.emulator.server import Emulator

__all__ = ["TIERS", "Emulator", "Fault", "Journal", "RequestRecord", "Script", "Tier"]
