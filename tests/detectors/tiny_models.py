"""Tiny random models of published detectors and image-text models, saved as the hub holds them."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers as t

WORDS = ["a", "photo", "of", "red", "green", "blue", "ball", "box", "parrot", "beak", "with", "the", "left", "other"]


def bert_tokenizer() -> Any:
    """WordPiece over a few words and all letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), ".", ",", "?"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(w for w in WORDS if len(w) > 1)]
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=pair
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return t.BertTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **special), len(vocabulary)


def clip_tokenizer() -> Any:
    """Bytes without merges, as CLIP's tokenizer would have them."""
    ids: dict[str, int] = {}
    for symbol in [*string.ascii_lowercase, *string.punctuation, *string.digits]:
        ids[symbol] = len(ids)
        ids[symbol + "</w>"] = len(ids)
    for special in ("<|startoftext|>", "<|endoftext|>"):
        ids[special] = len(ids)
    return t.CLIPTokenizer(vocab=ids, merges=[]), len(ids)


def grounding_dino(folder: Path, kind: str = "GroundingDino", seed: int = 0) -> Path:
    """A Grounding DINO, or with kind "MMGroundingDino" that one, whose boxes are the encoder's grid of proposals."""
    torch.manual_seed(seed)
    tokenizer, size = bert_tokenizer()
    backbone = t.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4], image_size=64
    )
    text = t.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24
    )
    config = getattr(t, f"{kind}Config")(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_queries=12,
        num_feature_levels=4,
        max_text_len=64,
    )
    model = getattr(t, f"{kind}ForObjectDetection")(config)
    for name, parameter in model.named_parameters():
        if "bbox_embed" in name and name.split(".")[-2] == str(2):
            torch.nn.init.zeros_(parameter)  # no offset from the proposals
    model.save_pretrained(folder)
    images = t.GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}, do_pad=False)
    t.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}


def text_settings(tokenizer: Any, size: int, **more: int) -> dict[str, int]:
    """A small text encoder for the vocabulary of `clip_tokenizer`."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return {"vocab_size": size, **SMALL, **ids, **more}


def owlv2(folder: Path) -> Path:
    """An OWLv2 of 4 x 4 patches whose boxes are the grid of the patches."""
    torch.manual_seed(1)
    tokenizer, size = clip_tokenizer()
    config = t.Owlv2Config(text_config=text_settings(tokenizer, size), vision_config=VISION, projection_dim=16)
    model = t.Owlv2ForObjectDetection(config)
    torch.nn.init.zeros_(model.box_head.dense2.weight)
    torch.nn.init.zeros_(model.box_head.dense2.bias)
    model.save_pretrained(folder)
    images = t.Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    t.Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return folder


def siglip(folder: Path, kind: str = "siglip") -> Path:
    """A SigLIP (of which SigLIP 2 at one size is an instance) or a CLIP."""
    torch.manual_seed(2)
    tokenizer, size = clip_tokenizer()
    length = 16 if kind == "siglip" else 77
    text = text_settings(tokenizer, size, max_position_embeddings=length, projection_size=16) | {"pad_token_id": 1}
    if kind == "siglip":
        t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)
        images = t.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    else:
        config = t.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
        t.CLIPModel(config).save_pretrained(folder)
        images = t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    images.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sam3(folder: Path) -> Path:
    """A SAM 3 whose boxes are its learned reference boxes: the q-th query lies at (0.2 + 0.1 q, 0.5), 0.2 x 0.4."""
    torch.manual_seed(3)
    tokenizer, size = clip_tokenizer()
    vit = {"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    vit |= {"num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1]}
    vision = {"model_type": "sam3_vision_model", "backbone_config": {**vit, "pretrain_image_size": 28}}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 32}
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 24, "num_layers": 1}
    config = t.Sam3Config(
        vision_config=vision,
        text_config=text_settings(tokenizer, size, projection_dim=16),
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    model = t.Sam3Model(config)
    with torch.no_grad():
        for layer in (model.detr_decoder.box_head.layer3,):
            layer.weight.zero_()
            layer.bias.zero_()
        places = torch.tensor([[0.2 + 0.1 * q, 0.5, 0.2, 0.4] for q in range(6)])
        model.detr_decoder.reference_points.weight.copy_(places.logit())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
