"""Point-VOS as published: reading files of any size, PNGs, subset lists, and the paper's figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats import json_stream
from conversion.formats.json_stream import iterate_json_object
from conversion.formats.point_pngs import ANNOTATIONS, OBJECTS, read_point_pngs, write_point_pngs
from conversion.formats.point_vos import AnnotatedPoint, PointRecord, as_json, write_points
from conversion.formats.points import read_points
from conversion.formats.vidln import ActorNarrative, VidLN, write_vidln
from conversion.inspection import NO_FRAME, NO_VIDEO, REPEATED, inspect_annotations
from conversion.wanted import Subset, read_subset
from tests.helpers import Cli, H, W, make_video
from vng.dataset import Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError, Problem, read_problems
from vng.inspection.point_statistics import (
    PUBLISHED,
    PointStatistics,
    bar_name,
    bar_of,
    compare,
    parse_printed,
    published_like,
)
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points


def record(
    key: str, video: str | None = "train/v", positives: int = 2, negatives: int = 1, name: str = "é ball"
) -> PointRecord:
    """Positives spread over frames 0, 7, 14, ... of one each; negatives all in frame 0."""
    points = [AnnotatedPoint(3 + i, 5, f"{7 * (i % 10):06d}", POSITIVE, True) for i in range(positives)]
    points += [AnnotatedPoint(3 + i, 9, "000000", NEGATIVE) for i in range(negatives)]
    return PointRecord(
        key=key, object_name=name, video_name=video, points=tuple(points), question=None, question_hash="h" * 32
    )


@pytest.fixture(params=["p.json", "p.jsonl"])
def points_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four records over two videos, in both formats."""
    path = tmp_path / request.param
    keys = [("a", "train/v"), ("b", "train/w w"), ("c", "train/v"), ("d", None)]
    write_points((record(key, video, 2 + i) for i, (key, video) in enumerate(keys)), path)
    return path


class TestStreaming:
    @pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 1 << 20])
    @pytest.mark.parametrize("indent", [None, 2])
    def test_any_window_gives_what_json_gives(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, indent: int | None
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", window)
        value = {
            "a": {"x": [1, 2.5e-3, True, None, 'quote " \\ and é \U0001f600'], "": {}},
            "clé": -123456789012345678901234567890,
            "b": [],
            "last": 12,
        }
        for ascii_only in (True, False):
            path = tmp_path / "x.json"
            path.write_text(json.dumps(value, indent=indent, ensure_ascii=ascii_only) + "\n\n", encoding="utf-8")
            found = list(iterate_json_object(path, lambda key, item: (key, item)))
            assert dict(found) == value and len(found) == len(value)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "line 1, column 1: broken JSON: expected an object .* got the end of the file"),
            ("[1]", r"line 1, column 1: .* got '\['"),
            ('{"a": 1', "line 1, column 8: .* got the end of the file"),
            ('{"a": {"b": 1, ', "line 1, column 16: broken JSON: the file ends in the middle of an entry"),
            ('{"a": 1,}', "line 1, column 9: .* ',' before the closing"),
            ('{"a": 1} x', "line 1, column 10: .* expected the end of the file, got 'x'"),
            ('{"a": 1,\n "b": nul, "c": 1}', "line 2, column 7: broken JSON: Expecting value"),
            ('{"a": "\\ud8"}', "broken JSON"),
            ('{"a" 1}', "line 1, column 6: .* expected ':' after a key, got '1'"),
            ("{a: 1}", "line 1, column 2: .* expected a key in quotes"),
            ('{"a": ' + "[" * 100_000, "broken JSON"),
            ('{"a": ' + "1" * 5_000 + "}", "broken JSON"),
        ],
    )
    def test_faults_name_line_and_column(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "x.json").write_text(text)
        for on_problem in (None, [].append):
            with pytest.raises(DataError, match=words):
                list(iterate_json_object(tmp_path / "x.json", lambda key, value: key, on_problem))

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
        with pytest.raises(DataError, match="byte 7: not UTF-8 text"):
            list(iterate_json_object(tmp_path / "x.json", lambda key, value: key))
        with pytest.raises(DataError, match="no such file"):
            list(iterate_json_object(tmp_path / "none.json", lambda key, value: key))

    def test_an_entry_without_end_does_not_fill_the_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 100)
        monkeypatch.setattr(json_stream, "MOST_CHARACTERS", 1_000)
        (tmp_path / "x.json").write_text('{"a": "' + "x" * 100_000)
        held = []
        more = json_stream._Window._more
        monkeypatch.setattr(json_stream._Window, "_more", lambda self: held.append(len(self.text)) or more(self))
        with pytest.raises(DataError, match="Unterminated string"):
            list(iterate_json_object(tmp_path / "x.json", lambda key, value: key))
        assert max(held) < 3_000

    def test_reading_is_lazy_and_holds_one_record(self, points_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first record is there before the second is read; of a file broken at its end too."""
        monkeypatch.setattr(json_stream, "READ_AHEAD", 64)
        text = points_file.read_text()
        points_file.write_text(text.rstrip("}\n")[:-5])
        records = read_points(points_file)
        assert [next(records).key for _ in range(3)] == ["a", "b", "c"]
        with pytest.raises(DataError, match=r"the file ends|line 4"):
            next(records)

    def test_window_forgets_what_was_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 256)
        write_points((record(f"{i:032x}") for i in range(200)), tmp_path / "p.json")
        held = []
        more = json_stream._Window._more
        monkeypatch.setattr(json_stream._Window, "_more", lambda self: held.append(len(self.text)) or more(self))
        assert len(list(read_points(tmp_path / "p.json"))) == 200
        assert max(held) < 2_000 < (tmp_path / "p.json").stat().st_size / 20


class TestReading:
    def test_formats_are_told_by_content(self, tmp_path: Path) -> None:
        made = [record("a"), record("b"), record("c")]
        write_points(made, tmp_path / "p.jsonl")
        (tmp_path / "p.jsonl").rename(tmp_path / "lines.json")
        assert list(read_points(tmp_path / "lines.json")) == made
        pretty = json.dumps({r.key: as_json(r) for r in made}, indent=1)
        (tmp_path / "pretty.json").write_text(pretty)
        assert list(read_points(tmp_path / "pretty.json")) == made
        one_a_line = "\n".join(json.dumps({r.key: as_json(r)}, indent=1) for r in made)  # objects over several lines
        (tmp_path / "several.json").write_text(one_a_line)
        assert list(read_points(tmp_path / "several.json")) == made

    def test_empty_files(self, tmp_path: Path) -> None:
        write_points([], tmp_path / "p.json")
        write_points([], tmp_path / "p.jsonl")
        assert (tmp_path / "p.json").read_text() == "{}\n"
        assert [*read_points(tmp_path / "p.json"), *read_points(tmp_path / "p.jsonl")] == []
        (tmp_path / "p.json").write_text("")
        with pytest.raises(DataError, match=r"p\.json: line 1, column 1: .* got the end of the file"):
            list(read_points(tmp_path / "p.json"))
        with pytest.raises(DataError, match="no such file"):
            list(read_points(tmp_path / "none.json"))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda b: b.replace('"x": 3', '"x": '),  # no value
            lambda b: b[: len(b) // 2],  # its second half is missing
            lambda b: b.replace('"annotated_points": [', '"annotated_points": '),
            lambda b: b.replace("ball", 'ba"ll'),
            lambda b: b.replace("ball", "ba\\xll"),
        ],
    )
    @pytest.mark.parametrize("indent", [None, 1])
    def test_broken_json_in_the_middle_loses_one_record(
        self, tmp_path: Path, damage: Callable[[str], str], indent: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 50)
        entries = [json.dumps({r.key: as_json(r)}, indent=indent)[1:-1] for r in map(record, ("a", "b", "c", "d"))]
        (tmp_path / "p.json").write_text("{" + ",".join([entries[0], damage(entries[1].rstrip()), *entries[2:]]) + "}")
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["a", "c", "d"]
        assert problems and all("broken JSON" in p.reason and p.record.startswith("line ") for p in problems)
        with pytest.raises(DataError, match="broken JSON"):
            list(read_points(tmp_path / "p.json"))

    def test_a_brace_never_closed_is_a_file_cut_short(self, tmp_path: Path) -> None:
        entries = [json.dumps({r.key: as_json(r)})[1:-1] for r in map(record, ("a", "b", "c"))]
        (tmp_path / "p.json").write_text("{" + ",".join([entries[0], entries[1][:-1], entries[2]]) + "}")  # b holds c
        with pytest.raises(DataError, match=r"broken JSON: .* got the end of the file"):
            list(read_points(tmp_path / "p.json", lambda problem: None))

    def test_a_missing_comma_loses_nothing(self, tmp_path: Path) -> None:
        entries = [json.dumps({r.key: as_json(r)})[1:-1] for r in map(record, ("a", "b", "c"))]
        (tmp_path / "p.json").write_text("{" + entries[0] + " " + entries[1] + "," + entries[2] + "}")
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["a", "b", "c"]
        assert len(problems) == 1 and "expected ',' or '}' after an entry" in problems[0].reason

    def test_a_file_cut_short_is_never_taken_for_whole(self, tmp_path: Path) -> None:
        write_points(map(record, "abc"), tmp_path / "p.json")
        whole = (tmp_path / "p.json").read_text()
        for length in (len(whole) - 2, len(whole) - 30, whole.index('"c"') + 1, whole.index('"c"') + 6):
            (tmp_path / "p.json").write_text(whole[:length])
            keys: list[str] = []
            with pytest.raises(DataError, match="broken JSON: "):
                for item in read_points(tmp_path / "p.json", lambda problem: None):
                    keys.append(item.key)
            assert keys[:2] == ["a", "b"]

    def test_bad_line_of_kinetics(self, tmp_path: Path) -> None:
        lines = [json.dumps({r.key: as_json(r)}) for r in map(record, "abcd")]
        lines[1] = lines[1][:-9]
        lines[2] = lines[2].replace("ACCEPTED", "MAYBE")
        (tmp_path / "p.jsonl").write_text("\n".join(lines))
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.jsonl", problems.append)] == ["a", "d"]
        assert [p.record for p in problems] == ["line 2", "line 3: c"]

    def test_what_may_be_missing(self, tmp_path: Path) -> None:
        raw = as_json(record("k", None))
        del raw["question_hash"]
        raw["annotated_points"][0] |= {"frame_id": None, "x": 2.5}
        del raw["annotated_points"][1]["is_fg_candidate"]
        (tmp_path / "p.jsonl").write_text(json.dumps({"k": raw}) + "\n")
        (read,) = read_points(tmp_path / "p.jsonl")
        assert read.video_name is None and read.question is None and read.question_hash is None
        assert (read.points[0].frame_id, read.points[0].x, read.points[1].is_fg_candidate) == (None, 2.5, False)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"x": "3"}, r'annotated_points\[1\].x: expected a number, got "3"'),
            ({"x": True}, r"annotated_points\[1\].x: expected a number, got true"),
            ({"y": 10**12}, r"annotated_points\[1\].y: expected a number between -1e9 and 1e9"),
            ({"frame_id": 7}, r"annotated_points\[1\].frame_id: expected a string"),
            ({"frame_id": "\ud800"}, r"annotated_points\[1\].frame_id: contains half a character"),
            ({"status": None}, r"annotated_points\[1\].status: expected a string"),
            ({"status": ["ACCEPTED"]}, r"annotated_points\[1\].status: expected a string"),
        ],
    )
    def test_faults_of_points_name_the_field(self, tmp_path: Path, change: dict, words: str) -> None:
        raw = as_json(record("k"))
        raw["annotated_points"][1] |= change
        (tmp_path / "p.json").write_text(json.dumps({"k": raw}))
        with pytest.raises(DataError, match=words):
            list(read_points(tmp_path / "p.json"))
        for wrong in ({"points": 1}, {"annotated_points": {}}, {"annotated_points": [1]}):
            (tmp_path / "p.json").write_text(json.dumps({"k": {"object_name": "x", **wrong}}))
            with pytest.raises(DataError, match="annotated_points"):
                list(read_points(tmp_path / "p.json"))


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


class TestSubsets:
    def test_keys_or_videos(self, tmp_path: Path) -> None:
        (tmp_path / "s.txt").write_bytes(b"\xef\xbb\xbfa\r\nw  w \n\ntrain/x")
        subset = read_subset(tmp_path / "s.txt")
        assert subset.names == {"a", "w  w ", "train/x"}
        kept = [
            subset.keeps(record(key, video))
            for key, video in (("a", None), ("b", "val/w  w "), ("c", "train/x"), ("d", "train/v"))
        ]
        assert kept == [True, True, True, False] and subset.check("p.json") == []
        assert not subset.keeps_video("x") and subset.keeps_video("w  w ")

    def test_what_was_never_met_is_said(self) -> None:
        subset = Subset("abcdef", "s.txt")
        with pytest.raises(
            DataError, match=r"s.txt: none of its 6 names is a key or a video of p.json \('a', 'b', 'c', \.\.\.\)"
        ):
            subset.check("p.json")
        assert subset.keeps(record("b"))
        (problem,) = subset.check("p.json")
        assert problem.reason == "names that are not in p.json (5 of 6): 'a', 'c', 'd', ..."

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b"\n \n", "this list is empty"), (b"\xff\n", "byte 0: not UTF-8"), (None, "no such file")],
    )
    def test_bad_lists(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        if content is not None:
            (tmp_path / "s.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_subset(tmp_path / "s.txt")


class TestStatistics:
    def test_known_numbers(self) -> None:
        points = PointStatistics()
        points.add("v", [0, 0, 3, 3, 3], [POSITIVE, NEGATIVE, POSITIVE, POSITIVE, AMBIGUOUS])
        points.add("v", [0, 3, 5], [NEGATIVE] * 3)
        points.add("w", list(range(10)) * 3, [POSITIVE] * 30)
        assert points.table() == {
            "videos": 2,
            "annotations": 2 + 3 + 10,
            "objects": 3,
            "positive points": 33,
            "negative points": 4,
            "ambiguous points": 1,
            "frames": 3 + 10,
        }
        assert points.as_json()["objects by frames with a positive"] == {"0": 1, "2": 1, "10": 1}
        assert points.as_json()["objects by positive points"] == {"0-10": 2, "20-30": 1}
        assert points.as_json()["objects by negative points"] == {"0-10": 3}
        points.add(None, [1], [POSITIVE])
        assert points.videos is None and points.frames is None and points.objects == 4

    @pytest.mark.parametrize(
        ("count", "bar"),
        [(0, "0-10"), (10, "0-10"), (11, "10-20"), (20, "10-20"), (200, "190-200"), (201, "> 200"), (999, "> 200")],
    )
    def test_bars_are_the_published_ones(self, count: int, bar: str) -> None:
        assert bar_name(bar_of(count)) == bar

    @pytest.mark.parametrize(
        ("text", "value"), [("7.4K", (7400, 100)), ("93K", (93_000, 1_000)), ("1.2M", (1.2e6, 1e5)), ("991", (991, 1))]
    )
    def test_printed_figures(self, text: str, value: tuple[float, float]) -> None:
        assert parse_printed(text) == pytest.approx(value)

    def test_comparison(self) -> None:
        points = PointStatistics(objects=12_146, object_frames=92_499)
        rows = {row.name: row for row in compare(points, PUBLISHED["oops train"])}
        assert rows["objects"].agrees and rows["objects"].verdict == "agrees as printed"
        assert not rows["annotations"].agrees and rows["annotations"].verdict == "-0.5%"
        assert rows["videos"].verdict == "-100.0%" and rows["frames"].verdict == ""
        val = {row.name: row for row in compare(PointStatistics(objects=992), PUBLISHED["oops val"])}
        assert not val["objects"].agrees  # printed to the last digit

    @pytest.mark.parametrize(
        ("name", "splits", "found"),
        [
            ("x/Oops/train.json", {"train"}, "oops train"),
            ("oops_val", {"val"}, "oops val"),
            ("oops", {"train", "val"}, "oops"),
            ("oops", set(), "oops train"),
            ("data/Kinetics/train.jsonl", {"train"}, "kinetics"),
            ("OVIS_train", {"train"}, None),
            ("pv-davis DAVIS", {"train"}, "davis train"),
            ("DAVIS", {"val"}, "davis val"),
            ("DAVIS", {"train", "val"}, None),
            ("YouTube-VOS", {"train"}, "youtube train"),
            ("YouTube-VOS", {"valid"}, "youtube val"),
        ],
    )
    def test_which_set(self, name: str, splits: set[str], found: str | None) -> None:
        assert published_like(name, splits) == (PUBLISHED[found] if found else None)


def narratives_file(path: Path) -> Path:
    one = ActorNarrative(
        actor_name="Ball",
        caption="A red ball rolls.",
        keyframe_selection_indices=(0,),
        recording_start_ms=0,
        traces_start_ms=0,
        recording_filename="",
        traces=(),
        noun_segments=((6, 10),),
        time_alignment=(),
    )
    write_vidln(
        [
            VidLN(
                vidln_id=i,
                dataset_id="oops_train",
                video_id=name,
                annotator_id=1,
                keyframe_names=("000000",),
                narratives=(one,) * (i + 1),
            )
            for i, name in enumerate(("v", "x"))
        ],
        path,
    )
    return path


class TestInspection:
    @pytest.fixture
    def oops(self, tmp_path: Path) -> Path:
        path = tmp_path / "Oops" / "train.json"
        unplaced = replace(record("f"), points=(*record("f").points, AnnotatedPoint(1, 1, None, POSITIVE)))
        made = [record("a"), record("b", "train/w", 25, 12), record("c", None), unplaced, record("a", "train/z")]
        write_points(made, path)
        return path

    def test_figures_of_a_published_file(self, oops: Path, tmp_path: Path) -> None:
        inspection = inspect_annotations(oops, narratives_file(tmp_path / "n.jsonl"), progress=False)
        assert inspection.points.table() == {
            "videos": 2,
            "annotations": 2 + 10 + 2,
            "objects": 3,
            "positive points": 29,
            "negative points": 14,
            "ambiguous points": 0,
            "frames": 2 + 10,
        }
        assert inspection.left_out == {NO_VIDEO: 1, NO_FRAME: 1, REPEATED: 1}
        assert inspection.published == PUBLISHED["oops train"] and inspection.names == {"é ball": 3}
        assert inspection.narratives == {
            "narrated videos": 2,
            "narrated videos with points": 1,
            "narratives": 3,
            "words": 12,
            "marked nouns": 3,
            "trace points": 0,
        }

    def test_narratives_alone_and_subsets(self, oops: Path, tmp_path: Path) -> None:
        path = narratives_file(tmp_path / "n.jsonl")
        alone = inspect_annotations(None, path, Subset(["x"]), progress=False)
        assert alone.narratives["narrated videos"] == 1 and alone.as_json()["points"] is None
        part = inspect_annotations(oops, None, Subset(["b", "nobody"], "s.txt"), progress=False)
        assert part.points.objects == 1 and "(1 of 2): 'nobody'" in part.problems[0].reason

    def test_command(self, oops: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        narratives = narratives_file(tmp_path / "n.jsonl")
        ended = cli("inspect", "--points", oops, "--narratives", narratives, "--html", tmp_path / "page", "--quiet")
        assert ended.status == 0, ended.err
        lines = ended.out.splitlines()
        assert lines[0].split() == ["here", "published", "Point-VOS", "Oops,", "train", "(Table", "11)"]
        assert lines[3].split() == ["objects", "3", "12K", "-100.0%"]
        assert "33.3% of the objects have a positive point in all 10 frames (published: 40.3%)." in ended.out
        page = (tmp_path / "page" / "index.html").read_text()
        assert page.count("data:image/png;base64,") == 2 and "é ball" in page and "Table 11" in page
        figures = json.loads(cli("inspect", "--points", oops, "--json", "--quiet").out)
        assert figures["points"]["objects"] == 3 and figures["published"]["objects"] == "12K"

    def test_other_sets_are_not_compared(self, oops: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        path = oops.rename(tmp_path / "mine.json")
        ended = cli("inspect", "--points", path, "--quiet", "--html", tmp_path / "page")
        assert "published" not in ended.out and "1 (left out)" not in ended.err
        assert "published:" not in (tmp_path / "page" / "index.html").read_text()

    def test_pngs(self, tmp_path: Path) -> None:
        write_point_pngs([make_video("one")], tmp_path / "pngs")
        points = inspect_annotations(tmp_path / "pngs", progress=False).points
        assert (points.videos, points.object_frames, points.points["positive"]) == (1, 2, 2)
        (tmp_path / "pngs" / OBJECTS).unlink()
        points = inspect_annotations(tmp_path / "pngs", progress=False).points
        assert (points.videos, points.object_frames, points.points["positive"]) == (None, 2, 2)

    def test_of_a_dataset(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        traced = make_video("traced", 5)
        traced = replace(traced, objects=tuple(replace(o, source="trace/x") for o in traced.objects))
        write_dataset(tmp_path / "oops-vng", [make_video("one"), make_video("two", 1), traced], "hand-made")
        ended = cli("inspect", tmp_path / "oops-vng", "--quiet", "--html", tmp_path / "page")
        assert "annotations                            4         93K  -100.0%" in ended.out
        assert (tmp_path / "page" / "index.html").read_text().count("data:image/png") == 2
        figures = json.loads(cli("inspect", tmp_path / "oops-vng", "--quiet", "--json").out)
        assert figures["points"]["positive points"] == 4 and figures["points"]["frames"] == 4

    def test_wrong_calls(self, oops: Path, dataset: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        for arguments in ([], [dataset, "--points", oops], [dataset, "--subset", oops]):
            ended = cli("inspect", *arguments)
            assert ended.status == 2 and "vng inspect:" in ended.err
        assert cli("inspect", "--points", tmp_path / "none.json", "--quiet").status == 1
        (tmp_path / "s.txt").write_text("nobody\n")
        ended = cli("inspect", "--points", oops, "--subset", tmp_path / "s.txt", "--quiet")
        assert ended.status == 1 and "none of its 1 names" in ended.err
