"""Frames of a video, read lazily by exact index: folders of images, video files, arrays, encoded images."""

from vng.frames.base import ArrayFrames, Backwards, EncodedFrames, Frames, encode_jpeg, evenly_spaced
from vng.frames.files import ImageFile, ImageFolder, as_frames, find_frames, open_frames, visible_files
from vng.frames.names import as_path, existing, frame_number, inside, name_problem, same_form
from vng.frames.video_file import VideoFile

__all__ = [
    "ArrayFrames",
    "Backwards",
    "EncodedFrames",
    "Frames",
    "ImageFile",
    "ImageFolder",
    "VideoFile",
    "as_frames",
    "as_path",
    "encode_jpeg",
    "evenly_spaced",
    "existing",
    "find_frames",
    "frame_number",
    "inside",
    "name_problem",
    "open_frames",
    "same_form",
    "visible_files",
]
