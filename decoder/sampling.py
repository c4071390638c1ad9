"""Sampling of pictures as the shaders do it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# As in the shader.
STRIP: Final = 0.05
EDGE: Final = 0.01
LITTLE: Final = 0.002
CLOTHES: Final = (0.7, 0.85)


def within(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Continue a picture beyond its border as a strip of its mirror image, like the shader."""
    under, over = np.maximum(-uv, 0), np.maximum(uv - 1, 0)
    back = STRIP * under / (STRIP + under) - STRIP * over / (STRIP + over)
    return np.asarray(np.clip(uv, 0, 1) + back, np.float32)


def bilinear(texture: NDArray[np.float32], uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sample [h, w, c] at uv [n, 2] like GL_LINEAR with GL_CLAMP_TO_EDGE: float32 [n, c]."""
    height, width, _ = texture.shape
    at = uv * np.array([width, height], np.float32) - 0.5
    low = np.floor(at).astype(np.intp)
    part = at - low
    x0, y0 = np.clip(low[:, 0], 0, width - 1), np.clip(low[:, 1], 0, height - 1)
    x1, y1 = np.clip(low[:, 0] + 1, 0, width - 1), np.clip(low[:, 1] + 1, 0, height - 1)
    fx, fy = part[:, :1], part[:, 1:]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float32)


def beyond(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [n, 1]: 1 where uv [n, 2] lie beyond the border and no clothes are to be continued, 0 within."""
    low, high = CLOTHES
    side = np.maximum(-uv[:, :1], uv[:, :1] - 1) * (1 - smoothstep(uv[:, 1:], low, high))
    return smoothstep(np.maximum(side, -uv[:, 1:]), 0.0, EDGE)


def within_reach(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [n, 1]: 1 where uv [n, 2] lie in a reference, little beyond its border."""
    out_by = np.maximum(-uv, uv - 1).max(1, keepdims=True)
    return np.maximum(1 - smoothstep(out_by, -EDGE, 0.0), np.float32(LITTLE))


def smoothstep(value: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
