"""The background behind a person: one picture of it made from all references, and where each shows the person.

A reference is a picture of the person before a background. Warped as a whole, its background would swim along
with the hair. So the references' mattes say where the person is, with a rim of background around, because
mattes are not exact to the pixel; beyond the rim a plate is shown that stands still: at each place what the
references show there where the person is not. It is trusted where those that show a place agree: a camera that moved
between them leaves nothing to trust, and the background goes on travelling with the references. What none shows is
filled from around it (`mien.decoder.plate_fill`): where a head was in all of them, a guessed wall that stands still is
seen less than a rim of the background that goes along with the hair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mien.decoder.plate_fill import fill
from mien.decoder.sampling import smoothstep
from mien.models.topology import FACE_OVAL

# Shares of the picture's longer side.
RIM: Final = 0.012  # how far beyond the matte a reference's own background stays with the person
CLEAR: Final = 0.02  # how far from the matte a reference's background is taken to be free of the person
BLUR: Final = 0.012  # over which disagreement between references is taken together
# Mean difference from the plate (8-bit steps) up to which references agree at a place, from which on they do not.
AGREED: Final = (6.0, 12.0)
# The camera moved where this quantile of it is above the limit: of two dozen clips it was below 4.6 where it stood,
# above 8.5 where it did not.
QUANTILE: Final = 0.75
MOVED: Final = 6.5
FEATHER: Final = 2.0  # how softly references give way to each other in the plate, in units of CLEAR
LEAST_SAY: Final = 0.05  # near the person, where perhaps no other reference shows the place
UNLIKE: Final = 12.0  # difference from the mean at which a reference's say falls off
# Greatest weight of a place at which it begins to count as seen, and from which on it does in full.
SEEN: Final = (0.05, 0.5)
LEAST_WEIGHT: Final = np.float32(1e-6)
# The head around the face oval: so many times as wide and high, shifted up by so much of the face's height.
HEAD_REACH: Final = 1.2
HEAD_UP: Final = 0.12
FOREHEAD: Final = 10
CHIN: Final = 152
LEAST_SEEN: Final = 0.02  # of the picture: with less background there is nothing to make a plate of


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """The background: `rgb` uint8 [h, w, 3] of the references' framing, `trust` uint8 [h, w] in it.

    `masks` uint8 [r, h, w] say where each reference shows the person with a rim around. Where nothing is known of
    a background, trust and masks are 0 everywhere: that draws the references as they are.
    """

    rgb: NDArray[np.uint8]
    trust: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def make_plate(pictures: NDArray[np.uint8], mattes: Sequence[NDArray[np.uint8] | None]) -> Plate:
    """Return the background of pictures [r, h, w, 3] with their mattes [h, w], None where one is not known."""
    known = [matte for matte in mattes if matte is not None]
    nothing = np.zeros(pictures.shape[:3], np.uint8)
    if len(known) < len(mattes):
        return Plate(pictures[0], nothing[0], nothing)
    longer = max(pictures.shape[1:3])
    both = [clear_of(matte, CLEAR * longer) for matte in known]
    weight, say = np.stack([w for w, _ in both]), np.stack([s for _, s in both])
    seen = np.asarray(weight.max(0), np.float32)
    if (seen > SEEN[1]).mean() < LEAST_SEEN:
        return Plate(pictures[0], nothing[0], nothing)
    rgb = robust_mean(pictures, say)
    error = disagreement(pictures, rgb, weight, BLUR * longer)
    trust = 1 - smoothstep(error, *AGREED)
    compared = (weight > SEEN[1]).sum(0) > 1
    if compared.any() and np.quantile(error[compared], QUANTILE) > MOVED:
        trust = np.zeros_like(trust)
    filled = np.clip(fill(rgb, seen), 0, 255)
    masks = np.stack([person_mask(matte, RIM * longer) for matte in known])
    return Plate(np.rint(filled).astype(np.uint8), np.rint(255 * trust).astype(np.uint8), masks)


def with_head(matte: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a matte [h, w] with all of the head, as far as heads reach around faces: dark hair on dark is often lost.

    `landmarks` [478, 2 or more] in the matte's pixels.
    """
    oval = landmarks[list(FACE_OVAL), :2]
    middle, up = oval.mean(0), landmarks[FOREHEAD, :2] - landmarks[CHIN, :2]
    longer = max(matte.shape)
    head = np.clip(middle + HEAD_UP * up + HEAD_REACH * (oval - middle), -longer, 2 * longer)
    image = Image.fromarray(matte)
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in head], fill=255)
    return np.asarray(image, np.uint8)


def person_mask(matte: NDArray[np.uint8], rim_px: float) -> NDArray[np.uint8]:
    """Return uint8 [h, w]: 255 on a matte's person and the rim around, 0 a little farther out, smooth between."""
    return softened(grown(matte, rim_px), rim_px / 2)


def clear_of(matte: NDArray[np.uint8], reach_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two float32 [h, w]: 0 nearer than about `reach_px` to a matte's person, rising to 1 soon, and slowly."""
    person = grown(matte, 1.5 * reach_px)
    soon = np.asarray(1 - softened(person, reach_px / 4) / np.float32(255), np.float32)
    slowly = 1 - softened(person, FEATHER * reach_px) / np.float32(127.5)
    return soon, np.asarray(soon * np.maximum(slowly, LEAST_SAY), np.float32)


def robust_mean(pictures: NDArray[np.uint8], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of pictures [r, h, w, 3] with weights [r, h, w], little swayed by what is unlike the rest."""
    mean = np.zeros(pictures.shape[1:], np.float32)
    for spread in (None, UNLIKE):
        total, amount = LEAST_WEIGHT * mean, np.full((*mean.shape[:2], 1), LEAST_WEIGHT, np.float32)
        for picture, share in zip(pictures, weight, strict=True):
            part = share[..., None]
            if spread is not None:
                part = part * np.exp(-((np.abs(picture - mean).mean(2, keepdims=True) / spread) ** 2))
            total += part * picture
            amount += part
        mean = total / amount
    return mean


def disagreement(
    pictures: NDArray[np.uint8], rgb: NDArray[np.float32], weight: NDArray[np.float32], sigma_px: float
) -> NDArray[np.float32]:
    """Return how far pictures [r, h, w, 3] with weights [r, h, w] are from `rgb` around each place: [h, w]."""
    apart = np.zeros(rgb.shape[:2], np.float32)
    for picture, share in zip(pictures, weight, strict=True):
        apart += share * np.abs(picture - rgb).mean(2)
    apart /= np.maximum(weight.sum(0), 1e-3)
    seen = np.asarray(weight.max(0) > SEEN[0], np.float32)
    around = softened_float(apart * seen, sigma_px) / np.maximum(softened_float(seen, sigma_px), 1e-2)
    return np.asarray(around, np.float32)


def grown(matte: NDArray[np.uint8], reach_px: float) -> NDArray[np.uint8]:
    """Return a matte [h, w] whose bright parts reach `reach_px` farther, sideways and up and down."""
    steps = round(reach_px)
    for _ in range(2):  # rows, then columns
        out = np.pad(matte, ((steps, steps), (0, 0)))
        covered, wanted = 1, 2 * steps + 1  # each value is the greatest of so many from there on
        while covered < wanted:
            step = min(covered, wanted - covered)
            out = np.maximum(out[:-step], out[step:])
            covered += step
        matte = out.T
    return np.ascontiguousarray(matte)


def softened(matte: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Return a matte [h, w], blurred."""
    return np.asarray(Image.fromarray(matte).filter(ImageFilter.GaussianBlur(sigma_px)), np.uint8)


def softened_float(values: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Return values [h, w] of at most 255 blurred, by way of 8 bits."""
    top = max(float(values.max()), 1e-6)
    eight = np.rint(values * (255 / top)).astype(np.uint8)
    return np.asarray(softened(eight, sigma_px), np.float32) * np.float32(top / 255)
