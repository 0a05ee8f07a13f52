"""Location questions: records linked to nouns by hash and trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conversion.linking import noun_source
from conversion.questions import Questions
from tests.conversion.narrated_video import narrative, trace, video
from tests.helpers import H, W
from vng.errors import DataError
from vng.masks import encode


def drawn(word: int, x: float, y: float) -> dict[str, Any]:
    """The line of the pieces of trace that `narrated_video.trace` draws, as RLE."""
    line = np.zeros((H, W), np.uint8)
    at = [(round(p.x * W - 0.5), round(p.y * H - 0.5)) for p in trace(word, x, y)]
    cv2.polylines(line, [np.array(at, np.int32)], False, 1, 1)
    return encode(line).as_dict()


def question(name: str, mask: dict[str, Any], frame: str = "000000.png") -> dict[str, Any]:
    return {"question_hash": name, "question": "Where is it?", "trace_frame": frame, "trace": mask}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    items = [
        question("first", drawn(2, 0.2, 0.3)),
        question("second", drawn(6, 0.6, 0.7)),
        question("nowhere", drawn(6, 0.05, 0.95)),
        question("late", drawn(6, 0.6, 0.7), "000002.png"),
    ]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"v": items}))
    return path


TWO = video(narrative(traces=(trace(2, 0.2, 0.3), trace(6, 0.6, 0.7))))


def test_the_trace_decides_between_two_balls(file: Path) -> None:
    links, reasons = Questions(file).links(TWO, ["second", "first"], noun_source("noun_segments"))
    assert [(link.record, link.noun.start, link.how) for link in links] == [(0, 28, "question"), (1, 6, "question")]
    assert reasons == {}


def test_others_are_not_guessed(file: Path) -> None:
    links, reasons = Questions(file).links(TWO, ["nowhere", None, "late", "unknown"], noun_source("noun_segments"))
    assert links == [] and sorted(reasons) == [0, 1, 2, 3]
    assert "lies on no noun's trace" in reasons[0].reason and "no question 'unknown'" in reasons[3].reason


def test_faults(file: Path, tmp_path: Path) -> None:
    twice = json.loads(file.read_text())
    twice["w"] = [question("first", drawn(6, 0.6, 0.7))]
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    with pytest.raises(DataError, match="two questions have this hash"):
        _ = Questions(tmp_path / "twice.json").by_hash
    twice["w"] = [question("x", {"size": [2, 3], "counts": "zz"})]
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    with pytest.raises(DataError, match=r"w: x: trace: counts"):
        _ = Questions(tmp_path / "twice.json").by_hash
