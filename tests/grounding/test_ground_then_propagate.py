"""Ground, then propagate: which frames are shown, what comes back where, features computed once for two networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.grounding.test_grounder import NARRATIVE, make_model
from tests.models.referformer.test_modeling_referformer import TEXT, tiny_config
from vng.errors import UsageError
from vng.evaluation.metrics import jaccard
from vng.frames import ArrayFrames
from vng.grounding.ground_then_propagate import (
    Grounded,
    GroundThenPropagate,
    PropagationSettings,
    choose_anchors,
    claimed,
    same_objects,
)
from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.windows import WindowSettings
from vng.masks import decode_many, empty, encode
from vng.models.frame_maps import FrameMaps
from vng.models.referformer.processing_referformer import ReferFormerProcessor, train_tokenizer
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.modeling_stcn import Stcn
from vng.narratives import nouns_in
from vng.propagators.stcn import MapsOf

T, H, W = 9, 48, 80


def truth(n: int) -> np.ndarray:
    """Bool [T, H, W]: a box that moves, in the upper or the lower half."""
    masks = np.zeros((T, H, W), bool)
    for t in range(T):
        masks[t, 5 + 24 * n : 19 + 24 * n, 8 + 5 * t : 26 + 5 * t] = True
    return masks


def film() -> ArrayFrames:
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 100, (H, W, 3))
    texture = [rng.integers(0, 255, (14, 18, 3)) for _ in range(2)]
    frames = np.stack([ground] * T).astype(np.uint8)
    for n in range(2):
        for t in range(T):
            frames[t][truth(n)[t]] = texture[n].reshape(-1, 3)
    return ArrayFrames(frames)


def grounded(right: Sequence[Sequence[int]], score: float = 0.9, low: float = 0.3) -> Grounded:
    """Two nouns, right with a high score in some frames; elsewhere each takes the other's box, with a low score."""
    rles, scores = [], np.full((2, T), low)
    for n in range(2):
        mine = np.where(np.isin(np.arange(T), right[n])[:, None, None], truth(n), truth(1 - n))
        rles.append(tuple(encode(mask) for mask in mine))
        scores[n, list(right[n])] = score
    return Grounded(tuple(rles), scores, np.full((2, T), 0.8))


def of_masks(*rows: np.ndarray) -> Grounded:
    count, length = len(rows), len(rows[0])
    rles = tuple(tuple(encode(mask) for mask in row) for row in rows)
    return Grounded(rles, np.full((count, length), 0.9), np.ones((count, length)))


class TestAnchors:
    def test_surest_frames_apart_from_each_other(self) -> None:
        found = grounded([range(T), range(T)])
        found.scores[0] = [0.6, 0.9, 0.95, 0.9, 0.7, 0.6, 0.8, 0.4, 0.4]
        found.scores[1] = 0.2
        assert choose_anchors(found, PropagationSettings(anchors=3)) == [[2, 6, 4], []]
        assert choose_anchors(found, PropagationSettings(anchors=1)) == [[2], []]
        assert choose_anchors(found, PropagationSettings(anchors=9, confidence=0.85)) == [[2, 1, 3], []]

    def test_uncertain_absent_and_disputed_masks_are_not_shown(self) -> None:
        found = of_masks(truth(0), truth(1))
        found.certainty[0, 2] = 0.5
        found.certainty[1] = 0.0
        rows = [list(row) for row in found.rles]
        rows[1][:2] = rows[0][:2]  # two nouns on one thing: neither is to be trusted
        rows[0][4] = empty(H, W)
        dubious = Grounded(tuple(map(tuple, rows)), found.scores, found.certainty * (decode_many(rows[0]).any((1, 2))))
        assert claimed(dubious)[0].tolist() == [0.9, 0.9, 0, 0, 0, 0, 0, 0, 0]
        anchors = choose_anchors(dubious, PropagationSettings(anchors=9))
        assert anchors == [[3, 5, 6, 7, 8, 0, 1, 2], []]

    def test_nouns_of_one_object_are_one(self) -> None:
        assert same_objects(of_masks(truth(0), truth(1), truth(0))) == [[0, 2], [1]]
        nothing = np.zeros_like(truth(0))
        assert same_objects(of_masks(nothing, nothing)) == [[0], [1]]  # absent things are not the same thing

    def test_settings(self) -> None:
        choices = {
            "direction": "unknown direction 'x'",
            "presence": "unknown presence 'x'",
            "propagator": "propagator 'x'",
        }
        for name, words in choices.items():
            with pytest.raises(UsageError, match=words):
                PropagationSettings(**{name: "x"})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="anchors=0"):
            PropagationSettings(anchors=0)
        with pytest.raises(UsageError, match=r"confidence=-0\.1"):
            PropagationSettings(confidence=-0.1)


class TestSpread:
    def test_swapped_frames_are_mended_from_sure_ones(self) -> None:
        found = grounded([[4], [1, 6]])
        told: list[int] = []
        spreading = GroundThenPropagate(PropagationSettings(propagator="flow"), "cpu")
        spread = spreading(film(), found, on_frame=lambda: told.append(1))
        assert spread.propagated.sum(1).tolist() == [T - 1, T - 2] and not spread.propagated[0, 4]
        for n in range(2):
            before, after = (jaccard(truth(n), decode_many(rles[n])).mean() for rles in (found.rles, spread.rles))
            assert before < 0.3 and after > 0.65
        assert len(told) == 2 * T and spread.rles[0][4] == found.rles[0][4]  # an anchor stays as it was

    def test_directions(self) -> None:
        found = grounded([[4], []])
        for direction, frames in (
            ("forwards", range(5, T)),
            ("backwards", range(4)),
            ("both", [0, 1, 2, 3, 5, 6, 7, 8]),
        ):
            spreading = GroundThenPropagate(PropagationSettings(propagator="flow", direction=direction), "cpu")  # type: ignore[arg-type]
            spread = spreading(film(), found)
            assert spreading.passes == (2 if direction == "both" else 1)
            assert np.flatnonzero(spread.propagated[0]).tolist() == list(frames)
            assert not spread.propagated[1].any() and spread.rles[1] == found.rles[1]  # no anchor: grounding's masks

    def test_who_says_whether_a_thing_is_there(self) -> None:
        found = grounded([[4], [1]])
        rows = [list(row) for row in found.rles]
        rows[0][0] = rows[0][1] = empty(H, W)
        found.scores[0, 7] = 0.6
        found = Grounded(tuple(map(tuple, rows)), found.scores, found.certainty)

        def engine(frames: Any, prompts: Any) -> Any:  # finds things in the first half of what it is given
            for t in range(len(frames)):
                yield t, np.full((2, H, W), t < T // 2, np.float32) * np.array([0.9, 0.8], np.float32)[:, None, None]

        for presence, expected in (("grounder", [2, 3, 5, 6, 8]), ("propagator", [0, 1, 2, 3, 5, 6, 7, 8])):
            spreading = GroundThenPropagate(PropagationSettings(propagator="flow", anchors=1, presence=presence), "cpu")  # type: ignore[arg-type]
            spreading.engine = engine  # type: ignore[assignment]
            assert np.flatnonzero(spreading(film(), found).propagated[0]).tolist() == expected

    def test_the_nearest_anchor_speaks(self) -> None:
        asked: list[list[int]] = []

        def engine(frames: Any, prompts: Any) -> Any:
            asked.append(sorted(prompts))
            for t in range(len(frames)):
                mask = np.zeros((1, H, W), np.float32)
                mask[0, 2 * len(asked) :] = 1  # the pass can be told from the mask
                yield t, mask

        spreading = GroundThenPropagate(PropagationSettings(propagator="flow", anchors=2), "cpu")
        spreading.engine = engine  # type: ignore[assignment]
        spread = spreading(film(), grounded([[1, 6], []]))
        assert asked == [[1, 6], [2, 7]]  # backwards, frames are counted from the end
        first_rows = [int(mask.any(1).argmax()) for mask in decode_many(spread.rles[0])]
        assert first_rows == [4, 5, 2, 2, 4, 4, 5, 2, 2]  # 5: the anchors' own masks

    def test_of_two_nouns_on_one_thing_the_surer_is_shown(self) -> None:
        found = grounded(
            [[4], [1]]
        )  # elsewhere each lies on the other's box: in frame 1 both are on one, in 4 on the other
        found.scores[:] = 0.55
        found.scores[1, 1] = 0.9
        seen: list[list[bool]] = []

        def engine(frames: Any, prompts: Any) -> Any:
            seen.extend([mask is not None for mask in prompt.masks] for prompt in prompts.values())
            yield from ((t, np.zeros((2, H, W), np.float32)) for t in range(len(frames)))

        spreading = GroundThenPropagate(PropagationSettings(propagator="flow", anchors=9, direction="forwards"), "cpu")
        spreading.engine = engine  # type: ignore[assignment]
        spreading(film(), found)
        assert seen[1] == [False, True] and seen[4] == [True, False] and [True, True] in seen

    def test_nothing_sure_changes_nothing(self) -> None:
        found = grounded([[], []])
        spread = GroundThenPropagate(PropagationSettings(propagator="flow"), "cpu")(film(), found)
        assert spread.rles == found.rles and not spread.propagated.any()


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(UsageError, match="nonsense"):
        GroundThenPropagate(PropagationSettings(propagator="flow", options={"nonsense": "1"}), "cpu")


class TestSharedFeatures:
    @pytest.fixture
    def stcn(self, tmp_path: Any) -> Any:
        torch.manual_seed(0)
        sizes = {
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 12, 16],
            "depths": [1, 1, 1],
            "layer_type": "basic",
            "out_features": ["stage1", "stage2", "stage3"],
        }
        config = StcnConfig(
            sizes, sizes | {"num_channels": 5}, key_dim=8, value_dim=16, thin_dim=8, decoder_dims=[12, 8, 8]
        )
        model = Stcn(config)
        model.save_pretrained(tmp_path / "stcn")
        return tmp_path / "stcn", model

    def grounder(self, path: Any, network: Stcn, **options: Any) -> NarrativeGrounder:
        config = tiny_config()
        config.backbone_config = network.config.key_backbone
        model = make_model(config)
        model.backbone.load_state_dict(network.key_encoder.state_dict())
        processor = ReferFormerProcessor(train_tokenizer(TEXT, 300, 64), short_side=66, long_side=110)
        told = {"checkpoint": str(path), "confidence": 0, "presence": "propagator", **options}
        settings = PropagationSettings(propagator="stcn", **told)
        return NarrativeGrounder(model, processor, "cpu", windows=WindowSettings(4), propagation=settings)

    def test_one_network_computes_once(self, stcn: Any) -> None:
        path, network = stcn
        description, spans = nouns_in(NARRATIVE)
        for options, shared in (({}, T), ({"share": False}, 0), ({"share_bytes": 1}, 0)):
            grounder = self.grounder(path, network, **options)
            engine: Any = grounder.propagation.engine  # type: ignore[union-attr]
            calls: list[int] = []
            engine.model.key_encoder.register_forward_hook(lambda *_, seen=calls: seen.append(1))
            counts: list[int] = []
            result = grounder.ground(film(), description, spans, counts.append)
            assert result.propagated is not None and result.propagated.any()
            assert (len(calls) == 0) == (shared > 0) and grounder.shares_features == ("share" not in options)
            assert grounder.passes(5) == 15 and sum(counts) <= 3 * T

    def test_shared_maps_are_those_it_would_compute(self, stcn: Any) -> None:
        path, network = stcn
        engine: Any = self.grounder(path, network).propagation.engine  # type: ignore[union-attr]
        maps = FrameMaps(66, 110, 1 << 20)
        pixels = {}
        for t in range(2):
            view = engine._view(film(), MapsOf(maps))
            assert view.padded == (96, 128)
            pixels[t] = network.normalise(view.image(film()[t]))
            with torch.no_grad():
                maps.add(t, [m[0] for m in network.eval().key_encoder(pixels[t]).feature_maps])
        with torch.no_grad():
            own = engine.model.encode_key(pixels[1])
            given = engine.model.encode_key(pixels[1], MapsOf(maps, length=2).get(0, pixels[1]))
        for name in ("key", "thin", "deep"):
            torch.testing.assert_close(getattr(own, name), getattr(given, name), atol=1e-4, rtol=1e-4)
        assert maps.get(5, pixels[0]) is None and len(maps) == 2
        maps.close()

    def test_other_weights_are_not_shared(self, stcn: Any) -> None:
        path, network = stcn
        with torch.no_grad():
            next(network.key_encoder.parameters()).add_(0.1)  # the grounder's, after the STCN was saved
        assert not self.grounder(path, network).shares_features
