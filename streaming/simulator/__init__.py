"""A seeded world of customers, corridors and sessions; see docs/simulator.md."""

from streaming.simulator.duration_floor import DurationFloor, duration_floor
from streaming.simulator.files import write, write_batch_features, write_events, write_truth
from streaming.simulator.knob_types import WorldError
from streaming.simulator.knobs import World
from streaming.simulator.simulation import Simulation, simulate
from streaming.simulator.truth import Truth
from streaming.simulator.world import DEFAULT_WORLD, load_world

__all__ = [
    "DEFAULT_WORLD",
    "DurationFloor",
    "Simulation",
    "Truth",
    "World",
    "WorldError",
    "duration_floor",
    "load_world",
    "simulate",
    "write",
    "write_batch_features",
    "write_events",
    "write_truth",
]
