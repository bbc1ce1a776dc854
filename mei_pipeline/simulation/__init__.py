"""From a slice of the lake to arrays, feature columns, and one call of the kernels on the CPU or a GPU."""
