"""`mien serve` and `mien call` as separate processes on loopback, and what they refuse."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from PIL import Image

from mien.cli import main
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError
from tests.avatar_samples import TEST_KEY, portrait
from tests.call_samples import avatar_file

PROGRAM = (sys.executable, "-m", "mien")


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "MIEN_HOME": str(home), "HOME": str(home), "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Run `mien serve` and give its address."""
    command = [*PROGRAM, "serve", "--port", "0", "--json", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(home)) as server:
        try:
            assert server.stdout is not None
            assert select.select([server.stdout], [], [], 20)[0]
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()
            assert server.wait(10) == 0  # it closes cleanly


def calling(home: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    home.mkdir(mode=0o700, exist_ok=True)
    command = [
        *PROGRAM,
        "call",
        url,
        "--loopback",
        "--no-audio",
        "--no-window",
        "--json-stats",
        "-",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    )


def result(process: subprocess.Popen[str], *, status: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=40)
    assert process.returncode == status, err
    figures: dict[str, Any] = json.loads(out)
    return figures


def test_two_processes_meet(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        one = calling(tmp_path / "one", f"{url}/den", "--seconds", "1")
        other = calling(tmp_path / "other", f"{url}/den")
        figures, others = result(one), result(other)
    assert figures["ended"] == "hung up here" and others["ended"] == "the other side hung up"
    assert figures["loopback"] and figures["connect_s"] < 5
    sent, came = figures["wire"]["sent"]["total"], others["wire"]["received"]["total"]
    assert 0 <= sent["wire_bytes"] - came["wire_bytes"] < 600  # all but what was under way in the end


def test_a_killed_peer_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signalling server tells at once, so that nobody waits for the connection to time out."""
    with serving(tmp_path) as url:
        one = calling(tmp_path / "one", f"{url}/den")
        other = calling(tmp_path / "other", f"{url}/den")
        for process in (one, other):
            assert process.stderr is not None
            while "connected" not in process.stderr.readline():
                pass
        other.kill()
        other.communicate()
        assert result(one, status=1)["ended"] == "the other side vanished"


def test_a_face_crosses(tmp_path: Path) -> None:
    try:
        open_tracker().close()
    except MienError as error:
        pytest.skip(str(error))
    home = tmp_path / "ada"
    home.mkdir(mode=0o700)
    key = TEST_KEY.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "owner.key").write_bytes(key)
    (home / "owner.key").chmod(0o600)
    (home / "ada.avatar").write_bytes(avatar_file())
    Image.fromarray(portrait()[0]).save(home / "ada.png")
    with serving(tmp_path) as url:
        ada = calling(
            home,
            f"{url}/den",
            *("--input", str(home / "ada.png"), "--repeat", "--avatar", str(home / "ada.avatar")),
            *("--transfer-kbps", "500"),
        )
        watcher = calling(
            tmp_path / "watcher",
            f"{url}/den",
            *(
                "--out",
                str(tmp_path / "out.mp4"),
                "--record",
                str(tmp_path / "talk.mien"),
                "--seconds",
                "2.5",
            ),
        )
        received, sent = result(watcher), result(ada)
    assert received["received"]["avatar_verdict"] == sent["sent"]["avatar_verdict"] == "shown"
    assert received["received"]["messages"] > 3
    assert sent["sent"]["camera_pixels"] == 0 and sent["received"]["recorded_by_other"]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20
    assert main(["inspect", str(tmp_path / "talk.mien"), "--json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["den", "--carrier", "audio", "--no-audio"], "leave out --no-audio"),
        (["two words"], "neither an address"),
        (["den", "--no-audio", "--mute"], "leave one out"),
        (["den", "--show"], "--input camera"),
        (["den", "--fps", "0"], "expected 1 to 60"),
        (["den", "--voice-kbps", "5"], "expected 6 to 24"),
        (["den", "--script", "5:dance"], "SECONDS:VERB"),
        (["den", "--avatar", "nothing.avatar"], "cannot read nothing.avatar"),
        (["ws://127.0.0.1:9/den", "--no-audio", "--no-window"], "mien serve"),
    ],
)
def test_refusals_say_what_to_do(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["call", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cert", "x.pem"], "give both"),
        (["--self-signed", "--cert", "x.pem", "--key", "y.pem"], "leave out"),
        (["--cert-out", "x.pem"], "give both"),
        (["--cert", "x.pem", "--key", "y.pem"], "cannot use x.pem"),
        (["--web", "nowhere"], "is no folder"),
        (["--host", "203.0.113.1", "--port", "0"], "cannot listen"),
    ],
)
def test_serve_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
