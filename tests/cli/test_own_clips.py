"""docs/own-clips.md, followed to the letter."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers import ROOT, Cli, box
from vng.dataset import VngDataset
from vng.errors import DataErrors
from vng.own_clips import read_own_clips
from vng.viewer import write_video

PAGE = (ROOT / "docs" / "own-clips.md").read_text(encoding="utf-8")
HEIGHT, WIDTH, COUNT = 96, 336, 4
QUICK = ["optimizer.steps=2", "optimizer.batch_size=2", "data.frames=1", "--quiet"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_three_commands_from_a_clip_to_a_grounded_narrative(
    tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.full((COUNT, HEIGHT, WIDTH, 3), 60, np.uint8)
    first, second = box(60, 90, 95, 150, HEIGHT, WIDTH), box(10, 200, 50, 260, HEIGHT, WIDTH)
    images[:, first], images[:, second] = (40, 200, 60), (200, 60, 60)
    write_video(iter(images), tmp_path / "clips" / "parrots.mp4", fps=5)
    (tmp_path / "clips" / "masks" / "b").mkdir(parents=True)
    cv2.imwrite("clips/masks/b/000000.png", second * np.uint8(255))
    (line,) = blocks("json")
    (tmp_path / "clips" / "clips.jsonl").write_text(line)
    convert, train, predict = blocks("bash")[1].strip().splitlines()
    for command in (convert + " --quiet", f"{train} {shlex.join(QUICK)}", predict + " --quiet"):
        ended = cli(*shlex.split(command)[1:])
        assert ended.status == 0, ended.err
    (video,) = VngDataset(tmp_path / "data" / "mine")
    assert [(video.noun(e), e.object_id) for e in video.expressions] == [("parrot", "a"), ("parrot", "b")]
    assert [len(item.segmentations) for item in video.objects] == [COUNT, COUNT]
    assert (tmp_path / "result").is_dir()


def test_the_messages_are_those_of_the_program(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    clip = json.loads(blocks("json")[0])
    lines = [
        {"video": "first.mp4"},
        clip,
        {"video": "third.mp4", "objects": {"a": [[0, 1, 1], [0, 2, 2], [0, "left", 3]]}},
        clip,
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataErrors) as error:
        list(read_own_clips(tmp_path / "clips.jsonl"))
    (shown,) = blocks("text")
    assert str(error.value).replace(f"{tmp_path}/", "").splitlines() == shown.strip().splitlines()
