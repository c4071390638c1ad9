"""The fine-tune: what it learns from, that it learns, and that nothing is kept that draws no better."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is only there for training")
onnxruntime = pytest.importorskip("onnxruntime")

from mien.cli import main
from mien.commands import enroll_finetune
from mien.commands.enroll_finetune import finetune, is_better
from mien.decoder.recording import read_recording
from mien.decoder.tuned_generator import tuned_model
from mien.decoder.tuning_examples import Play, drawn_size
from mien.encoder import tuning_talk
from mien.encoder.capture import Frame
from mien.encoder.enroll import Enrolment, Settings, Window, enroll_in_detail
from mien.encoder.tuning_talk import Part, Remembered, TalkMaker, Windowed, divide
from mien.models import generator_tuning
from mien.models.generator_asset import SHIPPED
from mien.models.generator_examples import Examples, choose, piece_of
from mien.models.generator_fields import INPUT_PLANES
from mien.models.generator_tuning import Batch, Plan, Tuner, Verdict, loss_of, network_of, painted
from mien.models.onnx_weights import weights_of
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError
from mien.protocol.log import LogReader
from mien.protocol.tuning import Tuning
from tests.avatar_samples import CREATED, TEST_KEY
from tests.test_enroll import SIZE, MadeUpTracker
from tests.test_enroll import frame as made_up_frame

RATE = 10
SECONDS = 6
SETTINGS = Settings(reference_px=256, references=2, complete=False)


class Clip:
    """The portrait nodding, ten times a second, as a file would be; a wall behind it becomes lighter."""

    live = False
    name = "me.mp4"
    width = height = SIZE
    rate = Fraction(RATE)

    def __init__(self, seconds: float = SECONDS) -> None:
        self._count = round(seconds * RATE)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            rgb = np.clip(made_up_frame(3 * index).rgb + np.float32(index / 4), 0, 255).astype(np.uint8)
            yield Frame(rgb, index * 100_000, index)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def enrolled() -> tuple[Remembered, Enrolment]:
    tracker = Remembered(MadeUpTracker())
    enrolment = enroll_in_detail(
        Clip(), consent=Consent.of_self(CREATED), name="Ada", key=TEST_KEY, tracker=tracker, settings=SETTINGS
    )
    return tracker, enrolment


@pytest.fixture(scope="module")
def play(enrolled: tuple[Remembered, Enrolment]) -> Play:
    tracker, _ = enrolled
    maker = TalkMaker(Windowed(Clip(), Window()), tracker, SETTINGS, lambda stage, done, total: None)
    stretch = divide(SECONDS * RATE, Fraction(RATE)).learned[0]
    talk = maker.talk(stretch, drawn_size(SIZE, SIZE))
    with LogReader(io.BytesIO(talk.log)) as reader:
        return Play(talk.avatar, read_recording(reader).segments[0], talk.scenes, talk.originals)


@pytest.fixture(scope="module")
def examples(play: Play) -> Examples:
    return play.examples()


def model() -> bytes:
    assert SHIPPED is not None
    return SHIPPED.read()


# --- what of a clip is for what -------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5, 8.5, 20, 300])
def test_a_clip_is_divided(seconds: float) -> None:
    division = divide(round(seconds * 30), Fraction(30))
    learned = {n for stretch in division.learned for n in stretch.drawn}
    assert learned and not learned & set(division.judged.drawn)
    assert max(learned) < division.judged.drawn.start and division.judged.drawn.stop <= 60 * 30
    for stretch in (*division.learned, division.judged):
        assert stretch.drawn and stretch.enrolled and not set(stretch.drawn) & set(stretch.enrolled)
    assert {n for s in division.learned for n in s.enrolled}.isdisjoint(division.judged.drawn)


def test_a_short_clip_is_refused() -> None:
    with pytest.raises(MienError, match=r"this is 3\.0: use a longer clip"):
        divide(90, Fraction(30))


def test_a_clip_is_tracked_once() -> None:
    class Counting(MadeUpTracker):
        seen = 0

        def track(self, rgb: Any, timestamp_us: int) -> Any:
            self.seen += 1
            return super().track(rgb, timestamp_us)

    tracker = Counting()
    remembered = Remembered(tracker)
    for _ in range(3):
        for frame in Clip(1):
            remembered.track(frame.rgb, frame.timestamp_us)
    assert tracker.seen == remembered.frames == RATE


def test_windows_and_parts() -> None:
    window = Window(start_us=500_000, end_us=3_000_000, frames=20)
    windowed = Windowed(Clip(), window)
    assert [f.index for f in windowed] == list(range(5, 25))
    assert [f.index for f in Part(windowed, range(3, 6))] == [8, 9, 10]
    assert [f.index for f in Windowed(Clip(), replace(window, frames=None))] == list(range(5, 30))


# --- examples -------------------------------------------------------------------------------------------------


def test_examples_fit_together(examples: Examples) -> None:
    width, height = examples.grid
    assert examples.truth.shape == examples.drawn.shape == (len(examples.outside), 2 * height, 2 * width, 3)
    assert examples.seen.shape[0] == 3 and examples.seen.shape[2:] == (height, width, 3)
    assert (np.diff(examples.tick_frames) > 0).all() and ((examples.share >= 0) & (examples.share < 1)).all()
    # References of another part, and yet the same face at the same place.
    apart = np.abs(examples.truth.astype(int) - examples.drawn).mean()
    assert 1 < apart < 30
    rng = np.random.default_rng(1)
    batch = Batch.of([choose(examples, rng, crop=40) for _ in range(2)])
    assert batch.drawn.shape == (3, 2, 3, 80, 80) and batch.base.shape == (3, 2, 9, 40, 40)
    assert all(torch.isfinite(value).all() for value in (batch.base, batch.to_left, batch.place))


def test_learning_sees_what_the_player_paints(play: Play, examples: Examples) -> None:
    shown = [rgb for rgb, _ in play.judged(None, 0, step=1)]
    width, height = examples.grid
    start = len(shown) - len(examples.truth)
    for last in (2, 3):
        frames = [int(n) for n in np.flatnonzero(examples.left == last - 1)][:1] * 3
        piece = piece_of(examples, 0, last, frames, slice(0, height), slice(0, width))
        batch = Batch.of([piece])
        twin = painted(batch, list(batch.base), 0)[0].numpy().transpose(1, 2, 0)
        matches = [np.abs(rgb.astype(np.float32) - twin).mean() for rgb in shown]
        assert int(np.argmin(matches)) in (frames[0], frames[0] + start)
        assert min(matches) < 2


# --- learning -------------------------------------------------------------------------------------------------


def test_the_network_is_the_one_that_is_played() -> None:
    session = onnxruntime.InferenceSession(model(), providers=["CPUExecutionProvider"])
    x = torch.randn(1, INPUT_PLANES, 48, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network_of(model()).eval()(x).numpy()
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(got - wanted).max() < 1e-3


def test_a_network_of_other_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.models.generator_tuning.weights_of", lambda model: {})
    with pytest.raises(MienError, match="cannot be tuned"):
        network_of(b"")


def test_it_learns_and_says_what_to_add_to_what(examples: Examples) -> None:
    plan = Plan(steps=8, crop=40, learning_rate=2e-3, warm_up=1)
    tuner = Tuner(model(), plan)
    assert all(not change.any() for change in tuner.changes().values())
    piece = Batch.of([choose(examples, np.random.default_rng(3), crop=plan.crop)])
    losses = [tuner.take(piece, 0.0) for _ in range(plan.steps)]
    assert losses[-1] < losses[0]
    there = weights_of(model())
    changes = tuner.changes()
    assert len(changes) > 10 and any(change.any() for change in changes.values())
    assert all(there[name].shape == change.shape for name, change in changes.items())
    with torch.no_grad():  # what travels is what was learned
        tuned = network_of(tuned_model(tuning_of(changes)))
        assert float(loss_of(tuned, piece, plan.weights)) < losses[0]


def tuning_of(changes: dict[str, Any]) -> Tuning:
    import hashlib

    from mien.protocol.tuning import fitted

    return fitted(
        changes,
        owner=TEST_KEY.public_key,
        generator=hashlib.sha256(model()).digest(),
        avatar_id=bytes(32),
        created_unix_s=CREATED,
    )


def test_a_gradient_that_is_not_finite_is_left_out(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = Tuner(model(), Plan(crop=40, warm_up=1))
    piece = Batch.of([choose(examples, np.random.default_rng(3), crop=40)])
    tuner.take(piece, 0.0)
    before = tuner.changes()
    real = generator_tuning.loss_of
    monkeypatch.setattr(generator_tuning, "loss_of", lambda *arguments: real(*arguments) * float("nan"))
    tuner.take(piece, 0.0)
    after = tuner.changes()
    assert all(np.isfinite(change).all() for change in after.values()) and before.keys() == after.keys()


def test_it_stops_when_its_time_is_over(examples: Examples) -> None:
    tuner = Tuner(model(), Plan(steps=10_000, crop=32, batch=1))
    losses = tuner.run([examples], seconds=0.5)
    assert 1 <= len(losses) < 200 and tuner.step == len(losses)


def test_the_same_seed_learns_the_same(examples: Examples) -> None:
    one, two = (Tuner(model(), Plan(steps=2, crop=32, batch=1)) for _ in range(2))
    assert one.run([examples], seconds=60) == pytest.approx(two.run([examples], seconds=60))


# --- judging --------------------------------------------------------------------------------------------------


def test_verdicts_are_the_bench_s() -> None:
    from mien.bench.picture_metrics import gradient, gradient_similarity, grey, ssim_map

    rng = np.random.default_rng(5)
    truth = np.kron(rng.integers(0, 256, (24, 24, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    drawn = np.clip(truth + rng.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    found = Verdict.of([(drawn, truth)])
    a, b = grey(drawn), grey(truth)
    assert found.ssim == pytest.approx(float(ssim_map(a, b)[0][5:-5, 5:-5].mean()), abs=0.01)
    assert found.gmsd == pytest.approx(float(gradient_similarity(a, b).std()), abs=0.01)
    assert found.edge == pytest.approx(float(gradient(a).mean() / gradient(b).mean()), abs=0.02)
    with pytest.raises(ValueError, match="no picture"):
        Verdict.of([])


@pytest.mark.parametrize(
    ("tuned", "better"),
    [
        (Verdict(0.902, 0.1, 0.95), True),
        (Verdict(0.9, 0.098, 0.95), True),
        (Verdict(0.9004, 0.0996, 0.95), False),  # too little
        (Verdict(0.91, 0.101, 0.95), False),  # one at the cost of the other
        (Verdict(0.899, 0.09, 0.95), False),
        (Verdict(0.91, 0.09, 0.925), True),
        (Verdict(0.91, 0.09, 0.915), False),  # soft
    ],
)
def test_what_is_worth_a_file(tuned: Verdict, better: bool) -> None:
    assert is_better(tuned, Verdict(0.9, 0.1, 0.94)) is better


# --- the command ----------------------------------------------------------------------------------------------


def test_a_whole_fine_tune(enrolled: tuple[Remembered, Enrolment], monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, enrolment = enrolled
    stages: list[str] = []
    monkeypatch.setattr(enroll_finetune, "is_better", lambda tuned, everybody: True)
    outcome = finetune(
        Clip(),
        tracker,
        SETTINGS,
        enrolment,
        TEST_KEY,
        minutes=1,
        tell=lambda stage, done, total: stages.append(stage),
        plan=Plan(steps=2, crop=32, batch=1),
    )
    assert outcome.steps == 2 and {"learning", "comparing"} <= set(stages)
    assert 0.5 < outcome.everybody.ssim <= 1 and 0.5 < outcome.tuned.ssim <= 1
    assert outcome.tuning is not None
    again = Tuning.parse(outcome.tuning.serialize(TEST_KEY))
    again.check_belongs(enrolment.avatar.manifest, enrolment.avatar.avatar_id)
    tuned_model(again)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Command":
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mien.commands.enroll.open_tracker", MadeUpTracker)
    return Command(tmp_path / "me.avatar", monkeypatch)


class Command:
    """`mien enroll --finetune` of a made-up clip; returns the exit status."""

    def __init__(self, out: Path, patch: pytest.MonkeyPatch) -> None:
        self.out, self.patch = out, patch

    def __call__(self, clip: Clip, *extra: str) -> int:
        self.patch.setattr("mien.commands.enroll.open_source", lambda spec: clip)
        small = ["--reference-px", "256", "--references", "2", "--only-photographed", "--no-template"]
        return main(
            ["enroll", "me.mp4", "-o", str(self.out), "--consent", "self", "--finetune", *small, *extra]
        )


def test_the_command_writes_what_is_better(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(enroll_finetune, "is_better", lambda tuned, everybody: True)
    assert command(Clip(), "--finetune-minutes", "0.05", "--json") == 0
    report = json.loads(capsys.readouterr().out)["finetune"]
    path = command.out.with_suffix(".tuning")
    assert report["kept"], report
    assert report["file"] == str(path) and report["bytes"] == path.stat().st_size
    assert path.stat().st_size < 500_000 and path.stat().st_mode & 0o077 == 0
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["for_this_version"]


def test_the_command_keeps_nothing_that_is_no_better(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = command.out.with_suffix(".tuning")
    path.write_bytes(b"of the avatar before")
    outcome = enroll_finetune.Outcome(Verdict(0.9, 0.1, 1), Verdict(0.89, 0.1, 1), 7, 0.3, None)
    monkeypatch.setattr(enroll_finetune, "finetune", lambda *arguments, **named: outcome)
    assert command(Clip()) == 0
    said = capsys.readouterr().out
    assert "not kept" in said and "0.9000 and 0.8900" in said
    assert command.out.exists() and not path.exists()


def test_an_interrupted_one_leaves_the_avatar(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(enroll_finetune, "finetune", interrupted)
    assert command(Clip()) == 0
    assert "no fine-tune: interrupted" in capsys.readouterr().out and command.out.exists()


def test_a_clip_that_is_too_short_still_gives_an_avatar(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(Clip(2)) == 0
    assert "use a longer clip" in capsys.readouterr().out and command.out.exists()


def test_what_cannot_be_tuned_is_refused_at_once(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Clip()
    live.live = True
    for clip, extra, said in (
        (live, ("--no-guided",), "needs a clip"),
        (Clip(), ("--finetune-minutes", "0"), "--finetune-minutes 0"),
    ):
        assert command(clip, *extra) == 2
        assert said in capsys.readouterr().err and not command.out.exists()
    found = util.find_spec
    monkeypatch.setattr(enroll_finetune, "find_spec", lambda name: None if name == "torch" else found(name))
    assert command(Clip()) == 2
    assert "training extra (torch is missing)" in capsys.readouterr().err
    monkeypatch.setattr(enroll_finetune, "SHIPPED", None)
    assert command(Clip()) == 2
    assert "without a generator" in capsys.readouterr().err


def test_what_is_learned_from_is_like_a_call_by_default() -> None:
    from mien.protocol.scene import SceneUnit

    assert tuning_talk.SCENE_KBPS[0] == 5
    assert not SceneUnit(0, b"").face
