"""Published formats, one file each: reader, writer and conversion."""
