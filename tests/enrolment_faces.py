"""A made-up face that can do all that an enrolment asks for."""

import numpy as np
from numpy.typing import NDArray

from mien.encoder.enrolment_coverage import Item
from mien.encoder.reference_selection import upright
from mien.models.face_model import FaceModel

UNIT_PX = 52.0
CENTRE = (96.0, 96.0)


def face(item: Item = Item.REST, amount: float = 1.0, *, likeness: float = 1.0) -> NDArray[np.float32]:
    """Return landmarks [478, 3] in pixels of a 192 x 192 picture: `item` shown clearly, or `amount` of that.

    `likeness` stretches the face, for another person.
    """
    mean = FaceModel.load().mean.astype(np.float64)
    points = mean @ upright(mean).T
    points[:, 1] *= likeness
    eye = np.linalg.norm(points[33, :2] - points[133, :2])
    for upper, lower in ((159, 145), (386, 374)):
        gap = points[lower, 1] - points[upper, 1]
        share = {Item.EYES_CLOSED: 0.85, Item.EYES_WIDE: -0.3}.get(item, 0.0)
        points[upper, 1] += share * amount * gap
    if item is Item.MOUTH_OPEN:
        points[14, 1] += 0.4 * amount
    if item is Item.TEETH:
        points[[61, 291], 0] += np.array([-0.07, 0.07]) * amount
        points[14, 1] += 0.08 * amount
    if item is Item.BROWS_RAISED:
        points[[105, 66, 334, 296], 1] -= 0.1 * amount
    aside = {Item.GAZE_LEFT: 0.2, Item.GAZE_RIGHT: -0.2}.get(item, 0.0)
    down = {Item.GAZE_DOWN: 0.12, Item.GAZE_UP: -0.1}.get(item, 0.0)
    points[[468, 473], :2] += np.array([aside, down]) * eye * amount
    angle = np.radians({Item.TURN_LEFT: 32.0, Item.TURN_RIGHT: -32.0}.get(item, 0.0) * amount)
    c, s = np.cos(angle), np.sin(angle)
    points = points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    return np.asarray(points * UNIT_PX + np.array([*CENTRE, 0.0]), np.float32)
