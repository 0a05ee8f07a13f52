"""Interactive segmentation of all objects of an image, with simulated clicks (protocol of DynaMITe, ICCV 2023, Sec. 4).

Each object gets a click in its middle. Then, until every object reaches the target IoU or 10 clicks per object are
spent, a strategy chooses an object below the target, and the deepest place of its error is clicked.
Shapes: K objects, H x W image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vng.errors import one_of
from vng.masks import depth
from vng.points import BACKGROUND, Click

Predict = Callable[[Sequence[Click]], np.ndarray]  # all clicks so far -> bool [K, H, W]

RADIUS = 5  # pixels around a click in which no other click is placed
STRATEGIES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "worst": lambda iou, rng: np.argsort(iou, kind="stable"),
    "best": lambda iou, rng: np.argsort(-iou, kind="stable"),
    "random": lambda iou, rng: rng.permutation(len(iou)),
}


@dataclass(frozen=True)
class Interaction:
    """Clicks spent to segment one image, and the IoU reached."""

    clicks: tuple[Click, ...]
    iou: np.ndarray  # float64 [K], at the end


@dataclass(frozen=True)
class InteractiveScores:
    """Scores over images; the names are the paper's."""

    nci: float  # clicks per object, averaged over images
    nfo: int  # objects below the threshold at the end
    nfi: int  # images with such an object
    mean_iou: float  # averaged over an image's objects, then over images


def first_clicks(truth: np.ndarray) -> list[Click]:
    """One click at the deepest place of each mask; bool [K, H, W], none empty."""
    return [_deepest(depth(mask), k, k) for k, mask in enumerate(truth)]


def next_click(
    predicted: np.ndarray, truth: np.ndarray, chosen: int, clicks: Sequence[Click], radius: float = RADIUS
) -> Click | None:
    """A click at the deepest error of one object, for the object at that place; None where no place is left.

    Missed pixels are used if they are strictly deeper than wrong ones. Discs around earlier clicks are excluded.

    Args:
        predicted, truth: bool [K, H, W].
        chosen: index of the object.
        clicks: the clicks so far.
        radius: radius of the discs in pixels.
    """
    y, x = np.mgrid[: truth.shape[1], : truth.shape[2]]
    free = np.ones(truth.shape[1:], bool)
    for click in clicks:
        free &= (y - click.y) ** 2 + (x - click.x) ** 2 > radius**2
    missed = depth(truth[chosen] & ~predicted[chosen]) * free
    wrong = depth(predicted[chosen] & ~truth[chosen]) * free
    error = missed if missed.max() > wrong.max() else wrong
    if not error.any():
        return None
    deepest = _deepest(error, len(clicks), BACKGROUND)
    owners = truth[:, int(deepest.y), int(deepest.x)]
    return Click(deepest.y, deepest.x, deepest.time, int(owners.argmax()) if owners.any() else BACKGROUND)


def _deepest(value: np.ndarray, time: int, owner: int) -> Click:
    """A click on the maximum of a map [H, W], the first one where there are several."""
    row, column = np.unravel_index(int(value.argmax()), value.shape)
    return Click(int(row), int(column), time, owner)


def interact(
    predict: Predict,
    truth: np.ndarray,
    strategy: str = "worst",
    threshold: float = 0.85,
    most: int = 10,
    rng: np.random.Generator | None = None,
) -> Interaction:
    """Segment an image by simulated clicks.

    Args:
        predict: called after each click.
        truth: bool [K, H, W], K >= 1, none empty, without overlaps.
        strategy: which object below the threshold is clicked: "worst", "best" or "random".
        threshold: the IoU that every object should reach.
        most: maximal number of clicks per object, on average.
        rng: for "random"; None: a fixed seed.

    Raises:
        UsageError: an unknown strategy.
        ValueError: masks that are empty or overlap.
    """
    order = STRATEGIES[one_of(strategy, STRATEGIES, "strategy")]
    truth = np.asarray(truth, bool)
    if not len(truth) or not truth.any((1, 2)).all() or truth.sum(0).max() > 1:
        raise ValueError(f"truth {list(truth.shape)}: expected at least one mask, none empty, without overlaps")
    rng = rng or np.random.default_rng(0)
    clicks = first_clicks(truth)
    predicted = _checked_prediction(predict, clicks, truth)
    iou = _iou(predicted, truth)
    while len(clicks) < most * len(truth) and (iou < threshold).any():
        below = [int(k) for k in order(iou, rng) if iou[k] < threshold]
        click = next((c for k in below if (c := next_click(predicted, truth, k, clicks)) is not None), None)
        if click is None:
            break
        clicks.append(click)
        predicted = _checked_prediction(predict, clicks, truth)
        iou = _iou(predicted, truth)
    return Interaction(tuple(clicks), iou)


def _checked_prediction(predict: Predict, clicks: Sequence[Click], truth: np.ndarray) -> np.ndarray:
    predicted = np.asarray(predict(tuple(clicks)), bool)
    if predicted.shape != truth.shape:
        raise ValueError(f"the prediction has shape {list(predicted.shape)}, the truth {list(truth.shape)}")
    return predicted


def _iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of each object, float64 [K]."""
    return (predicted & truth).sum((1, 2)) / (predicted | truth).sum((1, 2))


def score(interactions: Sequence[Interaction], threshold: float = 0.85) -> InteractiveScores:
    """Scores of at least one image."""
    if not interactions:
        raise ValueError("scores need at least one image")
    failed = [int((interaction.iou < threshold).sum()) for interaction in interactions]
    return InteractiveScores(
        nci=float(np.mean([len(interaction.clicks) / len(interaction.iou) for interaction in interactions])),
        nfo=sum(failed),
        nfi=sum(count > 0 for count in failed),
        mean_iou=float(np.mean([interaction.iou.mean() for interaction in interactions])),
    )
