"""`vng compare`: two engines on the same points."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import Cli, H, W, box, make_video
from vng.dataset import Quality, Video
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.inspection.comparison import compare
from vng.masks import encode


def changed(video: Video) -> Video:
    """The first object's mask cut to its upper half in frame 1, null in frame 2; its agreement 0.95 instead of 0.75."""
    first, second = video.objects
    masks = (first.segmentations[0], encode(box(2, 4, 5, 13)), None)
    other = replace(
        first, segmentations=masks, quality=Quality(point_agreement=0.95, n_points=3, n_held_out=1, link="name")
    )
    return replace(video, objects=(other, second))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two datasets of videos "one" and "two"; the second has another first object in "one", and a third video."""
    write_dataset(tmp_path / "a", [make_video("one"), make_video("two", 1)], "a")
    write_dataset(tmp_path / "b", [make_video("three", 2), changed(make_video("one")), make_video("two", 1)], "b")
    return tmp_path / "a", tmp_path / "b"


def test_known_numbers(pair: tuple[Path, Path]) -> None:
    compared = compare(*pair, progress=False)
    item = compared.objects[0]
    assert (item.frames, item.only_first, item.only_second) == (2, 1, 0)
    assert item.iou == pytest.approx((1 + 3 / 7) / 2) and item.worst_iou == pytest.approx(3 / 7)
    assert item.worst_frame == "000001" and len(compared.objects) == 4
    assert compared.iou == pytest.approx((item.iou + 3) / 4)
    assert not compared.only_first and [name.split("/")[0] for name in compared.only_second] == ["three", "three"]
    measured = compared.measure("point_agreement")
    assert measured is not None and measured["objects"] == 2 and measured["difference"] == pytest.approx(0.1, abs=1e-6)
    assert measured["low"] >= 0 and measured["high"] == pytest.approx(0.2, abs=1e-6)
    assert compared.measure("stability") is None


def test_command_and_page(pair: tuple[Path, Path], tmp_path: Path, cli: Callable[..., Cli]) -> None:
    ended = cli("compare", *pair, "--html", tmp_path / "page", "--quiet")
    assert ended.status == 0 and "4 objects in both, mean IoU 0.929" in ended.out, ended.err
    page = (tmp_path / "page" / "index.html").read_text()
    assert "a against b" in page and page.count('class="card"') == 4 and "http" not in page.split("</style>")[1]
    figures = json.loads(cli("compare", *pair, "--json", "--quiet").out)
    assert len(figures["per_object"]) == 4 and figures["point_agreement"]["objects"] == 2


def test_what_cannot_be_compared(pair: tuple[Path, Path], tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_dataset(tmp_path / "c", [make_video("other")], "c")
    ended = cli("compare", pair[0], tmp_path / "c", "--quiet")
    assert ended.status == 1 and "no object in common" in ended.err
    video = make_video("one")
    wider = replace(
        video,
        width=W + 1,
        expressions=(),
        frames=None,
        objects=tuple(
            replace(o, segmentations=tuple(encode(box(0, 0, 2, 2, H, W + 1)) for _ in o.segmentations))
            for o in video.objects
        ),
    )
    write_dataset(tmp_path / "d", [wider], "d")
    with pytest.raises(DataError, match=r"one: size: frames of \(20, 30\) in one dataset, \(20, 31\) in the other"):
        compare(pair[0], tmp_path / "d", progress=False)
