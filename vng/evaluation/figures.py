"""Figures as text: shares in per cent, intervals, p values, names of folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def percent(value: float, sign: str = "") -> str:
    """A share in per cent, "-" for NaN; `sign` "+" always writes the sign."""
    return "-" if math.isnan(value) else f"{100 * value:{sign}.2f}"


def none_if_nan(value: float) -> float | None:
    """The value for JSON: None for NaN."""
    return None if math.isnan(value) else value


def folder_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Names of folders in tables: their own names, or the parts of their paths that differ where names are equal."""
    parts = [folder.resolve().parts for folder in folders]
    most = max(len(p) for p in parts)
    depth = next((d for d in range(1, most + 1) if len({p[-d:] for p in parts}) == len(parts)), most)
    shared = next((d for d in range(depth) if len({p[len(p) - 1 - d] for p in parts}) > 1), 0) if len(parts) > 1 else 0
    return tuple("/".join(p[-depth : len(p) - shared]) for p in parts)


def span(low: float, high: float, sign: str = "") -> str:
    """An interval in per cent, "-" for NaN."""
    return "-" if np.isnan(low) else f"[{percent(low, sign)}, {percent(high, sign)}]"


def p_value(p: float) -> str:
    """A p value as printed; the bootstrap has too few draws to resolve values below 0.001."""
    return "-" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def percents(figures: Mapping[str, Any], *names: str) -> str:
    """Shares as one line in per cent, "-" for NaN; only those of `names` where there are any."""
    selected = {name: figures[name] for name in names or figures}
    return "  ".join(f"{name} {'-' if math.isnan(value) else f'{100 * value:.2f}'}" for name, value in selected.items())
