"""Own clips in their video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers import H, T, W, box
from vng.errors import DataErrors
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.own_clips import clip_of_json, locate

FRAMES = ArrayFrames(np.zeros((T, H, W, 3), np.uint8), names=["00010", "00011", "00012"])


def clip(tmp_path: Path, **objects: Any) -> Any:
    return clip_of_json({"video": "v", "objects": objects}, tmp_path / "clips.jsonl", "line 1")


def test_frames_by_index_and_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), box(2, 3, 9, 12).astype(np.uint8) * 255)
    cv2.imwrite(str(tmp_path / "00012.png"), box(1, 1, 4, 5).astype(np.uint8) * 7)
    rle = encode(box(0, 0, 5, 5)).as_dict()
    objects, notes = locate(
        clip(
            tmp_path,
            a=[[1, 5, 6], ["00012", 7, 8, "negative"], ["12", 9, 8]],
            b={"mask": "00012.png", "masks": {"00010": rle}, "absent": [1]},
            c={"mask": "m.png", "boxes": [["00011", 0, 0, W - 1, H - 1], [2, -0.5, -0.5, 3, 4]]},
        ),
        FRAMES,
    )
    a, b, c = objects
    assert a.points.frame.tolist() == [1, 2, 2] and a.points.xy.tolist() == [[5, 6], [7, 8], [9, 8]] and notes == []
    assert b.masks == {2: encode(box(1, 1, 4, 5)), 0: encode(box(0, 0, 5, 5)), 1: encode(np.zeros((H, W), bool))}
    assert c.masks == {0: encode(box(2, 3, 9, 12))}  # a name that is no frame: the first
    assert c.boxes[1].tolist() == [0, 0, W - 1, H - 1] and c.boxes[2].tolist() == [0, 0, 3, 4]


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"a": [[3, 1, 1]]}, "line 1: object 'a', point 0: frame: frame '3' is not in the video of 3 frames"),
        ({"a": [[0, W, 1]]}, "object 'a', point 0, frame 00010: x: 30 is outside the frame of 30x20 pixels"),
        ({"a": [[0, 1, 1]], "b": [[0, 1.2, 1]]}, "pixel (1, 1) is positive for object 'a' already"),
        ({"a": {"boxes": [[0, 1, 1, W, 5]]}}, "box 0: the box [1.0, 1.0, 30.0, 5.0] is not inside the frame"),
        ({"a": {"masks": {"1": {"size": [5, 6], "counts": "n0"}}}}, "a mask of 6x5 pixels, the frames have 30x20"),
        ({"a": {"mask": "none.png"}}, "this label map is missing"),
        ({"a": {"mask": "two.png"}}, "2 values (1, 2): a mask of one object has one; save each object's mask"),
        ({"a": {"mask": "small.png"}}, "label map of 4x5, the frame has 20x30"),
        ({"a": {"absent": [7]}}, "absent 0: frame: frame '7' is not in the video"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, objects: dict[str, Any], words: str) -> None:
    cv2.imwrite(str(tmp_path / "two.png"), box(2, 3, 9, 12).astype(np.uint8) + box(2, 3, 5, 12))
    cv2.imwrite(str(tmp_path / "small.png"), np.ones((4, 5), np.uint8))
    with pytest.raises(DataErrors) as error:
        locate(clip(tmp_path, **objects), FRAMES)
    assert words in str(error.value) and len(error.value.problems) == 1


def test_a_point_given_twice_is_a_note(tmp_path: Path) -> None:
    (a,), (note,) = locate(clip(tmp_path, a=[[0, 1, 1], [0, 1.2, 1]]), FRAMES)
    assert len(a.points) == 1 and note.kind == "note" and "there twice" in note.reason


def test_percent_of_the_frame_and_its_outer_edges(tmp_path: Path) -> None:
    value = {"video": "v", "unit": "percent", "size": [H, W], "frames": T + 1}
    value["objects"] = {
        "a": {"points": [[0, 0, 100], [1, 50, 25]], "boxes": [[0, 10, 10, 40, 45], [1, 10, 10, 11, 100]]}
    }
    (a,), _ = locate(clip_of_json(value, tmp_path / "clips.jsonl", ""), FRAMES)
    assert a.points.xy.tolist() == [[0, H - 1], [14.5, 4.5]]
    assert a.boxes[0].tolist() == [3, 2, 11, 8]
    np.testing.assert_allclose(a.boxes[1], [2.525, 2, 2.775, H - 1], atol=1e-5)  # a side of less than a pixel


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": [W, H]}, f"size: annotated in {H}x{W} pixels, the frames have {W}x{H}; give the frames that"),
        ({"frames": T + 2}, f"frames: annotated in {T + 2} frames, the video has {T}: frame numbers would mean others"),
    ],
)
def test_another_video(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataErrors) as error:
        locate(clip_of_json({"video": "v"} | change, tmp_path / "clips.jsonl", "line 1"), FRAMES)
    assert words in str(error.value)
