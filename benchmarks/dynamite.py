"""Time of DynaMITe and of the authors' program, taking turns in one run with the same weights.

R50, 480 x 864, first one positive click per object: the first prediction (image and clicks), then each further click on
the encoded image; 3 objects, and 30 for ours. Compare the ratios; they vary by a few per cent from run to run.

`python -m benchmarks.dynamite [--reference DIR] [--backbone resnet50|swin_tiny] [--threads N] [--rounds N] [--cpu]
[--json FILE]`

DIR holds the source trees `DynaMITe` and `detectron2` and, in `deps`, the packages that they import and that are not
installed (fvcore, iopath, omegaconf, yacs, tabulate, cloudpickle, termcolor, einops, portalocker, antlr4); nothing is
built. Imports that the model does not use (torchvision, the CUDA operator, data sets) are replaced by stand-ins.
Without DIR only ours is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch

from vng.models.dynamite.clicks import Prompts
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.import_checkpoint import from_reference
from vng.models.dynamite.modeling_dynamite import DynamiteModel, instance_logits
from vng.points import Click

HEIGHT, WIDTH = 480, 864
FURTHER = 3  # clicks after the first prediction
UNUSED = {
    "torchvision",
    "imantics",
    "MultiScaleDeformableAttention",
    "timm",
    "segment_anything",
    "hydra",
    "prettytable",
}
FILES = {"resnet50": "resnet/dynamite_R50_bs32_ep50.yaml", "swin_tiny": "swin/dynamite_swin_tiny_bs32_ep50.yaml"}

# called with None, a session encodes the image; called with clicks, it returns masks, bool [K, H, W]
Session = Callable[[list[Click] | None], torch.Tensor]


class _StandIns(MetaPathFinder, Loader):
    """Stand-ins for the modules that the reference imports but does not use here."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        class StandIn(types.ModuleType):
            def __getattr__(self, name: str) -> Any:
                # without the CUDA operator, the reference runs its PyTorch version
                if name.startswith(("__", "ms_deform_attn")):
                    raise AttributeError(name)
                return _DropPath if name == "DropPath" else _pair if name == "to_2tuple" else MagicMock()

        module = StandIn(spec.name)
        module.__version__ = "0.20.0"  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Does nothing: a stand-in has no code."""


class _DropPath(torch.nn.Identity):
    """timm's DropPath in evaluation: it drops nothing."""


def _pair(value: int) -> tuple[int, int]:
    return value, value


def reference(folder: Path, backbone: str) -> torch.nn.Module:
    """The authors' model with its random initial weights."""
    sys.path[:0] = [str(folder / name) for name in ("DynaMITe", "detectron2", "detectron2/projects/PointRend")]
    sys.path.append(str(folder / "deps"))
    sys.meta_path.append(_StandIns())
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.projects.deeplab import add_deeplab_config
    from dynamite import add_hrnet_config, add_maskformer2_config

    settings = get_cfg()
    for add in (add_deeplab_config, add_maskformer2_config, add_hrnet_config):
        add(settings)
    settings.merge_from_file(str(folder / "DynaMITe/configs/coco_lvis" / FILES[backbone]))
    settings.MODEL.DEVICE = "cpu"
    return build_model(settings).eval()


def reference_session(model: Any, image: torch.Tensor) -> Session:
    """One image in the authors' program; as in their predictor, image features are computed once and kept."""
    cache: list[Any] = []

    def segment(clicks: list[Click] | None) -> torch.Tensor:
        if clicks is None:
            cache.clear()
            return image
        count = 1 + max(click.owner for click in clicks)
        coordinates = [[[c.y, c.x, c.time] for c in clicks if c.owner == k] for k in range(count)]
        sample = {
            "image": image,
            "height": HEIGHT,
            "width": WIDTH,
            "fg_click_coords": coordinates,
            "bg_click_coords": None,
            "num_clicks_per_object": [len(c) for c in coordinates],
        }
        with torch.no_grad():
            if not cache:
                result = model([sample], max_timestamp=[clicks[-1].time])
                cache[:] = [result[2], result[4], result[5], result[6]]
            else:
                images, features, mask_features, maps = cache
                result = model(
                    [sample],
                    images,
                    [count],
                    features,
                    mask_features,
                    maps,
                    [[len(c) for c in coordinates]],
                    [coordinates],
                    [None],
                    max_timestamp=[clicks[-1].time],
                )
        return result[0][0]["instances"].pred_masks.bool()

    return segment


def our_session(model: DynamiteModel, image: torch.Tensor) -> Session:
    """The same image in our model."""
    cache: list[Any] = []
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])

    def segment(clicks: list[Click] | None) -> torch.Tensor:
        if clicks is None:
            cache.clear()
            return image
        with torch.inference_mode():
            if not cache:
                cache.append(model.encode_image(((image - mean.view(3, 1, 1)) / std.view(3, 1, 1))[None]))
            output = model.segment(cache[0], Prompts.of([clicks]))
            count = 1 + max(click.owner for click in clicks)
            winner = instance_logits(output.mask_logits[0], output.owners[0], count, (HEIGHT, WIDTH)).argmax(0)
            return winner == torch.arange(count)[:, None, None]

    return segment


def timed(session: Session, objects: int, clock: Callable[[], float]) -> tuple[float, float, torch.Tensor]:
    """Seconds of the first prediction, mean seconds of a further click, and the last masks."""
    generator = torch.Generator().manual_seed(objects)
    positions = torch.rand(objects + FURTHER, 2, generator=generator) * torch.tensor([HEIGHT - 1, WIDTH - 1])
    clicks = [Click(float(y), float(x), t, t % objects) for t, (y, x) in enumerate(positions)]
    session(None)
    start = clock()
    session(clicks[:objects])
    first = clock() - start
    start = clock()
    for index in range(FURTHER):
        masks = session(clicks[: objects + index + 1])
    return first, (clock() - start) / FURTHER, masks


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="DIR")
    parser.add_argument("--backbone", choices=sorted(FILES), default="resnet50")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="processor seconds of all threads, for a busy machine")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH)).float()
    config = getattr(DynamiteConfig, arguments.backbone)()
    sessions: dict[str, tuple[Session, int]] = {}
    if arguments.reference:
        theirs = reference(arguments.reference.resolve(), arguments.backbone)
        model = from_reference(theirs.state_dict(), config).eval()
        sessions["theirs"] = reference_session(theirs, image), 3
    else:
        model = DynamiteModel(config).eval()
    sessions |= {"ours": (our_session(model, image), 3), "ours, 30 objects": (our_session(model, image), 30)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sessions}
    masks: dict[str, torch.Tensor] = {}
    clock = time.process_time if arguments.cpu else time.perf_counter
    # the first round only warms up
    for index in range(arguments.rounds + 1):
        for name, (session, objects) in sessions.items():
            first, further, masks[name] = timed(session, objects, clock)
            if index:
                times[name].append((first, further))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    threads, rounds = arguments.threads, arguments.rounds
    print(f"DynaMITe {arguments.backbone}, {HEIGHT} x {WIDTH}, {threads} threads, medians of {rounds}")
    print(f"{'':18}{'first s':>10}{'further s':>11}")
    for name, (first, further) in medians.items():
        print(f"{name:18}{first:10.3f}{further:11.3f}")
    figures = {
        f"{n.replace(', ', '_').replace(' ', '_')}_{w}_s": v
        for n, row in medians.items()
        for w, v in zip(("first", "further"), row, strict=True)
    }
    pairs = {"30 objects / 3": ("ours, 30 objects", "ours")}
    if "theirs" in medians:
        pairs["ours / theirs"] = ("ours", "theirs")
        different = int((masks["ours"] != masks["theirs"]).sum())
        print(f"pixels whose object differs: {different} of {masks['ours'].numel()}")
        figures["pixels_that_differ"] = different
    for label, (one, other) in pairs.items():
        ratios = [a / b for a, b in zip(medians[one], medians[other], strict=True)]
        print(f"{label:18}{ratios[0]:10.2f}{ratios[1]:11.2f}")
        figures |= {f"{label.replace(' ', '')}_{w}": r for w, r in zip(("first", "further"), ratios, strict=True)}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
