"""DAVIS clips scaled to 240 rows, for benchmarks: frames and label maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vng.errors import DataError

DEFAULT_ROOT = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "davis_val"
ROWS = 240


@dataclass(frozen=True)
class Clip:
    """One clip: the files of its frames and annotations, read and scaled on request."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def frame(self, index: int) -> np.ndarray:
        """A frame, RGB uint8 [240, W, 3]."""
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        if image.shape[0] == ROWS:
            return image
        width = round(image.shape[1] * ROWS / image.shape[0])
        return cv2.resize(image, (width, ROWS), interpolation=cv2.INTER_AREA)

    def labels(self, index: int) -> np.ndarray:
        """The label map of a frame, uint8 [240, W]."""
        labels = np.array(Image.open(self.annotations[index]))
        if labels.shape[0] == ROWS:
            return labels
        width = round(labels.shape[1] * ROWS / labels.shape[0])
        return cv2.resize(labels, (width, ROWS), interpolation=cv2.INTER_NEAREST)


def clips(root: Path = DEFAULT_ROOT) -> list[Clip]:
    """All clips of a folder in the DAVIS layout, by name; raises DataError where there are none."""
    result = []
    for folder in sorted((root / "JPEGImages").glob("*/*/")):
        images = tuple(sorted(folder.glob("*.jpg")))
        masks = tuple(root / "Annotations" / folder.parent.name / folder.name / f"{p.stem}.png" for p in images)
        result.append(Clip(folder.name, images, masks))
    if not result:
        raise DataError(root, reason="no DAVIS clips here", cure="give a folder with JPEGImages/ and Annotations/")
    return result
