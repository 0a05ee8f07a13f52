"""Videos as `supervision.Detections`, one for each frame: for that package's annotators, metrics and trackers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from vng.dataset import Video
from vng.errors import UsageError
from vng.masks import area, bounding_box, decode_many

if TYPE_CHECKING:
    import supervision


def detections(video: Video) -> Iterator[tuple[str, supervision.Detections]]:
    """The objects of each frame of a video.

    An object is a detection in the frames in which its mask has a pixel. Where it is absent there is none; a frame in which
    no object is annotated is left out. In a frame where others are, an object that is not annotated is missing as well:
    `Detections` cannot tell that from absence, which `VideoObject.segmentations` does.

    Yields:
        name of the frame, and K detections: `xyxy` float32 [K, 4] in pixel edges, `mask` bool [K, H, W], `tracker_id` int
        [K] (from 1, in the order of the objects), `class_id` int [K] (of names in the order in which the video has them),
        `data["object_id"]` and `data["class_name"]`, str [K].

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UsageError("detections need the package `supervision`: pip install 'vng[import]'") from error
    classes = {name: number for number, name in enumerate(dict.fromkeys(item.name for item in video.objects))}
    for index, name in enumerate(video.frame_names):
        rles = [item.segmentations[index] for item in video.objects]
        if all(rle is None for rle in rles):
            continue
        there = [k for k, rle in enumerate(rles) if rle is not None and area(rle)]
        chosen = [rle for rle in rles if rle is not None and area(rle)]
        boxes = np.array([bounding_box(rle) for rle in chosen], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = decode_many(chosen) if chosen else np.zeros((0, video.height, video.width), bool)
        objects = [video.objects[k] for k in there]
        yield (
            name,
            supervision.Detections(
                xyxy=boxes,
                mask=masks,
                class_id=np.array([classes[item.name] for item in objects], int),
                tracker_id=np.array(there, int) + 1,
                data={
                    "object_id": np.array([item.object_id for item in objects], str),
                    "class_name": np.array([item.name for item in objects], str),
                },
            ),
        )
