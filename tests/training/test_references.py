"""Recipes that claim a source: their resolved values against the options of the reference programs.

ReferFormer (wjn922/ReferFormer): opts.py, scripts/dist_pretrain.sh (static images), scripts/dist_train_test_ytvos.sh
(videos), datasets/refexp.py and datasets/ytvos.py (augmentation), main_pretrain.py (optimizer), models/backbone.py.
STCN (hkchengrex/STCN): util/hyper_para.py, model/model.py, model/losses.py, dataset/static_dataset.py,
dataset/vos_dataset.py, train.py. DynaMITe: Rana et al., ICCV 2023, Sec. 4.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn
from vng.training.loop import make_optimizer
from vng.training.stcn.clips import FILM_LIGHT, OWN_SCALE, STILL_LIGHT
from vng.training.tasks import load_recipe

REFERFORMER = [
    ("optimizer.lr", 1e-4, "opts.py --lr"),
    ("optimizer.lr_backbone", 5e-5, "opts.py --lr_backbone"),
    ("optimizer.weight_decay", 5e-4, "opts.py --weight_decay"),
    ("optimizer.clip_norm", 0.1, "opts.py --clip_max_norm"),
    ("optimizer.kind", "adamw", "main_pretrain.py"),
    ("optimizer.warmup", 0, "main_pretrain.py"),
    ("model.sizes.frozen_stages", 2, "models/backbone.py: layer2 to layer4 are trained"),
    ("model.sizes.freeze_batch_norm", True, "models/backbone.py FrozenBatchNorm2d"),
    ("data.crop", 0.5, "datasets RandomSelect"),
    ("data.flip", 0.5, "datasets RandomHorizontalFlip"),
    ("data.crop_short_sides", (400, 500, 600), "datasets RandomResize"),
    ("data.crop_sides", (384, 600), "datasets RandomSizeCrop"),
    ("data.long_side", 640, "datasets max_size"),
    ("data.short_side", 360, "datasets, val"),
]
VIDEO = [
    ("data.frames", 5, "opts.py --num_frames"),
    ("data.max_skip", 3, "opts.py --max_skip"),
    ("optimizer.batch_size", 1, "opts.py --batch_size"),
    ("data.short_sides", (288, 320, 352, 392, 416, 448, 480, 512), "datasets/ytvos.py scales"),
    ("data.distortion", 1.0, "datasets/ytvos.py PhotometricDistort"),
]
TABLE = {
    "table-10/static": [
        *REFERFORMER,
        ("data.frames", 1, "scripts/dist_pretrain.sh --num_frames"),
        ("optimizer.batch_size", 2, "scripts/dist_pretrain.sh --batch_size"),
        ("optimizer.drops", (8 / 12, 10 / 12), "scripts/dist_pretrain.sh --epochs 12 --lr_drop 8 10"),
        ("optimizer.lr_text", 1e-5, "opts.py --lr_text_encoder"),
        ("model.sizes.freeze_text_encoder", False, "scripts/dist_pretrain.sh: do not freeze text encoder"),
        ("data.short_sides", tuple(range(480, 769, 32)), "datasets/refexp.py scales"),
        ("data.whole_long_side", 800, "datasets/refexp.py max_size"),
        ("data.piece_short_sides", (296, 328, 360, 392, 416, 448, 480, 512), "datasets/refexp.py final_scales"),
        ("data.distortion", 0.0, "datasets/refexp.py: no PhotometricDistort"),
    ],
    **{
        f"table-10/{name}": [
            *REFERFORMER,
            *VIDEO,
            ("optimizer.drops", (3 / 6, 5 / 6), "scripts/dist_train_test_ytvos.sh --epochs 6 --lr_drop 3 5"),
            ("optimizer.lr_text", 0, "scripts/dist_train_test_ytvos.sh --freeze_text_encoder"),
        ]
        for name in ("pseudo-masks", "uvo", "ovis")
    },
    "grounder": [*REFERFORMER, *VIDEO, ("model.sizes.freeze_text_encoder", True, "--freeze_text_encoder")],
    "point-vos/static": [
        ("optimizer.kind", "adam", "model/model.py optim.Adam"),
        ("optimizer.lr", 1e-5, "util/hyper_para.py stage 0"),
        ("optimizer.weight_decay", 1e-7, "model/model.py"),
        ("optimizer.batch_size", 8, "util/hyper_para.py stage 0"),
        ("optimizer.steps", 300_000, "util/hyper_para.py stage 0"),
        ("optimizer.drops", (0.5,), "util/hyper_para.py stage 0: 150000"),
        ("loss.bootstrap", (20 / 300, 70 / 300), "model/losses.py start_warm 20000, end_warm 70000"),
        ("loss.bootstrap_top", 0.15, "model/losses.py top_p"),
        ("data.size", (384, 384), "dataset/static_dataset.py"),
        ("data.still_degrees", 20.0, "dataset/static_dataset.py RandomAffine degrees"),
        ("data.shear", 10.0, "dataset/static_dataset.py shear"),
        ("data.still_scale", (0.8, 1.5), "dataset/static_dataset.py scale"),
        ("data.bend", 0.33, "dataset/static_dataset.py random_tps_warp"),
        ("data.light", 1.0, "dataset/static_dataset.py ColorJitter"),
        ("data.colour", 0.0, "dataset/static_dataset.py: no other change"),
        ("data.objects", 1, "util/hyper_para.py single_object"),
    ],
    "point-vos/masks": [
        ("optimizer.kind", "adam", "model/model.py optim.Adam"),
        ("optimizer.lr", 1e-5, "util/hyper_para.py stage 3"),
        ("optimizer.weight_decay", 1e-7, "model/model.py"),
        ("optimizer.batch_size", 4, "util/hyper_para.py stage 3"),
        ("optimizer.steps", 150_000, "util/hyper_para.py stage 3"),
        ("optimizer.drops", (125 / 150,), "util/hyper_para.py stage 3: 125000"),
        ("loss.bootstrap", (20 / 150, 70 / 150), "model/losses.py start_warm 20000, end_warm 70000"),
        ("data.degrees", 15.0, "dataset/vos_dataset.py RandomAffine degrees"),
        ("data.crop", (0.36, 1.0), "dataset/vos_dataset.py RandomResizedCrop scale"),
        (
            "data.skips",
            ((0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5)),
            "train.py skip_values, increase_skip_fraction",
        ),
    ],
    "point-vos/points": [
        ("optimizer.kind", "adam", "Point-VOS, Sec. 4.1: Adam"),
        ("optimizer.lr", 1e-5, "Point-VOS: 1e-5 -> 1e-6"),
        ("optimizer.weight_decay", 1e-7, "Point-VOS"),
        ("optimizer.batch_size", 4, "Point-VOS"),
        ("optimizer.steps", 38_000, "Point-VOS"),
        ("optimizer.drops", (30 / 38,), "Point-VOS: 30K"),
        ("data.prompt_points", (10, 10), "Point-VOS, App. A"),
    ],
    "dynamite": [
        ("optimizer.kind", "adamw", "Sec. 4"),
        ("optimizer.lr", 1e-4, "Sec. 4"),
        ("optimizer.lr_backbone", 1e-5, "Sec. 4: a tenth"),
        ("optimizer.weight_decay", 0.05, "Sec. 4"),
        ("optimizer.clip_norm", 0.01, "configs: CLIP_GRADIENTS"),
        ("data.size", (1024, 1024), "configs: IMAGE_SIZE"),
        ("data.scale", (0.1, 2.0), "configs: MIN_SCALE, MAX_SCALE"),
        ("data.flip", 0.5, "dataset mapper: RandomFlip"),
        *((f"data.{name}", 0, "dataset mapper: none") for name in ("rotation", "aspect", "colour", "companions")),
        ("data.traces", 0, "clicks only"),
    ],
}
CASES = [(recipe, *row) for recipe, rows in TABLE.items() for row in rows]


def resolved(recipe: Any, option: str) -> Any:
    value = recipe
    for part in option.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(("recipe", "option", "value", "source"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_resolved_value_is_that_of_its_source(recipe: str, option: str, value: Any, source: str) -> None:
    found = resolved(load_recipe(Path(recipe), []), option)
    assert found == pytest.approx(value, rel=1e-12) if isinstance(value, float) else found == value, source


def test_light_and_scale_of_stcn_are_its_own() -> None:
    """dataset/static_dataset.py and dataset/vos_dataset.py: ColorJitter, RandomGrayscale, RandomAffine's scale."""
    of_clip, of_frame = STILL_LIGHT
    assert (of_clip.brightness, of_clip.contrast, of_clip.saturation, of_clip.hue) == (0.1, 0.05, 0.05, 0.05)
    assert (of_frame.brightness, of_frame.contrast, of_frame.saturation, of_frame.hue) == (0.1, 0.05, 0.05, 0)
    of_clip, of_frame = FILM_LIGHT
    assert (of_clip.brightness, of_clip.contrast, of_clip.saturation, of_clip.hue) == (0.1, 0.03, 0.03, 0)
    assert (of_frame.brightness, of_frame.contrast, of_frame.saturation, of_frame.hue) == (0.01, 0.01, 0.01, 0)
    assert STILL_LIGHT[0].grey == FILM_LIGHT[0].grey == 0.05 and OWN_SCALE == (0.9, 1.1)


def test_shares_are_exact() -> None:
    """20K and 70K of 150K steps: a rounded share would be 50 steps off."""
    start, end = load_recipe(Path("point-vos/masks"), []).loss.bootstrap  # type: ignore[attr-defined]
    assert Fraction(start).limit_denominator(1000) == Fraction(2, 15) and round(end * 150_000) == 70_000
    assert round(start * 150_000) == 20_000


@pytest.mark.parametrize(("name", "text_rate"), [("table-10/static", 1e-5), ("grounder", None)])
def test_what_a_grounder_trains(name: str, text_rate: float | None) -> None:
    """ReferFormer: all but the stem, the first stage and the normalisation of the backbone, and a fixed text encoder."""
    recipe: Any = load_recipe(Path(name), [])
    with torch.device("meta"):
        model = ReferFormerForVNG(ReferFormerConfig(**recipe.model.sizes))
    model.freeze()
    optimizer = make_optimizer(model, recipe.optimizer)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    found = {name: rates.get(id(parameter)) for name, parameter in names.items()}
    for name, rate in found.items():
        if name.startswith("text_encoder."):
            wanted = None if text_rate is None else (text_rate, 5e-4)
        elif name.startswith("backbone."):
            fixed = "embedder." in name or "stages.0." in name or "normalization" in name
            wanted = None if fixed else (5e-5, 5e-4)
        else:
            wanted = (1e-4, 5e-4)
        assert rate == wanted, name
    trained = [name for name in found if found[name] and name.startswith("backbone.")]
    assert len(trained) == 42  # convolutions of layer2 to layer4 of a ResNet-50: 13 + 19 + 10


def test_what_stcn_trains() -> None:
    """STCN: every parameter but the statistics of its normalisation, with one rate and L2."""
    recipe: Any = load_recipe(Path("point-vos/masks"), [])
    with torch.device("meta"):
        model = Stcn(StcnConfig())
    (group,) = make_optimizer(model, recipe.optimizer).param_groups
    assert isinstance(make_optimizer(model, recipe.optimizer), torch.optim.Adam)
    assert (group["lr"], group["weight_decay"]) == (1e-5, 1e-7)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
