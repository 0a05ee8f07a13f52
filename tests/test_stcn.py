"""STCN: the network, its memory and the engine, on networks and videos of a few channels and pixels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import box
from vng.errors import UsageError
from vng.frames import ArrayFrames
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.memory import Memory
from vng.models.stcn.modeling_stcn import Stcn
from vng.points import PointPrompts
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnPropagator, StcnSettings

RESNET = {"model_type": "resnet", "embedding_size": 6, "layer_type": "basic"}
B, K, T, H, W = 2, 3, 4, 32, 80
HIGH, WIDE = 30, 44  # of videos: no multiples of 16


def tiny(level: int = -1, **more: Any) -> Stcn:
    """A network of a few thousand weights; keys at stride 16 (level -1) or 8 (level -2)."""
    stages = 4 + level
    torch.manual_seed(0)
    key = {**RESNET, "hidden_sizes": [8, 10, 12], "depths": [1, 1, 1], "out_features": ["stage1", "stage2", "stage3"]}
    value = {**RESNET, "num_channels": 5, "hidden_sizes": [6, 9, 11][:stages], "depths": [1] * stages}
    sizes: dict[str, Any] = {"key_dim": 7, "value_dim": 14, "thin_dim": 9, "decoder_dims": [10, 8, 6][:stages]}
    config = StcnConfig(key, {**value, "out_features": [f"stage{stages}"]}, key_level=level, **(sizes | more))
    return Stcn(config).eval()


@pytest.mark.parametrize(("level", "stride"), [(-1, 16), (-2, 8)])
@torch.no_grad()
def test_shapes(level: int, stride: int) -> None:
    model, cells = tiny(level), (H // stride, W // stride)
    features = model.encode_key(model.normalise(torch.randint(0, 256, (B, 3, H, W))))
    assert features.key.shape == (B, 7, *cells) and features.thin.shape == (B, 9, *cells)
    assert features.deep.shape == (B, 12, *cells)
    assert [skip.shape[1:] for skip in features.skips] == [(8, H // 4, W // 4), (10, H // 8, W // 8)][: 3 + level]
    value = model.encode_value(torch.rand(B, 3, H, W), features.deep, torch.rand(B, K, H, W))
    assert value.shape == (B, K, 14, *cells)
    readout = model.read(features.key.flatten(2), value.flatten(3), features.key)
    assert readout.shape == value.shape
    logits = model.decode(readout, features)
    assert logits.shape == (B, K, H, W)
    assert model.aggregate(logits.sigmoid()).shape == (B, K + 1, H, W)


@pytest.mark.parametrize("level", [-1, -2])
@torch.no_grad()
def test_use_computes_what_training_does(level: int) -> None:
    """Normalisation folded, convolutions quick, objects decoded one by one: the same numbers."""
    model = tiny(level)
    for norm in [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    pixels, masks = torch.randn(1, 3, H, W), torch.rand(1, K, H, W)

    def everything() -> list[torch.Tensor]:
        features = model.encode_key(pixels)
        value = model.encode_value(pixels, features.deep, masks)
        return [features.key, features.thin, value, model.decode(value, features)]

    wanted = everything()
    model.fused()
    for one, other in zip(everything(), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("reads", [False, True])
def test_training_pass(reads: bool) -> None:
    model = tiny().train()
    valid = torch.tensor([[True, True, True], [True, False, False]])
    video, prompts = torch.randint(0, 256, (B, T, 3, H, W), dtype=torch.uint8), torch.rand(B, K, H, W)
    logits = model(video, prompts, valid, read_reference=reads).logits
    assert logits.shape == (B, T - 1 + reads, K + 1, H, W)
    assert (logits.softmax(2)[1, :, 2:] == 0).all()  # no such objects there
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder_dims \[10, 8\]: expected 3"):
        tiny(decoder_dims=[10, 8])
    model = tiny(-2)
    model.value_encoder = tiny(-1).value_encoder  # ends at stride 16
    with pytest.raises(UsageError, match="value_backbone ends at stride 16, the keys are at stride 8"):
        model.encode_value(torch.rand(1, 3, H, W), torch.rand(1, 12, H // 8, W // 8), torch.rand(1, K, H, W))


def test_normalisation_settles_and_stays_settled() -> None:
    model = tiny(norm_batches=2).train()
    arguments = torch.rand(B, 2, 3, H, W) * 255, torch.rand(B, K, H, W), torch.ones(B, K, dtype=torch.bool)
    name = "key_encoder.embedder.embedder.normalization.running_mean"
    means = [model.state_dict()[name].clone()]
    for _ in range(4):
        model(*arguments)
        means.append(model.state_dict()[name].clone())
    assert [torch.equal(a, b) for a, b in pairwise(means)] == [False, False, True, True]
    resumed = tiny(norm_batches=2)
    resumed.load_state_dict(model.state_dict())
    resumed.train()(*arguments)
    assert torch.equal(resumed.state_dict()[name], means[-1])


def test_soft_aggregation() -> None:
    one, other = torch.tensor(0.5), torch.tensor([0.5, 0.0])
    found = Stcn.aggregate(torch.stack([one.expand(2), other]).view(1, 2, 1, 2))[0, :, 0]
    assert found[:, 0].tolist() == pytest.approx([-np.log(3), 0, 0], abs=1e-6)  # background 0.25
    assert found[:2, 1].tolist() == pytest.approx([0, 0], abs=1e-6) and found[2, 1] < -16
    assert torch.allclose(found.exp() / (1 + found.exp()), torch.tensor([[0.25, 0.5], [0.5, 0.5], [0.5, 0]]), atol=1e-6)


def store(count: int = 3, top_k: int = 20, budget: int | None = None, objects: int = 2, last: bool = False) -> Memory:
    """A memory of `count` frames of 2 x 3 cells, keys of 7, values of 5."""
    draw = torch.Generator().manual_seed(1)
    memory = Memory(top_k, budget)
    memory.enter(objects, 0)
    for time in range(count):
        key, value = torch.randn(7, 2, 3, generator=draw), torch.randn(objects, 5, 2, 3, generator=draw)
        memory.add(key, value, time, lasting=not last or time + 1 < count)
    return memory


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("count", [3, 1000])
def test_memory_reads_what_the_model_does(last: bool, count: int) -> None:
    """With as many cells as there are the memory's softmax is the plain one (the longer one is searched by blocks)."""
    draw = torch.Generator().manual_seed(1)
    keys, values, query = (torch.randn(s, generator=draw) for s in ((count, 7, 2, 3), (count, 2, 5, 2, 3), (7, 3, 4)))
    memory = Memory(6 * count if count == 3 else 20)
    memory.enter(2, 0)
    for time in range(count):
        memory.add(keys[time], values[time], time, lasting=not last or time + 1 < count)
    key, value = keys.transpose(0, 1).reshape(7, -1), values.permute(1, 2, 0, 3, 4).reshape(2, 5, -1)
    distance = (key[:, :, None] - query.flatten(1)[:, None]).square().sum(0)  # [M, h w]
    kept = distance.topk(min(20, len(distance)), 0, largest=False).indices if count > 3 else None
    if kept is not None:
        distance = torch.full_like(distance, float("inf")).scatter(0, kept, distance.gather(0, kept))
    plain = (value @ (-distance / 7**0.5).softmax(0)).view(2, 5, 3, 4)
    assert torch.allclose(memory.read(query), plain, atol=1e-5)
    if count == 3:
        model = tiny()
        assert torch.allclose(model.read(key[None], value[None], query[None])[0], plain, atol=1e-5)


def test_fewer_cells_than_are_read() -> None:
    memory = store(1, top_k=50)
    assert len(memory) == 6 and memory.read(torch.zeros(7, 4, 5)).isfinite().all()


def test_the_least_used_are_forgotten() -> None:
    memory, keys = Memory(1, budget=12), torch.eye(7)[:, :6].view(7, 2, 3) * 9
    memory.enter(1, 0)
    memory.add(keys, torch.zeros(1, 5, 2, 3), 0)
    memory.add(keys + 50, torch.ones(1, 5, 2, 3), 1)
    for _ in range(3):
        memory.read(keys)  # the first frame is asked for
    memory.add(keys + 90, torch.full((1, 5, 2, 3), 2.0), 2)
    assert len(memory) == 12
    assert (memory.read(keys) == 0).all() and (memory.read(keys + 90) == 2).all()
    assert (memory.read(keys + 50) != 1).all()


def test_a_late_object_sees_nothing_from_before() -> None:
    memory = store(2, top_k=3)
    memory.enter(1, 2)
    memory.add(torch.full((7, 2, 3), 30.0), torch.full((3, 5, 2, 3), 4.0), 2)
    found = memory.read(torch.zeros(7, 4, 3))  # far from the cells the late object knows
    assert found.shape == (3, 5, 4, 3)
    assert torch.allclose(found[2], torch.tensor(4.0)) and (found[:2] != 4).all()


def test_huge_keys_do_not_overflow() -> None:
    memory = Memory(4)
    memory.enter(1, 0)
    memory.add(1000 * torch.randn(7, 2, 3), torch.ones(1, 5, 2, 3), 0)
    assert torch.allclose(memory.read(1000 * torch.randn(7, 3, 2)), torch.tensor(1.0))


class OnHand(StcnPropagator):
    """The engine on a model that is at hand, made for use."""

    def __init__(self, model: Stcn, **settings: Any) -> None:
        self.settings = StcnSettings(**settings)
        self.model = model.to(getattr(torch, self.settings.dtype)).fused()


def video(count: int = 6) -> ArrayFrames:
    draw = np.random.default_rng(0)
    return ArrayFrames(draw.integers(0, 256, (count, HIGH, WIDE, 3), np.uint8))


def mask(left: int = 4) -> np.ndarray:
    return box(5, left, 18, left + 12, HIGH, WIDE)


def points(x: float = 8, y: float = 9) -> PointPrompts:
    return PointPrompts(np.array([[x, y]], np.float32), np.array([[x + 20, y]], np.float32))


def test_every_frame_exactly_once_and_backwards_too() -> None:
    engine, prompts = OnHand(tiny()), {3: FramePrompts(masks=(mask(), mask(20)))}
    found = list(engine(video(), prompts))
    assert [t for t, _ in found] == [3, 4, 5, 2, 1, 0]
    assert all(p.shape == (2, HIGH, WIDE) and p.dtype == np.float32 and np.isfinite(p).all() for _, p in found)
    drawn = dict(found)[3]
    assert ((drawn[0] > 0.5) == mask()).all() and ((drawn[1] > 0.5) == mask(20)).all()


def test_backwards_is_the_reversed_video() -> None:
    frames, prompt = video(5), FramePrompts(masks=(mask(),))
    turned = ArrayFrames(np.stack(list(frames))[::-1].copy())
    back, forth = dict(OnHand(tiny())(frames, {4: prompt})), dict(OnHand(tiny())(turned, {0: prompt}))
    for t in range(5):
        np.testing.assert_allclose(back[t], forth[4 - t], atol=1e-6)


def test_a_late_object_is_absent_before_its_prompt() -> None:
    prompts = {0: FramePrompts(masks=(mask(), None)), 3: FramePrompts(masks=(None, mask(20)))}
    found = dict(OnHand(tiny())(video(), prompts))
    assert all((found[t][1] == 0).all() for t in range(3)) and ((found[3][1] > 0.5) == mask(20)).all()
    assert (found[4][1] > 0).any()
    alone = dict(OnHand(tiny())(video(), {0: FramePrompts(masks=(mask(),))}))
    np.testing.assert_allclose(found[2][0], alone[2][0], atol=1e-6)


def test_a_later_prompt_replaces_what_was_found() -> None:
    prompts = {0: FramePrompts(masks=(mask(),)), 2: FramePrompts(masks=(mask(25),))}
    found = dict(OnHand(tiny())(video(), prompts))
    assert ((found[2][0] > 0.5) == mask(25)).all()
    plain = dict(OnHand(tiny())(video(), {0: FramePrompts(masks=(mask(),))}))
    assert np.abs(found[4] - plain[4]).max() > 0


def test_points_and_masks_together() -> None:
    engine = OnHand(tiny(takes_points=True, takes_negatives=True, reads_reference=True, point_radius=2))
    prompts = {1: FramePrompts(masks=(mask(20), None), points=(None, points()))}
    found = dict(engine(video(3), prompts))
    assert sorted(found) == [0, 1, 2] and all(np.isfinite(p).all() for p in found.values())
    assert ((found[1][0] > 0.5) <= mask(20)).all()


def test_points_for_a_model_of_masks_go_through_the_segmenter() -> None:
    asked: list[int] = []

    def segment(image: np.ndarray, prompts: list[PointPrompts]) -> np.ndarray:
        asked.append(len(prompts))
        return np.stack([mask().astype(np.float32)] * len(prompts))

    engine = OnHand(tiny())
    engine.__dict__["_segmenter"] = segment
    found = dict(engine(video(2), {0: FramePrompts(points=(points(),))}))
    assert asked == [1] and ((found[0][0] > 0.5) == mask()).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_video_of_one_frame(dtype: str) -> None:
    found = list(OnHand(tiny(), dtype=dtype)(video(1), {0: FramePrompts(masks=(mask(),))}))
    assert [t for t, _ in found] == [0] and ((found[0][1][0] > 0.5) == mask()).all()


def test_bfloat16_runs() -> None:
    prompts = {0: FramePrompts(masks=(mask(), mask(20)))}
    found, wanted = (dict(OnHand(tiny(), dtype=d)(video(), prompts)) for d in ("bfloat16", "float32"))
    assert max(np.abs(found[t] - wanted[t]).max() for t in range(6)) < 0.1


def test_memory_of_a_long_video_is_that_of_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    read = Memory.read

    def counted(memory: Memory, query: torch.Tensor) -> torch.Tensor:
        lengths.append(len(memory))
        return read(memory, query)

    monkeypatch.setattr(Memory, "read", counted)
    prompts = {0: FramePrompts(masks=(mask(),))}
    for _ in OnHand(tiny(), budget=60, every=2, last=True)(video(200), prompts):
        pass
    assert max(lengths[:50]) == max(lengths) == 60 + 6  # and the last frame: 2 x 3 cells


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"every": 0}, "every=0: expected 1 or more"),
        ({"top_k": 0}, "top_k=0: expected 1 or more"),
        ({"budget": 0}, "budget=0: expected 1 or more"),
        ({"short_side": -1}, "short_side=-1: expected 0 or more"),
        ({"dtype": "int8"}, "dtype=int8: expected float32, bfloat16 or float16"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        StcnSettings(**settings)


def test_a_saved_model_loads(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "run")
    engine, prompts = StcnPropagator(str(tmp_path / "run")), {0: FramePrompts(masks=(mask(),))}
    loaded, direct = dict(engine(video(3), prompts)), dict(OnHand(tiny())(video(3), prompts))
    np.testing.assert_allclose(loaded[2], direct[2], atol=1e-6)


def test_given_masks_come_back_as_they_were_drawn() -> None:
    """Though the network sees frames of another size."""
    frames, drawn = video(3), mask()
    found = dict(OnHand(tiny(), short_side=48)(frames, {1: FramePrompts(masks=(drawn, None))}))
    assert np.array_equal(found[1][0], drawn) and not found[1][1].any()
    assert found[0].shape == found[1].shape == (2, *frames.size)
