"""VOS folders (DAVIS's sets, YouTube-VOS) and the point versions drawn from their masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.davis import davis_clips, read_davis_clip
from conversion.formats.youtube_vos import YoutubeFolder, meta_objects, meta_videos, read_youtube_video
from conversion.simulated_points import SimulationSettings, evenly_spaced, farthest_in_mask, simulate_points
from tests.helpers import Cli
from tests.test_davis import H, W, labels, write_clip
from vng.dataset import Video, VideoObject, VngDataset
from vng.errors import DataError, Problem, UsageError, read_problems
from vng.frames import ImageFolder
from vng.masks import RLE, area, decode, encode
from vng.points import NEGATIVE, POSITIVE, read_at

HIGH, WIDE = 48, 64  # a tenth of 480 rows: distances are a tenth of those given
EVERY = SimulationSettings(positives=3, negatives=2, frames=None)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A mask bool [HIGH, WIDE]."""
    mask = np.zeros((HIGH, WIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


def a_video(*objects: tuple[np.ndarray | None, ...]) -> Video:
    """A video without pixels; of each object its masks, None where not annotated. Ids count from 1."""
    names = tuple(f"{t:05d}" for t in range(len(objects[0])))
    made = tuple(
        VideoObject(str(i), "", "davis", tuple(None if m is None else encode(m) for m in masks))
        for i, masks in enumerate(objects, 1)
    )
    return Video(
        video_id="clip",
        dataset="DAVIS",
        split="train",
        height=HIGH,
        width=WIDE,
        fps=24.0,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=made,
    )


def no_void(video: Video) -> tuple[RLE | None, ...]:
    return (None,) * len(video.frame_names)


class TestSimulation:
    def test_points_lie_where_their_label_says(self) -> None:
        left, right, void = block(4, 2, 40, 24), block(8, 30, 30, 60), block(0, 0, 3, 64)
        video = a_video((left, left), (right, right))
        made = simulate_points(
            video, (encode(void), None), SimulationSettings(positives=9, negatives=40, frames=None, distance=30)
        )
        for item, mask in zip(made.objects, (left, right), strict=True):
            assert item.segmentations == (None, None) and item.quality.n_points == len(item.points)
            for t in range(2):
                points = item.points.in_frame(t)
                on, off = points.of(POSITIVE).xy, points.of(NEGATIVE).xy
                assert len(on) == 9 and len(off) > 20
                assert read_at(mask, on).all() and not read_at(mask, off).any()
                assert t == 1 or not read_at(void, off).any()
                for xy in (on, off):  # 30 pixels at 480 rows are 3 at 48
                    apart = np.hypot(*(xy[:, None] - xy).transpose(2, 0, 1))
                    assert apart[~np.eye(len(xy), dtype=bool)].min() >= 3

    def test_another_object_is_background(self) -> None:
        whole = np.ones((HIGH, WIDE), bool)
        left = block(0, 0, HIGH, 20)
        made = simulate_points(video := a_video((left,), (whole & ~left,)), no_void(video), EVERY)
        assert len(made.objects[0].points.of(NEGATIVE)) == 2
        common = simulate_points(
            video, no_void(video), SimulationSettings(positives=3, negatives=2, sampling="farthest")
        )
        assert len(common.objects[0].points.of(NEGATIVE)) == 0  # the common background is empty here

    def test_too_little_room_gives_fewer_and_absence_gives_negatives_alone(self) -> None:
        video = a_video((block(5, 5, 6, 7), block(0, 0, 0, 0), None))
        points = simulate_points(video, no_void(video), EVERY).objects[0].points
        assert points.frame.tolist() == [0, 0, 0, 1, 1] and points.label.tolist() == [1, 0, 0, 0, 0]

    def test_a_draw_depends_on_names_and_seed_alone(self) -> None:
        one, two = block(4, 2, 40, 24), block(8, 30, 30, 60)
        both, single = a_video((one, one), (two, two)), a_video((one, one))
        first = simulate_points(both, no_void(both), EVERY).objects[0].points
        alone = simulate_points(single, no_void(single), EVERY).objects[0].points
        assert np.array_equal(first.xy, alone.xy)
        assert not np.array_equal(first.in_frame(0).xy, first.in_frame(1).xy)
        last = (
            simulate_points(single, no_void(single), SimulationSettings(positives=3, negatives=2, frames=1))
            .objects[0]
            .points
        )
        assert np.array_equal(last.xy, first.in_frame(0).xy)
        more = (
            simulate_points(single, no_void(single), SimulationSettings(positives=7, negatives=9, frames=None))
            .objects[0]
            .points
        )
        assert np.array_equal(more.in_frame(1).of(POSITIVE).xy[:3], first.in_frame(1).of(POSITIVE).xy)
        other = (
            simulate_points(single, no_void(single), SimulationSettings(positives=3, negatives=2, frames=None, seed=1))
            .objects[0]
            .points
        )
        assert not np.array_equal(other.xy, first.xy)

    def test_frames_are_evenly_spaced_over_those_annotated(self) -> None:
        assert evenly_spaced(range(11), 3) == [0, 5, 10] and evenly_spaced([2, 7], 10) == [2, 7]
        mask = block(4, 2, 40, 24)
        video = a_video((None, mask, None, mask, None, mask, None))
        made = simulate_points(
            video, no_void(video), SimulationSettings(positives=1, negatives=0, frames=2, keep_masks=True)
        )
        assert made.objects[0].points.frame.tolist() == [1, 5]
        assert made.objects[0].segmentations == video.objects[0].segmentations

    def test_frames_drawn_at_random(self) -> None:
        """By seed and name; fewer are the first ones of more; the first annotated frame is always among them."""
        video = a_video((None, *[block(4, 2, 40, 24)] * 19))

        def drawn(count: int, seed: int = 0) -> set[int]:
            settings = SimulationSettings(positives=1, negatives=0, frames=count, seed=seed, frame_sampling="random")
            return set(simulate_points(video, no_void(video), settings).objects[0].points.frame.tolist())

        assert drawn(4) == drawn(4) and drawn(4) < drawn(9) < drawn(99) == set(range(1, 20))
        assert all(1 in drawn(4, seed) and len(drawn(4, seed)) in (4, 5) for seed in range(9))
        assert len({frozenset(drawn(4, seed)) for seed in range(9)}) > 5

    def test_farthest_points_start_in_the_middle(self) -> None:
        mask = block(10, 20, 17, 33)  # 7 rows, 13 columns: the deepest pixels are of row 13
        first, second, third = farthest_in_mask(mask, 3, 0)
        assert (first.tolist(), second.tolist(), third.tolist()) == ([23, 13], [32, 10], [29, 16])
        assert len(farthest_in_mask(mask, 99, 8)) < 6 and farthest_in_mask(mask & False, 3, 0).shape == (0, 2)
        assert len(farthest_in_mask(block(0, 0, 2, 2), 9, 0)) == 4

    def test_shared_negatives_are_one_draw_on_the_common_background(self) -> None:
        left, right = block(4, 2, 40, 24), block(8, 30, 30, 60)
        video = a_video((left, left), (right, None))
        settings = SimulationSettings(positives=2, negatives=6, frames=None, shared_negatives=True)
        one, two = (item.points.of(NEGATIVE) for item in simulate_points(video, no_void(video), settings).objects)
        assert np.array_equal(one.in_frame(0).xy, two.xy) and len(one) == 12 and len(two) == 6
        assert not read_at(left | right, one.in_frame(0).xy).any()

    def test_the_first_frame_of_an_object_gets_points(self) -> None:
        mask = block(4, 2, 40, 24)
        video = a_video((mask, None, mask, None, mask), (None, mask, None, None, None))
        made = simulate_points(video, no_void(video), SimulationSettings(positives=1, negatives=0, frames=2))
        assert [item.points.frame.tolist() for item in made.objects] == [[0, 4], [1]]

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"positives": 0}, "--simulate 0"),
            ({"negatives": -1}, "--negatives -1"),
            ({"frames": 0}, "--point-frames 0"),
            ({"sampling": "grid"}, "--sampling grid"),
            ({"frame_sampling": "odd"}, "--frame-sampling odd"),
            ({"distance": float("nan")}, "--distance nan"),
        ],
    )
    def test_values_out_of_range(self, wrong: dict[str, object], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            SimulationSettings(**({"positives": 1, "negatives": 1} | wrong))  # type: ignore[arg-type]


class TestDavisPoints:
    def test_a_point_version(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1, 2, 255), labels(0, 2)])
        call = ["convert", "davis", "--root", tmp_path / "davis", "--simulate", "4", "--negatives", "3", "--quiet"]
        assert cli(*call, "--out", tmp_path / "points").status == 0
        assert cli(*call, "--out", tmp_path / "both", "--keep-masks", "--point-frames", "all").status == 0
        assert "masks by" not in (tmp_path / "points" / "README.md").read_text()  # no engine has a part in it
        points, both = VngDataset(tmp_path / "points")[0], VngDataset(tmp_path / "both")[0]
        for bare, full in zip(points.objects, both.objects, strict=True):
            assert set(bare.segmentations) == {None} and None not in full.segmentations
            assert np.array_equal(bare.points.xy, full.points.xy) and len(bare.points.of(NEGATIVE)) == 6
        void = labels(0, 0, 255) > 0
        assert not any(read_at(void, o.points.in_frame(0).of(NEGATIVE).xy).any() for o in points.objects)
        ended = cli("inspect", tmp_path / "points", "--quiet")
        assert "Point-VOS DAVIS, train (Table 11)" in ended.out and "the paper does not say so" in ended.out
        assert "0 problems and notes" in ended.out  # no mask and no narrative are as meant
        seen = decode(both.objects[0].segmentations[0])
        assert seen.shape == (H, W) and read_at(seen, points.objects[0].points.of(POSITIVE).xy).all()

    def test_shared_negatives_are_counted_once(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1, 2, 255), labels(1, 2)])
        call = ["convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", "--quiet"]
        assert cli(*call, "--simulate", "1", "--negatives", "5", "--shared-negatives").status == 0
        figures = json.loads(cli("inspect", tmp_path / "out", "--json", "--quiet").out)["points"]
        assert (figures["negative points"], figures["negative places"], figures["frames"]) == (20, 10, 2)

    @pytest.mark.parametrize(
        "option",
        [
            ("--keep-masks",),
            ("--shared-negatives",),
            ("--negatives", "0"),
            ("--point-frames", "all"),
            ("--distance", "0"),
            ("--sampling", "random"),
            ("--point-seed", "0"),
        ],
    )
    def test_options_of_points_go_with_points(
        self, tmp_path: Path, cli: Callable[..., Cli], option: tuple[str, ...]
    ) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1)])
        ended = cli("convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", *option)
        assert ended.status == 2 and f"{option[0]} requires --simulate" in ended.err


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
        assert "clip ... is not below" in ended.err
        (camel,) = VngDataset(tmp_path / "out")
        assert camel.split == "test_dev" and [o.segmentations[1] for o in camel.objects] == [None, None]
        assert all(o.segmentations[0] is not None for o in camel.objects)

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
