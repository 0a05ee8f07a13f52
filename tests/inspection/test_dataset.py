"""`vng inspect` of a dataset: figures and page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.helpers import Cli, make_video
from vng.dataset_writer import write_dataset


def test_inspect(tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
    figures = json.loads(cli("inspect", dataset, "--json", "--quiet").out)
    counts = figures["counts"]
    assert (counts["videos"], counts["frames"], counts["objects"], counts["expressions"]) == (2, 6, 4, 4)
    assert (counts["masks"], counts["null masks"], counts["empty masks"]) == (10, 2, 2)
    assert counts["ambiguous expressions"] == 4 and figures["point_agreement"]["mean"] == 0.75
    ended = cli("inspect", dataset, "--html", tmp_path / "page", "--quiet")
    assert ended.status == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64") == 2 and "<mark" in page and not re.search(r'(src|href)="http', page)
    assert cli("inspect", tmp_path / "none").status == 1


def test_an_object_of_a_crowded_video_can_be_seen_alone(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    video = make_video("crowd")
    more = tuple(replace(video.objects[0], object_id=f"more {i}") for i in range(3))
    write_dataset(tmp_path / "d", [replace(video, objects=video.objects + more)], "hand-made")
    assert cli("inspect", tmp_path / "d", "--html", tmp_path / "page", "--quiet").status == 0
    page = (tmp_path / "page" / "index.html").read_text()
    (data,) = re.findall(r'class="pictures">(.*?)</script>', page, re.S)
    pictures = json.loads(data)
    assert set(pictures) == {e.object_id for e in video.expressions}  # objects that a noun means
    assert all(url.startswith("data:image/webp;base64,") for url in pictures.values())
    assert len(set(pictures.values())) == 2 and page.count("data-picture=") == 2
    assert "point at a noun to see its object alone" in page


def test_phrases_of_a_dataset(tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
    read = json.loads(cli("inspect", dataset, "--phrases", "--pipeline", "rules", "--json", "--quiet").out)
    assert read["read_by"] == "rules" and [n["video_id"] for n in read["narratives"]] == ["one", "two words"]
    ball, other = read["narratives"][0]["nouns"]
    assert (ball["phrase"], ball["clause"], ball["entity"], ball["differs_from"]) == (
        "red ball",
        "ball meets the other ball",
        0,
        [1],
    )
    assert (other["phrase"], other["entity"], other["differs_from"]) == ("ball", 1, [0])
    ended = cli("inspect", dataset, "--phrases", "--pipeline", "rules", "--quiet")
    assert "one  narrative 0  Ball one\nA red ball meets the other ball.\n" in ended.out
    assert "0  ball  red ball  ball meets the other ball  0       1" in ended.out and "read by rules" in ended.out
    ended = cli("inspect", dataset, "--phrases", "--html", tmp_path / "page")
    assert ended.status and "--phrases goes with a dataset folder, and without --html" in ended.err
    assert cli("inspect", dataset, "--phrases", "--pipeline", "no_such_pipeline").status
    assert cli("inspect", tmp_path / "none", "--phrases").status == 1
