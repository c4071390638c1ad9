"""A tuning in calls and in replays: used for the face it belongs to, kept beside its avatar, and told where it is not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.call.session import CallHooks, CallSession, Participant
from mien.call.source_worker import SenderSettings
from mien.cli import main
from mien.decoder import stage as stage_module
from mien.decoder.avatar_cache import AvatarCache
from mien.decoder.tuned_generator import generator_for
from mien.encoder.owner_key import OwnerKey
from mien.models.generator_asset import SHIPPED
from mien.models.onnx_weights import weights_of
from mien.protocol.avatar import Avatar, assemble
from mien.protocol.tuning import Tuning, fitted
from tests.avatar_samples import CREATED, OTHER_KEY, TEST_KEY
from tests.call_samples import avatar_file
from tests.test_replay import Clip, Encode
from tests.test_scene_call import call, me, scenes_at_least, settings, until

pytest.importorskip("onnxruntime")


def tuning_file(
    *,
    size: float = 0.05,
    key: OwnerKey = TEST_KEY,
    avatar_id: bytes | None = None,
    generator: bytes | None = None,
) -> bytes:
    """Return a tuning of the shipped generator, which draws another picture with it."""
    assert SHIPPED is not None
    model = SHIPPED.read()
    rng = np.random.default_rng(4)
    changes = {name: rng.normal(0, size, w.shape).astype(np.float32) for name, w in weights_of(model).items()}
    whole = assemble(avatar_file(), now_unix_s=CREATED)
    return fitted(
        changes,
        owner=key.public_key,
        generator=generator or hashlib.sha256(model).digest(),
        avatar_id=avatar_id or whole.avatar_id,
        created_unix_s=CREATED,
    ).serialize(key)


def used(monkeypatch: pytest.MonkeyPatch) -> list[list[Tuning]]:
    """Return what tunings scenes are drawn with, as it comes."""
    asked: list[list[Tuning]] = []

    def noting(avatar: Avatar, tunings: list[Tuning]) -> Any:
        asked.append(list(tunings))
        return generator_for(avatar, tunings)

    monkeypatch.setattr(stage_module, "generator_for", noting)
    return asked


def test_a_tuning_that_was_given_is_used_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told, data = used(monkeypatch), list[str](), tuning_file()
    cache = tmp_path / "avatars"

    async def script(one: CallSession, other: CallSession) -> None:
        await until(scenes_at_least(other, 2), "a scene")

    def watcher(tuning: bytes | None) -> CallSession:
        mine = replace(settings(SenderSettings(), cache_folder=cache), tuning=tuning)
        return CallSession(Participant(), mine, CallHooks(on_status=told.append))

    for given in (data, None):
        call(lambda: CallSession(me(), settings()), lambda given=given: watcher(given), script)  # type: ignore[misc]
        assert asked and [t.serialize(TEST_KEY) for t in asked[-1]] == [data]
    assert told.count("the other side is drawn with the tuning that you were given") == 1
    whole = assemble(avatar_file(), now_unix_s=CREATED)
    kept = AvatarCache(cache).tuning(whole)
    assert kept is not None and kept.serialize(TEST_KEY) == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tuning_file(key=OTHER_KEY), "not signed by the avatar's owner"),
        (tuning_file(avatar_id=bytes(32)), "each enrolment has its own"),
    ],
)
def test_one_that_is_not_theirs_is_not(monkeypatch: pytest.MonkeyPatch, data: bytes, said: str) -> None:
    asked, told = used(monkeypatch), list[str]()

    async def script(one: CallSession, other: CallSession) -> None:
        await until(scenes_at_least(other, 2), "a scene")

    mine = replace(settings(SenderSettings()), tuning=data)
    call(
        lambda: CallSession(me(), settings()),
        lambda: CallSession(Participant(), mine, CallHooks(on_status=told.append)),
        script,
    )
    assert asked and not asked[-1] and any(said in text for text in told)


def test_the_call_command_reads_it_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "them.tuning"
    path.write_bytes(b"nothing of the kind" * 20)
    assert main(["call", "ws://127.0.0.1:9/den", "--tuning", str(path)]) == 2
    said = capsys.readouterr().err
    assert "them.tuning" in said and "no tuning" in said


# --- replay ---------------------------------------------------------------------------------------------------


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command that replays a talk with a scene."""
    avatar = tmp_path / "me.avatar"
    avatar.write_bytes(avatar_file())
    encode = Encode(tmp_path / "talk.mien", str(avatar), monkeypatch)
    assert encode(Clip(0.6), "--scene", "5") == 0
    return [
        "replay",
        str(encode.path),
        "--avatar",
        str(avatar),
        "--size",
        "64",
        "--backend",
        "numpy",
        "--json",
    ]


def replayed(
    command: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], bytes, str]:
    """Return the report, the last picture and what was said."""
    capsys.readouterr()
    assert main([*command, "-o", str(out)]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), max(out.iterdir()).read_bytes(), captured.err


def test_replay_draws_with_it(talk: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "me.tuning"
    path.write_bytes(tuning_file())
    plain, before, _ = replayed(talk, tmp_path / "plain", capsys)
    tuned, after, said = replayed([*talk, "--tuning", str(path)], tmp_path / "tuned", capsys)
    assert not plain["tuned"] and tuned["tuned"] and before != after and "without it" not in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tuning_file(key=OTHER_KEY), "not signed by the avatar's owner"),
        (tuning_file(avatar_id=bytes(32)), "each enrolment has its own"),
        (tuning_file(generator=bytes(32)), "another version of the generator"),
    ],
)
def test_replay_says_why_it_does_not(
    talk: list[str], tmp_path: Path, data: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "me.tuning"
    path.write_bytes(data)
    report, picture, told = replayed([*talk, "--tuning", str(path)], tmp_path / "out", capsys)
    assert not report["tuned"] and said in " ".join(told.split()) and "drawn without it" in told
    assert picture == replayed(talk, tmp_path / "plain", capsys)[1]


def test_a_damaged_file_is_an_error(
    talk: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "me.tuning"
    path.write_bytes(tuning_file()[:-1])
    assert main([*talk, "--tuning", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "cut short" in capsys.readouterr().err
