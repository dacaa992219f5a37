"""Find what code asks of the world: variables, modules, packages, files, the clock."""
