"""The event log: where frames of events come from and go to. No Bytewax here."""
