"""Image backbones of our networks: any of `transformers`, and EfficientNet-Lite, which importing this registers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

import vng.models.efficientnet_lite  # noqa: F401
from vng.errors import DataError
from vng.models.checkpoints import misfits
from vng.models.loading import load_or_raise

CURE = "check the backbone's name, or the network"


def named_config(value: dict[str, Any] | PretrainedConfig) -> PretrainedConfig:
    """A part's configuration from its settings, which name the `model_type`."""
    if isinstance(value, PretrainedConfig):
        return value
    value = dict(value)
    return AutoConfig.for_model(value.pop("model_type"), **value)


def published_config(source: str) -> Any:
    """The configuration of a pre-trained backbone (folder or hub id); raises DataError if there is none."""
    return load_or_raise(source, lambda: AutoConfig.from_pretrained(source), CURE)


def start_from(encoder: PreTrainedModel, source: str) -> None:
    """Load pre-trained weights into a backbone; further input channels start orthogonal, as in STCN's program.

    Raises:
        DataError: nothing loads from there, or weights are missing (listed by name).
    """
    config = type(encoder.config)(**{**encoder.config.to_dict(), "num_channels": 3})
    result: Any = load_or_raise(
        source, lambda: type(encoder).from_pretrained(source, config=config, output_loading_info=True), CURE
    )
    loaded, report = result
    if missing := misfits({"missing": sorted(report["missing_keys"])}):
        raise DataError(source, field="weights", reason=missing, cure="choose another backbone")
    state = loaded.float().state_dict()
    for name, target in encoder.state_dict().items():
        if state[name].shape != target.shape:
            new_channels = torch.empty(target.shape[0], target.shape[1] - state[name].shape[1], *target.shape[2:])
            state[name] = torch.cat([state[name], nn.init.orthogonal_(new_channels)], 1)
    encoder.load_state_dict(state)
