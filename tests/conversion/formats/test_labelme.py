"""`vng convert labelme`: labelme's JSON files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conversion.formats.labelme import read_labelme
from tests.conversion.formats.drawings import masks_of, read
from tests.helpers import Cli, H, W, box, write_frames
from vng.dataset import VngDataset
from vng.errors import DataError
from vng.masks import decode, encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE


def shape(kind: str, label: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}} | more


def save(path: Path, *shapes: Any, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = {"version": "6", "imagePath": f"{path.stem}.png", "imageData": None, "imageHeight": H, "imageWidth": W}
    path.write_text(json.dumps(tree | {"shapes": list(shapes)} | more))


def png(mask: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8))[1].tobytes()).decode()


POINT = shape("point", "dog", [[4.5, 5.5]])


def test_every_kind_of_shape(tmp_path: Path) -> None:
    patch = np.array([[0, 1, 1], [1, 0, 1]])
    save(
        tmp_path / "one" / "007.json",
        shape("mask", "m", [[4, 5], [6, 6]], mask=png(patch)),
        shape("polygon", "p", [[3, 2], [11, 2], [11, 8], [3, 8]]),
        shape("circle", "c", [[10, 9], [10, 11]], group_id=2),
        shape("rectangle", "r", [[12, 9], [3, 2]]),
        POINT,
        shape("point", "dog", [[1, 2]], flags={"negative": True}),
        shape("point", "dog_ambiguous", [[2, 2]]),
        shape("line", "x", [[1, 1], [2, 2]]),
        shape("line", "y", [[1, 1], [2, 2]], description="noted once"),
        shape("point", "dog", [[6, 7]], description="a note"),
    )
    (clip,), (note, text) = read(read_labelme, tmp_path)
    m, p, c, r, dog = clip.objects
    whole = np.zeros((H, W), bool)
    whole[5:7, 4:7] = patch
    assert (clip.video, clip.video_id, clip.size) == ("one", "one", (H, W))
    assert masks_of(m) == {"007": encode(whole)}
    assert masks_of(p) == {"007": encode(box(2, 3, 9, 12))}  # as labelme draws it: with its border
    disk = decode(masks_of(c)["007"])
    assert c.object_id == "c-2" and disk.sum() == 21 and disk[7, 9:12].all() and disk[9, 8:13].all()
    assert r.boxes[0].corners == (3, 2, 11, 8)
    assert [(x.x, x.y, x.label) for x in dog.points] == [
        (4, 5, POSITIVE),
        (0.5, 1.5, NEGATIVE),
        (1.5, 1.5, AMBIGUOUS),
        (5.5, 6.5, POSITIVE),
    ]
    assert text.reason == "a description is not read (1 times)"
    assert note.kind == "note" and note.reason == "a line is not read (2 times)"


def test_folders_and_frames(tmp_path: Path) -> None:
    save(tmp_path / "one" / "007.json", POINT)
    save(tmp_path / "one" / "label.json", POINT, imagePath="..\\images\\009.png")
    save(tmp_path / "deep" / "two" / "1.json", POINT)
    save(tmp_path / "001.json", POINT)
    clips, problems = read(read_labelme, tmp_path)
    assert [(c.video, c.video_id) for c in clips] == [(".", tmp_path.name), ("deep/two", "two"), ("one", "one")]
    assert [p.frame for p in clips[2].objects[0].points] == ["007", "009"] and not problems


def test_parts_of_one_object(tmp_path: Path) -> None:
    parts = [shape("polygon", "p", [[x, 2], [x + 3, 2], [x + 3, 8], [x, 8]]) for x in (3, 12)]
    save(tmp_path / "a" / "1.json", *parts)
    ((clip,), _) = read(read_labelme, tmp_path)
    assert masks_of(clip.objects[0]) == {"1": encode(box(2, 3, 9, 7) | box(2, 12, 9, 16))}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (shape("mask", "m", [[4, 5], [6, 6]], mask=png(np.ones((3, 3)))), "a mask of 3x3, its points are 3x2"),
        (shape("mask", "m", [[4, 5], [6, 6]], mask="@@"), "mask: no PNG in base64"),
        (shape("mask", "m", [[4, 5], [6, 6]], mask=png(np.ones((2, 3)))[:40]), "mask: no PNG in base64"),
        (shape("mask", "m", [[W - 2, 5], [W, 6]], mask=png(np.ones((2, 3)))), "is not inside the frame"),
        (shape("mask", "m", [[4, 5], [6, 6]]), "mask: this key is missing"),
        (shape("polygon", "p", [[1, 1], [2, 2]]), "an outline of 2 points, 3 are needed"),
        (shape("polygon", "p", [[1, 1], [2, 2], [3, float("nan")]]), "expected a number between -1e9 and 1e9"),
        (shape("polygon", "p", [[1, 1], [2, 2], [3, 1e7]]), "goes far beyond the frame"),
        (shape("polygon", "p", [[1, 1], [2, 2], [3]]), "points[2]: expected [x, y], got [3]"),
        (shape("circle", "c", [[1, 1]]), "a circle of 1 points, 2 are needed"),
        (shape("rectangle", "r", [[40, 1], [50, 3]]), "nothing of it is in the frame"),
        (shape("star", "s", [[1, 1]]), "shape_type 'star' is not known"),
        (shape("point", "s", [[1, 1]], group_id="x"), 'group_id: expected an integer, got "x"'),
        ({"points": []}, "label: this key is missing"),
        (7, "expected an object, got 7"),
    ],
)
def test_a_bad_shape_leaves_the_others(tmp_path: Path, given: Any, words: str) -> None:
    save(tmp_path / "a" / "1.json", given, POINT)
    (clip,), problems = read(read_labelme, tmp_path)
    assert "dog" in [o.object_id for o in clip.objects if o.points]
    (problem,) = problems
    assert words in str(problem) and problem.file == str(tmp_path / "a" / "1.json") and problem.record == "shape 0"


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    for name, more in (("1", {}), ("2", {"imageHeight": None}), ("3", {"imageWidth": W + 1}), ("4", {"shapes": 3})):
        save(tmp_path / "a" / f"{name}.json", POINT, **more)
    (tmp_path / "a" / "5.json").write_text('{"imagePath": "5.p')
    (tmp_path / "a" / "6.json").write_text("")
    (tmp_path / "a" / "._7.json").write_text("x")
    (clip,), problems = read(read_labelme, tmp_path)
    assert [p.frame for p in clip.objects[0].points] == ["1"]
    told = [str(p).removeprefix(f"{tmp_path / 'a'}/") for p in problems]
    assert [text[:6] for text in told] == [f"{n}.json" for n in range(2, 7)]
    assert "imageHeight: expected an integer, got null" in told[0] and f"frames of {W + 1}x{H} and of" in told[1]


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("{}")
    with pytest.raises(DataError, match="no such folder; give the folder of labelme's JSON files"):
        read(read_labelme, tmp_path / "f.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="nothing that can be read is drawn"):
        read(read_labelme, tmp_path / "empty")


@pytest.mark.parametrize("flat", [True, False])
def test_the_command(tmp_path: Path, cli: Callable[..., Cli], flat: bool) -> None:
    folder = tmp_path / "shots" if flat else tmp_path / "shots" / "one"
    write_frames(folder, np.zeros((3, H, W, 3), np.uint8), "{:03d}.png")
    save(folder / "001.json", shape("polygon", "p", [[3, 2], [11, 2], [11, 8], [3, 8]]))
    words = [
        "convert",
        "labelme",
        "--annotations",
        tmp_path / "shots",
        "--segmenter",
        "classical",
        "--quiet",
        "--strict",
    ]
    ended = cli(*words, "--out", tmp_path / "o")
    assert ended.status == 0, ended.err
    (video,) = VngDataset(tmp_path / "o")
    assert (video.video_id, video.frame_names) == ("shots" if flat else "one", ("001",))
    assert video.objects[0].segmentations == (encode(box(2, 3, 9, 12)),) and video.objects[0].source == "drawn"
