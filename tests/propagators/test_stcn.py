"""The propagator `stcn`, on small networks and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import box
from tests.models.stcn.test_modeling_stcn import HIGH, WIDE, tiny, video
from vng.errors import UsageError
from vng.frames import ArrayFrames
from vng.models.stcn.memory import Memory
from vng.models.stcn.modeling_stcn import Stcn
from vng.points import PointPrompts
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnPropagator, StcnSettings


class OnHand(StcnPropagator):
    """The engine on a model that is at hand, made for use."""

    def __init__(self, model: Stcn, **settings: Any) -> None:
        self.settings = StcnSettings(**settings)
        self.model = model.to(getattr(torch, self.settings.dtype)).fused()


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
