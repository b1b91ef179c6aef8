"""Evaluators: read-only looks at a state that return metrics, pictures and the records of a paper's tables."""
