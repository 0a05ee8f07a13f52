"""ABS (Attention Before Segmentation), the network of ClickVOS."""
