"""Self-contained HTML pages: images are embedded, no network is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.manifest import write_atomic


def marked_html(
    description: str,
    spans: Sequence[tuple[int, int]],
    colours: Sequence[tuple[int, int, int]],
    pictures: Sequence[str] | None = None,
) -> str:
    """A caption as HTML with coloured nouns; all text is escaped.

    `pictures`: for each span, a key of its card's pictures, shown while the noun is pointed at; "" for none.
    """
    from html import escape

    keys = pictures or [""] * len(spans)
    starts = {start: (end, colours[i], keys[i]) for i, (start, end) in enumerate(spans)}
    pieces, position = [], 0
    while position < len(description):
        if position in starts:
            end, rgb, key = starts[position]
            light = rgb[0] * 0.299 + rgb[1] * 0.587 + rgb[2] * 0.114
            style = "background:rgb({},{},{});color:{}".format(*rgb, "#000" if light > 110 else "#fff")
            more = f' data-picture="{escape(key)}" tabindex="0"' if key else ""
            pieces.append(f'<mark style="{style}"{more}>{escape(description[position:end])}</mark>')
            position = end
        else:
            pieces.append(escape(description[position]))
            position += 1
    return "".join(pieces)


def render_page(path: Path, **content: Any) -> None:
    """Write a self-contained HTML page from `templates/page.html`."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(["html"])
    )
    write_atomic(path, environment.get_template("page.html").render(**content))


def embed_image(image: np.ndarray | Path | bytes, quality: int = 85, webp: bool = False) -> str:
    """A data URL of an image (RGB array), an image file, or the bytes of a PNG.

    Arrays are encoded as JPEG, or with `webp` as WebP of about two thirds the size.
    """
    import base64
    import mimetypes

    from vng.frames import encode_jpeg

    if isinstance(image, Path):
        kind = mimetypes.guess_type(image.name)[0] or "image/png"
        data = image.read_bytes()
    elif isinstance(image, bytes):
        kind, data = "image/png", image
    elif webp:
        kind, data = (
            "image/webp",
            cv2.imencode(".webp", image[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes(),
        )
    else:
        kind, data = "image/jpeg", encode_jpeg(image, quality)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
