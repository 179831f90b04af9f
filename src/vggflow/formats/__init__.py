"""What each image format lets one check of a file, beside what the decoder says."""
