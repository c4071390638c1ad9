"""Makes up what an enrolment has not seen: an open mouth, and shut lids, as further reference pictures.

They are made once, here, from the most central reference, and signed like all others, so that whoever draws the
avatar needs to know nothing about it. The manifest says which ones they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.layer_packing import PackedReference
from mien.encoder.mouth_interior import measure_colours, paint_interior, pupil_distance
from mien.encoder.picture_warp import bend
from mien.encoder.reference_depth import Fitted
from mien.encoder.shut_lids import lid_gaps, paint_shut, shut
from mien.models.face_model import FaceModel
from mien.protocol.manifest import MadeUp
from mien.protocol.state import EXPRESSION_COUNT, FaceState

UPPER_LIP, LOWER_LIP = 13, 14  # the inner lips' middles
# Gaps between the lips in inter-pupil distances: what is made, and what must have been seen for it not to be.
OPEN: Final = 0.40
OPEN_SEEN: Final = 0.24
PARTED: Final = 0.15
PARTED_SEEN: Final = 0.09
SHUT_SEEN: Final = 0.1  # a lid gap over its eye's width
MOST_REFERENCES: Final = 8  # that are drawn


@dataclass(frozen=True, slots=True, eq=False)
class MadeUpReference:
    """A reference that nobody photographed, and what it shows."""

    kind: MadeUp
    reference: PackedReference


def complete(
    references: Sequence[PackedReference], fitted: Fitted, skin: NDArray[np.floating]
) -> list[MadeUpReference]:
    """Return the references that are missing; `references` begin with the central one, `skin` is its linear colour [3].

    All have the depth of the fitted face (`Fitted.with_depth`).
    """
    central = references[0]
    state = fitted.fit(central.landmarks)
    makers = {
        MadeUp.OPEN_MOUTH: lambda: opened(central, state, fitted, skin, OPEN),
        MadeUp.SHUT_LIDS: lambda: with_shut_lids(central),
        MadeUp.PARTED_LIPS: lambda: opened(central, state, fitted, skin, PARTED),
    }
    kinds = missing([r.landmarks for r in references])[: max(0, MOST_REFERENCES - len(references))]
    return [MadeUpReference(kind, makers[kind]()) for kind in kinds]


def missing(faces: Sequence[NDArray[np.floating]]) -> list[MadeUp]:
    """Return what no reference with landmarks like one of `faces` [478, 3] shows, the most wanted first."""
    gap = max(mouth_gap(face) for face in faces)
    shut_most = min(max(lid_gaps(face)) for face in faces)
    out = [MadeUp.OPEN_MOUTH] if gap < OPEN_SEEN else []
    out += [MadeUp.SHUT_LIDS] if shut_most > SHUT_SEEN else []
    return out + ([MadeUp.PARTED_LIPS] if gap < PARTED_SEEN else [])


def opened(
    reference: PackedReference, state: FaceState, fitted: Fitted, skin: NDArray[np.floating], gap: float
) -> PackedReference:
    """Return the reference with the mouth open by `gap`, and an inside painted into it."""
    wanted = moved(reference.landmarks, state, with_gap(fitted.model, fitted.neutral, state, gap), fitted)
    closed = moved(reference.landmarks, state, with_gap(fitted.model, fitted.neutral, state, 0.0), fitted)
    colours = measure_colours(reference.rgb, reference.landmarks, skin)
    bent = bend(reference.rgb, reference.landmarks, wanted)
    matte = bend(reference.matte, reference.landmarks, wanted)
    return PackedReference(paint_interior(bent, wanted, closed, colours), wanted, matte)


def with_shut_lids(reference: PackedReference) -> PackedReference:
    """Return the reference with its eyes shut."""
    painted = paint_shut(reference.rgb, reference.landmarks)
    return replace(reference, rgb=painted, landmarks=shut(reference.landmarks))


def moved(
    landmarks: NDArray[np.float32], state: FaceState, wanted: FaceState, fitted: Fitted
) -> NDArray[np.float32]:
    """Return landmarks [478, 3] moved as the face moves from one state to the other."""
    return np.asarray(landmarks + fitted.place(wanted) - fitted.place(state), np.float32)


def with_gap(model: FaceModel, neutral: NDArray[np.float32], state: FaceState, gap: float) -> FaceState:
    """Return the likeliest state whose inner lips are `gap` apart, all else as likely as in `state`."""
    across = (model.basis[:, LOWER_LIP, 1] - model.basis[:, UPPER_LIP, 1]).astype(np.float64)
    now = float(state.expression @ across + neutral[LOWER_LIP, 1] - neutral[UPPER_LIP, 1])
    spread = model.deviation.astype(np.float64) ** 2 * across
    step = spread * (gap - now) / max(float(across @ spread), 1e-12)
    expression = np.asarray(state.expression + step, np.float32).reshape(EXPRESSION_COUNT)
    return FaceState(state.pose, expression)


def mouth_gap(landmarks: NDArray[np.floating]) -> float:
    """Return the gap of the inner lips in inter-pupil distances (landmarks [478, 3])."""
    apart = landmarks[LOWER_LIP] - landmarks[UPPER_LIP]
    along = landmarks[152] - landmarks[10]  # from the forehead to the chin
    down = float(apart @ along) / max(float(np.linalg.norm(along)), 1e-6)
    return max(0.0, down) / pupil_distance(landmarks)
