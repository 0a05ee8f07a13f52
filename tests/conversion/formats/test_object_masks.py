"""Masks of single objects on single frames, from a folder and from JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conversion.formats.object_masks import ObjectMasks
from tests.helpers import H, W, box
from vng.errors import DataError
from vng.frames import ArrayFrames
from vng.label_maps import write_label_map
from vng.masks import empty, encode

FRAMES = ArrayFrames(np.zeros((4, H, W, 3), np.uint8))


def test_folder_and_file_agree(tmp_path: Path) -> None:
    masks = {"000001": box(2, 3, 9, 12), "000003": np.zeros((H, W), bool)}
    (tmp_path / "m" / "ab").mkdir(parents=True)
    for name, mask in masks.items():
        write_label_map(tmp_path / "m" / "ab" / f"{name}.png", mask[None], [5])
    (tmp_path / "m" / "ab" / "._000001.png").write_bytes(b"x")
    table = {"ab": {name: encode(mask).as_dict() for name, mask in masks.items()} | {"000000": None}}
    (tmp_path / "m.json").write_text(json.dumps(table))
    wanted = (None, encode(masks["000001"]), None, empty(H, W))
    assert ObjectMasks(tmp_path / "m").of("ab", FRAMES) == ObjectMasks(tmp_path / "m.json").of("ab", FRAMES) == wanted
    assert ObjectMasks(tmp_path / "m").of("cd", FRAMES) == ObjectMasks(tmp_path / "m.json").of("cd", FRAMES)
    assert ObjectMasks(tmp_path / "m").of("cd", FRAMES) == (None,) * 4


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"000009": encode(box(1, 1, 2, 2)).as_dict()}, "a: 000009: array has no such frame"),
        ({"0": encode(np.ones((3, 5), bool)).as_dict()}, "a: 0: a mask of 3x5, the frames have 20x30"),
        ({"0": {"size": [H, W], "counts": "1"}}, "a: 0: counts fill"),
        ([1], "a: expected an object"),
    ],
)
def test_faults_name_object_and_frame(tmp_path: Path, entry: object, words: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(DataError, match=words):
        ObjectMasks(tmp_path / "m.json").of("a", FRAMES)


def test_names_never_lead_out(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(DataError, match="leads out of its folder"):
        ObjectMasks(tmp_path / "m").of("../m", FRAMES)
