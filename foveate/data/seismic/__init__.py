"""Kind "seismic": velocity models with their shot gathers: generated with salt, OpenFWI's, FCNVMB's, pairs of files."""
