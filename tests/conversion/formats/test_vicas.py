"""`vng convert vicas`: marks of captions, head nouns, masks by hand and by SAM 2, and files that are torn."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.vicas_masks import Clip, Match, compare_engines, read_specs, table
from conversion.formats.vicas import VicasSettings, read_split_lists
from conversion.formats.vicas_captions import Phrase, head_finder, parse_caption
from tests.helpers import Cli, write_frames
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, Problem, UsageError, read_problems
from vng.masks import area, encode, from_json

H, W = 12, 20
FRAMES = 5  # of a video; the first and the fourth are by hand, the second by SAM 2
CAPTION = "A [man in red]<mask_2> and [dogs]<mask_2,13> near [a crowd]<mask_?>."


def box(columns: int) -> dict[str, Any]:
    """A mask of the first columns, as JSON."""
    mask = np.zeros((H, W), bool)
    mask[:, :columns] = True
    return encode(mask).as_dict()


def entry(frame: int, by_hand: bool, masks: dict[int, int]) -> dict[str, Any]:
    """A frame of "segmentations"; `masks` has the columns of each track."""
    rles = [box(columns) for columns in masks.values()]
    return {"filename": f"{frame:05d}.jpg", "is_gt": by_hand, "track_ids": list(masks), "mask_rles": rles}


def annotations(number: int, **more: Any) -> dict[str, Any]:
    """The file of a video."""
    segmentations = [entry(0, True, {2: 3, 13: 7}), entry(1, False, {13: 1}), entry(3, True, {2: 4})]
    return {
        "video_id": number,
        "image_size": [H, W],
        "caption_raw_en_gpt": CAPTION,
        "caption_raw_en": "[Man]<mask2>",
        "caption_raw_cn": "[小狗]<mask_13，2>，跑",
        "object_referrals": [{"prompt": " the man", "track_ids": [2]}, {"prompt": "both", "track_ids": [13, 2]}],
        "segmentations": segmentations,
        "all_track_ids": [2, 13],
    } | more


class Vicas:
    """A tiny ViCaS."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "annotations"
        self.folder.mkdir()

    def video(self, number: int, name: str = "", **more: Any) -> None:
        path = self.folder / f"{name or f'{number:06d}'}.json"
        path.write_text(json.dumps(annotations(number, **more)))
        image = np.stack([np.full((H, W, 3), 30 + 20 * t, np.uint8) for t in range(FRAMES)])
        write_frames(self.root / "frames" / f"{number:06d}", image, "{:05d}.jpg")

    def convert(self, cli: Callable[..., Cli], *more: object) -> Cli:
        call = ("convert", "vicas", "--annotations", self.folder, "--quiet", "--strict")
        return cli(*call, "--out", self.root / "out", *more)

    @property
    def rows(self) -> list[Video]:
        return list(VngDataset(self.root / "out"))

    @property
    def problems(self) -> list[Problem]:
        return read_problems(self.root / "out" / "problems.jsonl")


@pytest.fixture
def vicas(tmp_path: Path) -> Vicas:
    made = Vicas(tmp_path)
    made.video(41)
    return made


def areas(video: Video, key: str) -> list[int | None]:
    return [None if rle is None else area(rle) // H for rle in video.object_by_id[key].segmentations]


def nouns(video: Video) -> list[tuple[str, str]]:
    return [(video.noun(expression), expression.object_id) for expression in video.expressions]


class TestCaptions:
    def test_marks_leave_the_text(self) -> None:
        caption = parse_caption("，[ two men]<mask_12, 3，3>[x]<mask?>")
        assert caption.text == "， two menx"
        assert caption.phrases == (Phrase(1, 9, (12, 3)), Phrase(9, 10, (), True))
        assert parse_caption("").phrases == () == parse_caption("no mark").phrases

    @pytest.mark.parametrize(
        ("marked", "reason"),
        [
            ("a [man", r"character 2 \('\['\) is no part of a mark"),
            ("a [man] <mask_1>", "character 2"),
            ("[a]<mask_1> b>", "character 13"),
            ("[a [b]<mask_1>", "character 0"),
            ("[a]<mask_x>", "character 0"),
            ("[ ]<mask_1>", "brackets at character 0 are empty"),
            ("[a]<mask_,>", "the phrase 'a' at character 0 has no track id"),
            ("[a]<mask_1234567890>", "an id of too many digits"),
        ],
    )
    def test_torn_marks_are_refused(self, marked: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            parse_caption(marked)

    @pytest.mark.parametrize(
        ("phrase", "head"),
        [
            ("man in red", "man"),
            (" young boy wearing a hat ", "boy"),
            ("man wearing sunglasses", "man"),
            ("man dressed in black", "man"),
            ("woman running", "woman"),
            ("skateboarding boy", "boy"),
            ("a tall building", "building"),
            ("the man's X-ray machine", "machine"),
            ("group of people", "group"),
            ("in red", "in red"),
            (" ! ", "!"),
        ],
    )
    def test_head_nouns(self, phrase: str, head: str) -> None:
        start, end = head_finder("head")(f"1 {phrase}2", 2, 2 + len(phrase))
        assert f"1 {phrase}2"[start:end] == head

    def test_a_spacy_pipeline_finds_the_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Document:  # of spaCy, whose import takes seconds
            parsed = True

            def has_annotation(self, name: str) -> bool:
                return self.parsed and name == "DEP"

            def char_span(self, start: int, end: int, alignment_mode: str) -> SimpleNamespace:
                assert (start, end, alignment_mode) == (2, 9, "expand")
                return SimpleNamespace(root=SimpleNamespace(idx=6, text="dog"))

        monkeypatch.setattr("conversion.formats.vicas_captions.load_pipeline", lambda _: lambda _: Document())
        assert head_finder("made")("a red dog runs", 2, 10) == (6, 9)
        Document.parsed = False
        with pytest.raises(UsageError, match="'made' has no parser"):
            head_finder("made")

    def test_settings(self) -> None:
        for settings, reason in (
            ({"text": "hindi"}, "unknown text 'hindi'"),
            ({"masks": "both"}, "unknown kind of masks"),
            ({"text": "referrals", "spans": "head"}, "the whole text is the span"),
            ({"text": "chinese", "spans": "head"}, "a rule for English"),
        ):
            with pytest.raises(UsageError, match=reason):
                VicasSettings(**settings)


class TestConvert:
    def test_masks_by_hand(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        ended = vicas.convert(cli, "--frames", vicas.root / "frames")
        assert ended.status == 0, ended.err
        (video,) = vicas.rows
        assert (video.video_id, video.dataset, video.split) == ("000041", "ViCaS", "train")
        assert (video.height, video.width, video.frame_names) == (H, W, ("00000", "00003"))
        assert abs(int(video.opened_frames()[1].mean()) - 90) < 3  # the fourth frame
        assert video.narratives[0].description == "A man in red and dogs near a crowd."
        assert nouns(video) == [("man in red", "2"), ("dogs", "2+13")]
        assert areas(video, "2") == [3, 4] and areas(video, "13") == [7, 0] and areas(video, "2+13") == [7, 4]
        assert [(o.name, o.source) for o in video.objects] == [
            ("man in red", "vicas"),
            ("", "vicas"),
            ("dogs", "vicas"),
        ]
        (note,) = vicas.problems
        assert note.reason.startswith("1 phrases of crowds are left out") and note.kind == "note"

    @pytest.mark.parametrize(("masks", "frames"), [("automatic", 1), ("all", 3)])
    def test_masks_of_sam_are_told_apart(self, vicas: Vicas, cli: Callable[..., Cli], masks: str, frames: int) -> None:
        assert vicas.convert(cli, "--masks", masks).status == 0
        (video,) = vicas.rows
        assert len(video.frame_names) == frames and all(item.has_pseudo_masks for item in video.objects)
        assert areas(video, "13") == {1: [1], 3: [7, 1, 0]}[frames]

    def test_all_frames_of_a_folder(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        assert vicas.convert(cli, "--frames", vicas.root / "frames", "--row-frames", "all").status == 0
        (video,) = vicas.rows
        assert len(video.frame_names) == FRAMES
        assert areas(video, "13") == [7, None, None, 0, None] and areas(video, "2+13") == [7, None, None, 4, None]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--spans", "head"), [("man", "2"), ("dogs", "2+13")]),
            (("--plurals", "each"), [("man in red", "2"), ("dogs", "2"), ("dogs", "13")]),
            (("--plurals", "none"), [("man in red", "2")]),
            (("--text", "original"), [("Man", "2")]),
            (("--text", "chinese"), [("小狗", "2+13")]),
            (("--text", "referrals"), [("the man", "2"), ("both", "2+13")]),
        ],
    )
    def test_choices(self, vicas: Vicas, cli: Callable[..., Cli], options: tuple[str, ...], expected: Any) -> None:
        ended = vicas.convert(cli, *options)
        assert ended.status == 0, ended.err
        (video,) = vicas.rows
        assert nouns(video) == expected
        if "referrals" in options:
            assert [e.narrative for e in video.expressions] == [0, 1] and areas(video, "2+13") == [7, 4]

    def test_tracks_without_masks(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        marked = "[a]<mask_5> [b]<mask_2,5> [c]<mask_6>"
        vicas.video(41, all_track_ids=[2, 13, 6], caption_raw_en_gpt=marked)
        assert vicas.convert(cli).status == 0
        (video,) = vicas.rows
        assert areas(video, "5") == [None, None] == areas(video, "2+5")  # not annotated
        assert areas(video, "6") == [0, 0]  # a track that is absent
        assert [str(p).split(": ")[-1] for p in vicas.problems] == [
            "5, 2+5; their phrases are kept, their masks are null"
        ]

    def test_split_lists(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        vicas.video(7)
        vicas.video(123456)
        (vicas.root / "val.json").write_text("[7, 41, 99]")
        (vicas.root / "test.json").write_text("[]")
        lists = ("--split-lists", vicas.root / "val.json", vicas.root / "test.json")
        assert vicas.convert(cli, *lists).status == 1
        assert [(video.video_id, video.split) for video in vicas.rows] == [("000007", "val"), ("000041", "val")]
        told = [problem.reason for problem in vicas.problems if problem.field == "" and problem.record == ""]
        assert told == [
            "1 videos are in no split list: they are left out",
            "no annotations of 1 of the 3 videos of the split lists: 99",
        ]
        (vicas.root / "test.json").write_text("[41]")
        with pytest.raises(DataError, match="41: video 41 is of 'val', too"):
            read_split_lists(lists[1:])  # type: ignore[arg-type]
        (vicas.root / "test.json").write_text('["41"]')
        with pytest.raises(DataError, match=r'\[0\]: expected an integer, got "41"'):
            read_split_lists(lists[2:])  # type: ignore[arg-type]

    def test_selection(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        vicas.video(7)
        assert vicas.convert(cli, "--only", "000007", "--split", "mine").status == 0
        assert [(video.video_id, video.split) for video in vicas.rows] == [("000007", "mine")]

    def test_bad_files_do_not_lose_good_ones(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        frame, rle = entry(0, True, {2: 3}), box(1)
        bad: dict[int, tuple[dict[str, Any], str]] = {
            1: ({"video_id": 2}, "000001: video_id: this file is named 000001.json; rename the file"),
            2: ({"image_size": [W]}, "image_size: expected [height, width] in pixels, got [20]"),
            3: ({"image_size": [2**20, 2**20]}, "image_size"),
            4: ({"caption_raw_en_gpt": "[a]<mask_1"}, "caption_raw_en_gpt: character 0 ('[') is no part of a mark"),
            5: ({"segmentations": []}, "no frame with masks (human); choose other --masks"),
            6: ({"segmentations": [frame, frame]}, "segmentations[1].filename: frame '00000' repeats"),
            7: ({"segmentations": [frame | {"track_ids": [1, 2]}]}, "mask_rles: 1 masks for 2 track_ids"),
            8: ({"segmentations": [frame | {"track_ids": [1, 1]}]}, "track_ids: a track repeats in this frame"),
            9: ({"segmentations": [frame | {"mask_rles": [rle | {"size": [W, H]}]}]}, "mask_rles[0]: "),
            10: ({"all_track_ids": list(range(1001))}, "all_track_ids: 1001 tracks, at most 1000 are read"),
            11: ({"all_track_ids": [-1]}, "track_ids: expected ids in [0, 1e9), got [-1]"),
            12: ({"segmentations": [frame | {"filename": "../../00009.jpg"}]}, "000012: frames: no frame '00009'"),
            13: ({"image_size": [W, H], "segmentations": [frame | {"track_ids": [], "mask_rles": []}]}, "000013: size"),
            14: ({"caption_raw_en_gpt": None}, "caption_raw_en_gpt: expected a string, got null"),
        }
        for number, (more, _) in bad.items():
            vicas.video(number, **more)
        vicas.video(41, name="41")
        (vicas.folder / "notes.json").write_text("{}")
        (vicas.folder / "15.json").write_text("{")
        assert vicas.convert(cli, "--frames", vicas.root / "frames").status == 1
        assert [video.video_id for video in vicas.rows] == ["000041"]
        told = [str(problem) for problem in vicas.problems]
        others = ("another file is of this video; remove one", "is not named by a video's number", "15.json: line 1")
        for reason in [reason for _, reason in bad.values()] + list(others):
            assert any(reason in one for one in told), (reason, told)
        assert sum(problem.kind == "error" for problem in vicas.problems) == len(bad) + len(others)

    def test_texts_of_refusals(self, vicas: Vicas, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch) -> None:
        def no_pipeline(name: str) -> None:
            raise OSError(name)

        monkeypatch.setattr("conversion.formats.vicas_captions.load_pipeline", no_pipeline)
        assert "--row-frames all requires --frames" in vicas.convert(cli, "--row-frames", "all").err
        assert "'no_such' is not installed" in vicas.convert(cli, "--spans", "no_such").err
        vicas.folder = vicas.root / "none"
        assert "no such folder; check --annotations" in vicas.convert(cli).err

    def test_referrals_that_are_torn(self, vicas: Vicas, cli: Callable[..., Cli]) -> None:
        nobody = [{"prompt": "a cat", "track_ids": []}, {"prompt": "a cow", "track_ids": [2, 99]}]
        vicas.video(41, object_referrals=nobody)
        vicas.video(5, object_referrals=[])
        vicas.video(6, object_referrals=[{"prompt": " ", "track_ids": [2]}])
        assert vicas.convert(cli, "--text", "referrals").status == 1
        (video,) = vicas.rows
        assert areas(video, "nothing") == [0, 0] and areas(video, "2+99") == [None, None]
        told = " ".join(map(str, vicas.problems))
        assert "no prompt of this video" in told and "object_referrals[0].prompt: this prompt is blank" in told


def test_an_empty_folder(vicas: Vicas, cli: Callable[..., Cli]) -> None:
    (vicas.folder / "000041.json").unlink()
    ended = vicas.convert(cli)
    assert ended.status == 1 and "no video" in ended.err


def test_engines_are_scored_on_the_same_objects(vicas: Vicas, cli: Callable[..., Cli]) -> None:
    """Frames 0 and 3 of ViCaS, from second 0.1 on, are frames 1 and 2 of a video with 10 frames a second."""
    assert vicas.convert(cli).status == 0
    (truth,) = vicas.rows
    specs = vicas.root / "specs.json"
    scene = {"start": "0:00:00.1", "end": "5"}
    spec = {"video_id": 41, "src_dataset": "oops", "orig_dataset_filename": "A fall.mp4", "scene_spec": scene}
    specs.write_text(json.dumps([spec, {"video_id": 1, "src_dataset": "uvo"}]))
    clips = read_specs(specs)
    assert clips == {"000041": Clip("A fall", 0.1)}

    def engine(name: str, *columns: int | None) -> VngDataset:
        masks = tuple(None if one is None else from_json(box(one)) for one in columns)
        objects = (VideoObject("9", "man", "points/made", masks), VideoObject("8", "far", "points/made", (None,) * 3))
        video = replace(
            truth, video_id="A fall", fps=10.0, frame_names=("0", "1", "2"), objects=objects, expressions=()
        )
        write_dataset(vicas.root / name, [video], name)
        return VngDataset(vicas.root / name)

    good, poor = engine("good", 20, 3, 4), engine("poor", 20, 6, None)
    matches, left_out = compare_engines(VngDataset(vicas.root / "out"), [good, poor], clips)
    assert matches == [Match("000041", "9", "2", 1, (1.0, 0.5))]  # one frame that both have
    assert compare_engines(VngDataset(vicas.root / "out"), [good], clips)[0] == [Match("000041", "9", "2", 2, (1.0,))]
    assert not any(left_out.values()) and "0.500  -0.500" in table(matches, ["good", "poor"])
    assert compare_engines(VngDataset(vicas.root / "out"), [good], {})[1]["not in all datasets"] == 1
