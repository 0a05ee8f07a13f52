"""A segmenter without learned weights: log-odds per superpixel, smoothed over the superpixel graph.

Method (ours). Once per image: superpixels (k-means in position and Lab, each pixel among its nine nearest grid cells),
their mean colour and texture, the adjacency graph, and the geodesic distance to the image border. Per object, the
log-odds of a superpixel are a sum of evidence:

* size: an object extends little beyond the hull of its positives, and less with more positives;
* geodesic distance to positives versus that to negatives (or to the border if there are none);
* colour: similarity to positives versus that to negatives, then to the first guess versus the rest;
* border: regions connected to the border are background, with less weight the more positives there are.

One sparse solve then smooths them, (area + Laplacian) z' = area * z, with the points fixed: a random walker with priors
(Grady, CVPR 2005) in log-odds. Other objects' positives count as negatives, except for mouse traces.
Boxes and masks of prompts are ignored.

The constants were tuned on DAVIS 2016 training clips; `benchmarks/segmenters.py` evaluates them on others.
Shapes: H x W image, S superpixels, K objects, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import splu

from vng.errors import one_of
from vng.points import OTHERS, PointPrompts, trim_trace
from vng.segmenters import Segmenter


@dataclass(frozen=True, kw_only=True)
class ClassicalSettings:
    """Weights and lengths of the evidence; lengths are pixels of an image of `work_area`, scaled for smaller ones."""

    work_area: int = 240 * 432  # pixels; larger images are scaled down to this area
    step: float = 9.0  # superpixel spacing
    min_step: float = 4.5  # pixels, in small images
    compactness: float = 10.0
    iterations: int = 4
    bias: float = 0.5
    beyond_hull: float = 4.0
    from_positive: float = 1.5
    least_size: float = 10.0
    size_of_one: float = 0.37  # expected extent around a single point, as a share of the image's side
    colour: float = 0.5
    colour_width: float = 7.0  # Lab units
    texture: float = 2.0
    floor: float = 3e-3  # added to similarities, so that logarithms stay finite
    first_guess: float = 0.3
    geodesic: float = 0.3
    geodesic_floor: float = 10.0
    geodesic_length: float = 0.3  # cost of a pixel relative to that of a Lab unit
    border: float = 0.9
    smoothness: float = 400.0
    edge: float = 4.0  # Lab units
    most: float = 6.0  # log-odds are clipped here before smoothing
    seed: float = 3.0  # log-odds of a point
    seed_weight: float = 100.0
    trace_weight: float = 10.0  # of a point of a mouse trace
    negatives_of_others: str = "points"  # other objects' positives as negatives: "points" (except traces) or "never"
    trace_keep: float = 0.73  # share of a mouse trace that lies on its object (VidLN, Sec. 3)

    def __post_init__(self) -> None:
        one_of(self.negatives_of_others, OTHERS, "negatives_of_others")


class ClassicalSegmenter(Segmenter):
    """The classical segmenter; see `vng.segmenters.Segmenter` for the call."""

    takes_boxes = False

    def __init__(self, settings: ClassicalSettings | None = None) -> None:
        self.settings = settings or ClassicalSettings()

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; an object without positives gets zeros."""
        height, width = image.shape[:2]
        result = np.zeros((len(prompts), height, width), np.float32)
        if not any(len(prompt.positive) for prompt in prompts):
            return result
        scale = min(1.0, (self.settings.work_area / (height * width)) ** 0.5)
        small = image
        if scale < 0.95:
            size = (max(8, round(width * scale)), max(8, round(height * scale)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        graph = SuperpixelGraph(small, self.settings)
        to_small = np.array([small.shape[1] / width, small.shape[0] / height])
        cleaned = [self._clean(prompt) for prompt in prompts]
        for k, prompt in enumerate(prompts):
            if not len(cleaned[k]):
                continue
            # Traces are imprecise and named objects overlap (a man, his costume), so other positives are not negatives.
            alone = prompt.trace or self.settings.negatives_of_others == "never"
            others = [] if alone else [points for i, points in enumerate(cleaned) if i != k]
            negative = np.concatenate([prompt.negative, *others])
            hold = self.settings.trace_weight if prompt.trace else self.settings.seed_weight
            odds = self._object(graph, cleaned[k] * to_small, negative * to_small, hold)
            mask = graph.to_pixels(odds)
            result[k] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        return result

    def _clean(self, prompt: PointPrompts) -> np.ndarray:
        """Positives [P, 2]; of a trace, the share nearest its median, thinned out."""
        if not prompt.trace:
            return prompt.positive
        kept = trim_trace(prompt.positive, self.settings.trace_keep)
        return kept[:: max(1, len(kept) // 30)]

    def _object(self, graph: SuperpixelGraph, positive: np.ndarray, negative: np.ndarray, hold: float) -> np.ndarray:
        """Probability of each superpixel, float64 [S]."""
        s = self.settings
        on, off = graph.at(positive), graph.at(negative)
        odds = s.bias + self._size_prior(graph, positive)
        to_off = graph.geodesic(off) if len(off) else graph.to_border
        odds += s.geodesic * np.log(
            (to_off + graph.scaled(s.geodesic_floor)) / (graph.geodesic(on) + graph.scaled(s.geodesic_floor))
        )
        odds += s.border / len(positive) * np.minimum(graph.to_border / graph.scaled(30), 3)
        like_off = graph.similarity[:, off].mean(1) if len(off) else 0.0
        odds += s.colour * np.log((graph.similarity[:, on].mean(1) + s.floor) / (like_off + s.floor))
        odds += s.first_guess * self._first_guess(graph, odds, on, off)
        odds, weight = np.clip(odds, -s.most, s.most), np.maximum(graph.area, 1.0)
        odds[off], odds[on] = -s.seed, s.seed
        weight[np.union1d(on, off)] *= hold
        system = (graph.laplacian + sparse.diags(weight)).tocsc()
        solved = splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(weight * odds)
        return 1 / (1 + np.exp(-solved))

    def _size_prior(self, graph: SuperpixelGraph, positive: np.ndarray) -> np.ndarray:
        s = self.settings
        hull = cv2.convexHull(positive.astype(np.float32))
        one = s.size_of_one**2 * graph.pixels / len(positive)
        size = np.sqrt(cv2.contourArea(hull) + graph.scaled(s.least_size) ** 2 + one)
        filled = np.zeros((graph.height + 2, graph.width + 2), np.uint8)  # padded, so that there is always an outside
        cv2.fillConvexPoly(filled, np.rint(hull).astype(np.int32) + 1, 1)
        column, row = np.rint(graph.centre).astype(int).T + 1
        outside = cv2.distanceTransform(1 - filled, cv2.DIST_L2, 5)[row, column]
        beyond = outside - cv2.distanceTransform(filled, cv2.DIST_L2, 5)[row, column]  # negative within the hull
        nearest = np.linalg.norm(graph.centre[:, None] - positive[None], axis=-1).min(1)
        return -(s.beyond_hull * beyond + s.from_positive * nearest) / size

    def _first_guess(self, graph: SuperpixelGraph, odds: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
        s = self.settings
        guess = odds.copy()
        guess[off], guess[on] = -2 * s.seed, 2 * s.seed
        inside = 1 / (1 + np.exp(-np.clip(guess, -30, 30)))
        shares = np.stack([inside, 1 - inside], 1) * graph.area[:, None]
        like = graph.similarity @ (shares / np.maximum(shares.sum(0), 1e-9)).astype(np.float32)
        return np.log((like[:, 0] + s.floor) / (like[:, 1] + s.floor))


class SuperpixelGraph:
    """Superpixels of one image, with all their features that do not depend on objects.

    Attributes:
        centre: float32 [S, 2], (x, y). area: float64 [S], pixels. similarity: float [S, S] in (0, 1].
        laplacian: sparse [S, S], smoothness between adjacent superpixels. to_border: float [S], geodesic.
    """

    def __init__(self, image: np.ndarray, settings: ClassicalSettings) -> None:
        self.settings = settings
        height, width = image.shape[:2]
        self.height, self.width, self.pixels = height, width, height * width
        self._scale = (self.pixels / settings.work_area) ** 0.5
        blurred = cv2.GaussianBlur(image, (0, 0), 0.7).astype(np.float32) / 255
        lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab)
        self._segment(lab)
        self._describe(lab)
        self._connect()
        frame = np.concatenate([self.label[0], self.label[-1], self.label[:, 0], self.label[:, -1]])
        self.to_border = self.geodesic(frame)
        features = (self._features / (2**0.5 * settings.colour_width)).astype(np.float32)
        squared = (features**2).sum(1)
        distance = squared[:, None] + squared - 2 * features @ features.T
        self.similarity = np.exp(-np.maximum(distance, 0))

    def scaled(self, length: float) -> float:
        """A length of the settings in this image's pixels."""
        return length * min(1.0, self._scale)

    def _segment(self, lab: np.ndarray) -> None:
        """k-means over (Lab, position); each pixel chooses among its nine nearest grid cells."""
        s = self.settings
        step = max(s.min_step, self.scaled(s.step))
        rows, columns = max(3, round(self.height / step)), max(3, round(self.width / step))
        count = rows * columns
        y, x = (axis.ravel() for axis in np.mgrid[: self.height, : self.width])
        weight = s.compactness / step
        values = np.concatenate([lab.reshape(-1, 3), np.stack([x, y], 1) * weight], 1).astype(np.float32)
        row, column = y * rows // self.height, x * columns // self.width
        label = row * columns + column
        row, column = np.clip(row, 1, rows - 2), np.clip(column, 1, columns - 2)
        near = np.stack([(row + a) * columns + column + b for a in (-1, 0, 1) for b in (-1, 0, 1)]).astype(np.int32)
        means = np.zeros((count, 5), np.float32)
        distance = np.empty(near.shape, np.float32)
        for _ in range(s.iterations):
            self._update_means(means, values, label)
            for candidate in range(9):
                difference = values - means[near[candidate]]
                distance[candidate] = np.einsum("ij,ij->i", difference, difference)
            label = near[distance.argmin(0), np.arange(len(label))]
        self._update_means(means, values, label)
        # Soft membership maps values back to pixels: outlines follow colour more finely than superpixels.
        soft = np.exp(-(distance - distance.min(0)) / (0.2 * s.compactness**2))
        soft /= soft.sum(0)
        starts = np.arange(0, 9 * self.pixels + 1, 9)
        self._soft = sparse.csr_matrix((soft.T.ravel(), near.T.ravel(), starts), (self.pixels, count))
        self.label = label.reshape(self.height, self.width)
        self.area = np.bincount(label, minlength=count).astype(np.float64)
        self.centre, self._lab = means[:, 3:] / weight, means[:, :3]

    @staticmethod
    def _update_means(means: np.ndarray, values: np.ndarray, label: np.ndarray) -> None:
        area = np.bincount(label, minlength=len(means))
        filled = area > 0
        for channel in range(values.shape[1]):
            total = np.bincount(label, values[:, channel], len(means))
            means[filled, channel] = total[filled] / area[filled]

    def _describe(self, lab: np.ndarray) -> None:
        """Compute features float [S, 4]: mean Lab and local standard deviation of lightness."""
        light, width = lab[..., 0], max(1.0, self.scaled(3.0))
        mean = cv2.GaussianBlur(light, (0, 0), width)
        spread = np.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), width) - mean * mean, 0))
        texture = np.bincount(self.label.ravel(), spread.ravel(), len(self.area)) / np.maximum(self.area, 1)
        self._features = np.concatenate([self._lab, self.settings.texture * texture[:, None]], 1)

    def _connect(self) -> None:
        s, label, count = self.settings, self.label, len(self.area)
        beside = (label[:, 1:], label[:, :-1]), (label[1:], label[:-1])
        pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in beside])
        pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1)
        unique, shared = np.unique(pairs[:, 0] * count + pairs[:, 1], return_counts=True)
        i, j = unique // count, unique % count
        contrast = np.linalg.norm(self._lab[i] - self._lab[j], axis=1)
        length = np.linalg.norm(self.centre[i] - self.centre[j], axis=1)

        def symmetric(values: np.ndarray) -> sparse.csr_matrix:
            half = sparse.csr_matrix((values, (i, j)), (count, count))
            return (half + half.T).tocsr()

        # Scaled, so that costs do not depend on the size of the image.
        self._cost = symmetric(self.scaled(1.0) * contrast + s.geodesic_length * length)
        strength = s.smoothness * self.scaled(1.0) * shared * np.exp(-(contrast**2) / (2 * s.edge**2))
        affinity = symmetric(strength)
        self.laplacian = sparse.diags(np.asarray(affinity.sum(1)).ravel()) - affinity

    def geodesic(self, seeds: np.ndarray) -> np.ndarray:
        """Distance float [S] from the nearest of some superpixels, along the graph."""
        return np.minimum(dijkstra(self._cost, False, np.unique(seeds), min_only=True), 1e3)

    def at(self, points: np.ndarray) -> np.ndarray:
        """The superpixel under each point [P, 2]; points outside use the nearest pixel of the image."""
        column = np.clip(np.rint(points[:, 0]), 0, self.width - 1).astype(int)
        row = np.clip(np.rint(points[:, 1]), 0, self.height - 1).astype(int)
        return self.label[row, column]

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Values [S] -> float32 [H, W] by soft membership."""
        return (self._soft @ values).reshape(self.height, self.width).astype(np.float32)
