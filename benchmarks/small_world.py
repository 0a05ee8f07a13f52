"""Two small videos in every published format that `vng` reads: for the fixed outputs, for fuzzing, and for tests.

A red box moves to the right, a green one stands still. Sizes all differ (4 frames of 24 x 40 pixels, 2 objects), so that a
swapped axis is seen. `python -m benchmarks.small_world DIR` writes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vng.masks import encode

T, H, W = 4, 24, 40
VIDEOS = ("dusk", "dawn 2")
NAMES = [f"{t:06d}" for t in range(T)]
CAPTION = "A red box next to a green box."
SPANS = ((6, 9), (26, 29))  # "box" and "box"
RED, GREEN = (200, 40, 40), (30, 200, 40)
CATEGORIES = [{"id": 1, "name": "red box", "isthing": 1}, {"id": 2, "name": "green box", "isthing": 1}]


def mask(frame: int, obj: int) -> np.ndarray:
    """The true mask of an object, bool [H, W]; object 0 moves, object 1 stands."""
    result = np.zeros((H, W), bool)
    if obj == 0:
        result[5:15, 4 + frame : 14 + frame] = True
    else:
        result[9:20, 24:33] = True
    return result


def image(frame: int) -> np.ndarray:
    """A frame, RGB uint8 [H, W, 3]."""
    result = np.full((H, W, 3), 90, np.uint8)
    result += (np.arange(W, dtype=np.uint8) % 8)[None, :, None]
    result[mask(frame, 0)] = RED
    result[mask(frame, 1)] = GREEN
    return result


def labels(frame: int) -> np.ndarray:
    """A label map, uint8 [H, W]: 1 and 2."""
    return (mask(frame, 0) + 2 * mask(frame, 1)).astype(np.uint8)


def write_small_world(root: Path) -> None:
    """Write everything below `root`, a new folder."""
    root.mkdir(parents=True, exist_ok=True)
    for video in VIDEOS:
        _write_frames(root / "frames" / video, NAMES)
    _write_vidln(root)
    _write_points(root)
    _write_trio(root)
    _write_vis(root)
    _write_vos_folders(root)
    _write_referring(root)
    _write_vicas(root)
    _write_coco_png(root)
    _write_prompts(root)
    _write_own_clips(root)
    _write_tools(root)


def _json(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")


def _write_frames(folder: Path, names: list[str], suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}{suffix}"), image(frame)[:, :, ::-1])


def _rle(frame: int, obj: int) -> dict[str, Any]:
    return encode(mask(frame, obj)).as_dict()


def _write_labels(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 0, *RED, *GREEN] + [0] * (253 * 3))
    picture.save(path)


def _write_own_clips(root: Path) -> None:
    first, second = VIDEOS[:2]
    points = [[0, 5, 6], ["000001", 30, 20, "negative"], {"frame": 1, "x": 7, "y": 6, "label": "positive"}]
    clips = [
        {"video": f"frames/{first}", "narrative": "A [box](a) and [disc](b).", "objects": {"a": {"points": points}}},
        {
            "video": f"frames/{second}",
            "id": "second",
            "split": "val",
            "narrative": [{"actor": "box", "text": "The [box](c) stays."}],
            "objects": {
                "c": {"name": "it", "mask": "own_mask.png", "masks": {"1": _rle(1, 0)}, "absent": [2]},
                "d": {"boxes": [[0, 20, 10, 32, 20]]},
            },
        },
    ]
    (root / "own.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips), encoding="utf-8")
    cv2.imwrite(str(root / "own_mask.png"), mask(0, 0) * np.uint8(255))


def brush_bytes(masked: np.ndarray) -> list[int]:
    """A mask, bool [H, W], as a brush of Label Studio: runs of one value, in the longest of the four lengths."""
    values = (masked[:, :, None] * np.full(4, 255)).reshape(-1).tolist()
    bits, start = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}", 0
    while start < len(values):
        stop = start
        while stop < len(values) and values[stop] == values[start] and stop - start < 1 << 16:
            stop += 1
        bits += f"1{3:02b}{stop - start - 1:016b}{values[start]:08b}"
        start = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def _write_tools(root: Path) -> None:
    """The first video, as annotation tools write it."""
    video = VIDEOS[0]
    box = 'xtl="4" ytl="5" xbr="14" ybr="15"'
    shapes = f"""
    <track id="0" label="red box"><box frame="0" outside="0" keyframe="1" {box}><attribute name="object_id">a</attribute></box>
      <box frame="2" outside="0" keyframe="1" {box}/><box frame="3" outside="1" keyframe="1" {box}/></track>
    <track id="1" label="green box"><mask frame="0" outside="0" keyframe="1" rle="0, 99" left="24" top="9" width="9" height="11"/>
      <polygon frame="1" outside="0" keyframe="1" points="24,9;33,9;33,20;24,20"/></track>
    <track id="2" label="red box-negative"><points frame="1" outside="0" keyframe="1" points="1.5,2.5;30,20"/></track>"""
    size = f"<original_size><width>{W}</width><height>{H}</height></original_size>"
    head = f"<meta><task><name>{video}</name><size>{T}</size>{size}</task></meta>"
    (root / "cvat.xml").write_text(f"<annotations>{head}{shapes}</annotations>", encoding="utf-8")
    images = [{"id": t, "file_name": f"{video}/{name}.jpg", "height": H, "width": W} for t, name in enumerate(NAMES)]
    square = [24, 9, 33, 9, 33, 20, 24, 20]
    made = [
        {"segmentation": _rle(0, 0), "track_id": 1},
        {"segmentation": [square], "track_id": 2, "iscrowd": 0},
        {"bbox": [4, 5, 10, 10], "attributes": {"track_id": 1}, "keypoints": [8, 9, 2, 1, 1, 0, 9, 9, 1]},
    ]
    annotations = [{"id": t, "image_id": t, "category_id": 1 + t % 2} | item for t, item in enumerate(made)]
    _json(root / "coco.json", {"images": images, "annotations": annotations, "categories": CATEGORIES})
    _write_label_studio(root / "label_studio.json", video)
    points = [[24.0, 9.0], [32.0, 9.0], [32.0, 19.0], [24.0, 19.0]]
    for name in NAMES[:2]:
        shapes_of = [
            {"label": "green box", "shape_type": "polygon", "points": points},
            {"label": "red box", "shape_type": "point", "points": [[8.5, 9.5]], "flags": {"negative": False}},
            {"label": "red box", "shape_type": "circle", "points": [[9, 10], [12, 10]], "group_id": 1},
        ]
        tree = {"imagePath": f"{name}.png", "imageHeight": H, "imageWidth": W, "shapes": shapes_of}
        _json(root / "labelme" / video / f"{name}.json", tree)


def _write_label_studio(path: Path, video: str) -> None:
    shared = {"original_width": W, "original_height": H, "image_rotation": 0}
    square = [[60, 37.5], [82.5, 37.5], [82.5, 83.3], [60, 83.3]]
    drawn = [
        {"id": "p", "type": "polygonlabels", "value": {"points": square, "polygonlabels": ["green box"]}},
        {"id": "k", "type": "keypointlabels", "value": {"x": 22, "y": 40, "width": 1, "keypointlabels": ["red box"]}},
        {"id": "b", "type": "brushlabels", "value": {"rle": brush_bytes(mask(0, 0)), "brushlabels": ["red box"]}},
    ]
    keys = [
        {"frame": 1, "enabled": True, "x": 10, "y": 20, "width": 25, "height": 42, "rotation": 0},
        {"frame": 3, "enabled": False, "x": 15, "y": 20, "width": 25, "height": 42, "rotation": 5},
    ]
    value = {"sequence": keys, "framesCount": 5 * T, "labels": ["red box"]}
    boxes = [shared | {"id": "v", "type": "videorectangle", "value": value}]
    image = {"image": f"/data/local-files/?d=frames/{video}/{NAMES[0]}.png"}
    tasks = [
        {"id": 1, "data": image, "annotations": [{"result": [shared | item for item in drawn]}]},
        {"id": 2, "data": {"video": "/data/upload/1/0123abcd-film.mp4"}, "annotations": [{"result": boxes}]},
    ]
    _json(path, tasks)


def _write_vidln(root: Path) -> None:
    lines = []
    for number, video in enumerate(VIDEOS):
        places = ((0.2, 0.4, 0), (0.7, 0.6, 1))  # of the pointer over each noun, and the key frame
        starts = (1000 + 200, 1000 + 700)
        traces = [
            [
                {"x": x + 0.02 * i, "y": y + 0.02 * i, "time_ms_since_epoch": start + 20 * i, "kf_idx": key}
                for i in range(4)
            ]
            for (x, y, key), start in zip(places, starts, strict=True)
        ]
        words, position = [], 0
        for index, word in enumerate(CAPTION.split(" ")):
            text = word.strip(".")
            words.append(
                {
                    "start_ms": 100 * index,
                    "end_ms": 100 * index + 90,
                    "referenced_word": text,
                    "referenced_word_start_idx": position,
                    "referenced_word_end_idx": position + len(text),
                }
            )
            position += len(word) + 1
        narrative = {
            "actor_name": "Box",
            "keyframe_selection_indices": [0, 1],
            "recording_start_time_ms_since_epoch": 1000,
            "traces_start_time_ms_since_epoch": 1000,
            "caption": CAPTION,
            "traces": traces,
            "noun_segments": [list(span) for span in SPANS],
            "time_alignment": words,
            "recording_filename": "recording",
        }
        line = {"vidln_id": number, "dataset_id": "boxes", "video_id": video, "annotator_id": 1}
        lines.append(json.dumps(line | {"keyframe_names": NAMES, "actor_narratives": [narrative]}))
    (root / "vidln.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _annotated_points(obj: int) -> list[dict[str, Any]]:
    points = []
    left, top = ((7, 8), (26, 12))[obj]
    for frame in range(T):
        for step in range(7):
            points.append((left + step % 4, top + step // 2, frame, "ACCEPTED", True))
        points += [(1, 1 + obj, frame, "REJECTED", False), (38, 22 - obj, frame, "REJECTED", False)]
    points.append((2, 2, 1, "AMBIGUOUS", False))
    return [
        {"x": x, "y": y, "frame_id": NAMES[frame], "status": status, "is_fg_candidate": candidate}
        for x, y, frame, status, candidate in points
    ]


def _write_points(root: Path) -> None:
    records = {
        f"key {video} {obj}": {
            "question_hash": f"hash{number}{obj}",
            "question": "Where is the box?",
            "object_name": ("red box", "green box")[obj],
            "video_name": f"train/{video}",
            "annotated_points": _annotated_points(obj),
        }
        for number, video in enumerate(VIDEOS)
        for obj in (0, 1)
    }
    _json(root / "points.json", records)
    lines = "".join(json.dumps({key: record}) + "\n" for key, record in records.items())
    (root / "points.jsonl").write_text(lines, encoding="utf-8")


def _vis_videos() -> list[dict[str, Any]]:
    return [
        {"id": k + 1, "width": W, "height": H, "length": T, "file_names": [f"{v}/{n}.jpg" for n in NAMES]}
        for k, v in enumerate(VIDEOS)
    ]


def _annotation(key: int, video: int, obj: int) -> dict[str, Any]:
    segmentations = [_rle(t, obj) for t in range(T)]
    return {
        "id": key,
        "video_id": video + 1,
        "category_id": obj + 1,
        "iscrowd": 0,
        "height": H,
        "width": W,
        "segmentations": segmentations,
    }


def _write_trio(root: Path) -> None:
    videos = {}
    for number, video in enumerate(VIDEOS):
        expressions = {
            str(index): {
                "narrative_actor_idx": 0,
                "noun_phrase_start_idx": start,
                "noun_phrase_end_idx": end,
                "obj_id": 10 * (index + 1) + number,
            }
            for index, (start, end) in enumerate(SPANS)
        }
        narratives = [{"actor_idx": 0, "actor_name": "Box", "description": CAPTION}]
        videos[video] = {"frames": NAMES, "actor_narratives": narratives, "expressions": expressions}
    _json(root / "trio" / "meta_expressions.json", {"videos": videos})
    for name, obj in (("orig_masks", 0), ("extra_masks", 1)):
        annotations = [_annotation(10 * (obj + 1) + number, number, obj) for number in range(len(VIDEOS))]
        tree = {"videos": _vis_videos(), "categories": CATEGORIES, "annotations": annotations}
        _json(root / "trio" / f"{name}.json", tree)


def _write_vis(root: Path) -> None:
    pairs = [(number, obj) for number in range(len(VIDEOS)) for obj in (0, 1)]
    annotations = [_annotation(10 * (obj + 1) + number, number, obj) for number, obj in pairs]
    tree = {"videos": _vis_videos(), "categories": CATEGORIES, "annotations": annotations}
    _json(root / "vis.json", tree)
    found = [
        {
            "video_id": number + 1,
            "category_id": obj + 1,
            "score": 0.9 - 0.1 * obj,
            "segmentations": [_rle(min(t + number, T - 1), obj) for t in range(T)],
        }
        for number, obj in pairs
    ]
    _json(root / "vis_results.json", found)


def _write_vos_folders(root: Path) -> None:
    davis, youtube = root / "davis", root / "youtube"
    names = [f"{t:05d}" for t in range(T)]
    for video in VIDEOS:
        _write_frames(davis / "JPEGImages" / "480p" / video, names, ".jpg")
        _write_frames(youtube / "JPEGImages" / video, NAMES, ".jpg")
        for frame in range(T):
            _write_labels(davis / "Annotations" / "480p" / video / f"{names[frame]}.png", labels(frame))
            _write_labels(youtube / "Annotations" / video / f"{NAMES[frame]}.png", labels(frame))
    sets = davis / "ImageSets" / "2017"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("".join(f"{video}\n" for video in VIDEOS), encoding="utf-8")
    objects = {"1": {"category": "red box", "frames": NAMES}, "2": {"category": "green box", "frames": NAMES}}
    _json(youtube / "meta.json", {"videos": {video: {"objects": objects} for video in VIDEOS}})


def _write_referring(root: Path) -> None:
    youtube = {"0": {"exp": "a red box", "obj_id": "1"}, "1": {"exp": "a green box", "obj_id": "2"}}
    _json(root / "ref_youtube.json", {"videos": {video: {"frames": NAMES, "expressions": youtube} for video in VIDEOS}})
    mevis = {
        video: {
            "frames": NAMES,
            "expressions": {
                "0": {"exp": "the box that moves", "obj_id": [0], "anno_id": [10 + number]},
                "1": {"exp": "both boxes", "obj_id": [0, 1], "anno_id": [10 + number, 20 + number]},
            },
        }
        for number, video in enumerate(VIDEOS)
    }
    _json(root / "mevis.json", {"videos": mevis})
    masks = {
        str(10 * (obj + 1) + number): [_rle(t, obj) for t in range(T)]
        for number in range(len(VIDEOS))
        for obj in (0, 1)
    }
    _json(root / "mask_dict.json", masks)
    sentences = {"1": ["the red box"], "2": ["the green box on the right"]}
    categories = {"1": "red box", "2": "green box"}
    tree = {video: {"objects": sentences, "categories": categories} for video in VIDEOS}
    _json(root / "ref_davis.json", {"videos": tree})


def _write_vicas(root: Path) -> None:
    """Two videos with numbers as names, frames of their own, and a split list."""
    marked = "A [red box]<mask_1> next to a [green box]<mask_12>: [both boxes]<mask_1,12> and [dust]<mask_?>."
    (root / "vicas").mkdir()
    for number in (7, 2041):
        _write_frames(root / "vicas_frames" / f"{number:06d}", NAMES)
        masks = [
            {
                "filename": f"{NAMES[t]}.png",
                "is_gt": t % 2 == 0,
                "track_ids": [1, 12],
                "mask_rles": [_rle(t, 0), _rle(t, 1)],
            }
            for t in range(T)
        ]
        captions = dict.fromkeys(("caption_raw_en", "caption_raw_en_gpt", "caption_raw_cn"), marked)
        referrals = [{"prompt": "both boxes", "track_ids": [1, 12]}]
        size = {"image_size": [H, W], "all_track_ids": [1, 12], "object_referrals": referrals}
        _json(
            root / "vicas" / f"{number:06d}.json",
            {"video_id": number, "src_dataset": "oops", **size, **captions, "segmentations": masks},
        )
    _json(root / "vicas_splits" / "val.json", [7, 2041])


def _write_coco_png(root: Path) -> None:
    images, annotations, narratives = [], [], []
    (root / "panoptic").mkdir()
    numbers = (139, 285)
    _write_frames(root / "images", [f"{number:012d}" for number in numbers], ".jpg")
    for frame, number in enumerate(numbers):
        colours = np.zeros((H, W, 3), np.uint8)
        colours[mask(frame, 0)], colours[mask(frame, 1)] = (7, 0, 1), (9, 2, 0)  # an id is R + 256 G + 65536 B
        Image.fromarray(colours).save(root / "panoptic" / f"{number:012d}.png")
        keys = (7 + 65536, 9 + 512)
        infos = [
            {"id": key, "category_id": obj + 1, "iscrowd": 0, "area": 100, "bbox": [0, 0, 1, 1]}
            for obj, key in enumerate(keys)
        ]
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": H, "width": W})
        annotations.append({"image_id": number, "file_name": f"{number:012d}.png", "segments_info": infos})
        pieces = (("A red box", [str(keys[0])]), ("next to", []), ("a green box", [str(keys[1])]), (".", []))
        segments = [{"utterance": text, "noun": bool(ids), "plural": False, "segment_ids": ids} for text, ids in pieces]
        narratives.append({"annotator_id": 1, "caption": CAPTION, "image_id": str(number), "segments": segments})
    _json(root / "panoptic.json", {"images": images, "annotations": annotations, "categories": CATEGORIES})
    _json(root / "png_coco.json", narratives)


def _write_prompts(root: Path) -> None:
    red = [{"frame": 0, "x": 8, "y": 9, "label": "positive"}, {"frame": NAMES[1], "x": 1, "y": 1, "label": "negative"}]
    green = [{"frame": 0, "x": 28, "y": 14, "label": 1}, {"frame": 1, "x": 29, "y": 15}]
    _json(root / "prompts.json", {"objects": {"red": red, "green": green}})
    rows = ["object,frame,x,y,label", "red,0,8,9,positive", "red,1,1,1,negative", "green,0,28,14,1", "green,1,29,15,"]
    (root / "prompts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    _write_labels(root / "prompt_mask.png", labels(0))


if __name__ == "__main__":
    write_small_world(Path(sys.argv[1]))
