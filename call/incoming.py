"""What comes from the other side's face: its stream, its avatar and the proof that the avatar is theirs.

Nothing of an avatar is drawn before all of this holds: the signature and the hashes verify, it has not expired,
its owner permits this use, it is made for our face model, and the sender proved that the owner's key is there.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import mien
from mien.call import clock
from mien.call.arrivals import Arrivals
from mien.call.face_view import FaceView, ShownPicture
from mien.call.peer import CONTROL, TRANSFER, Peer
from mien.decoder.avatar_cache import AvatarCache
from mien.encoder.stream_setup import owner_fingerprint
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar, AvatarAssembler
from mien.protocol.capsule import unpack
from mien.protocol.consent import PermittedUse
from mien.protocol.control import (
    CHALLENGE_BYTES,
    AvatarVerdict,
    Carrier,
    OwnerProof,
    RecordingNotice,
    SceneStart,
    SceneWanted,
    StreamStart,
    Verdict,
    proof_transcript,
)
from mien.protocol.errors import MienError, WireError
from mien.protocol.log import LogHeader, Origin
from mien.protocol.message import Kind, message_kind
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables
from mien.protocol.transfer import AvatarReceiver, Chunk, Offer, Refuse, TransferMessage
from mien.protocol.tuning import Tuning

logger = logging.getLogger(__name__)

MAX_OFFERS: Final = 16  # each may cost a look into the cache
MAX_SCENE_STARTS: Final = 200
SCENE_PATIENCE_US: Final = 700_000  # from one wish for a scene to the next
PROOF_WAIT_US: Final = 5_000_000
PLACEHOLDER_WAIT_US: Final = 6_000_000  # until a call without any avatar gets an empty picture to show
REASONS: Final = {
    Verdict.DECLINED: "declined here",
    Verdict.DAMAGED: "its signature, a hash or its format is wrong",
    Verdict.EXPIRED: "it has expired",
    Verdict.NOT_PERMITTED: "its owner's consent does not cover this call",
    Verdict.TOO_MUCH: "it is too large",
    Verdict.NOT_OWNER: "the sender did not prove to be its owner",
    Verdict.MODEL: "it is made for another face model or codec",
}


class IncomingFace:
    """Lives on the event loop; what it decides to show it hands to the `FaceView`."""

    def __init__(
        self,
        peer: Peer,
        view: FaceView,
        *,
        cache: AvatarCache | None,
        record: Path | None,
        tell: Callable[[str], None],
        now_us: int,
        tuning: bytes | None = None,
    ) -> None:
        """`tuning`: a verified tuning's file, to be used where it is the other side's own."""
        self.challenge = secrets.token_bytes(CHALLENGE_BYTES)
        self._peer = peer
        self._view = view
        self._cache = cache
        self._record = record
        self._tell = tell
        self._given = tuning
        self._tuning: tuple[bytes, Tuning | None] | None = None  # of which avatar
        self._start_us = now_us
        self._header: StreamHeader | None = None
        self._proofs: dict[bytes, OwnerProof] = {}
        self._transfer = AvatarReceiver(loopback=peer.is_loopback)
        self._head_us: int | None = None
        self._drawn_layers: frozenset[int] = frozenset()
        self._drawn_stream: StreamHeader | None = None
        self.verdict: Verdict | None = None
        self.recording = False
        self.first_face_us: int | None = None  # when an avatar was first handed to the renderer
        self.received_bytes = 0  # of layers
        self.counts: Counter[str] = Counter()
        self.arrivals: Arrivals | None = None
        self.their_scene = False  # whether they said that scene messages follow
        self._scene_wanted_us = 0

    @property
    def header(self) -> StreamHeader | None:
        """The stream that was announced."""
        return self._header

    @property
    def tick_rate(self) -> Fraction | None:
        """Ticks per second of the stream that was announced."""
        return self._header.tick_rate if self._header else None

    @property
    def avatar(self) -> AvatarAssembler | None:
        """The other side's avatar as far as it is here; verified, but perhaps not (yet) proved to be theirs."""
        return self._transfer.assembler

    def on_stream_start(self, message: StreamStart) -> None:
        """A stream of coefficients begins."""
        self._header = message.stream()
        self._settle()

    def on_owner_proof(self, proof: OwnerProof) -> None:
        """Keep a proof that holds; there may be several, for the avatars of one call."""
        if self._proof_holds(proof) and len(self._proofs) < 8:
            self._proofs[proof.avatar_id] = proof
        else:
            self.counts["bad proofs"] += 1
        self._settle()

    def on_transfer(self, message: TransferMessage) -> None:
        """Take an offer or a chunk."""
        if isinstance(message, Offer):
            self.counts["offers"] += 1
            if self.counts["offers"] > MAX_OFFERS:
                return
            self.verdict, self._head_us, self._drawn_layers = None, None, frozenset()
            answers = self._transfer.on_offer(message, self._cached(message.avatar_id))
        elif isinstance(message, Chunk):
            self.received_bytes += len(message.data)
            answers = self._transfer.receive(message, now_unix_s=int(time.time()))
        else:
            self.counts["stray transfer messages"] += 1
            return
        for answer in answers:
            self._peer.send(TRANSFER, answer.serialize())
            if isinstance(answer, Refuse):
                self._refuse(Verdict(answer.reason + 1), self._transfer.refused)
        self._settle()

    def on_coefficients(self, data: bytes, now_us: int, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        """Take a coefficient message, a scene's, or a capsule of both."""
        try:
            messages = unpack(data)
        except WireError:
            messages = [data]  # it is no face's message either, and counted as that
        for message in messages:
            self._take(message, now_us, carrier)

    def on_scene_start(self, message: SceneStart, now_us: int) -> None:
        """The other side would like to send a scene layer, or sends none any more."""
        self.counts["scene starts"] += 1
        if self.counts["scene starts"] > MAX_SCENE_STARTS:
            return
        self.their_scene = message.active
        if message.active:
            self._want_scene(message.stream, now_us)
            self._tell(
                "the other side shows a small picture of their camera around their avatar (scene layer)"
            )
        else:
            self._tell("the other side's scene layer is over")

    def on_picture(self, picture: ShownPicture) -> None:
        """A picture was drawn; where scene messages come and cannot be used, ask for a new beginning."""
        header, now_us = self._header, picture.composited_us
        waits = picture.wants_scene_refresh and self.their_scene
        if waits and header is not None and now_us - self._scene_wanted_us >= SCENE_PATIENCE_US:
            self._want_scene(header.stream, now_us)

    def _want_scene(self, stream: int, now_us: int) -> None:
        self._scene_wanted_us = now_us
        self._peer.send(CONTROL, SceneWanted(stream).serialize())

    def _take(self, data: bytes, now_us: int, carrier: Carrier) -> None:
        is_face = message_kind(data) != Kind.SCENE
        if self._header is not None and is_face:
            if self.arrivals is None:
                self.arrivals = Arrivals(self._header.tick_rate)
            self.arrivals.on_message(data, now_us)
        if not is_face and not self.their_scene:
            self.counts["early messages"] += 1
            return
        if not self._view.started or self.verdict is not Verdict.SHOWN:
            self.counts["early messages"] += 1
            return
        self._view.message(data, now_us, carrier)

    def advance(self, now_us: int) -> None:
        """Let time pass: a proof that does not come is none, and a call without any face shows an empty picture."""
        waited = self._head_us is not None and now_us - self._head_us > PROOF_WAIT_US
        avatar = self._transfer.assembler
        if waited and self.verdict is None and avatar is not None and avatar.avatar_id not in self._proofs:
            self._refuse(Verdict.NOT_OWNER)
        if now_us - self._start_us > PLACEHOLDER_WAIT_US:
            self._show_placeholder()

    def on_unusable(self, error: Exception) -> None:
        """The avatar's layers verify, and yet it cannot be drawn: what its owner signed makes no sense."""
        self._refuse(Verdict.DAMAGED, str(error))

    def keep_avatar(self) -> None:
        """Store what came of the avatar, so that it is not sent again. Waits for the disk: not for the loop."""
        avatar = self._transfer.assembler
        if self._cache is None or avatar is None or self.verdict is not Verdict.SHOWN:
            return
        try:
            self._cache.store(avatar)
            if self._given is not None and self._tuning_of(avatar) is not None:
                self._cache.store_tuning(self._given, avatar)
        except (MienError, OSError) as error:
            logger.warning("the other side's avatar is not kept: %s", error)

    def stop_recording(self) -> None:
        """Finish the log."""
        if self.recording:
            self.recording = False
            self._view.stop_recording()

    def _settle(self) -> None:
        """Show what may be shown."""
        avatar, header = self._transfer.assembler, self._header
        if avatar is None or self.verdict not in (None, Verdict.SHOWN):
            return
        if self._head_us is None:
            self._head_us = clock.now_us()
        if avatar.manifest.model_id != FaceModel.load().model_id or not (
            header is None or is_readable(header)
        ):
            self._refuse(Verdict.MODEL)
            return
        proof = self._proofs.get(avatar.avatar_id)
        if proof is not None and proof.owner_key != avatar.manifest.owner:
            self._refuse(Verdict.NOT_OWNER)
        elif proof is not None and header is not None and header.avatar_id == avatar.avatar_id[:8]:
            self._draw(avatar, header)

    def _draw(self, avatar: AvatarAssembler, header: StreamHeader) -> None:
        layers = frozenset(avatar.bodies)
        if avatar.avatar is None or (layers == self._drawn_layers and header == self._drawn_stream):
            return
        if header != self._drawn_stream:
            first = not self._view.started
            self._view.start(header, record=self._recording_of(avatar.avatar, header) if first else None)
        self._drawn_stream, self._drawn_layers = header, layers
        self._view.use_avatar(avatar.avatar, layers, self._tuning_of(avatar))
        if self.verdict is None:
            self.verdict = Verdict.SHOWN
            self.first_face_us = clock.now_us()
            self._peer.send(CONTROL, AvatarVerdict(avatar.avatar_id, Verdict.SHOWN).serialize())
            name = avatar.manifest.name or "no name"
            self._tell(f"the other side's avatar: {name}, key {avatar.manifest.owner_fingerprint}")

    def _recording_of(self, avatar: Avatar, header: StreamHeader) -> tuple[Path, LogHeader] | None:
        if self._record is None:
            return None
        if not avatar.manifest.permits(PermittedUse.RECORD):
            self._tell("not recorded: the owner of the other side's avatar does not permit it")
            return None
        self.recording = True
        self._peer.send(CONTROL, RecordingNotice(True).serialize())
        self._tell(f"recording to {self._record}; the other side is told so")
        return self._record, LogHeader(
            stream=header,
            origin=Origin.RECEIVED,
            source_rate=header.tick_rate,
            width=header.width,
            height=header.height,
            avatar_id=avatar.avatar_id,
            owner=owner_fingerprint(avatar),
            writer=f"mien {mien.__version__}",
        )

    def _refuse(self, verdict: Verdict, text: str | None = None) -> None:
        if self.verdict is verdict:
            return
        self.verdict = verdict
        self._tell(f"the other side's avatar is not shown: {text or REASONS[verdict]}")
        offer = self._transfer.offer
        if offer is not None:
            for answer in self._transfer.decline():
                self._peer.send(TRANSFER, answer.serialize())
            self._peer.send(CONTROL, AvatarVerdict(offer.avatar_id, verdict).serialize())
        self._show_placeholder()

    def _show_placeholder(self) -> None:
        """Show an empty picture with its badge: the call goes on with voice, and video if that is shown."""
        if not self._view.started:
            self._view.start(placeholder())

    def _cached(self, avatar_id: bytes) -> AvatarAssembler | None:
        if self._cache is None:
            return None
        try:
            return self._cache.load(avatar_id, now_unix_s=int(time.time()))
        except (MienError, OSError) as error:
            logger.warning("the avatar cache cannot be read: %s", error)
            return None

    def _tuning_of(self, avatar: AvatarAssembler) -> Tuning | None:
        """Return what the user was given for this avatar, else what was kept beside it. Looked up once."""
        if self._tuning is None or self._tuning[0] != avatar.avatar_id:
            self._tuning = avatar.avatar_id, self._found_tuning(avatar)
        return self._tuning[1]

    def _found_tuning(self, avatar: AvatarAssembler) -> Tuning | None:
        try:
            if self._given is None:
                return self._cache.tuning(avatar) if self._cache else None
            tuning = Tuning.parse(self._given)
            tuning.check_belongs(avatar.manifest, avatar.avatar_id)
        except (MienError, OSError) as error:
            self._tell(f"{error}; the other side is drawn without a tuning")
            return None
        self._tell("the other side is drawn with the tuning that you were given")
        return tuning

    def _proof_holds(self, proof: OwnerProof) -> bool:
        transcript = proof_transcript(
            challenge=self.challenge,
            prover_fingerprint=self._peer.remote_fingerprint(),
            verifier_fingerprint=self._peer.local_fingerprint(),
            avatar_id=proof.avatar_id,
        )
        try:
            Ed25519PublicKey.from_public_bytes(proof.owner_key).verify(proof.signature, transcript)
        except (InvalidSignature, ValueError):
            return False
        return True


def is_readable(header: StreamHeader) -> bool:
    """Return whether this version understands a stream's coefficients."""
    return header.model_id == FaceModel.load().model_id and header.tables_id == Tables.load().tables_id


def placeholder() -> StreamHeader:
    """Return the header of a stream that never comes."""
    return StreamHeader(
        stream=0,
        tracker=TrackerId.UNKNOWN,
        model_id=FaceModel.load().model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=bytes(8),
        tick_rate=Fraction(30),
        unit_px=Fraction(100),
        width=640,
        height=480,
    )
