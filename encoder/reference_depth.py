"""Gives a reference's landmarks the depth of the person's own face instead of the tracker's guess.

A tracker guesses depth from one picture, and guesses differently in every pose: a nod looks like a longer chin. Across
the picture nobody sees that, but a head that is turned later shows it. The person's neutral face with the expression
fitted to it says the same depth in every picture.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel, project
from mien.models.fit import Fitter
from mien.protocol.state import FaceState

ROUNDS: Final = 3  # pose and depth depend on each other


class Fitted:
    """One person's face in pictures of one size and framing: model, neutral face [478, 3], and how it is projected."""

    def __init__(
        self, model: FaceModel, neutral: NDArray[np.float32], *, unit_px: float, width: int, height: int
    ) -> None:
        self.model, self.neutral = model, neutral
        self.unit_px, self.width, self.height = unit_px, width, height
        self._fitter = Fitter(model, neutral, unit_px=unit_px, width=width, height=height)

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        """Return the state nearest to landmarks [478, 3] in pixels."""
        return self._fitter.fit(landmarks)

    def place(self, state: FaceState) -> NDArray[np.float32]:
        """Return where the model's face stands in a state: [478, 3] in pixels."""
        vertices = self.model.vertices(self.neutral, state.expression)
        return project(vertices, state.pose, unit_px=self.unit_px, width=self.width, height=self.height)

    def with_depth(self, landmarks: NDArray[np.float32]) -> tuple[NDArray[np.float32], FaceState]:
        """Return landmarks with x and y as they are and z of the fitted face, and the state fitted to them."""
        out = landmarks.astype(np.float32)
        state = self.fit(out)
        for _ in range(ROUNDS):
            # Where depth 0 is matters, too: a head turns about it, and a pose has no way to say where it is.
            out = np.column_stack([out[:, :2], self.place(state)[:, 2]]).astype(np.float32)
            state = self.fit(out)
        return out, state
