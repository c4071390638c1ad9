"""The small form of the generator's training: some steps on made-up pieces, on any machine that has PyTorch."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is only there for training")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx", reason="needed to export")

from mien.bench import generator_eval, generator_train
from mien.bench.generator_data import COARSE, Shard
from mien.bench.generator_samples import GRID, Batch, Clip, choose, disturb, piece_of, varied
from mien.bench.generator_train import Plan, Trainer, loss_of, next_batch
from mien.decoder.scene_layer import composed, indices, remapped
from mien.models import generator_fields, generator_painting
from mien.models.generator_loss import Weights
from mien.models.generator_net import FOLLOWED, Cautious, Generator, exported


def smooth(rng: np.random.Generator, *shape: int, sigma: float = 3) -> np.ndarray:
    import cv2

    rows = rng.normal(0, 1, (int(np.prod(shape[:-3])), *shape[-3:])).astype(np.float32)
    out = np.stack([cv2.GaussianBlur(row, (0, 0), sigma).reshape(shape[-3:]) for row in rows])
    return np.asarray((out / out.std()).reshape(shape), np.float32)


def made_up_shard(seed: int = 3) -> Shard:
    """A picture that is moved and darkened a little by what is drawn, and seen through blur."""
    import cv2

    rng = np.random.default_rng(seed)
    n, k, s = 9, 4, 2
    still = np.clip(128 + 50 * smooth(rng, 1, 256, 256, 3, sigma=2)[0], 0, 255).astype(np.uint8)
    truth = np.stack([np.roll(still, i, 1) for i in range(n)])
    drawn = np.clip(np.roll(truth, 3, 2).astype(np.float32) - 10, 0, 255).astype(np.uint8)
    at = np.array([0, 3, 6, 8], np.int32)
    small = np.stack([cv2.resize(truth[i], (GRID, GRID), interpolation=cv2.INTER_AREA) for i in at])
    seen = np.stack([cv2.GaussianBlur(p, (0, 0), 1.2) for p in small])
    left = np.clip(np.searchsorted(at, range(n), side="right") - 1, 0, k - 2).astype(np.int32)
    share = np.array([(i - at[j]) / (at[j + 1] - at[j]) for i, j in enumerate(left)], np.float32)
    angle = np.linspace(0, 2 * np.pi, 730)
    oval = np.stack([64 + 20 * np.cos(angle), 60 + 26 * np.sin(angle), 0 * angle], 1)
    return Shard(
        truth=truth,
        drawn=drawn,
        outside=np.full((n, GRID, GRID), 255, np.uint8),
        positions=np.repeat(oval[None], n, 0).astype(np.float32),
        tick_frames=at,
        left=left,
        share=share,
        to_left=np.zeros((n, COARSE, COARSE, 2), np.float16),
        to_right=np.zeros((n, COARSE, COARSE, 2), np.float16),
        to_before=np.zeros((k, COARSE, COARSE, 2), np.float16),
        kbps=np.array([5, 10], np.float32),
        face=np.array([False, True]),
        seen=np.stack([seen] * s),
        flow=np.zeros((s, k, GRID // 2, GRID // 2, 2), np.float16),
        light=np.zeros((s, k, COARSE, COARSE, 3), np.float16),
        paint=np.zeros((s, k, GRID // 2, GRID // 2), np.uint8),
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("shards") / "made-up.npz"
    made_up_shard().save(path)
    return Clip.load(path)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def planes(values: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32))


def random_situation(
    *, face: bool, before: bool
) -> tuple[generator_fields.Situation, generator_painting.Situations]:
    rng = np.random.default_rng(2)
    size = (48, 64)
    base = np.concatenate(
        [
            3 * smooth(rng, *size, 2),
            9 * smooth(rng, *size, 3),
            rng.random((*size, 1)),
            128 + 40 * smooth(rng, *size, 3),
        ],
        2,
    ).astype(np.float32)
    seen, drawn = (np.clip(128 + 40 * smooth(rng, *size, 3), 0, 255).astype(np.uint8) for _ in range(2))
    outside = np.clip(smooth(rng, *size, 1) + 1, 0, 1).astype(np.float32)
    angle = np.linspace(0, 2 * np.pi, 500)
    positions = np.stack([30 + 9 * np.cos(angle), 20 + 12 * np.sin(angle)], 1).astype(np.float32)
    old = base[:, ::-1].copy() if before else None
    one = generator_fields.Situation(seen, drawn, base, old, outside, positions, face)
    place = generator_fields.place_in_face(positions, size[1], size[0])
    many = generator_painting.Situations(
        planes(seen),
        planes(drawn),
        planes(base),
        None if old is None else planes(old),
        planes(outside),
        planes(place),
        torch.tensor([float(face)]),
    )
    return one, many


@pytest.mark.parametrize(("face", "before"), [(False, False), (True, True)])
def test_twins(face: bool, before: bool) -> None:
    one, many = random_situation(face=face, before=before)
    # OpenCV samples at 1/32 of a pixel.
    assert np.allclose(generator_fields.input_of(one), generator_painting.input_of(many).numpy(), atol=0.06)
    answer = np.random.default_rng(1).uniform(-1, 1, (1, generator_fields.OUTPUT_PLANES, 48, 64))
    fields = generator_fields.fields_of(one, answer.astype(np.float32))
    twin = generator_painting.fields_of(many, torch.from_numpy(answer.astype(np.float32)))
    assert np.allclose(fields, twin[0].numpy().transpose(1, 2, 0), atol=2.5)


def test_painting_twin() -> None:
    one, many = random_situation(face=True, before=True)
    rng = np.random.default_rng(4)
    drawn = np.clip(128 + 40 * smooth(rng, 96, 128, 3), 0, 255).astype(np.uint8)
    painted = composed(drawn, one.base)
    twin = generator_painting.composed(planes(drawn), many.base)[0].numpy().transpose(1, 2, 0)
    assert np.abs(painted - twin).mean() < 0.6 and np.abs(painted - twin).max() < 5
    motion = 2 * smooth(rng, 48, 64, 2)
    moved = remapped(one.base, indices(64, 48) + motion)
    again = generator_painting.carried(many.base, planes(motion))[0].numpy().transpose(1, 2, 0)
    assert np.allclose(moved, again, atol=0.8)


def test_training_sees_what_the_player_paints(clip: Clip) -> None:
    shard, rng = clip.shard, np.random.default_rng(6)
    fields = [
        np.concatenate(
            [
                2 * smooth(rng, GRID, GRID, 2),
                9 * smooth(rng, GRID, GRID, 3),
                rng.random((GRID, GRID, 1)),
                128 + 40 * smooth(rng, GRID, GRID, 3),
            ],
            2,
        ).astype(np.float32)
        for _ in shard.tick_frames
    ]
    for last, frame in ((2, 4), (2, 6), (3, 6), (3, 7)):
        batch = Batch.of([piece_of(clip, 0, last, [frame] * 3, (0, 0), GRID)])
        twin = generator_train.painted(batch, [planes(f) for f in fields[: last + 1]], 1)
        painted = generator_eval.painted(shard, fields, frame)
        apart = np.abs(painted - twin[0].numpy().transpose(1, 2, 0))
        assert apart.mean() < 0.6 and apart.max() < 6


def test_pieces_fit_together(clip: Clip) -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        piece = varied(choose(clip, rng, crop=64), rng)
        batch = Batch.of([piece, piece])
        assert batch.drawn.shape == (3, 2, 3, 128, 128) and batch.seen.shape == (3, 2, 3, 64, 64)
        assert ((batch.share >= 0) & (batch.share <= 1)).all()
        assert torch.isfinite(batch.base).all()


def test_loss_falls(clip: Clip, tmp_path: Path) -> None:
    trainer = Trainer(Plan(batch=2, warm_up=2, decay_steps=40))
    fixed = next_batch({"a": clip}, trainer.plan, 1)
    first = float(loss_of(trainer.network, fixed, Weights()).total.detach())
    for _ in range(10):
        trainer.take(fixed)
    last = float(loss_of(trainer.network, fixed, Weights()).total.detach())
    assert last < 0.99 * first
    again = Trainer(trainer.plan)
    torch.save(trainer.state(), tmp_path / "state.pt")
    again.load(tmp_path / "state.pt")
    assert again.step == 10
    assert again.take(fixed) == pytest.approx(trainer.take(fixed))


def test_the_small_loss_falls(clip: Clip) -> None:
    trainer = Trainer(Plan(batch=1, warm_up=2, decay_steps=40, rough=False))
    fixed = next_batch({"a": clip}, trainer.plan, 1)

    def loss() -> float:
        with torch.no_grad():
            return float(loss_of(trainer.network, fixed, Weights(), large=False).total)

    first = loss()
    for _ in range(8):
        trainer.take(fixed)
    assert loss() < 0.99 * first


def test_disturbed_references_are_still_explained_by_the_flow(clip: Clip) -> None:
    piece = choose(clip, np.random.default_rng(3))
    values = {f.name: getattr(piece, f.name).copy() for f in fields(piece)}
    disturb(values, np.random.default_rng(5))
    change = values["true_flow"][1, :2] - piece.true_flow[1, :2]
    assert np.abs(change).max() > 0.3
    small = torch.from_numpy(values["small"][1][None])
    back = generator_painting.sampled(small, torch.from_numpy(change[None]))[0].numpy()
    inner = slice(8, -8)
    before = np.abs(values["small"][1] - piece.small[1])[:, inner, inner].mean()
    assert np.abs(back - piece.small[1])[:, inner, inner].mean() < 0.4 * before


def test_same_seed_same_batch(clip: Clip) -> None:
    one, two = (next_batch({"a": clip}, Plan(batch=2), 7) for _ in range(2))
    assert torch.equal(one.drawn, two.drawn) and torch.equal(one.base, two.base)
    assert not torch.equal(one.drawn, next_batch({"a": clip}, Plan(batch=2), 8).drawn)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-4), (True, 3e-2)])
def test_export_equals_pytorch(half: bool, tolerance: float) -> None:
    torch.manual_seed(3)
    network = Generator().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    session = onnxruntime.InferenceSession(exported(network, half=half), providers=["CPUExecutionProvider"])
    for height, width in ((64, 64), (48, 88)):
        x = torch.randn(1, generator_fields.INPUT_PLANES, height, width)
        with torch.no_grad():
            wanted = network(x).numpy()
        (got,) = session.run(None, {"situation": x.numpy()})
        assert got.shape == (1, generator_fields.OUTPUT_PLANES, height, width)
        assert np.abs(got - wanted).max() < tolerance


def test_what_is_played_is_followed_in_part() -> None:
    one, many = random_situation(face=True, before=True)
    x = generator_painting.input_of(many)
    network = Generator().eval()
    with torch.no_grad():
        whole, part, none = network(x), Cautious(network)(x), Cautious(network, 0.0)(x)
    assert torch.allclose(part[:, :-1], FOLLOWED * whole[:, :-1])
    base = torch.from_numpy(one.base[None, None, ..., 5])
    assert torch.allclose(part[:, -1:], FOLLOWED * whole[:, -1:] + (1 - FOLLOWED) * base)
    # Followed not at all, it is the base correction as the player paints it, where it is not held still.
    one.base[..., 6:] = one.seen
    one.outside[:] = 1
    played = generator_fields.fields_of(one, none.numpy())
    shown = generator_eval.as_shown(one.base, one.positions)
    apart = generator_fields.corrected(one.drawn, played) - generator_fields.corrected(one.drawn, shown)
    assert np.abs(apart).mean() < 1.5
