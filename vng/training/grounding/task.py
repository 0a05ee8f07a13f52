"""The grounding task: model, processor and clips of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from vng.dataset import VngDataset
from vng.errors import DataError
from vng.grounding.model_card import write_card
from vng.models.loading import find_model, load_or_raise, load_strictly
from vng.models.referformer.configuration_referformer import WITHOUT_SHAPE, ReferFormerConfig
from vng.models.referformer.loading import load_model
from vng.models.referformer.modeling_referformer import ReferFormerForVNG, text_model
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn
from vng.training.grounding.clips import ClipSampler, Collator
from vng.training.grounding.recipe import GroundingRecipe, ModelSettings
from vng.training.grounding.score import grounding_score
from vng.training.loop import Task

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build_grounding(recipe: GroundingRecipe, opened: Mapping[Path, VngDataset]) -> Task:
    """Model, samples and saver of a grounding recipe."""
    data = recipe.data
    datasets = [source.open(opened) for source in data.sources]
    model, processor = build_model(recipe.model, datasets, data.short_side, data.long_side)

    def samples(length: int) -> ClipSampler:
        return ClipSampler(datasets, data, processor, recipe.seed, length, recipe.supervision)

    samples(1).check()

    def save(trained: nn.Module, folder: Path) -> None:
        assert isinstance(trained, ReferFormerForVNG)
        trained.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_card(folder, recipe.out.name, recipe.model_dump(mode="json"))

    score = None if recipe.evaluate is None else grounding_score(recipe.evaluate, processor)
    return Task(model, samples, Collator(processor), save, score)


def build_model(
    settings: ModelSettings, datasets: Sequence[VngDataset], short_side: int, long_side: int
) -> tuple[ReferFormerForVNG, ReferFormerProcessor]:
    """A grounder to train: an earlier one, or a new one over pre-trained or fresh encoders."""
    if settings.init is not None:
        changes = {name: value for name, value in settings.sizes.items() if name in WITHOUT_SHAPE}
        model = load_model(settings.init, **changes)
        model.freeze()  # loading makes new parameters, all of them trainable
        name = str(settings.init)
        cure = "its tokenizer is missing or damaged"
        earlier = load_or_raise(name, lambda: AutoTokenizer.from_pretrained(name), cure)
        return model, ReferFormerProcessor(earlier, short_side, long_side)
    tokenizer = _tokenizer(settings, datasets)
    sizes = dict(settings.sizes)
    text = settings.text_encoder
    if isinstance(text, dict):
        text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **text}
    try:
        model = _new_model(settings, text, sizes)
    except OSError as error:  # of the hub's client, for a name that it cannot find or reach
        names = ", ".join(n for n in (settings.backbone, settings.text_encoder) if isinstance(n, str))
        reason = f"neither folders nor available from the hub ({type(error).__name__})"
        raise DataError(
            names, reason=reason, cure="check model.backbone and model.text_encoder, or the network"
        ) from error
    return model, ReferFormerProcessor(tokenizer, short_side, long_side)


def _new_model(settings: ModelSettings, text: Any, sizes: dict[str, Any]) -> ReferFormerForVNG:
    """A model with new heads over the encoders that the settings name."""
    stcn = _point_stcn(settings.backbone)
    backbone = _backbone_config(settings.backbone) if stcn is None else _without_precision(stcn.config.key_backbone)
    model = ReferFormerForVNG(ReferFormerConfig(backbone, _text_config(text), **sizes))
    if stcn is not None:
        model.backbone.load_state_dict(stcn.key_encoder.state_dict())
    elif isinstance(settings.backbone, str):
        # The class itself, not AutoBackbone, which contacts the hub even for a local folder.
        model.backbone = type(model.backbone).from_pretrained(settings.backbone, out_features=STAGES)
    if isinstance(settings.text_encoder, str):
        model.text_encoder = text_model(model.config, settings.text_encoder)
    model.float()  # training adds small steps, so pre-trained parts of any precision become float32
    model.freeze()
    return model


def _without_precision(config: PretrainedConfig) -> dict[str, Any]:
    """A part's configuration without its precision, which would otherwise stay in the saved float32 model."""
    return {name: value for name, value in config.to_dict().items() if name not in ("dtype", "torch_dtype")}


def _point_stcn(backbone: str | dict[str, Any]) -> Stcn | None:
    """The trained STCN whose key encoder is a recipe's backbone; None if the backbone is another model."""
    if isinstance(backbone, dict):
        return None
    backbone = str(find_model(backbone))
    config, _ = PretrainedConfig.get_config_dict(backbone)
    return load_strictly(Stcn, backbone) if config.get("model_type") == StcnConfig.model_type else None


def _tokenizer(settings: ModelSettings, datasets: Sequence[VngDataset]) -> PreTrainedTokenizerBase:
    if settings.tokenizer != "train":
        try:
            return AutoTokenizer.from_pretrained(settings.tokenizer)
        except (OSError, ValueError) as error:
            reason = f"no tokenizer here, and none on the hub ({type(error).__name__})"
            raise DataError(settings.tokenizer, reason=reason, cure="check model.tokenizer, or the network") from error
    texts = [text for dataset in datasets for text in dataset.descriptions]
    limit = 512
    if isinstance(settings.text_encoder, dict):
        limit = settings.text_encoder.get("max_position_embeddings", 514) - 2  # RoBERTa counts from pad_token_id + 1
    return train_tokenizer(texts, settings.vocab_size, limit)


def _backbone_config(value: str | dict[str, Any]) -> Any:
    if isinstance(value, str):
        return AutoConfig.from_pretrained(value, out_features=STAGES)
    return {"out_features": STAGES, **value}


def _text_config(value: str | dict[str, Any]) -> Any:
    return AutoConfig.from_pretrained(value) if isinstance(value, str) else value
