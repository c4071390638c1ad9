"""Rotation vectors and matrices (Rodrigues' formula)."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def skew(vector: Floats) -> Floats:
    """Return the matrix [3, 3] whose product with w is the cross product of `vector` [3] and w."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_matrix(vector: Floats) -> Floats:
    """Return the rotation [3, 3] about `vector` [3] by its length in radians."""
    angle = math.sqrt(float(vector @ vector))
    if angle < 1e-12:
        return np.eye(3) + skew(vector)
    cross = skew(vector / angle)
    turned: Floats = np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * (cross @ cross)
    return turned


def rotation_vector(matrix: Floats) -> Floats:
    """Return the rotation vector [3] (radians, length at most pi) of a rotation matrix [3, 3]."""
    cosine = min(1.0, max(-1.0, (float(np.trace(matrix)) - 1.0) / 2.0))
    angle = math.acos(cosine)
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = math.sin(angle)
    if sine > 1e-6:
        scaled: Floats = axis * (angle / (2.0 * sine))
        return scaled
    if cosine > 0.0:
        return axis / 2.0
    # Half a turn: the axis is the eigenvector of eigenvalue 1, read from R + I.
    column = (matrix + np.eye(3))[:, int(np.argmax(np.diag(matrix)))]
    half_turn: Floats = column / math.sqrt(float(column @ column)) * angle
    return half_turn
