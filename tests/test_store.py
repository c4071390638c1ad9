"""The model store: looks in the right places, believes the hash only, fetches all or nothing."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mien.models import store
from mien.protocol.errors import MienError

BODY = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIEN_MODELS", raising=False)
    monkeypatch.delenv("MIEN_HOME", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A web server on loopback in place of the official one. Its behaviour is the yielded dict."""
    behaviour: dict[str, object] = {"body": BODY, "status": 200, "wait_s": 0.0, "asked": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour["asked"] = int(str(behaviour["asked"])) + 1
            time.sleep(float(str(behaviour["wait_s"])))
            body = behaviour["body"]
            assert isinstance(body, bytes)
            try:
                self.send_response(int(str(behaviour["status"])))
                self.send_header("Content-Length", str(behaviour.get("promised", len(body))))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client is gone, as some tests want

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    known = replace(
        store.FACE_LANDMARKER,
        url=f"http://127.0.0.1:{server.server_port}/face_landmarker.task",
        size_bytes=len(BODY),
        sha256=hashlib.sha256(BODY).hexdigest(),
    )
    monkeypatch.setitem(store.MODELS, known.name, known)
    yield behaviour
    server.shutdown()
    server.server_close()
    thread.join()


def leftovers() -> list[str]:
    return sorted(os.listdir(store.cache_dir()))


def test_fetch_then_find(place: dict[str, object]) -> None:
    assert store.find_model("face_landmarker") is None
    seen: list[tuple[int, int]] = []
    path = store.fetch_model("face_landmarker", lambda done, whole: seen.append((done, whole)))
    assert path.read_bytes() == BODY
    assert store.find_model("face_landmarker") == path
    assert seen[-1] == (len(BODY), len(BODY)) and len(seen) > 1
    assert leftovers() == ["face_landmarker.task"]
    assert store.fetch_model("face_landmarker") == path
    assert place["asked"] == 1  # the second time it was here


def test_named_folder_comes_first(
    place: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = store.fetch_model("face_landmarker")
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "mine"))
    assert store.find_model("face_landmarker") == cached  # the folder does not even exist
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "face_landmarker.task"
    mine.write_bytes(BODY)
    assert store.find_model("face_landmarker") == mine
    mine.write_bytes(BODY[:-1] + b"x")  # the right length and the wrong bytes
    assert store.find_model("face_landmarker") == cached


def test_wrong_bytes_are_thrown_away(place: dict[str, object]) -> None:
    place["body"] = BODY[:-1] + b"x"
    with pytest.raises(MienError, match="SHA-256"):
        store.fetch_model("face_landmarker")
    assert leftovers() == []


@pytest.mark.parametrize("body", [BODY[:5000], BODY + b"more", b""])
def test_wrong_length_is_thrown_away(place: dict[str, object], body: bytes) -> None:
    place["body"] = body
    with pytest.raises(MienError, match="expected 256000 bytes"):
        store.fetch_model("face_landmarker")
    assert leftovers() == []


def test_connection_that_breaks(place: dict[str, object]) -> None:
    place["body"] = BODY[:5000]
    place["promised"] = len(BODY)
    with pytest.raises(MienError):
        store.fetch_model("face_landmarker")
    assert leftovers() == []


def test_endless_answer_is_cut(place: dict[str, object]) -> None:
    place["body"] = BODY * 40
    with pytest.raises(MienError, match="sent more"):
        store.fetch_model("face_landmarker")
    assert leftovers() == []


def test_refusal_names_the_way_by_hand(place: dict[str, object]) -> None:
    place["status"] = 403
    with pytest.raises(MienError, match=r"403.*MIEN_MODELS"):
        store.fetch_model("face_landmarker")


def test_late_first_answer(place: dict[str, object]) -> None:
    place["wait_s"] = 1.0
    start = time.monotonic()
    with pytest.raises(MienError, match="no answer within|timed out"):
        store.fetch_model("face_landmarker", first_answer_s=0.2)
    assert time.monotonic() - start < 0.8


def test_slow_name_look_up_counts(place: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: object, **options: object) -> None:
        time.sleep(1.0)
        raise OSError("late, and for nothing")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    start = time.monotonic()
    with pytest.raises(MienError, match="no answer within"):
        store.fetch_model("face_landmarker", first_answer_s=0.2)
    assert time.monotonic() - start < 0.8


def test_nobody_listens(place: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        known = replace(store.MODELS["face_landmarker"], url=url)
        monkeypatch.setitem(store.MODELS, known.name, known)
        with pytest.raises(MienError, match="could not be fetched"):
            store.fetch_model("face_landmarker")


def test_unknown_name() -> None:
    with pytest.raises(MienError, match="there are: face_landmarker"):
        store.find_model("nonsense")


def test_folders_are_for_the_user_alone(
    place: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))  # the owner key will lie here
    path = store.fetch_model("face_landmarker")
    assert path == tmp_path / "home" / "cache" / "models" / "face_landmarker.task"
    if os.name == "posix":
        assert {(tmp_path / "home" / p).stat().st_mode & 0o777 for p in (".", "cache", "cache/models")} == {
            0o700
        }
