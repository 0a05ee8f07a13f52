"""Prompts of points written by a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import H, T, W
from tests.propagation.clip import BLUE, FRAMES, YELLOW, write_points
from vng.errors import DataError, DataErrors
from vng.frames import ArrayFrames, ImageFolder
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points
from vng.propagation.point_prompts import prompts_of_points, read_points


class TestPointFiles:
    def test_json_and_csv_say_the_same(self, tmp_path: Path, clip: Path) -> None:
        frames = ImageFolder(clip)
        tree = {"a": [*YELLOW, {"frame": 2, "x": 10.5, "y": 8, "label": "ambiguous"}], "b": BLUE}
        lines = [
            "object,frame,x,y,label",
            "a,00010,8,8,",
            "a,0,25,2,negative",
            "b, 0, 22, 15, Positive",
            "a,12,10.5,8,-1",
        ]
        (tmp_path / "p.csv").write_text("\ufeff" + "\r\n".join(lines))
        for prompts in (
            read_points(write_points(tmp_path / "p.json", tree), frames),
            read_points(tmp_path / "p.csv", frames),
        ):
            assert prompts.names == ("a", "b") and prompts.numbers == (1, 2) and list(prompts.frames) == [0]
            first, second = prompts.frames[0].points
            assert first is not None and first.positive.tolist() == [[8, 8]] and first.negative.tolist() == [[25, 2]]
            assert second is not None and second.positive.tolist() == [[22, 15]] and not len(second.negative)
            assert prompts.points[0].label.tolist() == [POSITIVE, NEGATIVE, AMBIGUOUS] and not prompts.notes

    def test_names_that_are_numbers_are_the_pixel_values(self, tmp_path: Path) -> None:
        tree = {"7": [{"frame": 0, "x": 1, "y": 1}], "3": [{"frame": 0, "x": 9, "y": 1}]}
        assert read_points(write_points(tmp_path / "p.json", tree), FRAMES).numbers == (7, 3)

    @pytest.mark.parametrize(
        ("point", "message"),
        [
            (
                {"x": 30},
                "frame 000000: x: 30 is outside the frame of 30x20 pixels; x is in pixels of the video, from 0 to 29",
            ),
            ({"y": -0.6}, "y: -0.6 is outside the frame"),
            ({"x": float("nan")}, "x: nan is not a finite number"),
            ({"y": 1e999}, "y: inf is not a finite number"),
            ({"x": "left"}, "x: expected a number, got 'left'"),
            ({"x": True}, "x: expected a number"),
            ({"x": None}, "x: expected a number"),
            (
                {"frame": 3},
                "frame '3' is not in the video of 3 frames; use an index from 0 to 2, or a name from '000000'",
            ),
            ({"frame": -1}, "frame: frame '-1' is not in the video"),
            ({"frame": "img_7"}, "frame: frame 'img_7' is not in the video"),
            ({"frame": 1.5}, "frame: expected an index or the name of a frame, got 1.5"),
            ({"label": "good"}, "label: 'good' is not a label: use positive, negative or ambiguous"),
            ({"label": True}, "label: True is not a label"),
            ({"lable": "negative"}, "lable: unknown field; a point has frame, x, y, label; leave it out"),
        ],
    )
    def test_wrong_points(self, tmp_path: Path, point: dict[str, Any], message: str) -> None:
        path = write_points(tmp_path / "p.json", {"parrot": [{"frame": 0, "x": 1, "y": 2} | point]})
        with pytest.raises(DataErrors) as error:
            read_points(path, FRAMES)
        assert message in str(error.value) and str(error.value).startswith(f"{path}: object 'parrot', point 0")
        assert len(error.value.problems) == 1

    def test_all_faults_are_told_at_once(self, tmp_path: Path) -> None:
        lines = ["object,frame,x,y,label", "a,0,99,5,positive", "a,9,1,1,negative", "b,0,x,4,maybe", "c,0,1,1,0"]
        (tmp_path / "p.csv").write_text("\n".join(lines))
        with pytest.raises(DataErrors) as error:
            read_points(tmp_path / "p.csv", FRAMES)
        places = sorted((problem.record.partition(",")[0], problem.field) for problem in error.value.problems)
        told = [("line 2", "x"), ("line 3", "frame"), ("line 4", "label"), ("line 4", "x")]
        assert places == [*told, ("object 'c'", "label")]

    def test_repeated_points_are_dropped_with_a_note(self, tmp_path: Path) -> None:
        path = write_points(tmp_path / "p.json", {"a": [{"frame": 0, "x": 5, "y": 6}, {"frame": 0, "x": 5.2, "y": 6}]})
        prompts = read_points(path, FRAMES)
        assert len(prompts.points[0]) == 1 and prompts.notes[0].kind == "note"
        assert "object 'a', point 1" in str(prompts.notes[0]) and "(5, 6) is there twice" in str(prompts.notes[0])

    def test_contradictions(self, tmp_path: Path) -> None:
        here = {"frame": 1, "x": 5, "y": 6}
        path = write_points(tmp_path / "p.json", {"a": [here, here | {"label": "negative"}]})
        with pytest.raises(DataErrors, match=r"point 1, frame 000001: label: pixel \(5, 6\) has another label already"):
            read_points(path, FRAMES)
        path = write_points(tmp_path / "p.json", {"a": [here], "b": [here]})
        with pytest.raises(DataErrors, match=r"'b', point 0, .* is positive for object 'a' already .*one object"):
            read_points(path, FRAMES)
        path = write_points(tmp_path / "p.json", {"a": [here], "b": [here | {"label": 0}, here | {"x": 20}]})
        assert len(read_points(path, FRAMES).points[1]) == 2  # on one, off the other: no contradiction

    def test_objects_without_a_positive_point(self, tmp_path: Path) -> None:
        good = {"frame": 0, "x": 1, "y": 1}
        tree = {"a": [good], "b": [good | {"x": 9, "label": "negative"}], "c": [good | {"label": "ambiguous"}], "d": []}
        with pytest.raises(DataErrors) as error:
            read_points(write_points(tmp_path / "p.json", tree), FRAMES)
        lines = str(error.value).splitlines()
        assert len(lines) == 3 and "object 'b': label: 1 negative and 0 ambiguous points, no positive one" in lines[0]
        assert "object 'd'" in lines[2] and lines[2].endswith("put a positive point on it")

    def test_negatives_alone_in_a_later_frame(self, tmp_path: Path) -> None:
        tree = {"a": [{"frame": 0, "x": 1, "y": 1}, {"frame": 2, "x": 9, "y": 1, "label": "negative"}]}
        prompts = read_points(write_points(tmp_path / "p.json", tree), FRAMES)
        assert list(prompts.frames) == [0] and "object 'a', frame 000002: negative points without" in str(
            prompts.notes[0]
        )

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("p.json", "{", "line 1, column 2: broken JSON"),
            ("p.json", "[]", 'objects: expected {"objects": {name: [point, ...]}}'),
            ("p.json", '{"objects": {"a": 3}}', "object 'a': expected a list of points"),
            ("p.json", '{"objects": {"a": [3]}}', "object 'a', point 0: expected {frame, x, y, label}"),
            ("p.json", '{"objects": {"a": [], "a": []}}', "a: this key repeats"),
            ("p.json", '{"objects": {}}', "objects: no object has a point"),
            ("p.csv", "object,frame,x,y,label\n", "objects: no object has a point"),
            (
                "p.csv",
                "object;frame;x;y\n",
                "line 1: object: this column is missing; begin the file with the line object,",
            ),
            ("p.csv", "object,frame,x,y\na,0,1\n", "line 2: expected 4 columns"),
            ("p.csv", "object,frame,x,y\n,0,1,1\n", "object: an object needs a name"),
            ("p.csv", "object,frame,x,y\na,,1,1\n", "frame: this field is missing"),
            ("p.xml", "", "expected a .json, .jsonl, .csv or SAM-PT .txt file, got '.xml'"),
            ("p.png", "", "expected a file of points, got masks; give them with --masks"),
        ],
    )
    def test_files_of_another_layout(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises((DataError, DataErrors)) as error:
            read_points(tmp_path / name, FRAMES)
        assert message in str(error.value) and str(tmp_path / name) in str(error.value)

    def test_no_file_and_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_points(tmp_path / "none.json", FRAMES)
        (tmp_path / "p.csv").write_bytes(b"object,frame,x,y\n\xe4,0,1,1\n")
        with pytest.raises(DataError, match="not UTF-8 text"):
            read_points(tmp_path / "p.csv", FRAMES)

    def test_csv_frames_that_mean_two_things(self, tmp_path: Path) -> None:
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8), ["00001", "00002", "00003"])
        (tmp_path / "p.csv").write_text("object,frame,x,y\na,1,1,1\n")
        with pytest.raises(DataErrors, match="1 is the index of frame 00002 and the number of frame 00001; write"):
            read_points(tmp_path / "p.csv", frames)
        (tmp_path / "p.csv").write_text("object,frame,x,y\na,3,1,1\n")
        assert list(read_points(tmp_path / "p.csv", frames).frames) == [2]

    def test_more_objects_than_a_png_has_numbers(self) -> None:
        points = {f"o{i}": Points([0], [(i % W, i // W)], [POSITIVE]) for i in range(255)}
        with pytest.raises(DataErrors, match="255 objects, a label map holds 254"):
            prompts_of_points(points, FRAMES)
        points.popitem()
        assert prompts_of_points(points, FRAMES).numbers[-1] == 254
