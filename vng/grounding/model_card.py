"""The model card of a trained grounder (`README.md`), and its upload to the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vng.errors import DataError
from vng.manifest import write_atomic
from vng.text_files import load_json

CARD, TRAINING = "README.md", "training.json"
LICENCE = "apache-2.0"
# Settings shown in the card, by dotted name.
_SHOWN = (
    *("seed", "precision", "data.frames", "data.short_side", "data.long_side", "data.min_agreement", "data.flip"),
    *(
        f"optimizer.{name}"
        for name in ("steps", "batch_size", "accumulate", "lr", "lr_backbone", "lr_text", "schedule")
    ),
)
_USE = """\
```python
from vng import NarrativeGrounder

grounder = NarrativeGrounder.from_pretrained("{name}")
result = grounder("parrots.mp4", "A green [parrot] is playing with the other [parrot].")
result.masks  # bool [nouns, frames, height, width]
result.save("result/")
```

`vng predict --model {name} --video parrots.mp4 --narrative "A green [parrot] ..." --out result` does the same."""
_LEAKS = """\
**Trained on OVIS.** OVIS-VNG train *and* test are both parts of OVIS train: a model trained on OVIS train has seen the
test masks. Its score on OVIS-VNG test says nothing unless it was trained on OVIS-VNG's own training videos alone."""
_MAY_LEAK = """\
OVIS-VNG train *and* test are both parts of OVIS train. Before a score on OVIS-VNG test is believed, check that none of
the data sets above holds OVIS train."""


def model_card(
    name: str,
    settings: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """The model card of a grounder, as Markdown with the hub's front matter.

    Args:
        name: of the model: the name of its folder, or a hub id.
        settings: of its training, as in `training.json`; {} if unknown.
        scores: the content of a file of `vng evaluate vng --json`.
        versions: of the packages used in training.
    """
    model = settings.get("model", {})
    base = [v for v in (model.get("init"), model.get("backbone"), model.get("text_encoder")) if _is_hub_id(v)]
    front = [f"license: {LICENCE}", "library_name: vng", "pipeline_tag: mask-generation"]
    front.append("tags: [video-narrative-grounding, referring-video-object-segmentation, referformer]")
    front += ["base_model: [" + ", ".join(base) + "]"] if base else []
    parts = [
        "---\n" + "\n".join(front) + "\n---",
        f"# {name}",
        "A grounder for Video Narrative Grounding: a video and a narrative with marked nouns in, a mask per noun "
        "and frame\n"
        "out. ReferFormer with noun-conditioned queries (RF-VNG: Video Localized Narratives, CVPR 2023, Sec. 4.2).",
        "## Use\n\n" + _USE.format(name=name),
        "## Training\n\n" + _training(settings, versions or {}),
        "## Figures\n\n" + _figures(scores),
        f"## Licence\n\nOf the weights: {LICENCE}. "
        "Data sets and the models it started from have licences of their own.",
    ]
    return "\n\n".join(parts) + "\n"


def _is_hub_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None and not Path(value).exists()


def _training(settings: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    if not settings:
        return "Its settings are not known here."
    model = settings.get("model", {})
    rows = [("starts from", _named(model["init"]))] if model.get("init") else []
    if not rows:
        rows = [(part.replace("_", " "), _named(model[part])) for part in ("backbone", "text_encoder") if part in model]
    data = list(_data_sets(settings.get("data", {})))
    rows.append(("data", "; ".join(data) or "not known"))
    rows += [(key, str(value)) for key in _SHOWN if (value := _at(settings, key)) is not None]
    rows += [("made with", ", ".join(f"{k} {v}" for k, v in versions.items()))] if versions else []
    table = "| what | value |\n| --- | --- |\n" + "\n".join(f"| {k} | {v} |" for k, v in rows)
    leaks = any("ovis" in text.lower() for text in data)
    return f"{table}\n\n{_LEAKS if leaks else _MAY_LEAK}"


def _named(value: Any) -> str:
    """A description of a part of the model: a hub id, a folder's name, or type and sizes if trained from scratch."""
    if isinstance(value, str):
        return value if _is_hub_id(value) else Path(value).name
    sizes = ", ".join(f"{k} {v}" for k, v in value.items() if k in ("hidden_size", "hidden_sizes", "depths"))
    return f"{value.get('model_type', 'a network')} from scratch" + (f" ({sizes})" if sizes else "")


def _data_sets(data: Any) -> Iterator[str]:
    """Names of the data sets of a recipe: for each path in its data, the folder's name."""
    if isinstance(data, Mapping):
        if isinstance(data.get("path"), str):
            weight = f" (weight {data['weight']})" if data.get("weight", 1) != 1 else ""
            split = f", split {data['split']}" if data.get("split") else ""
            yield Path(data["path"]).name + split + weight
        for value in data.values():
            yield from _data_sets(value)
    elif isinstance(data, list):
        for value in data:
            yield from _data_sets(value)


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _figures(scores: Mapping[str, Any] | None) -> str:
    figures = {k: v for k, v in (scores or {}).items() if isinstance(v, float)}
    if not figures:
        return "None were given (`vng evaluate vng --json scores.json`)."
    count = len(scores["expressions"]) if scores and isinstance(scores.get("expressions"), list) else None
    lead = "`vng evaluate vng`" + ("" if count is None else f", {count} expressions") + ":"
    return f"{lead}\n\n| score | per cent |\n| --- | --- |\n" + "\n".join(
        f"| {k} | {100 * v:.1f} |" for k, v in figures.items()
    )


def write_card(folder: Path, name: str, settings: Mapping[str, Any], scores: Path | None = None) -> None:
    """Write the card into a model's folder; `scores` is a file of `vng evaluate vng --json`."""
    write_atomic(folder / CARD, model_card(name, settings, None if scores is None else _read(scores)))


def push(model: Any, processor: Any, source: str | None, repo_id: str, scores: str | Path | None, private: bool) -> str:
    """Upload a model with its processor and card; returns the address.

    Args:
        source: its run folder, whose `training.json` is used for the card; None if there is none.

    Raises:
        DataError: the scores cannot be read; the hub is out of reach or refuses.
    """
    from huggingface_hub import HfApi

    record = None if source is None else Path(source) / TRAINING
    training = _read(record) if record is not None and record.is_file() else {}
    figures = None if scores is None else _read(Path(scores))
    card = model_card(repo_id, training.get("settings", {}), figures, training.get("versions"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_atomic(folder / CARD, card)
        try:
            api = HfApi()
            repository = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="Upload with vng")
        except Exception as error:  # whatever the hub's client raises, the upload failed
            reason = f"not uploaded ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]})"
            raise DataError(
                repo_id, reason=reason, cure="log in (hf auth login), and check name and network"
            ) from error
    return str(repository)


def _read(path: Path) -> dict[str, Any]:
    content = load_json(path, "give a file written by `vng evaluate vng --json`")
    return content if isinstance(content, dict) else {}
