"""The command line. Each file holds one group of commands: it parses, calls one function and renders."""
