"""The engine: chunks, devices, processes and checkpoints."""
