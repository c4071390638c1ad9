"""A window, where there is a display and the optional package `glfw` is installed."""

from typing import Any, Final

import moderngl
import numpy as np
from numpy.typing import NDArray

from mien.decoder.shader_source import shader_source
from mien.protocol.errors import MienError

TITLE: Final = "mien"


class Window:
    """Shows RGB pictures; the last one stays until the next. Use it from the main thread."""

    def __init__(self, width: int, height: int, *, title: str = TITLE) -> None:
        """Open a window. Raises `MienError` that says what is missing: the package, or a display."""
        self._glfw = load_glfw()
        if not self._glfw.init():
            raise MienError("there is no display to open a window on: write a file instead (--out talk.mp4)")
        glfw = self._glfw
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        self._window = glfw.create_window(width, height, title, None, None)
        if not self._window:
            glfw.terminate()
            raise MienError("the display gives no OpenGL 3.3 window: write a file instead (--out talk.mp4)")
        glfw.make_context_current(self._window)
        glfw.swap_interval(0)
        self._context = moderngl.create_context()
        self._program = self._context.program(
            vertex_shader=shader_source("show.vert.glsl"), fragment_shader=shader_source("show.frag.glsl")
        )
        self._texture = self._context.texture((width, height), 3, alignment=1)
        self._array = self._context.vertex_array(self._program, [])
        self._array.vertices = 3
        self.width, self.height = width, height

    @property
    def open(self) -> bool:
        """False once the person has closed the window."""
        return not self._glfw.window_should_close(self._window)

    def show(self, rgb: NDArray[np.uint8]) -> None:
        """Show RGB uint8 [height, width, 3] and handle the window's events."""
        glfw = self._glfw
        glfw.make_context_current(self._window)
        self._texture.write(np.ascontiguousarray(rgb).tobytes())
        self._context.viewport = (0, 0, *glfw.get_framebuffer_size(self._window))
        self._texture.use(0)
        self._array.render(moderngl.TRIANGLES)
        glfw.swap_buffers(self._window)
        glfw.poll_events()

    def close(self) -> None:
        """Close the window."""
        self._context.release()
        self._glfw.destroy_window(self._window)
        self._glfw.terminate()


def load_glfw() -> Any:
    """Return the glfw module, its warnings silenced. Raises `MienError` where it is not installed."""
    try:
        import glfw
    except ImportError as error:
        raise MienError(
            "a window needs the package glfw: pip install 'mien[window]', or write a file"
        ) from error
    glfw.ERROR_REPORTING = "ignore"
    return glfw
