"""Prices that providers quote: adapters of `fleet.ports.price_source`."""
