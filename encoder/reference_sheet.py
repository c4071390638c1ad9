"""Draws what others will see of an avatar: its first picture, its references, and the person cut out of each."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.pictures import decode_picture, matte_of
from mien.protocol.avatar import AvatarAssembler, Reference, assemble

CELL_PX: Final = 256
CAPTION_PX: Final = 22
GREEN: Final = (40, 170, 90)
DOT: Final = (0, 255, 160)


def draw_reference_sheet(data: bytes, *, now_unix_s: int) -> NDArray[np.uint8]:
    """Return a sheet, uint8 [h, w, 3] RGB, of the `.avatar` file `data`. Raises `WireError` for a file that is none.

    The left column is the first layer alone; then one column for each reference: the picture with its
    landmarks, and the person on green.
    """
    whole = assemble(data, now_unix_s=now_unix_s)
    first = AvatarAssembler(whole.head.data, now_unix_s=now_unix_s)
    first.add_layer(0, whole.bodies[0])
    columns = [(f"first {len(whole.head.data) + len(whole.bodies[0])} B", first.avatar)]
    columns += [("", whole.avatar)]
    drawn = []
    for caption, avatar in columns:
        if avatar is None:
            continue
        for reference in avatar.references:
            width, height = reference.size
            size = f"{width} x {height}, {len(reference.picture)} B"
            name = caption or f"{reference.slot}: {dict(avatar.manifest.made_up).get(reference.slot, size)}"
            drawn.append(_column(reference, name))
    return np.concatenate(drawn, axis=1)


def _column(reference: Reference, caption: str) -> NDArray[np.uint8]:
    rgb = decode_picture(reference.picture)
    height, width = rgb.shape[:2]
    matte = matte_of(reference, width=width, height=height)[:, :, None].astype(np.float32) / 255
    cut = np.rint(rgb * matte + np.array(GREEN, np.float32) * (1 - matte)).astype(np.uint8)
    scale = CELL_PX / max(width, height)
    marked = _fit(rgb)
    for x, y in reference.landmarks[:, :2] * scale:
        if 0 <= x < marked.shape[1] and 0 <= y < marked.shape[0]:
            marked[int(y), int(x)] = DOT
    strip = np.full((CAPTION_PX, CELL_PX, 3), 24, np.uint8)
    cv2.putText(strip, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([strip, _cell(_fit(rgb)), _cell(marked), _cell(_fit(cut))], axis=0)


def _fit(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    scale = CELL_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _cell(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cell = np.full((CELL_PX, CELL_PX, 3), 12, np.uint8)
    cell[: rgb.shape[0], : rgb.shape[1]] = rgb
    return cell
