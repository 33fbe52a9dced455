"""Tests of what happens between receiver and ring."""
