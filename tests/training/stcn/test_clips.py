"""Training clips of video object segmentation: what each supervision may know, when frames and objects are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import box
from vng.dataset import Quality, Video, VideoObject
from vng.errors import DataError
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.models.stcn.losses_stcn import IGNORED, UNKNOWN
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, read_at
from vng.training.light import Light
from vng.training.recipe import Source
from vng.training.stcn.clips import VosClip, VosClipSampler, collate
from vng.training.stcn.recipe import VosDataSettings
from vng.training.warps import filling

T, H, W = 7, 40, 56
SIZE = (48, 64)
COLOURS = {"left": (200, 40, 40), "right": (40, 200, 40)}


def two_boxes(t: int) -> dict[str, np.ndarray]:
    return {"left": box(6 + t, 4, 18 + t, 20, H, W), "right": box(10, 30 + t, 26, 44 + t, H, W)}


def moving_boxes(points: bool = True, masks: bool = True) -> Video:
    """Two boxes of one colour each; the right one is annotated in every second frame only."""
    images = np.full((T, H, W, 3), 90, np.uint8)
    objects = []
    for name, colour in COLOURS.items():
        rles, told = [], []
        for t in range(T):
            mask = two_boxes(t)[name]
            images[t][mask] = colour
            annotated = name == "left" or t % 2 == 0
            rles.append(encode(mask) if masks and annotated else None)
            y, x = np.argwhere(mask).mean(0)
            if annotated and points:
                told += [(t, (x, y), POSITIVE), (t, (x + 2, y - 1), POSITIVE), (t, (2, 2), NEGATIVE)]
                told += [(t, (x, y + 1), AMBIGUOUS)]
        rows = Points.of_lists(*zip(*told, strict=True)) if told else Points.none()
        objects.append(VideoObject(name, name, "test", tuple(rles), rows))
    names = tuple(f"{t:05d}" for t in range(T))
    return Video(
        video_id="boxes",
        dataset="test",
        split="train",
        height=H,
        width=W,
        fps=0.0,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=tuple(objects),
        frames=ArrayFrames(images, names),
    )


class Sources(list):
    """Datasets in memory: lists of videos with a path."""

    def __init__(self, *videos: Video) -> None:
        super().__init__(videos)
        self.path = Path("memory")


def settings(**changed: object) -> VosDataSettings:
    base = {"sources": [Source(path=Path("memory"))], "size": SIZE, "colour": 0, "distance": 3, "crop": (0.9, 1.0)}
    return VosDataSettings(**{**base, **changed})


def sampler(video: Video, supervision: str, length: int = 40, seed: int = 3, **changed: object) -> VosClipSampler:
    return VosClipSampler([Sources(video)], settings(**changed), supervision, 0.0, seed, length)  # type: ignore[list-item]


def same(first: VosClip, second: VosClip) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_item_depends_on_seed_and_index_alone() -> None:
    first, second = sampler(moving_boxes(), "points"), sampler(moving_boxes(), "points")
    first[0], first[1]
    assert same(first[7], second[7])
    assert not same(first[7], first[8])
    assert not same(first[7], sampler(moving_boxes(), "points", seed=4)[7])


@pytest.mark.parametrize("stills", [False, True])
def test_masks_lie_on_their_objects(stills: bool) -> None:
    """Pixels well inside a mask have its object's colour, in every frame."""
    for clip in (sampler(moving_boxes(), "masks", stills=stills, light=0.0)[i] for i in range(12)):
        assert clip.pixels.shape == (3, *SIZE, 3)
        for k in range(len(clip.prompts)):
            pairs = [(p, m == k + 1) for p, m in zip(clip.pixels, clip.labels, strict=True)]
            colours = [np.median(p[m], axis=0) for p, m in pairs if m.any()]  # the right box has frames without a mask
            assert any(all(np.abs(c - wanted).max() < 30 for c in colours) for wanted in COLOURS.values())
            assert np.array_equal(clip.prompts[k] > 0, clip.labels[0] == k + 1)
        assert clip.verdicts.shape[2] == 0 and not clip.robust


def test_an_object_without_a_mask_leaves_the_rest_unknown() -> None:
    """The right box is annotated in even frames: in odd ones what is not the left box may be it."""
    video = moving_boxes()
    objects = tuple(replace(item, segmentations=item.segmentations[:2] + (None,) * 5) for item in video.objects)
    clips = [sampler(replace(video, objects=objects), "masks")[i] for i in range(30)]
    both = [clip for clip in clips if len(clip.prompts) == 2]
    halves = [clip for clip in both if IGNORED in clip.labels[1]]  # frame 1, where only the left one is annotated
    assert len(halves) > 5
    assert all(IGNORED not in clip.labels[0] and 0 not in clip.labels[1] for clip in halves)


def test_points_follow_their_pixels() -> None:
    clips = [sampler(moving_boxes(masks=False), "points", light=0.0)[i] for i in range(20)]
    assert {len(clip.prompts) for clip in clips} == {1, 2}
    for clip in clips:
        assert (clip.labels == IGNORED).all()
        for k, (xy, verdicts) in enumerate(zip(clip.xy[0], clip.verdicts[0], strict=True)):
            positive = xy[verdicts == POSITIVE]
            assert 0 < len(positive) <= 2
            assert read_at(clip.prompts[k], positive).all() and clip.prompts[k].sum() == len(positive)
            colours = [clip.pixels[0][round(y), round(x)] for x, y in positive]
            assert any(all(np.abs(c - wanted).max() < 40 for c in colours) for wanted in COLOURS.values())
        assert set(np.unique(clip.verdicts)) <= {POSITIVE, NEGATIVE, UNKNOWN}


def test_hybrid_starts_from_points_and_trains_on_masks() -> None:
    clip = sampler(moving_boxes(points=False), "hybrid", prompt_points=(4, 4))[0]
    for k, prompt in enumerate(clip.prompts):
        assert prompt.sum() == 4 and (clip.labels[0][prompt > 0] == k + 1).all()
    assert (clip.labels[1:] != IGNORED).any()


def test_pseudo_masks_are_marked_noisy() -> None:
    clip = sampler(moving_boxes(), "pseudo_masks")[0]
    assert clip.robust and np.array_equal(clip.prompts[0] > 0, clip.labels[0] == 1)


def test_negatives_are_told_beside_the_other_objects() -> None:
    clips = [sampler(moving_boxes(masks=False), "points", negatives=1.0)[i] for i in range(20)]
    for clip in clips:
        assert clip.others is not None and clip.others.shape == clip.prompts.shape
        seen = clip.verdicts[0] == NEGATIVE
        assert (clip.others.sum((1, 2)) >= seen.sum(1).clip(max=1)).all()
        assert not (clip.others * clip.prompts).any()


def test_skips_grow_with_the_training() -> None:
    """Of stills without motion nothing can be told; the left box moves one pixel a frame."""
    chosen = sampler(moving_boxes(), "masks", length=200, skips=((0, 1), (0.5, 6)))
    steps = [
        np.abs(np.diff(chosen._drawing(0, 0)._frames(np.random.default_rng(i), p)))
        for i in range(60)
        for p in (0.1, 0.9)
    ]
    assert max(s.max() for s in steps[::2]) == 2  # 1 to skip + 1, as in STCN's program
    assert max(s.max() for s in steps[1::2]) > 3


def test_frame_step_divides_the_skip() -> None:
    source = Source(path=Path("memory"), frame_step=5)
    chosen = sampler(moving_boxes(), "masks", skips=((0, 10),), sources=[source])
    steps = [np.abs(np.diff(chosen._drawing(0, 0)._frames(np.random.default_rng(i), 0.0))).max() for i in range(40)]
    assert max(steps) == 3


def test_weights_count_for_each_video() -> None:
    rare, common = moving_boxes(), replace(moving_boxes(), video_id="common")
    mixture = [Source(path=Path("memory")), Source(path=Path("memory"), weight=9, supervision="hybrid")]
    drawn = VosClipSampler([Sources(rare), Sources(common)], settings(sources=mixture), "masks", 0.0, 0, 100)  # type: ignore[list-item]
    hybrid = sum(drawn[i].prompts[0].sum() <= 10 for i in range(60))
    assert 45 <= hybrid < 60


def test_untrusted_objects_are_left_out() -> None:
    video = moving_boxes()
    objects = (replace(video.objects[0], quality=Quality(point_agreement=0.4)), video.objects[1])
    clips = [sampler(replace(video, objects=objects), "masks", min_agreement=0.5)[i] for i in range(10)]
    assert all(len(clip.prompts) == 1 for clip in clips)


def test_nothing_to_train_on_names_the_supervision() -> None:
    with pytest.raises(DataError, match=r"supervision \(points\).*choose another supervision"):
        sampler(moving_boxes(points=False), "points")[0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"skips": ((0.2, 3),)}, "begin with 0"),
        ({"size": (40, 64)}, "multiples of 16"),
        ({"prompt_points": (5, 2)}, "fewest before most"),
    ],
)
def test_settings_that_cannot_be(changed: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**changed)


def test_collate_fills_up_objects_and_points() -> None:
    points = sampler(moving_boxes(masks=False), "points")
    masks = sampler(moving_boxes(points=False), "masks", objects=1)
    pair = [next(clip for clip in (points[i] for i in range(20)) if len(clip.prompts) == 2), masks[0]]
    batch = collate(pair)
    p = pair[0].verdicts.shape[2]
    assert batch["pixel_values"].shape == (2, 3, 3, *SIZE)
    assert batch["prompts"].shape == batch["others"].shape == (2, 2, *SIZE)
    assert batch["xy"].shape == (2, 3, 2, p, 2) and batch["verdicts"].shape == (2, 3, 2, p)
    assert batch["valid"].tolist() == [[True, True], [True, False]]
    assert (batch["verdicts"][1] == UNKNOWN).all()
    assert np.array_equal(batch["others"][0, 0].numpy(), pair[0].prompts[1])


def test_points_count_beside_a_pseudo_mask() -> None:
    """A mask that an engine made is noisy under any supervision, and the verified points it was made from still hold."""
    video = moving_boxes()
    noisy = replace(video, objects=tuple(replace(item, source="points/classical") for item in video.objects))
    clip = sampler(noisy, "hybrid", prompt_points=(1, 1))[0]
    assert clip.robust and (clip.verdicts[0] == POSITIVE).any()
    for k, prompt in enumerate(clip.prompts):
        assert prompt.sum() == 1 and read_at(prompt, clip.xy[0, k][clip.verdicts[0, k] == POSITIVE]).sum() == 1


def test_stills_move_by_what_their_crop_leaves_out() -> None:
    """STCN crops each frame of a still at a place of its own; the middle of 400 x 300 moves as its loader moves it."""
    frame, size, rng = (300, 400), (384, 384), np.random.default_rng(0)
    middle = np.array([(400 - 1) / 2, (300 - 1) / 2, 1])
    places = np.array([(filling(frame, size, rng) @ middle)[:2] for _ in range(4000)])
    # Scaled by 384 / 300, the frame is 512 wide: its middle lies between 128 and 256 of the 384 columns.
    assert np.ptp(places[:, 0]) == pytest.approx(128, abs=2) and np.ptp(places[:, 1]) < 1e-9
    shifts = np.abs(places[1::2] - places[::2])[:, 0]
    assert shifts.mean() == pytest.approx(128 / 3, rel=0.05)  # of two uniform places


def test_each_frame_has_its_own_light() -> None:
    image = np.full((6, 8, 3), (90, 120, 60), np.uint8)
    jitter = Light(0.1, 0.05, 0.05, 0.0)
    means = [jitter.change(image, np.random.default_rng(i)).mean() for i in range(200)]
    assert np.std(means) > 2 and abs(np.mean(means) - 90) < 1 and max(means) <= 100
    assert np.array_equal(Light(0.1, 0.1, 0.1, 0.1).change(image, np.random.default_rng(0), 0.0), image)
    grey = Light(0, 0, 0, 0, grey=1.0).change(image, np.random.default_rng(0))
    assert (grey == 104).all()  # 0.299 * 90 + 0.587 * 120 + 0.114 * 60
