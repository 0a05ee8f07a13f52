"""Clips of the grounder: mixtures, stills, pieces of frames, light, and what each supervision lets be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.helpers import ROOT, H, T, W, box, make_video
from vng.dataset import Quality, Video, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, UsageError, VngError
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.models.referformer.losses_points import DRAWN, NOISY, POINTS
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.weak_losses import UNKNOWN
from vng.points import NEGATIVE, POSITIVE
from vng.training.grounding.clips import ClipSampler, Collator, known_truth
from vng.training.grounding.recipe import DataSettings, GroundingRecipe
from vng.training.grounding.views import distorted, mirrored, piece, whole_frame
from vng.training.recipe import check_settings, load_settings
from vng.training.warps import Warp, enlarged


@pytest.fixture(scope="module")
def processor() -> ReferFormerProcessor:
    return ReferFormerProcessor(train_tokenizer(["A red ball meets the other ball."], 280, 64), short_side=0)


def write(folder: Path, *videos: Video) -> Path:
    write_dataset(folder, list(videos), "test")
    return folder


def sampler(
    processor: ReferFormerProcessor,
    sources: list[dict],
    supervision: str = "masks",
    opened: list[list[Video]] | None = None,
    **settings: object,
) -> ClipSampler:
    chosen = DataSettings(sources=sources, **{"frames": 2, "flip": 0, "short_side": 0, **settings})  # type: ignore[arg-type]
    datasets: list = [VngDataset(source.path, source.split) for source in chosen.sources] if opened is None else []
    for videos in opened or []:
        datasets.append(InMemory(videos))
    return ClipSampler(datasets, chosen, processor, 5, 60, supervision)


class InMemory(list):
    """Videos that never were on disk."""

    @property
    def expression_counts(self) -> list[int]:
        return [len(video.expressions) for video in self]


def identity(size: tuple[int, int] = (H, W)) -> Warp:
    return Warp(np.eye(3)[:2], size)


class TestSettings:
    def test_path_is_one_source(self) -> None:
        short = load_settings(GroundingRecipe, Path("tiny"), ["data.path=a/b", "data.split=val"]).data
        whole = load_settings(
            GroundingRecipe, Path("tiny"), ["data.path=null", "data.sources=[{path: a/b, split: val}]"]
        ).data
        assert short == whole and short.sources[0].weight == 1 and short.sources[0].split == "val"

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("data.crop_sides=[5, 3]", "crop_sides [5, 3]: above 0, least before most"),
            ("data.path=null", "data.sources: field required"),
            ("supervision=magic", "supervision"),
        ],
    )
    def test_faults(self, override: str, words: str) -> None:
        with pytest.raises(UsageError) as error:
            load_settings(GroundingRecipe, Path("tiny"), [override])
        assert words in str(error.value)

    def test_path_and_sources(self, tmp_path: Path) -> None:
        recipe = tmp_path / "both.yaml"
        recipe.write_text("base: tiny\ndata: {path: a, sources: [{path: b}]}\n")
        with pytest.raises(UsageError, match="path and sources: give one of them"):
            load_settings(GroundingRecipe, recipe)
        # An override replaces the other of the two that the recipe has.
        data = load_settings(GroundingRecipe, Path("tiny"), ["data.sources=[{path: x}]"]).data
        assert [source.path for source in data.sources] == [Path("x")]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("base: own.yaml\n", "base: own.yaml is based on this recipe"),
            ("base: [tiny]\n", "base: expected the name of a recipe, got ['tiny']"),
            ("base: nowhere\n", "nowhere: no such recipe; shipped ones: demo/finetune.yaml"),
        ],
    )
    def test_base_faults(self, tmp_path: Path, text: str, words: str) -> None:
        recipe = tmp_path / "own.yaml"
        recipe.write_text(text)
        with pytest.raises(VngError) as error:
            load_settings(GroundingRecipe, recipe)
        assert words in str(error.value)

    def test_the_mixture_of_the_docs(self) -> None:
        text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
        tree = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
        data = check_settings(DataSettings, tree["data"], "docs")
        assert [source.weight for source in data.sources] == [1, 3, 2] and data.sources[0].stills

    def test_every_source_is_checked_and_hashed(self) -> None:
        said = ["data.path=null", "data.sources=[{path: a}, {path: b, weight: 3}]"]
        assert load_settings(GroundingRecipe, Path("tiny"), said).datasets() == {
            "dataset_manifest.0": Path("a"),
            "dataset_manifest.1": Path("b"),
        }


class TestMixtures:
    def test_weights_are_shares_of_the_samples(self, tmp_path: Path, processor: ReferFormerProcessor) -> None:
        one, two = (write(tmp_path / str(n), make_video("v", seed=n)) for n in range(2))
        drawn = sampler(processor, [{"path": one, "weight": 3}, {"path": two, "supervision": "pseudo_masks"}])
        kinds = Counter(drawn[i].kind for i in range(60))
        assert 36 <= kinds[DRAWN] <= 54 and kinds[NOISY] == 60 - kinds[DRAWN]
        again = sampler(processor, [{"path": one, "weight": 3}, {"path": two, "supervision": "pseudo_masks"}])
        assert torch.equal(drawn[17].pixels, again[17].pixels) and drawn[17].kind == again[17].kind

    def test_a_source_has_its_own_least_agreement(self, dataset: Path, processor: ReferFormerProcessor) -> None:
        assert len(sampler(processor, [{"path": dataset, "min_agreement": 0.9}])[0].spans) == 1
        assert len(sampler(processor, [{"path": dataset, "min_agreement": 0.0}], min_agreement=0.9)[0].spans) == 2

    def test_agreement_weighs_noisy_objects(self, dataset: Path, processor: ReferFormerProcessor) -> None:
        sources = [{"path": dataset, "supervision": "pseudo_masks"}]
        assert sampler(processor, sources)[0].weight.tolist() == [0.5, 1.0]  # agreements of 0.75 and none
        assert sampler(processor, sources, weigh_agreement=False)[0].weight.tolist() == [1.0, 1.0]
        assert sampler(processor, [{"path": dataset}])[0].weight.tolist() == [1.0, 1.0]
        video = make_video("v")
        chance = replace(video.objects[0], quality=Quality(point_agreement=0.4, n_points=3, n_held_out=1))
        video = replace(video, objects=(chance, video.objects[1]))
        worse = write(dataset.parent / "worse", video)
        assert sampler(processor, [{**sources[0], "path": worse}])[0].weight.tolist() == [0.0, 1.0]

    def test_the_source_without_anything_is_named(self, tmp_path: Path, processor: ReferFormerProcessor) -> None:
        video = make_video("v")
        bare = replace(video, objects=tuple(replace(item, points=item.points[[]]) for item in video.objects))
        one, two = write(tmp_path / "one", video), write(tmp_path / "two", bare)
        made = sampler(processor, [{"path": one}, {"path": two, "supervision": "points"}])
        with pytest.raises(DataError, match=r"two: .*the supervision \(points\) could train on.*another supervision"):
            made.check()

    def test_batches_carry_evidence_where_it_is_weak(self, dataset: Path, processor: ReferFormerProcessor) -> None:
        drawn, told = (sampler(processor, [{"path": dataset}], kind)[0] for kind in ("masks", "points"))
        assert "target_kind" not in Collator(processor)([drawn, drawn])
        batch = Collator(processor)([drawn, told])
        n, t, p = batch["target_verdicts"].shape[1:]
        assert batch["target_kind"].tolist()[1][0] == POINTS and not batch["target_kind"][0].any()
        assert batch["target_xy"].shape == (2, n, t, p, 2) and (batch["target_verdicts"][0] == UNKNOWN).all()
        assert batch["target_verdicts"].dtype == torch.int64 and not batch["target_masks"][1].any()


class TestTruth:
    def test_null_empty_and_lost(self) -> None:
        """The second object is there, not annotated, and absent; a view that loses the first makes it absent."""
        video, frames = make_video("v"), np.arange(T)
        whole = known_truth(video.objects, frames, [identity()] * T, "masks")
        assert whole.known.tolist() == [[True] * 3, [True, False, True]]
        assert whole.masks.any((2, 3)).tolist() == [[True] * 3, [True, False, False]]
        right = Warp(enlarged(np.array([16.0, 0]), np.array([14.0, 20]), (20, 14))[:2], (20, 14))
        lost = known_truth(video.objects, frames, [right] * T, "masks")
        assert lost.known.tolist() == whole.known.tolist() and not lost.masks[0].any() and lost.masks[1, 0].any()
        assert np.array_equal(lost.masks[1, 0], box(11, 18, 17, 27)[:, 16:])

    def test_what_points_say(self) -> None:
        """Of the first object: a positive and a negative in frame 0, nothing in 1, a positive in 2."""
        item, frames = make_video("v").objects[0], np.arange(T)
        whole = known_truth([item], frames, [identity()] * T, "points")
        assert whole.known.tolist() == [[True, False, True]] and not whole.masks.any()
        assert whole.verdicts[0].tolist() == [[POSITIVE, NEGATIVE], [UNKNOWN] * 2, [POSITIVE, UNKNOWN]]
        assert whole.xy[0, 0].tolist() == [[5, 4], [20, 14.5]]
        right = Warp(enlarged(np.array([16.0, 0]), np.array([14.0, 20]), (20, 14))[:2], (20, 14))
        assert not known_truth([item], frames, [right] * T, "points").known.any()  # nobody knows whether a part is seen
        negatives = replace(item, points=item.points.of(NEGATIVE))
        absent = known_truth([negatives], frames, [right] * T, "points")
        assert absent.known.tolist() == [[True, False, False]] and absent.xy[0, 0].tolist() == [[4, 14.5]]

    def test_points_and_masks_move_together(self, processor: ReferFormerProcessor) -> None:
        video = make_video("v")
        settings = DataSettings(path="x", short_sides=(33,), crop_short_sides=(27,), crop_sides=(11, 27))  # type: ignore[call-arg, arg-type]
        mask = box(4, 6, 15, 20)
        item = replace(video.objects[0], segmentations=(encode(mask),) * T)
        for seed in range(20):
            rng = np.random.default_rng(seed)
            warp = mirrored(piece((H, W), settings, processor, rng))
            assert min(warp.size) == 33
            seen = known_truth([item], np.array([0]), [warp], "masks").masks[0, 0]
            corners = warp.points(np.array([(5.5, 3.5), (19.5, 14.5)]))  # the box's outline between pixels
            x0, x1 = sorted(np.clip(corners[:, 0] + 0.5, 0, warp.size[1]))
            y0, y1 = sorted(np.clip(corners[:, 1] + 0.5, 0, warp.size[0]))
            assert abs(seen.sum() - (x1 - x0) * (y1 - y0)) <= 0.5 * sum(warp.size) + 1

    def test_the_whole_frame_at_a_size(self, processor: ReferFormerProcessor) -> None:
        settings = DataSettings(path="x", short_sides=(10, 40))  # type: ignore[call-arg, arg-type]
        sizes = {whole_frame((H, W), settings, processor, np.random.default_rng(seed)).size for seed in range(9)}
        assert sizes == {(10, 15), (40, 60)}
        assert whole_frame((H, W), DataSettings(path="x", short_side=0), processor, np.random.default_rng(0)).size == (
            H,
            W,
        )  # type: ignore[call-arg, arg-type]


class TestClips:
    def test_a_still_becomes_a_clip(self, dataset: Path, processor: ReferFormerProcessor) -> None:
        clip = sampler(processor, [{"path": dataset, "stills": True}], frames=4)[3]
        assert clip.pixels.shape[0] == 4 and clip.truth.known[0].all()
        areas = clip.truth.masks[0].sum((1, 2))
        assert len(set(areas.tolist())) > 1 and areas.min() > 10  # each frame moved for itself
        still = sampler(
            processor, [{"path": dataset, "stills": True}], frames=4, degrees=0, shear=0, still_scale=(1, 1)
        )[3]
        assert all(torch.equal(still.pixels[0], frame) for frame in still.pixels)

    def test_a_piece_that_shows_nothing_is_not_taken(self, tmp_path: Path, processor: ReferFormerProcessor) -> None:
        video = make_video("v")
        corner = replace(video.objects[0], segmentations=(encode(box(0, 0, 3, 3)),) * T)
        data = write(
            tmp_path / "d", replace(video, objects=(corner, video.objects[1]), expressions=video.expressions[:1])
        )
        drawn = sampler(processor, [{"path": data}], crop=1.0, crop_short_sides=(20,), crop_sides=(5, 9))
        clips = [drawn[i] for i in range(20)]
        assert all(clip.truth.masks.any() for clip in clips)
        sizes = {tuple(clip.pixels.shape[2:]) for clip in clips}
        assert (H, W) in sizes and len(sizes) > 1 and all(min(s) <= 9 or s == (H, W) for s in sizes)

    def test_flips_mirror_words_and_points(self, tmp_path: Path, processor: ReferFormerProcessor) -> None:
        video = make_video("v")
        text = "A left ball meets the right one."
        said = replace(video.narratives[0], description=text)
        video = replace(video, narratives=(said,), expressions=(replace(video.expressions[0], start=7, end=11),))
        data = write(tmp_path / "d", video)
        plain, flipped = (sampler(processor, [{"path": data}], "points", flip=f)[2] for f in (0, 1))
        assert (
            flipped.narrative == "A right ball meets the left one."
            and flipped.narrative[slice(*flipped.spans[0])] == "ball"
        )
        known = plain.truth.verdicts != UNKNOWN
        assert np.allclose(flipped.truth.xy[known][:, 0], W - 1 - plain.truth.xy[known][:, 0])

    def test_linked_frames_of_another_size_are_refused(self, processor: ReferFormerProcessor) -> None:
        video = replace(make_video("v"), frames=ArrayFrames(np.zeros((T, H, W + 1, 3), np.uint8)))
        drawn = sampler(processor, [{"path": "x"}], opened=[[video]])
        with pytest.raises(DataError, match="a frame of 20x31, the masks have 20x30; link the frames"):
            drawn[0]

    def test_light(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        shown = [distorted(image, np.random.default_rng(seed), 1.0) for seed in range(30)]
        assert all(s.shape == image.shape and s.dtype == np.uint8 for s in shown)
        assert len({s.tobytes() for s in shown}) > 20 and np.array_equal(
            shown[4], distorted(image, np.random.default_rng(4), 1.0)
        )
        faint = [
            np.abs(distorted(image, np.random.default_rng(seed), 0.0).astype(int) - image).max() for seed in range(9)
        ]
        assert max(faint) <= 1  # there and back through another colour space
        bright = distorted(np.full((2, 2, 3), 250, np.uint8), np.random.default_rng(1), 1.0)
        assert bright.min() > 100  # nothing wraps round
