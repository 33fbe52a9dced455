"""Tests of `syntra.install`."""
