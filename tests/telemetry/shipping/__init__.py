"""Tests of what leaves the ring."""
