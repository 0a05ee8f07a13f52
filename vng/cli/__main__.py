"""`python -m vng.cli ...`: how `torchrun` and `accelerate launch` start commands."""

from vng.cli.app import entry_point

if __name__ == "__main__":
    entry_point()
