"""EfficientNet-Lite: small image backbones that start from ImageNet; importing this registers them."""

from transformers import AutoBackbone, AutoConfig

from vng.models.efficientnet_lite.configuration_efficientnet_lite import EfficientNetLiteConfig
from vng.models.efficientnet_lite.modeling_efficientnet_lite import EfficientNetLiteBackbone

AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
