"""GLIDER: interactions that a trained network has, found by perturbing its inputs."""
