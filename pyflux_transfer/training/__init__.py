"""Training: phases, schedules, cached features, the loop."""
