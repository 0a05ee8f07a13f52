"""`vng convert ovis|uvo|youtube-vis`: masks in YouTube-VIS layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.formats.official_vng import OVIS_LEAK
from conversion.formats.youtube_vis import VisSettings, split_of
from tests.helpers import Cli, box, write_frames
from vng.dataset import Video, VngDataset
from vng.errors import Problem, UsageError, read_problems
from vng.masks import area, encode

H, W = 20, 30
HUGE = 4_850_600_790_259_722_026


def rle(top: int, left: int, bottom: int, right: int, height: int = H, width: int = W) -> dict[str, Any]:
    """A box as compressed RLE."""
    return encode(box(top, left, bottom, right, height, width)).as_dict()


def runs(column: int, rows: int) -> dict[str, Any]:
    """The first rows of one column, as uncompressed RLE."""
    return {"size": [H, W], "counts": [column * H, rows, H * W - column * H - rows]}


class VisFile:
    """A tiny file in the layout, and its frames."""

    def __init__(self, root: Path, name: str = "annotations_train.json") -> None:
        self.root, self.file = root, root / name
        self.content: dict[str, Any] = {
            "annotations": [],  # before the videos they belong to
            "videos": [],
            "categories": [{"id": 1, "name": "Person"}, {"id": 7, "name": "Parrot"}],
        }

    def video(self, number: int, files: list[str], there: list[str] | None = None, **more: Any) -> None:
        """An entry of "videos", and its frames on disk (or those of `there`)."""
        entry = {"id": number, "width": W, "height": H, "length": len(files), "file_names": files}
        self.content["videos"].append(entry | more)
        for path in files if there is None else there:
            file = self.root / "frames" / path
            write_frames(file.parent, np.full((1, H, W, 3), 60, np.uint8), f"{file.stem}{file.suffix}")

    def annotate(self, key: Any, video: int, masks: Any, **more: Any) -> None:
        """An entry of "annotations"."""
        entry = {"id": key, "video_id": video, "category_id": 7, "iscrowd": 0, "segmentations": masks}
        self.content["annotations"].append(entry | more)

    def convert(self, cli: Callable[..., Cli], kind: str, *more: object, frames: bool = True) -> Cli:
        self.file.write_text(json.dumps(self.content))
        given = ["--frames", self.root / "frames"] if frames else []
        out = self.root / "out"
        return cli("convert", kind, "--masks", self.file, *given, "--out", out, "--quiet", "--strict", *more)

    @property
    def videos(self) -> list[Video]:
        return list(VngDataset(self.root / "out"))

    @property
    def problems(self) -> list[Problem]:
        return read_problems(self.root / "out" / "problems.jsonl")


def ovis_files(folder: str) -> list[str]:
    return [f"{folder}/img_{t:07d}.jpg" for t in (1, 2, 3)]


@pytest.fixture
def ovis(tmp_path: Path) -> VisFile:
    made = VisFile(tmp_path)
    made.video(4, ovis_files("2fb5a55b"))
    made.annotate(1, 4, [rle(2, 3, 9, 12), None, runs(5, 8)])
    made.annotate(HUGE, 4, [None, rle(0, 0, 1, 1), rle(0, 0, 0, 0)], category_id=1)
    return made


class TestOvis:
    def test_masks_of_every_writing(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ended = ovis.convert(cli, "ovis")
        assert ended.status == 0 and "2 objects" in ended.out, ended.err
        (video,) = ovis.videos
        assert (video.video_id, video.dataset, video.split) == ("2fb5a55b", "OVIS", "train")
        assert video.frame_names == ("img_0000001", "img_0000002", "img_0000003") and not video.narratives
        parrot, person = video.objects
        assert [(o.object_id, o.name, o.source) for o in video.objects] == [
            ("1", "Parrot", "orig_masks"),
            (str(HUGE), "Person", "orig_masks"),
        ]
        assert [m and area(m) for m in parrot.segmentations] == [63, None, 8]
        assert [m and area(m) for m in person.segmentations] == [None, 1, 0]  # null and empty stay apart
        assert video.opened_frames()[2].shape == (H, W, 3)
        assert [(p.reason, p.kind) for p in ovis.problems] == [(OVIS_LEAK, "note")]

    def test_null_may_mean_absent(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        assert ovis.convert(cli, "ovis", "--null-means", "absent").status == 0
        assert [m and area(m) for m in ovis.videos[0].objects[0].segmentations] == [63, 0, 8]

    def test_without_frames(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        assert ovis.convert(cli, "youtube-vis", "--name", "mine", "--split", "val", frames=False).status == 0
        (video,) = ovis.videos
        assert video.frames is None and (video.dataset, video.split, video.width) == ("mine", "val", W)
        assert not ovis.problems

    def test_points_simulated_from_the_masks(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        words = ("--simulate", 1, "--negatives", 1, "--point-frames", "all")
        assert ovis.convert(cli, "youtube-vis", *words).status == 0
        parrot, person = ovis.videos[0].objects
        assert all(rle is None for rle in parrot.segmentations)
        assert parrot.points.frame.tolist() == [0, 0, 2, 2] and parrot.points.label.tolist() == [1, 0, 1, 0]
        assert person.points.of(1).frame.tolist() == [1]  # absent in the last frame: a negative alone
        assert person.points.of(0).frame.tolist() == [1, 2]

    def test_bad_objects_do_not_lose_good_ones(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        good = [rle(0, 0, 2, 2), None, None]
        ovis.annotate(1, 4, good)  # this id is there
        ovis.annotate(11, 4, good[:2])
        ovis.annotate(12, 4, [None] * 3)
        ovis.annotate(13, 4, [None, rle(0, 0, 2, 2, W, H), None])
        ovis.annotate(14, 4, [{"size": [H, W], "counts": [1, 2]}, None, None])
        ovis.annotate(15, 4, None)
        ovis.annotate(16, 99, good)
        ovis.annotate("", 4, good)
        ovis.annotate(17, 4, good, iscrowd=1)
        ovis.annotate(18, 4, good, category_id=5)
        ovis.content["annotations"].append("no object")
        ovis.annotate(1.5, 4, good)
        ovis.annotate(None, 4, good)
        assert ovis.convert(cli, "ovis").status == 1
        (video,) = ovis.videos
        assert [(o.object_id, o.name) for o in video.objects[2:]] == [("18", "")]
        told = {problem.record: problem for problem in ovis.problems if problem.record}
        found = {key: told[f"2fb5a55b: annotation {key}"] for key in (11, 12, 13, 14, 15, 17, 18)}
        assert found[11].reason == "2 masks for 3 file_names of the video"
        assert found[12].reason == "no mask in any frame"
        assert (found[13].field, found[13].reason) == (
            "segmentations[1]",
            "got a mask of 30x20, the frames have 20x30",
        )
        assert found[14].reason == "uncompressed counts sum to 3, size 20x30 needs 600"
        assert found[15].reason == "expected a list, got null"
        assert found[17].kind == found[18].kind == "note" and "a crowd" in found[17].reason
        assert "category 5 is not among the categories" in found[18].reason
        assert (told["annotations[2]"].reason, told["annotations[2]"].kind) == (
            "annotation id 1 repeats: the first one is used",
            "note",
        )
        assert told["annotations[8]"].reason == "no usable video of this file has the id 99"
        assert told["annotations[9]"].reason == "this id is empty"
        assert told["annotations[12]"].reason == 'expected an object, got "no object"'
        assert told["annotations[13]"].reason == "expected an integer or a string as id, got 1.5"
        assert told["annotations[14]"].reason == "this key is missing or null"

    def test_bad_videos_do_not_lose_good_ones(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        bad: dict[int, tuple[list[str], dict[str, Any]]] = {
            11: ([], {}),
            12: (["../../a/1.jpg"], {}),
            13: (["a/1.jpg", "b/2.jpg"], {}),
            14: (["a/1.jpg", "a/1.png"], {}),
            15: (["c/1.jpg"], {"height": 0}),
            16: (["d/1.jpg"], {"width": None}),
            17: (ovis_files("2fb5a55b"), {}),
            18: (["gap/1.jpg"], {}),
            19: (["small/1.jpg"], {"height": H - 1}),
            20: (["nobody/1.jpg"], {}),
        }
        for number, (files, more) in bad.items():
            ovis.video(number, files, there=[] if number != 19 else files, **more)
            mask = rle(0, 0, 1, 1, H - (number == 19))
            if number != 20:
                ovis.annotate(number, number, [mask] * len(files))
        assert ovis.convert(cli, "ovis").status == 1
        assert [video.video_id for video in ovis.videos] == ["2fb5a55b"]
        told = [str(problem) for problem in ovis.problems]
        for reason in (
            "videos[1]: file_names: no frame of this video",
            "this name leads out of its folder",
            "videos[3]: file_names: frames of one video in several folders: a, b",
            "videos[4]: file_names: frame names repeat",
            "videos[5]: height: expected a positive number of pixels, got 0",
            "videos[6]: width: expected an integer, got null",
            "videos[7]: file_names: video '2fb5a55b' repeats",
            "gap: video_name: no folder of frames",
            "small: size: frames of 20x30, masks of 19x30",
            "nobody: annotations: no object of this video can be used",
        ):
            assert sum(reason in one for one in told) == 1, (reason, told)

    def test_two_videos_of_one_id_are_left_out(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ovis.video(9, ovis_files("first"))
        ovis.video(9, ovis_files("second"))
        ovis.annotate(50, 9, [rle(0, 0, 5, 5)] * 3)
        assert ovis.convert(cli, "ovis").status == 1
        assert [video.video_id for video in ovis.videos] == ["2fb5a55b"]  # neither gets the other's masks
        told = [str(problem) for problem in ovis.problems]
        assert sum("another video have the id 9: annotations cannot be told apart" in one for one in told) == 2, told

    def test_two_categories_of_one_id(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ovis.content["categories"].append({"id": 7, "name": "Toucan"})
        assert ovis.convert(cli, "ovis").status == 1
        assert ovis.videos[0].objects[0].name == "Parrot" and "category id 7 repeats" in str(ovis.problems[-1])

    def test_names_written_on_windows(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        files = ovis.content["videos"][0]["file_names"]
        ovis.content["videos"][0]["file_names"] = [name.replace("/", "\\") for name in files]
        assert ovis.convert(cli, "ovis").status == 0 and ovis.videos[0].video_id == "2fb5a55b"

    def test_numbers_are_bounded(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ovis.annotate(51, 4, [{"size": [H, W], "counts": [10**12, 1]}, None, None])
        ovis.annotate(52, 4, [{"size": [2**31, 2**31], "counts": "1"}, None, None])
        ovis.video(10, ovis_files("wide"), height=2**20, width=2**20)
        assert ovis.convert(cli, "ovis").status == 1 and len(ovis.videos[0].objects) == 2
        told = " ".join(map(str, ovis.problems))
        assert "annotation 51: segmentations[0]: uncompressed counts" in told
        assert "annotation 52: segmentations[0]: size must be" in told and "at most 67108864 pixels are read" in told

    def test_a_file_without_annotations_is_refused(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ovis.content["annotations"] = None  # as YouTube-VIS's valid.json
        ended = ovis.convert(cli, "youtube-vis")
        assert (
            ended.status == 1
            and "no annotations in this file; masks of validation and test sets are not published" in ended.err
        )

    def test_choices(self, ovis: VisFile, cli: Callable[..., Cli]) -> None:
        ovis.video(5, ovis_files("b c"))
        ovis.annotate(3, 5, [rle(0, 0, 2, 2)] * 3)
        ended = ovis.convert(cli, "ovis", "--dry-run", "--json")
        assert json.loads(ended.out)["videos"] == 2 and not (ovis.root / "out").exists()
        assert ovis.convert(cli, "ovis", "--only", "b c", "--link-frames").status == 0
        (video,) = ovis.videos
        assert video.video_id == "b c" and video.opened_frames().size == (H, W)
        ended = ovis.convert(cli, "ovis", "--only", "b c")
        assert ended.status == 1 and "link_frames" in ended.err  # other settings


class TestUvo:
    @pytest.fixture
    def uvo(self, tmp_path: Path) -> VisFile:
        made = VisFile(tmp_path, "UVO_sparse_val_video.json")
        made.video(3, ["Ab-9_x/2.png", "Ab-9_x/10.png"], [f"Ab-9_x/{t}.png" for t in range(12)], ytid="Ab-9_x")
        made.annotate(HUGE + 1, 3, [rle(0, 0, 2, 2), None])
        return made

    def test_sparse_lists_are_padded_with_null(self, uvo: VisFile, cli: Callable[..., Cli]) -> None:
        assert uvo.convert(cli, "uvo", "--null-means", "absent").status == 0
        (video,) = uvo.videos
        assert (video.video_id, video.dataset, video.split) == ("Ab-9_x", "UVO", "val")
        assert video.frame_names == tuple(str(t) for t in range(12))  # in the order of numbers
        masks = [m and area(m) for m in video.objects[0].segmentations]
        assert masks == [None, None, 4, *[None] * 7, 0, None]

    def test_listed_frames_alone(self, uvo: VisFile, cli: Callable[..., Cli]) -> None:
        assert uvo.convert(cli, "uvo", "--row-frames", "listed").status == 0
        (video,) = uvo.videos
        assert video.frame_names == ("2", "10") and len(video.opened_frames()) == 2

    def test_a_missing_frame_is_named(self, uvo: VisFile, cli: Callable[..., Cli]) -> None:
        (uvo.root / "frames" / "Ab-9_x" / "10.png").unlink()
        ended = uvo.convert(cli, "uvo")
        assert ended.status == 1 and "no frame '10'; extract the frames again" in str(uvo.problems[-1])


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown value of null_means 'no'; choose one of: absent, unknown"):
        VisSettings(null_means="no")
    with pytest.raises(UsageError, match="unknown value of row_frames 'some'"):
        VisSettings("some")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations_train.json", "train"),
        ("UVO_sparse_val_video.json", "val"),
        ("valid.json", "valid"),
        ("x.json", "train"),
        ("panoptic_val2017.json", "val"),
        ("evaluation.json", "train"),
    ],
)
def test_the_split_is_read_off_the_name(name: str, split: str) -> None:
    assert split_of(Path("test") / name) == split
