"""From a checkpoint and photographs to predictions, heat maps and a report; no other file is needed."""
