"""The rules on a CUDA device: what its threads do, how they are compiled without one, and how they are started."""
