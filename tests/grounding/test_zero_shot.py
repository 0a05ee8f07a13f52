"""Grounding without training: what is decided on exact engines, and the whole of it on tiny random models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detectors import tiny_models
from tests.grounding.painted_balls import H, PaintDetector, PaintPropagator, PaintSegmenter, T, W, film, grounder, masks
from tests.helpers import Cli, make_video, write_frames
from tests.segmenters.test_sam import save_tiny
from vng import ZeroShotGrounder, predict
from vng.compact_results import read_compact
from vng.errors import UsageError
from vng.frames import ArrayFrames
from vng.grounding.candidates import choose_frames, queries_of, segment_boxes
from vng.grounding.explanation import write_explanation
from vng.grounding.phrases import phrases_of
from vng.grounding.zero_shot import ZeroShotSettings, settings_of
from vng.grounding.zero_shot_presets import PRESETS, PUBLISHED
from vng.masks import area
from vng.narratives import parse_marked


def names_of(result: Any) -> list[str]:
    """The ball that each noun got, "" for none."""
    found = []
    for row in result.masks:
        fits = [name for name in ("left", "middle", "right") if (row == masks(name)).all()]
        assert fits or not row.any(), "masks of no ball"
        found.append(fits[0] if fits else "")
    return found


class TestDecisions:
    @pytest.mark.parametrize(
        ("narrative", "expected"),
        [
            ("A blue [ball].", ["middle"]),
            ("A red [ball] on the right moves down.", ["right"]),
            ("A red [ball] rests in its place. A red [ball] moves down.", ["left", "right"]),
            ("A red [ball] on the left, another red [ball], and a blue [ball].", ["left", "right", "middle"]),
            ("The [ball] to the left of the blue [ball] is red.", ["left", "middle"]),
            ("A blue [ball] rests. The [ball] is blue.", ["middle", "middle"]),
            ("A [box] lies by a blue [ball].", ["", "middle"]),
        ],
    )
    def test_which_ball(self, narrative: str, expected: list[str]) -> None:
        result = grounder()(film(), narrative)
        assert names_of(result) == expected
        assert result.scores.shape == (len(expected),) and result.frame_scores.shape == (len(expected), T)
        for name, score, details in zip(expected, result.scores, result.details, strict=True):
            assert (score > 0.3) == bool(name) and (details["track"] is None) == (not name)

    def test_nothing_is_found(self) -> None:
        result = grounder()(film(), "A [box] and a [star].")
        assert not result.masks.any() and (result.scores == 0).all() and result.masks.shape == (2, T, H, W)

    def test_more_nouns_than_balls(self) -> None:
        result = grounder()(film(), "A [ball], a [ball], a [ball] and a [ball].")
        assert sorted(names_of(result)) == ["", "left", "middle", "right"]

    def test_weights(self) -> None:
        deaf = ZeroShotSettings(weights=settings_of({"weights.phrase": "0", "weights.place": "0"}).weights)
        told = grounder(settings=deaf)(film(), "A blue [ball].").details[0]
        assert len({round(t["total"], 2) for t in told["tracks"]}) == 1  # nothing tells them apart

    def test_a_higher_presence(self) -> None:
        strict = grounder(settings=ZeroShotSettings(presence=0.9))
        assert names_of(strict(film(), "A blue [ball].")) == [""]

    def test_one_frame(self) -> None:
        result = grounder()(ArrayFrames(film()[0][None]), "A blue [ball].")
        assert result.masks.shape == (1, 1, H, W) and (result.masks[0, 0] == masks("middle")[0]).all()


class TestSharing:
    def test_detector_and_tracks_serve_all_nouns(self) -> None:
        detector, propagator = PaintDetector(), PaintPropagator()
        grounder(detector, propagator=propagator)(film(), "A red [ball].")
        calls, carried = len(detector.calls), propagator.carried
        many = "A red [ball] on the left, a red [ball] on the right, a blue [ball], the [ball], and the other [ball]."
        grounder(detector, propagator=propagator)(film(), many)
        assert calls == 6 and len(detector.calls) == 2 * calls and propagator.carried == 2 * carried == 2 * T

    def test_several_narratives(self) -> None:
        detector = PaintDetector()
        narratives = [parse_marked("A blue [ball]."), parse_marked("A red [ball] on the left.")]
        both = grounder(detector).ground_all(film(), narratives)
        assert [names_of(result) for result in both] == [["middle"], ["left"]] and len(detector.calls) == 6
        assert grounder().ground_all(film(), []) == []

    def test_progress_adds_up(self) -> None:
        counts: list[int] = []
        one = grounder()
        one(film(), "A blue [ball].", counts.append)
        assert sum(counts) == one.passes(T) == 6 + 3 * T and all(count > 0 for count in counts)

    def test_joined_candidates_carry_a_track_anew(self) -> None:
        propagator = PaintPropagator()
        again = grounder(propagator=propagator, settings=ZeroShotSettings(refine=True))
        assert names_of(again(film(), "A blue [ball].")) == ["middle"] and propagator.carried == 2 * T


class TestPieces:
    def test_frames_are_sharp_and_spread(self) -> None:
        import cv2

        rng = np.random.default_rng(0)
        frames = rng.integers(0, 255, (24, 32, 48, 3), np.uint8)
        for t in range(24):
            if t not in (6, 12, 22):
                frames[t] = cv2.GaussianBlur(frames[t], (9, 9), 3)
        assert choose_frames(ArrayFrames(frames), 3) == [6, 12, 22]
        assert choose_frames(ArrayFrames(frames[:2]), 6) == [0, 1]

    def test_texts_are_asked_once(self) -> None:
        description, spans = parse_marked("A green [parrot] plays with the other [parrot]. The [parrot] flies.")
        queries = queries_of(phrases_of(description, spans))
        assert len(set(queries.texts)) == len(queries.texts) and "green parrot" in queries.texts
        assert [queries.texts[n.noun] for n in queries.nouns] == ["parrot"] * 3
        assert queries.naming == [0, queries.texts.index("green parrot")]

    def test_segmenters_without_boxes_get_points(self) -> None:
        from vng.segmenters import load

        image = film()[4]
        boxes = np.array([[2, 5, 18, 19], [27, 5, 41, 19]], np.float32)
        found = segment_boxes(load("embedded"), image, boxes)
        for mask, name in zip(found, ("left", "middle"), strict=True):
            true = masks(name)[4]
            assert (mask & true).sum() / (mask | true).sum() > 0.8


class TestExplanation:
    def test_page(self, tmp_path: Path) -> None:
        description, spans = parse_marked("A red [ball] <b>on the left</b> and a [box].")
        [(result, evidence)] = grounder().explained(film(), [(description, spans)])
        page = write_explanation(result, evidence, tmp_path / "why").read_text()
        assert page.count("data:image/jpeg") >= 5 and "&lt;b&gt;" in page and "<b>on the left" not in page
        assert "absent: nothing was found for it" in page and "red ball" in page and "chosen" in page

    def test_details_are_saved(self, tmp_path: Path) -> None:
        result = grounder()(film(), "A red [ball] on the left.")
        result.save(tmp_path, overlay=False)
        noun = json.loads((tmp_path / "result.json").read_text())["nouns"][0]
        assert noun["phrase"] == "red ball on the left" or noun["phrase"] == "red ball"
        assert noun["tracks"][0]["scores"].keys() >= {"noun", "place", "seen"} and noun["noun"] == "ball"


class TestErrors:
    def test_no_noun(self) -> None:
        with pytest.raises(UsageError, match=r"no noun is marked|not installed"):
            grounder(nouns="no_such_pipeline")(film(), "Nothing is marked.")
        with pytest.raises(UsageError, match="no noun span to ground"):
            grounder().ground(film(), "text", [])

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"frames": "0"}, "frames=0: expected 1 or more"),
            ({"frames": "many"}, "frames='many'"),
            ({"presence": "2"}, "presence=2"),
            ({"weights.place": "-1"}, "place=-1"),
            ({"weights.colour": "1"}, "unknown setting of --zero-shot weights 'colour'; choose one of: clause"),
            ({"weights": "1"}, "--zero-shot: weights='1'"),
            ({"speed": "1"}, "unknown setting of --zero-shot 'speed'; choose one of: frames"),
        ],
    )
    def test_settings(self, values: dict[str, str], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            settings_of(values)

    def test_unknown_names(self) -> None:
        with pytest.raises(UsageError, match="unknown preset 'huge'; choose one of: large, small"):
            ZeroShotGrounder(preset="huge")
        with pytest.raises(UsageError, match="unknown detector 'yolo'"):
            ZeroShotGrounder("yolo")

    def test_presets_name_published_checkpoints(self) -> None:
        known = {published.name for published in PUBLISHED}
        for preset in PRESETS.values():
            named = {*preset.detectors.values(), preset.segmenter_checkpoint, preset.propagator_checkpoint}
            assert {*named, preset.image_text} <= known


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of `vng predict --zero-shot` for tiny random models of every kind."""
    folder = tmp_path_factory.mktemp("tiny")
    parts = {
        "detector-checkpoint": tiny_models.grounding_dino(folder / "dino", "MMGroundingDino"),
        "segmenter-checkpoint": save_tiny("sam2", folder / "sam2"),
        "propagator-checkpoint": save_tiny("sam2_video", folder / "sam2_video"),
        "image-text": tiny_models.siglip(folder / "siglip"),
    }
    words = [word for name, path in parts.items() for word in (f"--{name}", str(path))]
    # Random weights find everything everywhere, and hardly.
    return [
        "--zero-shot",
        *words,
        "--phrases",
        "rules",
        "--zero-shot-set",
        "presence=0",
        "--zero-shot-set",
        "per_noun=2",
    ]


class TestCommand:
    def test_a_video(self, tmp_path: Path, tiny: list[str], cli: Callable[..., Cli]) -> None:
        write_frames(tmp_path / "clip", np.stack([film()[t] for t in range(4)]))
        narrative = "A green [parrot] with a red [beak] and the other [parrot]."
        words = ["predict", *tiny, "--video", tmp_path / "clip", "--narrative", narrative, "--propagator", "sam2"]
        ended = cli(*words, "--out", tmp_path / "out", "--explain", tmp_path / "why", "--quiet")
        assert ended.status == 0, ended.err
        assert ended.out.count("parrot: ") == 2 and str(tmp_path / "why" / "index.html") in ended.out
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert [noun["entity"] for noun in result["nouns"]] == [0, 1, 2]
        assert len(list((tmp_path / "out" / "masks" / "2").glob("*.png"))) == 4

    def test_a_dataset(self, tmp_path: Path, tiny: list[str], dataset: Path, cli: Callable[..., Cli]) -> None:
        words = ["predict", *tiny, "--dataset", dataset, "--out", tmp_path / "r", "--quiet"]
        ended = cli(*words)
        assert ended.status == 0 and "4 expressions" in ended.out, ended.err
        result = read_compact(tmp_path / "r" / "one.parquet")
        assert list(result.tracks) == ["0", "1"] and {"noun", "phrase", "tracks"} <= set(result.tracks["0"].details)
        assert cli("evaluate", "vng", "--dataset", dataset, "--results", tmp_path / "r", "--quiet").status == 0
        ended = cli(*words, "--zero-shot-set", "frames=2")
        assert ended.status == 1 and "zero_shot.frames: an earlier run wrote here with 6, now 2" in ended.err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "give --model, or --zero-shot"),
            (["--zero-shot", "--model", "run"], "give --model, or --zero-shot"),
            (["--zero-shot", "--window", "8"], "--window goes with --model"),
            (["--model", "run", "--explain", "why"], "--explain goes with --zero-shot"),
            (["--model", "run", "--preset", "large"], "--preset goes with --zero-shot"),
        ],
    )
    def test_wrong_calls(self, words: list[str], message: str, cli: Callable[..., Cli]) -> None:
        ended = cli("predict", *words, "--video", "x", "--narrative", "A [ball].", "--out", "out")
        assert ended.status == 2 and message in ended.err

    def test_no_network(self, tmp_path: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        write_frames(tmp_path / "clip", np.stack([film()[t] for t in range(2)]))
        words = ["predict", "--zero-shot", "owlv2", "--video", tmp_path / "clip", "--narrative", "A [ball]."]
        ended = cli(*words, "--out", tmp_path / "out")
        assert ended.status == 1 and "google/owlv2-base-patch16-ensemble: no model loads from here" in ended.err
        assert "give a folder with a copy of it" in ended.err and not (tmp_path / "out").exists()


def test_predict_takes_any_grounder(tmp_path: Path) -> None:
    from vng.dataset_writer import write_dataset

    write_dataset(tmp_path / "d", [make_video("one")], "hand-made")
    assert predict(grounder(), tmp_path / "d", tmp_path / "r", progress=False) == 2
    found = read_compact(tmp_path / "r" / "one.parquet")
    assert found.size != (H, W) and all(rle is not None for track in found.tracks.values() for rle in track.masks)
    assert area(found.tracks["0"].masks[0]) >= 0  # type: ignore[arg-type]


def test_engines_may_be_given(tmp_path: Path) -> None:
    one = ZeroShotGrounder(PaintDetector(), segmenter=PaintSegmenter(), propagator=PaintPropagator(), image_text=False)  # type: ignore[arg-type]
    assert one.content().startswith("paint") and one.manifest_settings()["presence"] == 0.3 and W > H
