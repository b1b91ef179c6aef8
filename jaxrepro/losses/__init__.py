"""Losses: pure functions of arrays, in nats, one value per example."""
