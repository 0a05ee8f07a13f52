"""Released ReferFormer checkpoints: tiny ones under the authors' names, read, told apart, and imported by the command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.golden_weights import referformer_state
from tests.helpers import Cli
from vng.errors import DataError
from vng.models.loading import load_strictly
from vng.models.referformer.import_checkpoint import from_file, from_reference, infer_config
from vng.models.referformer.loading import load_model, load_processor
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import train_tokenizer

TEXTS = ("A red ball moves to the left.", "The blue star and the other star stay still.")
Shapes = dict[str, list[int]]


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def attention(name: str, c: int) -> Shapes:
    return {f"{name}.in_proj_weight": [3 * c, c], f"{name}.in_proj_bias": [3 * c], **linear(f"{name}.out_proj", c, c)}


def mlp(name: str, c: int, out: int) -> Shapes:
    return {k: v for i, n in enumerate((c, c, out)) for k, v in linear(f"{name}.layers.{i}", n, c).items()}


def resnet(stem: int = 8, widths: tuple[int, ...] = (4, 6, 8, 10), depths: tuple[int, ...] = (1, 2, 1, 1)) -> Shapes:
    """torchvision's names; `widths` are those inside a bottleneck."""

    def frozen(name: str, width: int) -> Shapes:
        return {f"{name}.{part}": [width] for part in ("weight", "bias", "running_mean", "running_var")}

    shapes: Shapes = {"conv1.weight": [stem, 3, 7, 7], **frozen("bn1", stem)}
    inputs = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for index in range(depth):
            block = f"layer{stage}.{index}"
            sizes = [[width, inputs, 1, 1], [width, width, 3, 3], [4 * width, width, 1, 1]]
            for number, size in enumerate(sizes, 1):
                shapes |= {f"{block}.conv{number}.weight": size, **frozen(f"{block}.bn{number}", size[0])}
            if index == 0:
                shapes |= {f"{block}.downsample.0.weight": [4 * width, inputs, 1, 1]}
                shapes |= frozen(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    return {f"backbone.0.body.{key}": size for key, size in shapes.items()}


def swin(width: int = 32, depths: tuple[int, ...] = (1, 2, 1, 1), window: int = 3) -> Shapes:
    """Swin's names as its authors have them."""
    shapes: Shapes = {"patch_embed.proj.weight": [width, 3, 4, 4], "patch_embed.proj.bias": [width]}
    shapes |= norm("patch_embed.norm", width)
    for stage, depth in enumerate(depths):
        c = width * 2**stage
        for index in range(depth):
            block = f"layers.{stage}.blocks.{index}"
            shapes |= norm(f"{block}.norm1", c) | norm(f"{block}.norm2", c) | linear(f"{block}.attn.qkv", 3 * c, c)
            shapes |= linear(f"{block}.attn.proj", c, c) | linear(f"{block}.mlp.fc1", 4 * c, c)
            shapes |= linear(f"{block}.mlp.fc2", c, 4 * c)
            shapes[f"{block}.attn.relative_position_bias_table"] = [(2 * window - 1) ** 2, c // 32]
            shapes[f"{block}.attn.relative_position_index"] = [window**2, window**2]
        if stage < 3:
            merge = f"layers.{stage}.downsample"
            shapes |= {f"{merge}.reduction.weight": [2 * c, 4 * c], **norm(f"{merge}.norm", 4 * c)}
        shapes |= norm(f"norm{stage}", c)
    return {f"backbone.0.body.{key}": size for key, size in shapes.items()}


def roberta(width: int = 64, layers: int = 1, vocabulary: int = 300, hidden: int = 24, positions: int = 66) -> Shapes:
    shapes: Shapes = {
        f"embeddings.{name}_embeddings.weight": [count, width]
        for name, count in (("word", vocabulary), ("position", positions), ("token_type", 1))
    }
    shapes |= norm("embeddings.LayerNorm", width) | linear("pooler.dense", width, width)
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{name}.attention.{part}", width, width)
        shapes |= norm(f"{name}.attention.output.LayerNorm", width) | norm(f"{name}.output.LayerNorm", width)
        shapes |= linear(f"{name}.intermediate.dense", hidden, width) | linear(f"{name}.output.dense", width, hidden)
    return {f"text_encoder.{key}": size for key, size in shapes.items()}


def deformable(name: str, c: int, samples: int) -> Shapes:
    return (
        linear(f"{name}.sampling_offsets", 2 * samples, c)
        | linear(f"{name}.attention_weights", samples, c)
        | linear(f"{name}.value_proj", c, c)
        | linear(f"{name}.output_proj", c, c)
    )


def checkpoint_shapes(
    backbone: Shapes,
    widths: list[int],
    text: Shapes,
    text_width: int = 64,
    c: int = 32,
    wide: int = 40,
    layers: tuple[int, int] = (1, 2),
    points: int = 2,
    queries: int = 3,
    mask_dim: int = 16,
    head: int = 233,
    refines: bool = True,
) -> Shapes:
    """Names and sizes of a checkpoint; `head` is the number of parameters of the dynamic mask head."""
    samples, block = 8 * 4 * points, "transformer.encoder.layers"
    shapes: Shapes = {**backbone, **text, "transformer.level_embed": [4, c], "query_embed.weight": [queries, c]}
    shapes |= linear("transformer.reference_points", 2, c)
    for i in range(layers[0]):
        shapes |= deformable(f"{block}.{i}.self_attn", c, samples) | norm(f"{block}.{i}.norm1", c)
        shapes |= norm(f"{block}.{i}.norm2", c)
        shapes |= linear(f"{block}.{i}.linear1", wide, c) | linear(f"{block}.{i}.linear2", c, wide)
    block = "transformer.decoder.layers"
    for i in range(layers[1]):
        shapes |= deformable(f"{block}.{i}.cross_attn", c, samples) | attention(f"{block}.{i}.self_attn", c)
        for number in (1, 2, 3):
            shapes |= norm(f"{block}.{i}.norm{number}", c)
        shapes |= linear(f"{block}.{i}.linear1", wide, c) | linear(f"{block}.{i}.linear2", c, wide)
        shapes |= linear(f"class_embed.{i}", 1, c) | mlp(f"bbox_embed.{i}", c, 4)
        shapes |= mlp(f"transformer.decoder.bbox_embed.{i}", c, 4) if refines else {}
    for i, inputs in enumerate([*widths[1:], widths[-1]]):
        kernel = 1 if i < 3 else 3
        shapes |= {f"input_proj.{i}.0.weight": [c, inputs, kernel, kernel], f"input_proj.{i}.0.bias": [c]}
        shapes |= norm(f"input_proj.{i}.1", c)
    shapes |= linear("resizer.fc", c, text_width) | norm("resizer.layer_norm", c)
    shapes |= attention("fusion_module.multihead_attn", c) | mlp("controller", c, head)
    for i, inputs in enumerate([widths[0], c, c, c], 1):
        for part, kernel, size in (("adapter", 1, inputs), ("layer", 3, c)):
            name = f"pixel_decoder.{part}_{i}"
            shapes |= {f"{name}.weight": [c, size, kernel, kernel], **norm(f"{name}.norm", c)}
        name = f"pixel_decoder.cross_attn_{i}"
        shapes |= attention(f"{name}.self_attn", c) | attention(f"{name}.multihead_attn", c)
        shapes |= linear(f"{name}.linear1", wide, c) | linear(f"{name}.linear2", c, wide)
        for number in (1, 2, 3):
            shapes |= norm(f"{name}.norm{number}", c)
    masks: Shapes = {"weight": [mask_dim, c, 3, 3], "bias": [mask_dim]}
    return shapes | {f"pixel_decoder.mask_features.{name}": size for name, size in masks.items()}


def state(kind: str = "resnet", **sizes: int | bool) -> dict[str, torch.Tensor]:
    backbone, widths = (resnet(), [16, 24, 32, 40]) if kind == "resnet" else (swin(), [32, 64, 128, 256])
    return referformer_state(checkpoint_shapes(backbone, widths, roberta(), **sizes))  # type: ignore[arg-type]


def outputs(model: ReferFormerForVNG) -> torch.Tensor:
    torch.manual_seed(0)
    ids = torch.tensor([[0, 17, 25, 33, 2]])
    nouns = torch.tensor([[[0, 0, 1, 1, 0]]], dtype=torch.bool)
    with torch.no_grad():
        return model.eval()(torch.randn(1, 2, 3, 64, 96), ids, torch.ones_like(ids), nouns).masks


def test_names_are_those_of_the_released_checkpoints(shared: Path) -> None:
    lines = (shared / "goldens" / "referformer" / "state_dict_keys.txt").read_text().splitlines()
    released = {key: json.loads(shape) for key, shape, _ in (line.split("\t") for line in lines)}
    full = resnet(64, (64, 128, 256, 512), (3, 4, 6, 3))
    made = checkpoint_shapes(
        full, [256, 512, 1024, 2048], roberta(768, 2, 1000, 256), 768, 256, 2048, (4, 4), 4, 5, 256, 2153
    )
    assert {k: v for k, v in released.items() if "num_batches_tracked" not in k} == made


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_the_configuration_is_read_off_the_weights(kind: str) -> None:
    config = infer_config(state(kind))
    backbone, text = config.backbone_config, config.text_config
    assert backbone.model_type == kind and list(backbone.depths) == [1, 2, 1, 1]
    if kind == "swin":
        assert (backbone.embed_dim, backbone.window_size, list(backbone.num_heads)) == (32, 3, [1, 2, 4, 8])
    assert (text.vocab_size, text.hidden_size, text.intermediate_size, text.layer_norm_eps) == (300, 64, 24, 1e-5)
    assert (config.d_model, config.feedforward_dim, config.encoder_layers, config.decoder_layers) == (32, 40, 1, 2)
    assert (config.num_points, config.num_queries, config.mask_dim, config.with_box_refine) == (2, 3, 16, True)
    assert (config.dynamic_mask_channels, config.relative_coordinates) == (8, True)
    assert config.conditioning == "noun" and config.frozen_stages == (2 if kind == "resnet" else 0)
    plain = infer_config(state(kind, head=217, refines=False))
    assert (plain.relative_coordinates, plain.with_box_refine) == (False, False)


@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_weights_arrive_and_all_of_them(kind: str) -> None:
    weights = state(kind)
    model = from_reference(weights)
    assert torch.equal(model.resizer_fc.weight, weights["resizer.fc.weight"]) and outputs(model).std() > 0
    if kind == "swin":
        block = "backbone.0.body.layers.1.blocks.1"
        own = model.backbone.swin.encoder.layers[1].blocks[1]
        keys = weights[f"{block}.attn.qkv.weight"].chunk(3)[1]
        assert torch.equal(own.attention.k_proj.weight, keys)
        assert torch.equal(own.layernorm_after.bias, weights[f"{block}.norm2.bias"])
    sentence = from_reference(weights, conditioning="sentence")
    assert torch.equal(sentence.text_encoder.pooler.dense.weight, weights["text_encoder.pooler.dense.weight"])
    assert not torch.equal(outputs(sentence), outputs(model))


def test_one_head_for_all_layers_is_taken_from_the_last() -> None:
    """Without box refinement the layers share their heads; a state dict lists them once a layer."""
    weights = state(refines=False)
    model = from_reference(weights)
    assert len(model.bbox_embed) == 1
    assert torch.equal(model.bbox_embed[0].layers[0].weight, weights["bbox_embed.1.layers.0.weight"])


def test_what_is_refused() -> None:
    weights = state("swin")
    patches = weights["backbone.0.body.patch_embed.proj.weight"]
    with pytest.raises(
        DataError, match=r"Video-Swin, which transformers does not have; use the checkpoint with a ResNet"
    ):
        from_reference({**weights, "backbone.0.body.patch_embed.proj.weight": patches[:, :, None]})
    with pytest.raises(DataError, match=r"class_embed\.0\.weight: has 65 classes; .*--binary"):
        from_reference({**weights, "class_embed.0.weight": torch.zeros(65, 32)})
    with pytest.raises(DataError, match=r"query_embed\.weight: is missing: not a ReferFormer"):
        from_reference({"a": torch.zeros(1)})
    with pytest.raises(DataError, match="250 parameters of a dynamic mask head match no known number of layers"):
        from_reference({**weights, "controller.layers.2.weight": torch.zeros(250, 32)})
    with pytest.raises(DataError, match="neither a ResNet with bottlenecks nor a Swin"):
        from_reference({k: v for k, v in weights.items() if not k.startswith("backbone")})
    with pytest.raises(DataError, match=r"1 missing: resizer_fc\.bias; 1 unknown: resizer\.more"):
        from_reference({("resizer.more" if k == "resizer.fc.bias" else k): v for k, v in weights.items()})


def released(path: Path, weights: dict[str, torch.Tensor], **more: object) -> Path:
    """A file as their program writes it: arguments, optimizer and profiler's counters beside the weights."""
    counted = {**weights, "total_ops": torch.zeros(1), "backbone.0.total_params": torch.zeros(1)}
    told = argparse.Namespace(lr=1e-4, lr_drop=[6, 8], backbone="resnet50", resume="", **more)
    torch.save({"model": counted, "optimizer": {"state": {}}, "epoch": 5, "args": told}, path)
    return path


def test_files_with_their_arguments(tmp_path: Path) -> None:
    weights = state()
    model = from_file(released(tmp_path / "r.pth", weights))
    assert torch.equal(model.query_embed.weight, weights["query_embed.weight"])
    kept = from_file(released(tmp_path / "path.pth", weights, folder=Path("x")))  # a path is a plain value
    assert torch.equal(kept.query_embed.weight, weights["query_embed.weight"])
    with pytest.raises(DataError, match="could run code"):
        from_file(released(tmp_path / "bad.pth", weights, folder=print))


def test_import_from_a_shell(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    train_tokenizer(TEXTS, 300, 64).save_pretrained(tmp_path / "tokenizer")
    file = released(tmp_path / "r.pth", state())
    given = ("import", file, "--model", "referformer", "--tokenizer", tmp_path / "tokenizer")
    assert cli(*given, "--out", tmp_path / "noun").status == 0
    assert cli(*given, "--out", tmp_path / "sentence", "--conditioning", "sentence").out.endswith("sentence\n")
    model, processor = load_model(str(tmp_path / "noun")), load_processor(str(tmp_path / "noun"))
    torch.testing.assert_close(outputs(model), outputs(from_file(file)), atol=1e-4, rtol=0)
    assert processor.text(TEXTS, [[(6, 10)], []])["noun_tokens"].any()
    assert load_strictly(ReferFormerForVNG, tmp_path / "sentence").config.conditioning == "sentence"
    again = cli(*given, "--out", tmp_path / "noun")
    assert again.status == 2 and "exists and is not an empty folder; choose another --out" in again.err
    wrong = cli("import", file, "--model", "stcn", "--out", tmp_path / "x", "--conditioning", "noun")
    assert wrong.status == 2 and "--conditioning goes with --model referformer" in wrong.err
    lost = cli("import", file, "--model", "referformer", "--tokenizer", tmp_path / "none", "--out", tmp_path / "x")
    assert lost.status == 1 and "give --tokenizer" in lost.err and not (tmp_path / "x").exists()
    other = cli("import", file, "--model", "dynamite", "--out", tmp_path / "x")
    assert other.status == 1 and "not a DynaMITe" in other.err
