"""The benchmarks of images: into the sealed cache, out of it, through it, and what runs beside."""
