"""Tests of `syntra.agent.update`."""
