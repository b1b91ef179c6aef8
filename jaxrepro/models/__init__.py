"""Networks: one file a family, each a short Linen module of `jaxrepro.layers`."""
