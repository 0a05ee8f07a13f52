"""`vng convert coco`, `vng export --format coco-images`, and detections: COCO instances on images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conversion
from conversion.formats.coco_images import read_coco_images
from tests.conversion.formats.drawings import Read, masks_of, read
from tests.helpers import Cli, H, W, box, make_video, write_frames
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, UsageError, read_problems
from vng.masks import encode
from vng.points import AMBIGUOUS, POSITIVE

SQUARE = [3, 2, 12, 2, 12, 9, 3, 9]
RUNS = {"size": [H, W], "counts": [2 * H + 1, 5, H * W - 2 * H - 6]}
CATEGORIES = [{"id": 3, "name": "dog", "keypoints": ["nose", "tail"]}, {"id": 4, "name": "cat"}]


def images(*names: str) -> list[dict[str, Any]]:
    return [{"id": i, "file_name": name, "height": H, "width": W} for i, name in enumerate(names)]


def annotation(key: int, image: int, **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": 3, "iscrowd": 0} | more


def coco(tmp_path: Path, names: tuple[str, ...], *annotations: Any, **more: Any) -> Read:
    tree = {"annotations": annotations, "categories": CATEGORIES, "images": images(*names)} | more
    (tmp_path / "a.json").write_text(json.dumps(tree))
    return read(read_coco_images, tmp_path / "a.json")


NAMES = ("one/1.jpg", "one/2.jpg", "deep/two/1.jpg")


class TestReading:
    def test_masks_of_every_writing(self, tmp_path: Path) -> None:
        (one, two), problems = coco(
            tmp_path,
            NAMES,
            annotation(1, 0, segmentation=[SQUARE, [20, 4, 25, 4, 25, 6, 20, 6]], track_id=9),
            annotation(2, 1, segmentation=RUNS, attributes={"track_id": 9}),
            annotation(3, 1, segmentation=encode(box(1, 1, 3, 4)).as_dict(), category_id=4, instance_id="x"),
            annotation(4, 2, segmentation=[], bbox=[3, 2, 9, 7]),
        )
        dog, cat = one.objects
        column = np.zeros((H, W), bool)
        column[1:6, 2] = True
        assert (dog.object_id, dog.name, cat.object_id, cat.name) == ("9", "dog", "x", "cat") and not problems
        assert masks_of(dog) == {"1": encode(box(2, 3, 9, 12) | box(4, 20, 6, 25)), "2": encode(column)}
        assert masks_of(cat) == {"2": encode(box(1, 1, 3, 4))}
        assert [(one.video, one.size), (two.video, two.video_id)] == [("one", (H, W)), ("deep/two", "two")]
        assert two.objects[0].object_id == "4" and two.objects[0].boxes[0].corners == (3, 2, 11, 8)

    def test_attributes_that_are_not_read(self, tmp_path: Path) -> None:
        given = [annotation(i, 0, bbox=[1, 2, 3, 4], attributes={"occluded": False}) for i in (1, 2)]
        _, (note,) = coco(tmp_path, NAMES, *given)
        assert (note.kind, note.reason) == ("note", "the attribute 'occluded' is not read (2 times)")

    def test_key_points(self, tmp_path: Path) -> None:
        (clip,), _ = coco(tmp_path, NAMES, annotation(1, 0, keypoints=[3, 4, 2, 5, 6, 1, 0, 0, 0]))
        points = clip.objects[0].points
        assert [(p.x, p.y, p.label) for p in points] == [(3, 4, POSITIVE), (5, 6, AMBIGUOUS)]

    def test_crowds_are_kept(self, tmp_path: Path) -> None:
        (clip,), (note,) = coco(tmp_path, ("1.jpg",), annotation(1, 0, segmentation=RUNS, iscrowd=1))
        assert masks_of(clip.objects[0]) and note.kind == "note" and "a crowd is read as one object" in note.reason
        assert (clip.video, clip.video_id) == (".", "a")  # without a folder, the file is the video


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"segmentation": [[1, 2, 3]]}, "segmentation[0]: an odd number of coordinates"),
        ({"segmentation": [[1, 2, 3, 4]]}, "an outline of 2 points, 3 are needed"),
        ({"segmentation": [[1, 2, 3, float("inf"), 5, 6]]}, "expected a number between -1e9 and 1e9"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e8]]}, "goes far beyond the frame"),
        ({"segmentation": {"size": [W, H], "counts": [H * W]}}, f"a mask of {W}x{H}, the image has {H}x{W}"),
        ({"segmentation": {"size": [H, W], "counts": [5]}}, "uncompressed counts sum to 5"),
        ({"segmentation": "x"}, 'segmentation: expected a list, got "x"'),
        ({"bbox": [1, 2, 0, 4]}, "a box of 0x4 pixels"),
        ({"bbox": [1, 2, 3]}, "expected [x, y, width, height], got 3 numbers"),
        ({"keypoints": [1, 2]}, "2 numbers: three for each key point"),
        ({"keypoints": [1, 2, 7]}, "v is 0, 1 or 2, got 7"),
        ({"image_id": 77}, "no usable image of this file has the id 77"),
    ],
)
def test_a_bad_annotation_leaves_the_others(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    clips, problems = coco(tmp_path, NAMES, annotation(1, 0) | given, annotation(2, 1, bbox=[1, 2, 3, 4]))
    assert [o.boxes[0].corners for o in clips[0].objects if o.object_id == "2"] == [(1, 2, 3, 5)]
    (problem,) = problems
    assert words in str(problem) and problem.record == "annotations[0]" and problem.kind == "error"


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    listed = images(*NAMES)
    listed[1]["width"] = W + 1
    listed.append({"id": 0, "file_name": "b/1.jpg", "height": H, "width": W})
    clips, problems = coco(tmp_path, (), annotation(1, 0, bbox=[1, 2, 3, 4]), images=listed)
    assert [c.video for c in clips] == ["one"] and [p.record for p in problems] == ["images[1]", "images[3]"]
    assert f"frames of {W + 1}x{H} and of {W}x{H} in one video" in problems[0].reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected an object with videos, images, categories"),
        ("{}", "nothing that can be read is drawn"),
        ('{"images": [{"id"', "broken JSON: the file ends in the middle of an entry"),
        (
            '{"videos": [{"id": 1, "file_names": ["a/1.jpg"]}], "annotations": []}',
            "videos[0]: this file is in YouTube-VIS layout: its videos list their frames; use `vng convert youtube-vis",
        ),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError) as error:
        read(read_coco_images, tmp_path / "a.json")
    assert words in str(error.value)


def test_the_other_layout_says_so(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    coco(tmp_path, NAMES, annotation(1, 0, bbox=[1, 2, 3, 4]))
    ended = cli("convert", "youtube-vis", "--masks", tmp_path / "a.json", "--out", tmp_path / "o", "--quiet")
    assert ended.status == 1 and "this file is COCO on images" in ended.err and "vng convert coco" in ended.err


def test_there_and_back(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    made = [make_video("one"), make_video("two words", 5)]
    write_dataset(tmp_path / "d", made, "t")
    words = ["export", tmp_path / "d", "--format", "coco-images", "--out", tmp_path / "c", "--with-frames", "--quiet"]
    assert cli(*words).status == 0
    tree = json.loads((tmp_path / "c" / "train.json").read_text())
    assert (
        len(tree["images"]) == 6 and len(tree["annotations"]) == 8 and tree["categories"] == [{"id": 1, "name": "ball"}]
    )
    assert [a["track_id"] for a in tree["annotations"]] == [1, 2, 1, 1, 3, 4, 3, 3]
    assert tree["images"][2]["absent_objects"] == [made[0].objects[1].object_id]
    given = ["--annotations", tmp_path / "c" / "train.json", "--frames", tmp_path / "c" / "images"]
    ended = cli("convert", "coco", *given, "--segmenter", "classical", "--out", tmp_path / "b", "--quiet", "--strict")
    assert ended.status == 0, ended.err
    for video, old in zip(VngDataset(tmp_path / "b"), made, strict=True):
        assert (video.video_id, video.frame_names) == (old.video_id, old.frame_names)
        for item, same in zip(video.objects, old.objects, strict=True):
            assert (item.object_id, item.name) == (same.object_id, same.name)
            assert item.segmentations == same.segmentations  # null and empty stay apart


def test_frames_of_another_size(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_frames(tmp_path / "one", np.zeros((3, W, H, 3), np.uint8), "{}.png")
    coco(tmp_path, NAMES, annotation(1, 0, bbox=[1, 2, 3, 4]))
    words = ["convert", "coco", "--annotations", tmp_path / "a.json", "--segmenter", "classical", "--quiet"]
    assert cli(*words, "--out", tmp_path / "o").status == 1
    (problem,) = read_problems(tmp_path / "o" / "problems.jsonl")
    assert f"size: annotated in {W}x{H} pixels, the frames have {H}x{W}" in str(problem)


class TestDetections:
    def test_of_each_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
        video = make_video("one")
        found = dict(conversion.detections(video))
        assert list(found) == list(video.frame_names)
        first, second, third = found.values()
        assert first.xyxy.tolist() == [[3, 2, 12, 9], [18, 11, 27, 17]] and first.tracker_id.tolist() == [1, 2]
        assert (first.mask == np.stack([box(2, 3, 9, 12), box(11, 18, 17, 27)])).all() and first.mask.dtype == bool
        assert first.class_id.tolist() == [0, 0] and first.data["class_name"].tolist() == ["ball", "ball"]
        assert first.data["object_id"].tolist() == [item.object_id for item in video.objects]
        assert second.tracker_id.tolist() == third.tracker_id.tolist() == [1]  # not annotated; absent

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "supervision", None)
        with pytest.raises(UsageError, match=r"pip install 'vng\[import\]'"):
            next(conversion.detections(make_video("one")))
