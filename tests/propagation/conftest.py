"""The clip that the tests of propagation share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, W, write_frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of four frames 00010.png to 00013.png, 20 x 30."""
    y, x, t = np.mgrid[:H, :W, :4]
    frames = np.stack([np.stack([60 + 5 * t, 4 * y, 3 * x], -1)[:, :, i] for i in range(4)]).astype(np.uint8)
    for i in range(4):
        frames[i, 5:12, 4 + i : 13 + i] = (250, 240, 30)
        frames[i, 12:18, 19:27] = (10, 20, 240)
    folder = tmp_path / "clip"
    write_frames(folder, frames, "{:05d}.png")
    for i in reversed(range(4)):
        (folder / f"{i:05d}.png").rename(folder / f"{i + 10:05d}.png")
    return folder
