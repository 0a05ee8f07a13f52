"""The engines that `benchmarks.gpu` times: the cases `speed` and `same-as-cpu`, and the tiny sizes of all models.

Each engine is made for a precision, one of `WAYS`, and is a function that runs it once over its clip. Models have random
weights, except for those that vng ships; clips are procedural. Shapes: K objects, T frames, H x W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

from benchmarks.gpu_setup import SEED, Figures, NotSupported, Pair, Setup, differences, tf32
from benchmarks.scale_data import moving
from vng import propagators, segmenters
from vng.frames import ArrayFrames
from vng.grounding.grounder import ComputeSettings, NarrativeGrounder
from vng.models.clicknet.configuration_clicknet import ClickNetConfig
from vng.models.clicknet.modeling_clicknet import ClickNet
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.modeling_dynamite import DynamiteModel
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn
from vng.narratives import nouns_in
from vng.points import PointPrompts
from vng.propagators import FramePrompts

OBJECTS = 3
NARRATIVE = "A red [ball] moves to the left past the blue [ball]."
WAYS = ("float32", "bfloat16", "compiled")  # compiled: in bfloat16
STAGES = ["stage1", "stage2", "stage3", "stage4"]


@cache
def film(count: int, height: int, width: int) -> ArrayFrames:
    """Frames of clouds and a disc that move."""
    return ArrayFrames(np.stack(list(moving(count, height, width, SEED))))


def object_masks(height: int, width: int) -> list[np.ndarray]:
    """Masks of the first frame, bool [H, W] each: rectangles side by side."""
    masks = []
    for k in range(OBJECTS):
        mask = np.zeros((height, width), bool)
        left = width * (2 * k + 1) // (2 * OBJECTS + 1)
        mask[height // 3 : height * (5 + k) // 9, left : left + width // (2 * OBJECTS + 1)] = True
        masks.append(mask)
    return masks


def object_points(height: int, width: int) -> list[PointPrompts]:
    """Ten positives and ten negatives of each of the same objects."""
    rng, prompts = np.random.default_rng(SEED), []
    for mask in object_masks(height, width):
        inside, outside = (rng.permutation(np.argwhere(part))[:10, ::-1].astype(np.float32) for part in (mask, ~mask))
        prompts.append(PointPrompts(inside, outside))
    return prompts


def tiny_resnet(stages: int = 4, **more: Any) -> dict[str, Any]:
    """A configuration of a few thousand weights; widths are multiples of 8 (`native_convolutions`)."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32][:stages], "depths": [1] * stages}
    return {"model_type": "resnet", "layer_type": "basic", **sizes, "out_features": STAGES[:stages], **more}


TINY_STCN: dict[str, Any] = {"key_dim": 16, "value_dim": 32, "thin_dim": 16, "decoder_dims": [32, 16, 16]}
TINY_TEXT: dict[str, Any] = {"model_type": "roberta", "hidden_size": 16, "num_hidden_layers": 1}
TINY_TEXT |= {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 66, "vocab_size": 300}
TINY_GROUNDER: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "attention_heads": 4}
TINY_GROUNDER |= {"feedforward_dim": 48, "num_points": 2, "num_queries": 3, "mask_dim": 8}
TINY_DYNAMITE: dict[str, Any] = {"hidden_size": 32, "attention_heads": 4, "pixel_decoder_layers": 1}
TINY_DYNAMITE |= {"pixel_decoder_feedforward": 16, "encoder_layers": 3, "encoder_feedforward": 24, "decoder_layers": 2}
TINY_DYNAMITE |= {"decoder_feedforward": 40, "static_background": 3, "short_side": 0}


def compile_parts(setup: Setup, owner: Any, *names: str) -> None:
    """Compile methods in place; of tiny models only the last one, which is traced alone, as compilers are slow."""
    for name in names[-1:] if setup.tiny else names:
        setattr(owner, name, torch.compile(getattr(owner, name), backend="eager" if setup.tiny else "inductor"))


def propagation(setup: Setup, engine: Any, count: int) -> Callable[[], np.ndarray]:
    """A run of a propagator from the masks of the first frame; probabilities [T, K, H, W]."""
    frames = film(3 if setup.tiny else count, *setup.size)
    prompts = FramePrompts(masks=tuple(object_masks(*setup.size)))
    return lambda: np.stack([probabilities for _, probabilities in engine(frames, {0: prompts})])


def segmentation(setup: Setup, engine: Any, count: int) -> Callable[[], np.ndarray]:
    """A run of a segmenter from points on every frame; probabilities [T, K, H, W]."""
    frames, prompts = film(2 if setup.tiny else count, *setup.size), object_points(*setup.size)
    return lambda: np.stack([engine(image, prompts) for image in frames])


def stcn_engine(shipped: bool, setup: Setup, way: str) -> Callable[[], np.ndarray]:
    """The propagator `stcn`: the shipped weights, or the published sizes with random ones."""

    def make() -> Stcn:
        if not setup.tiny:
            return Stcn(StcnConfig())
        return Stcn(StcnConfig(tiny_resnet(3), tiny_resnet(3, num_channels=5, out_features=["stage3"]), **TINY_STCN))

    options = {} if shipped and not setup.tiny else {"checkpoint": setup.saved("stcn", make)}
    settings = {"device": str(setup.device), "dtype": "float32" if way == "float32" else "bfloat16"}
    engine: Any = propagators.load("stcn", settings=settings, **options)
    if way == "compiled":
        compile_parts(setup, engine.model, "encode_key", "encode_value", "decode")
    return propagation(setup, engine, 40)


def sam2_engine(setup: Setup, way: str) -> Callable[[], np.ndarray]:
    """The propagator `sam2`: the sizes of hiera-tiny with random weights, objects always there."""
    if way == "compiled":
        raise NotSupported("transformers keeps the state of its session in Python objects between frames")

    def make() -> Sam2VideoModel:
        model = Sam2VideoModel(Sam2VideoConfig(**(tiny_sam2() if setup.tiny else {})))
        model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(50)
        return model

    settings = {"device": str(setup.device), "dtype": way}
    return propagation(setup, propagators.load("sam2", checkpoint=setup.saved("sam2", make), settings=settings), 20)


def tiny_sam2() -> dict[str, Any]:
    """A configuration of SAM 2 for videos at 64 x 64 pixels."""
    hiera: dict[str, Any] = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64]}
    hiera |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 24, 32]}
    hiera |= {"num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [4, 2, 2, 2]}
    hiera |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2]}
    width = 128  # memories have 64 channels in transformers, half of what is tracked
    vision: dict[str, Any] = {"model_type": "sam2_vision_model", "backbone_config": hiera, "fpn_hidden_size": width}
    vision |= {"backbone_channel_list": [32, 24, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    decoder = {"hidden_size": width, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    prompts = {"hidden_size": width, "mask_input_channels": 16, "image_size": 64, "patch_size": 16}
    memory: dict[str, Any] = {"memory_attention_num_layers": 1, "memory_attention_feed_forward_hidden_size": 16}
    memory |= {f"memory_{part}": width for part in ("attention_hidden_size", "encoder_hidden_size", "fuser_embed_dim")}
    memory |= {"memory_encoder_output_channels": 64, "memory_attention_rope_feat_sizes": [4, 4]}
    memory |= {"mask_downsampler_embed_dim": width, "memory_fuser_intermediate_dim": 32}
    parts = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    return {**parts, **memory, "image_size": 64}


def embedded_engine(setup: Setup, way: str) -> Callable[[], np.ndarray]:
    """The segmenter `embedded`, which works on the CPU whatever the device."""
    if way != "float32":
        raise NotSupported("the engine works on the CPU in float32 and has no settings for these")
    options = {"checkpoint": setup.saved("embedded", lambda: ClickNet(ClickNetConfig()))} if setup.tiny else {}
    return segmentation(setup, segmenters.load("embedded", **options), 8)


def dynamite_checkpoint(setup: Setup) -> str:
    """A folder with a DynaMITe of the published size with a ResNet-50, or a tiny one."""
    sizes = {"backbone_config": tiny_resnet(), **TINY_DYNAMITE} if setup.tiny else {}
    return setup.saved("dynamite", lambda: DynamiteModel(DynamiteConfig(**sizes)))


def dynamite_engine(setup: Setup, way: str) -> Callable[[], np.ndarray]:
    """The segmenter `dynamite`. It has no setting of precision: bfloat16 is autocast around its calls."""
    engine: Any = segmenters.load("dynamite", checkpoint=dynamite_checkpoint(setup), device=str(setup.device))
    if way == "compiled":
        compile_parts(setup, engine.model, "encode_image")
    run = segmentation(setup, engine, 12)

    def rounded() -> np.ndarray:
        with torch.autocast(setup.device.type, torch.bfloat16):
            return run()

    return run if way == "float32" else rounded


def grounder_engine(setup: Setup, way: str) -> Callable[[], Any]:
    """The grounder with a ResNet-50 and RoBERTa-base, random weights; a run returns a `GroundingResult`."""
    torch.manual_seed(SEED)
    config = ReferFormerConfig(tiny_resnet(), TINY_TEXT, **TINY_GROUNDER) if setup.tiny else ReferFormerConfig()
    description, spans = nouns_in(NARRATIVE)
    sides = {"short_side": 0} if setup.tiny else {}
    processor = ReferFormerProcessor(train_tokenizer([description], 300, 64), **sides)
    compute = ComputeSettings("float32" if way == "float32" else "bfloat16")
    grounder = NarrativeGrounder(ReferFormerForVNG(config), processor, str(setup.device), compute=compute)
    if way == "compiled":
        compile_parts(setup, grounder, "encode", "decode")  # as its setting `compile` does
    frames = film(4 if setup.tiny else 48, *setup.size)
    return lambda: grounder.ground(frames, description, spans)


ENGINES: Mapping[str, Callable[[Setup, str], Callable[[], Any]]] = {
    "stcn-shipped": partial(stcn_engine, True),
    "stcn-resnet50": partial(stcn_engine, False),
    "grounder-resnet50": grounder_engine,
    "dynamite-resnet50": dynamite_engine,
    "embedded": embedded_engine,
    "sam2-hiera-tiny": sam2_engine,
}


def masks_of(output: Any) -> np.ndarray:
    """The masks or probabilities of a run, float32, frames and objects in any order."""
    return np.asarray(getattr(output, "masks", output), np.float32)


def speed(name: str, way: str, setup: Setup) -> Figures:
    """Frames a second of an engine, from frames in memory to masks in memory."""
    run = ENGINES[name](setup, way)
    start = time.perf_counter()
    first = masks_of(run())
    setup.wait()
    warm_up = time.perf_counter() - start
    frames = first.shape[1 if name.startswith("grounder") else 0]
    done, seconds = setup.rate(run, 3, 6.0)
    return {
        "frames a second": done * frames / seconds,
        "frames": frames,
        "runs": done,
        "first run, s": warm_up,
        "on": "cpu" if name == "embedded" else setup.device.type,
        "all finite": bool(np.isfinite(first).all()),
    }


def same_as_cpu(setup: Setup) -> Figures:
    """How far tiny engines on this device are from the same engines on the CPU, in float32 without TF32."""
    there, here = replace(setup, tiny=True), replace(setup, tiny=True, device=torch.device("cpu"))
    pairs = []
    with tf32(False, False):
        for name, make in ENGINES.items():
            if name not in ("embedded", "stcn-shipped"):  # on the CPU anyway; as "stcn-resnet50" where tiny
                found, wanted = (masks_of(make(where, "float32")()) for where in (there, here))
                pairs.append(Pair.cut(name, found, wanted, 0.5))
    return differences(iter(pairs))
