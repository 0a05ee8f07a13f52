"""One Accelerate loop; per task its clips, losses and recipe."""
