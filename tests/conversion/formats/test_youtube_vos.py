"""`vng convert youtube-vos`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.youtube_vos import YoutubeFolder, meta_objects, meta_videos, read_youtube_video
from tests.conversion.formats.test_davis import H, W, labels
from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.errors import DataError, Problem, read_problems
from vng.frames import ImageFolder
from vng.masks import area
from vng.points import POSITIVE

FIVES = ("00000", "00005", "00010")
META = {
    "1": {"category": "penguin", "frames": ["00000", "00005"]},
    "4": {"category": "ball", "frames": ["00005", "00010"]},
}


def write_video(root: Path, name: str, images: dict[str, np.ndarray], objects: object = META) -> None:
    """One video of a split in YouTube-VOS's layout: frames `FIVES`, label images as given; adds to meta.json."""
    frames, annotations = root / "JPEGImages" / name, root / "Annotations" / name
    for folder in (frames, annotations):
        folder.mkdir(parents=True)
    for frame in FIVES:
        Image.fromarray(np.full((H, W, 3), 40, np.uint8)).save(frames / f"{frame}.jpg")
    for frame, image in images.items():
        Image.fromarray(image).save(annotations / f"{frame}.png")
    meta = root / "meta.json"
    videos = json.loads(meta.read_text())["videos"] if meta.exists() else {}
    meta.write_text(json.dumps({"videos": videos | {name: {"objects": objects}}}))


class TestYoutubeVos:
    @pytest.fixture
    def full(self) -> dict[str, np.ndarray]:
        """Object 1 leaves after the second frame, object 4 comes with it."""
        return dict(zip(FIVES, (labels(1), labels(1, 4), labels(0, 4)), strict=True))

    def convert(self, cli: Callable[..., Cli], root: Path, *more: object) -> Cli:
        out = root.parent / "out"
        return cli("convert", "youtube-vos", "--root", root, "--out", out, "--quiet", "--strict", *more)

    def test_every_fifth_frame_is_told_in_full(
        self, tmp_path: Path, full: dict[str, np.ndarray], cli: Callable[..., Cli]
    ) -> None:
        write_video(tmp_path / "train", "b", full)
        write_video(tmp_path / "train", "a", {"00000": labels(1)}, {"1": {"category": "", "frames": ["00000"]}})
        assert self.convert(cli, tmp_path / "train").status == 0
        sparse, video = VngDataset(tmp_path / "out")
        assert (video.video_id, video.split, video.dataset, video.fps) == ("b", "train", "YouTube-VOS", 6.0)
        assert [(o.object_id, o.name) for o in video.objects] == [("1", "penguin"), ("4", "ball")]
        assert [[area(rle) for rle in o.segmentations if rle] for o in video.objects] == [[12, 12, 0], [0, 12, 12]]
        assert [rle is None for rle in sparse.objects[0].segmentations] == [False, True, True]

    @pytest.mark.parametrize("folder", ["valid", "valid_2018"])
    def test_first_frames_alone_are_told_of_a_validation_set(
        self, tmp_path: Path, folder: str, cli: Callable[..., Cli]
    ) -> None:
        images = {"00000": labels(1), "00005": labels(0, 4)}
        write_video(tmp_path / folder, "a", images)
        assert self.convert(cli, tmp_path / folder, "--split", "valid", "--simulate", "2", "--keep-masks").status == 0
        one, four = VngDataset(tmp_path / "out")[0].objects
        assert [rle is None for rle in one.segmentations] == [
            False,
            True,
            True,
        ]  # not told of in 00005: null, not absent
        assert [rle is None for rle in four.segmentations] == [True, False, True]
        assert set(one.points.frame) == {0} and set(four.points.frame) == {1}

    def test_the_folder_name_can_be_overruled(
        self, tmp_path: Path, full: dict[str, np.ndarray], cli: Callable[..., Cli]
    ) -> None:
        write_video(tmp_path / "valid", "a", full)
        assert self.convert(cli, tmp_path / "valid", "--annotated", "all").status == 0
        video = VngDataset(tmp_path / "out")[0]
        assert video.split == "valid" and all(None not in o.segmentations for o in video.objects)

    def test_all_frames_come_from_a_folder_of_their_own(
        self, tmp_path: Path, full: dict[str, np.ndarray], cli: Callable[..., Cli]
    ) -> None:
        write_video(tmp_path / "train", "a", full)
        dense = tmp_path / "train_all_frames" / "JPEGImages" / "a"
        dense.mkdir(parents=True)
        for t in range(11):
            Image.fromarray(np.full((H, W, 3), 40, np.uint8)).save(dense / f"{t:05d}.jpg")
        assert self.convert(cli, tmp_path / "train", "--frames", dense.parent, "--simulate", "3").status == 0
        video = VngDataset(tmp_path / "out")[0]
        assert len(video.frame_names) == 11 and video.fps == 30.0
        assert set(video.objects[0].segmentations) == {None}
        assert sorted(set(video.objects[0].points.of(POSITIVE).frame)) == [0, 5]
        assert sorted(set(video.objects[1].points.frame)) == [0, 5, 10]  # absent in 0: negatives

    def test_an_id_without_meta_is_nobodys_background(self, tmp_path: Path, full: dict[str, np.ndarray]) -> None:
        full["00005"] = labels(1, 4, 9)
        write_video(tmp_path / "train", "a", full)
        told: list[Problem] = []
        folder = YoutubeFolder.of(tmp_path / "train")
        ((name, entry),) = meta_videos(folder, told.append)
        video, void = read_youtube_video(folder, name, entry, "Y", "train", told.append)
        assert [rle and area(rle) for rle in void] == [None, 12, None] and len(video.objects) == 2
        assert [p.kind for p in told] == ["note"] and "id 9, which is not in meta.json" in told[0].reason

    @pytest.mark.parametrize("split", ["train", "valid"])
    def test_an_object_without_a_mask_is_left_out(
        self, tmp_path: Path, full: dict[str, np.ndarray], split: str, cli: Callable[..., Cli]
    ) -> None:
        write_video(tmp_path / split, "a", full, META | {"7": {"category": "cat", "frames": ["00000"]}})
        ended = self.convert(cli, tmp_path / split)
        assert ended.status == 1 and "this object has no mask" in ended.err
        assert [o.object_id for o in VngDataset(tmp_path / "out")[0].objects] == ["1", "4"]

    def test_torn_videos_are_left_out_and_named(
        self, tmp_path: Path, full: dict[str, np.ndarray], cli: Callable[..., Cli]
    ) -> None:
        root = tmp_path / "train"
        write_video(root, "good", full)
        write_video(root, "gap", full)
        (root / "Annotations" / "gap" / "00005.png").unlink()
        write_video(root, "size", full | {"00010": np.zeros((W, H), np.uint8)})
        write_video(root, "strange", full | {"00007": labels(1)})
        write_video(root, "framless", full)
        for path in ImageFolder(root / "JPEGImages" / "framless")._files:
            path.unlink()
        (root / "JPEGImages" / "framless").rmdir()
        write_video(root, "unborn", full, {"1": {"category": "", "frames": ["00099"]}})
        write_video(root, "blank", {frame: labels(0) for frame in FIVES})
        ended = self.convert(cli, root)
        assert ended.status == 1 and [v.video_id for v in VngDataset(tmp_path / "out")] == ["good"]
        problems = {p.record: p for p in read_problems(tmp_path / "out" / "problems.jsonl") if not p.field.count(".")}
        assert problems["gap"].reason == "frame 00005 of an object has no annotation"
        assert problems["strange"].reason == "frame 00007 is annotated and is not among the video's frames"
        assert problems["unborn"].reason == "frame 00099 of an object is not among the video's frames"
        assert problems["framless"].reason == "no folder of frames for this video"
        assert problems["blank"].reason == "no object of this video has a mask"
        assert f"annotation of {W}x{H}, the frame has {H}x{W}" in (tmp_path / "out" / "problems.jsonl").read_text()

    @pytest.mark.parametrize(
        ("entry", "field", "reason"),
        [
            ({}, "objects", "this key is missing"),
            ({"objects": {}}, "objects", "no object in this video"),
            ({"objects": {"x": {"frames": ["0"]}}}, "objects.x", "expected an object id in 1..254, got 'x'"),
            ({"objects": {"255": {"frames": ["0"]}}}, "objects.255", "expected an object id in 1..254, got '255'"),
            ({"objects": {"1": {"frames": []}}}, "objects.1.frames", "no frame of this object"),
            ({"objects": {"1": {"frames": [5]}}}, "objects.1.frames[0]", "expected a string, got 5"),
            ({"objects": {"1": {"frames": ["0"]}, "01": {"frames": ["0"]}}}, "objects", "two ids have the same number"),
        ],
    )
    def test_faults_of_an_entry(self, tmp_path: Path, entry: object, field: str, reason: str) -> None:
        with pytest.raises(DataError) as error:
            meta_objects(entry, tmp_path / "meta.json", "a")
        assert error.value.problem.field == field and error.value.problem.reason.startswith(reason)

    def test_faults_of_a_folder(self, tmp_path: Path, full: dict[str, np.ndarray], cli: Callable[..., Cli]) -> None:
        write_video(tmp_path / "yt" / "train", "a", full)
        ended = cli("convert", "youtube-vos", "--root", tmp_path / "yt", "--out", tmp_path / "out")
        assert ended.status == 1 and f"no meta.json here; give {tmp_path / 'yt' / 'train'}" in ended.err
        meta = tmp_path / "yt" / "train" / "meta.json"
        meta.write_text(json.dumps({"videos": {"../../etc": {"objects": META}, "a": {"objects": META}}}))
        ended = self.convert(cli, tmp_path / "yt" / "train")
        assert ended.status == 1 and "this name leads out of its folder" in ended.err
        assert [v.video_id for v in VngDataset(tmp_path / "yt" / "out")] == ["a"]
