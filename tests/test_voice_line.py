"""Voice in whole calls on loopback: what it costs, what is agreed on, and that a face fits in beside it."""

import asyncio
import io
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
from aiortc import RTCPeerConnection, RTCRtpSender
from rich.console import Console

from mien.call import libopus
from mien.call.audio import VoiceTrack
from mien.call.face_view import ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.scripted_source import CoverableSource
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.statistics import CallStatistics
from mien.call.voice_line import VoiceLine, describe_voice
from mien.call.voice_source import open_voice
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_totals import WireTotals
from mien.commands.call_report import quality_table
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral, reference_scale
from mien.protocol.avatar import MAX_FIRST_BYTES, AvatarContent, assemble, sign_avatar
from tests.avatar_samples import TEST_KEY, own, portrait, reference
from tests.call_samples import PortraitSource, PortraitTracker
from tests.event_loop import in_loop
from tests.voice_samples import RATE_HZ, speech


def settings(**changes: Any) -> CallSettings:
    fields: dict[str, Any] = {"addresses": Addresses.LOOPBACK, "view": ViewSettings(longest_px=64)}
    return CallSettings(**(fields | changes))


def talk_file(folder: Path) -> str:
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(speech(8.0).tobytes())
    return str(folder / "talk.wav")


async def for_seconds(
    one: CallSession, other: CallSession, seconds: float
) -> tuple[tuple[WireTotals, CallStatistics], ...]:
    """Let two sessions talk; return what each end's meter counted in the first `seconds`, and the call's figures."""
    ends = local_pair()

    async def script() -> tuple[WireTotals, WireTotals]:
        await asyncio.gather(one.connected.wait(), other.connected.wait())
        before = one.meter.totals(), other.meter.totals()
        await asyncio.sleep(seconds)
        after = one.meter.totals(), other.meter.totals()
        one.hang_up()
        return after[0].since(before[0]), after[1].since(before[1])

    *figures, totals = await asyncio.gather(one.run(ends[0]), other.run(ends[1]), script())
    return tuple(zip(totals, figures, strict=True))


def test_what_voice_and_its_pauses_cost(tmp_path: Path) -> None:
    """One side speaks, the other is silent and asks for 8 kbps, which is what it gets."""
    heard: list[Any] = []

    async def scenario() -> None:
        speaker = CallSession(Participant(voice=open_voice(talk_file(tmp_path))), settings())
        listener = CallSession(
            Participant(voice=VoiceTrack()),
            settings(voice=VoiceSettings(8, 60)),
            CallHooks(on_voice=heard.append),
        )
        (spoken, speaking), (silent, listening) = await for_seconds(speaker, listener, 3)
        flow = spoken.sent[Cause.AUDIO]
        assert 45 <= flow.datagrams <= 52  # 60 ms each
        payload = flow.wire_bytes / flow.datagrams - 28 - 12 - 10  # IP and UDP, RTP, the seal
        assert 0.7 * 60 <= payload <= 1.05 * 60
        assert 5.5 < payload * 8 / 60 < 8.4
        assert silent.kbps(Direction.SENT, Cause.AUDIO) < 2.5
        assert spoken.kbps(Direction.SENT, Cause.RTCP) < 0.7
        said, heard_of = speaking.voice.sent, listening.voice.received
        assert said.speech_share > 0.95 and listening.voice.sent.speech_share < 0.3
        assert abs(said.packets - flow.datagrams) <= 8 and 5.5 < said.kbps < 8.4
        assert abs(heard_of.packets - said.packets) <= 4 and abs(heard_of.kbps - said.kbps) < 0.8
        assert heard_of.lost == heard_of.malformed == 0 and heard_of.played_s > 2
        assert heard_of.filled_share < 0.3 and heard_of.wait_ms >= 20
        assert said.echo is None and speaking.as_json()["voice"]["sent"]["packets"] == said.packets
        text = io.StringIO()
        Console(file=text, width=200).print(quality_table(speaking))
        assert f"{said.packets} packets, {said.kbps:.1f} kbps of Opus, speech" in text.getvalue()

    in_loop(scenario)
    sound = np.concatenate([frame.to_ndarray().reshape(-1) for frame in heard])
    assert all(frame.samples == 960 and frame.sample_rate == RATE_HZ for frame in heard)
    # Where the machine is busy, some pieces of the sound are stretched or left out: not all of them.
    pieces = [speech(8.0)[at : at + 7200].astype(float)[::4] for at in range(48_000, 96_000, 7200)]
    likest = [
        np.abs(np.correlate(sound.astype(float)[::4], p, "valid")).max() / np.square(p).sum() for p in pieces
    ]
    assert max(likest) > 0.5


def big_first_layer() -> bytes:
    """Return an avatar whose first layer is as large as one may be, and one more picture."""
    landmarks = portrait()[1][None]
    model = FaceModel.load()
    neutral = estimate_neutral(landmarks, model)
    return sign_avatar(
        AvatarContent(
            neutral=neutral,
            appearance=np.zeros(4, np.float32),
            first=reference(256, quality=74),
            references=(reference(256, slot=1, quality=90),),
            rings=None,
        ),
        own(model_id=model.model_id, unit_px=reference_scale(landmarks, neutral, model)),
        TEST_KEY,
    )


def test_a_first_picture_fits_into_40_kbps_while_both_talk(tmp_path: Path) -> None:
    avatar = big_first_layer()
    file = assemble(avatar, now_unix_s=1_760_000_000)
    first = len(file.head.data) + len(file.bodies[0])
    assert 0.96 * MAX_FIRST_BYTES < first <= MAX_FIRST_BYTES
    talk = talk_file(tmp_path)

    async def scenario() -> None:
        def person() -> Participant:
            source = CoverableSource(PortraitSource(20))
            return Participant(source, PortraitTracker(), avatar, TEST_KEY, open_voice(talk))

        one, other = CallSession(person(), settings()), CallSession(person(), settings())
        # It takes 4.6 s on a machine that is not busy; how long it takes is not what this test is about.
        for side, figures in await for_seconds(one, other, 7.0):
            assert side.kbps(Direction.SENT) <= 40, side.as_json()["sent"]
            assert figures.received.first_face_s is not None
            assert figures.received.early == 0  # no coefficients for a face that is not there yet
            assert side.sent[Cause.AUDIO].datagrams > 50
            assert Cause.COEFFICIENTS in side.sent  # the face moves already

    in_loop(scenario)


def test_the_description_says_what_we_want_to_hear() -> None:
    async def scenario() -> None:
        pc = RTCPeerConnection()
        line = VoiceLine(pc, None, VoiceSettings(8, 40), lambda frame: None)
        pc.addTransceiver("video", "recvonly")
        sdp = line.describe((await pc.createOffer()).sdp)
        audio, video = re.split(r"(?m)^(?=m=)", sdp)[1:]
        assert "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 " in audio and "a=ptime:40\r\n" in audio
        for said in ("maxaveragebitrate=8000", "stereo=0", f"useinbandfec={int(libopus.available())}"):
            assert said in audio
        assert "PCMU" not in audio and "extmap" not in audio and "extmap" in video
        assert "ptime" not in video
        await pc.close()

    in_loop(scenario)
    assert describe_voice("v=0\r\n", VoiceSettings()) == "v=0\r\n"


def test_other_connections_are_left_alone() -> None:
    async def scenario() -> None:
        ours, other = RTCPeerConnection(), RTCPeerConnection()
        VoiceLine(ours, VoiceTrack(), VoiceSettings(), lambda frame: None)
        line = other.addTransceiver("audio")
        names = [codec.mimeType for codec in RTCRtpSender.getCapabilities("audio").codecs]
        assert len(names) > 1 and "extmap" in (await other.createOffer()).sdp
        assert "_send_rtcp" not in vars(line.sender) | vars(line.receiver)
        assert type(vars(line.receiver)["_RTCRtpReceiver__jitter_buffer"]).__module__ == "aiortc.jitterbuffer"
        await ours.close()
        await other.close()

    in_loop(scenario)
