"""Tests of the benchmark: its measurements and its reports."""
