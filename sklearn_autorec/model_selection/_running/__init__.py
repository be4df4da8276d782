"""Running candidates: workers, time, interruption, checkpoints."""
