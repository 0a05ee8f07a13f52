"""The official VNG files: three JSON files and folders of masks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion.formats.official_export import write_trio
from conversion.formats.official_vng import TrioFiles, read_trio
from tests.conversion.narrated_video import CAPTION
from tests.helpers import H, W, box, make_video
from vng.errors import DataError, Problem
from vng.masks import encode


class TestOfficialTrio:
    def test_lossless(self, tmp_path: Path) -> None:
        made = [make_video("one"), make_video("two words", 5)]
        for read, expected in zip(read_trio(write_trio(made, tmp_path)), made, strict=True):
            assert (read.narratives, read.expressions) == (expected.narratives, expected.expressions)
            assert [(o.object_id, o.source, o.segmentations) for o in read.objects] == [
                (o.object_id, o.source, o.segmentations) for o in expected.objects
            ]
        extra = json.loads((tmp_path / "extra_masks.json").read_text())["annotations"]
        assert {a["id"] for a in extra} == {4850600790259722026, 4850600790259722031}

    def test_uvo_is_padded_with_null(self, tmp_path: Path) -> None:
        rle = encode(box(1, 1, 5, 6)).as_dict()
        info = {"id": 9, "width": W, "height": H, "length": 2, "file_names": ["uvo/0.png", "uvo/4.png"], "ytid": "uvo"}
        annotation = {"id": 1, "video_id": 9, "segmentations": [rle, None]}
        meta = {
            "frames": [str(i) for i in range(6)],
            "actor_narratives": [{"actor_idx": 0, "actor_name": "Ball", "description": CAPTION}],
            "expressions": {
                "0": {"narrative_actor_idx": 0, "noun_phrase_start_idx": 6, "noun_phrase_end_idx": 10, "obj_id": 1}
            },
        }
        files = TrioFiles.of(tmp_path)
        files.meta.write_text(json.dumps({"videos": {"uvo": meta}}))
        files.extra_masks.write_text(json.dumps({"videos": [info], "annotations": []}))
        files.orig_masks.write_text(json.dumps({"videos": [info], "annotations": [annotation, annotation]}))
        problems: list[Problem] = []
        (read,) = read_trio(files, on_problem=problems.append)
        assert [s is not None for s in read.objects[0].segmentations] == [True] + [False] * 5
        assert (read.height, read.width) == (H, W) and "repeats" in problems[0].reason

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("obj_id", 77, "object 77 is in neither mask file"),
            ("noun_phrase_end_idx", 99, r"span \[6, 99\)"),
            ("narrative_actor_idx", 4, "there is no narrative 4: the video has 1"),
        ],
    )
    def test_bad_expressions(self, tmp_path: Path, key: str, value: int, words: str) -> None:
        files = write_trio([make_video("v")], tmp_path)
        raw = json.loads(files.meta.read_text())
        raw["videos"]["v"]["expressions"]["0"][key] = value
        files.meta.write_text(json.dumps(raw))
        with pytest.raises(DataError, match=f"v: expressions.0.{key.replace('_end_', '_start_')}: .*{words}"):
            list(read_trio(files))
        problems: list[Problem] = []
        # left out whole: the numbers of its other expressions, by which predictions are filed, would shift
        assert list(read_trio(files, on_problem=problems.append)) == [] and len(problems) == 1

    def test_mask_of_another_size(self, tmp_path: Path) -> None:
        files = write_trio([make_video("v")], tmp_path)
        raw = json.loads(files.orig_masks.read_text())
        raw["annotations"][0]["segmentations"][1] = encode(box(0, 0, 2, 2, H, W + 1)).as_dict()
        files.orig_masks.write_text(json.dumps(raw))
        with pytest.raises(DataError, match=r"v: objects.1.000001: mask of size \(20, 31\)"):
            list(read_trio(files))

    def test_written_as_json_dump_would(self, tmp_path: Path) -> None:
        """Item by item on disk, and yet the bytes of one `json.dumps` of everything."""
        made = [make_video("one"), make_video("zwei Wörter", 5)]
        files = write_trio(made, tmp_path / "trio")
        for path in (files.meta, files.extra_masks, files.orig_masks):
            text = path.read_text(encoding="utf-8")
            assert text == json.dumps(json.loads(text), ensure_ascii=False) + "\n"
        assert list(json.loads(files.extra_masks.read_text())) == ["videos", "annotations", "categories", "info"]
        assert list(json.loads(files.orig_masks.read_text())) == ["videos", "annotations", "categories"]
        assert sorted(p.name for p in (tmp_path / "trio").iterdir()) == sorted(
            p.name for p in (files.meta, files.extra_masks, files.orig_masks)
        )

    def test_nothing_to_write(self, tmp_path: Path) -> None:
        files = write_trio([], tmp_path)
        assert files.meta.read_text() == '{"videos": {}}\n' and list(read_trio(files)) == []

    @pytest.mark.parametrize(("seeds", "words"), [((0, 0), "two videos have this id"), ((0, 0, 0), "two videos")])
    def test_two_videos_of_one_id(self, tmp_path: Path, seeds: tuple[int, ...], words: str) -> None:
        with pytest.raises(DataError, match=words):
            write_trio([make_video("v", seed) for seed in seeds], tmp_path)
        assert list(tmp_path.iterdir()) == []  # nothing half-written

    @pytest.mark.parametrize(
        ("file", "text", "words"),
        [
            ("meta_expressions.json", '{"videos": {"v": {}, "v": {}}}', r"videos.v: this key repeats"),
            ("meta_expressions.json", '{"videos": []}', r"videos: expected an object, got \[\]"),
            ("meta_expressions.json", "{}", r"videos: this key is missing"),
            ("meta_expressions.json", '{"videos": {"v": {}', r"broken JSON: .*end of the file"),
            ("orig_masks.json", '{"videos": [], "annotations": {"a": 1}}', r"annotations: expected a list, got"),
            ("orig_masks.json", '{"videos": []}', r"annotations: this key is missing"),
            ("orig_masks.json", '{"videos": [], "annotations": [],}', r"broken JSON"),
            ("orig_masks.json", "[]", r"broken JSON: expected an object with videos, annotations"),
        ],
    )
    def test_files_that_are_no_trio(self, tmp_path: Path, file: str, text: str, words: str) -> None:
        files = write_trio([make_video("v")], tmp_path)
        (tmp_path / file).write_text(text)
        with pytest.raises(DataError, match=rf"{file}: .*{words}"):
            list(read_trio(files))

    def test_order_bytes_and_marks_of_other_editors(self, tmp_path: Path) -> None:
        """A byte-order mark, spaces, sections in another order, letters of several bytes: places are of bytes."""
        files = write_trio([make_video("Ünï"), make_video("b", 5)], tmp_path)
        expected = [(v.video_id, [tuple(o.segmentations) for o in v.objects]) for v in read_trio(files)]
        for path in (files.meta, files.extra_masks, files.orig_masks):
            content = json.loads(path.read_text())
            shuffled = {"größe": "ä" * 50, **dict(reversed(content.items()))}
            path.write_bytes(b"\xef\xbb\xbf" + json.dumps(shuffled, ensure_ascii=False, indent=3).encode())
        assert [(v.video_id, [tuple(o.segmentations) for o in v.objects]) for v in read_trio(files)] == expected
        assert [name for name, _ in expected] == ["b", "Ünï"]

    def test_a_mask_file_that_changes_while_it_is_read(self, tmp_path: Path) -> None:
        files = write_trio([make_video("v"), make_video("w", 5)], tmp_path)
        reading = read_trio(files)
        assert next(reading).video_id == "v"
        files.orig_masks.write_text("\n\n\n" + files.orig_masks.read_text())
        with pytest.raises(DataError, match=r"orig_masks.json: byte \d+: broken JSON: .*the file has changed: start"):
            next(reading)
