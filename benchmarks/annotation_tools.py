"""Files of annotation tools: what they write is read here, what is written here is read by them, pixel for pixel.

    python3 -m venv tools && tools/bin/pip install datumaro supervision label-studio-sdk labelme
    python -m benchmarks.annotation_tools --python tools/bin/python [--json FILE]

The tools run in their own environment, where `benchmarks/annotation_tools_made.py` is all that they need of this project.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRACKS, FRAMES = 100, 1000  # of the file of boxes that is timed
BOX = '<box frame="{0}" outside="0" occluded="0" keyframe="1" xtl="{1}" ytl="20" xbr="{2}" ybr="90"></box>'


def equal_masks(clips: Iterator[Any], truth: dict[str, Any]) -> tuple[int, int]:
    """How many masks of a file's clip are those of the truth ("frame|object" -> bool [H, W]), of how many."""
    from vng.masks import decode

    (clip,) = clips
    found = {f"{m.frame}|{o.object_id}": decode(m.mask) for o in clip.objects for m in o.masks if m.mask is not None}
    return sum(key in found and bool((found[key] == mask).all()) for key, mask in truth.items()), len(truth)


def theirs(folder: Path) -> dict[str, Any]:
    """Objects that are read right in each file that a tool wrote."""
    import numpy as np

    from conversion.formats.coco_images import read_coco_images
    from conversion.formats.cvat import read_cvat
    from conversion.formats.label_studio import read_label_studio
    from conversion.formats.labelme import read_labelme

    files = {
        "datumaro_cvat": (read_cvat, "datumaro_cvat/default.xml"),
        "datumaro_coco": (read_coco_images, "datumaro_coco/annotations/instances_default.json"),
        "supervision_coco": (read_coco_images, "supervision_coco.json"),
        "label_studio_brush": (read_label_studio, "label_studio_brush.json"),
        "labelme": (read_labelme, "labelme"),
    }
    results: dict[str, Any] = {}
    for name, (reader, file) in files.items():
        truth = dict(np.load(folder / f"{name}.npz"))
        results[f"{name} read here"] = equal_masks(reader(folder / file, lambda _: None), truth)
    (clip,) = read_label_studio(folder / "label_studio_video.json", lambda _: None)
    ours = {str(box.frame): box.corners for box in clip.objects[0].boxes}
    boxes = json.loads((folder / "label_studio_boxes.json").read_text())
    right = sum(frame in ours and np.allclose(ours[frame], box) for frame, box in boxes.items())
    return results | {"label_studio_video read here": (int(right), len(boxes))}


def write_ours(folder: Path) -> None:
    """Our exports of the small world, with their masks, and a large file of boxes."""
    import numpy as np

    import conversion
    from benchmarks.small_world import write_small_world
    from vng.dataset import VngDataset
    from vng.masks import area, decode

    write_small_world(folder / "world")
    given = {"masks": folder / "world" / "vis.json", "frames": folder / "world" / "frames"}
    conversion.convert("youtube-vis", folder / "data", progress=False, **given)
    truth = {}
    for video in VngDataset(folder / "data"):
        for item in video.objects:
            for name, rle in zip(video.frame_names, item.segmentations, strict=True):
                if rle is not None and area(rle):
                    truth[f"{video.video_id}/{name}|{item.object_id}"] = decode(rle)
    np.savez(folder / "ours.npz", **truth)  # type: ignore[arg-type]
    for name in ("cvat", "coco-images"):
        conversion.export(folder / "data", name, folder / name, with_frames=True, progress=False)
    size = "<original_size><width>854</width><height>480</height></original_size>"
    label = "<labels><label><name>car</name><attributes></attributes></label></labels>"
    head = f"<meta><task><name>c</name><size>{FRAMES}</size>{label}{size}</task></meta>"
    boxes = "".join(BOX.format(t, t / 10, t / 10 + 60) for t in range(FRAMES))
    tracks = "".join(f'<track id="{k}" label="car">{boxes}</track>' for k in range(TRACKS))
    (folder / "boxes.xml").write_text(f"<annotations>{head}{tracks}</annotations>", encoding="utf-8")


def main() -> int:
    """Run, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with the tools")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    script = Path(__file__).with_name("annotation_tools_made.py")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_ours(folder)
        ended = subprocess.run([arguments.python, script, folder], capture_output=True, text=True)
        print(ended.stderr[-3000:], file=sys.stderr)
        if ended.returncode:
            return 1
        figures = theirs(folder) | json.loads((folder / "read.json").read_text())
        from conversion.formats.cvat import read_cvat

        start = time.perf_counter()
        (clip,) = read_cvat(folder / "boxes.xml", print)
        assert sum(len(item.boxes) for item in clip.objects) == TRACKS * FRAMES
        figures["seconds of 100,000 boxes of CVAT here"] = time.perf_counter() - start
    flat: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, float):
            print(f"{name:48} {value:.1f}")
            flat[name] = value
        else:
            print(f"{name:48} {value[0]} of {value[1]}")
            flat |= {name: value[0], f"{name}, of": value[1]}
    if arguments.json:
        arguments.json.write_text(json.dumps(flat, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
