"""The propagators `sam2` and `sam3_tracker` on tiny random models, beside transformers' own loop over a whole video."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam3TrackerVideoConfig, Sam3TrackerVideoModel

from conversion.options import BuildOptions, load_engines
from tests.helpers import Cli
from tests.segmenters.test_sam import VIDEO, sam2_parts, sam3_parts, save_tiny
from vng.errors import DataError, UsageError
from vng.frames import ArrayFrames
from vng.points import PointPrompts
from vng.propagators import FramePrompts, load
from vng.propagators.sam2 import Sam2Propagator, Sam2Settings
from vng.propagators.sam3_tracker import Sam3TrackerPropagator

T, H, W = 9, 37, 53
NONE = np.empty((0, 2), np.float32)


ENGINES = {"sam2": Sam2Propagator, "sam3_tracker": Sam3TrackerPropagator}


@pytest.fixture(scope="module", params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    """Each network in turn."""
    return request.param


def save_tiny_video(name: str, folder: Path) -> Path:
    """A model that looks back at two memories and three object pointers."""
    parts = sam2_parts() if name == "sam2" else sam3_parts()
    width = 128  # memories have 64 channels in transformers, half or less of what is tracked
    parts["vision_config"]["fpn_hidden_size"] = width
    for part in ("prompt_encoder_config", "mask_decoder_config"):
        parts[part] = {**parts[part], "hidden_size": width}
    sizes = {
        "memory_attention_hidden_size": width,
        "memory_encoder_hidden_size": width,
        "memory_encoder_output_channels": 64,
    }
    sizes |= {"memory_fuser_embed_dim": width, "memory_fuser_intermediate_dim": 32, "mask_downsampler_embed_dim": width}
    past = {"num_maskmem": 3, "max_object_pointers_in_encoder": 4}
    torch.manual_seed(0)
    settings = {**parts, **VIDEO, **sizes, **past}
    model: Any
    if name == "sam2":
        model = Sam2VideoModel(Sam2VideoConfig(**settings, image_size=64))
    else:
        model = Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**settings, image_size=56))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" not in key:
                parameter.normal_(0, 1.0 if "embed" in key else 0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(50)  # it is always there
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_video(name, tmp_path_factory.mktemp("sam2_video"))


@pytest.fixture(scope="module")
def engine(name: str, checkpoint: Path) -> Sam2Propagator:
    return ENGINES[name](checkpoint, Sam2Settings(device="cpu"))


@pytest.fixture
def frames(rng: np.random.Generator) -> ArrayFrames:
    return ArrayFrames(rng.integers(0, 256, (T, H, W, 3), np.uint8))


def mask(top: int, left: int) -> np.ndarray:
    made = np.zeros((H, W), bool)
    made[top : top + 12, left : left + 17] = True
    return made


def points(positive: Any = NONE, negative: Any = NONE, **rest: Any) -> PointPrompts:
    return PointPrompts(
        np.array(positive, np.float32).reshape(-1, 2), np.array(negative, np.float32).reshape(-1, 2), **rest
    )


def whole_video(
    engine: Sam2Propagator, frames: ArrayFrames, start: int, masks: list[np.ndarray]
) -> dict[int, np.ndarray]:
    """Probabilities by transformers' loop, which holds the whole video: forwards, then backwards from `start`."""
    fit = engine._fit(H, W)
    video = torch.cat([fit.pixels(frames[t], *engine._norm) for t in range(T)])
    found: dict[int, np.ndarray] = {}
    for reverse in (True, False):
        session = engine._session_of(video=video, video_height=H, video_width=W, dtype=torch.float32)
        for k, drawn in enumerate(masks):
            large = torch.nn.functional.interpolate(
                torch.from_numpy(drawn.astype(np.float32))[None, None],
                (fit.side, fit.side),
                mode="bilinear",
                antialias=True,
            )
            session.add_mask_inputs(session.obj_id_to_idx(k), start, (large >= 0.5).float())
        session.obj_with_new_inputs = list(range(len(masks)))
        for output in engine.model.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse):
            found[output.frame_idx] = fit.to_image(output.pred_masks[:, 0]).sigmoid().numpy()
    return found


class TestPropagation:
    def test_equals_the_loop_over_a_whole_video(self, name: str, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        spread = {"sam2": 0.2, "sam3_tracker": 0.05}[name]  # of these random weights: the masks are not flat
        masks = [mask(3, 4), mask(20, 30)]
        expected = whole_video(engine, frames, 4, masks)
        order = []
        for t, found in engine(frames, {4: FramePrompts(tuple(masks))}):
            order.append(t)
            assert found.shape == (2, H, W) and found.dtype == np.float32
            if t != 4:
                assert np.abs(found - expected[t]).max() < 1e-4 and found.std() > spread
        assert order == [4, 5, 6, 7, 8, 3, 2, 1, 0]

    def test_masks_are_given_back_as_drawn(self, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        given = {0: FramePrompts((mask(3, 4), None)), 2: FramePrompts((None, mask(5, 9)))}
        found = dict(engine(frames, given))
        assert (found[0][0] == mask(3, 4)).all() and not found[0][1].any() and not found[1][1].any()
        assert (found[2][1] == mask(5, 9)).all() and not found[2][0][mask(5, 9)].any()  # one pixel, one object
        assert found[3].std((1, 2)).min() > 0  # the one that came later is followed too

    def test_a_first_prompt_that_comes_late_changes_nothing_before(
        self, engine: Sam2Propagator, frames: ArrayFrames
    ) -> None:
        alone = dict(engine(frames, {0: FramePrompts((mask(3, 4),))}))
        both, other = (
            dict(engine(frames, {0: FramePrompts((mask(3, 4), None)), 3: FramePrompts((None, late))}))
            for late in (mask(20, 30), mask(1, 33))
        )
        for t in (1, 2):
            assert np.array_equal(alone[t][0], both[t][0])
        for t in (4, 8):  # whatever enters: two objects at once round otherwise than one
            assert np.abs(both[t][0] - other[t][0]).max() < 1e-6 < np.abs(both[t][1] - other[t][1]).max()

    def test_points(self, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        hint = points([[10, 8], [14, 9]], [[40, 30]])
        found = dict(engine(frames, {0: FramePrompts(points=(hint, None))}))
        other = dict(engine(frames, {0: FramePrompts(points=(points([[30, 30]]), None))}))
        assert len(found) == T and np.abs(found[0] - other[0]).max() > 1e-3 and np.abs(found[5] - other[5]).max() > 1e-3
        boxed = dict(
            engine(frames, {0: FramePrompts(points=(points([[10, 8]], box=np.array([2.0, 2, 30, 20])), None))})
        )
        assert np.abs(found[0] - boxed[0]).max() > 1e-3
        nothing = dict(engine(frames, {0: FramePrompts(points=(hint, points(negative=[[5, 5]])))}))
        assert not any(part[1].any() for part in nothing.values())  # negatives alone are no object

    def test_corrections(self, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        start = {0: FramePrompts((mask(3, 4),))}
        plain = dict(engine(frames, start))
        corrected = dict(engine(frames, start | {3: FramePrompts(points=(points(negative=[[9, 9]]),))}))
        replaced = dict(engine(frames, start | {3: FramePrompts((mask(22, 33),))}))
        assert all((plain[t] == corrected[t]).all() and (plain[t] == replaced[t]).all() for t in (0, 1, 2))
        assert (replaced[3][0] == mask(22, 33)).all()
        for other in (corrected, replaced):
            assert np.abs(plain[3] - other[3]).max() > 1e-3 and np.abs(plain[4] - other[4]).max() > 1e-5

    def test_an_absent_object(self, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        found = dict(engine(frames, {0: FramePrompts((np.zeros((H, W), bool),))}))
        assert not found[0].any() and all(np.isfinite(part).all() for part in found.values())

    def test_memory_does_not_grow(self, engine: Sam2Propagator, frames: ArrayFrames) -> None:
        fit = engine._fit(H, W)
        for reverse in (False, True):
            session = engine._session(reverse)
            order = range(19, -1, -1) if reverse else range(20)
            sizes = []
            for t in order:
                hints = {0: torch.ones(1, 1, fit.side, fit.side)} if t == order[0] else {}
                with torch.inference_mode():
                    session.step(t, fit.pixels(frames[t % T], *engine._norm), hints)
                state = session.state
                (kept,) = state.output_dict_per_obj.values()
                sizes.append(
                    (
                        len(kept["cond_frame_outputs"]),
                        len(kept["non_cond_frame_outputs"]),
                        len(state.frames_tracked_per_obj[0]),
                        len(state.mask_inputs_per_obj[0]),
                    )
                )
                assert state.processed_frames is None and "high_res_masks" not in str(kept)
            assert sizes[-1] == sizes[10] == (1, engine._recent, 0, 0) and engine._recent < 10


class TestLoading:
    def test_by_name(self, name: str, checkpoint: Path) -> None:
        made = load(name, checkpoint=str(checkpoint), settings={"device": "cpu", "dtype": "bfloat16"})
        assert isinstance(made, Sam2Propagator) and made.settings.dtype == "bfloat16" and len(made.fingerprint) > 10

    def test_refusals(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no weights of its own; name a checkpoint"):
            load("sam2")
        with pytest.raises(UsageError, match="dtype=int8"):
            Sam2Settings(dtype="int8")
        with pytest.raises(DataError, match=r"a 'sam' model; expected one of sam2_video.*SAM 2 or 2\.1"):
            Sam2Propagator(save_tiny("sam", tmp_path / "sam"))
        with pytest.raises(DataError, match="no model here"):
            Sam2Propagator(tmp_path)

    def test_in_a_conversion(self, name: str, checkpoint: Path) -> None:
        options = BuildOptions(segmenter="classical", propagator=name, propagator_checkpoint=str(checkpoint))
        loaded = load_engines(options)
        made = loaded.propagator
        assert isinstance(made, Sam2Propagator)
        assert (
            options.as_settings(loaded)["propagator_checkpoint"] == made.fingerprint
        )  # the weights, wherever they lie
        flow = BuildOptions(segmenter="classical", propagator="flow")
        assert "propagator_checkpoint" not in flow.as_settings(load_engines(flow))

    def test_half_precision(self, name: str, checkpoint: Path, frames: ArrayFrames) -> None:
        half = ENGINES[name](checkpoint, Sam2Settings(device="cpu", dtype="bfloat16"))
        found = dict(half(frames, {0: FramePrompts((mask(3, 4),))}))
        whole = dict(ENGINES[name](checkpoint, Sam2Settings(device="cpu"))(frames, {0: FramePrompts((mask(3, 4),))}))
        assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in found.values())
        assert 0 < np.abs(found[1] - whole[1]).mean() < 0.1


def test_command(name: str, checkpoint: Path, frames: ArrayFrames, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    for t in range(3):
        (tmp_path / "video").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "video" / f"{t:05d}.png"), frames[t])
    told = {"objects": {"thing": [{"frame": 0, "x": 10, "y": 8, "label": "positive"}]}}
    (tmp_path / "points.json").write_text(json.dumps(told))
    call = (
        "propagate",
        "--video",
        tmp_path / "video",
        "--points",
        tmp_path / "points.json",
        "--propagator",
        name,
        "--quiet",
        "--out",
        tmp_path / "out",
    )
    ended = cli(*call, "--propagator-checkpoint", checkpoint)
    assert ended.status == 0 and len(list((tmp_path / "out" / "masks").glob("*.png"))) == 3, ended.err
    ended = cli(*call[:-1], tmp_path / "other")
    assert (
        ended.status == 2
        and f"name a checkpoint: {ENGINES[name].example}" in ended.err
        and not (tmp_path / "other").exists()
    )
