"""STCN against the goldens of the authors' program (PEERS.md, section 2), with weights that come from names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden_weights import STCN_GAINS, STCN_SMALL, drawn
from vng.errors import DataError
from vng.frames import ArrayFrames
from vng.models.stcn.import_checkpoint import from_file, from_reference
from vng.models.stcn.modeling_stcn import Stcn
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnPropagator, StcnSettings

PUBLISHED = {
    "base": (5, False, 20),
    "mem2_last": (2, True, 20),
    "pad": (2, False, 20),
    "one": (2, False, 20),
    "three_top50": (1, False, 50),
    "yv": (2, False, 20),
}


def reference_state(folder: Path) -> dict[str, torch.Tensor]:
    lines = (folder / "state_dict_keys.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    return {key: drawn(key, json.loads(shape), STCN_GAINS, STCN_SMALL) for key, shape, _ in rows}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "goldens" / "stcn"


@pytest.fixture(scope="module")
def arrays(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "golden_stcn.npz"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Stcn:
    return from_reference(reference_state(folder)).eval()


def near(found: torch.Tensor, wanted: np.ndarray, within: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max()))
    assert float((found - torch.from_numpy(wanted)).abs().max()) <= within * scale


@torch.no_grad()
def test_layers(model: Stcn, arrays: dict[str, np.ndarray]) -> None:
    pixels = model.normalise(torch.from_numpy(arrays["base/rgb"][:1]).permute(0, 3, 1, 2))
    features = model.encode_key(pixels)
    near(features.key, arrays["layer/k16"])
    near(features.thin, arrays["layer/f16_thin"])
    near(features.deep.mean((2, 3)), arrays["layer/f16_mean"])
    for level, name in enumerate(("layer/f4_0", "layer/f8_0")):
        wanted = arrays[name]
        near(features.skips[level][:, : wanted.shape[1]], wanted)
    labels = torch.from_numpy(arrays["base/lab0"])
    masks = torch.stack([labels == 1, labels == 2]).float()[None]
    given = model.aggregate(masks).softmax(1)[:, 1:]
    value = model.encode_value(pixels, features.deep, given)
    near(value[0][:, :, None], arrays["layer/value"])


@torch.no_grad()
@pytest.mark.parametrize(("name", "valid"), [("both", (True, True)), ("one", (True, False))])
def test_training_network(model: Stcn, arrays: dict[str, np.ndarray], name: str, valid: tuple[bool, bool]) -> None:
    """Frame 1 of "base" read from the true masks of frame 0; an object that is not valid has no place in ours."""
    frames, labels = torch.from_numpy(arrays["base/rgb"][:2]), torch.from_numpy(arrays["base/lab0"])
    prompts = torch.stack([labels == 1, labels == 2]).float()[None]
    logits = model(frames.permute(0, 3, 1, 2)[None], prompts, torch.tensor([valid])).logits[:, 0]
    there = 1 + sum(valid)
    near(logits[:, :there], arrays[f"train/logits_{name}"][:, :there])
    near(logits.softmax(1)[:, 1:], arrays[f"train/prob_{name}"])


class InMemory(StcnPropagator):
    """The engine on a model that is at hand, as published."""

    def __init__(self, model: Stcn, settings: StcnSettings) -> None:
        self.model, self.settings = model, settings


@pytest.fixture(scope="module")
def used(folder: Path) -> Stcn:
    """The model as the propagator loads it: normalisation folded, convolutions quick."""
    return from_reference(reference_state(folder)).fused()


@pytest.fixture(scope="module")
def used_in_double(folder: Path) -> Stcn:
    """The fused model in float64. Two memory cells of "yv" tie within float32 rounding: the CPU decides which is read."""
    return from_reference(reference_state(folder)).double().fused()


WAYS = [(name, "model", 100_000) for name in PUBLISHED]
WAYS += [(name, "used_in_double" if name == "yv" else "used", None) for name in PUBLISHED]


@pytest.mark.parametrize(("name", "way", "budget"), WAYS)
def test_clips(
    request: pytest.FixtureRequest, arrays: dict[str, np.ndarray], name: str, way: str, budget: int | None
) -> None:
    """Whole clips through the engine, as trained and as used; a budget that is never reached changes nothing."""
    every, last, top_k = PUBLISHED[name]
    first = arrays[f"{name}/lab0"]
    count = arrays[f"{name}/prob"].shape[0] - 1
    ids = range(1, count + 1)
    prompts = {0: FramePrompts(masks=tuple(first == k for k in ids))}
    if name == "yv":
        third = arrays["yv/lab3"]
        prompts = {0: FramePrompts(masks=(first == 1, None)), 3: FramePrompts(masks=(None, third == 2))}
    engine = InMemory(request.getfixturevalue(way), StcnSettings(every=every, last=last, top_k=top_k, budget=budget))
    found = dict(engine(ArrayFrames(arrays[f"{name}/rgb"]), prompts))
    wanted = arrays[f"{name}/prob"][1:, :, 0]
    differences = [np.abs(found[t] - wanted[:, t]).max() for t in range(wanted.shape[1])]
    assert sorted(found) == list(range(wanted.shape[1]))
    assert max(differences) <= 1e-5, differences


def test_completely_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    state = reference_state(folder)
    del state["decoder.pred.weight"]
    state["elsewhere"] = torch.zeros(3)
    torch.save({"network": state, "it": 5}, tmp_path / "stcn.pth")
    with pytest.raises(DataError, match=r"1 missing: decoder\.pred\.weight; 1 unknown: elsewhere"):
        from_file(tmp_path / "stcn.pth")


def test_single_object_weights_are_widened(folder: Path, model: Stcn, tmp_path: Path) -> None:
    state, stem = reference_state(folder), "value_encoder.conv1.weight"
    state[stem] = state[stem][:, :4].clone()
    torch.save(state, tmp_path / "stcn_single.pth")
    widened = from_file(tmp_path / "stcn_single.pth").value_encoder.backbone.embedder.embedder.convolution.weight
    own = model.value_encoder.backbone.embedder.embedder.convolution.weight
    assert widened.shape == own.shape and torch.equal(widened[:, :4], own[:, :4])
    extra = widened[:, 4].flatten(1)
    assert torch.allclose(extra.T @ extra, torch.eye(extra.shape[1]), atol=1e-5)  # orthogonal: 64 x 49
