"""The files of the web client, answered over plain HTTP: a folder, read once, nothing outside it."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

from websockets.datastructures import Headers
from websockets.http11 import Response

MAX_FILES: Final = 500
MAX_TOTAL_BYTES: Final = 64 << 20

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".glsl": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".wasm": "application/wasm",
}
_SKIPPED_FOLDERS: Final = ("node_modules",)


@dataclass(frozen=True, slots=True, eq=False)
class StaticFiles:
    """Path in the URL -> content type and bytes. Held in memory, so no request can reach any other file."""

    files: dict[str, tuple[str, bytes]]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the files of the known types below `folder`; hidden ones and node_modules are left out."""
        files: dict[str, tuple[str, bytes]] = {}
        total = 0
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.suffix not in _TYPES or any(
                p.startswith(".") or p in _SKIPPED_FOLDERS for p in relative.parts
            ):
                continue
            if not path.is_file() or path.is_symlink():
                continue
            total += path.stat().st_size
            if len(files) >= MAX_FILES or total > MAX_TOTAL_BYTES:
                break
            files["/" + relative.as_posix()] = (_TYPES[path.suffix], path.read_bytes())
        return cls(files)

    def respond(self, target: str) -> Response:
        """Answer a GET of `target`, the path and query of a request."""
        path = unquote(target.partition("?")[0])
        found = self.files.get(path + "index.html" if path.endswith("/") else path)
        status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
        kind, body = found or ("text/plain; charset=utf-8", b"Not found\n")
        headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Cache-Control"] = "no-cache"
        return Response(status.value, status.phrase, headers, body)
