"""`python -m des.cli`: the command `des` where its console script is not installed."""

from des.cli.main import main

if __name__ == "__main__":
    main()
