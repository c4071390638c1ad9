"""Finds the shaders."""

from pathlib import Path
from typing import Final

SHADERS: Final = Path(__file__).with_name("shaders")
DESKTOP_HEADER: Final = "#version 330\n"


def shader_source(name: str, **defined: int) -> str:
    """Return a shader file with the header of desktop GL (WebGL2 prepends its own), and what else is defined."""
    defines = "".join(f"#define {word} {value}\n" for word, value in defined.items())
    return DESKTOP_HEADER + defines + (SHADERS / name).read_text(encoding="utf-8")
