"""Tests of files of systems."""
