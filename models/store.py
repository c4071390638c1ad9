"""The model store: large files that do not come with the package are found, or fetched once and checked."""

import hashlib
import logging
import os
import queue
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from mien.protocol.errors import MienError
from mien.protocol.private_files import cache_folder

logger = logging.getLogger(__name__)

FIRST_ANSWER_S: Final = 10.0
CHUNK_BYTES: Final = 1 << 16

Progress = Callable[[int, int], None]  # bytes so far, bytes in all


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of the store. `sha256` is what decides: a file with another hash is not used."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    url: str
    licence: str
    purpose: str


FACE_LANDMARKER: Final = ModelFile(
    name="face_landmarker",
    file_name="face_landmarker.task",
    size_bytes=3_758_596,
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    url=(
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
        "face_landmarker.task"
    ),
    licence="Apache-2.0",
    purpose="face tracker of mediapipe 0.10.31",
)

MODELS: Final[dict[str, ModelFile]] = {model.name: model for model in (FACE_LANDMARKER,)}


def cache_dir() -> Path:
    """Return the folder that fetched models are kept in. It need not exist yet."""
    return cache_folder() / "models"


def search_dirs() -> tuple[Path, ...]:
    """Return the folders that models are looked for in, the first one first."""
    named = os.environ.get("MIEN_MODELS")
    return (Path(named).expanduser(), cache_dir()) if named else (cache_dir(),)


def find_model(name: str) -> Path | None:
    """Return the path of model `name` where a complete, unharmed copy is on this machine, else None.

    Raises `MienError` for a name that is not in `MODELS`.
    """
    model = _entry(name)
    for folder in search_dirs():
        path = folder / model.file_name
        if path.is_file():
            if _is_intact(path, model):
                return path
            logger.warning(
                "%s is not the %s that we know (size or SHA-256 differs); ignored", path, model.name
            )
    return None


def fetch_model(
    name: str, progress: Progress | None = None, *, first_answer_s: float = FIRST_ANSWER_S
) -> Path:
    """Fetch model `name` into the user's cache from its official place, unless it is on this machine already.

    The file appears under its name only when its SHA-256 is right. Raises `MienError` where the place does
    not answer within `first_answer_s`, stalls, or sends something else.
    """
    model = _entry(name)
    found = find_model(name)
    if found is not None:
        return found
    target = cache_dir() / model.file_name
    try:
        _make_folders(target.parent)
        handle, partial = tempfile.mkstemp(prefix=f".{model.file_name}.", dir=target.parent)
    except OSError as error:
        raise MienError(
            f"cannot write to {target.parent}: {error}; name another folder in MIEN_HOME or XDG_CACHE_HOME"
        ) from error
    try:
        with os.fdopen(handle, "wb") as out:
            digest = _download(model, out.write, progress, first_answer_s)
        if digest != model.sha256:
            raise MienError(
                f"{model.url} sent a file with SHA-256 {digest}, expected {model.sha256}; it was thrown away"
            )
        os.replace(partial, target)
    except OSError as error:
        raise MienError(f"{model.url} could not be fetched: {_reason(error)}. {_by_hand(model)}") from error
    except HTTPException as error:
        raise MienError(f"{model.url} broke off: {error!r}. {_by_hand(model)}") from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _make_folders(folder: Path) -> None:
    """Make `folder` and what is missing above it, for this user only, as the base directory specification says."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _entry(name: str) -> ModelFile:
    model = MODELS.get(name)
    if model is None:
        raise MienError(f"there is no model {name!r}; there are: {', '.join(MODELS)}")
    return model


def _download(
    model: ModelFile, write: Callable[[bytes], object], progress: Progress | None, first_answer_s: float
) -> str:
    """Read the model's place into `write`. Returns the SHA-256 in hexadecimal."""
    hasher = hashlib.sha256()
    done = 0
    with _first_answer(model.url, first_answer_s) as answer:
        while done <= model.size_bytes:  # one byte too many is enough to know
            chunk = answer.read1(min(CHUNK_BYTES, model.size_bytes + 1 - done))
            if not chunk:
                break
            write(chunk)
            hasher.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(min(done, model.size_bytes), model.size_bytes)
    if done != model.size_bytes:
        sent = f"{done} bytes" if done < model.size_bytes else "more"
        raise MienError(f"{model.url} sent {sent}, expected {model.size_bytes} bytes. {_by_hand(model)}")
    return hasher.hexdigest()


def _first_answer(url: str, limit_s: float) -> Any:
    """Return the opened answer of `url`. Raises `TimeoutError` where none came within `limit_s`.

    In a thread, because nothing else bounds the whole of it: a name look-up ignores socket time-outs, and
    a place with several addresses gets one time-out for each.
    """
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "mien"})
        try:
            outcome.put(urllib.request.urlopen(request, timeout=limit_s))
        except (OSError, HTTPException, ValueError) as error:
            outcome.put(error)

    threading.Thread(target=ask, name="first answer", daemon=True).start()
    try:
        answer = outcome.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {limit_s:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_intact(path: Path, model: ModelFile) -> bool:
    try:
        if path.stat().st_size != model.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256
    except OSError as error:
        logger.warning("%s cannot be read: %s", path, error)
        return False


def _reason(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    return str(getattr(error, "reason", error))


def _by_hand(model: ModelFile) -> str:
    return f"Put {model.file_name} (SHA-256 {model.sha256}) into {cache_dir()}, or name its folder in MIEN_MODELS"
