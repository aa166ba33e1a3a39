"""Puts the evaluation of alerts together from the settings, for the collector of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.alerts.templates import Outside
from fleet.ports.alert_receiver import AlertReceiver
from fleet.ports.clock import Clock
from fleet.ports.notifier import Deliverer
from platform_defs.command.alert_files import alert_folder, production_groups
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from ops.alert_evaluator import AlertEvaluator
    from ops.rule_samples import RuleSamples
    from resources.alerts.directory_store import DirectoryAlertStore
    from resources.circuit_breakers import CircuitBreakers


def open_alert_evaluator(
    settings: Settings,
    samples: RuleSamples,
    notifier: Deliverer,
    breakers: CircuitBreakers,
    clock: Clock,
) -> AlertEvaluator:
    """The evaluator of the shipped rules and the declared objectives; its `tick` does everything.

    Args:
        settings: say which objectives there are, whether an Alertmanager takes alerts, and where
            states are kept.
        samples: answers the rules, and keeps their series.
        notifier: reaches people where there is no Alertmanager.
        breakers: of this process; guards the Alertmanager.
        clock: says when groups are due.

    Raises:
        InvalidDocumentError: a shipped rule file breaks a rule.
        InvalidInputError: the Alertmanager's address is none.
    """
    from fleet.promql.engine import PromqlEngine
    from ops.alert_evaluator import AlertEvaluator
    from resources.alerts.directory_store import DirectoryAlertStore

    documents = DirectoryAlertStore(alert_folder(settings))
    return AlertEvaluator(
        production_groups(settings),
        PromqlEngine(samples.reader),
        samples,
        _receiver(settings, documents, notifier, breakers),
        documents,
        clock,
        flush=samples.flush,
        outside=Outside({"fleet": settings.fleet.name}),
    )


def _receiver(
    settings: Settings,
    documents: DirectoryAlertStore,
    notifier: Deliverer,
    breakers: CircuitBreakers,
) -> AlertReceiver:
    """An Alertmanager where one is configured, which groups and repeats by itself; else our own."""
    from ops.alert_grouping import GroupedReceiver
    from resources.alerts.alertmanager_receiver import AlertmanagerReceiver

    url = settings.notify.alertmanager_url
    if url:
        return AlertmanagerReceiver(url, breakers.breaker("alerts/alertmanager"))
    return GroupedReceiver(documents, notifier)
