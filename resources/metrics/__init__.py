"""Where samples come from and where they are kept: adapters of the ports of metrics."""
