"""The header of a stream that begins: what the first faces say about scale and rest pose."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.tick_clock import tick_rate_for
from mien.models.face_model import FaceModel
from mien.models.fit import Fitter, reference_scale, rest_pose
from mien.protocol.avatar import Avatar
from mien.protocol.log import owner_digest
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables

# More faces tell nothing more about where a head mostly is, and would keep the first picture waiting.
ENOUGH_FACES: Final = 90


def make_stream_header(
    avatar: Avatar,
    faces: Sequence[NDArray[np.float32]],
    *,
    source_rate: Fraction,
    width: int,
    height: int,
    tracker: TrackerId,
    stream: int = 0,
) -> StreamHeader:
    """Return the header for a source of `width` x `height` pixels at `source_rate` frames per second.

    `faces` are landmarks, float32 [478, 3] each in image space, of the stream's first frames: their scale and
    middle pose become the reference that messages are coded from, which saves bits and decides nothing else.
    Without any, the face is expected in the middle at the size that it had at enrolment.
    """
    model = FaceModel.load()
    unit_px = _expected_scale(avatar, width, height)
    if faces:
        unit_px = reference_scale(np.stack(faces[:ENOUGH_FACES]), avatar.neutral, model)
    header = StreamHeader(
        stream=stream,
        tracker=tracker,
        model_id=model.model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=avatar.avatar_id[:8],
        tick_rate=tick_rate_for(source_rate),
        unit_px=unit_px,
        width=width,
        height=height,
    )
    if not faces:
        return header
    fitter = make_fitter(avatar, header)
    return replace(header, rest_pose=rest_pose([fitter.fit(face) for face in faces[:ENOUGH_FACES]]))


def make_fitter(avatar: Avatar, header: StreamHeader) -> Fitter:
    """Return the fitter that measures this person's face in the stream's framing."""
    return Fitter(
        FaceModel.load(),
        avatar.neutral,
        unit_px=float(header.unit_px),
        width=header.width,
        height=header.height,
    )


def _expected_scale(avatar: Avatar, width: int, height: int) -> Fraction:
    scale = float(avatar.unit_px) * min(width / avatar.width, height / avatar.height)
    return Fraction(min(65535, max(16, round(16 * scale))), 16)


def owner_fingerprint(avatar: Avatar) -> bytes:
    """Return what a log's header holds of the avatar's owner."""
    return owner_digest(avatar.manifest.owner)
