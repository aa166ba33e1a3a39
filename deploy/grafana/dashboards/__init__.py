"""What each dashboard shows: one module a dashboard, one entry a panel."""
