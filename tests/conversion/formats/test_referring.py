"""`vng convert ref-youtube-vos|mevis|ref-davis`: each expression is a narrative of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conversion.formats.ref_davis import read_davis_expressions
from conversion.formats.referring import Referring, read_expressions, with_expressions
from tests.conversion.formats.test_davis import H, W, labels, write_clip
from tests.helpers import Cli, make_video, write_frames
from vng.dataset import Video, VngDataset
from vng.errors import DataError, Problem, read_problems
from vng.evaluation.narrative.scores import evaluate_narrative
from vng.grounding.result import write_mask_pngs
from vng.masks import area, empty, encode
from vng.records import Reader

FRAMES = ("00000", "00005", "00010")


def expressions(*said: Any) -> dict[str, Any]:
    """Expressions by number: (text, object ids) or text alone."""
    pairs = [one if isinstance(one, tuple) else (one, None) for one in said]
    return {str(i): {"exp": text} | ({} if ids is None else {"obj_id": ids}) for i, (text, ids) in enumerate(pairs)}


class MetaSet:
    """A tiny set with a meta_expressions.json."""

    def __init__(self, root: Path, kind: str, split: str = "train") -> None:
        self.root, self.kind = root, kind
        self.folder = root / split
        self.folder.mkdir(parents=True)
        self.videos: dict[str, Any] = {}

    def video(self, name: str, said: dict[str, Any], frames: tuple[str, ...] = FRAMES) -> None:
        self.videos[name] = {"frames": list(frames), "expressions": said}
        for t, frame in enumerate(frames):
            image = np.full((1, H, W, 3), 40 + t, np.uint8)
            write_frames(self.folder / "JPEGImages" / name, image, f"{frame}.jpg")

    def label(self, name: str, frame: str, image: np.ndarray) -> None:
        folder = self.folder / "Annotations" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{frame}.png")

    def convert(self, cli: Callable[..., Cli], *more: object, out: str = "out") -> Cli:
        (self.folder / "meta_expressions.json").write_text(json.dumps({"videos": self.videos}))
        return cli(
            *("convert", self.kind, "--meta", self.folder / "meta_expressions.json", "--quiet", "--strict"),
            *("--frames", self.folder / "JPEGImages", "--out", self.root / out, *more),
        )

    @property
    def rows(self) -> list[Video]:
        return list(VngDataset(self.root / "out"))

    @property
    def problems(self) -> list[Problem]:
        return read_problems(self.root / "out" / "problems.jsonl")


def areas(video: Video, key: str) -> list[int | None]:
    return [None if rle is None else area(rle) for rle in video.object_by_id[key].segmentations]


def nouns(video: Video) -> list[tuple[str, str]]:
    return [(video.noun(expression), expression.object_id) for expression in video.expressions]


class TestRefYoutubeVos:
    @pytest.fixture
    def youtube(self, tmp_path: Path) -> MetaSet:
        made = MetaSet(tmp_path, "ref-youtube-vos")
        made.video("0a b'c", expressions(("a dog on the left", "1"), (" the  other Dog ", 2), ("a ball", "9")))
        made.label("0a b'c", "00000", labels(1, 2))
        made.label("0a b'c", "00010", labels(0, 2, 3))
        made.label("0a b'c", "00003", labels(4))  # of a frame that is not listed
        return made

    def test_a_narrative_an_expression(self, youtube: MetaSet, cli: Callable[..., Cli]) -> None:
        meta = {"videos": {"0a b'c": {"objects": {"1": {"category": "dog", "frames": []}, "2": {}}}, "torn": 5}}
        (youtube.root / "meta.json").write_text(json.dumps(meta))
        annotations = youtube.folder / "Annotations"
        ended = youtube.convert(cli, "--annotations", annotations, "--categories", youtube.root / "meta.json")
        assert ended.status == 1 and "torn" in ended.err + str(youtube.problems)
        (video,) = youtube.rows
        assert (video.video_id, video.dataset, video.split) == ("0a b'c", "Ref-YouTube-VOS", "train")
        assert video.frame_names == FRAMES and video.opened_frames()[2].shape == (H, W, 3)
        assert [n.description for n in video.narratives] == ["a dog on the left", " the  other Dog ", "a ball"]
        assert {n.actor_name for n in video.narratives} == {""}
        assert [e.narrative for e in video.expressions] == [0, 1, 2]
        assert nouns(video) == [("a dog on the left", "1"), ("the  other Dog", "2"), ("a ball", "9")]
        assert areas(video, "1") == [12, None, 0]  # not annotated, and absent
        assert areas(video, "2") == [12, None, 12] and areas(video, "3") == [0, None, 12]  # meant by no expression
        assert areas(video, "9") == [None] * 3 and video.object_by_id["9"].source == "withheld"
        assert [video.object_by_id[key].name for key in "123"] == ["dog", "", ""]
        (note,) = [problem for problem in youtube.problems if problem.kind == "note"]
        assert note.reason.startswith("objects without any mask: 9; their expressions are kept")

    def test_a_test_set_is_kept_for_prediction(self, youtube: MetaSet, cli: Callable[..., Cli]) -> None:
        youtube.videos = {}
        youtube.video("v", expressions("a dog", "a dog"))
        youtube.video("of test", expressions("a cat"))
        (youtube.root / "test.json").write_text(json.dumps({"videos": {"of test": {}}}))
        ended = youtube.convert(cli, "--without", youtube.root / "test.json")
        assert ended.status == 0, ended.err
        (video,) = youtube.rows
        assert nouns(video) == [("a dog", "expression 0"), ("a dog", "expression 1")]
        assert areas(video, "expression 1") == [None] * 3 and (video.height, video.width) == (H, W)
        assert [str(p).split(": ")[-1] for p in youtube.problems] == [
            "2 expressions without object ids are kept, their masks are null"
        ]

    def test_torn_videos_do_not_lose_good_ones(self, youtube: MetaSet, cli: Callable[..., Cli]) -> None:
        youtube.video("unlabelled", expressions(("a", "1")))
        youtube.video("size", expressions(("a", "1")))
        youtube.label("size", "00005", np.zeros((W, H), np.uint8))
        youtube.video("colour", expressions(("a", "1")))
        youtube.label("colour", "00005", np.zeros((H, W, 3), np.uint8))
        youtube.video("gap", expressions(("a", "1")))
        (youtube.folder / "JPEGImages" / "gap" / "00005.jpg").unlink()
        youtube.video("numbers", {"0": {"exp": "a", "obj_id": "1"}, "2": {"exp": "b", "obj_id": "1"}})
        youtube.video("blank", expressions(("a", "1"), (" ", "1")))
        youtube.video("mute", {})
        for name, entry in (
            ("../../etc", youtube.videos["gap"]),
            ("none", {"frames": [], "expressions": {}}),
            ("twice", {"frames": ["1", "1"], "expressions": {}}),
            ("list", {"frames": ["1"], "expressions": []}),
            ("object", {"frames": ["1"], "expressions": expressions(("a", [True]))}),
        ):
            youtube.videos[name] = entry
        ended = youtube.convert(cli, "--annotations", youtube.folder / "Annotations")
        assert ended.status == 1 and [video.video_id for video in youtube.rows] == ["0a b'c"]
        told = [str(problem) for problem in youtube.problems]
        for reason in (
            "unlabelled: no label image of this video's frames; fetch its annotations",
            "annotation of 20x12, the frame has 12x20",
            "got colours (mode RGB)",
            "gap: frames: no frame '00005'",
            "numbers: expressions.1: expected keys 0..1, this one is missing",
            "blank: expressions.1.exp: this expression is blank",
            "mute: expressions: no expression of this video",
            "this name leads out of its folder",
            "none: frames: no frame of this video",
            "twice: frames: frame names repeat",
            "list: expressions: expected an object, got []",
            "object: expressions.0.obj_id: expected an integer or a string as id, got True",
        ):
            assert sum(reason in one for one in told) == 1, (reason, told)

    def test_choices(self, youtube: MetaSet, cli: Callable[..., Cli]) -> None:
        youtube.video("b", expressions(("a", "1")))
        youtube.label("b", "00000", labels(1))
        masks = ["--annotations", youtube.folder / "Annotations"]
        ended = youtube.convert(cli, *masks, "--dry-run", "--json", out="dry")
        assert json.loads(ended.out)["videos"] == 2 and not (youtube.root / "dry").exists()
        assert youtube.convert(cli, *masks, "--only", "b", "--link-frames", "--split", "mine").status == 0
        (video,) = youtube.rows
        assert (video.video_id, video.split) == ("b", "mine") and video.opened_frames().size == (H, W)


def box(*columns: int) -> dict[str, Any]:
    """A mask of whole columns, as JSON."""
    mask = np.zeros((H, W), bool)
    mask[:, list(columns)] = True
    return encode(mask).as_dict()


class TestMevis:
    @pytest.fixture
    def mevis(self, tmp_path: Path) -> MetaSet:
        made = MetaSet(tmp_path, "mevis", "valid_u")
        made.video("c0ffee", self.said(("the bird flying away", [12]), ("both birds", [7, 12]), ("birds", [12, 7])))
        masks = {"7": [None, box(1), None], "3": [box(0)] * 3, "12": [box(4, 5), box(2, 3), None]}
        (tmp_path / "mask_dict.json").write_text(json.dumps(masks))
        return made

    def said(self, *pairs: tuple[str, list[Any]]) -> dict[str, Any]:
        return {
            str(i): {"exp": text, "obj_id": list(range(len(ids))), "anno_id": ids}
            for i, (text, ids) in enumerate(pairs)
        }

    def convert(self, mevis: MetaSet, cli: Callable[..., Cli], *more: object) -> Cli:
        return mevis.convert(cli, "--masks", mevis.root / "mask_dict.json", *more)

    def test_keys_that_repeat_are_said(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        path = mevis.root / "mask_dict.json"
        path.write_text(path.read_text()[:-1] + ', "12": [null, null, null]}')
        assert self.convert(mevis, cli).status == 0
        assert areas(mevis.rows[0], "12")[:2] == [2 * H, 2 * H]
        assert [(p.record, p.kind) for p in mevis.problems] == [("12", "note")]

    def test_an_expression_that_repeats_is_refused(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        mevis.video("beef", self.said(("a bird", [7])))
        self.convert(mevis, cli)  # writes the file
        meta = mevis.folder / "meta_expressions.json"
        text = meta.read_text()
        at = text.index('"beef"')
        meta.write_text(text[:at] + text[at:].replace('"expressions": {', '"expressions": {"0": {"exp": "x"}, ', 1))
        ended = cli(
            *("convert", "mevis", "--meta", meta, "--frames", mevis.folder / "JPEGImages", "--quiet"),
            *("--masks", mevis.root / "mask_dict.json", "--out", mevis.root / "again"),
        )
        assert "beef: expressions.0: this key repeats" in ended.err
        assert [video.video_id for video in VngDataset(mevis.root / "again")] == ["c0ffee"]

    def test_several_objects_are_one(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        ended = self.convert(mevis, cli)
        assert ended.status == 0, ended.err
        (video,) = mevis.rows
        assert (video.dataset, video.split) == ("MeViS", "valid_u")
        assert nouns(video) == [("the bird flying away", "12"), ("both birds", "7+12"), ("birds", "7+12")]
        assert [(o.object_id, o.source) for o in video.objects] == [("12", "mevis"), ("7+12", "mevis")]
        assert areas(video, "12") == [24, 24, None]
        assert areas(video, "7+12") == [24, 36, None]  # null only where all are
        assert not mevis.problems

    def test_null_may_mean_absent(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        assert self.convert(mevis, cli, "--null-means", "absent").status == 0
        assert areas(mevis.rows[0], "7+12") == [24, 36, 0] and areas(mevis.rows[0], "12") == [24, 24, 0]

    def test_without_masks_all_are_null(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        mevis.video("beef", expressions("a sheep"))
        assert mevis.convert(cli).status == 0
        known, hidden = mevis.rows
        assert areas(known, "7+12") == [None] * 3 and nouns(hidden) == [("a sheep", "expression 0")]
        assert [p.kind for p in mevis.problems] == ["note", "note"]

    def test_an_expression_may_mean_nothing(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        mevis.video("c0ffee", self.said(("the cat", []), ("a bird", [12])))
        assert self.convert(mevis, cli).status == 0 and not mevis.problems
        assert areas(mevis.rows[0], "nothing") == [0, 0, 0]  # absent, which is told: not null
        assert nouns(mevis.rows[0]) == [("the cat", "nothing"), ("a bird", "12")]

    def test_bad_masks_do_not_lose_good_ones(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        masks = json.loads((mevis.root / "mask_dict.json").read_text())
        masks |= {
            "20": [None],
            "21": [None, {"size": [W, H], "counts": box(0)["counts"]}, None],
            "22": [None, None, {"size": [H, W], "counts": "zz"}],
            "23": 5,
        }
        (mevis.root / "mask_dict.json").write_text(json.dumps(masks))
        said = self.said(("a", [12]), ("b", [20]), ("c", [21]), ("d", [22, 12]), ("e", [23]), ("f", [99]))
        mevis.video("c0ffee", said)
        mevis.video("mixed", self.said(("a", [3])), frames=("2", "10"))
        assert self.convert(mevis, cli).status == 1
        (video,) = mevis.rows
        assert areas(video, "12") == [24, 24, None]
        assert all(areas(video, e.object_id) == [None] * 3 for e in video.expressions[1:])
        told = [str(problem) for problem in mevis.problems]
        for reason in (
            "20: 1 masks for 3 frames of the video",
            "21[1]: got a mask of 20x12, the frames have 12x20",
            "22[2]: counts",
            "23: expected a list, got 5",
            "objects without any mask: 20, 21, 12+22, 23, 99; their",
            "mixed: frames: frame names are not sorted",
        ):
            assert sum(reason in one for one in told) == 1, (reason, told)

    def test_a_broken_file_of_masks_is_refused(self, mevis: MetaSet, cli: Callable[..., Cli]) -> None:
        (mevis.root / "mask_dict.json").write_text('{"7": [null, {"size"')
        ended = self.convert(mevis, cli)
        assert ended.status == 1 and "the file ends in the middle of an entry" in ended.err


TEXT = {
    "Davis17_annot1.txt": 'bear 1 "a brown bear"\nclasic-car 2 "a red car"\nclassic-car 1 "a wheel"\n',
    "Davis17_annot2.txt": 'classic-car 1 "the tyre"\n\nbear   1 “un ours brun, à gauche”\nclassic-car 2 the "old" car \n',
}


class TestRefDavis:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "davis"
        write_clip(root, "bear", [labels(1), labels(0), labels(1)])
        write_clip(root, "classic-car", [labels(2, 1), labels(2, 1)])
        write_clip(root, "dog", [labels(1)])
        (root / "ImageSets" / "2017").mkdir(parents=True)
        (root / "ImageSets" / "2017" / "val.txt").write_text("classic-car\nbear\n")
        for name, text in TEXT.items():
            (tmp_path / name).write_bytes(text.encode("latin-1" if "“" not in text else "utf-8"))
        return root

    def convert(self, root: Path, cli: Callable[..., Cli], files: list[str], *more: object) -> Cli:
        given = [root.parent / file for file in files]
        out = ["--out", root.parent / "out", "--quiet", "--strict"]
        return cli("convert", "ref-davis", "--root", root, "--expressions", *given, *out, *more)

    def test_the_published_text_files(self, root: Path, cli: Callable[..., Cli]) -> None:
        ended = self.convert(root, cli, list(TEXT), "--image-set", "2017/val")
        assert ended.status == 0, ended.err
        car, bear = VngDataset(root.parent / "out")
        assert (car.video_id, car.dataset, car.split, car.fps) == ("classic-car", "Ref-DAVIS17", "val", 24.0)
        assert nouns(car) == [("a wheel", "1"), ("the tyre", "1"), ("a red car", "2"), ('the "old" car', "2")]
        assert nouns(bear) == [("a brown bear", "1"), ("un ours brun, à gauche", "1")]
        assert areas(bear, "1") == [12, 0, 12] and areas(car, "2") == [12, 12]
        assert not read_problems(root.parent / "out" / "problems.jsonl")

    def test_json(self, root: Path, cli: Callable[..., Cli]) -> None:
        videos = {
            "dog": {"objects": {"2": ["a cat"], "1": ["a dog ", "the dog"]}, "categories": {"1": "dog"}},
            "bear": {"expressions": {"0": {"exp": "a bear", "obj_id": "1"}}},  # as ReferFormer writes them
            "goat": {"objects": {"1": ["a goat"]}},
            "torn": {"objects": {"1": [""]}},
            "mute": {"objects": {}},
        }
        (root.parent / "e.json").write_text(json.dumps({"videos": videos}))
        assert self.convert(root, cli, ["e.json"]).status == 1
        bear, dog = VngDataset(root.parent / "out")
        assert nouns(dog) == [("a cat", "2"), ("a dog", "1"), ("the dog", "1")] and nouns(bear) == [("a bear", "1")]
        assert [(o.object_id, o.name, o.source) for o in dog.objects] == [("1", "dog", "davis"), ("2", "", "withheld")]
        told = [str(problem) for problem in read_problems(root.parent / "out" / "problems.jsonl")]
        for reason in (
            "torn: objects.1[0]: this sentence is blank",
            "mute: objects: no sentence about this clip",
            "goat: clip 'goat' is not below JPEGImages/; fetch it, or name an --image-set",
            "classic-car: no expression about this clip: it is left out",
            "dog: expressions: objects without any mask: 2;",
        ):
            assert sum(reason in one for one in told) == 1, (reason, told)

    def test_lines_that_are_none(self, tmp_path: Path) -> None:
        lines = ['bear 1 "a bear"', "bear", 'bear x "a bear"', "bear 1", 'bear 1 ""', 'bear 1 "a bear"', '"']
        (tmp_path / "a.txt").write_text("\r\n".join(lines))
        told: list[Problem] = []
        found = read_davis_expressions([tmp_path / "a.txt"], told.append)
        assert found["bear"].expressions == (Referring("a bear", ("1",)),) * 2
        assert [problem.record for problem in told] == ["line 2", "line 3", "line 4", "line 5", "line 7"]
        assert told[1].reason == 'expected: clip, object number, "sentence", got \'bear x "a bear"\''
        with pytest.raises(DataError, match="no such file; check --expressions"):
            read_davis_expressions([tmp_path / "b.txt"], told.append)

    def test_faults(self, root: Path, cli: Callable[..., Cli]) -> None:
        ended = self.convert(root, cli, list(TEXT), "--image-set", "2016/val")
        assert ended.status == 2 and "available: 2017/val" in ended.err
        ended = self.convert(root, cli, list(TEXT), "--annotations", "Annotations_unsupervised")
        assert ended.status == 1 and "no such folder of label images; available: Annotations" in ended.err
        ended = self.convert(root, cli, list(TEXT), "--annotations", "../x")
        assert ended.status == 1 and "this name leads out of its folder" in ended.err

    def test_predictions_are_scored_under_the_publishers_numbers(self, root: Path, cli: Callable[..., Cli]) -> None:
        assert self.convert(root, cli, list(TEXT), "--image-set", "2017/val").status == 0
        results = root.parent / "results"
        for video in VngDataset(root.parent / "out"):
            for number, expression in enumerate(video.expressions):
                truth = video.object_by_id[expression.object_id].segmentations
                nothing = empty(video.height, video.width)
                rles = [rle if rle and number != 1 else nothing for rle in truth]
                write_mask_pngs(rles, video.frame_names, results / video.video_id / str(number))
        ended = cli("evaluate", "vng", "--dataset", root.parent / "out", "--results", results, "--quiet")
        assert ended.status == 0 and "(6 expressions)" in ended.out, ended.err
        scores = {
            (s.video, s.expression): s.j
            for s in evaluate_narrative(VngDataset(root.parent / "out"), results).expressions
        }
        assert scores[("classic-car", 0)] == scores[("classic-car", 2)] == 1.0 and scores[("classic-car", 1)] == 0.0
        assert scores[("bear", 1)] == pytest.approx(1 / 3)  # absent in one frame of three

    def test_the_seven_clips(self, shared: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        root = shared / "davis_val"
        ended = cli(
            *(
                "convert",
                "ref-davis",
                "--root",
                root,
                "--expressions",
                root / "expressions.json",
                "--image-set",
                "2017/val",
            ),
            *("--out", tmp_path / "out", "--only", "dogs-jump", "--strict", "--json", "--quiet"),
        )
        assert ended.status == 0, ended.err
        totals = json.loads(ended.out)
        assert (totals["expressions"], totals["objects"], totals["masks"], totals["problems"]) == (12, 3, 198, 0)
        (video,) = VngDataset(tmp_path / "out")
        assert nouns(video)[3] == ("a dog jumping for a snack going to the left", "1")
        assert [item.name for item in video.objects] == ["dog", "dog", "person"]


def test_ids_of_an_expression_are_one_in_any_order() -> None:
    def ids(*given: Any) -> str:
        table = Reader({"0": {"exp": "a", "anno_id": given[0] if len(given) == 1 else list(given)}}, "f", "v")
        return read_expressions(table, "anno_id")[0].object_id

    assert ids(12, "7", 7) == "7+12" and ids("12") == "12" and ids([]) == "nothing" and ids(None) == ""


def test_no_expression_makes_no_narrative() -> None:
    video = with_expressions(make_video("one"), [], Path("f"), lambda problem: None)
    assert video.narratives == video.expressions == () and len(video.objects) == 2
