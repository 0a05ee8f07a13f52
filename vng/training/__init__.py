"""One Accelerate training loop; each task has its own clips, losses and recipe."""
