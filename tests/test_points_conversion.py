"""`vng convert points`: the points of a dataset become pseudo-masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.helpers import Cli
from tests.test_vos_clips import moving_boxes, two_boxes
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.masks import decode
from vng.points import Points


def convert(cli: Callable[..., Cli], points: Path, out: Path, *more: str) -> Cli:
    return cli("convert", "points", "--source", points, "--segmenter", "classical", "--out", out, "--quiet", *more)


def test_masks_are_made_where_points_are(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_dataset(tmp_path / "points", [moving_boxes(masks=False)], "test")
    ended = convert(cli, tmp_path / "points", tmp_path / "pseudo", "--held-out", "0")
    assert ended.status == 0, ended.err
    (video,) = VngDataset(tmp_path / "pseudo")
    assert [item.source for item in video.objects] == ["points/classical"] * 2
    assert [item.segmentations[1] is None for item in video.objects] == [False, True]
    for item in video.objects:
        truth, rle = two_boxes(2)[item.object_id], item.segmentations[2]
        assert rle is not None
        found = decode(rle)
        assert (found & truth).sum() / (found | truth).sum() > 0.6
        assert len(item.points) and np.isfinite(item.points.xy).all()


def test_an_object_without_points_is_noted(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    video = moving_boxes(masks=False)
    bare = replace(video, objects=(video.objects[0], replace(video.objects[1], points=Points.none())))
    write_dataset(tmp_path / "points", [bare], "test")
    ended = convert(cli, tmp_path / "points", tmp_path / "pseudo")
    assert ended.status == 0 and "1 notes" in ended.err and "no points" in ended.err
    assert [item.object_id for item in VngDataset(tmp_path / "pseudo")[0].objects] == ["left"]


def test_no_dataset_here(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    ended = convert(cli, tmp_path / "nowhere", tmp_path / "pseudo")
    assert ended.status == 1 and "no such dataset folder" in ended.err and not (tmp_path / "pseudo").exists()
