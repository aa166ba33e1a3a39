"""The service registry that the settings name, ready for use.

The control store is one itself. Another kind is opened here, behind a circuit breaker of its own:
Consul today; Kubernetes Endpoints will be a third kind, with an adapter of the same port beside
`consul.py` and a branch below.
"""

from __future__ import annotations

from fleet.ports.service_registry import ServiceRegistry
from fleet.traffic_declaration import RegistryDeclaration, RegistryKind
from resources.circuit_breakers import CircuitBreakers, GuardedServiceRegistry


def open_registry(
    declaration: RegistryDeclaration, store: ServiceRegistry, breakers: CircuitBreakers
) -> ServiceRegistry:
    """The registry of a deployment; nothing is asked before the first call, nothing needs closing.

    Args:
        declaration: which one.
        store: the control store, which is the registry unless another is named.
        breakers: of this process; that of Consul is `registry/consul`.
    """
    match declaration.kind:
        case RegistryKind.CONTROL_STORE:
            return store
        case RegistryKind.CONSUL:
            from resources.service_registry.consul import ConsulServiceRegistry
            from resources.service_registry.consul_client import ConsulClient

            client = ConsulClient(
                declaration.url, token=declaration.token, timeout_s=declaration.timeout_s
            )
            registry = ConsulServiceRegistry(
                client, prefix=declaration.prefix, node=declaration.node
            )
            return GuardedServiceRegistry(registry, breakers, declaration.kind.value)
