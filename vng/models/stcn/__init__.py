"""STCN and Point-STCN."""
