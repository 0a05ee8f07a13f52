"""Training clips of video object segmentation: a reference frame, target frames, and their annotations.

The annotations depend on the supervision (Point-VOS, Sec. 4): drawn masks, pseudo-masks, points, or masks with points
in the reference frame (hybrid). Sample i of a run depends on (seed, i) alone.
Shapes: T frames, K objects, P points an object, H x W pixels.
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
from vng.masks import area, decode
from vng.models.stcn.losses_stcn import IGNORED, UNKNOWN
from vng.models.stcn.processing_stcn import point_map
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, sample_in_mask
from vng.training.clicks.scenes import recoloured
from vng.training.light import Light
from vng.training.recipe import Source
from vng.training.stcn.recipe import VosDataSettings
from vng.training.video_cache import VideoCache
from vng.training.warps import Warp, affine, crop, filling, flip, inside, thin_plate_bend

LEAST_AREA = 16  # pixels of a sample; objects with a smaller mask in the reference frame are left out
OWN_SCALE = (0.9, 1.1)  # of each frame of a still
BEND_SCALE = 0.02  # of a thin-plate spline, as a share of the sides
# Change of light of a clip and of each of its frames, as in STCN's program.
STILL_LIGHT = (Light(0.1, 0.05, 0.05, 0.05, grey=0.05), Light(0.1, 0.05, 0.05, 0.0))
FILM_LIGHT = (Light(0.1, 0.03, 0.03, 0.0, grey=0.05), Light(0.01, 0.01, 0.01, 0.0))
TRIALS = 20  # crops of one video before another is drawn


@dataclass(frozen=True, kw_only=True)
class VosClip:
    """One sample."""

    pixels: np.ndarray  # uint8 [T, H, W, 3]
    prompts: np.ndarray  # float32 [K, H, W], masks or points of the reference frame, the first
    others: np.ndarray | None  # float32 [K, H, W], the reference's negatives; None: the other objects' prompts
    labels: np.ndarray  # uint8 [T, H, W]: 0 background, 1..K, IGNORED
    xy: np.ndarray  # float32 [T, K, P, 2]
    verdicts: np.ndarray  # int8 [T, K, P]: POSITIVE, NEGATIVE, UNKNOWN
    robust: bool  # the labels are noisy
    progress: float  # share of the steps before this one

    def __post_init__(self) -> None:
        t, h, w, _ = self.pixels.shape
        k, p = len(self.prompts), self.verdicts.shape[2]
        shapes = (self.prompts.shape, self.labels.shape, self.xy.shape, self.verdicts.shape)
        if shapes != ((k, h, w), (t, h, w), (t, k, p, 2), (t, k, p)):
            raise ValueError(f"clip: prompts, labels, points and verdicts of shapes {shapes} for {t} frames of {h}x{w}")


@dataclass(frozen=True)
class FrameAnnotation:
    """The annotation of one object in one frame of a sample."""

    mask: np.ndarray | None  # bool [H, W]
    xy: np.ndarray  # float32 [P, 2], on the canvas
    label: np.ndarray  # int8 [P]

    def of(self, label: int) -> np.ndarray:
        """The points with a label, [P, 2]."""
        return self.xy[self.label == label]


class VosClipSampler(Dataset):
    """`length` random clips of a mixture of datasets; item i is drawn with the generator (seed, i).

    Args:
        datasets: one for each source of the settings.
        radius: of the disc around a point that enters the value encoder as the object, pixels.
        steps: of the training, in each of which an equal number of clips is used; None: one clip a step.

    Raises:
        DataError: a dataset without anything its supervision could train on.
    """

    def __init__(
        self,
        datasets: Sequence[VngDataset],
        settings: VosDataSettings,
        supervision: str,
        radius: float,
        seed: int,
        length: int,
        steps: int | None = None,
    ) -> None:
        self.datasets, self.settings, self.radius = datasets, settings, radius
        self.seed, self.length, self.steps = seed, length, steps or length
        self._default = supervision
        self._drawing = VideoCache(datasets, self._prepared)
        self._videos = [
            (source, index)
            for source, dataset in enumerate(datasets)
            for index in range(len(dataset))
            for _ in range(int(settings.sources[source].weight))
        ]

    def check(self) -> None:
        """Raise DataError for a source without anything its supervision could train on."""
        for source, dataset in enumerate(self.datasets):
            if not any(self._drawing(source, place).references for place in range(len(dataset))):
                raise self._no_annotations(source)

    def _no_annotations(self, source: int) -> DataError:
        supervision = self.settings.sources[source].supervision or self._default
        reason = f"nothing here that the supervision ({supervision}) could train on"
        cure = "choose another supervision, or check the dataset"
        return DataError(self.datasets[source].path, field="segmentations, points", reason=reason, cure=cure)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> VosClip:
        rng = np.random.default_rng([self.seed, index])
        progress = index * self.steps // self.length / self.steps  # the same for all clips of a step
        for choice in rng.permutation(len(self._videos)):
            drawing = self._drawing(*self._videos[int(choice)])
            for _ in range(TRIALS if drawing.references else 0):
                clip = drawing.draw(rng, progress, self.radius)
                if clip is not None:
                    return clip
        raise self._no_annotations(0)

    def _prepared(self, video: Video, source: int) -> _Drawing:
        return _Drawing(video, self.settings, self.settings.sources[source], self._default)


class _Drawing:
    """Clips of one video under one supervision."""

    def __init__(self, video: Video, settings: VosDataSettings, source: Source, supervision: str) -> None:
        self.video, self.settings, self.source = video, settings, source
        self.supervision = source.supervision or supervision
        self.stills = settings.stills if source.stills is None else source.stills
        least = settings.min_agreement if source.min_agreement is None else source.min_agreement
        self._objects = [item for item in video.objects if _agreement(item) >= least]
        self._prompted = {item.object_id: self._frames_with(item, POSITIVE) for item in self._objects}
        self._annotated = {item.object_id: self._frames_with(item, None) for item in self._objects}
        self.references = sorted(set().union(*self._prompted.values()))  # frames a clip may start from
        self._targets = np.array(sorted(set().union(*self._annotated.values())), int)

    def _frames_with(self, item: VideoObject, label: int | None) -> set[int]:
        """Frames in which an object has a positive point (a mask with pixels); with None, any annotation."""
        if self.supervision == "points":
            points = item.points[item.points.label != AMBIGUOUS] if label is None else item.points.of(label)
            return {int(frame) for frame in points.frame}
        return {t for t, rle in enumerate(item.segmentations) if rle is not None and (label is None or area(rle))}

    def draw(self, rng: np.random.Generator, progress: float, radius: float) -> VosClip | None:
        """One clip; None if its crop shows none of the objects."""
        numbers = self._frames(rng, progress)
        items = [item for item in self._objects if numbers[0] in self._prompted[item.object_id]]
        rng.shuffle(items)
        warps = self._warps(len(numbers), rng)
        annotations: list[list[FrameAnnotation]] = []
        chosen_items: list[VideoObject] = []
        for item in items:
            in_frames = [self._annotation(item, frame, warp) for frame, warp in zip(numbers, warps, strict=True)]
            if self._usable(in_frames[0]):
                annotations.append(in_frames)
                chosen_items.append(item)
            if len(annotations) == self.settings.objects:
                break
        if not annotations or not any(t.mask is not None or len(t.xy) for row in annotations for t in row[1:]):
            return None
        pixels = self._lit(numbers, rng)
        canvas = np.stack([warp.image(image) for warp, image in zip(warps, pixels, strict=True)])
        prompts, others = self._prompts([row[0] for row in annotations], rng, radius)
        xy, verdicts = _point_rows(annotations)
        return VosClip(
            pixels=canvas,
            prompts=prompts,
            others=others,
            labels=_label_maps(annotations, canvas.shape[:3]),
            xy=xy,
            verdicts=verdicts,
            robust=self.supervision == "pseudo_masks" or any(item.has_pseudo_masks for item in chosen_items),
            progress=progress,
        )

    def _lit(self, numbers: Sequence[int], rng: np.random.Generator) -> list[np.ndarray]:
        """The frames of a clip, in one changed light, and each in a light of its own."""
        seed, s = int(rng.integers(2**31)), self.settings
        of_clip, of_frame = STILL_LIGHT if self.stills else FILM_LIGHT
        lit = []
        for image in self.video.opened_frames().read(numbers):
            clip_rng = np.random.default_rng(seed)
            if s.colour:
                image = recoloured(image, clip_rng, s.colour)
            if s.light:
                image = of_frame.change(of_clip.change(image, clip_rng, s.light), rng, s.light)
            lit.append(image)
        return lit

    def _frames(self, rng: np.random.Generator, progress: float) -> list[int]:
        """The frames of a clip: a reference and targets, each within the skip of the one before it if possible.

        The step to the next frame is 1 to skip + 1, as in STCN's program.
        """
        count, targets = self.settings.frames, self._targets
        start = self.references[int(rng.integers(len(self.references)))]
        if self.stills:
            return [start] * count
        skip = [most for share, most in self.settings.skips if share <= progress][-1]
        reach = skip // self.source.frame_step + 1
        forwards = rng.random() < 0.5
        chosen = [start]
        while len(chosen) < count:
            step = targets - chosen[-1] if forwards else chosen[-1] - targets
            near = targets[(step > 0) & (step <= reach)]
            if not len(near):  # points lie on few frames: take the next one with points
                near = targets[step == step[step > 0].min()] if (step > 0).any() else np.array(chosen[-1:])
            chosen.append(int(near[int(rng.integers(len(near)))]))
        return chosen

    def _warps(self, count: int, rng: np.random.Generator) -> list[Warp]:
        s = self.settings
        frame, size = (self.video.height, self.video.width), s.size
        whole = affine(frame, rng, 0, s.still_scale, 0) if self.stills else crop(frame, size, s.crop, rng)
        if rng.random() < s.flip:
            whole = flip(frame if self.stills else size) @ whole
        warps = []
        for _ in range(count):
            bend = None
            if self.stills:  # cropped at its own place: a still moves by up to what the crop leaves out
                own = filling(frame, size, rng) @ affine(frame, rng, s.still_degrees, OWN_SCALE, s.shear)
                bend = thin_plate_bend(size, rng, BEND_SCALE) if rng.random() < s.bend else None
            else:
                own = affine(size, rng, s.degrees, (1.0, 1.0), s.shear)
            warps.append(Warp((own @ whole)[:2], size, bend))
        return warps

    def _annotation(self, item: VideoObject, frame: int, warp: Warp) -> FrameAnnotation:
        points, rle = Points.none(), None
        if self.supervision == "points" or (self.settings.verified_points and item.has_pseudo_masks):
            points = item.points.in_frame(frame)
            points = points[points.label != AMBIGUOUS]
        if self.supervision != "points":
            rle = item.segmentations[frame]
        xy = warp.points(points.xy)
        in_view = inside(xy, warp.size)
        mask = None if rle is None else warp.labels(decode(rle).astype(np.uint8)).astype(bool)
        return FrameAnnotation(mask, xy[in_view], points.label[in_view])

    def _usable(self, reference: FrameAnnotation) -> bool:
        if self.supervision == "points":
            return bool((reference.label == POSITIVE).any())
        return reference.mask is not None and int(reference.mask.sum()) >= LEAST_AREA

    def _prompts(
        self, references: list[FrameAnnotation], rng: np.random.Generator, radius: float
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Prompts of the reference frame, and its negatives if they are part of the prompt."""
        size = self.settings.size
        if self.supervision in ("masks", "pseudo_masks"):
            return np.stack([np.float32(annotation.mask) for annotation in references]), None
        low, high = self.settings.prompt_points
        count = int(rng.integers(low, high + 1))
        positives = [self._points_of(annotation, count, True, rng) for annotation in references]
        maps = np.stack([point_map(xy, size, radius) for xy in positives])
        if rng.random() >= self.settings.negatives:
            return maps, None
        negatives = [
            point_map(self._points_of(annotation, count, False, rng), size, radius) for annotation in references
        ]
        total = maps.sum(0)
        return maps, np.stack([np.maximum(n, total - own) for n, own in zip(negatives, maps, strict=True)])

    def _points_of(
        self, annotation: FrameAnnotation, count: int, positive: bool, rng: np.random.Generator
    ) -> np.ndarray:
        points = annotation.of(POSITIVE if positive else NEGATIVE)
        if annotation.mask is None or len(points):
            return rng.permutation(points)[:count]
        return sample_in_mask(annotation.mask if positive else ~annotation.mask, count, self.settings.distance, rng)


def _agreement(item: VideoObject) -> float:
    return 1.0 if item.quality.point_agreement is None else item.quality.point_agreement


def _label_maps(annotations: list[list[FrameAnnotation]], shape: tuple[int, ...]) -> np.ndarray:
    """Classes of all pixels, uint8 [T, H, W]; if an object is unannotated, pixels of no other one are IGNORED."""
    labels = np.zeros(shape, np.uint8)
    for t in range(shape[0]):
        if any(row[t].mask is None for row in annotations):
            labels[t] = IGNORED
        for k, row in enumerate(annotations):
            mask = row[t].mask
            if mask is not None:
                labels[t][mask] = k + 1
    return labels


def _point_rows(annotations: list[list[FrameAnnotation]]) -> tuple[np.ndarray, np.ndarray]:
    """Points of all objects and frames in one array: float32 [T, K, P, 2], int8 [T, K, P]."""
    k, t = len(annotations), len(annotations[0])
    p = max((len(annotation.xy) for row in annotations for annotation in row), default=0)
    xy, verdicts = np.zeros((t, k, p, 2), np.float32), np.full((t, k, p), UNKNOWN, np.int8)
    for i, row in enumerate(annotations):
        for j, annotation in enumerate(row):
            xy[j, i, : len(annotation.xy)], verdicts[j, i, : len(annotation.xy)] = annotation.xy, annotation.label
    return xy, verdicts


def collate(clips: Sequence[VosClip], objects: int = 1) -> dict[str, Tensor]:
    """Clips of one size and length -> the arguments of `TrainedStcn`, objects (to `objects` at least) and points padded."""
    k = max(objects, *(len(clip.prompts) for clip in clips))
    p = max(clip.verdicts.shape[2] for clip in clips)

    def padded(array: np.ndarray, axes: dict[int, int], value: float = 0) -> np.ndarray:
        widths = [(0, axes.get(axis, size) - size) for axis, size in enumerate(array.shape)]
        return np.pad(array, widths, constant_values=value)

    def others(clip: VosClip) -> np.ndarray:
        prompts = clip.prompts.sum(0) - clip.prompts if clip.others is None else clip.others
        return padded(prompts, {0: k})

    return {
        "pixel_values": torch.from_numpy(np.stack([c.pixels for c in clips])).permute(0, 1, 4, 2, 3),
        "prompts": torch.from_numpy(np.stack([padded(c.prompts, {0: k}) for c in clips])),
        "others": torch.from_numpy(np.stack([others(c) for c in clips])),
        "valid": torch.tensor([[i < len(c.prompts) for i in range(k)] for c in clips]),
        "labels": torch.from_numpy(np.stack([c.labels for c in clips])).long(),
        "xy": torch.from_numpy(np.stack([padded(c.xy, {1: k, 2: p}) for c in clips])),
        "verdicts": torch.from_numpy(np.stack([padded(c.verdicts, {1: k, 2: p}, UNKNOWN) for c in clips])).long(),
        "robust": torch.tensor([c.robust for c in clips]),
        "progress": torch.tensor([c.progress for c in clips], dtype=torch.float64),
    }
