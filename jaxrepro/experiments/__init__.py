"""One file a paper: `Config`, `init_params(config, key)` and `build(config)`; see `jaxrepro.registry`."""
