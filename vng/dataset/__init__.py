"""The one dataset schema: rows as typed records (`Video`), and datasets on disk or on the hub (`VngDataset`)."""

from vng.dataset.linked_frames import FRAME_INDEX
from vng.dataset.reader import (
    CARD,
    DATA_FOLDER,
    MANIFEST,
    PARTIAL,
    SHARD_NAME,
    VngDataset,
    as_dataset,
    check_datasets,
)
from vng.dataset.schema import arrow_schema, features
from vng.dataset.video import (
    MEASURES,
    Quality,
    Video,
    VideoObject,
    read_expressions,
    read_narratives,
    reference_frame,
    video_from_row,
)

__all__ = [
    "CARD",
    "DATA_FOLDER",
    "FRAME_INDEX",
    "MANIFEST",
    "MEASURES",
    "PARTIAL",
    "SHARD_NAME",
    "Quality",
    "Video",
    "VideoObject",
    "VngDataset",
    "arrow_schema",
    "as_dataset",
    "check_datasets",
    "features",
    "read_expressions",
    "read_narratives",
    "reference_frame",
    "video_from_row",
]
