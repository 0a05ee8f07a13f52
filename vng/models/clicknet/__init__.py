"""ClickNet (ours): a heavy image encoder run once, a light head per object fed with click evidence."""
