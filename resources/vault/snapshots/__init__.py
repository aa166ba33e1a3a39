"""Takes snapshots: the cut, what changed since the base, the attempt, the commit, the catalogue."""
