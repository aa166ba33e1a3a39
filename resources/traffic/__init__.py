"""Where requests go: adapters of `fleet.ports.traffic.TrafficRouter`.

The embedded table (files, for one machine), HAProxy through its runtime API, nginx through an
upstream file and a reload, Route 53 through boto3. Each fences by (term, revision) with the
strongest means that its backend has; `docs/guarantees.md` says which.
"""
