"""DynaMITe: interactive segmentation of all objects of an image in one pass (Rana et al., ICCV 2023)."""
