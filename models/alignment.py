"""The closed-form similarity that carries one point set onto another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """`points = scale * rotation @ v + translation`, for T frames: [T, 3, 3], [T], [T, 3]."""

    rotation: Floats
    scale: Floats
    translation: Floats

    def undo(self, points: Floats) -> Floats:
        """Carry points [T, N, 3] of image space back to model space."""
        centred = (points - self.translation[:, None]) / self.scale[:, None, None]
        posed: Floats = np.einsum("tji,tnj->tni", self.rotation, centred)
        return posed


def align(template: Floats, points: Floats) -> Similarity:
    """Return the least-squares similarity from `template` [N, 3] to each frame of `points` [T, N, 3].

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    template_mean = template.mean(axis=0)
    points_mean = points.mean(axis=1)
    centred = template - template_mean
    covariance = np.einsum("tni,nj->tij", points - points_mean[:, None], centred)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.ones((len(points), 3))
    signs[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * signs[:, None, :]) @ vt
    scale = (singular * signs).sum(axis=1) / (centred**2).sum()
    translation = points_mean - scale[:, None] * np.einsum("tij,j->ti", rotation, template_mean)
    return Similarity(rotation, scale, translation)
