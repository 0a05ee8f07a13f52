"""Training samples of the grounder: a clip, a narrative and all its expressions, from a mixture of datasets.

Sample i of a run depends on (seed, i) alone, so a resumed run sees exactly the samples an uninterrupted one would.
Shapes: T frames, N expressions, P points an expression and frame, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vng.dataset import Video, VideoObject, VngDataset
from vng.errors import DataError
from vng.masks import decode
from vng.models.referformer.losses_points import DRAWN, NOISY, POINTS
from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.models.weak_losses import UNKNOWN
from vng.narratives import mirror
from vng.points import AMBIGUOUS, POSITIVE
from vng.training.grounding.recipe import DataSettings
from vng.training.grounding.views import distorted, mirrored, moved, piece, whole_frame
from vng.training.recipe import Source
from vng.training.video_cache import VideoCache, as_it_is
from vng.training.warps import Warp, inside

KINDS = {"masks": DRAWN, "pseudo_masks": NOISY, "points": POINTS}


@dataclass(frozen=True)
class Truth:
    """The annotation of N objects in T frames of a view.

    With point supervision there are no masks; a frame is annotated if a positive point lies in the view, or if the
    whole frame has negatives only.
    """

    masks: np.ndarray  # bool [N, T, H, W]
    known: np.ndarray  # bool [N, T], annotated frames; False trains nothing
    xy: np.ndarray  # float32 [N, T, P, 2], pixels of the view
    verdicts: np.ndarray  # int8 [N, T, P]: POSITIVE, NEGATIVE, UNKNOWN (no point)

    @property
    def shows_any(self) -> bool:
        """Whether an object is visible anywhere."""
        return bool(self.masks.any() or (self.verdicts == POSITIVE).any())


@dataclass(frozen=True)
class Clip:
    """One sample, at the size its view has."""

    pixels: Tensor  # float [T, 3, H, W]
    narrative: str
    spans: tuple[tuple[int, int], ...]  # length N
    truth: Truth
    weight: Tensor  # float [N]
    kind: int = DRAWN  # kind of the annotation: DRAWN, NOISY, POINTS

    def __post_init__(self) -> None:
        n, (t, _, h, w) = len(self.spans), self.pixels.shape
        if self.truth.masks.shape != (n, t, h, w) or self.truth.known.shape != (n, t):
            raise ValueError(f"clip: masks {list(self.truth.masks.shape)}, expected {[n, t, h, w]}")


class ClipSampler(Dataset):
    """`length` random clips of a mixture of datasets; item i is drawn with the generator (seed, i).

    Args:
        datasets: one for each source of the settings.
        supervision: default of sources that name none.

    Raises:
        DataError: a dataset without an expression, on construction; without anything its supervision could train on, on
            drawing.
    """

    def __init__(
        self,
        datasets: Sequence[VngDataset],
        settings: DataSettings,
        processor: ReferFormerProcessor,
        seed: int,
        length: int,
        supervision: str = "masks",
    ) -> None:
        self.datasets, self.settings, self.processor = datasets, settings, processor
        self.seed, self.length = seed, length
        self._default = supervision
        self._video = VideoCache(datasets, as_it_is)
        self._videos = [[i for i, count in enumerate(d.expression_counts) if count] for d in datasets]
        self._shares = settings.shares
        for dataset, videos in zip(datasets, self._videos, strict=True):
            if not videos:
                reason = "no video of this dataset has an expression to train on"
                raise DataError(dataset.path, field="expressions", reason=reason)

    def __len__(self) -> int:
        return self.length

    def check(self) -> None:
        """Raise DataError for a source without anything its supervision could train on."""
        for source in range(len(self.datasets)):
            self._draw_from(source, np.random.default_rng(self.seed))

    def __getitem__(self, index: int) -> Clip:
        rng = np.random.default_rng([self.seed, index])
        return self._draw_from(int(rng.choice(len(self.datasets), p=self._shares)), rng)

    def _draw_from(self, source: int, rng: np.random.Generator) -> Clip:
        videos, settings = self._videos[source], self.settings.sources[source]
        for choice in rng.permutation(len(videos)):  # the first one with something to train on
            clip = self._draw(self._video(source, videos[int(choice)]), settings, rng)
            if clip is not None:
                return clip
        supervision, least = self._supervision(settings), self._least(settings)
        reason = f"no video has an expression that the supervision ({supervision}) could train on"
        reason += f", with a point agreement of {least} or more" if least else ""
        cure = "lower min_agreement, choose another supervision, or check the dataset"
        raise DataError(self.datasets[source].path, field="segmentations, points", reason=reason, cure=cure)

    def _supervision(self, source: Source) -> str:
        return source.supervision or self._default

    def _least(self, source: Source) -> float:
        return self.settings.min_agreement if source.min_agreement is None else source.min_agreement

    def _draw(self, video: Video, source: Source, rng: np.random.Generator) -> Clip | None:
        supervision, least = self._supervision(source), self._least(source)
        trusted = {item.object_id for item in video.objects if _agreement(item) >= least}
        usable = [e for e in video.expressions if e.object_id in trusted]
        if not usable:
            return None
        narrative = int(rng.choice(sorted({e.narrative for e in usable})))
        expressions = [e for e in usable if e.narrative == narrative]
        items = [video.object_by_id[e.object_id] for e in expressions]
        candidates = np.flatnonzero(np.any([_annotated_frames(item, supervision) for item in items], 0))
        if not len(candidates):
            return None
        if source.stills:
            chosen = np.repeat(rng.choice(candidates, 1), self.settings.frames)
        else:
            chosen = sample_frames(candidates, self.settings.frames, self.settings.max_skip, rng)
        text, spans = video.narratives[narrative].description, [(e.start, e.end) for e in expressions]
        flipped = bool(rng.random() < self.settings.flip)
        if flipped:
            text, spans = mirror(text, spans)
        warps, truth = self._view(video, items, chosen, source, flipped, rng)
        pixels = self._pixels(video, chosen, warps, rng)
        weights = [self._weight(item, supervision) for item in items]
        return Clip(pixels, text, tuple(spans), truth, torch.tensor(weights), KINDS[supervision])

    def _view(
        self,
        video: Video,
        items: list[VideoObject],
        chosen: np.ndarray,
        source: Source,
        flipped: bool,
        rng: np.random.Generator,
    ) -> tuple[list[Warp], Truth]:
        """The warp of each frame, and the truth in that view; the whole frame if a piece would show no object."""
        size, supervision = (video.height, video.width), self._supervision(source)
        views = [whole_frame(size, self.settings, self.processor, rng)]
        if rng.random() < self.settings.crop:
            views.insert(0, piece(size, self.settings, self.processor, rng))
        for view in views:
            if flipped:
                view = mirrored(view)
            warps = [moved(view, self.settings, rng) if source.stills else view for _ in chosen]
            truth = known_truth(items, chosen, warps, supervision)
            if truth.shows_any:
                break
        return warps, truth

    def _pixels(self, video: Video, chosen: np.ndarray, warps: list[Warp], rng: np.random.Generator) -> Tensor:
        strength = self.settings.distortion
        images = video.opened_frames().read(chosen.tolist())
        if wrong := [image.shape[:2] for image in images if image.shape[:2] != (video.height, video.width)]:
            reason = f"a frame of {wrong[0][0]}x{wrong[0][1]}, the masks have {video.height}x{video.width}"
            raise DataError(
                video.dataset,
                record=video.video_id,
                field="frames",
                reason=reason,
                cure="link the frames it was converted with",
            )
        shown = [warp.image(image) for image, warp in zip(images, warps, strict=True)]
        if strength:
            shown = [distorted(image, rng, strength) for image in shown]
        return self.processor.normalised(np.stack(shown))

    def _weight(self, item: VideoObject, supervision: str) -> float:
        """1, or how far the point agreement of a noisy mask is above chance (0.5), scaled to [0, 1]."""
        if supervision != "pseudo_masks" or not self.settings.weigh_agreement:
            return 1.0
        return max(0.0, 2 * _agreement(item) - 1)


def _annotated_frames(item: VideoObject, supervision: str) -> np.ndarray:
    """Frames of the video in which an object is annotated, bool [F]."""
    if supervision != "points":
        return item.annotated
    annotated = np.zeros(len(item.segmentations), bool)
    annotated[item.points.frame[item.points.label != AMBIGUOUS]] = True
    return annotated


def known_truth(items: Sequence[VideoObject], chosen: np.ndarray, warps: Sequence[Warp], supervision: str) -> Truth:
    """The annotation of objects in frames under `warps`; an object outside a view is absent from it."""
    n, t, size = len(items), len(chosen), warps[0].size
    masks, known = np.zeros((n, t, *size), bool), np.zeros((n, t), bool)
    points: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    for i, item in enumerate(items):
        for j, (frame, warp) in enumerate(zip(chosen, warps, strict=True)):
            if supervision == "points":
                view_points = _points_in_view(item, int(frame), warp)
                known[i, j] = view_points is not None
                points[i, j] = (np.empty((0, 2)), np.empty(0)) if view_points is None else view_points
            elif (rle := item.segmentations[int(frame)]) is not None:
                known[i, j] = True
                masks[i, j] = warp.labels(decode(rle).astype(np.uint8)).astype(bool)
    p = max((len(verdicts) for _, verdicts in points.values()), default=0)
    xy, verdicts = np.zeros((n, t, p, 2), np.float32), np.full((n, t, p), UNKNOWN, np.int8)
    for (i, j), (positions, labels) in points.items():
        xy[i, j, : len(labels)], verdicts[i, j, : len(labels)] = positions, labels
    return Truth(masks, known, xy, verdicts)


def _points_in_view(item: VideoObject, frame: int, warp: Warp) -> tuple[np.ndarray, np.ndarray] | None:
    """Verified points in the view of a frame, [P, 2] and [P]; None if the object may or may not be visible."""
    points = item.points.in_frame(frame)
    points = points[points.label != AMBIGUOUS]
    xy = warp.points(points.xy)
    in_view = inside(xy, warp.size)
    positive = points.label == POSITIVE
    if not len(points) or (positive.any() and not (positive & in_view).any()):
        return None
    return xy[in_view], points.label[in_view]


def _agreement(item: VideoObject) -> float:
    return 1.0 if item.quality.point_agreement is None else item.quality.point_agreement


def sample_frames(candidates: np.ndarray, count: int, max_skip: int, rng: np.random.Generator) -> np.ndarray:
    """ReferFormer's clip: a random frame, one before and one after it within `max_skip`, the rest from outside these.

    Args:
        candidates: int [F], the frames to choose from, ascending.

    Returns:
        int [count], ascending; frames repeat when there are too few.
    """
    middle = int(rng.integers(len(candidates)))
    chosen = [middle]
    if count > 1:
        chosen.append(max(0, middle - int(rng.integers(1, max_skip + 1))))
    if count > 2:
        chosen.append(min(len(candidates) - 1, middle + int(rng.integers(1, max_skip + 1))))
    everything = np.arange(len(candidates))
    outside = everything[(everything < min(chosen)) | (everything > max(chosen))]
    missing = count - len(chosen)
    if missing > 0:
        pool = outside if len(outside) >= missing else everything
        chosen += rng.choice(pool, size=missing, replace=len(pool) < missing).tolist()
    return candidates[np.sort(chosen[:count])]


class Collator:
    """Clips -> one padded batch of the model's arguments."""

    def __init__(self, processor: ReferFormerProcessor) -> None:
        self.processor = processor

    def __call__(self, clips: Sequence[Clip]) -> dict[str, Tensor]:
        batch = self.processor.pad([clip.pixels for clip in clips])
        batch |= self.processor.text([clip.narrative for clip in clips], [clip.spans for clip in clips])
        b, n = batch["noun_tokens"].shape[:2]
        t, (h, w) = clips[0].pixels.shape[0], batch["pixel_values"].shape[-2:]
        p = max(clip.truth.verdicts.shape[2] for clip in clips)
        targets = {
            "target_masks": torch.zeros(b, n, t, h, w, dtype=torch.bool),
            "target_annotated": torch.zeros(b, n, t, dtype=torch.bool),
            "target_weight": torch.zeros(b, n),
        }
        evidence = {
            "target_kind": torch.zeros(b, n, dtype=torch.long),
            "target_xy": torch.zeros(b, n, t, p, 2),
            "target_verdicts": torch.full((b, n, t, p), UNKNOWN),
        }
        for i, clip in enumerate(clips):
            truth = clip.truth
            k, _, height, width = truth.masks.shape
            targets["target_masks"][i, :k, :, :height, :width] = torch.from_numpy(truth.masks)
            targets["target_annotated"][i, :k] = torch.from_numpy(truth.known)
            targets["target_weight"][i, :k] = clip.weight
            evidence["target_kind"][i, :k] = clip.kind
            evidence["target_xy"][i, :k, :, : truth.xy.shape[2]] = torch.from_numpy(truth.xy)
            evidence["target_verdicts"][i, :k, :, : truth.xy.shape[2]] = torch.from_numpy(truth.verdicts).long()
        weak = any(clip.kind != DRAWN for clip in clips)
        return batch | targets | (evidence if weak else {})
