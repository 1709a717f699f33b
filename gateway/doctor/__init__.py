"""Look a trust's archive over, layer by layer, and say in words what to mend or to set (product N1: `doctor`)."""
