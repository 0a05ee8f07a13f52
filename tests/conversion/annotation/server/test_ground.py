"""The playground's stream: the nouns, masks noun by noun, and errors at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="pip install 'vng[annotate]'")

from conversion.annotation.server.ground import Playground
from tests.conversion.annotation.server.test_app import client_of, site_of
from tests.conversion.annotation.small_project import FRAMES, HEIGHT, WIDTH, square
from vng.errors import DataError
from vng.frames import Frames
from vng.grounding.result import GroundedPart
from vng.masks import empty, encode


class Fake:
    """A grounder that finds the square for its first noun, and nothing for the others."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, list[str]()

    def stream(self, video: Frames, narrative: str) -> Iterator[GroundedPart]:
        self.asked.append(narrative)
        count = narrative.count("[")
        for start, stop, final in ((0, 3, False), (0, 3, True), (3, FRAMES, True)):
            rows = [tuple(encode(square(t)) for t in range(start, stop))]
            rows += [tuple(empty(HEIGHT, WIDTH) for _ in range(start, stop))] * (count - 1)
            yield GroundedPart(start, tuple(rows), np.full((count, stop - start), 0.25), final)
            if self.error is not None:
                raise self.error


def lines(tmp_path: Path, grounder: Fake, narrative: Any = "A [ball] and a [cat].") -> tuple[int, list[dict[str, Any]]]:
    site = site_of(tmp_path)
    site = replace(site, playground=Playground(site.clicking.project, lambda: grounder), annotates=False)
    client = client_of(site)
    assert client.get("/", follow_redirects=False).headers["location"] == "/ground"
    assert client.get("/ground").status_code == 200 and client.get("/click").status_code == 404
    answer = client.post("/api/clips/1/ground", json={"narrative": narrative})
    return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]


def test_masks_stream(tmp_path: Path) -> None:
    status, told = lines(tmp_path, grounder := Fake())
    assert status == 200 and grounder.asked == ["A [ball] and a [cat]."]
    assert told[0] == {"nouns": ["ball", "cat"], "frames": FRAMES, "size": [HEIGHT, WIDTH]}
    assert [(line["noun"], line["start"], line["final"]) for line in told[1:-1]] == [
        (0, 0, False),
        (1, 0, False),
        (0, 0, True),
        (1, 0, True),
        (0, 3, True),
        (1, 3, True),
    ]
    assert list(told[5]["masks"]) == ["3", "4"] and told[5]["scores"] == [0.25, 0.25]
    assert sum(told[1]["masks"]["0"][1::2]) == square(0).sum() and told[2]["masks"]["0"] == [HEIGHT * WIDTH]
    assert told[-1] == {"done": True}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("weights", reason="they do not fit"), "weights: they do not fit"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
    ],
)
def test_what_fails_is_the_last_line(tmp_path: Path, error: Exception, message: str) -> None:
    status, told = lines(tmp_path, Fake(error))
    assert status == 200 and told[-1] == {"error": message}


@pytest.mark.parametrize(
    ("narrative", "message"),
    [
        ("A ball.", "no noun is marked"),
        ("A [ball.", "never closed"),
        ("x" * 5001, "at most 5,000"),
        (3, "expected a string"),
    ],
)
def test_narratives_that_are_refused(tmp_path: Path, narrative: Any, message: str) -> None:
    status, told = lines(tmp_path, Fake(), narrative)
    assert status >= 400 and message in told[0]["error"]
