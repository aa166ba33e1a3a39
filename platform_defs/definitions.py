"""The code location that Dagster loads: this deployment's settings, made into definitions."""

from platform_defs.build import build_defs, deployment_of
from platform_defs.settings import load_settings

defs = build_defs(deployment_of(load_settings()))
