"""The bridge: protocol, endpoints, transport and triggers between a host and the engine."""
