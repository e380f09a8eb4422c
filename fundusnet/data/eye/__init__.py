"""A synthetic eye: fundus photographs with known anatomy, lesions and readings, drawn in milliseconds."""
