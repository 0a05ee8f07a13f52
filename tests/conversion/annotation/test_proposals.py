"""Candidates of whole videos, and their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.annotation.candidates import CandidateSettings
from conversion.annotation.proposals import ProposalFolder, propose
from conversion.options import Engines
from conversion.pseudo_masks import PointedObject
from tests.helpers import Cli, box, make_video, write_frames
from vng.dataset import Quality, Video, VideoObject, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, UsageError, read_problems
from vng.frames import ArrayFrames, Frames
from vng.masks import empty, encode
from vng.points import PointPrompts, Points
from vng.propagators import FramePrompts, Propagator

HEIGHT, WIDTH, COUNT = 40, 64, 23
FRAMES = ArrayFrames(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8))


class Boxes:
    """A segmenter: a box of 10 pixels around the first point; nothing where it lies at the left border."""

    takes_boxes = False

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        result = np.zeros((len(prompts), *image.shape[:2]), np.float32)
        for mask, prompt in zip(result, prompts, strict=True):
            x, y = prompt.positive[0].astype(int)
            if x:
                mask[max(0, y - 10) : y + 10, max(0, x - 10) : x + 10] = 1
        return result


class Still(Propagator):
    """A propagator: the first mask, softened, in every frame; counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        self.passes += 1
        (_, first), *_ = sorted(prompts.items())
        soft = np.full((len(first.masks), HEIGHT, WIDTH), 0.02)
        for own, mask in zip(soft, first.masks, strict=True):
            own[mask] = 0.97
        soft[:, ::7] = 0.5
        for t in reversed(range(len(frames))):
            yield t, soft.astype(np.float32)


def pointed(name: str, x: float, y: float) -> PointedObject:
    return PointedObject(name, name, Points([4], [(x, y)], [1]))


def test_ten_frames_in_the_order_of_questions() -> None:
    engines = Engines(Boxes(), still := Still())
    a, b = propose(
        FRAMES, [pointed("a", 20, 20), pointed("lost", 0, 20), pointed("b", 45, 20)], engines, CandidateSettings()
    )
    assert (a.object_id, b.object_id) == ("a", "b") and still.passes == 1  # one pass for all objects
    assert sorted({c.frame for c in a.candidates}) == [int(t) for t in np.linspace(0, COUNT - 1, 10).round()]
    assert a.rough_frame == 4 and a.rough_mask == encode(box(10, 10, 30, 30, HEIGHT, WIDTH))
    kinds = [c.kind for c in a.candidates]
    assert kinds == sorted(kinds, key=("foreground", "background", "uncertain").index) and len(kinds) > 50
    assert [c.frame for c in a.candidates[:7]] == sorted(c.frame for c in a.candidates[:7])
    (alone,) = propose(FRAMES, [pointed("a", 20, 20)], engines, CandidateSettings())
    assert alone.candidates == a.candidates  # does not depend on other objects
    (other,) = propose(FRAMES, [pointed("a", 20, 20)], engines, CandidateSettings(seed=1))
    assert other.candidates != a.candidates


def test_an_object_begins_where_it_is_seen() -> None:
    """A drawn mask that says that it is absent is no place to begin."""
    absent = PointedObject("a", "a", Points([4], [(20, 20)], [1]), masks={0: empty(HEIGHT, WIDTH)})
    (a,) = propose(FRAMES, [absent], Engines(Boxes(), Still()), CandidateSettings())
    assert a.rough_frame == 4
    outside = pointed("a", WIDTH, 20)
    with pytest.raises(DataError, match="outside the frame of 64x40 pixels"):
        propose(FRAMES, [outside], Engines(Boxes(), Still()), CandidateSettings())


def test_nothing_found_and_no_propagator() -> None:
    assert propose(FRAMES, [pointed("lost", 0, 20)], Engines(Boxes(), Still()), CandidateSettings()) == ()
    assert propose(FRAMES, [], Engines(Boxes(), Still()), CandidateSettings()) == ()
    with pytest.raises(DataError, match="candidates need a propagator"):
        propose(FRAMES, [pointed("a", 20, 20)], Engines(Boxes()), CandidateSettings())


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of a bright box, and a file about them and one that is missing."""
    mask = box(12, 20, 30, 44, HEIGHT, WIDTH)
    images = np.full((5, HEIGHT, WIDTH, 3), 40, np.uint8)
    images[:, mask] = (230, 220, 40)
    for name in ("one", "two"):
        write_frames(tmp_path / "clips" / name, images)
    point = {"objects": {"a": [[1, 30, 20], [1, 30, 20]]}, "narrative": "A [box](a)."}
    values: list[dict[str, Any]] = [{"video": name} | point for name in ("one", "gone", "two")]
    (tmp_path / "clips" / "clips.jsonl").write_text(
        "\n".join(map(json.dumps, [*values, {"video": "one", "id": "bare"}]))
    )
    rle = encode(mask)
    item = VideoObject("a", "box", "orig_masks", (rle,) * 5, Points.none(), Quality())
    videos = [
        Video(
            video_id=name,
            dataset="t",
            split="train",
            height=HEIGHT,
            width=WIDTH,
            fps=0,
            frame_names=tuple(f"{t:06d}" for t in range(5)),
            narratives=(),
            expressions=(),
            objects=(item,),
        )
        for name in ("one", "two")
    ]
    write_dataset(tmp_path / "true", videos, "t")
    return tmp_path / "clips"


def run(cli: Callable[..., Cli], clips: Path, out: Path, *more: object) -> Cli:
    engines = ["--segmenter", "classical", "--propagator", "flow"]
    words = ["annotate", "propose", "--clips", clips / "clips.jsonl", "--out", out, *engines, "--json", "--quiet"]
    return cli(*words, *more)


class TestCommands:
    def test_from_a_clip_to_points(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        ended = run(cli, clips, tmp_path / "c")
        assert ended.status == 0, ended.err
        totals = json.loads(ended.out)
        assert totals["videos"] == totals["objects"] == 2 and 50 < totals["candidates"] <= 200
        told = {problem.record: problem.reason for problem in read_problems(tmp_path / "c" / "problems.jsonl")}
        assert "no such video" in told["line 2"] and "no object of this clip has a point" in told["line 4"]
        words = ["--candidates", tmp_path / "c", "--dataset", tmp_path / "true", "--wrong", "0", "--unsure", "0"]
        answered = cli("annotate", "simulate", *words, "--out", tmp_path / "points.json", "--json")
        assert answered.status == 0, answered.err
        counts = json.loads(answered.out)
        assert counts["objects"] == 2 and counts["positive"] > 20 and counts["left_out"] == counts["ambiguous"] == 0
        words = ["--points", tmp_path / "points.json", "--frames", clips, "--out", tmp_path / "d", "--quiet"]
        assert cli("convert", "point-vos", *words).status == 0
        assert VngDataset(tmp_path / "d")[0].objects[0].object_id == "a"

    def test_an_interrupted_run_goes_on(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        assert run(cli, clips, tmp_path / "c").status == 0
        files = {path: path.read_bytes() for path in (tmp_path / "c" / "videos").iterdir()}
        first, second = sorted(files)
        second.unlink()
        problems = (tmp_path / "c" / "problems.jsonl").read_bytes()
        before = first.stat().st_mtime_ns
        assert run(cli, clips, tmp_path / "c").status == 0
        assert {path: path.read_bytes() for path in files} == files and first.stat().st_mtime_ns == before
        assert (tmp_path / "c" / "problems.jsonl").read_bytes() == problems  # notes of finished videos, too
        refused = run(cli, clips, tmp_path / "c", "--high", "0.8")
        assert refused.status == 1 and "candidates.high: an earlier run wrote here with 0.9, now 0.8" in refused.err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--out", "c"], "give --clips, or --narratives and --frames"),
            (["--out", "c", "--narratives", "n.jsonl"], "--narratives requires --frames"),
            (["--out", "c", "--clips", "c.jsonl", "--low", "0.95"], "expected 0 <= low < high <= 1"),
        ],
    )
    def test_wrong_calls(self, words: list[str], message: str, cli: Callable[..., Cli]) -> None:
        ended = cli("annotate", "propose", *words)
        assert ended.status == 2 and message in ended.err

    def test_truth_of_another_size(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        assert run(cli, clips, tmp_path / "c").status == 0
        write_dataset(tmp_path / "small", [replace(make_video("small"), video_id="one")], "t")
        words = ["--candidates", tmp_path / "c", "--dataset", tmp_path / "small", "--out", tmp_path / "p.json"]
        ended = cli("annotate", "simulate", *words)
        assert ended.status == 1 and "20x30 pixels, its candidates lie in frames of 40x64" in ended.err
        assert not (tmp_path / "p.json").exists()  # nothing half-written

    def test_from_python(self, clips: Path, tmp_path: Path) -> None:
        import conversion

        engines = {"segmenter": "classical", "propagator": "flow"}
        clips_file = str(clips / "clips.jsonl")
        result = conversion.annotate("propose", clips=clips_file, out=str(tmp_path / "c"), progress=False, **engines)
        assert result.totals["objects"] == 2 and len(result.problems) == 4
        with pytest.raises(
            UsageError, match="unknown step of annotation 'draw'; choose one of: export, propose, serve, simulate"
        ):
            conversion.annotate("draw")


class TestFolder:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda v: v["objects"][0]["candidates"].append([0, 1]),
                r"candidates\[\d+\]: expected \[frame, x, y, kind",
            ),
            (lambda v: v["objects"][0]["candidates"].append([99, 1, 1, "foreground", 1]), "expected a frame below 5"),
            (lambda v: v["objects"][0]["candidates"].append([0, 1, 1, "maybe", 1]), "and a kind of foreground"),
            (lambda v: v["objects"][0]["candidates"].append([0, 64, 1, "foreground", 1]), "outside the frame of 64x40"),
            (lambda v: v["objects"][0]["rough"].update(frame=5), "rough.frame: frame 5 of 5"),
            (lambda v: v["objects"][0]["rough"].update(segmentation={"size": [1], "counts": ""}), "segmentation"),
            (lambda v: v.pop("frame_names"), "frame_names: this key is missing"),
        ],
    )
    def test_damaged_files_are_named(
        self, clips: Path, tmp_path: Path, cli: Callable[..., Cli], change: Callable[[Any], Any], words: str
    ) -> None:
        assert run(cli, clips, tmp_path / "c").status == 0
        path = tmp_path / "c" / "videos" / "one.json"
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
        with pytest.raises(DataError, match=rf"one.json: one: .*{words}"):
            list(ProposalFolder(tmp_path / "c"))

    def test_no_candidates(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no candidates in this folder; run `vng annotate propose`"):
            ProposalFolder(tmp_path)
