"""Scores of video object segmentation: DAVIS 2016 and 2017, YouTube-VOS, Point-VOS (every decision: docs/protocols.md).

Predictions are palette PNGs `<results>/<video>/<frame>.png` whose pixels hold object numbers (`object_numbers`).
"""

from __future__ import annotations

import re

from vng.dataset import Video
from vng.errors import DataError

MAX_NUMBER = 254  # 0 is background, 255 is void


def object_numbers(video: Video) -> dict[str, int]:
    """Object id -> the pixel value that stands for it in predictions, in the dataset's order.

    The ids themselves where all are plain integers in 1..254 ("7", not "07": two ids never share a number); else 1, 2,
    ... in the dataset's order, and whoever writes predictions says so in `<results>/<video>/objects.json`.

    Raises:
        DataError: more objects than a PNG has numbers for.
    """
    ids = [item.object_id for item in video.objects]
    if all(re.fullmatch(r"[1-9][0-9]{0,2}", i) and int(i) <= MAX_NUMBER for i in ids):
        return {i: int(i) for i in ids}
    if len(ids) > MAX_NUMBER:
        reason = f"{len(ids)} objects, a PNG of object numbers holds {MAX_NUMBER}"
        raise DataError(video.dataset, video.video_id, "objects", reason, "split the video's objects over two rows")
    return {i: number for number, i in enumerate(ids, start=1)}
