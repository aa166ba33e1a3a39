"""The `stateroom` command: one module per subcommand, imported when it is called."""
