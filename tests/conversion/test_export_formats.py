"""`vng export --format davis|coco`: datasets for programs that read folders of masks or JSON in YouTube-VIS layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.davis import write_davis
from conversion.formats.youtube_vis import write_youtube_vis
from tests.helpers import Cli, H, W, box, make_video
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, read_problems
from vng.frames import ImageFolder
from vng.masks import bounding_box, empty, encode


def plain(name: str, split: str = "train") -> Video:
    """A video as VOS sets have it: two objects on every frame that do not overlap, names, no narratives."""
    video = make_video(name)
    first = video.objects[0]
    second = VideoObject("7", "cube", "davis", (encode(box(11, 18, 17, 27)), empty(H, W), encode(box(11, 0, 17, 9))))
    return replace(
        video, split=split, narratives=(), expressions=(), objects=(replace(first, points=first.points.none()), second)
    )


class TestDavis:
    def test_there_and_back(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "data", [plain("b"), plain("a", "val"), plain("c d")], "plain")
        ended = cli("export", tmp_path / "data", "--format", "davis", "--out", tmp_path / "davis", "--quiet")
        assert ended.status == 0 and "3 videos, 6 objects, 18 masks" in ended.out and not ended.err
        assert (tmp_path / "davis" / "ImageSets" / "2017" / "train.txt").read_text() == "b\nc d\n"
        assert Image.open(tmp_path / "davis" / "Annotations" / "480p" / "b" / "000002.png").mode == "P"
        back = [
            "convert",
            "davis",
            "--root",
            tmp_path / "davis",
            "--image-set",
            "2017/train",
            "--out",
            tmp_path / "back",
        ]
        assert cli(*back, "--quiet", "--strict").status == 0
        for old, new in zip([plain("b"), plain("c d")], VngDataset(tmp_path / "back"), strict=True):
            assert old.video_id == new.video_id and old.frame_names == new.frame_names
            assert [(o.object_id, o.segmentations) for o in old.objects] == [
                (o.object_id, o.segmentations) for o in new.objects
            ]
            assert np.abs(new.opened_frames()[1].astype(int) - old.opened_frames()[1]).max() < 12  # JPEG

    def test_what_label_images_cannot_hold_is_told(
        self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        ended = cli("export", dataset, "--format", "davis", "--out", tmp_path / "out", "--quiet")
        assert ended.status == 0
        told = [p.reason for p in read_problems(tmp_path / "out" / "problems.jsonl") if p.record == "one"]
        assert told == [
            "1 frames annotate only some of the objects: the others appear absent there",
            "1 narratives and 3 points are not written: this format does not support them",
        ]
        folder = tmp_path / "out" / "Annotations" / "480p" / "one"
        numbers = json.loads((folder / "objects.json").read_text())
        assert sorted(numbers.values()) == [1, 2] and "1" in numbers  # one id is no number of 8 bits
        assert set(np.unique(np.array(Image.open(folder / "000001.png")))) == {0, numbers["1"]}

    def test_overlaps_and_frames_without_masks(self, tmp_path: Path) -> None:
        video = plain("a")
        top, left = encode(box(0, 0, 5, W)), encode(box(0, 0, H, 4))
        objects = (
            replace(video.objects[0], segmentations=(top, None, empty(H, W))),
            replace(video.objects[1], segmentations=(left, None, None)),
        )
        export = write_davis([replace(video, objects=objects, frames=None)], tmp_path / "out")
        folder = tmp_path / "out" / "Annotations" / "480p" / "a"
        assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000002.png"]
        labels = np.array(Image.open(folder / "000000.png"))
        assert (labels[:5] == 1).all() and (labels[5:, :4] == 7).all() and not labels[5:, 4:].any()
        assert not np.array(Image.open(folder / "000002.png")).any()  # absent
        assert [problem.reason.split(":")[0] for problem in export.problems] == [
            "this video has no frames",
            "1 frames without any mask have no label image",
            "1 frames annotate only some of the objects",
            "20 pixels of several objects are assigned to the first of them",
        ]

    def test_videos_that_are_no_clips_are_left_out(self, tmp_path: Path) -> None:
        many = tuple(VideoObject(str(i), "", "davis", (None,) * 3) for i in range(255))
        bad = [replace(plain("d"), objects=()), plain("e/f"), replace(plain("h"), objects=many)]
        export = write_davis([*bad, plain("a")], tmp_path / "out")
        assert export.totals == {"videos": 1, "objects": 2, "masks": 6}
        assert [(p.kind, p.record.strip("'")) for p in export.problems] == [("error", v.video_id) for v in bad]
        assert (tmp_path / "out" / "ImageSets" / "2017" / "train.txt").read_text() == "a\n"

    def test_the_folder_must_be_free(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(DataError, match="holds something else; choose another --out"):
            write_davis([plain("a")], tmp_path)

        def stopped() -> object:
            yield plain("a")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_davis(stopped(), tmp_path / "out")  # type: ignore[arg-type]
        assert write_davis([plain("b")], tmp_path / "out").totals["videos"] == 1  # begun again
        with pytest.raises(DataError):
            write_davis([plain("b")], tmp_path / "out")


class TestYoutubeVis:
    def test_there_and_back(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("export", dataset, "--format", "coco", "--with-frames", "--out", tmp_path / "out", "--quiet")
        assert ended.status == 0 and "2 videos, 4 objects, 10 masks" in ended.out
        assert "narratives and ... points are not written" in ended.err
        frames = ImageFolder(tmp_path / "out" / "JPEGImages" / "two words")
        assert frames.names == ["000000", "000001", "000002"]
        back = [
            "convert",
            "youtube-vis",
            "--masks",
            tmp_path / "out" / "train.json",
            "--out",
            tmp_path / "back",
            "--quiet",
        ]
        assert cli(*back, "--frames", tmp_path / "out" / "JPEGImages", "--strict").status == 0
        for old, new in zip(VngDataset(dataset), VngDataset(tmp_path / "back"), strict=True):
            assert old.video_id == new.video_id and old.frame_names == new.frame_names
            assert [(o.object_id, o.name, o.segmentations) for o in old.objects] == [
                (o.object_id, o.name, o.segmentations) for o in new.objects
            ]

    def test_the_file(self, tmp_path: Path) -> None:
        nameless = replace(plain("c", "val"), objects=(VideoObject("x", "", "davis", (None, empty(H, W), None)),))
        export = write_youtube_vis([plain("a"), plain("b"), nameless], tmp_path / "out")
        content = json.loads((tmp_path / "out" / "train.json").read_text())
        assert [(v["id"], v["file_names"][0], v["height"], v["width"], v["length"]) for v in content["videos"]] == [
            (1, "a/000000.jpg", H, W, 3),
            (2, "b/000000.jpg", H, W, 3),
        ]
        assert [(a["id"], a["object_id"], a["video_id"]) for a in content["annotations"]] == [
            (1, "1", 1),
            (7, "7", 1),
            (2, "1", 2),
            (3, "7", 2),
        ]
        cube = content["annotations"][1]
        assert cube["areas"] == [54, 0, 54] and cube["bboxes"][0] == [18, 11, 9, 6] and cube["iscrowd"] == 0
        assert content["categories"] == [{"id": 1, "name": "ball"}, {"id": 2, "name": "cube"}]
        other = json.loads((tmp_path / "out" / "val.json").read_text())
        assert other["categories"][0]["name"] == "object" and other["annotations"][0]["areas"] == [None, 0, None]
        assert [problem.reason for problem in export.problems] == [
            "2 object ids are renumbered; `object_id` has the original ones",
            "1 object ids are renumbered; `object_id` has the original ones",
        ]
        assert not (tmp_path / "out" / "JPEGImages").exists()

    def test_no_video(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        assert write_youtube_vis([], tmp_path / "out").totals == {"videos": 0, "objects": 0, "masks": 0}
        assert not list((tmp_path / "out").iterdir())
        export = write_youtube_vis([replace(plain("a"), frames=None)], tmp_path / "bare", with_frames=True)
        assert "this video carries no frames" in export.problems[0].reason
        assert json.loads((tmp_path / "bare" / "train.json").read_text()) == {
            "annotations": [],
            "videos": [],
            "categories": [],
        }
        ended = cli("export", dataset, "--format", "davis", "--with-frames", "--out", tmp_path / "davis")
        assert ended.status == 2 and "--with-frames requires --format coco" in ended.err


def test_bounding_box() -> None:
    assert bounding_box(encode(box(2, 3, 9, 12))) == [3, 2, 9, 7] and bounding_box(empty(H, W)) == [0, 0, 0, 0]
