"""Training of click segmenters: the embedded one, and DynaMITe."""
