"""`vng convert label-studio`: Label Studio's JSON export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.small_world import brush_bytes
from conversion.formats.label_studio import brush_mask, local_path, read_label_studio
from tests.conversion.formats.drawings import Read, masks_of, read
from tests.helpers import Cli, H, W, box, write_frames
from vng.dataset import VngDataset
from vng.errors import DataError, read_problems
from vng.masks import area, decode, encode
from vng.own_clips import PERCENT
from vng.points import NEGATIVE, POSITIVE
from vng.viewer import write_video

SIZE = {"original_width": W, "original_height": H, "image_rotation": 0}


def region(kind: str, label: str, value: dict[str, Any], key: str = "r", **more: Any) -> dict[str, Any]:
    return SIZE | {"id": key, "type": kind, "value": value | {kind: [label]}} | more


def task(url: str, *regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    medium = "video" if url.endswith("mp4") else "image"
    return {"id": 5, "data": {"name": "x", medium: url}, "annotations": [{"result": list(regions)}]} | more


def tasks(tmp_path: Path, *given: Any) -> Read:
    (tmp_path / "a.json").write_text(json.dumps(list(given)))
    return read(read_label_studio, tmp_path / "a.json")


LOCAL = "/data/local-files/?d=one/00007.png"


class TestImages:
    def test_every_kind_of_region(self, tmp_path: Path) -> None:
        outline = [[100 * x / W, 100 * y / H] for x, y in ((3, 2), (12, 2), (12, 9), (3, 9))]
        drawn = (
            region("polygonlabels", "p", {"points": outline}, "1"),
            region("brushlabels", "b", {"format": "rle", "rle": brush_bytes(box(1, 2, 4, 9))}, "2"),
            region("ellipselabels", "e", {"x": 35, "y": 42.5, "radiusX": 10, "radiusY": 5}, "3"),
            region("rectanglelabels", "r", {"x": 10, "y": 20, "width": 30, "height": 50, "rotation": 0}, "4"),
            region("keypointlabels", "k", {"x": 50, "y": 25, "width": 0.4}, "5"),
            region("keypointlabels", "k-negative", {"x": 10, "y": 20, "width": 0.4}, "6"),
            region("keypointlabels", "k", {"x": 20, "y": 30, "width": 0.4}, "7", is_positive=0),
            region("rectanglelabels", "r", {"x": 50, "y": 20, "width": 9, "height": 8}, "8", meta={"text": ["second"]}),
            {"id": "9", "type": "choices", "value": {"choices": ["good"]}},
        )
        (clip,), problems = tasks(tmp_path, task(LOCAL, *drawn), task(LOCAL.replace("7", "9"), drawn[0]))
        assert (clip.video, clip.video_id, clip.unit, clip.size) == ("one", "one", PERCENT, (H, W))
        p, b, e, r, k, second = clip.objects
        assert masks_of(p) == {"00007": encode(box(2, 3, 9, 12)), "00009": encode(box(2, 3, 9, 12))}
        assert masks_of(b) == {"00007": encode(box(1, 2, 4, 9))}
        wide = np.zeros((H, W), bool)
        wide[8, 7:14] = wide[7:10, 10] = True
        assert masks_of(e) == {"00007": encode(wide)}
        assert [x.corners for x in r.boxes] == [(10, 20, 40, 70)] and second.object_id == "r-second"
        assert [(x.frame, x.x, x.y, x.label) for x in k.points] == [
            ("00007", 50, 25, POSITIVE),
            ("00007", 10, 20, NEGATIVE),
            ("00007", 20, 30, NEGATIVE),
        ]
        assert [x.reason for x in problems] == ["a choices is not read (1 times)"]

    def test_a_box_that_was_turned_about_its_corner(self, tmp_path: Path) -> None:
        turned = {"x": 50, "y": 25, "width": 20, "height": 10, "rotation": 90}  # 6 x 2 pixels at (15, 5)
        (clip,), _ = tasks(tmp_path, task(LOCAL, region("rectanglelabels", "r", turned)))
        corners = clip.objects[0].boxes[0].corners
        assert corners == pytest.approx((100 * 13 / W, 25, 50, 100 * 11 / H))

    def test_labels_beside_the_shape(self, tmp_path: Path) -> None:
        shape = {"x": 10, "y": 20, "width": 30, "height": 50}
        pair = (
            SIZE | {"id": "1", "type": "rectangle", "value": shape},
            SIZE | {"id": "1", "type": "labels", "value": shape | {"labels": ["dog"]}},
        )
        (clip,), problems = tasks(tmp_path, task(LOCAL, *pair))
        assert [(o.object_id, len(o.boxes)) for o in clip.objects] == [("dog", 1)] and not problems

    def test_which_annotation_counts(self, tmp_path: Path) -> None:
        results = [[region("keypointlabels", name, {"x": 5, "y": 5, "width": 1})] for name in "abc"]
        given = [{"result": results[0], "was_cancelled": True}, {"result": results[1]}]
        made = task(LOCAL, annotations=given, predictions=[{}])
        (clip,), problems = tasks(tmp_path, made)
        assert [o.object_id for o in clip.objects] == ["b"] and problems[0].reason.startswith(
            "predictions are not read"
        )
        made = task(LOCAL, annotations=[*given, {"result": results[2], "ground_truth": True}])
        (clip,), problems = tasks(tmp_path, made)
        assert [o.object_id for o in clip.objects] == ["c"] and "a second annotation of a task" in problems[0].reason


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (LOCAL, "one/00007.png"),
        ("/data/upload/3/0a1b2c3d-film%201.mp4", "film 1.mp4"),
        ("/data/upload/3/plain.mp4", "plain.mp4"),
        ("s3://bucket/one/2.jpg", "one/2.jpg"),
        ("https://host:8080/a/b.png?x=1", "a/b.png"),
        ("http://[bad", ""),
    ],
)
def test_paths_of_urls(url: str, path: str) -> None:
    assert local_path(url) == path


class TestVideos:
    def test_lives_of_an_object(self, tmp_path: Path) -> None:
        keys = [
            {"frame": 2, "enabled": True, "x": 10, "y": 20, "width": 20, "height": 30, "time": 0, "rotation": 0},
            {"frame": 4, "enabled": False, "x": 30, "y": 20, "width": 20, "height": 30},
            {"frame": 6, "enabled": True, "x": 40, "y": 20, "width": 20, "height": 30},
        ]
        value = {"framesCount": 8, "duration": 1, "sequence": keys, "labels": ["car"]}
        given = {"id": "v7", "type": "videorectangle", "value": value}
        (clip,), problems = tasks(tmp_path, task("/data/upload/1/0a1b2c3d-film.mp4", given))
        (car,) = clip.objects
        assert (clip.video, clip.video_id, clip.count, car.object_id, car.name) == ("film.mp4", "film", 8, "v7", "car")
        assert {b.frame: b.corners[0] for b in car.boxes} == {1: 10, 2: 20, 3: 30, 5: 40, 6: 40, 7: 40}
        assert [m.frame for m in car.masks] == [4] and car.masks[0].mask is None and not problems

    def test_the_command(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        images = np.full((5, 36, 52, 3), 40, np.uint8)
        images[:, 9:27, 13:39] = (230, 40, 40)
        write_video(iter(images), tmp_path / "film.mp4", fps=5)
        keys = [{"frame": 1, "enabled": False, "x": 25, "y": 25, "width": 50, "height": 50}]
        given = {"id": "v", "type": "videorectangle", "value": {"framesCount": 5, "sequence": keys, "labels": ["red"]}}
        (tmp_path / "a.json").write_text(json.dumps([task("film.mp4", given)]))
        words = ["convert", "label-studio", "--annotations", tmp_path / "a.json", "--segmenter", "classical", "--quiet"]
        ended = cli(*words, "--out", tmp_path / "o")
        assert ended.status == 0, ended.err
        ((item,),) = [video.objects for video in VngDataset(tmp_path / "o")]
        assert item.segmentations[0] is not None and item.segmentations[1] is not None
        assert item.name == "red" and len(item.segmentations) == 5 and not area(item.segmentations[1])
        assert np.mean(decode(item.segmentations[0]) == box(9, 13, 27, 39, 36, 52)) > 0.95
        given["value"]["framesCount"] = 9
        (tmp_path / "a.json").write_text(json.dumps([task("film.mp4", given)]))
        assert cli(*words, "--out", tmp_path / "p").status == 1
        (problem,) = read_problems(tmp_path / "p" / "problems.jsonl")
        assert "frames: annotated in 9 frames, the video has 5" in str(problem) and "frame rate" in problem.cure


BRUSH = brush_bytes(np.ones((H, W), bool))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (region("rectanglelabels", "r", {"x": 1, "y": 2, "width": 0, "height": 3}), "a box of 0x3 percent"),
        (region("rectanglelabels", "r", {"x": float("nan"), "y": 2, "width": 1, "height": 3}), "between -1e9 and 1e9"),
        (region("rectanglelabels", "r", {"x": 200, "y": 2, "width": 1, "height": 3}), "nothing of it is in the frame"),
        (region("keypointlabels", "r", {"x": "a", "y": 2, "width": 1}), 'value.x: expected a number, got "a"'),
        (region("polygonlabels", "r", {"points": [[1, 2], [3]]}), "expected pairs [x, y], got [3]"),
        (region("polygonlabels", "r", {"points": [[1, 2], [3, 4]]}), "an outline of 2 points, 3 are needed"),
        (region("polygonlabels", "r", {"points": []}, original_width=0), "expected a positive number of pixels, got 0"),
        (region("keypointlabels", "r", {"x": 1, "y": 2}, image_rotation=90), "the image was turned in Label Studio"),
        (region("brushlabels", "r", {"rle": BRUSH[:-1]}), "rle: it ends too early"),
        (region("brushlabels", "r", {"rle": [300]}), "rle: expected bytes from 0 to 255"),
        (
            region("brushlabels", "r", {"rle": [255] * 20}),
            "rle: 4294967295 values of 32 bits, an image of 30x20 has 2400",
        ),
        (region("brushlabels", "r", {"rle": BRUSH}, original_height=H + 1), "an image of 30x21 has 2520 of 8"),
        (region("videorectangle", "r", {"sequence": [{"frame": 0}]}), "key frames 0 and"),
        (region("videorectangle", "r", {"sequence": [{"frame": 1}], "framesCount": 10**9}), "at most 1048576 of all"),
    ],
)
def test_a_bad_region_leaves_the_others(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    good = region("keypointlabels", "good", {"x": 5, "y": 5, "width": 1}, "2")
    (clip,), problems = tasks(tmp_path, task(LOCAL, given, good))
    assert "good" in [o.object_id for o in clip.objects]
    (problem,) = problems
    assert words in str(problem) and problem.record == "task 5: region 0" and problem.kind == "error"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "broken JSON"),
        ("[]", "nothing that can be read is drawn in this file; export the project as JSON (not JSON-MIN)"),
        ('[{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": []}]}]', "nothing that can be read"),
        ('[{"id": 1, "ima', "broken JSON"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError) as error:
        read(read_label_studio, tmp_path / "a.json")
    assert words in str(error.value)


def test_tasks_that_cannot_be_used(tmp_path: Path) -> None:
    point = region("keypointlabels", "k", {"x": 5, "y": 5, "width": 1})
    none = {"id": 7, "image": "a.png", "keypointlabels": []}  # JSON-MIN
    sound = task("a.wav", point) | {"id": 8}
    clips, problems = tasks(tmp_path, task("/data/upload/1/0a1b2c3d-x.png", point), none, sound, 3)
    assert [(c.video, c.video_id, c.objects[0].points[0].frame) for c in clips] == [("x.png", "x", 0)]
    assert [str(p).removeprefix(f"{tmp_path / 'a.json'}: ")[:64] for p in problems] == [
        "task 1: annotations: this key is missing; export the project as ",
        "task 2: data: no image and no video of a kind that is known; hav",
        "task 3: expected an object, got 3; fix this record",
    ]


def test_brushes_with_groups_of_single_values(rng: np.random.Generator) -> None:
    """Groups of values one by one, which begin between bytes."""
    mask = rng.random((3, 5)) < 0.5
    values = (mask[:, :, None] * np.array([1, 2, 3, 200])).reshape(-1)
    bits = f"{60:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    for start in range(0, 60, 12):
        bits += f"0{1:02b}{11:04b}" + "".join(f"{value:08b}" for value in values[start : start + 12])
    bits += "0" * (-len(bits) % 8)
    assert brush_mask([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)], (3, 5)) == encode(mask)
    whole = rng.random((H, W)) < 0.3
    assert brush_mask(brush_bytes(whole), (H, W)) == encode(whole)


def test_folders_of_images(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_frames(tmp_path / "frames" / "one", np.zeros((9, H, W, 3), np.uint8), "{:05d}.png")
    brush = region("brushlabels", "b", {"rle": brush_bytes(box(1, 2, 4, 9))})
    point = region("keypointlabels", "k", {"x": 100, "y": 0, "width": 1}, "2")
    (tmp_path / "a.json").write_text(json.dumps([task(LOCAL, brush, point)]))
    words = ["--annotations", tmp_path / "a.json", "--frames", tmp_path / "frames", "--segmenter", "classical"]
    assert cli("convert", "label-studio", *words, "--out", tmp_path / "o", "--quiet").status == 0
    (video,) = VngDataset(tmp_path / "o")
    assert video.frame_names == ("00007",) and video.objects[0].segmentations == (encode(box(1, 2, 4, 9)),)
    assert video.objects[1].points.xy.tolist() == [[W - 1, 0]]  # 100% is the outer edge of the last pixel
