"""Inference: windows, streaming, precision, nouns; that memory does not grow; calls from a shell."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import Cli
from tests.models.referformer.test_modeling_referformer import TEXT, tiny_config
from vng.errors import DataError, UsageError
from vng.frames import ArrayFrames, EncodedFrames, encode_jpeg
from vng.grounding.grounder import ComputeSettings, NarrativeGrounder
from vng.grounding.windows import QueryRecord, Window, WindowSettings, same_queries
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.narratives import nouns_in

T, H, W, Q = 7, 72, 100, 5
NARRATIVE = "A red [ball] moves to the left past the [star]."


def make_model(config: Any = None, **sizes: Any) -> ReferFormerForVNG:
    torch.manual_seed(3)
    model = ReferFormerForVNG(config or tiny_config(**sizes)).eval()
    with torch.no_grad():  # a new model's queries all say the same with the same score, and its masks may be empty
        model.query_embed.weight.mul_(4)
        for head in model.class_embed:
            head.weight.normal_(0, 1)  # type: ignore[operator,union-attr]
        words = {"input_ids": torch.tensor([[0, 9, 2]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
        nouns = torch.tensor([[[False, True, False]]])
        masks = model(torch.randn(1, 2, 3, 96, 96), **words, noun_tokens=nouns).masks
        last: Any = model.controller.layers[-1]
        last.bias[-1] -= masks.median()
    return model


@pytest.fixture(scope="module")
def model() -> ReferFormerForVNG:
    return make_model()


@pytest.fixture(scope="module")
def processor() -> ReferFormerProcessor:
    return ReferFormerProcessor(train_tokenizer(TEXT, 300, 64), short_side=66, long_side=96)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 255, (T, H, W, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: ReferFormerForVNG, processor: ReferFormerProcessor) -> Path:
    folder = tmp_path_factory.mktemp("grounder")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def pipeline_of(folder: Path, *nouns: str) -> str:
    """A spaCy pipeline that knows some nouns, saved."""
    import spacy

    pipeline = spacy.blank("en")
    ruler: Any = pipeline.add_pipe("attribute_ruler")
    for word in nouns:
        ruler.add([[{"ORTH": word}]], {"POS": "NOUN"})
    pipeline.to_disk(folder / "pipe")
    return str(folder / "pipe")


class TestWindows:
    def test_whole_video_in_one_window_is_the_faithful_model(
        self, model: ReferFormerForVNG, processor: ReferFormerProcessor, video: np.ndarray
    ) -> None:
        description, spans = nouns_in(NARRATIVE)
        pixels = processor.frames(video)
        with torch.no_grad():
            whole = model(**processor.pad([pixels]), **processor.text([description], [spans]))
        assert whole.logits is not None and whole.masks is not None
        scores = whole.logits[0].double().sigmoid().numpy()  # [N, T, Q]
        chosen = scores.mean(1).argmax(-1)
        result = NarrativeGrounder(model, processor, "cpu")(video, NARRATIVE)
        assert result.nouns == ["ball", "star"] and result.masks.shape == (2, T, H, W)
        for n, q in enumerate(chosen):
            full = processor.upsample(whole.masks[0, n, :, q].half(), (66, 92), (H, W))
            assert np.array_equal(result.masks[n], full.numpy() > 0) and 0 < result.masks[n].mean() < 1
            np.testing.assert_allclose(result.frame_scores[n], scores[n, :, q], atol=1e-6)
        again = NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(T, 2))(video, NARRATIVE)
        assert again.rles == result.rles

    def test_the_query_is_chosen_over_all_windows(
        self, model: ReferFormerForVNG, processor: ReferFormerProcessor, video: np.ndarray
    ) -> None:
        counts: list[int] = []
        grounder = NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(3))
        description, spans = nouns_in(NARRATIVE)
        result = grounder.ground(ArrayFrames(video), description, spans, counts.append)
        assert counts == [3, 3, 1] and grounder.passes(7) == 7
        parts = []
        with torch.no_grad():
            text = processor.text([description], [spans])
            for start in (0, 3, 6):
                parts.append(model(**processor.pad([processor.frames(video[start : start + 3])]), **text))
        scores = torch.cat([part.logits[0].double().sigmoid() for part in parts], 1).numpy()
        chosen = scores.mean(1).argmax(-1)
        for n, q in enumerate(chosen):
            np.testing.assert_allclose(result.frame_scores[n], scores[n, :, q], atol=1e-6)
            last = processor.upsample(parts[2].masks[0, n, :, q].half(), (66, 92), (H, W)).numpy() > 0
            assert np.array_equal(result.masks[n, 6:], last)

    def test_cuts(self) -> None:
        assert list(WindowSettings(3).of(7)) == [Window(0, 0, 3), Window(3, 3, 6), Window(6, 6, 7)]
        assert list(WindowSettings(4, 1).of(6)) == [Window(0, 0, 4), Window(3, 4, 6)]
        assert list(WindowSettings(9, 3).of(2)) == [Window(0, 0, 2)] and list(WindowSettings().of(0)) == []
        assert list(WindowSettings(0).of(70)) == [Window(0, 0, 70)] and list(WindowSettings(0).of(0)) == []
        for frames, overlap, words in ((-1, 0, "window=-1"), (4, 4, "fewer than the 4"), (4, -1, "overlap=-1")):
            with pytest.raises(UsageError, match=words):
                WindowSettings(frames, overlap)

    def test_queries_are_matched_by_their_masks(self, rng: np.random.Generator) -> None:
        n, t, q, h, w = 2, 3, 4, 6, 9
        before = rng.random((n, t, q, h, w)) > 0.6
        order = np.array([[2, 0, 3, 1], [0, 1, 3, 2]])
        after = np.empty_like(before)
        for noun in range(n):
            after[noun][:, order[noun]] = before[noun]
        assert same_queries(before, after).tolist() == order.tolist()
        nothing = np.zeros_like(before)
        assert same_queries(nothing, nothing).tolist() == [[0, 1, 2, 3]] * 2

    def test_a_flip_of_queries_is_undone_where_windows_overlap(self, rng: np.random.Generator) -> None:
        masks = np.where(rng.random((1, 1, 2, 6, 9)) > 0.5, 3, -3).repeat(6, 1).astype(np.float16)
        logits = np.tile(np.array([2.0, -2.0], np.float32), (1, 6, 1))
        for overlap, same in ((1, True), (0, False)):
            record = QueryRecord()
            for window in WindowSettings(3 + overlap, overlap).of(6):
                cut, flip = slice(window.start, window.stop), -1 if window.start else 1
                own = torch.from_numpy(masks[:, cut, ::flip].copy())
                record.add(window, logits[:, cut, ::flip], own, overlap)
            told = [record.masks(number, 0, 0).numpy() for number in range(len(record))]
            assert bool(np.array_equal(np.concatenate(told), masks[0, :, 0])) == same
            assert bool((record.scores()[0, :, 0] > 0.5).all()) == same
            record.close()

    def test_memory_does_not_grow_with_the_video(self) -> None:
        peaks = []
        for length in (60, 600):
            tracemalloc.start()
            record = QueryRecord()
            for window in WindowSettings(24).of(length):
                count = window.stop - window.start
                record.add(
                    window,
                    np.zeros((3, count, Q), np.float32),
                    torch.ones((3, count, Q, 40, 60), dtype=torch.float16),
                    0,
                )
            assert len(record.masks(0, 2, 4)) == 24
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            record.close()
        assert peaks[1] < 1.05 * peaks[0]


class TestStream:
    def test_provisional_masks_first_then_those_of_the_result(
        self, model: ReferFormerForVNG, processor: ReferFormerProcessor, video: np.ndarray
    ) -> None:
        grounder = NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(3))
        parts, result = list(grounder.stream(video, NARRATIVE)), grounder(video, NARRATIVE)
        assert [(p.start, len(p.rles[1]), p.final) for p in parts] == [
            *[(0, 3, False), (3, 3, False), (6, 1, False), (0, 3, True), (3, 3, True), (6, 1, True)]
        ]
        for n in range(2):
            assert tuple(r for p in parts[3:] for r in p.rles[n]) == result.rles[n]
        np.testing.assert_array_equal(np.concatenate([p.frame_scores for p in parts[3:]], 1), result.frame_scores)
        assert parts[2].rles[0] == parts[5].rles[0]  # the last window is chosen knowing the whole video

    def test_one_query_comes_once(self, processor: ReferFormerProcessor, video: np.ndarray) -> None:
        grounder = NarrativeGrounder(make_model(num_queries=1), processor, "cpu", windows=WindowSettings(3))
        parts = list(grounder.stream(video, NARRATIVE))
        assert [(p.start, p.final) for p in parts] == [(0, True), (3, True), (6, True)]
        assert tuple(r for p in parts for r in p.rles[1]) == grounder(video, NARRATIVE).rles[1]

    def test_errors_come_before_the_first_part(self, model: ReferFormerForVNG, processor: ReferFormerProcessor) -> None:
        with pytest.raises(UsageError, match="never closed"):
            NarrativeGrounder(model, processor, "cpu").stream(np.zeros((1, H, W, 3), np.uint8), "A [ball")


class TestSeveralNarratives:
    @pytest.mark.parametrize("overlap", [0, 1])
    def test_each_is_grounded_as_alone_and_the_backbone_sees_the_video_once(
        self,
        model: ReferFormerForVNG,
        processor: ReferFormerProcessor,
        video: np.ndarray,
        monkeypatch: pytest.MonkeyPatch,
        overlap: int,
    ) -> None:
        grounder = NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(3, overlap))
        frames = ArrayFrames(video)
        narratives = [nouns_in(text) for text in (NARRATIVE, "A [star] waits.", "The [ball] turns back.")]
        alone = [grounder.ground(frames, *narrative) for narrative in narratives]
        seen: list[int] = []
        backbone = model.backbone.forward
        monkeypatch.setattr(model.backbone, "forward", lambda pixels: seen.append(len(pixels)) or backbone(pixels))
        together = grounder.ground_all(frames, narratives)
        assert sum(seen) == T + overlap * (len(seen) - 1) and len(seen) == len(list(grounder.windows.of(T)))
        for one, other in zip(alone, together, strict=True):
            assert one.rles == other.rles and np.array_equal(one.frame_scores, other.frame_scores)
            assert one.nouns == other.nouns

    def test_none(self, model: ReferFormerForVNG, processor: ReferFormerProcessor, video: np.ndarray) -> None:
        grounder = NarrativeGrounder(model, processor, "cpu")
        assert grounder.ground_all(ArrayFrames(video), []) == []
        with pytest.raises(UsageError, match="no noun span"):
            grounder.ground_all(ArrayFrames(video), [nouns_in(NARRATIVE), ("A ball.", [])])


class TestCompute:
    def test_half_precision_is_close(self, run: Path, video: np.ndarray) -> None:
        exact = NarrativeGrounder.from_pretrained(run, "cpu")(video, NARRATIVE)
        half = NarrativeGrounder.from_pretrained(run, "cpu", "bfloat16")(video, NARRATIVE)
        np.testing.assert_allclose(half.frame_scores, exact.frame_scores, atol=0.05)
        assert not np.array_equal(half.frame_scores, exact.frame_scores)
        assert (half.masks == exact.masks).mean() > 0.95

    def test_attention(self, run: Path, video: np.ndarray) -> None:
        exact = NarrativeGrounder.from_pretrained(run, "cpu")(video, NARRATIVE)
        eager = NarrativeGrounder.from_pretrained(run, "cpu", attn_implementation="eager")
        assert eager.model.text_encoder.config._attn_implementation == "eager"
        np.testing.assert_allclose(eager(video, NARRATIVE).frame_scores, exact.frame_scores, atol=1e-5)
        with pytest.raises(UsageError, match="attention 'nonsense'"):
            NarrativeGrounder.from_pretrained(run, "cpu", attn_implementation="nonsense")

    def test_compile(self, run: Path, video: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        compiled: list[str] = []

        def stand_in(function: Any) -> Any:
            compiled.append(function.__name__)
            return function

        monkeypatch.setattr(torch, "compile", stand_in)
        grounder = NarrativeGrounder.from_pretrained(run, "cpu", compile=True)
        assert compiled == ["encode", "decode"] and grounder(video, NARRATIVE).masks.any()

    def test_unknown_precision(self) -> None:
        with pytest.raises(UsageError, match="unknown dtype 'float8'; choose one of: bfloat16, float16, float32"):
            ComputeSettings("float8")


class TestNouns:
    def test_marked_ones_are_taken_and_spacy_is_not_asked(self) -> None:
        assert nouns_in("A [ball] and a star.", "no_such_pipeline") == ("A ball and a star.", [(2, 6)])

    def test_found_by_spacy(self, tmp_path: Path, run: Path, video: np.ndarray) -> None:
        pipeline = pipeline_of(tmp_path, "ball", "star")
        assert nouns_in("A \\[red\\] ball, a star ball.", pipeline) == (
            "A [red] ball, a star ball.",
            [(8, 12), (16, 25)],
        )
        result = NarrativeGrounder.from_pretrained(run, "cpu", nouns=pipeline)(video, "A red ball near the star.")
        assert result.nouns == ["ball", "star"]

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no noun is marked: put brackets .* spacy download no_such_pipeline"):
            nouns_in("A ball.", "no_such_pipeline")
        with pytest.raises(UsageError, match=r"no noun is marked, and spaCy's .* finds none in 'It moves\.'"):
            nouns_in("It moves.", pipeline_of(tmp_path, "ball"))


class TestEdges:
    def test_one_frame(self, model: ReferFormerForVNG, processor: ReferFormerProcessor, tmp_path: Path) -> None:
        told: list[int] = []
        result = NarrativeGrounder(model, processor, "cpu")(np.full((1, H, W, 3), 90, np.uint8), NARRATIVE, told.append)
        assert told == [1]
        assert result.masks.shape == (2, 1, H, W)
        result.save(tmp_path / "out")
        assert (tmp_path / "out" / "overlay.mp4").exists() and (
            tmp_path / "out" / "masks" / "1" / "000000.png"
        ).exists()

    def test_one_small_frame_is_as_the_same_frame_twice(
        self, model: ReferFormerForVNG, processor: ReferFormerProcessor
    ) -> None:
        small = ReferFormerProcessor(processor.tokenizer, short_side=0)
        grounder = NarrativeGrounder(model, small, "cpu")
        frame = np.random.default_rng(5).integers(0, 255, (1, 40, 52, 3), dtype=np.uint8)
        once, twice = grounder(frame, NARRATIVE), grounder(frame.repeat(2, 0), NARRATIVE)
        assert once.masks.shape == (2, 1, 40, 52) and once.rles[1][0] == twice.rles[1][0] == twice.rles[1][1]

    def test_what_cannot_be(self, model: ReferFormerForVNG, processor: ReferFormerProcessor) -> None:
        grounder = NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(2))
        with pytest.raises(DataError, match="this video has no frames"):
            grounder(np.zeros((0, H, W, 3), np.uint8), NARRATIVE)
        sizes = [(H, W), (H, W), (H, W + 8)]
        images = [encode_jpeg(np.zeros((*size, 3), np.uint8)) for size in sizes]
        with pytest.raises(DataError, match=r"frame c: size: 72x108 pixels, the frames before it have 72x100"):
            grounder(EncodedFrames(images, ["a", "b", "c"], "clip"), NARRATIVE)
        with pytest.raises(DataError, match="the text encoder takes at most 64"):
            grounder(np.zeros((1, H, W, 3), np.uint8), "A [ball] " * 60)
        with pytest.raises(UsageError, match="no noun span"):
            grounder.ground(ArrayFrames(np.zeros((1, H, W, 3), np.uint8)), "A ball.", [])


class TestCommand:
    def test_windows_are_part_of_what_a_run_was(
        self, tmp_path: Path, run: Path, dataset: Path, cli: Callable[..., Cli]
    ) -> None:
        words = ["predict", "--model", run, "--dataset", dataset, "--out", tmp_path / "r", "--quiet", "--device", "cpu"]
        assert cli(*words, "--window", 3).status == 0
        made = json.loads((tmp_path / "r" / "predictions.json").read_text())["settings"]
        assert (
            made["window"] == 3 and made["overlap"] == 0 and made["dtype"] == "float32" and made["propagation"] is None
        )
        assert cli(*words, "--window", 3).status == 0
        for option in (
            ["--window", 4],
            ["--window", 3, "--dtype", "bfloat16"],
            ["--window", 3, "--propagator", "flow"],
        ):
            ended = cli(*words, *option)
            assert ended.status == 1 and "an earlier run wrote here with" in ended.err

    def test_unmarked_nouns_and_propagation(self, tmp_path: Path, run: Path, cli: Callable[..., Cli]) -> None:
        frames = tmp_path / "clip"
        frames.mkdir()
        for t in range(4):
            (frames / f"{t}.jpg").write_bytes(encode_jpeg(np.full((H, W, 3), 40 * t, np.uint8)))
        ended = cli(
            "predict",
            "--model",
            run,
            "--video",
            frames,
            "--narrative",
            "A ball.",
            "--out",
            tmp_path / "out",
            "--nouns",
            pipeline_of(tmp_path, "ball"),
            "--propagator",
            "flow",
            "--confidence",
            0,
            "--anchors",
            1,
            "--propagator-set",
            "fade=0.5",
            "--window",
            3,
        )
        assert ended.status == 0 and "ball: 0." in ended.out, ended.err
        told = json.loads((tmp_path / "out" / "result.json").read_text())
        assert told["narrative"] == "A [ball]." and told["nouns"][0]["propagated_frames"] == 3

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--anchors", "2"], "--anchors goes with --propagator"),
            (["--propagator-set", "fade=0.5"], "--propagator-set goes with --propagator"),
            (["--propagator", "nonsense"], "unknown propagator 'nonsense'"),
            (["--propagator", "flow", "--propagator-set", "fade=2"], "fade=2"),
            (["--propagator", "flow", "--confidence", "2"], "confidence=2.0: expected"),
            (["--window", "4", "--overlap", "4"], "overlap=4"),
            (["--attention", "nonsense"], "attention 'nonsense'"),
        ],
    )
    def test_wrong_calls(
        self, tmp_path: Path, run: Path, cli: Callable[..., Cli], arguments: list[str], words: str
    ) -> None:
        (tmp_path / "clip").mkdir()
        (tmp_path / "clip" / "0.jpg").write_bytes(encode_jpeg(np.zeros((H, W, 3), np.uint8)))
        ended = cli(
            "predict",
            "--model",
            run,
            "--video",
            tmp_path / "clip",
            "--narrative",
            "A [ball].",
            "--out",
            tmp_path / "out",
            *arguments,
        )
        assert ended.status == 2 and words in ended.err and not (tmp_path / "out").exists()
