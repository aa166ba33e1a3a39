"""Rules of alerts as Prometheus means them: loading, templates, states, groups, silences."""
