"""Photographs on their way from files to batches."""

import os

# albumentations asks the network for a newer version when it is imported; training needs no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
