"""The benchmark: that it measures what it says, and tells what it measured."""
