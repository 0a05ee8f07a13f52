"""Published formats, one file each: how to read it, write it, and convert it."""
