"""Tests of `syntra.update`."""
