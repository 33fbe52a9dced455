"""OTLP receivers: gRPC, HTTP, and the decoder of OTLP's JSON."""
