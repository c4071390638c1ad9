"""mien: the avatar codec for calls that have no bandwidth."""

from typing import Final

__version__: Final = "0.1.0"
