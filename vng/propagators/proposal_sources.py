"""Class-agnostic proposals of one image: masks of whatever may be a thing.

A new source is a class with the call of `ProposalSource`, and one line in `SOURCES`.
Shapes: R proposals, D channels of an embedding, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from vng.engines import make_engine
from vng.errors import DataError, UsageError
from vng.points import PointPrompts

SOURCES = {
    "grid": "vng.propagators.proposal_sources:GridProposals",
    "colours": "vng.propagators.proposal_sources:ColourProposals",
    "mask2former": "vng.propagators.mask2former_proposals:Mask2FormerProposals",
    "detector": "vng.propagators.proposal_sources:DetectorProposals",
}


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The proposals of one image."""

    masks: np.ndarray  # bool [R, H, W]
    scores: np.ndarray  # float32 [R] in [0, 1], the source's own confidence
    maskness: np.ndarray  # float32 [R], the mean of the mask's probabilities over the image
    embeddings: np.ndarray | None = (
        None  # float32 [R, D], by which proposals of two frames are linked; None: by overlap
    )

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: np.ndarray | slice) -> Proposals:
        """The proposals selected by a mask, an index array or a slice."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Proposals(
            masks=self.masks[index], scores=self.scores[index], maskness=self.maskness[index], embeddings=embeddings
        )


class ProposalSource(Protocol):
    """The interface of a source."""

    def __call__(self, image: np.ndarray) -> Proposals:
        """image uint8 [H, W, 3] RGB -> its proposals."""
        ...


def load_source(name: str, **options: Any) -> ProposalSource:
    """A source by name with `options`; raises UsageError for an unknown name or option."""
    return make_engine(SOURCES, "source of proposals", name, options)


def without_repeats(proposals: Proposals, overlap: float, order: np.ndarray) -> Proposals:
    """The proposals in an order (int [R]), without those that overlap an earlier one by more than an IoU."""
    if not len(proposals):
        return proposals
    flat = proposals.masks.reshape(len(proposals), -1)[:, ::4].astype(np.float32)  # every fourth pixel is enough
    both = flat @ flat.T
    area = flat.sum(1)
    iou = both / np.maximum(area[:, None] + area - both, 1)
    kept: list[int] = []
    for i in order:
        if area[i] and not any(iou[i, j] > overlap for j in kept):
            kept.append(int(i))
    return proposals[np.array(kept, int)]


class GridProposals:
    """One click on each place of a grid, and of the masks those that differ: SAM's automatic masks, of any segmenter.

    Args:
        checkpoint: weights of the segmenter.
        segmenter: its name.
        side: clicks along the longer side of the image.
        most: proposals that are kept, the surest first.
        overlap: IoU above which a proposal repeats another.
        device: None: a GPU if there is one.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        segmenter: str = "embedded",
        side: int = 10,
        most: int = 40,
        overlap: float = 0.7,
        device: str | None = None,
    ) -> None:
        from vng.segmenters import load

        if side < 1:
            raise UsageError(f"side={side}: expected 1 or more clicks along the longer side")
        options: dict[str, Any] = {} if checkpoint is None else {"checkpoint": checkpoint}
        if segmenter != "classical":  # every click is an object of its own
            options["settings"] = {"negatives_of_others": "never"}
        self._segmenter = load(segmenter, device=device, **options)
        self._side, self._most, self._overlap = side, most, overlap

    def __call__(self, image: np.ndarray) -> Proposals:
        """See `ProposalSource`; the surest are those whose mask is most decided inside."""
        height, width = image.shape[:2]
        step = max(height, width) / self._side
        xs = np.arange(step / 2, width, step)
        ys = np.arange(step / 2, height, step)
        clicks = [PointPrompts(np.array([(x, y)]), np.empty((0, 2))) for y in ys for x in xs]
        probabilities = self._segmenter(image, clicks)
        masks = probabilities > 0.5
        inside = np.maximum(masks.sum((1, 2)), 1)
        score = (probabilities * masks).sum((1, 2)) / inside
        proposals = Proposals(masks=masks, scores=score.astype(np.float32), maskness=probabilities.mean((1, 2)))
        return without_repeats(proposals, self._overlap, np.argsort(-score, kind="stable"))[: self._most]


class ColourProposals:
    """Connected regions of like colour at several levels of detail: no weights, and rough.

    Args:
        colours: numbers of colours of the levels.
        least: share of the image that a region covers at least.
        most: regions that are kept, the largest first.
    """

    def __init__(self, colours: Sequence[int] = (4, 8, 16), least: float = 0.002, most: int = 60) -> None:
        self._colours, self._least, self._most = tuple(colours), least, most

    def __call__(self, image: np.ndarray) -> Proposals:
        """See `ProposalSource`."""
        lab = cv2.cvtColor(cv2.medianBlur(image, 5), cv2.COLOR_RGB2Lab)
        pixels = lab.reshape(-1, 3).astype(np.float32)
        masks = []
        for colours in self._colours:
            cv2.setRNGSeed(0)
            rule = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
            centres = cv2.kmeans(pixels[::7], colours, None, rule, 1, cv2.KMEANS_PP_CENTERS)[2]  # type: ignore[call-overload]
            nearest = np.linalg.norm(pixels[:, None] - centres, axis=2).argmin(1).reshape(lab.shape[:2])
            for colour in range(colours):
                count, regions = cv2.connectedComponents((nearest == colour).astype(np.uint8), connectivity=4)
                areas = np.bincount(regions.ravel(), minlength=count)
                masks += [regions == r for r in range(1, count) if areas[r] >= self._least * regions.size]
        stacked = np.array(masks, bool).reshape(-1, *image.shape[:2])
        size = stacked.mean((1, 2)).astype(np.float32)
        proposals = Proposals(masks=stacked, scores=np.ones(len(stacked), np.float32), maskness=size)
        return without_repeats(proposals, 0.9, np.argsort(-size, kind="stable"))[: self._most]


class DetectorProposals:
    """Boxes of a detector for a few general phrases; a segmenter that takes boxes turns them into masks.

    Args:
        checkpoint: weights of the segmenter.
        detector: its name. detector_checkpoint: its weights; None: its usual ones.
        segmenter: the name of one that takes boxes.
        phrases: what is looked for.
        device: None: a GPU if there is one.

    Raises:
        UsageError: a segmenter that does not take boxes.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        detector: str = "grounding-dino",
        detector_checkpoint: str | None = None,
        segmenter: str = "sam2",
        phrases: Sequence[str] = ("object", "person", "animal", "vehicle"),
        device: str | None = None,
    ) -> None:
        from vng.detectors import load as load_detector
        from vng.segmenters import load as load_segmenter

        options = {} if detector_checkpoint is None else {"checkpoint": detector_checkpoint}
        self._segmenter = load_segmenter(segmenter, checkpoint=checkpoint, device=device)
        if not self._segmenter.takes_boxes:
            raise UsageError(f"the segmenter {segmenter!r} takes no boxes; choose sam, sam2 or sam3")
        self._detector = load_detector(detector, **options)
        self._phrases = tuple(phrases)

    def __call__(self, image: np.ndarray) -> Proposals:
        """See `ProposalSource`."""
        found = self._detector(image, self._phrases)
        boxes = np.concatenate([detections.boxes for detections in found]).reshape(-1, 4)
        scores = np.concatenate([detections.scores for detections in found]).astype(np.float32)
        if not len(boxes):
            return Proposals(masks=np.zeros((0, *image.shape[:2]), bool), scores=scores, maskness=scores)
        prompts = [PointPrompts(np.empty((0, 2)), np.empty((0, 2)), box=box) for box in boxes]
        probabilities = self._segmenter(image, prompts)
        proposals = Proposals(
            masks=probabilities > 0.5, scores=scores, maskness=probabilities.mean((1, 2)).astype(np.float32)
        )
        return without_repeats(proposals, 0.8, np.argsort(-scores, kind="stable"))


def check_proposals(proposals: Proposals, size: tuple[int, int], source: str) -> Proposals:
    """The proposals; raises DataError where a source (of a user) gives masks of another size."""
    if proposals.masks.ndim != 3 or proposals.masks.shape[1:] != size:
        shape = list(proposals.masks.shape)
        raise DataError(
            source, field="proposals", reason=f"masks of shape {shape}", cure=f"give [R, {size[0]}, {size[1]}]"
        )
    return proposals
