"""Training of class-agnostic proposals: Mask2Former on frames apart (MinVIS), for PointVIS."""
