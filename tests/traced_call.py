"""Run by tests in a process of its own: a short call with voice between two sessions of this process."""

import asyncio
import sys

from mien.call.face_view import ViewSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.session import CallSession, CallSettings, Participant
from tests.avatar_samples import TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file


async def main() -> int:
    """Call for two seconds over loopback and this machine's own addresses; print how many messages arrived."""
    settings = CallSettings(
        addresses=Addresses.BOTH,
        view=ViewSettings(longest_px=64),
        audio=True,
        transfer_kbps=1000,
        connect_s=15,
    )
    sessions = [
        CallSession(
            Participant(
                source=PortraitSource(2.0), tracker=PortraitTracker(), avatar=avatar_file(), signer=TEST_KEY
            ),
            settings,
        )
        for _ in range(2)
    ]
    ends = local_pair()
    statistics = await asyncio.gather(
        *(session.run(end) for session, end in zip(sessions, ends, strict=True))
    )
    print(min(each.received.messages for each in statistics))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(asyncio.wait_for(main(), 60)))
