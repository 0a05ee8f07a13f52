"""Datasets and video files of any size for `benchmarks.scale`; everything is drawn from a seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vng.dataset import Quality, Video, VideoObject
from vng.dataset_writer import DatasetWriter
from vng.frames import EncodedFrames, encode_jpeg
from vng.masks import RLE, encode
from vng.narratives import Expression, Narrative
from vng.points import Points

TEXT = "A red ball rolls to a blue box while a green cone and a small cup stand behind them."
NOUNS = ("ball", "box", "cone", "cup")
HEIGHT, WIDTH = 90, 160  # of videos whose pixels do not matter


def blobs(rng: np.random.Generator, height: int, width: int, count: int) -> list[RLE]:
    """Masks of random ellipses."""
    y, x = np.mgrid[:height, :width]
    masks = []
    for _ in range(count):
        cy, cx = rng.uniform(0.2, 0.8, 2) * (height, width)
        ry, rx = rng.uniform(0.05, 0.25, 2) * (height, width)
        masks.append(encode(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1))
    return masks


def moving(frames: int, height: int, width: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames of soft clouds that move over each other, uint8 [H, W, 3]: as hard to compress as a quiet film."""
    import cv2

    rng = np.random.default_rng(seed)
    cloud = cv2.GaussianBlur(rng.normal(0, 90, (height * 2, width * 2, 3)).astype(np.float32), (0, 0), 3)
    cloud = np.clip(cloud * 4 + 128, 0, 255).astype(np.uint8)
    for t in range(frames):
        dy, dx = int(height * (0.5 + 0.4 * np.sin(t / 40))), int(width * (0.5 + 0.4 * np.cos(t / 33)))
        frame = cloud[dy : dy + height, dx : dx + width].copy()
        cv2.circle(frame, (int(width * (0.5 + 0.3 * np.sin(t / 9))), height // 2), height // 6, (220, 60, 40), -1)
        yield frame


def write_film(path: Path, frames: int, height: int, width: int, group: int, seed: int = 0) -> None:
    """An H.264 file with a key frame every `group` frames at most."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": str(group)}
        for image in moving(frames, height, width, seed):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def copies(film: Path, folder: Path, count: int) -> list[Path]:
    """Copies of a film whose contents differ (in an empty box at the end), so that each is a video of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    data, paths = film.read_bytes(), []
    for index in range(count):
        paths.append(folder / f"film{index:05d}.mp4")
        paths[-1].write_bytes(data + (16).to_bytes(4, "big") + b"free" + index.to_bytes(8, "big"))
    return paths


def write_jpegs(folder: Path, frames: int, height: int, width: int) -> None:
    """A folder of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, image in enumerate(moving(frames, height, width)):
        (folder / f"{t:06d}.jpg").write_bytes(encode_jpeg(image))


def record(number: int, frames: int, height: int, width: int, objects: int = 4, pool: Any = None) -> Video:
    """A video with `objects` objects, a mask in each frame, a narrative of four nouns, and points."""
    rng = np.random.default_rng(number)
    pool = pool or blobs(rng, height, width, 32)
    items = tuple(
        VideoObject(
            str(100000 * number + k),
            NOUNS[k % 4],
            "points/embedded",
            tuple(pool[int(i)] for i in rng.integers(len(pool), size=frames)),
            Points(
                rng.integers(frames, size=20), rng.uniform(0, (width, height), (20, 2)), rng.integers(0, 2, size=20)
            ),
            Quality(point_agreement=0.9, n_points=20),
        )
        for k in range(objects)
    )
    expressions = []
    for k, item in enumerate(items[:4]):
        start = TEXT.index(NOUNS[k])
        expressions.append(Expression(0, start, start + len(NOUNS[k]), item.object_id))
    return Video(
        video_id=f"video{number:06d}",
        dataset="scale",
        split="train",
        height=height,
        width=width,
        fps=30.0,
        frame_names=tuple(f"{t:06d}" for t in range(frames)),
        narratives=(Narrative("speaker", TEXT),),
        expressions=tuple(expressions),
        objects=items,
    )


def write_linked(
    out: Path, videos: int, frames: int, links: list[Path], height: int = HEIGHT, width: int = WIDTH, objects: int = 4
) -> Path:
    """A dataset whose rows link to the given folders or films, in turn."""
    writer = DatasetWriter(out, {"videos": videos, "frames": frames})
    pool = blobs(np.random.default_rng(0), height, width, 64)
    for number in tqdm(range(videos), desc=f"write {out.name}", leave=False):
        path = os.path.relpath(links[number % len(links)], out)
        video = record(number, frames, height, width, objects, pool)
        writer.write(number, [video.as_row(embed=False, frames_path=path)])
    writer.finish(videos, "scale", "")
    return out


def write_embedded(out: Path, videos: int, frames: int, frame_bytes: int) -> Path:
    """A dataset whose rows hold images of a given size, which are not meant to be decoded."""
    writer = DatasetWriter(out, {"videos": videos, "frames": frames, "bytes": frame_bytes})
    pool = blobs(np.random.default_rng(0), HEIGHT, WIDTH, 64)
    for number in tqdm(range(videos), desc=f"write {out.name}", leave=False):
        rng = np.random.default_rng(number)
        video = record(number, frames, HEIGHT, WIDTH, 4, pool)
        row = video.as_row(embed=False)
        images = EncodedFrames([rng.bytes(frame_bytes) for _ in range(frames)], video.frame_names, "scale")
        row["frames"] = [{"bytes": images.encoded(t), "path": None} for t in range(frames)]
        writer.write(number, [row])
    writer.finish(videos, "scale", "")
    return out
