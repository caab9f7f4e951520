"""What a call costs: a dated price catalogue and an integer engine. Pure, but for its `load`."""
