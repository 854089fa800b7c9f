"""What happens to an image before and after a method: files, normalisation, intensity maps."""
