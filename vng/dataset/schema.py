"""The columns of a VNG dataset, as Arrow has them and as `datasets` has them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features


@lru_cache(maxsize=1)
def arrow_schema() -> pa.Schema:
    """The schema as Arrow has it: one row is one video, images are {bytes, path}."""
    import pyarrow as pa

    string, int32, float32 = pa.string(), pa.int32(), pa.float32()
    point = {"frame": int32, "x": float32, "y": float32, "label": pa.int8()}
    quality = {
        "point_agreement": float32,  # share of held-out points on the right side; null without held-out points
        "n_points": int32,  # verified points of the object, including held-out ones; 0 for a trace
        "n_held_out": int32,
        "mask_area": float32,  # mean share of the frame; null if all masks are empty
        "stability": float32,  # mean ratio of smaller to larger area of consecutive masks; null for fewer than two
        "conflict": float32,  # mean share of a mask that other objects' masks also cover; null where not measured
        "link": string,  # how nouns were linked to the object: "name", "name+trace"; "" where the source links them
    }
    segmentation = {"size": pa.list_(int32), "counts": string}
    objects = {
        "object_id": string,
        "name": string,
        "source": string,
        "quality": _record(quality),
        "segmentations": pa.list_(_record(segmentation)),
        "points": pa.list_(_record(point)),
    }
    expression = {"narrative": int32, "start": int32, "end": int32, "object_id": string}
    columns = {
        "video_id": string,
        "dataset": string,
        "split": string,
        "height": int32,
        "width": int32,
        "fps": float32,
        "frame_names": pa.list_(string),
        "frames": pa.list_(_record({"bytes": pa.binary(), "path": string})),
        "frames_path": string,
        "narratives": pa.list_(_record({"actor_name": string, "description": string})),
        "expressions": pa.list_(_record(expression)),
        "objects": pa.list_(_record(objects)),
    }
    return pa.schema(list(columns.items()))


def _record(fields: dict[str, pa.DataType]) -> pa.StructType:
    import pyarrow as pa

    return pa.struct(list(fields.items()))


@lru_cache(maxsize=1)
def features() -> Features:
    """The schema as `datasets.Features`, with frames as images."""
    from datasets import Features, Image, List

    return Features({**Features.from_arrow_schema(arrow_schema()), "frames": List(Image())})
