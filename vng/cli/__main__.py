"""`python -m vng.cli ...`: the entry point for `torchrun` and `accelerate launch`."""

from vng.cli.app import entry_point

if __name__ == "__main__":
    entry_point()
