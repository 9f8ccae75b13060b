"""The command line `des`: one module per verb, wired by `des.cli.main`."""
