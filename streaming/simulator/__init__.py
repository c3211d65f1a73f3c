"""A seeded world of customers, corridors and sessions; see docs/simulator.md."""

from streaming.simulator.files import write, write_batch_features, write_events, write_truth
from streaming.simulator.knobs import World, WorldError
from streaming.simulator.simulation import Simulation, simulate
from streaming.simulator.truth import Truth
from streaming.simulator.world import DEFAULT_WORLD, load_world

__all__ = [
    "DEFAULT_WORLD",
    "Simulation",
    "Truth",
    "World",
    "WorldError",
    "load_world",
    "simulate",
    "write",
    "write_batch_features",
    "write_events",
    "write_truth",
]
