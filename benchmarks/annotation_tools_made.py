"""Runs in the environment of the annotation tools: they write files, and read ours; see `benchmarks.annotation_tools`."""

# mypy: ignore-errors

import json
import shutil
import sys
import time
from pathlib import Path

import cv2
import datumaro
import numpy as np
import supervision
from label_studio_sdk._extensions.label_studio_tools.postprocessing.video import extract_key_frames
from label_studio_sdk.converter import brush
from labelme import utils as labelme_utils
from labelme._label_file import write_label_file
from labelme.utils.shape import shapes_to_label

T, K, H, W = 4, 2, 37, 53
NAMES = [f"{t:06d}" for t in range(T)]


def blob(seed):
    """A mask, bool [H, W], of three ellipses with a hole."""
    rng, mask = np.random.default_rng(seed), np.zeros((H, W), np.uint8)
    for _ in range(3):
        middle = (int(rng.integers(5, W - 5)), int(rng.integers(5, H - 5)))
        sides = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        cv2.ellipse(mask, middle, sides, int(rng.integers(0, 90)), 0, 360, 1, -1)
    cv2.circle(mask, middle, 1, 0, -1)
    return mask.astype(bool)


MASKS = np.array([[blob(10 * t + k) for k in range(K)] for t in range(T)])
NAMED = {f"{NAMES[t]}|o{k}": MASKS[t, k] for t in range(T) for k in range(K)}


def by_datumaro(folder):
    """CVAT for images, and COCO."""
    items = []
    for t in range(T):
        made = [
            datumaro.Mask(MASKS[t, k].astype(np.uint8), label=k, attributes={"object_id": f"o{k}"}) for k in range(K)
        ]
        media = datumaro.Image.from_numpy(data=np.zeros((H, W, 3), np.uint8))
        items.append(
            datumaro.DatasetItem(
                f"clip/{NAMES[t]}", subset="default", media=media, annotations=made, attributes={"frame": t}
            )
        )
    dataset = datumaro.Dataset.from_iterable(items, categories=["red", "green"])
    dataset.export(str(folder / "datumaro_cvat"), "cvat", save_media=True, allow_undeclared_attrs=True)
    dataset.export(str(folder / "datumaro_coco"), "coco_instances", save_media=False)
    for name in ("datumaro_cvat", "datumaro_coco"):
        np.savez(folder / f"{name}.npz", **NAMED)


def by_supervision(folder):
    """COCO; masks of several parts and with holes become RLE."""
    frames = folder / "frames"
    frames.mkdir()
    images, found = {}, {}
    for t in range(T):
        file = str(frames / f"{NAMES[t]}.png")
        cv2.imwrite(file, np.zeros((H, W, 3), np.uint8))
        images[file] = cv2.imread(file)
        xyxy = supervision.mask_to_xyxy(MASKS[t]).astype(np.float32)
        found[file] = supervision.Detections(xyxy=xyxy, mask=MASKS[t], class_id=np.arange(K))
    made = supervision.DetectionDataset(classes=["red", "green"], images=list(images), annotations=found)
    made.as_coco(annotations_path=str(folder / "supervision_coco.json"))
    tree = json.loads((folder / "supervision_coco.json").read_text())
    truth = {f"{NAMES[i // K]}|{item['id']}": MASKS[i // K, i % K] for i, item in enumerate(tree["annotations"])}
    np.savez(folder / "supervision_coco.npz", **truth)


def by_label_studio(folder):
    """Brushes, and the boxes of a video between key frames."""
    tasks = []
    for t in range(T):
        regions = [
            {
                "id": f"r{k}",
                "type": "brushlabels",
                "original_width": W,
                "original_height": H,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": brush.mask2rle(MASKS[t, k].astype(np.uint8) * 255),
                    "brushlabels": [f"o{k}"],
                },
            }
            for k in range(K)
        ]
        url = f"/data/local-files/?d=clip/{NAMES[t]}.png"
        tasks.append({"id": t, "data": {"image": url}, "annotations": [{"result": regions}]})
    (folder / "label_studio_brush.json").write_text(json.dumps(tasks))
    np.savez(folder / "label_studio_brush.npz", **NAMED)
    keys = [
        {"frame": 1, "enabled": True, "rotation": 0, "x": 10, "y": 20, "width": 20, "height": 30, "time": 0.0},
        {"frame": 3, "enabled": False, "rotation": 0, "x": 30, "y": 25, "width": 22, "height": 30, "time": 0.1},
        {"frame": 5, "enabled": True, "rotation": 0, "x": 40, "y": 25, "width": 22, "height": 30, "time": 0.2},
    ]
    value = {"framesCount": 8, "duration": 0.32, "sequence": keys, "labels": ["car"]}
    region = {"id": "v", "type": "videorectangle", "value": value}
    task = {"id": 1, "data": {"video": "film.mp4"}, "annotations": [{"result": [region]}]}
    (folder / "label_studio_video.json").write_text(json.dumps([task]))
    (full,) = extract_key_frames([region])
    boxes = {
        s["frame"] - 1: [s["x"], s["y"], s["x"] + s["width"], s["y"] + s["height"]] for s in full["value"]["sequence"]
    }
    (folder / "label_studio_boxes.json").write_text(json.dumps(boxes))


def by_labelme(folder):
    """Masks, polygons and circles."""
    rng, truth = np.random.default_rng(5), {}
    (folder / "labelme" / "clip").mkdir(parents=True)
    for t, name in enumerate(NAMES):
        rows, columns = np.where(MASKS[t, 0])
        x0, x1, y0, y1 = int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())
        middle = [float(rng.uniform(12, W - 12)), float(rng.uniform(12, H - 12))]
        outline = [[float(rng.uniform(0, W)), float(rng.uniform(0, H))] for _ in range(6)]
        patch = labelme_utils.img_arr_to_b64(MASKS[t, 0][y0 : y1 + 1, x0 : x1 + 1].astype(np.uint8))
        shapes = [
            {"label": "m", "points": [[x0, y0], [x1, y1]], "shape_type": "mask", "mask": patch},
            {"label": "p", "points": outline, "shape_type": "polygon", "mask": None},
            {
                "label": "c",
                "points": [middle, [middle[0] + 5.3, middle[1] + 2.1]],
                "shape_type": "circle",
                "mask": None,
            },
        ]
        shapes = [{"group_id": None, "flags": {}, "description": ""} | shape for shape in shapes]
        file = folder / "labelme" / "clip" / f"{name}.json"
        write_label_file(str(file), shapes=shapes, image_path=f"{name}.png", image_height=H, image_width=W)
        truth[f"{name}|m"] = MASKS[t, 0]
        for shape in shapes[1:]:
            truth[f"{name}|{shape['label']}"] = shapes_to_label((H, W), [shape], {"p": 1, "c": 1})[1] > 0
    np.savez(folder / "labelme.npz", **truth)


def counted(found, truth):
    """How many found masks of an image are among the true ones, of how many true ones: (image, mask) pairs."""
    right = 0
    for image, mask in found:
        right += any((mask == true).all() for key, true in truth.items() if key.startswith(f"{image}|"))
    return right, len(truth)


def reading_ours(folder):
    """Our files as the tools read them."""
    truth, ours = dict(np.load(folder / "ours.npz")), folder / "coco-images"
    layout = folder / "layout"  # that Datumaro wants
    (layout / "annotations").mkdir(parents=True)
    shutil.copy(ours / "train.json", layout / "annotations" / "instances_train.json")
    shutil.copytree(ours / "images", layout / "images" / "train")
    items = datumaro.Dataset.import_from(str(layout), "coco_instances")
    mask_type = datumaro.AnnotationType.mask
    masks = [(i.id, np.asarray(a.image).astype(bool)) for i in items for a in i.annotations if a.type == mask_type]
    kept = {"track_id" in a.attributes for i in items for a in i.annotations if a.type == mask_type}
    figures = {"our COCO read by datumaro": counted(masks, truth), "tracks kept by datumaro": (int(kept == {True}), 1)}
    loaded = supervision.DetectionDataset.from_coco(str(ours / "images"), str(ours / "train.json"), force_masks=True)
    masks = [
        (str(Path(file).relative_to(ours / "images").with_suffix("")), mask)
        for file, _, found in loaded
        for mask in found.mask
    ]
    figures["our COCO read by supervision"] = counted(masks, truth)
    file = next((folder / "cvat").glob("*.xml"))
    for name, place, kind in (
        ("our CVAT file read by datumaro", file, "cvat"),
        ("labelme's JSON read by datumaro", folder / "labelme" / "clip", "label_me"),
    ):
        try:
            figures[name] = (int(any(item.annotations for item in datumaro.Dataset.import_from(str(place), kind))), 1)
        except Exception as error:
            print(f"{name}: {error.__cause__ or error!r}", file=sys.stderr)
            figures[name] = (0, 1)
    start = time.perf_counter()
    boxes = [a for i in datumaro.Dataset.import_from(str(folder / "boxes.xml"), "cvat") for a in i.annotations]
    figures["seconds of 100,000 boxes of CVAT in datumaro"] = time.perf_counter() - start
    assert len(boxes) == 100_000
    (folder / "read.json").write_text(json.dumps(figures))


def main():
    """Write and read everything in the folder that is given."""
    folder = Path(sys.argv[1])
    for write in (by_datumaro, by_supervision, by_label_studio, by_labelme, reading_ours):
        write(folder)


if __name__ == "__main__":
    main()
