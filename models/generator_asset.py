"""The generator that comes with the package: its file, and the hash that tells whether it is whole."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from mien.protocol.errors import MienError


@dataclass(frozen=True, slots=True)
class GeneratorAsset:
    """A file among this package's assets."""

    file_name: str
    sha256: str

    def read(self) -> bytes:
        """Return the file's bytes. Raises `MienError` where it is missing or not what it was."""
        try:
            data = (resources.files("mien.models") / "assets" / self.file_name).read_bytes()
        except OSError as error:
            raise MienError(
                f"the generator {self.file_name} cannot be read ({error}): install mien again"
            ) from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise MienError(f"the generator {self.file_name} is damaged: install mien again")
        return data


SHIPPED: Final[GeneratorAsset | None] = GeneratorAsset(
    "generator_2.onnx", "db142e0bf8bb2eed037d15209d6dc106ab61d2bc4e04c62d002603dde115d5c3"
)
