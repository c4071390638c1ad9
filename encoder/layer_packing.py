"""Packs an enrolment into layers: as good a first picture as 10 kB allow, then the references within a budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.pictures import encode_matte, encode_picture
from mien.protocol.avatar import (
    MAX_FIRST_BYTES,
    MAX_FIRST_PX,
    AvatarContent,
    Declaration,
    Reference,
    RingsLayer,
    Signer,
    first_bytes,
    serialize_reference,
    sign_avatar,
)
from mien.protocol.compact import quantise_neutral
from mien.protocol.errors import MienError

FIRST_SIZES_PX: Final = (MAX_FIRST_PX, 208, 160, 128, 96)
FIRST_MIN_QUALITY: Final = 20  # below it a smaller picture looks better than a coarser one
FIRST_MATTE_PX: Final = 128
FIRST_MATTE_QUALITY: Final = 30
MATTE_PX: Final = 256
MATTE_QUALITY: Final = 40
MIN_QUALITY: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class PackedReference:
    """A reference before it is coded: uint8 [h, w, 3], float32 [478, 3] in its pixels, matte uint8 [h, w]."""

    rgb: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    matte: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LayerBudget:
    """How many bytes the whole file may take, and the best WebP quality that pictures may get."""

    total: int
    quality: int

    @classmethod
    def for_size(cls, reference_px: int) -> "LayerBudget":
        """Return the budget for references of this longer side."""
        return cls(total=60_000, quality=85) if reference_px <= 256 else cls(total=200_000, quality=85)


@dataclass(frozen=True, slots=True)
class PackedAvatar:
    """The signed file, and the WebP qualities that its pictures got."""

    data: bytes
    first_quality: int
    picture_quality: int


def pack_avatar(
    references: Sequence[PackedReference],
    *,
    neutral: NDArray[np.float32],
    appearance: NDArray[np.float32],
    rings: NDArray[np.float32] | None,
    declaration: Declaration,
    signer: Signer,
    budget: LayerBudget,
) -> PackedAvatar:
    """Code, layer and sign. `references` begin with the central one. Raises `MienError` if 10 kB hold no picture."""
    room = budget.total - MAX_FIRST_BYTES - (len(RingsLayer(rings).serialize()) if rings is not None else 0)
    quality, pictures = _code_pictures(references, neutral, room=room, best=budget.quality)
    content = AvatarContent(
        neutral=neutral,
        appearance=appearance,
        first=_small(references[0], FIRST_SIZES_PX[-1], MIN_QUALITY),
        references=tuple(pictures),
        rings=rings,
    )
    first_quality, content = _fit_first(references[0], content, declaration)
    return PackedAvatar(sign_avatar(content, declaration, signer), first_quality, quality)


def _code_pictures(
    references: Sequence[PackedReference], neutral: NDArray[np.float32], *, room: int, best: int
) -> tuple[int, list[Reference]]:
    """Code all pictures at the best common quality, at most `best`, with which their layers fit into `room` bytes."""
    vertices = quantise_neutral(neutral)
    bare = [
        Reference(b"", encode_matte(shrink(r.matte, MATTE_PX), quality=MATTE_QUALITY), r.landmarks, slot)
        for slot, r in enumerate(references)
    ]
    room -= sum(len(serialize_reference(r, vertices)) for r in bare)
    low, high = MIN_QUALITY, best
    coded: list[bytes] | None = None
    middle = best  # most pictures fit at once
    while low < high:
        trial = [encode_picture(r.rgb, quality=middle, effort=4) for r in references]
        if sum(map(len, trial)) <= room:
            low, coded = middle, trial
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    coded = coded or [encode_picture(r.rgb, quality=low, effort=4) for r in references]
    return low, [replace(r, picture=picture) for r, picture in zip(bare, coded, strict=True)]


def _fit_first(
    central: PackedReference, content: AvatarContent, declaration: Declaration
) -> tuple[int, AvatarContent]:
    """Return the content with the best first picture that fits, and its quality."""
    for size in FIRST_SIZES_PX:
        least = FIRST_MIN_QUALITY if size != FIRST_SIZES_PX[-1] else MIN_QUALITY
        low, high = least - 1, 90
        while low < high:
            middle = (low + high + 1) // 2
            trial = replace(content, first=_small(central, size, middle))
            if first_bytes(trial, declaration) <= MAX_FIRST_BYTES:
                low = middle
            else:
                high = middle - 1
        if low >= least:
            return low, replace(content, first=_small(central, size, low))
    raise MienError("the first picture does not fit into 10 kB even at its smallest: use a calmer background")


def _small(reference: PackedReference, size_px: int, quality: int) -> Reference:
    rgb = shrink(reference.rgb, size_px)
    scale = np.array([rgb.shape[1] / reference.rgb.shape[1]] * 3, np.float32)
    matte = encode_matte(shrink(reference.matte, min(size_px, FIRST_MATTE_PX)), quality=FIRST_MATTE_QUALITY)
    return Reference(encode_picture(rgb, quality=quality), matte, reference.landmarks * scale, 0)


def shrink(picture: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Return a picture, uint8 [h, w] or [h, w, 3], with its longer side at most `size_px`."""
    height, width = picture.shape[:2]
    factor = size_px / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
