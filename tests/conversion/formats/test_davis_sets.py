"""DAVIS's own sets: lists, scribble-free splits, void."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.davis import davis_clips, read_davis_clip
from tests.conversion.formats.test_davis import labels, write_clip
from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.masks import area


class TestDavisSets:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name in ("bear", "camel", "dog"):
            write_clip(tmp_path / "davis", name, [labels(1, 2, 255), labels(0, 2)])
        sets = tmp_path / "davis" / "ImageSets" / "2017"
        sets.mkdir(parents=True)
        (sets / "val.txt").write_text("dog\n\nbear\n")
        (sets / "test-dev.txt").write_text("camel\n../dog\ngoat\n")
        return tmp_path / "davis"

    def test_an_image_set_names_clips_and_split(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        call = ["convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet"]
        assert cli(*call, "--image-set", "2017/val").status == 0
        assert [(v.video_id, v.split) for v in VngDataset(tmp_path / "out")] == [("dog", "val"), ("bear", "val")]

    def test_a_test_set_has_the_first_mask_alone(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        (root / "Annotations" / "240p" / "camel" / "00001.png").unlink()
        ended = cli(
            *("convert", "davis", "--root", root, "--out", tmp_path / "out", "--image-set", "2017/test-dev.txt"),
            *("--quiet", "--strict"),
        )
        assert ended.status == 1 and "this name leads out of its folder" in ended.err
        assert "clip 'goat' is not below" in ended.err
        (camel,) = VngDataset(tmp_path / "out")
        assert camel.split == "test_dev" and [o.segmentations[1] for o in camel.objects] == [None, None]
        assert all(o.segmentations[0] is not None for o in camel.objects)

    def test_lists_of_other_systems(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        """A byte-order mark, ends of lines of Windows, a name in the Unicode form of a Mac."""
        write_clip(root, "cafe\u0301", [labels(1), labels(1)])
        (root / "ImageSets" / "2017" / "val.txt").write_bytes("\ufeffdog\r\nbear\r\ncaf\u00e9\r\n".encode())
        call = ["convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet", "--strict"]
        ended = cli(*call, "--image-set", "2017/val")
        assert ended.status == 0, ended.err
        assert [v.video_id for v in VngDataset(tmp_path / "out")] == ["dog", "bear", "cafe\u0301"]

    def test_the_lists_of_davis_2016(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        lines = [
            f"/JPEGImages/480p/{c}/{t:05d}.jpg /Annotations/480p/{c}/{t:05d}.png"
            for c in ("dog", "bear")
            for t in (0, 1)
        ]
        (root / "ImageSets" / "480p").mkdir()
        (root / "ImageSets" / "480p" / "train.txt").write_text("\n".join(lines) + "\n")
        call = ["convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet", "--strict"]
        assert cli(*call, "--image-set", "480p/train").status == 0
        assert [v.video_id for v in VngDataset(tmp_path / "out")] == ["dog", "bear"]

    def test_smoothed_masks_are_no_objects(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        import cv2

        mask = np.zeros_like(labels())
        cv2.circle(mask, (10, 6), 5, 255, -1, cv2.LINE_AA)
        write_clip(root, "soft", [mask, mask])
        ended = cli("convert", "davis", "--root", root, "--out", tmp_path / "out", "--only", "soft", "--quiet")
        assert ended.status == 1 and "look like the smoothed edges of a mask of 255" in (
            (tmp_path / "out" / "problems.jsonl").read_text()
        )

    def test_objects_may_be_one(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        call = ["convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet", "--merge-objects"]
        assert cli(*call, "--only", "dog").status == 0
        (merged,) = VngDataset(tmp_path / "out")[0].objects
        assert merged.object_id == "1" and [area(rle) for rle in merged.segmentations if rle] == [24, 12]

    def test_faults(self, root: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        call = ["convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet"]
        ended = cli(*call, "--image-set", "2016/val")
        assert ended.status == 2 and "available: 2017/test-dev, 2017/val" in ended.err
        write_clip(root, "empty", [labels(0), labels(0)])
        write_clip(root, "deep", [labels(1)])
        Image.fromarray(labels(1).astype(np.uint16)).save(root / "Annotations" / "240p" / "deep" / "00000.png")
        ended = cli(*call, "--only", "empty", "--only", "deep", "--only", "dog")
        assert "no object in any annotation" in ended.err and "got another kind" in ended.err

    def test_255_says_nothing_in_a_frame_without_objects(self, root: Path) -> None:
        write_clip(root, "gone", [labels(1, 0, 255), labels(0, 0, 255)])
        video, void = read_davis_clip(root, davis_clips(root)["gone"])
        assert [area(rle) for rle in video.objects[0].segmentations if rle] == [12, 0]
        assert [area(rle) for rle in void if rle] == [12, 12]
