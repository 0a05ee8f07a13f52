"""Still images with masks as DAVIS folders, each image a clip of one frame, for `vng convert davis`.

`python -m benchmarks.static_images --root ../shared/data/static --out FOLDER` writes FOLDER/ecssd and FOLDER/coco128.
ECSSD: one salient object an image. COCO128: all instances, small ones in front of large ones; crowds are not annotated
(255). Images are scaled to at most `SHORT_SIDE` rows or columns on the short side.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from vng.label_maps import label_map_png

SHORT_SIDE = 300
LEAST_AREA = 60  # pixels of the scaled image; smaller instances are not annotated


def write_clip(root: Path, name: str, image: np.ndarray, labels: np.ndarray) -> None:
    """One clip of one frame: image uint8 [H, W, 3] BGR, labels uint8 [H, W]."""
    factor = min(1.0, SHORT_SIDE / min(labels.shape))
    size = (round(labels.shape[1] * factor), round(labels.shape[0] * factor))
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "240p" / name).mkdir(parents=True, exist_ok=True)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(root / "JPEGImages" / "240p" / name / "00000.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    (root / "Annotations" / "240p" / name / "00000.png").write_bytes(label_map_png(labels))


def ecssd(root: Path, out: Path) -> None:
    """The salient object of each image."""
    for path in tqdm(sorted((root / "images").glob("*.jpg")), desc="ecssd", unit="image"):
        mask = cv2.imread(str(root / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        image = cv2.imread(str(path))
        assert mask is not None and image is not None
        write_clip(out, path.stem, image, (mask > 127).astype(np.uint8))


def coco(root: Path, out: Path) -> None:
    """The instances of each image."""
    tree = json.loads((root / "instances.json").read_text())
    by_image: dict[int, list[dict]] = {}
    for annotation in tree["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for info in tqdm(tree["images"], desc="coco128", unit="image"):
        image = cv2.imread(str(root / "images" / info["file_name"]))
        assert image is not None
        labels = np.zeros(image.shape[:2], np.uint8)
        factor = min(1.0, SHORT_SIDE / min(labels.shape)) ** 2
        drawn = sorted(by_image.get(info["id"], ()), key=lambda a: (not a["iscrowd"], -a["area"]))
        number = 0
        for annotation in drawn:
            mask = _mask(annotation["segmentation"], *labels.shape)
            if annotation["iscrowd"] or annotation["area"] * factor < LEAST_AREA:
                labels[mask] = 255
                continue
            number += 1
            labels[mask] = number
        if number:
            write_clip(out, Path(info["file_name"]).stem, image, labels)


def _mask(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    parts = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(coco_mask.merge(parts) if isinstance(parts, list) else parts) > 0


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/static"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    ecssd(arguments.root / "ecssd", arguments.out / "ecssd")
    coco(arguments.root / "coco128", arguments.out / "coco128")


if __name__ == "__main__":
    main()
