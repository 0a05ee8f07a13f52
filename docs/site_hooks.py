"""For the documentation site: links to files of the repository become their paths, as the site does not hold them."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`[training](../configs/a.yaml)` -> `training (`configs/a.yaml`)`; a text that is the path already stands alone."""

    def shown(match: re.Match[str]) -> str:
        text, path = match[1], match[2].replace("../", "").split("#")[0]
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return OUTSIDE.sub(shown, markdown)
