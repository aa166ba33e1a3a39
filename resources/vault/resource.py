"""The vaults of all regions as a Dagster resource."""

import dagster as dg

from resources.vault.region_vaults import RegionVaults


@dg.resource(
    required_resource_keys={"backup_declaration", "clock"},
    description="The backup vaults of all regions and the keys that open them, per run or tick.",
)
def region_vaults_resource(context: dg.InitResourceContext) -> RegionVaults:
    """A fresh handle on the declared vaults; nothing is opened before the first use."""
    return RegionVaults(context.resources.backup_declaration, context.resources.clock)
