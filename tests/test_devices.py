"""Networks and engines on a device that is not the CPU (`pretend_device`): no mixed devices, the CPU's numbers, few waits.

The numbers of waits are ratchets: they may fall.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vng.grounding.grounder
import vng.propagators.sam2
import vng.propagators.stcn
from tests import pretend_device
from tests.models.clicknet.test_modeling_clicknet import tiny_model as tiny_clicknet
from tests.models.dynamite.test_modeling_dynamite import tiny_config as dynamite_config
from tests.models.referformer.test_modeling_referformer import SPANS, TEXT, tiny_config
from tests.models.stcn.test_modeling_stcn import tiny as tiny_stcn
from tests.pretend_device import DEVICE, back, move, pretending, to, waits, worst_gradient
from tests.propagators.test_sam2 import save_tiny_video
from tests.segmenters.test_sam import FAMILIES, save_tiny
from vng.frames import ArrayFrames
from vng.grounding.grounder import NarrativeGrounder, _Run
from vng.grounding.windows import WindowSettings
from vng.models import quick_convolution
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.dynamite.processing_dynamite import TrainingSample, batch_of
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.transfer import ahead, masks_to_host
from vng.points import BACKGROUND, Click, PointPrompts
from vng.propagators import FramePrompts
from vng.propagators.sam2 import Sam2Propagator, Sam2Settings
from vng.propagators.stcn import StcnPropagator, StcnSettings
from vng.segmenters.dynamite import DynamiteSegmenter
from vng.segmenters.sam import SamSegmenter, SamSettings
from vng.training.stcn.recipe import StcnLossSettings
from vng.training.stcn.task import TrainedStcn

B, N, T = 2, 3, 4


@pytest.fixture(autouse=True)
def _no_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference mode knows no tensors of other classes."""
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    for module in (
        vng.propagators.stcn,
        vng.propagators.sam2,
        vng.grounding.grounder,
    ):  # what is pretended holds in one thread only
        monkeypatch.setattr(module, "ahead", lambda work, items, *_, **__: map(work, items))
    for owner, name in ((_Run, "_process"), (DynamiteSegmenter, "_all")):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, torch.no_grad()(getattr(function, "__wrapped__", function)))


def without_dropout(model: nn.Module) -> nn.Module:
    """Random numbers differ between devices; and positions on pixel centres have two right gradients."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if name.endswith("sampling_offsets"):
            assert isinstance(layer, nn.Linear)
            layer.bias.data.add_(torch.randn_like(layer.bias) * 0.1)
    return model


def both(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """One training step on the CPU and on the device: the same loss and gradients."""
    there = move(copy.deepcopy(model)).train()
    wanted = model(**batch)
    wanted.loss.backward()
    with pretending():
        found = there(**{name: to(value) for name, value in batch.items()})
        found.loss.backward()
    assert float(back(found.loss.detach())) == pytest.approx(float(wanted.loss.detach()), rel=1e-5)
    assert worst_gradient(model, there) < 1e-4


@pytest.mark.parametrize(("points", "most"), [(False, 2), (True, 3)])
def test_grounder_trains(points: bool, most: int) -> None:
    torch.manual_seed(0)
    processor = ReferFormerProcessor(train_tokenizer(TEXT, 300, 64), short_side=0)
    clips = [torch.randn(T, 3, 64, 96), torch.randn(T, 3, 57, 76)]
    masks = torch.zeros(B, N, T, 64, 96, dtype=torch.bool)
    masks[..., 10:30, 20:50] = True
    annotated = torch.ones(B, N, T, dtype=torch.bool)
    batch = {**processor.pad(clips), **processor.text(TEXT, SPANS), "target_masks": masks}
    batch |= {"target_annotated": annotated, "target_weight": torch.ones(B, N)}
    if points:
        batch |= {"target_kind": torch.tensor([[0, 1, 2], [2, 1, 0]]), "target_xy": torch.rand(B, N, T, 5, 2) * 50}
        batch |= {"target_verdicts": torch.randint(-1, 2, (B, N, T, 5))}
    both(without_dropout(ReferFormerForVNG(tiny_config(dropout=0.0)).train()), batch)
    assert waits() <= most, pretend_device.table()


def test_stcn_trains() -> None:
    torch.manual_seed(0)
    k, h, w, p = 2, 32, 48, 5
    batch = {
        "pixel_values": torch.randint(0, 256, (B, T, 3, h, w), dtype=torch.uint8),
        "prompts": torch.rand(B, k, h, w).round(),
        "others": torch.rand(B, k, h, w).round(),
        "valid": torch.ones(B, k, dtype=torch.bool),
        "labels": torch.randint(0, 3, (B, T, h, w)),
        "xy": torch.rand(B, T, k, p, 2) * 30,
        "verdicts": torch.randint(-1, 2, (B, T, k, p)),
        "robust": torch.tensor([True, False]),
        "progress": torch.full((B,), 0.3),
    }
    both(TrainedStcn(tiny_stcn(norm_batches=0), StcnLossSettings(reference=0.5)).train(), batch)
    assert waits() <= 2, pretend_device.table()


@pytest.mark.parametrize(("rounds", "most"), [(0, 3), (3, 9)])
def test_dynamite_trains(rounds: int, most: int) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 64, 96), bool)
    masks[0, 5:30, 5:30], masks[1, 35:60, 5:40], masks[2, 10:40, 50:90] = True, True, True
    clicks = (Click(15, 15, 0, 0), Click(45, 20, 1, 1), Click(20, 70, 2, 2), Click(2, 2, 3, BACKGROUND))
    images = rng.integers(0, 255, (B, 64, 96, 3), dtype=np.uint8)
    batch = batch_of([TrainingSample(image, masks, clicks, seed=5 + b) for b, image in enumerate(images)])
    torch.manual_seed(0)
    both(without_dropout(DynamiteModel(dynamite_config(most_rounds=rounds)).train()), batch)
    assert waits() <= most, pretend_device.table()


def test_click_segmenter_trains() -> None:
    """Its evidence is computed by numpy, so it waits often."""
    torch.manual_seed(0)
    model, (k, p, h, w) = tiny_clicknet().train(), (2, 3, 64, 96)
    model.config.norm_batches = 0
    inside = torch.ones(B, k, p, dtype=torch.bool)
    batch = {
        "pixel_values": torch.randint(0, 256, (B, 3, h, w), dtype=torch.uint8),
        "positive": torch.rand(B, k, p, 2) * 60,
        "positive_valid": inside,
        "positive_core": inside,
        "negative": torch.rand(B, k, p, 2) * 60,
        "negative_valid": inside,
        "trace": torch.zeros(B, k, dtype=torch.bool),
        "targets": torch.rand(B, k, h, w) > 0.5,
        "outlines": torch.rand(B, h, w) > 0.8,
    }
    both(model, batch)


def same_masks(wanted: list, found: list, tolerance: float) -> None:
    """The same frames in the same order, with the same probabilities."""
    for (t, ours), (s, theirs) in zip(wanted, found, strict=True):
        assert t == s
        np.testing.assert_allclose(theirs, ours, atol=tolerance)


def video(frames: int, height: int, width: int) -> ArrayFrames:
    return ArrayFrames(np.random.default_rng(0).integers(0, 255, (frames, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("prompt", ["masks", "points"])
def test_stcn_propagates(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setattr(quick_convolution, "is_available", lambda: False)
    tiny_stcn(takes_points=True, takes_negatives=True, reads_reference=True).save_pretrained(tmp_path)
    settings = StcnSettings(every=2, top_k=5, budget=60, points="model", device="cpu")
    engine, there = (StcnPropagator(str(tmp_path), settings) for _ in range(2))
    move(there.model)
    frames, (height, width) = video(9, 30, 44), (30, 44)
    if prompt == "masks":
        masks = [np.zeros((height, width), bool) for _ in range(2)]
        masks[0][5:20, 5:20], masks[1][10:25, 25:40] = True, True
        prompts = {0: FramePrompts(tuple(masks), (None, None))}
    else:
        own = [PointPrompts(np.array([[8.0 + 20 * i, 9.0]]), np.array([[40.0, 3.0]])) for i in range(2)]
        prompts = {0: FramePrompts((None, None), tuple(own))}
    wanted = list(engine(frames, prompts))
    with pretending():
        found = list(there(frames, prompts))
    same_masks(wanted, found, 2e-5)
    # One copy of the probabilities a frame.
    assert waits() <= len(frames) + 2, pretend_device.table()


def test_grounder_grounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames travel as bytes, and of the masks only the chosen ones come back, a bit a pixel."""
    torch.manual_seed(0)
    processor = ReferFormerProcessor(train_tokenizer(TEXT, 300, 64), short_side=0)
    model = ReferFormerForVNG(tiny_config(dropout=0.0)).eval()
    windows = WindowSettings(frames=4, overlap=1)
    here, there = (NarrativeGrounder(copy.deepcopy(model), processor, "cpu", windows=windows) for _ in range(2))
    move(there.model)
    there.device = DEVICE
    narrative, frames = "A red [ball] moves to the left of the [star].", video(9, 57, 76)
    wanted = here(frames, narrative)
    sizes: list[tuple[torch.dtype, int]] = []
    with pretending():
        monkeypatch.setattr("vng.models.transfer.to_device", _noting(sizes))
        monkeypatch.setattr("vng.models.referformer.processing_referformer.to_device", _noting(sizes))
        found = there(frames, narrative)
    assert found.rles == wanted.rles
    np.testing.assert_allclose(found.frame_scores, wanted.frame_scores, atol=1e-5)
    large = [(kind, size) for kind, size in sizes if size > 1000]
    assert large and all(kind == torch.uint8 for kind, _ in large)
    # A window: its scores, the masks of the overlap twice, tokens. A noun and window: its masks and their certainty.
    assert waits() <= 3 * 4 + 3 * 2 * 2 + 1, pretend_device.table()


def test_dynamite_segments(tmp_path: Any) -> None:
    torch.manual_seed(0)
    DynamiteModel(dynamite_config()).save_pretrained(tmp_path)
    engine, there = (DynamiteSegmenter(str(tmp_path), device="cpu") for _ in range(2))
    move(there.model)
    there.device = DEVICE
    image = np.random.default_rng(0).integers(0, 255, (57, 90, 3), dtype=np.uint8)
    prompts = [PointPrompts(np.array([[10.0 + 30 * k, 20.0]]), np.array([[80.0, 50.0 - k]])) for k in range(2)]
    wanted = engine(image, prompts)
    with pretending():
        found = there(image, prompts)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_sam_segments(tmp_path: Any, family: str) -> None:
    settings = SamSettings(half=False)
    folder = save_tiny(family, tmp_path)
    engine, there = (SamSegmenter(folder, settings, device="cpu") for _ in range(2))
    move(there.model)
    there.device, there._mean, there._std = DEVICE, to(there._mean), to(there._std)
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)
    prompts = [PointPrompts(np.array([[10.0 + 20 * k, 20.0]]), np.array([[40.0, 30.0 - k]])) for k in range(2)]
    wanted = engine(image, prompts)
    with pretending():
        found = there(image, prompts)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_sam2_propagates(tmp_path: Any) -> None:
    folder = save_tiny_video("sam2", tmp_path)
    engine, there = (Sam2Propagator(folder, Sam2Settings(device="cpu")) for _ in range(2))
    move(there.model)
    there._norm = tuple(map(to, there._norm))  # type: ignore[assignment]
    there.model.forward = torch.no_grad()(partial(type(there.model).forward.__wrapped__, there.model))
    own = [PointPrompts(np.array([[10.0 + 20 * k, 20.0]]), np.empty((0, 2))) for k in range(2)]
    prompts, frames = {0: FramePrompts((None, None), tuple(own))}, video(4, 37, 53)
    wanted = list(engine(frames, prompts))
    with pretending():
        found = list(there(frames, prompts))
    same_masks(wanted, found, 1e-4)


def _noting(sizes: list[tuple[torch.dtype, int]]) -> Any:
    def transfer(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        sizes.append((tensor.dtype, tensor.numel()))
        return tensor.to(device)

    return transfer


def test_masks_come_back_as_bits() -> None:
    masks = torch.rand(3, 5, 7) > 0.5
    assert (masks_to_host(masks) == masks.numpy()).all()
    with pretending():
        found = masks_to_host(to(masks))
    assert found.dtype == bool and (found == masks.numpy()).all() and waits() == 1


class TestAhead:
    def test_order_and_errors(self) -> None:
        def work(item: int) -> int:
            if item == 5:
                raise ValueError("item 5")
            return 2 * item

        for device in ("cpu", "meta"):
            results: Iterator[int] = ahead(work, range(9), torch.device(device))
            assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
            with pytest.raises(ValueError, match="item 5"):
                next(results)

    def test_nothing(self) -> None:
        assert list(ahead(str, [], torch.device("meta"))) == []
