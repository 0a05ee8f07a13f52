"""Training of STCN and Point-STCN."""
