"""Published point records."""

from __future__ import annotations

from conversion.formats.point_vos import AnnotatedPoint, PointRecord
from vng.points import NEGATIVE, POSITIVE


def record(
    key: str, video: str | None = "train/v", positives: int = 2, negatives: int = 1, name: str = "é ball"
) -> PointRecord:
    """Positives spread over frames 0, 7, 14, ... of one each; negatives all in frame 0."""
    points = [AnnotatedPoint(3 + i, 5, f"{7 * (i % 10):06d}", POSITIVE, True) for i in range(positives)]
    points += [AnnotatedPoint(3 + i, 9, "000000", NEGATIVE) for i in range(negatives)]
    return PointRecord(
        key=key, object_name=name, video_name=video, points=tuple(points), question=None, question_hash="h" * 32
    )
