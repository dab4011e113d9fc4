"""One decorator for every compiled function, functions with an address, the cache on disk, and the CPU."""
