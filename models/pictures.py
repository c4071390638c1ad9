"""Reference pictures and mattes: pixels to plain WebP and back, bounded before anything is decoded."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.protocol.avatar import MAX_REFERENCE_PX, Reference
from mien.protocol.errors import WireError
from mien.protocol.webp import webp_size


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a reference picture, uint8 [h, w, 3] RGB. Raises `WireError` for what is not one."""
    return _decode(data, "RGB")


def decode_matte(data: bytes) -> NDArray[np.uint8]:
    """Return a matte, uint8 [h, w], 255 where the person is. Raises `WireError` for what is not one."""
    return _decode(data, "L")


def matte_of(reference: Reference, *, width: int, height: int) -> NDArray[np.uint8]:
    """Return a reference's matte at the wanted size, uint8 [height, width]; all 255 where it has none."""
    if not reference.matte:
        return np.full((height, width), 255, np.uint8)
    small = Image.fromarray(decode_matte(reference.matte))
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def encode_picture(rgb: NDArray[np.uint8], *, quality: int, effort: int = 6) -> bytes:
    """Return a plain WebP of uint8 [h, w, 3]: no alpha, no metadata. `quality` 0 to 100, `effort` 0 to 6."""
    return _encode(Image.fromarray(rgb), quality=quality, effort=effort)


def encode_matte(matte: NDArray[np.uint8], *, quality: int = 40) -> bytes:
    """Return a plain grey WebP of uint8 [h, w]."""
    return _encode(Image.fromarray(matte).convert("RGB"), quality=quality, effort=6)


def _encode(image: Image.Image, *, quality: int, effort: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=effort, exif=b"", xmp=b"", icc_profile=b"")
    data = out.getvalue()
    webp_size(data)  # refuse on the way out what a reader would refuse
    return data


def _decode(data: bytes, mode: str) -> NDArray[np.uint8]:
    width, height = webp_size(data)
    if not (1 <= width <= MAX_REFERENCE_PX and 1 <= height <= MAX_REFERENCE_PX):
        raise WireError(f"the picture is {width} x {height}, expected at most {MAX_REFERENCE_PX} each way")
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            if image.size != (width, height):
                raise WireError(f"the picture says it is {width} x {height}, but decodes to {image.size}")
            return np.array(image.convert(mode), np.uint8)
    # Pillow's plugins raise these for damaged files
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"the picture cannot be decoded: {error!s:.80}") from None
