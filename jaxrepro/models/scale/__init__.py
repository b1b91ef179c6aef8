"""SESN and its rivals on MNIST-scale: ten networks in one frame, by the names of the table in `methods`."""
