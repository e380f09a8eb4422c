"""From a checkpoint and photographs to predictions, heat maps and a page: nothing else is needed."""
