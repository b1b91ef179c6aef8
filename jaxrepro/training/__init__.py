"""What several papers share inside an update: optimizers, precision, adversaries, selection, classification."""
