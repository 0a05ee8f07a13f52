"""`vng convert davis`: folders of frames and label images -> a VNG dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conversion.formats.label_images import read_labels
from tests.helpers import Cli
from vng.dataset import VngDataset
from vng.errors import DataError
from vng.masks import area, decode

H, W = 12, 20


def write_clip(root: Path, name: str, labels: list[np.ndarray]) -> None:
    """One clip in DAVIS's layout, with label images as given."""
    frames, annotations = root / "JPEGImages" / "240p" / name, root / "Annotations" / "240p" / name
    for folder in (frames, annotations):
        folder.mkdir(parents=True)
    for t, label in enumerate(labels):
        Image.fromarray(np.full((H, W, 3), 40 + t, np.uint8)).save(frames / f"{t:05d}.jpg")
        Image.fromarray(label).save(annotations / f"{t:05d}.png")


def labels(*values: int) -> np.ndarray:
    """A label image [H, W] with one 3 x 4 block for each value."""
    image = np.zeros((H, W), np.uint8)
    for i, value in enumerate(values):
        image[2:5, 1 + 6 * i : 5 + 6 * i] = value
    return image


def test_clips_become_rows(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_clip(tmp_path / "davis", "two", [labels(1, 2, 255), labels(0, 2)])
    write_clip(tmp_path / "davis", "one", [labels(255)])
    ended = cli("convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", "--quiet")
    assert ended.status == 0 and "2 videos" in ended.out and "3 objects" in ended.out
    one, two = VngDataset(tmp_path / "out")
    assert (one.video_id, two.video_id) == ("one", "two") and two.dataset == "DAVIS" and two.split == "train"
    assert [o.object_id for o in two.objects] == ["1", "2"]  # 255 beside others says nothing
    assert [area(rle) for rle in two.objects[0].segmentations if rle] == [12, 0]
    assert np.array_equal(decode(one.objects[0].segmentations[0]), labels(1) > 0)  # 255 alone is DAVIS 2016's object
    assert two.opened_frames()[1].shape == (H, W, 3)


def test_frames_may_be_linked(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_clip(tmp_path / "davis", "one", [labels(1)])
    ended = cli("convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", "--link-frames", "--quiet")
    assert ended.status == 0 and VngDataset(tmp_path / "out")[0].opened_frames().size == (H, W)


def test_a_broken_clip_is_left_out_and_named(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    root = tmp_path / "davis"
    write_clip(root, "good", [labels(1)])
    write_clip(root, "torn", [labels(1), labels(1)])
    (root / "Annotations" / "240p" / "torn" / "00001.png").unlink()
    ended = cli("convert", "davis", "--root", root, "--out", tmp_path / "out", "--quiet", "--strict")
    assert ended.status == 1 and "1 videos" in ended.out and "this annotation is missing" in ended.err


def test_faults(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    ended = cli("convert", "davis", "--root", tmp_path, "--out", tmp_path / "out")
    assert ended.status == 1 and "no DAVIS clips in this folder" in ended.err
    Image.fromarray(labels(1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="annotation of 12x20, the frame has 20x12"):
        read_labels(tmp_path / "a.png", (W, H))
