"""From events to features, live: the log, event mapping, the dataflow, its sinks, the simulator."""
