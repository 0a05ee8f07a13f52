"""Points as PNG files, in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.point_pngs import ANNOTATIONS, OBJECTS, read_point_pngs, write_point_pngs
from conversion.formats.points import read_points
from tests.helpers import Cli, H, W, make_video
from vng.dataset import Video
from vng.errors import DataError, Problem, read_problems
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points


def with_points(*points: tuple[int, float, float, int], name: str = "one") -> Video:
    """The hand-made video, its first object with these points (frame, x, y, label), the second without any."""
    video = make_video(name)
    frames, xs, ys, labels = zip(*points, strict=True)
    first = replace(video.objects[0], points=Points.of_lists(frames, list(zip(xs, ys, strict=True)), labels))
    return replace(video, objects=(first, video.objects[1]))


class TestPngs:
    def test_round_trip_keeps_every_point(self, tmp_path: Path, rng: np.random.Generator) -> None:
        cells = rng.permutation(3 * H * W)[:90]
        points = [(int(c // (H * W)), int(c % W), int(c // W % H), int(rng.integers(-1, 2))) for c in cells]
        video = with_points(*points)
        export = write_point_pngs([video], tmp_path / "out")
        assert export.problems == [] and export.totals == {"objects": 1, "frames": 3, "points": 90}
        (read,) = read_points(tmp_path / "out")
        assert (read.key, read.object_name, read.video_name) == ("1", "ball", "train/one")
        back = [(video.frame_names.index(str(p.frame_id)), p.x, p.y, p.label) for p in read.points]
        assert sorted(back) == sorted(points)
        image = Image.open(tmp_path / "out" / ANNOTATIONS / "1" / "000000.png")
        assert image.mode == "P" and image.size == (W, H) and set(np.unique(image)) == {0, 1, 2, 255}

    def test_what_does_not_fit_is_said(self, tmp_path: Path) -> None:
        video = with_points(
            (0, 5.5, 4, POSITIVE),
            (0, 9, 9, POSITIVE),
            (0, 9, 9, NEGATIVE),
            (2, 1, 1, NEGATIVE),
            (2, 1, 1, NEGATIVE),
            (2, -1, 3, POSITIVE),
            (2, W, 3, POSITIVE),
            (2, 3, H - 0.5, AMBIGUOUS),
            (2, W - 1, H - 1, AMBIGUOUS),
        )
        bad_id = replace(video.objects[0], object_id="../up")
        trace = replace(video.objects[0], object_id="t", source="trace/x")
        video = replace(video, objects=(*video.objects, bad_id, trace))
        export = write_point_pngs([video, replace(video, video_id="two")], tmp_path / "out")
        texts = [(p.kind, p.reason) for p in export.problems if p.record == "one"]
        assert texts == [
            ("note", "2 positions between pixels are rounded"),
            ("error", "conflicting points on one pixel are left out (frame 000000, pixel (9, 9))"),
            ("error", f"a point outside its frame is left out (frame 000002, pixel (-1, 3) of {W}x{H})"),
            ("error", f"a point outside its frame is left out (frame 000002, pixel ({W}, 3) of {W}x{H})"),
            ("error", f"a point outside its frame is left out (frame 000002, pixel (3, {H}) of {W}x{H})"),
            ("note", "of equal points on one pixel, one is kept (frame 000002, pixel (1, 1))"),
            ("error", "id '../up' is not a valid folder name"),
        ]
        repeated = next(p.reason for p in export.problems if p.record == "two")
        assert repeated == "another object already has this id: the first one is written"
        assert read_problems(tmp_path / "out" / "problems.jsonl") == export.problems
        (read,) = read_points(tmp_path / "out")
        found = [(p.frame_id, p.x, p.y, p.label) for p in read.points]
        assert found == [("000000", 6, 4, 1), ("000002", 1, 1, 0), ("000002", W - 1, H - 1, -1)]

    def test_an_export_is_whole_or_begun_again(self, tmp_path: Path) -> None:
        def stopping() -> Iterator[Video]:
            yield make_video("one")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_point_pngs(stopping(), tmp_path / "out")
        assert not (tmp_path / "out" / OBJECTS).exists()
        write_point_pngs([make_video("one")], tmp_path / "out")
        assert len(list(read_points(tmp_path / "out"))) == 1
        with pytest.raises(DataError, match="this folder holds something else"):
            write_point_pngs([make_video("one")], tmp_path / "out")
        export = write_point_pngs([], tmp_path / "empty")
        assert sum(export.totals.values()) == 0 and list(read_points(tmp_path / "empty")) == []

    @pytest.mark.parametrize(
        ("pixels", "mode", "words"),
        [
            (np.eye(4, 6, dtype=np.uint8) * 7, "L", r"000007.png: pixel \(0, 0\): got value 7, expected 0 unlabelled"),
            (np.full((4, 6), 40000, np.uint16), "I;16", r"000007.png: .* another kind \(mode I;16\)"),
            (np.zeros((4, 6, 3), np.uint8), "RGB", r"got colours \(mode RGB\)"),
            (np.zeros((4, 6), bool), "1", r"another kind \(mode 1\)"),
            (np.zeros((5, 6), np.uint8), "L", "000007.png: size: got 6x5 pixels, the PNGs before it have 6x4"),
        ],
    )
    def test_images_that_are_no_points(self, tmp_path: Path, pixels: np.ndarray, mode: str, words: str) -> None:
        folder = tmp_path / ANNOTATIONS / "k"
        folder.mkdir(parents=True)
        good = np.zeros((4, 6), np.uint8)
        good[1, 5] = 2
        Image.fromarray(good).save(folder / "000000.png")
        image = Image.fromarray(pixels)
        assert image.mode == mode
        image.save(folder / "000007.png")
        with pytest.raises(DataError, match=words):
            list(read_points(tmp_path))
        problems: list[Problem] = []
        (read,) = read_point_pngs(tmp_path, problems.append)
        assert [(p.x, p.y, p.frame_id, p.label) for p in read.points] == [(5, 1, "000000", POSITIVE)]
        assert len(problems) == 1 and (read.object_name, read.video_name) == ("", None)

    def test_files_that_are_no_images(self, tmp_path: Path) -> None:
        (tmp_path / ANNOTATIONS / "k").mkdir(parents=True)
        for content in (b"", b"no image"):
            (tmp_path / ANNOTATIONS / "k" / "000000.png").write_bytes(content)
            with pytest.raises(DataError, match=r"000000.png: this image cannot be read"):
                list(read_point_pngs(tmp_path / ANNOTATIONS))
        with pytest.raises(DataError, match="no Annotations/ in this folder"):
            list(read_point_pngs(tmp_path / ANNOTATIONS / "k"))

    def test_the_side_file(self, tmp_path: Path) -> None:
        write_point_pngs([make_video("one"), replace(make_video("two", 2), frames=None)], tmp_path / "out")
        lines = (tmp_path / "out" / OBJECTS).read_text().splitlines()
        assert json.loads(lines[1]) == {"3": {"object_name": "ball", "video_name": "train/two"}}
        more = {"9": {"object_name": "x", "video_name": None, "question": "Who?"}}
        wrong = ['{"../1": {"object_name": "x"}}', "{broken", '{"3": {}}', json.dumps(more)]
        (tmp_path / "out" / OBJECTS).write_text("\n".join([lines[0], *wrong]) + "\n")
        problems: list[Problem] = []
        read = list(read_points(tmp_path / "out", problems.append))
        assert [(r.key, r.object_name, len(r.points)) for r in read] == [("1", "ball", 3), ("9", "x", 0), ("3", "", 3)]
        assert read[1].question == "Who?" and read[2].video_name is None
        words = ["id '../1' is not a valid folder name", "broken JSON", "this key is missing", "no such folder of PNGs"]
        assert all(word in problem.reason for word, problem in zip(words, problems, strict=True))

    def test_command(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        ended = cli("export", dataset, "--format", "point-png", "--out", tmp_path / "out", "--quiet")
        assert ended.status == 0 and ended.out == "2 objects, 4 frames, 6 points\n"
        assert "2 problems and notes" in ended.err and "positions between pixels are rounded" in ended.err
        assert cli("export", dataset, "--format", "point-png", "--out", tmp_path / "out", "--quiet").status == 1
        assert cli("export", dataset, "--format", "gif", "--out", tmp_path / "x").status == 2
