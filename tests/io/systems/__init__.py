"""Files of systems."""
