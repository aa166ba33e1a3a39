"""Service discovery: registries beside the control store, and what reads and checks them.

The control store is a `ServiceRegistry` itself (`resources/control_store/services.py`). Here are
Consul's adapter, the directory that readers ask, and the prober of health checks. What an order
comes to and whom a reader is given is decided in `fleet/`.
"""
