"""A table that a user has, with columns of his own, read as a manifest."""
