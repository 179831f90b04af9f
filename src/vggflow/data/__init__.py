"""What the images are: layout, import, manifest, checks and pixels."""
