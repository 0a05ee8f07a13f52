"""What the doctor finds, and what it says about mending it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import Cli, make_video
from vng.dataset import VideoObject
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.frames import ArrayFrames
from vng.inspection.doctor import Diagnosis, diagnose, difference_hash, whole_words
from vng.narratives import Expression, Narrative


def found(diagnosis: Diagnosis) -> list[str]:
    return [str(problem) for problem in diagnosis.problems]


def textured(seed: int, count: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] that survive JPEG."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (count, 5, 6, 3)).astype(np.uint8)
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in small])


class TestDatasets:
    def test_a_sound_one(self, dataset: Path) -> None:
        diagnosis = diagnose([dataset], progress=False)
        assert not diagnosis.problems
        assert diagnosis.looked_at == {"videos": 2, "frames": 6, "nouns": 4, "masks": 10}

    @pytest.mark.parametrize(
        ("text", "span", "told"),
        [
            ("A \N{DOG FACE} red ball rests.", (9, 13), "counted in UTF-16: subtract 1, which gives 'ball'"),
            ("A red ball rests there.", (7, 11), "white space may have changed: shifted by -1, the span is 'ball'"),
            ("A red ball rests there.", (5, 10), "begins or ends with white space"),
            ("Aredballreststhere.", (4, 8), "compare the caption"),
        ],
    )
    def test_offsets(self, tmp_path: Path, text: str, span: tuple[int, int], told: str) -> None:
        video = make_video("one")
        expression = Expression(0, *span, video.objects[0].object_id)
        changed = replace(video, narratives=(Narrative("a", text),), expressions=(expression,))
        write_dataset(tmp_path / "d", [changed], "test")
        (problem,) = diagnose([tmp_path / "d"], progress=False).problems
        assert told in str(problem) and problem.record == "one" and problem.field == "expressions.0"

    def test_an_id_twice_and_an_object_without_anything(self, tmp_path: Path) -> None:
        video = make_video("one")
        bare = VideoObject("bare", "cup", "", (None,) * len(video.frame_names))
        other = replace(video, objects=(*video.objects, bare), split="test")
        write_dataset(tmp_path / "d", [video], "a")
        write_dataset(tmp_path / "e", [other], "b")
        diagnosis = diagnose([tmp_path / "d", tmp_path / "e"], progress=False)
        told = found(diagnosis)
        assert any("objects.bare: neither a mask nor a point" in line for line in told)
        assert any("the same id as 'one'" in line and "leave it out of one" in line for line in told)
        assert len(diagnosis.errors) == 1

    def test_the_same_frames_under_another_name(self, tmp_path: Path) -> None:
        frames = textured(1)
        own = replace(make_video("one"), frames=ArrayFrames(frames))
        copied = replace(make_video("another"), frames=ArrayFrames(np.clip(frames * 0.9 + 9, 0, 255).astype(np.uint8)))
        third = replace(make_video("third"), frames=ArrayFrames(textured(2)))
        write_dataset(tmp_path / "train", [own, third], "a")
        write_dataset(tmp_path / "test", [copied], "b")
        (line,) = found(diagnose([tmp_path / "train", tmp_path / "test"], progress=False))
        assert "another: frames that look the same as 'one'" in line

    def test_frames_that_went_and_of_another_size(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        root = tmp_path / "root"
        write_davis(root, {"cat": 3})
        words = ("convert", "davis", "--root", root, "--out", tmp_path / "d", "--link-frames", "--quiet")
        assert cli(*words).status == 0
        folder = next((root / "JPEGImages").glob("*/cat"))
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "00001.jpg")
        assert "00001" in " ".join(found(diagnose([tmp_path / "d"], progress=False)))
        (folder / "00001.jpg").unlink()
        ended = cli("doctor", tmp_path / "d", "--quiet")
        assert ended.status == 1 and "cat" in ended.out


def write_davis(root: Path, clips: dict[str, int], images: str = "JPEGImages") -> None:
    for number, (name, count) in enumerate(clips.items()):
        picture, label = root / images / "480p" / name, root / "Annotations" / "480p" / name
        picture.mkdir(parents=True)
        label.mkdir(parents=True)
        for t, frame in enumerate(textured(number, count, 24, 36)):
            Image.fromarray(frame).save(picture / f"{t:05d}.jpg")
            mask = np.zeros((24, 36), np.uint8)
            mask[5:15, 5 + t : 20 + t] = 1
            Image.fromarray(mask).save(label / f"{t:05d}.png")


class TestFolders:
    def test_a_sound_one(self, tmp_path: Path) -> None:
        write_davis(tmp_path, {"cat": 3, "dog": 2})
        diagnosis = diagnose([tmp_path], progress=False)
        assert not diagnosis.problems and diagnosis.looked_at["masks"] == 5 and diagnosis.looked_at["videos"] == 2

    def test_faults_of_files(self, tmp_path: Path) -> None:
        write_davis(tmp_path, {"cat": 3, "dog": 2})
        label = tmp_path / "Annotations" / "480p" / "cat"
        (label / "00000.png").rename(label / "frame0.png")
        Image.fromarray(np.ones((5, 6), np.uint8)).save(label / "00001.png")
        ramp = cv2.GaussianBlur(np.where(np.hypot(*np.mgrid[-12:12, -18:18]) < 8, 255, 0).astype(np.uint8), (7, 7), 2)
        Image.fromarray(ramp).save(label / "00002.png")
        (tmp_path / "Annotations" / "480p" / "lost").mkdir()
        told = " ".join(found(diagnose([tmp_path], progress=False)))
        for words in ("no frame of this name", "annotation of 5x6", "smoothed edges", "annotations without frames"):
            assert words in told, words

    def test_layouts_that_other_commands_would_not_find(self, tmp_path: Path) -> None:
        write_davis(tmp_path / "a" / "train", {"cat": 2})
        (problem,) = diagnose([tmp_path / "a"], progress=False).problems
        assert problem.kind == "note" and "JPEGImages lies in train/" in str(problem)
        write_davis(tmp_path / "b", {"cat": 2}, images="jpegimages")
        assert "rename jpegimages to JPEGImages" in found(diagnose([tmp_path / "b"], progress=False))[0]
        (tmp_path / "c").mkdir()
        assert "no JPEGImages here" in found(diagnose([tmp_path / "c"], progress=False))[0]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="neither a dataset nor a folder"):
            diagnose([tmp_path / "none"], progress=False)


class TestCommand:
    def test_json_and_status(self, dataset: Path, cli: Callable[..., Cli], tmp_path: Path) -> None:
        ended = cli("doctor", dataset, "--json", "--quiet")
        assert ended.status == 0 and json.loads(ended.out)["looked_at"]["videos"] == 2
        other = tmp_path / "copy"
        write_dataset(other, [replace(make_video("one"), split="test")], "x")
        ended = cli("doctor", dataset, other, "--quiet")
        assert ended.status == 1 and "1 to mend, 0 to look at" in ended.out


def test_whole_words() -> None:
    text = "A red ball's end"
    assert whole_words(text, 6, 10) and whole_words(text, 2, 10) and not whole_words(text, 6, 9)
    assert not whole_words(text, 5, 6)


def test_hashes_survive_scaling_and_light() -> None:
    first, second = textured(3)[0], textured(4)[0]
    small = cv2.resize(first, (60, 40))
    assert (difference_hash(first) ^ difference_hash(small)).bit_count() <= 6
    assert (difference_hash(first) ^ difference_hash(second)).bit_count() > 12
