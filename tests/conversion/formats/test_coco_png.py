"""`vng convert coco-png`: narratives of images whose nouns are tied to panoptic segments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conversion.formats import json_stream
from conversion.formats.coco_png import read_panoptic, segment_id, utterance_spans
from conversion.formats.json_stream import iterate_json_list, iterate_json_sections
from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.errors import DataError, read_problems
from vng.frames import open_frames
from vng.masks import area, decode
from vng.records import Reader

H, W = 12, 20
DOG, CAT, SKY, CROWD = 3226956, 70_000, 257, 9  # one byte is not enough for three of them
BOXES = {DOG: (2, 1, 5, 7), CAT: (6, 9, 12, 13), SKY: (0, 0, 1, 20), CROWD: (8, 0, 10, 4)}  # top, left, bottom, right
CAPTION = "In this image there isn't a Dog,  but a cat and a dog near people under the sky."


def segment(utterance: str, *ids: int | str, plural: bool = False, noun: bool = True) -> dict[str, Any]:
    return {"utterance": utterance, "noun": noun and bool(ids), "plural": plural, "segment_ids": [str(i) for i in ids]}


def narrative(image: int | str = "139", **more: Any) -> dict[str, Any]:
    """Pieces of CAPTION as the publisher cuts them: other spaces, "n't" apart."""
    pieces = [
        segment("In this image there"),
        segment("is"),
        segment("n't"),
        segment("a Dog ", DOG),
        segment(", but"),
        segment("a cat", CAT),
        segment("and"),
        segment("a dog", DOG),
        segment("near"),
        segment("people", CROWD, plural=True),
        segment("under"),
        segment("the sky", SKY),
        segment("."),
    ]
    return {"caption": CAPTION, "image_id": image, "segments": pieces} | more


def panoptic_png() -> np.ndarray:
    """The segments of BOXES as colours [H, W, 3]."""
    image = np.zeros((H, W, 3), np.uint8)
    for key, (top, left, bottom, right) in BOXES.items():
        image[top:bottom, left:right] = (key % 256, key // 256 % 256, key // 65536)
    return image


class Coco:
    """A tiny set in the publishers' layout."""

    def __init__(self, root: Path, images: tuple[int, ...] = (139,)) -> None:
        self.root, self.narratives = root, [narrative()]
        categories = [(1, "dog", 1), (17, "cat", 1), (187, "sky", 0), (3, "person", 1)]
        infos = [
            {"id": key, "category_id": category, "iscrowd": int(key == CROWD), "area": 1, "bbox": [0, 0, 1, 1]}
            for key, category in zip((DOG, CAT, SKY, CROWD), (1, 17, 187, 3), strict=True)
        ]
        self.panoptic: dict[str, Any] = {
            "info": {"year": 2017},
            "annotations": [{"image_id": i, "file_name": f"{i:012d}.png", "segments_info": infos} for i in images],
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "height": H, "width": W} for i in images],
            "categories": [{"id": i, "name": name, "isthing": thing} for i, name, thing in categories],
        }
        for folder in ("train2017", "panoptic_train2017"):
            (root / folder).mkdir()
        for i in images:
            Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(root / "train2017" / f"{i:012d}.jpg")
            Image.fromarray(panoptic_png()).save(root / "panoptic_train2017" / f"{i:012d}.png")

    def convert(self, cli: Callable[..., Cli], *more: object) -> Cli:
        (self.root / "png_coco_train2017.json").write_text(json.dumps(self.narratives))
        (self.root / "panoptic_train2017.json").write_text(json.dumps(self.panoptic))
        return cli(
            *("convert", "coco-png", "--narratives", self.root / "png_coco_train2017.json", "--quiet"),
            *(
                "--panoptic",
                self.root / "panoptic_train2017.json",
                "--panoptic-masks",
                self.root / "panoptic_train2017",
            ),
            *("--images", self.root / "train2017", "--out", self.root / "out", "--strict", *more),
        )

    @property
    def problems(self) -> list[str]:
        return [str(problem) for problem in read_problems(self.root / "out" / "problems.jsonl")]


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(tmp_path)


class TestSpans:
    def test_pieces_are_found_letter_by_letter(self) -> None:
        pieces = [piece["utterance"] for piece in narrative()["segments"]]
        spans = utterance_spans(CAPTION, pieces)
        found = [CAPTION[span[0] : span[1]] for span in spans if span is not None]
        assert len(found) == len(pieces)
        assert found[1:4] == ["is", "n't", "a Dog"] and found[7] == "a dog" and found[-1] == "."
        assert spans[3] == (26, 31) and spans[5] == (38, 43)

    @pytest.mark.parametrize(
        ("caption", "pieces", "expected"),
        [
            ("a dog", ["A DOG"], ["a dog"]),
            ("Un café", ["un", "cafe"], ["Un", "café"]),
            ("the red dog sees a man", ["the", "dog", "sees", "a man"], ["the", "dog", "sees", "a man"]),
            ("the dog sees a man", ["the", "red", "dog", "sees", "a man"], ["the", None, "dog", "sees", "a man"]),
            ("the dog barks", ["the", "god", "barks"], ["the", None, "barks"]),  # as many letters, others
            ("a dog and a dog run", ["a dog", "run"], [None, "run"]),  # it could be either
            ("a dog", ["a cat"], [None]),
            ("a dog", ["", " "], [None, None]),
            ("", ["a dog"], [None]),
            ("a dog", [], []),
        ],
    )
    def test_what_is_not_certain_is_not_said(self, caption: str, pieces: list[str], expected: list[str | None]) -> None:
        spans = utterance_spans(caption, pieces)
        assert [None if span is None else caption[slice(*span)] for span in spans] == expected


class TestConversion:
    def test_an_image_is_a_video_of_one_frame(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        ended = coco.convert(cli)
        assert ended.status == 0, ended.err
        (video,) = VngDataset(coco.root / "out")
        assert (video.video_id, video.dataset, video.split) == ("000000000139", "COCO-PNG", "train")
        assert video.frame_names == ("000000000139",) and (video.height, video.width) == (H, W)
        assert [(video.noun(e), e.object_id) for e in video.expressions] == [
            ("a Dog", str(DOG)),
            ("a cat", str(CAT)),
            ("a dog", str(DOG)),  # two nouns of one segment
        ]
        dog, cat = video.objects
        assert (dog.name, dog.source, cat.name) == ("dog", "coco-panoptic", "cat")
        top, left, bottom, right = BOXES[DOG]
        mask = decode(dog.segmentations[0])
        assert mask.sum() == 18 and mask[top:bottom, left:right].all()
        assert area(cat.segmentations[0]) == 24
        assert video.narratives[0].description == CAPTION and video.narratives[0].actor_name == ""
        assert video.opened_frames()[0].shape == (H, W, 3)

    def test_plurals_and_stuff_on_demand(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        coco.narratives[0]["segments"][7]["segment_ids"] = [str(DOG), str(CAT)]
        coco.narratives[0]["segments"][7]["plural"] = True
        assert coco.convert(cli, "--keep-plurals", "--keep-stuff").status == 0
        (video,) = VngDataset(coco.root / "out")
        both = f"{CAT}+{DOG}"
        assert [e.object_id for e in video.expressions] == [str(DOG), str(CAT), both, str(CROWD), str(SKY)]
        assert area(video.object_by_id[both].segmentations[0]) == 18 + 24

    def test_narratives_of_an_image_are_one_row(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        coco = Coco(tmp_path, (139, 7))
        coco.narratives = [narrative(139), narrative("7"), narrative("000000000139", segments=[segment("In", CAT)])]
        assert coco.convert(cli).status == 0
        first, second = VngDataset(tmp_path / "out")
        assert (first.video_id, second.video_id) == ("000000000139", "000000000007")
        assert [e.narrative for e in first.expressions] == [0, 0, 0, 1]
        assert first.noun(first.expressions[3]) == "In" and len(first.objects) == 2

    def test_linked_images_are_read_one_by_one(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        assert coco.convert(cli, "--link-frames").status == 0
        frames = VngDataset(coco.root / "out")[0].opened_frames()
        assert frames.names == ["000000000139"] and frames.size == (H, W)
        assert frames.encoded(0) == (coco.root / "train2017" / "000000000139.jpg").read_bytes()

    def test_bad_nouns_do_not_lose_good_ones(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        pieces = coco.narratives[0]["segments"]
        pieces[1]["utterance"] = "was"
        pieces[2] |= segment("n't", DOG)  # between the differences
        pieces[3]["utterance"] = "a Dug"
        pieces[5]["segment_ids"] = ["12"]
        pieces[7]["segment_ids"] = [str(CAT), str(DOG)]
        pieces[11]["segment_ids"] = [DOG]
        coco.narratives += [
            {"caption": "A.", "image_id": "x7", "segments": []},
            {"caption": 5, "image_id": 139, "segments": []},
            narrative(segments=[segment("in", "-3")]),
            narrative(segments=[segment("in", 1 << 24)]),
        ]
        ended = coco.convert(cli)
        assert ended.status == 1
        (video,) = VngDataset(coco.root / "out")
        assert [video.noun(e) for e in video.expressions] == ["the sky"] and len(video.narratives) == 1
        told = "\n".join(coco.problems)
        assert "[1]: image_id: expected a numeric id, got 'x7'" in told
        assert '[0]: image 000000000139: segments[2].utterance: "n\'t" cannot be located' in told
        assert "segment 12 is not among the image's segments_info" in told
        assert "2 segments of a noun that is marked as singular" in told
        assert "[2]: image 000000000139: caption: expected a string, got 5" in told
        assert "expected a numeric id, got '-3'" in told and "got 16777216" in told and len(coco.problems) == 8

    def test_a_category_that_does_not_say_is_named(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        del coco.panoptic["categories"][0]["isthing"]
        coco.panoptic["categories"][1]["isthing"] = "1"
        assert coco.convert(cli).status == 1
        told = " ".join(coco.problems)
        assert "category 1: isthing: this key is missing; write 1 for things" in told
        assert "category 17: isthing: expected 0 or 1, got '1'" in told

    def test_an_image_without_a_noun_is_a_note(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        coco.narratives.append(narrative(segments=[segment("in", CAT)]))
        coco.narratives[0]["segments"] = [segment("the sky", SKY)]
        assert coco.convert(cli).status == 0 and not coco.problems  # another narrative has one
        coco.narratives[1]["segments"] = []
        ended = cli("convert", "coco-png", *coco_arguments(coco, "none"))
        assert ended.status == 1 and "no video could be converted" in ended.err

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("image", "no such folder or video file"),
            ("png", "missing or unreadable panoptic PNG"),
            ("grey", "expected RGB of 8 bits, got uint8 [12, 20]"),
            ("size", "frames of 12x20, masks of 20x12"),
            ("pixels", f"segment {DOG}: no pixel has this id"),
            ("path", "this name leads out of its folder"),
            ("panoptic", "no panoptic annotation of this image"),
        ],
    )
    def test_torn_images(self, tmp_path: Path, cli: Callable[..., Cli], fault: str, told: str) -> None:
        coco = Coco(tmp_path, (139, 7))
        coco.narratives = [narrative(7), narrative(139)]
        png = tmp_path / "panoptic_train2017" / "000000000007.png"
        if fault == "image":
            (tmp_path / "train2017" / "000000000007.jpg").unlink()
        elif fault == "png":
            png.write_bytes(png.read_bytes()[:40])
        elif fault == "grey":
            Image.fromarray(panoptic_png()[:, :, 0]).save(png)
        elif fault == "size":
            Image.fromarray(panoptic_png().transpose(1, 0, 2)).save(png)
        elif fault == "pixels":
            Image.fromarray(np.where(panoptic_png() == DOG % 256, np.uint8(1), panoptic_png())).save(png)
        elif fault == "path":
            coco.panoptic["images"][1]["file_name"] = "../../7.jpg"
        else:
            del coco.panoptic["annotations"][1]
        assert coco.convert(cli).status == 1
        videos = list(VngDataset(tmp_path / "out"))
        assert videos[-1].video_id == "000000000139" and len(videos[-1].expressions) == 3
        assert len(videos) == (2 if fault == "pixels" else 1) and told in "\n".join(coco.problems)
        if fault == "pixels":
            assert [videos[0].noun(e) for e in videos[0].expressions] == ["a cat"]

    def test_files_of_other_splits_are_refused(self, coco: Coco, cli: Callable[..., Cli]) -> None:
        coco.panoptic["annotations"][0]["image_id"] = 8
        ended = coco.convert(cli)
        assert (
            ended.status == 1
            and "no annotation belongs to an image of" in ended.err
            and "give the panoptic file" in ended.err
        )

    def test_choices(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        coco = Coco(tmp_path, (139, 7))
        coco.narratives = [narrative(139), narrative(7)]
        ended = coco.convert(cli, "--only", "000000000007", "--only", "000000000008")
        assert ended.status == 1 and "'000000000008'" in coco.problems[0]
        assert [video.video_id for video in VngDataset(tmp_path / "out")] == ["000000000007"]
        ended = cli("convert", "coco-png", *coco_arguments(coco, "dry"), "--dry-run", "--json")
        assert json.loads(ended.out)["videos"] == 2 and not (tmp_path / "dry").exists()


def coco_arguments(coco: Coco, out: str) -> list[object]:
    """The call of `Coco.convert`, after its files were written again, into another folder."""
    (coco.root / "png_coco_train2017.json").write_text(json.dumps(coco.narratives))
    (coco.root / "panoptic_train2017.json").write_text(json.dumps(coco.panoptic))
    masks = ["--panoptic-masks", coco.root / "panoptic_train2017"]
    files = ["--narratives", coco.root / "png_coco_train2017.json", "--panoptic", coco.root / "panoptic_train2017.json"]
    return [*files, *masks, "--images", coco.root / "train2017", "--out", coco.root / out, "--quiet"]


def test_ids_are_read_from_three_bytes(tmp_path: Path) -> None:
    Image.fromarray(panoptic_png()).save(tmp_path / "a.png")
    ids = read_panoptic(tmp_path / "a.png")
    assert ids.shape == (H, W) and set(np.unique(ids)) == {0, *BOXES} and ids[2, 1] == DOG
    assert segment_id(Reader({"segment_ids": "0257"}, "f", "r")) == 257


class TestStream:
    @pytest.mark.parametrize("ahead", [7, 1 << 20])
    def test_a_list_item_by_item(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", ahead)
        values = [{"a": "[x, {"}, 12345, [1, [2]], None, "]"]
        (tmp_path / "list.json").write_text(json.dumps(values, indent=1))
        assert list(iterate_json_list(tmp_path / "list.json", lambda value, place: (place, value))) == [
            (f"[{i}]", value) for i, value in enumerate(values)
        ]
        (tmp_path / "empty.json").write_text(" [ ] ")
        assert list(iterate_json_list(tmp_path / "empty.json", lambda value, place: value)) == []

    def test_sections_of_an_object(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_stream, "READ_AHEAD", 7)
        content = {"info": {"images": [1]}, "images": [7, 8], "other": [[5]], "annotations": [], "categories": None}
        (tmp_path / "a.json").write_text(json.dumps(content))
        found = list(iterate_json_sections(tmp_path / "a.json", ("images", "annotations", "categories")))
        assert found == [("images", "images[0]", 7), ("images", "images[1]", 8)]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("{}", "expected a list, got '{'"),
            ("[1 2]", "column 4: broken JSON: expected ',' or ']' after an item, got '2'"),
            ("[1,]", "a ',' before the closing ']'"),
            ('[1, {"a":', "the file ends in the middle of an entry"),
            ("[1] [2]", "expected the end of the file, got '['"),
        ],
    )
    def test_broken_lists(self, tmp_path: Path, text: str, told: str) -> None:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError) as error:
            list(iterate_json_list(tmp_path / "a.json", lambda value, place: value))
        assert told in str(error.value)

    def test_a_section_must_be_a_list(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('{"images": {"1": 2}}')
        with pytest.raises(DataError, match="images: expected a list; check that this is the right file"):
            list(iterate_json_sections(tmp_path / "a.json", ("images",)))

    def test_bad_items_are_told_or_raised(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text('[{"n": 1}, 5, {"n": 2}]')
        told: list[str] = []

        def parse(value: Any, place: str) -> int:
            number: int = Reader(value, "a.json", place).get("n", int)
            return number

        problems = list(iterate_json_list(tmp_path / "a.json", parse, lambda problem: told.append(str(problem))))
        assert problems == [1, 2] and told == ["a.json: [1]: expected an object, got 5; fix this record"]
        with pytest.raises(DataError):
            list(iterate_json_list(tmp_path / "a.json", parse))


def test_an_image_file_is_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(panoptic_png()).save(tmp_path / "photo 1.PNG")
    frames = open_frames(tmp_path / "photo 1.PNG")
    assert len(frames) == 1 and frames.names == ["photo 1"] and np.array_equal(frames[0], panoptic_png())
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg: this image cannot be decoded"):
        open_frames(tmp_path / "broken.jpg")[0]
