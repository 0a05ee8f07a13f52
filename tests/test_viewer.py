"""Pictures of masks: overlays, captions, grids."""

from __future__ import annotations

import numpy as np

from vng.label_maps import colour
from vng.pages import marked_html
from vng.viewer import caption_strip, grid, overlay


class TestPictures:
    def test_overlay(self) -> None:
        image = np.zeros((6, 9, 3), np.uint8)
        mask = np.zeros((6, 9), bool)
        mask[1:5, 2:7] = True
        painted = overlay(image, [None, mask])
        assert painted.any(-1)[mask].all() and not painted.any(-1)[~mask].any() and not image.any()
        assert painted[1, 2].tolist() == list(colour(1))  # the outline is solid

    def test_captions_and_grids(self) -> None:
        strip = caption_strip("A red ball\tmeets\nthe other ball. " * 4, [(6, 10)], 300)
        assert strip.shape[1:] == (300, 3) and (strip == colour(0)).all(-1).any()
        assert caption_strip("x" * 100_000, [(0, 9)], 300).shape[0] < 1000
        tiles = [np.full((4, 5, 3), i, np.uint8) for i in range(5)]
        assert grid(tiles, 2).shape == (12, 10, 3) and grid(tiles[:1], 4).shape == (4, 5, 3)

    def test_marked_html_escapes(self) -> None:
        html = marked_html("<b> ball", [(4, 8)], [(255, 255, 0)])
        assert html.startswith("&lt;b&gt; <mark") and html.endswith("ball</mark>")
