"""DAVIS clips at 240 rows, for benchmarks: frames, and one mask an object and frame."""

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
    """One clip: files of frames and annotations, scaled when read."""

    name: str
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [240, W, 3]."""
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        if image.shape[0] == ROWS:
            return image
        width = round(image.shape[1] * ROWS / image.shape[0])
        return cv2.resize(image, (width, ROWS), interpolation=cv2.INTER_AREA)

    def labels(self, index: int) -> np.ndarray:
        """Object ids, uint8 [240, W]."""
        labels = np.array(Image.open(self.annotations[index]))
        if labels.shape[0] == ROWS:
            return labels
        width = round(labels.shape[1] * ROWS / labels.shape[0])
        return cv2.resize(labels, (width, ROWS), interpolation=cv2.INTER_NEAREST)


def clips(root: Path = DEFAULT_ROOT) -> list[Clip]:
    """All clips below a folder in DAVIS's layout; raises DataError where there are none."""
    found = []
    for folder in sorted((root / "JPEGImages").glob("*/*/")):
        images = tuple(sorted(folder.glob("*.jpg")))
        masks = tuple(root / "Annotations" / folder.parent.name / folder.name / f"{p.stem}.png" for p in images)
        found.append(Clip(folder.name, images, masks))
    if not found:
        raise DataError(root, reason="no DAVIS clips here", cure="give a folder with JPEGImages/ and Annotations/")
    return found
