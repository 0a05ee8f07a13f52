"""Masks of points at once and masklets in the background: the same as those of `vng convert own`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import conversion
from conversion.annotation.clicking import Clicking
from conversion.annotation.database import Database
from conversion.annotation.masklets import Job, Masklets, confidence, row_major
from conversion.annotation.project import Project
from conversion.annotation.results import export_results
from conversion.annotation.server.pictures import Pictures
from conversion.options import BuildOptions, Engines, load_engines
from tests.conversion.annotation.small_project import FRAMES, HEIGHT, WIDTH, square, write_clip
from vng.dataset import VngDataset
from vng.errors import DataError, UsageError
from vng.masks import RLE, decode, empty, encode
from vng.points import NEGATIVE, POSITIVE

OPTIONS = BuildOptions(segmenter="classical", propagator="flow")


@pytest.fixture
def clicking(tmp_path: Path) -> Clicking:
    project = Project(Database(tmp_path / "x.sqlite", create=True))
    project.add_videos(write_clip(tmp_path / "clips"))
    return Clicking(project=project)


def masklets_of(clicking: Clicking, options: BuildOptions = OPTIONS) -> Masklets:
    return Masklets(clicking.project, lambda: load_engines(options), Pictures(clicking.project).pixels)


def ended(masklets: Masklets) -> Job:
    """The job of the clip, when it has ended."""
    for _ in range(2000):
        job = masklets.job(1)
        assert job is not None
        if job.state not in ("waiting", "running"):
            return job
        time.sleep(0.01)
    raise AssertionError("the job does not end")


def test_a_click_gives_a_mask(clicking: Clicking) -> None:
    masklets = masklets_of(clicking)
    assert masklets.masks_in(1, 0) == {}
    key = clicking.add_object(1, "square", "Ann")
    clicking.click(key, 1, 22, 24, POSITIVE, "Ann")
    found = masklets.masks_in(1, 1)
    assert list(found) == [key] and (decode(found[key]) == square(1)).mean() > 0.98
    assert masklets.masks_in(1, 0) == {}  # another frame
    other = clicking.add_object(1, "nothing", "Ann")
    clicking.click(other, 1, 2, 2, NEGATIVE, "Ann")
    assert masklets.masks_in(1, 1)[other] == empty(HEIGHT, WIDTH)
    with pytest.raises(UsageError, match="frame 5 of 5"):
        masklets.masks_in(1, FRAMES)


def test_masklets_are_those_of_the_conversion(clicking: Clicking, tmp_path: Path) -> None:
    masklets = masklets_of(clicking)
    with pytest.raises(UsageError, match="put a point on an object first"):
        masklets.start(1)
    keys = [clicking.add_object(1, name, "Ann") for name in ("square", "ground", "unseen")]
    clicking.click(keys[0], 1, 22, 24, POSITIVE, "Ann")
    clicking.click(keys[1], 3, 5, 40, POSITIVE, "Ann")
    clicking.set_absent(keys[0], 4, True, "Ann")
    masklets.start(1)
    job = ended(masklets)
    assert (job.state, job.done, job.total) == ("finished", FRAMES, FRAMES)
    export_results(clicking.database, tmp_path / "clips.jsonl")
    conversion.convert(
        "own",
        clips=tmp_path / "clips.jsonl",
        out=tmp_path / "d",
        segmenter="classical",
        propagator="flow",
        progress=False,
    )
    (video,) = VngDataset(tmp_path / "d")
    for key, item in zip(keys[:2], video.objects, strict=True):
        rows = clicking.database.rows("SELECT * FROM masklets WHERE object = ? ORDER BY frame", key)
        assert [RLE((HEIGHT, WIDTH), row["mask"]) for row in rows] == list(item.segmentations)
        assert all(0 <= row["confidence"] <= 1 for row in rows)
    assert masklets.masks_in(1, 4)[keys[0]] == empty(HEIGHT, WIDTH)


def test_what_fails_is_told_and_another_try_goes_on(clicking: Clicking) -> None:
    key = clicking.add_object(1, "square", "Ann")
    clicking.click(key, 1, 22, 24, POSITIVE, "Ann")
    calls = iter([DataError("weights", reason="no such weights"), RuntimeError("out of memory"), None])

    def load() -> Engines:
        if (error := next(calls)) is not None:
            raise error
        return load_engines(OPTIONS)

    masklets = Masklets(clicking.project, load, Pictures(clicking.project).pixels)
    for state, message in (("failed", "no such weights"), ("failed", "RuntimeError: out of memory"), ("finished", "")):
        masklets.start(1)
        job = ended(masklets)
        assert job.state == state and message in job.message


def test_a_job_can_be_stopped(clicking: Clicking) -> None:
    key = clicking.add_object(1, "square", "Ann")
    clicking.click(key, 1, 22, 24, POSITIVE, "Ann")
    masklets = masklets_of(clicking)
    masklets.start(1)
    masklets.stop(1)
    assert ended(masklets).state in ("stopped", "finished")
    assert masklets.job(2) is None


def test_an_image_is_encoded_once(clicking: Clicking) -> None:
    key = clicking.add_object(1, "square", "Ann")
    read: list[int] = []

    def image(clip: int, frame: int) -> np.ndarray:
        read.append(frame)
        return clicking.project.frames(clip)[frame]

    masklets = Masklets(clicking.project, lambda: load_engines(OPTIONS), image)
    masklets.prepare(1, 1)
    for x in (18, 20, 22):
        clicking.click(key, 1, x, 24, POSITIVE, "Ann")
        masklets.masks_in(1, 1)
    assert read == [1]


def test_row_major() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], bool)
    assert row_major(encode(mask)) == [1, 3, 2]
    assert row_major(encode(~mask)) == [0, 1, 3, 2]
    assert row_major(empty(2, 3)) == [6] and row_major(encode(np.ones((2, 3), bool))) == [0, 6]


def test_confidence() -> None:
    probability = np.array([[0.9, 0.7], [0.2, 0.0]], np.float32)
    assert confidence(probability) == pytest.approx(0.8)
    assert confidence(probability / 10) == pytest.approx(0.91)
