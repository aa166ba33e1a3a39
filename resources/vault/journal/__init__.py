"""The journal of state changes between snapshots, and the moments that it can bring back."""
