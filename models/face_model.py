"""The linear face model: a mean face, an identity basis and an expression basis over MediaPipe's 478 vertices."""

import hashlib
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mien.models.rotation import rotation_matrix
from mien.protocol.errors import MienError
from mien.protocol.state import EXPRESSION_COUNT, LANDMARK_COUNT

ASSET: Final = "face_model_1.bin"


@dataclass(frozen=True, slots=True, eq=False)
class FaceModel:
    """Vertices of model space = neutral + expression coefficients @ basis.

    mean: float32 [478, 3], the mean person's neutral face. basis: float32 [30, 478, 3], scaled so that a
    coefficient of 1 moves the vertices by 1 inter-pupil distance in the (weighted) root mean square.
    deviation: float32 [30], the coefficients' standard deviations over the training people. identity: float32
    [I, 478, 3], one standard deviation each. rigid: int [36], the vertices that move least with expression.
    model_id: the first 8 bytes of the asset's SHA-256.

    The asset is big-endian: magic "MFM1", u16 counts (vertices, expressions, identities, rigid points), the
    rigid indices (u16), then mean, basis, identity as one float32 step and int16 values each, deviation as
    float32.
    """

    MAGIC: ClassVar[bytes] = b"MFM1"
    COUNTS: ClassVar[struct.Struct] = struct.Struct("!4H")
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    deviation: NDArray[np.float32]
    identity: NDArray[np.float32]
    rigid: NDArray[np.int64]
    model_id: bytes

    @staticmethod
    def load() -> "FaceModel":
        """Return the packaged model (read once)."""
        return _load_packaged()

    @classmethod
    def parse(cls, data: bytes) -> "FaceModel":
        """Read an asset. Raises `MienError` when the bytes are not one."""
        head = len(cls.MAGIC) + cls.COUNTS.size
        if data[: len(cls.MAGIC)] != cls.MAGIC or len(data) < head:
            raise MienError("the face model asset is damaged: install mien again")
        vertices, expressions, identities, rigid_count = cls.COUNTS.unpack_from(data, len(cls.MAGIC))
        size = (
            head + 2 * rigid_count + 4 * expressions + 3 * 4 + 6 * vertices * (1 + expressions + identities)
        )
        if vertices != LANDMARK_COUNT or expressions != EXPRESSION_COUNT or len(data) != size:
            raise MienError("the face model asset has another shape than this version of mien expects")
        rigid = np.frombuffer(data, ">u2", rigid_count, head).astype(np.int64)
        offset = head + 2 * rigid_count
        blocks = []
        for rows in (1, expressions, identities):
            step = np.frombuffer(data, ">f4", 1, offset)[0]
            values = np.frombuffer(data, ">i2", rows * vertices * 3, offset + 4).astype(np.float32) * step
            blocks.append(values.reshape(rows, vertices, 3))
            offset += 4 + 6 * rows * vertices
        deviation = np.frombuffer(data, ">f4", expressions, offset).astype(np.float32)
        mean, basis, identity = blocks
        return cls(mean[0], basis, deviation, identity, rigid, hashlib.sha256(data).digest()[:8])

    @classmethod
    def serialize_parts(
        cls,
        *,
        mean: NDArray[np.float64],
        basis: NDArray[np.float64],
        deviation: NDArray[np.float64],
        identity: NDArray[np.float64],
        rigid: NDArray[np.int64],
    ) -> bytes:
        """Return the asset's bytes; `parse` gives the model that every machine will use."""
        counts = cls.COUNTS.pack(LANDMARK_COUNT, len(basis), len(identity), len(rigid))
        data = cls.MAGIC + counts + rigid.astype(">u2").tobytes()
        for block in (mean, basis, identity):
            step = np.float32(np.abs(block).max() / 32767)
            data += np.array([step], ">f4").tobytes() + np.round(block / step).astype(">i2").tobytes()
        return data + deviation.astype(">f4").tobytes()

    def vertices(self, neutral: NDArray[np.float32], expression: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the face of `neutral` [478, 3] with `expression` [30], float32 [478, 3], model space."""
        moved = expression @ self.basis.reshape(EXPRESSION_COUNT, -1)
        vertices: NDArray[np.float32] = (neutral + moved.reshape(LANDMARK_COUNT, 3)).astype(np.float32)
        return vertices


def project(
    vertices: NDArray[np.float32], pose: NDArray[np.float32], *, unit_px: float, width: float, height: float
) -> NDArray[np.float32]:
    """Return where `vertices` [N, 3] of model space lie in image space, float32 [N, 3].

    `pose` is float32 [6], `unit_px`, `width` and `height` are the stream's; to draw at another size pass
    all three scaled by the same factor.
    """
    scale = unit_px * float(np.exp(pose[3]))
    points = scale * (vertices.astype(np.float64) @ rotation_matrix(pose[:3].astype(np.float64)).T)
    points[:, 0] += unit_px * float(pose[4]) + width / 2
    points[:, 1] += unit_px * float(pose[5]) + height / 2
    return points.astype(np.float32)


@cache
def _load_packaged() -> FaceModel:
    return FaceModel.parse((resources.files("mien.models") / "assets" / ASSET).read_bytes())
