"""The local cluster: supervisors and agents as processes of this machine."""
